"""The control plane end to end: who may do what to which endpoint, and what the keys it gives are good for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from arkway.cli import group
from arkway.control.memory import MemoryEndpoints
from arkway.core.audit import Entry
from arkway.core.bot import Bot
from arkway.core.caller import Role
from arkway.core.errors import StoreUnavailable
from arkway.core.model import Tag
from arkway.signing import KeyPair
from arkway.testing import (
    ACCESS_KEY_ID,
    CHAT_CARD,
    EMBEDDING_ENDPOINT_ID,
    ENDPOINT_ID,
    SECRET_ACCESS_KEY,
    RunningServer,
    StaticDirectory,
    access_key,
    endpoint,
    memory_control,
    running_server,
)
from arkway.wire import json
from tests.tools import signed
from tests.tools.client import Connection, Reply
from tests.tools.waiting import PATIENCE_S, until

DAY_S = 86_400
FOREIGN, MISSING = "ep-20990101000000-other", "ep-20990101000000-thing"
STOPPED = "ep-20240701000000-still"
BOT, OTHER_BOT = "bot-20240701000000-tests", "bot-20240701000000-other"
FOREIGN_BOT, MISSING_BOT = "bot-20990101000000-other", "bot-20990101000000-thing"
SECOND = msgspec.structs.replace(CHAT_CARD, version="2")
QUESTION = [{"role": "user", "content": "问"}]
ROLES: dict[Role, KeyPair] = {
    role: KeyPair(f"AKLT{role}", SECRET_ACCESS_KEY, service="ark")
    for role in ("inference", "viewer", "developer", "owner")
}
OWNER = KeyPair(ACCESS_KEY_ID, SECRET_ACCESS_KEY, service="ark")
SCOPED = KeyPair("AKLTscoped", SECRET_ACCESS_KEY, service="ark")
DYING = KeyPair("AKLTdying", SECRET_ACCESS_KEY, service="ark")
OTHERS = KeyPair("AKLTother", SECRET_ACCESS_KEY, service="ark")
READING = {"GetEndpoint", "ListEndpoints"}


@pytest.fixture(scope="module")
def shared_server() -> Iterator[RunningServer]:
    pairs = [access_key(pair.access_key_id, role=role) for role, pair in ROLES.items()]
    scoped = access_key(SCOPED.access_key_id, endpoints=(ENDPOINT_ID,))
    endpoints = (
        endpoint(FOREIGN, CHAT_CARD.name, account="other"),
        endpoint(STOPPED, CHAT_CARD.name, status="stopped"),
    )
    access_keys = [*pairs, scoped, access_key(OTHERS.access_key_id, account="other"), access_key(DYING.access_key_id)]
    bots = [
        Bot(id=BOT, name="helper", account="default", project="default", endpoint_id=ENDPOINT_ID),
        Bot(id=OTHER_BOT, name="other", account="default", project="default", endpoint_id=ENDPOINT_ID),
        Bot(id=FOREIGN_BOT, name="helper", account="other", project="default", endpoint_id=FOREIGN),
    ]
    with running_server(endpoints=endpoints, access_keys=access_keys, cards=[SECOND], bots=bots) as running:
        yield running


@pytest.fixture
def server(shared_server: RunningServer) -> Iterator[RunningServer]:
    """The server with the endpoints it began with, and nothing on record."""
    directory = shared_server.directory
    before = directory.endpoints("default", "default")
    shared_server.audit.clear()
    yield shared_server
    for made in directory.endpoints("default", "default"):
        directory.hide(made.id)
    directory.show(before)


@pytest.fixture
def client(server: RunningServer) -> Iterator[Connection]:
    with Connection(server.url) as connection:
        yield connection


def call(client: Connection, action: str, body: Any = None, pair: KeyPair = OWNER, **options: Any) -> Reply:
    path = f"/?Action={action}&Version=2024-01-01"
    return signed.post(client, path, {} if body is None else body, pair=pair, **options)


def result(client: Connection, action: str, body: Any = None, pair: KeyPair = OWNER) -> dict[str, Any]:
    reply = call(client, action, body, pair)
    document = reply.json()
    assert reply.status == 200, document
    metadata = document["ResponseMetadata"]
    assert metadata == {
        "RequestId": reply.headers["x-request-id"],
        "Action": action,
        "Version": "2024-01-01",
        "Service": "ark",
        "Region": "cn-beijing",
    }
    found: dict[str, Any] = document["Result"]
    return found


def code(reply: Reply) -> tuple[int, str]:
    """Status and code; an envelope of an error has no result."""
    document = reply.json()
    assert set(document) == {"ResponseMetadata"}
    error = document["ResponseMetadata"]["Error"]
    assert type(error["CodeN"]) is int
    assert error["CodeN"] > 0
    assert error["Message"]
    return reply.status, error["Code"]


def api_key(client: Connection, kind: str, *ids: str, duration_s: int = DAY_S, pair: KeyPair = OWNER) -> str:
    body = {"DurationSeconds": duration_s, "ResourceType": kind, "ResourceIds": list(ids)}
    found: str = result(client, "GetApiKey", body, pair)["ApiKey"]
    return found


def chat(client: Connection, key: str, model: str = ENDPOINT_ID) -> Reply:
    return client.post("/api/v3/chat/completions", {"model": model, "messages": QUESTION}, key=key)


def made(client: Connection, **fields: Any) -> str:
    reference = {"FoundationModel": {"Name": CHAT_CARD.name}}
    found: str = result(client, "CreateEndpoint", {"Name": "new", "ModelReference": reference, **fields})["Id"]
    return found


# Who calls


def test_nobody(client: Connection) -> None:
    reply = client.post("/?Action=ListEndpoints&Version=2024-01-01", {}, key="")
    assert code(reply) == (401, "MissingAuthenticationToken")


def test_an_api_key_is_no_signature(client: Connection) -> None:
    assert code(client.post("/?Action=ListEndpoints&Version=2024-01-01", {})) == (400, "InvalidAuthorization")


@pytest.mark.parametrize(
    ("pair", "options", "expected"),
    [
        (KeyPair("AKLTnobody", SECRET_ACCESS_KEY, service="ark"), {}, (401, "InvalidAccessKey")),
        (KeyPair(OWNER.access_key_id, "wrong", service="ark"), {}, (401, "SignatureDoesNotMatch")),
        (OWNER, {"x_date": signed.stamp(-1000)}, (400, "InvalidTimestamp")),
        (signed.PAIR, {}, (400, "InvalidAuthorization")),
    ],
    ids=["unknown access key", "wrong secret", "stale", "for another service"],
)
def test_who_it_is_not(client: Connection, pair: KeyPair, options: Any, expected: tuple[int, str]) -> None:
    assert code(call(client, "ListEndpoints", pair=pair, **options)) == expected


def test_the_region_is_the_one_it_was_signed_for(client: Connection) -> None:
    pair = KeyPair(OWNER.access_key_id, SECRET_ACCESS_KEY, "ap-southeast-1", "ark")
    assert call(client, "ListEndpoints", pair=pair).json()["ResponseMetadata"]["Region"] == "ap-southeast-1"


def test_the_body_is_signed(client: Connection) -> None:
    path, sent = "/?Action=DeleteEndpoint&Version=2024-01-01", json.dumps({"Id": STOPPED})
    fields = signed.headers(client, path, json.dumps({"Id": MISSING}), pair=OWNER)
    del fields["X-Content-Sha256"]
    client.send_raw("POST", path, {**fields, "Content-Length": str(len(sent))}, sent)
    reply = client.reply()
    assert reply.status in (400, 401)
    assert result(client, "GetEndpoint", {"Id": STOPPED})["Status"] == "Stopped"


# What is asked


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", (400, "MissingParameter")),
        ("?Action=ListEndpoints", (400, "MissingParameter")),
        ("?Action=ListEndpoints&Version=2020-01-01", (404, "InvalidActionOrVersion")),
        ("?Action=Nothing&Version=2024-01-01", (404, "InvalidActionOrVersion")),
        ("?Action=CreateBatchInferenceJob&Version=2024-01-01", (400, "UnsupportedOperation")),
        ("?Action=" + "A" * 4000 + "&Version=2024-01-01", (404, "InvalidActionOrVersion")),
    ],
    ids=["nothing", "no version", "old version", "unknown", "not offered", "endless"],
)
def test_what_is_asked(client: Connection, query: str, expected: tuple[int, str]) -> None:
    assert code(signed.post(client, "/" + query, {}, pair=OWNER)) == expected


def test_other_methods(client: Connection) -> None:
    reply = client.get("/?Action=ListEndpoints&Version=2024-01-01")
    assert code(reply) == (405, "MethodNotAllowed")
    assert reply.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'"x"', b"\xff", b"[" * 100], ids=["cut", "list", "string", "no text", "deep"]
)
def test_a_body_that_is_no_object(client: Connection, body: bytes) -> None:
    assert code(call(client, "ListEndpoints", body)) == (400, "InvalidParameter")


def test_no_body_at_all_is_an_empty_one(client: Connection) -> None:
    assert result(client, "ListEndpoints", b"")["TotalCount"] == 3


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("GetEndpoint", {"Id": ENDPOINT_ID}),
        ("ListEndpoints", {}),
        ("CreateEndpoint", {"Name": "x", "ModelReference": {"FoundationModel": {"Name": CHAT_CARD.name}}}),
        ("UpdateEndpoint", {"Id": ENDPOINT_ID, "Description": "x"}),
        ("StopEndpoint", {"Id": ENDPOINT_ID}),
        ("StartEndpoint", {"Id": ENDPOINT_ID}),
        ("DeleteEndpoint", {"Id": ENDPOINT_ID}),
        ("GetApiKey", {"DurationSeconds": 60, "ResourceType": "endpoint", "ResourceIds": [ENDPOINT_ID]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_roles(client: Connection, server: RunningServer, role: Role, action: str, body: Any) -> None:
    reply = call(client, action, body, ROLES[role])
    if role in ("developer", "owner") or (role == "viewer" and action in READING):
        assert reply.status == 200, reply.json()
    else:
        assert code(reply) == (403, "AccessDenied")
        assert server.audit == []


# Whose it is


@pytest.mark.parametrize("action", ["GetEndpoint", "StopEndpoint", "StartEndpoint", "DeleteEndpoint", "UpdateEndpoint"])
def test_anothers_endpoint_is_one_that_is_not_there(client: Connection, action: str) -> None:
    answers = []
    for endpoint_id in (FOREIGN, MISSING):
        reply = call(client, action, {"Id": endpoint_id})
        assert code(reply) == (404, "ResourceNotFound")
        body = reply.body.replace(endpoint_id.encode(), b"<id>")
        answers.append(body.replace(reply.headers["x-request-id"].encode(), b"<request>"))
    assert answers[0] == answers[1]
    assert result(client, "GetEndpoint", {"Id": FOREIGN}, OTHERS)["Status"] == "Running"


def test_a_list_is_of_ones_own(client: Connection) -> None:
    assert [item["Id"] for item in result(client, "ListEndpoints", {}, OTHERS)["Items"]] == [FOREIGN]


@pytest.mark.parametrize("action", ["ListEndpoints", "CreateEndpoint", "GetApiKey"])
def test_a_project_that_is_not_there(client: Connection, action: str) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "CreateEndpoint": {"Name": "x", "ModelReference": {"FoundationModel": {"Name": CHAT_CARD.name}}},
        "GetApiKey": {"DurationSeconds": 60, "ResourceType": "endpoint", "ResourceIds": [ENDPOINT_ID]},
    }
    body = {**bodies.get(action, {}), "ProjectName": "nowhere"}
    assert code(call(client, action, body)) == (404, "ResourceNotFound")


def test_a_pair_for_one_endpoint(client: Connection) -> None:
    assert [item["Id"] for item in result(client, "ListEndpoints", {}, SCOPED)["Items"]] == [ENDPOINT_ID]
    assert code(call(client, "GetEndpoint", {"Id": STOPPED}, SCOPED)) == (403, "AccessDenied")
    assert code(call(client, "GetEndpoint", {"Id": FOREIGN}, SCOPED)) == (404, "ResourceNotFound")
    reference = {"FoundationModel": {"Name": CHAT_CARD.name}}
    assert code(call(client, "CreateEndpoint", {"Name": "x", "ModelReference": reference}, SCOPED))[0] == 403
    assert chat(client, api_key(client, "endpoint", ENDPOINT_ID, pair=SCOPED)).status == 200
    for kind, resource in (("endpoint", STOPPED), ("bot", BOT)):
        body = {"DurationSeconds": 60, "ResourceType": kind, "ResourceIds": [resource]}
        assert code(call(client, "GetApiKey", body, SCOPED)) == (403, "AccessDenied")


# Endpoints


def test_an_endpoint_is_made_and_serves(client: Connection, server: RunningServer) -> None:
    endpoint_id = made(
        client,
        Description="d",
        Tags=[{"Key": "team", "Value": "a"}],
        RateLimit={"Rpm": 60},
        Moderation={"Strategy": "Default"},
    )
    shown = result(client, "GetEndpoint", {"Id": endpoint_id})
    assert (shown["Name"], shown["Description"], shown["Status"]) == ("new", "d", "Running")
    assert shown["RateLimit"] == {"Rpm": 60, "Tpm": 0}
    assert shown["Moderation"] == {"Strategy": "Default"}
    assert server.directory.endpoint(endpoint_id) is not None
    assert chat(client, server.api_key, endpoint_id).status == 200
    (entry,) = [entry for entry in server.audit if entry.action == "endpoints.create"]
    assert (entry.target, entry.actor.name) == (endpoint_id, OWNER.access_key_id)
    assert entry.actor.request_id


def test_what_has_no_effect_is_told(client: Connection) -> None:
    reference = {"FoundationModel": {"Name": CHAT_CARD.name}}
    body = {"Name": "x", "ModelReference": reference, "Moderation": {"Strategy": "Default"}, "Colour": "red"}
    reply = call(client, "CreateEndpoint", body)
    assert reply.headers["x-arkway-ignored"] == "Colour, Moderation"


def test_an_alias_stands_for_its_model(client: Connection) -> None:
    reference = {"FoundationModel": {"Name": "skylark-chat", "ModelVersion": "1.0"}}
    endpoint_id = made(client, ModelReference=reference)
    model = result(client, "GetEndpoint", {"Id": endpoint_id})["ModelReference"]["FoundationModel"]
    assert model == {"Name": CHAT_CARD.name, "ModelVersion": ""}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"Name": ""}, "name"),
        ({"Name": "x" * 129}, "name"),
        ({"ModelReference": {"FoundationModel": {"Name": "nothing"}}}, "ModelReference.FoundationModel.Name"),
        ({"ModelReference": {"FoundationModel": {"Name": CHAT_CARD.name, "ModelVersion": "9"}}}, "not installed"),
        ({"ModelReference": {"CustomModelId": "cm-1"}}, "ModelReference.CustomModelId"),
        ({"ModelReference": {}}, "ModelReference.FoundationModel"),
        ({"ModelUnitId": "mu-1"}, "ModelUnitId"),
        ({"RateLimit": {"Rpm": -1}}, "RateLimit.Rpm"),
        ({"RateLimit": {"Tpm": "9"}}, "RateLimit.Tpm"),
        ({"Tags": [{"Value": "x"}]}, "Tags[0].Key"),
        ({"Tags": [{"Key": "a"}, {"Key": "a"}]}, "no two of one key"),
        ({"DryRun": "yes"}, "DryRun"),
    ],
)
@pytest.mark.parametrize("dry", [False, True])
def test_what_is_wrong_is_named(client: Connection, fields: dict[str, Any], field: str, dry: bool) -> None:
    body = {"Name": "x", "ModelReference": {"FoundationModel": {"Name": CHAT_CARD.name}}, "DryRun": dry, **fields}
    reply = call(client, "CreateEndpoint", body)
    assert reply.status == 400
    assert field in reply.json()["ResponseMetadata"]["Error"]["Message"]
    assert result(client, "ListEndpoints")["TotalCount"] == 3


def test_a_dry_run_makes_and_changes_nothing(client: Connection, server: RunningServer) -> None:
    assert made(client, DryRun=True, RateLimit={"Rpm": 5}) == ""
    result(client, "UpdateEndpoint", {"Id": ENDPOINT_ID, "Name": "other", "RateLimit": {"Rpm": 5}, "DryRun": True})
    shown = result(client, "GetEndpoint", {"Id": ENDPOINT_ID})
    assert shown["Name"] != "other"
    assert "RateLimit" not in shown
    assert result(client, "ListEndpoints")["TotalCount"] == 3
    assert server.audit == []


def test_an_update_changes_what_it_names(client: Connection) -> None:
    endpoint_id = made(client, Description="old", RateLimit={"Rpm": 60, "Tpm": 100}, Tags=[{"Key": "a"}])
    result(client, "UpdateEndpoint", {"Id": endpoint_id, "Description": "new", "RateLimit": {"Rpm": 0}})
    shown = result(client, "GetEndpoint", {"Id": endpoint_id})
    assert (shown["Name"], shown["Description"]) == ("new", "new")
    assert shown["RateLimit"] == {"Rpm": 0, "Tpm": 100}
    assert shown["Tags"] == [{"Key": "a", "Value": ""}]
    result(client, "UpdateEndpoint", {"Id": endpoint_id, "Tags": [], "RateLimit": {"Tpm": 0}})
    shown = result(client, "GetEndpoint", {"Id": endpoint_id})
    assert shown["Tags"] == []
    assert "RateLimit" not in shown


def test_a_stopped_endpoint(client: Connection, server: RunningServer) -> None:
    result(client, "StopEndpoint", {"Id": ENDPOINT_ID})
    reply = chat(client, server.api_key)
    assert (reply.status, reply.error()["code"]) == (400, "InvalidEndpoint.ClosedEndpoint")
    result(client, "StartEndpoint", {"Id": ENDPOINT_ID})
    assert chat(client, server.api_key).status == 200
    result(client, "DeleteEndpoint", {"Id": ENDPOINT_ID})
    assert chat(client, server.api_key).status == 404
    assert code(call(client, "StartEndpoint", {"Id": ENDPOINT_ID})) == (404, "ResourceNotFound")


@pytest.mark.parametrize("calls", [100, pytest.param(5000, marks=pytest.mark.long)])
def test_a_version_rolls_behind_a_stable_id(server: RunningServer, calls: int) -> None:
    """No call fails during the roll, and nobody is answered by the old version who asks after the new one was seen."""
    served: list[tuple[float, float, str]] = []
    rolled = threading.Event()

    def one(number: int) -> None:
        if number >= calls * 3 // 4:
            assert rolled.wait(PATIENCE_S)
        with Connection(server.url) as client:
            sent_s = time.monotonic()
            reply = chat(client, server.api_key)
        assert reply.status == 200, reply.json()
        served.append((sent_s, time.monotonic(), reply.json()["model"]))

    def roll() -> None:
        until(lambda: len(served) >= calls // 4)
        with Connection(server.url) as client:
            reference = {"FoundationModel": {"Name": CHAT_CARD.name, "ModelVersion": "2"}}
            result(client, "UpdateEndpoint", {"Id": ENDPOINT_ID, "ModelReference": reference})
        rolled.set()

    with ThreadPoolExecutor(5) as pool:
        rolling = pool.submit(roll)
        list(pool.map(one, range(calls)))
        rolling.result()

    assert len(served) == calls
    assert {model for *_, model in served} == {"scripted-chat-1", "scripted-chat-2"}
    first_seen_s = min(answered_s for _, answered_s, model in served if model == "scripted-chat-2")
    assert max(sent_s for sent_s, _, model in served if model == "scripted-chat-1") < first_seen_s


def test_the_certificate_of_message_encryption() -> None:
    with running_server(settings={"surface": {"message_encryption": True}}) as server, Connection(server.url) as client:
        found = result(client, "GetEndpointCertificate", {"Id": ENDPOINT_ID, "Type": "AICCv0.1"})
        assert found["PCAInstanceCertificate"].startswith("-----BEGIN CERTIFICATE-----")
        assert found["NotBefore"] < time.time() < found["NotAfter"]
        assert code(call(client, "GetEndpointCertificate", {"Id": MISSING})) == (404, "ResourceNotFound")


def test_no_certificate_where_encryption_is_off(client: Connection) -> None:
    assert code(call(client, "GetEndpointCertificate", {"Id": ENDPOINT_ID})) == (400, "UnsupportedOperation")


# Temporary keys


def test_a_key_is_for_what_was_named(client: Connection) -> None:
    key = api_key(client, "endpoint", ENDPOINT_ID)
    assert chat(client, key).status == 200
    reply = client.post("/api/v3/embeddings", {"model": EMBEDDING_ENDPOINT_ID, "input": ["x"]}, key=key)
    assert (reply.status, reply.error()["code"]) == (403, "AccessDenied")
    assert chat(client, key, FOREIGN).status == 404


def test_a_key_is_taken_on_every_surface(client: Connection) -> None:
    key = api_key(client, "endpoint", ENDPOINT_ID)
    body = {"messages": QUESTION}
    assert client.post("/v1/chat/completions", {**body, "model": ENDPOINT_ID}, key=key).status == 200
    assert client.post(f"/api/v2/endpoint/{ENDPOINT_ID}/chat", body, key=key).status == 200
    assert client.post("/api/v1/chat", {**body, "model": {"endpoint_id": ENDPOINT_ID}}, key=key).status == 200
    assert client.get("/v1/models", key=key).status == 200
    assert code(client.post("/?Action=ListEndpoints&Version=2024-01-01", {}, key=key))[0] == 400


def test_a_bots_key_is_for_that_bot_alone(client: Connection) -> None:
    key = api_key(client, "bot", BOT)
    assert chat(client, key, BOT).status == 200
    for model in (ENDPOINT_ID, EMBEDDING_ENDPOINT_ID, OTHER_BOT):
        assert chat(client, key, model).status == 403
    assert chat(client, key, FOREIGN_BOT).status == chat(client, key, MISSING_BOT).status == 404
    both = api_key(client, "bot", BOT, OTHER_BOT)
    assert [chat(client, both, model).status for model in (BOT, OTHER_BOT, ENDPOINT_ID)] == [200, 200, 403]


def test_an_endpoints_key_is_for_no_bot(client: Connection) -> None:
    assert chat(client, api_key(client, "endpoint", ENDPOINT_ID), BOT).status == 403


@pytest.mark.parametrize("action", ["GetEndpoint", "StopEndpoint", "DeleteEndpoint"])
def test_a_bot_is_no_endpoint_of_the_control_plane(client: Connection, action: str) -> None:
    assert code(call(client, action, {"Id": BOT})) == (404, "ResourceNotFound")
    assert BOT not in [item["Id"] for item in result(client, "ListEndpoints", {"PageSize": 100})["Items"]]


@pytest.mark.parametrize("name", [CHAT_CARD.name, "skylark-chat", ENDPOINT_ID])
def test_a_key_for_a_model(client: Connection, name: str) -> None:
    key = api_key(client, "presetendpoint", name)
    assert chat(client, key).status == 200
    assert chat(client, key, EMBEDDING_ENDPOINT_ID).status == 403
    body = {"model": CHAT_CARD.name, "messages": QUESTION}
    assert client.post("/v1/chat/completions", body, key=key).status == 200


@pytest.mark.parametrize(
    ("kind", "ids"),
    [
        ("endpoint", [FOREIGN]),
        ("endpoint", [MISSING]),
        ("endpoint", [ENDPOINT_ID, FOREIGN]),
        ("presetendpoint", [FOREIGN]),
        ("presetendpoint", ["no-such-model"]),
        ("bot", ["robot"]),
        ("bot", [FOREIGN_BOT]),
        ("bot", [MISSING_BOT]),
        ("bot", [BOT, MISSING_BOT]),
        ("bot", [ENDPOINT_ID]),
        ("endpoint", [BOT]),
    ],
)
def test_no_key_for_what_is_not_there(client: Connection, server: RunningServer, kind: str, ids: list[str]) -> None:
    body = {"DurationSeconds": 60, "ResourceType": kind, "ResourceIds": ids}
    assert code(call(client, "GetApiKey", body)) == (404, "ResourceNotFound")
    assert server.audit == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"DurationSeconds": 0}, "InvalidParameter"),
        ({"DurationSeconds": 1.5}, "InvalidParameter"),
        ({"DurationSeconds": True}, "InvalidParameter"),
        ({"DurationSeconds": None}, "MissingParameter"),
        ({"ResourceIds": []}, "InvalidParameter"),
        ({"ResourceIds": [""]}, "InvalidParameter"),
        ({"ResourceIds": None}, "MissingParameter"),
        ({"ResourceIds": ["ep-1"] * 101}, "InvalidParameter"),
        ({"ResourceType": "collection"}, "InvalidParameter"),
    ],
)
def test_what_a_key_needs(client: Connection, change: dict[str, Any], expected: str) -> None:
    body = {"DurationSeconds": 60, "ResourceType": "endpoint", "ResourceIds": [ENDPOINT_ID], **change}
    assert code(call(client, "GetApiKey", body)) == (400, expected)


@pytest.mark.parametrize("asked_s", [2_592_001, 2**40])
def test_a_longer_wish_counts_as_the_longest(client: Connection, asked_s: int) -> None:
    body = {"DurationSeconds": asked_s, "ResourceType": "endpoint", "ResourceIds": [ENDPOINT_ID]}
    before_s = int(time.time())
    reply = call(client, "GetApiKey", body)
    expired = reply.json()["Result"]["ExpiredTime"]
    assert type(expired) is int
    assert before_s + 2_592_000 <= expired <= time.time() + 2_592_000 < 2**31
    assert reply.headers["x-arkway-clamped"] == "DurationSeconds"


def test_a_key_dies_in_time(client: Connection) -> None:
    made_s = int(time.time())
    key = api_key(client, "endpoint", ENDPOINT_ID, duration_s=2)
    latest_s = time.time() + 2

    def dead() -> bool:
        asked_s = time.time()
        status = chat(client, key).status
        assert status == 401 if asked_s > latest_s + 1 else status in (200, 401)
        assert status == 200 or time.time() >= made_s + 2
        return status == 401

    until(dead)


def test_a_key_dies_with_its_pair(client: Connection, server: RunningServer) -> None:
    key = api_key(client, "endpoint", ENDPOINT_ID, pair=DYING)
    assert chat(client, key).status == 200
    server.directory.revoke(DYING.access_key_id)
    reply = chat(client, key)
    assert (reply.status, reply.error()["code"]) == (401, "AuthenticationError")


def test_usage_is_the_pairs(client: Connection, server: RunningServer) -> None:
    chat(client, api_key(client, "endpoint", ENDPOINT_ID))
    assert server.backend.calls[-1].key_id == OWNER.access_key_id


def test_the_audit_log_has_it_and_never_the_key(client: Connection, server: RunningServer) -> None:
    key = api_key(client, "endpoint", ENDPOINT_ID)
    (entry,) = server.audit
    assert (entry.account, entry.project, entry.action) == ("default", "default", "endpoints.get_api_key")
    assert entry.detail["resources"] == [ENDPOINT_ID]
    assert key not in str(entry)
    assert key.partition(".")[2] not in str(entry)


class BrokenLog(MemoryEndpoints[StaticDirectory]):
    """An audit log that takes nothing."""

    def append(self, entry: Entry) -> None:
        raise StoreUnavailable("the database does not take writes")


class SlowLog(MemoryEndpoints[StaticDirectory]):
    """An audit log that takes its time."""

    def __init__(self) -> None:
        super().__init__(StaticDirectory({}, [endpoint(ENDPOINT_ID, CHAT_CARD.name)]))
        self.waiting, self.passed = threading.Event(), threading.Event()

    def append(self, entry: Entry) -> None:
        self.waiting.set()
        assert self.passed.wait(PATIENCE_S)


def test_no_secret_is_shown_before_it_is_logged() -> None:
    log = BrokenLog(StaticDirectory({}, [endpoint(ENDPOINT_ID, CHAT_CARD.name, version="1")]))
    control = memory_control(log, lambda name, version: None)
    with running_server(control=control) as server, Connection(server.url) as client:
        body = {"DurationSeconds": 60, "ResourceType": "endpoint", "ResourceIds": [ENDPOINT_ID]}
        reply = call(client, "GetApiKey", body)
        assert code(reply) == (503, "ServiceUnavailableTemp")
        assert b"ark-t" not in reply.body


def test_a_slow_log_holds_nobody_else_up() -> None:
    log = SlowLog()
    control = memory_control(log, lambda name, version: None)
    with (
        running_server(control=control) as server,
        Connection(server.url) as client,
        Connection(server.url) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        pending = pool.submit(api_key, client, "endpoint", ENDPOINT_ID)
        assert log.waiting.wait(PATIENCE_S)
        assert chat(other, server.api_key).status == 200
        assert not pending.done()
        log.passed.set()
        assert pending.result(PATIENCE_S).startswith("ark-t")


def test_tags_are_kept_as_they_are(client: Connection, server: RunningServer) -> None:
    endpoint_id = made(client, Tags=[{"Key": "队", "Value": "<b>"}])
    kept = server.directory.endpoint(endpoint_id)
    assert kept is not None
    assert kept.tags == (Tag("队", "<b>"),)


def test_the_command_line_asks_for_a_key(server: RunningServer, client: Connection) -> None:
    wish = ["--ResourceType", "bot", "--ResourceIds", BOT, "--DurationSeconds", "21600"]
    pair = ["--ak", ACCESS_KEY_ID, "--sk", SECRET_ACCESS_KEY]
    began_s = int(time.time())
    done = CliRunner().invoke(group, ["api", "GetApiKey", *wish, *pair, "--url", server.url, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.encode())["body"]["Result"]
    assert began_s + 21600 <= found["ExpiredTime"] <= time.time() + 21600
    assert chat(client, found["ApiKey"]).status == 403
    assert chat(client, found["ApiKey"], BOT).status == 200
