"""Prompts, answers and keys must not be in any log line, at any level, whatever happens to the call (L1, L4)."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from arkway.core.chat import ChatRequest
from arkway.core.errors import BackendFailed
from arkway.core.events import Delta, Finished
from arkway.signing import KeyPair
from arkway.telemetry.log import to_stream
from arkway.testing import (
    API_KEY,
    SECRET_ACCESS_KEY,
    SESSION_SECRET,
    SESSION_TOKEN,
    Gate,
    RunningServer,
    Step,
    running_server,
)
from arkway.wire import json
from tests.tools import signed
from tests.tools.client import Connection, Reply
from tests.tools.waiting import until
from tests.tools.wires import CLIENTS, OF_BOTS, V3, Call, Wire

PROMPT, ANSWER, NAME = "CANARY-PROMPT-7f3a", "CANARY-ANSWER-9c1e", "CANARY-NAME-5d2b"
WRONG_KEY = "ark-CANARYKEY4e8f0123456789abcdef"
SECRETS = (API_KEY, SECRET_ACCESS_KEY, SESSION_SECRET, SESSION_TOKEN)


def acts(request: ChatRequest) -> Iterator[Step]:
    way = request.messages[-1].text().split()[0]
    if way == "defect-before":
        yield ValueError(f"{request.messages} {ANSWER}")
    yield Delta(ANSWER, completion_tokens=1)
    match way:
        case "fails":
            yield BackendFailed("the engine stopped")
        case "defect-after":
            yield KeyError(PROMPT)
        case "waits":
            yield Gate()
    yield Finished("stop")


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Every line of every logger at debug level."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    to_stream("debug", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def clean(log: str) -> None:
    for canary in (PROMPT, ANSWER, NAME, WRONG_KEY, "CANARY", *SECRETS):
        assert canary not in log
    for line in log.splitlines():
        assert json.load_object(line.encode())["time"]


def ask(wire: Wire, way: str, *, stream: bool) -> Call:
    named = {"messages": [{"role": "user", "content": f"{way} {PROMPT}", "name": NAME}], "user": NAME}
    return wire.chat(stream=stream, values=named)


@pytest.mark.parametrize("wire", CLIENTS, ids=repr)
def test_no_call_leaves_its_words_in_the_log(lines: io.StringIO, wire: Wire) -> None:
    with (
        running_server(acts, settings={"server": {"access_log": True, "port": 0, "drain_s": 1}}) as server,
        Connection(server.url) as client,
    ):
        for way in ("speaks", "fails", "defect-before", "defect-after"):
            for stream in (True, False):
                reply = client.post(*ask(wire, way, stream=stream))
                assert (ANSWER.encode() in reply.body) == (reply.status == 200)
        path, body, headers = ask(wire, "x", stream=False)
        client.post(*wire.chat(asked=PROMPT))
        client.post(*wire.chat(temperature=PROMPT))
        client.post(path, f'{{"{PROMPT}": NaN}}'.encode(), headers)
        client.post(path, b"{" + PROMPT.encode(), headers)
        # A bot reads its `extra`; the names in there are told as those of any other field.
        client.post(path, {**body, "plain": PROMPT, "extra": {"plain" if wire in OF_BOTS else PROMPT: PROMPT}}, headers)
        client.post(path, body, headers, key=WRONG_KEY)
        for scheme in ("Basic ", "HMAC-SHA256 Credential=", "AWS4-HMAC-SHA256 ", ""):
            client.post(path, body, {**headers, "Authorization": f"{scheme}{WRONG_KEY}"})
        client.post(
            f"{path}?X-Signature={PROMPT}&Action={PROMPT}",
            body,
            {**headers, "X-Client-Request-Id": PROMPT, "Cookie": PROMPT, "Ml-Maas-Crypto-Token": PROMPT},
        )
        client.post(path, body, {"User-Agent": PROMPT})
        for operation in wire.operations:
            if operation != "chat":
                client.post(*wire.call(operation, **{str(wire.text_place(operation)[0]): PROMPT}))
        client.get(f"/v1/models/{PROMPT}")
        client.get(f"/{PROMPT}?key={API_KEY}&prompt={PROMPT}")
        left = Connection(server.url)
        left.send("POST", *ask(wire, "waits", stream=True))
        left.head()
        left.close()
        with Connection(server.url) as broken:
            broken.socket.sendall(f"GET /{PROMPT}\x00 HTTP/1.1\r\nX: {API_KEY}\r\n\r\n".encode())
            assert broken.reply().status == 400
        until(lambda: not server.backend.open_streams)
        metrics = client.get("/metrics").body.decode()
    log = lines.getvalue()
    clean(log)
    assert "CANARY" not in metrics
    assert API_KEY not in metrics
    told = [json.load_object(line.encode()) for line in log.splitlines()]
    assert sum(str(line["message"]).startswith("internal error") for line in told) == 4
    assert {"done", "upstream_error", "refused", "client_abort"} <= {str(line.get("outcome")) for line in told}


def spoiled(client: Connection, wire: Wire, stream: bool, **spoil: str) -> Reply:
    """A signed call whose headers were changed after signing; empty = left out."""
    path, body, headers = ask(wire, "x", stream=stream)
    data = json.dumps(body)
    named = signed.headers(client, path, data, pair=signed.SESSION_PAIR, extra=headers)
    changed = {**named, **{name.replace("_", "-"): value for name, value in spoil.items()}}
    kept = {name: value for name, value in changed.items() if value}
    client.send_raw("POST", path, {**kept, "Content-Length": str(len(data))}, data)
    reply = client.reply()
    told = reply.body.decode() + "".join(f"{name}: {value}" for name, value in reply.headers.items())
    signature = named["Authorization"].rpartition("Signature=")[2]
    assert all(secret not in told for secret in (*SECRETS, signature, named["Authorization"], "CANARY-TOKEN"))
    return reply


@pytest.mark.parametrize("wire", [wire for wire in CLIENTS if wire.route in ("v1", "v2")], ids=repr)
def test_no_signed_call_leaves_its_secrets_anywhere(lines: io.StringIO, wire: Wire) -> None:
    used: list[str] = []
    with (
        running_server(acts, settings={"server": {"access_log": True, "port": 0, "drain_s": 1}}) as server,
        Connection(server.url) as client,
    ):
        for stream in (True, False):
            assert spoiled(client, wire, stream).status == 200
            for spoil in (
                {"X_Security_Token": "CANARY-TOKEN"},
                {"X_Security_Token": ""},
                {"X_Content_Sha256": "0" * 64},
                {"X_Date": signed.stamp(-4000)},
                {"Host": "elsewhere.example"},
                {"Authorization": f"HMAC-SHA256 Credential={SESSION_TOKEN}"},
                {"Authorization": f"HMAC-SHA256 Signature={SECRET_ACCESS_KEY}"},
                {"Authorization": "AWS4-HMAC-SHA256 Credential=CANARY-TOKEN, Signature=CANARY-TOKEN"},
            ):
                assert spoiled(client, wire, stream, **spoil).status == 401
            path, body, headers = ask(wire, "x", stream=stream)
            for pair in (
                KeyPair("AKLTnobody", "CANARY-SECRET-1b2c"),
                signed.PAIR,
                KeyPair(signed.SESSION_PAIR.access_key_id, SESSION_SECRET, session_token="CANARY-TOKEN"),
            ):
                named = signed.headers(client, path, json.dumps(body), pair=pair, extra=headers)
                used.append(named["Authorization"].rpartition("Signature=")[2])
                reply = signed.post(client, path, body, pair=pair, extra=headers)
                assert "CANARY-SECRET" not in reply.body.decode()
                assert (reply.status == 200) == (pair is signed.PAIR)
        metrics = client.get("/metrics").body.decode()
    log = lines.getvalue()
    clean(log)
    for text in (log, metrics):
        assert all(secret not in text for secret in (*SECRETS, *used, "CANARY", "Signature=", "HMAC-SHA256 Cred"))


def test_logged_fields_cannot_forge_lines(lines: io.StringIO) -> None:
    with running_server() as server, Connection(server.url) as client:
        client.get("/%0d%0a%7b%22level%22:%22error%22%7d%1b[31m")
        for wire in CLIENTS:
            client.post(*wire.chat(asked='x\n{"level":"error"}'))
            client.post(*wire.chat(values={'x\n{"level":"error"}': 1}))
    clean(lines.getvalue())
    assert "\x1b" not in lines.getvalue()


def test_the_whole_abuse_of_this_folder_left_no_words(log: io.StringIO, server: RunningServer) -> None:
    """Runs with the folder's own server: whatever the other files sent is in this log, or rather is not."""
    assert server.api_key not in log.getvalue()
    with Connection(server.url) as client:
        client.post(*ask(V3, "一", stream=True))
    clean(log.getvalue())
