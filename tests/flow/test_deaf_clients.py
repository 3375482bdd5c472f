"""Clients that take no notice of a stream's HTTP status see every refusal as a frame, whoever refuses, never nothing.

(Protocol §0 rule 7, §5.4.) The body that says whether a stream is wanted may not have been read, or not be readable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from arkway.core import errors as e
from arkway.http.asgi import Limits
from arkway.signing import KeyPair
from arkway.testing import ACCESS_KEY_ID, EMBEDDING_ENDPOINT_ID, RunningServer, running_server
from arkway.wire import json
from tests.tools import signed
from tests.tools.client import Connection, Reply
from tests.tools.wires import CLIENTS, DEAF, JSON_TYPE, STREAM_TYPE, Call, Wire

BODY_MAX_BYTES = 16 * 1024 * 1024
Send = Callable[[Connection, Call], Reply]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(limits=Limits(body_s=0.2, linger_s=0.1)) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[Connection]:
    with Connection(server.url) as connection:
        yield connection


def with_headers(**headers: str) -> Send:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda client, call: client.post(call.path, call.body, {**call.headers, **named})


def spoiled(change: Callable[[bytes], bytes]) -> Send:
    return lambda client, call: client.post(call.path, change(json.dumps(call.body)), call.headers)


def wrongly_signed(client: Connection, call: Call) -> Reply:
    return signed.post(client, call.path, call.body, pair=KeyPair(ACCESS_KEY_ID, "d3Jvbmc="), extra=call.headers)


def long_ago(client: Connection, call: Call) -> Reply:
    return signed.post(client, call.path, call.body, x_date=signed.stamp(-3600), extra=call.headers)


def announced(client: Connection, call: Call) -> Reply:
    """A body that is too long by its own word; none of it is sent."""
    fields = {"Host": client.host, "Authorization": f"Bearer {client.key}", **call.headers}
    client.send_raw("POST", call.path, {**fields, "Content-Length": str(BODY_MAX_BYTES + 1)})
    return client.reply()


def slow(client: Connection, call: Call) -> Reply:
    fields = {"Host": client.host, "Authorization": f"Bearer {client.key}", **call.headers}
    client.send_raw("POST", call.path, {**fields, "Content-Length": "1000"}, json.dumps(call.body))
    return client.reply()


# Those whose bodies are read, or can be, and say then whether a stream is wanted.
HEARD: dict[str, tuple[Send, type[e.ArkwayError]]] = {
    "no key": (lambda client, call: client.post(*call, key=""), e.NoCredentials),
    "a wrong key": (lambda client, call: client.post(*call, key="ark-wrong"), e.UnknownCredentials),
    "a wrong signature": (wrongly_signed, e.SignatureMismatch),
    "an old signature": (long_ago, e.SignatureExpired),
    "another scheme": (with_headers(Authorization="Basic eDp5"), e.MalformedCredentials),
    "an unknown endpoint": (
        lambda client, call: client.post(
            call.path.replace("ep-", "EP-"), {**call.body, "model": {"name": "x"}}, call.headers
        ),
        e.EndpointNotFound,
    ),
    "no messages": (
        lambda client, call: client.post(call.path, {**call.body, "messages": []}, call.headers),
        e.MissingField,
    ),
    "broken at its end": (spoiled(lambda data: data[:-1]), e.BadRequest),
    "broken by a NaN": (spoiled(lambda data: data.replace(b"{}", b'{"top_p":NaN}')), e.BadRequest),
    "a list": (spoiled(lambda data: b"[" + data + b"]"), e.BadRequest),
    "a wrong parameter": (
        lambda client, call: client.post(call.path, {**call.body, "parameters": {"top_p": 7}}, call.headers),
        e.InvalidField,
    ),
    "a token that is not taken": (with_headers(Ml_Maas_Crypto_Token="x"), e.InvalidField),
}
# Those whose bodies stay unread.
UNHEARD: dict[str, tuple[Send, type[e.ArkwayError]]] = {
    "a compressed body": (with_headers(Content_Encoding="gzip"), e.UnsupportedEncoding),
    "a body that is too long": (announced, e.TooLarge),
    "a body that comes too slowly": (slow, e.RequestTimeout),
    "another method": (lambda client, call: client.call("PUT", *call), e.MethodNotAllowed),
    "another path": (
        lambda client, call: client.post(f"{call.path[:8]}x/chat", call.body, call.headers),
        e.RouteNotFound,
    ),
    "too many headers": (with_headers(**{f"X-{number}": "" for number in range(100)}), e.HeadTooLarge),
}
ALL = {**HEARD, **UNHEARD}
MORE_TOLD = {
    e.BadRequest: (400, "InvalidParameter", 1709808),
    e.SignatureMismatch: (401, "SignatureDoesNotMatch", 1709801),
    e.SignatureExpired: (401, "AuthenticationExpire", 1709809),
    e.MalformedCredentials: (401, "AuthenticationHeaderIsInvalid", 1709805),
}


def check(wire: Wire, reply: Reply, kind: type[e.ArkwayError], *, framed: bool) -> None:
    error = wire.error(reply, stream=framed)
    expected = MORE_TOLD[kind] if kind in MORE_TOLD else wire.told[kind]
    assert (reply.status, error["code"], error["code_n"]) == tuple(expected)
    assert reply.headers["content-type"] == (STREAM_TYPE if framed else JSON_TYPE)
    if framed:
        assert reply.body.startswith(b"data:{")
        assert reply.body.count(b"\n") == 2
        assert b"[DONE]" not in reply.body


@pytest.mark.parametrize("wire", DEAF, ids=repr)
@pytest.mark.parametrize("name", HEARD)
def test_who_wants_a_stream_gets_a_frame_and_who_does_not_gets_json(client: Connection, name: str, wire: Wire) -> None:
    send, kind = HEARD[name]
    for stream in (True, False):
        check(wire, send(client, wire.chat(stream=stream)), kind, framed=stream)


@pytest.mark.parametrize("wire", DEAF, ids=repr)
@pytest.mark.parametrize("name", UNHEARD)
def test_where_nobody_can_tell_it_is_a_frame(client: Connection, name: str, wire: Wire) -> None:
    send, kind = UNHEARD[name]
    check(wire, send(client, wire.chat(stream=True)), kind, framed=True)


@pytest.mark.parametrize("wire", [wire for wire in CLIENTS if wire.route in ("v1", "v2") and not wire.deaf], ids=repr)
@pytest.mark.parametrize("name", ALL)
def test_everybody_else_gets_json(client: Connection, name: str, wire: Wire) -> None:
    send, kind = ALL[name]
    check(wire, send(client, wire.chat(stream=True)), kind, framed=False)


@pytest.mark.parametrize("wire", DEAF, ids=repr)
def test_what_never_streams_is_never_a_frame(client: Connection, wire: Wire) -> None:
    for operation in wire.operations:
        if operation != "chat":
            path, body, headers = wire.call(operation, stream=True)
            for reply in (client.post(path, body, headers, key=""), client.post(path, b"{", headers)):
                assert reply.headers["content-type"] == JSON_TYPE
                wire.error(reply)
    wrong = client.post(*wire.call("tokenization", EMBEDDING_ENDPOINT_ID + "x"))
    check(wire, wrong, e.EndpointNotFound, framed=False)


@pytest.mark.parametrize("wire", DEAF, ids=repr)
@pytest.mark.parametrize("space", ["", " ", "\n\t "])
def test_the_wish_for_a_stream_is_found_however_it_is_written(client: Connection, space: str, wire: Wire) -> None:
    path, body, headers = wire.chat()
    text = json.dumps({**body, "stream": None}).decode().replace('"stream":null', f'"stream"{space}:{space}true')
    check(wire, client.post(path, text.encode(), headers, key=""), e.NoCredentials, framed=True)
    spoken = {**body, "messages": [{"role": "user", "content": '{"stream": true}'}]}
    check(wire, client.post(path, spoken, headers, key=""), e.NoCredentials, framed=False)
