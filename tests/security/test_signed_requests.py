"""Signatures over HTTP: what only a server shows. The pure cases are in tests/unit/signing."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

import msgspec
import pytest

from arkway.core.caller import Caller
from arkway.signing import KeyPair
from arkway.testing import (
    ACCESS_KEY_ID,
    API_KEY,
    ENDPOINT_ID,
    SESSION_SECRET,
    MemoryLedger,
    RunningServer,
    access_key,
    endpoint,
    running_server,
    says,
)
from tests.tools import signed
from tests.tools.client import Connection, Reply
from tests.tools.signed import PAIR, SESSION_PAIR, error

V1 = "/api/v1/chat"
V2 = f"/api/v2/endpoint/{ENDPOINT_ID}/chat"
ASK = {"messages": [{"role": "user", "content": "问"}]}
ASK_V1 = {**ASK, "model": {"name": "skylark-chat"}}
FOREIGN = "ep-20240701000000-other"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    foreign = access_key("AKLTforeign", "Zm9yZWlnbg==", account="another")
    scoped = access_key("AKLTscoped", "c2NvcGVk", endpoints=("ep-20240701000000-only",))
    with running_server(
        scripted=says("答"),
        ledger=MemoryLedger(),
        access_keys=(foreign, scoped),
        endpoints=(endpoint(FOREIGN, "scripted-chat", account="another"),),
        keys={"ark-foreign": Caller("another", "default", "key-foreign")},
    ) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[Connection]:
    with Connection(server.url) as connection:
        yield connection


def refused(reply: Reply, status: int, code: str, code_n: int, *words: str) -> None:
    assert reply.status == status
    found = error(reply)
    assert (found["code"], found["code_n"]) == (code, code_n)
    for word in words:
        assert word in found["message"]


def mismatch(reply: Reply, *words: str) -> None:
    refused(reply, 401, "SignatureDoesNotMatch", 1709801, *words)


def malformed(reply: Reply, *words: str) -> None:
    refused(reply, 401, "AuthenticationHeaderIsInvalid", 1709805, *words)


def test_both_generations_take_a_signature(client: Connection, server: RunningServer) -> None:
    assert signed.post(client, V1, ASK_V1).json()["choice"]["message"]["content"] == "答"
    assert signed.post(client, V2, ASK).json()["choices"][0]["message"]["content"] == "答"
    assert isinstance(server.ledger, MemoryLedger)
    assert {attempt.key_id for attempt in server.ledger.attempts.values()} == {ACCESS_KEY_ID}


def test_an_api_key_is_taken_as_well(client: Connection) -> None:
    assert client.post(V2, ASK).status == 200
    assert client.post(V1, ASK_V1).status == 200


def test_v3_takes_no_signature(client: Connection) -> None:
    reply = signed.post(client, "/api/v3/chat/completions", {**ASK, "model": ENDPOINT_ID})
    assert reply.status == 401
    assert reply.json()["error"]["code"] == "AuthenticationError"


def test_a_chunked_body_is_hashed_as_it_comes(client: Connection) -> None:
    data = msgspec.json.encode(ASK)
    fields = signed.headers(client, V2, data)
    pieces = b"".join(b"%x\r\n%b\r\n" % (1, data[i : i + 1]) for i in range(len(data)))
    client.send_raw("POST", V2, {**fields, "Transfer-Encoding": "chunked"}, pieces + b"0\r\n\r\n")
    assert client.reply().status == 200


def test_a_changed_body_is_refused(client: Connection) -> None:
    data = msgspec.json.encode(ASK)
    fields = signed.headers(client, V2, data)
    changed = data.replace("问".encode(), "文".encode())
    client.send_raw("POST", V2, {**fields, "Content-Length": str(len(changed))}, changed)
    mismatch(client.reply(), "X-Content-Sha256")


def test_the_endpoint_is_signed_over(client: Connection) -> None:
    data = msgspec.json.encode(ASK)
    fields = signed.headers(client, "/api/v2/endpoint/ep-another/chat", data)
    client.send_raw("POST", V2, {**fields, "Content-Length": str(len(data))}, data)
    mismatch(client.reply())


def test_a_host_that_a_proxy_rewrote_is_named(client: Connection) -> None:
    data = msgspec.json.encode(ASK)
    fields = {**signed.headers(client, V2, data), "Host": "inside.example"}
    client.send_raw("POST", V2, {**fields, "Content-Length": str(len(data))}, data)
    mismatch(client.reply(), "inside.example", "public_hosts")


def test_a_public_host_stands_for_the_rewritten_one() -> None:
    with (
        running_server(scripted=says("答"), settings={"signing": {"public_hosts": ["ark.example"]}}) as server,
        Connection(server.url) as client,
    ):
        data = msgspec.json.encode(ASK)
        client.host, inside = "ark.example", client.host
        fields = {**signed.headers(client, V2, data), "Host": inside}
        client.send_raw("POST", V2, {**fields, "Content-Length": str(len(data))}, data)
        assert client.reply().status == 200


def test_regions_can_be_restricted() -> None:
    with (
        running_server(scripted=says("答"), settings={"signing": {"regions": "cn-beijing, cn-shanghai"}}) as server,
        Connection(server.url) as client,
    ):
        assert signed.post(client, V2, ASK).status == 200
        elsewhere = msgspec.structs.replace(PAIR, region="Region")
        malformed(signed.post(client, V2, ASK, pair=elsewhere), "`Region`", "`cn-beijing`", "`cn-shanghai`")


def test_a_foreign_service_is_refused(client: Connection) -> None:
    malformed(signed.post(client, V2, ASK, pair=msgspec.structs.replace(PAIR, service="iam")), "`iam`", "`ml_maas`")


@pytest.mark.parametrize(("offset_s", "words"), [(-1000, "slow"), (1000, "fast")])
def test_a_wrong_clock_is_told(client: Connection, offset_s: int, words: str) -> None:
    reply = signed.post(client, V2, ASK, x_date=signed.stamp(offset_s))
    refused(reply, 401, "AuthenticationExpire", 1709809, words)


def test_an_aws_signature_is_told(client: Connection) -> None:
    value = "AWS4-HMAC-SHA256 Credential=AK/20240701/cn-beijing/ml_maas/aws4_request, SignedHeaders=host, Signature=00"
    malformed(client.post(V1, ASK_V1, {"Authorization": value}), "AWS4-HMAC-SHA256", "HMAC-SHA256")


def test_nothing_sent_says_what_is_taken(client: Connection) -> None:
    refused(client.post(V1, ASK_V1, key=""), 401, "MissingAuthenticationHeader", 1709804, "HMAC-SHA256", "Bearer")


@pytest.mark.parametrize("secret", [ACCESS_KEY_ID, f"{API_KEY}x", "x"])
def test_a_bearer_key_that_is_none_is_refused(client: Connection, secret: str) -> None:
    malformed(client.post(V2, ASK, key=secret), "does not exist, was revoked or has expired")


def test_unknown_and_revoked_access_keys_get_one_answer(client: Connection) -> None:
    nobody = KeyPair("AKLTnobody", "bm9ib2R5")
    malformed(signed.post(client, V2, ASK, pair=nobody), "does not exist, was revoked or has expired")


def test_the_secret_never_leaves_in_a_message(client: Connection) -> None:
    wrong = msgspec.structs.replace(PAIR, secret="d3Jvbmc=")
    data = msgspec.json.encode(ASK)
    right = signed.headers(client, V2, data)["Authorization"][-64:]
    reply = signed.post(client, V2, data, pair=wrong)
    mismatch(reply)
    assert right.encode() not in reply.body
    assert PAIR.secret.encode() not in reply.body


def test_temporary_pairs_need_their_token(client: Connection) -> None:
    assert signed.post(client, V2, ASK, pair=SESSION_PAIR).status == 200
    malformed(signed.post(client, V2, ASK, pair=KeyPair(SESSION_PAIR.access_key_id, SESSION_SECRET)), "session token")
    malformed(signed.post(client, V2, ASK, pair=msgspec.structs.replace(SESSION_PAIR, session_token="STSother")))


def test_a_stripped_token_breaks_the_signature(client: Connection) -> None:
    data = msgspec.json.encode(ASK)
    fields = signed.headers(client, V2, data, pair=SESSION_PAIR)
    del fields["X-Security-Token"]
    client.send_raw("POST", V2, {**fields, "Content-Length": str(len(data))}, data)
    malformed(client.reply(), "x-security-token")


def test_a_foreign_endpoint_is_as_one_that_does_not_exist(client: Connection) -> None:
    def answer(endpoint_id: str) -> tuple[int, str]:
        reply = signed.post(client, f"/api/v2/endpoint/{endpoint_id}/chat", ASK)
        message = error(reply)["message"].replace(endpoint_id, "<id>")
        return reply.status, message.replace(reply.headers["x-request-id"], "<request>")

    assert answer(FOREIGN) == answer(FOREIGN[:-5] + "nobdy")
    assert (
        signed.post(client, f"/api/v2/endpoint/{FOREIGN}/chat", ASK, pair=KeyPair("AKLTforeign", "Zm9yZWlnbg==")).status
        == 200
    )


def test_a_pair_that_is_held_to_other_endpoints_is_refused(client: Connection) -> None:
    reply = signed.post(client, V2, ASK, pair=KeyPair("AKLTscoped", "c2NvcGVk"))
    refused(reply, 401, "UnauthorizedUserForEndpoint", 1709818)


def test_the_same_signed_bytes_twice_are_served_and_counted(client: Connection) -> None:
    def repeated() -> float:
        text = client.get("/metrics").body.decode()
        return float(
            next(line for line in text.splitlines() if line.startswith("arkway_signatures_repeated")).split()[1]
        )

    data = msgspec.json.encode({**ASK, "user": "sends the same bytes again"})
    fields = {**signed.headers(client, V2, data), "Content-Length": str(len(data))}
    before = repeated()
    for _ in range(3):
        client.send_raw("POST", V2, fields, data)
        assert client.reply().status == 200
    assert repeated() == before + 2


def test_a_bad_signature_is_refused_before_the_body_is_asked_for(client: Connection) -> None:
    fields = signed.headers(client, V2, b"{}", x_date=signed.stamp(-2000))
    client.send_raw("POST", V2, {**fields, "Content-Length": "1000000", "Expect": "100-continue"})
    refused(client.reply(), 401, "AuthenticationExpire", 1709809)


def test_a_huge_body_behind_a_bad_header_is_not_read(client: Connection) -> None:
    fields = signed.headers(client, V2, b"{}", x_date=signed.stamp(-2000))
    client.send_raw("POST", V2, {**fields, "Content-Length": str(16 << 20)}, b"x" * 1024)
    reply = client.reply()
    refused(reply, 401, "AuthenticationExpire", 1709809)
    assert reply.headers["connection"] == "close"


def test_a_compressed_body_is_refused(client: Connection) -> None:
    reply = signed.post(client, V2, ASK, extra={"Content-Encoding": "gzip"})
    refused(reply, 415, "InvalidParameter", 1709808, "gzip")


def test_http_1_0_without_a_host_is_refused(client: Connection) -> None:
    data = msgspec.json.encode(ASK)
    fields = signed.headers(client, V2, data)
    del fields["Host"]
    lines = [f"POST {V2} HTTP/1.0", *(f"{k}: {v}" for k, v in fields.items()), f"Content-Length: {len(data)}", "", ""]
    client.socket.sendall("\r\n".join(lines).encode() + data)
    assert client.reply().status in (400, 401)


@pytest.mark.parametrize("path", ["/api/v1/../v1/chat", "/api/v1/%2e%2e/v1/chat", "//api/v1/chat", "/api/v1%2Fchat"])
def test_paths_with_two_readings_reach_nothing(client: Connection, path: str) -> None:
    data = msgspec.json.encode(ASK_V1)
    fields = signed.headers(client, V1, data)
    client.send_raw("POST", path, {**fields, "Content-Length": str(len(data))}, data)
    assert client.reply().status in (400, 404, 405)


def test_an_escaped_letter_is_the_letter(client: Connection) -> None:
    data = msgspec.json.encode(ASK_V1)
    fields = signed.headers(client, V1, data)
    client.send_raw("POST", "/%61pi/v1/chat", {**fields, "Content-Length": str(len(data))}, data)
    assert client.reply().status == 200


def test_two_authorization_headers_are_refused(client: Connection) -> None:
    data = msgspec.json.encode(ASK)
    fields = signed.headers(client, V2, data)
    lines = [f"POST {V2} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items())]
    lines += [f"Authorization: {fields['Authorization']}", f"Content-Length: {len(data)}", "", ""]
    client.socket.sendall("\r\n".join(lines).encode() + data)
    malformed(client.reply(), "twice")


def test_a_body_of_16_mib_holds_nobody_up(server: RunningServer) -> None:
    """While it is hashed and refused, another caller's small call does not wait for it."""
    data = msgspec.json.encode({**ASK, "pad": "x" * (16 * 1000 * 1000)})
    with Connection(server.url) as big, Connection(server.url) as small:
        fields = signed.headers(big, V2, data, pair=msgspec.structs.replace(PAIR, secret="d3Jvbmc="))
        gc.collect()
        big.send_raw("POST", V2, {**fields, "Content-Length": str(len(data))}, data)
        began_s = time.process_time()
        assert signed.post(small, V2, ASK).status == 200
        assert time.process_time() - began_s < 5  # of this process, which is the server, too
        mismatch(big.reply())
