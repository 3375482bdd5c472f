"""Heads that come again are not read again: what is answered is the same, to the octet, as if they had been.

Two connections of one server hear the same octets. One hears them as they are cut, so that heads are recognised; the
other one by one, so that none ever is.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from uvicorn.server import ServerState

from arkway.admin.access_keys import AccessKeys
from arkway.admin.keys import Keys
from arkway.app import asgi_app, server_config
from arkway.config import Settings, load
from arkway.core.caller import AccessKey, Call, Caller
from arkway.core.chat import ChatRequest, Usage
from arkway.core.events import Delta, Finished, UsageReport
from arkway.core.model import Deployment, Endpoint
from arkway.http.asgi import AsgiApp
from arkway.http.edge_repeats import MISSES_MAX
from arkway.http.protocol import EdgeProtocol
from arkway.ports import Grant, Running, Sink
from arkway.signing.outgoing import KeyPair, signed_headers
from arkway.stores.access_keys import AccessKeyTable
from arkway.stores.directory import CachedDirectory
from arkway.stores.home import Pepper, pepper
from arkway.stores.keyring import KeyRing, open_ring
from arkway.stores.sqlite import SqliteStore
from arkway.stores.tables import KeyTable
from arkway.stores.temporary import TemporaryKeys
from arkway.testing import CHAT_CARD, ENDPOINT_ID, MemoryLedger, ScriptedBackend, endpoint, scripted_parts
from arkway.wire import json
from tests.tools.scripted_transport import ScriptedTransport

HOST = "arkway.test"
VARYING = re.compile(rb'(02\d{13}[0-9a-f]{38})|"created": ?\d+|date: [^\r]+')
TURNS_MAX = 20_000
HOUR_S = 3600
LONG_AGO = "20240701T000000Z"

Kind = Literal["v3", "openai", "v1", "signed", "broken", "chunked", "expects", "last", "twice", "alive", "elsewhere"]
Cut = Literal["whole", "behind the head", "in the head", "in the body", "two at once", "and an empty line", "and more"]


class Ask(NamedTuple):
    """One request: what, with which key, how long a body, what the client made up for it, and how it is cut."""

    kind: Kind
    key: int
    size: int
    made_up: str
    cut: Cut


Happening = Literal["the first key goes", "the second key changes", "an hour passes", "other settings", "a stop"]


class Answered:
    """A pushing backend that says at once how many characters it was asked with."""

    def start(self, deployment: Deployment, request: ChatRequest, call: Call, sink: Sink) -> Running:
        asyncio.get_running_loop().call_soon(self._tell, sink, len(request.messages[-1].text()))
        return self

    def _tell(self, sink: Sink, size: int) -> None:
        sink.events([Delta(f"{size}"), Finished("stop"), UsageReport(Usage(7, 3))])
        sink.ended()

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def cancel(self) -> None: ...


class Counting(CachedDirectory):
    """The real one, of keys that are looked up by a clock the test moves; counts callers that were not looked up."""

    later_s = 0
    stood = 0

    def caller(self, secret: str, now_s: int) -> Caller | None:
        return super().caller(secret, now_s + self.later_s)

    def stands(self, caller: Caller, now_s: int) -> bool:
        stands = super().stands(caller, now_s + self.later_s)
        self.stood += stands
        return stands

    def access_key(self, access_key_id: str, now_s: int) -> AccessKey | None:
        return super().access_key(access_key_id, now_s + self.later_s)

    def endpoint(self, endpoint_id: str) -> Endpoint | None:
        return endpoint(ENDPOINT_ID, CHAT_CARD.name) if endpoint_id == ENDPOINT_ID else None


class House(NamedTuple):
    """A store, what keys in it are made with, and the directory of them."""

    store: SqliteStore
    pepper: Pepper
    ring: KeyRing
    directory: Counting

    def keys(self) -> Keys:
        return Keys(KeyTable(self.store), self.pepper.digest)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    home = tmp_path_factory.mktemp("house")
    with SqliteStore(home / "arkway.db") as store:
        spice, ring = pepper(home), open_ring(home)
        yield House(store, spice, ring, Counting(store, spice, ring))


class Scene:
    """One server and two connections to it: on one of them heads are recognised. ``said``: what both answered."""

    def __init__(self, house: House) -> None:
        now_s = int(time.time())
        self.house, self.directory = house, house.directory
        self.directory.later_s = self.directory.stood = 0
        made = [house.keys().create(name, now_s) for name in ("first", "second")]
        pair = AccessKeys(AccessKeyTable(house.store, house.ring)).create("holder", now_s, role="developer")
        grant = Grant(pair.info.id, "default", "default", (ENDPOINT_ID,), now_s + HOUR_S // 2)
        self.ids = [key.id for key, _ in made]
        self.secrets = [*(secret for _, secret in made), TemporaryKeys(house.pepper).issue(grant), "ark-unknown"]
        self.pair = KeyPair(pair.info.id, pair.secret)
        self.app = application(self.directory)
        self.kind: Any = server_config(settings(), self.app)
        self.kind.load()
        self.state = ServerState()
        self.quick, self.careful, self.said = self.connect(), self.connect(), b""

    def connect(self) -> EdgeProtocol:
        made: EdgeProtocol = self.kind.http_protocol_class(self.kind, self.state, {}, asyncio.get_running_loop())
        made.connection_made(ScriptedTransport())
        return made

    async def asks(self, ask: Ask) -> None:
        pieces = cut(request(self, ask), ask.cut)
        for piece in pieces:
            self.quick.data_received(piece)
        for octet in b"".join(pieces):
            self.careful.data_received(bytes([octet]))
        await answered(self.quick)
        await answered(self.careful)
        await asyncio.sleep(0)  # what is written leaves at the end of its turn
        self.compare()

    def compare(self) -> None:
        self.said = said(self.quick)
        assert self.said == said(self.careful)
        assert has_ended(self.quick) == has_ended(self.careful)
        assert self.quick.closing == self.careful.closing
        if has_ended(self.quick):
            self.leave()
            self.quick, self.careful = self.connect(), self.connect()

    def happens(self, what: Happening) -> None:
        now_s = int(time.time())
        match what:
            case "the first key goes":
                self.house.keys().revoke(self.ids[0], now_s)
            case "the second key changes":
                self.house.keys().update(self.ids[1], endpoints=("ep-20240701000000-other",))
            case "an hour passes":
                self.directory.later_s += HOUR_S
            case "other settings":
                self.app.server = application(self.directory, {"surface": {"legacy_mode": "strict"}}).server
            case "a stop":
                self.quick.shutdown()
                self.careful.shutdown()
                self.compare()

    def leave(self) -> None:
        for connection in (self.quick, self.careful):
            connection.connection_lost(None)


def settings(changed: dict[str, Any] | None = None) -> Settings:
    server = {"overhead_header": False, "access_log": False}
    return load(environ={}, overrides={"home": "/nonexistent", "server": server, **(changed or {})})


def application(directory: CachedDirectory, changed: dict[str, Any] | None = None) -> AsgiApp:
    parts = scripted_parts(ScriptedBackend(lambda _: ()), MemoryLedger())
    parts.directory, parts.backends = directory, {"scripted": Answered()}
    return asgi_app(settings(changed), parts)


def transport_of(connection: EdgeProtocol) -> ScriptedTransport:
    assert isinstance(connection.transport, ScriptedTransport)
    return connection.transport


def said(connection: EdgeProtocol) -> bytes:
    return VARYING.sub(b"", transport_of(connection).written)


def has_ended(connection: EdgeProtocol) -> bool:
    return bool({"close", "eof", "abort"} & set(transport_of(connection).done))


async def answered(connection: EdgeProtocol) -> None:
    for _ in range(TURNS_MAX):
        if connection.exchange is None:
            return
        await asyncio.sleep(0)
    raise AssertionError("a request was not answered")


PATHS: dict[str, str] = {"openai": "/v1/chat/completions", "v1": "/api/v1/chat", "signed": "/api/v1/chat"}


def request(scene: Scene, ask: Ask) -> bytes:
    if ask.kind == "alive":
        return f"GET /livez HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    path = "/api/v3/elsewhere" if ask.kind == "elsewhere" else PATHS.get(ask.kind, "/api/v3/chat/completions")
    said = [{"role": "user", "content": "x" * ask.size}]
    asked = {"model": {"endpoint_id": ENDPOINT_ID}} if path == PATHS["v1"] else {"model": ENDPOINT_ID}
    body = b"{" + b"x" * ask.size if ask.kind == "broken" else json.dumps({**asked, "messages": said})
    headers = {"Host": HOST, "Authorization": f"Bearer {scene.secrets[ask.key]}", "content-type": "application/json"}
    if ask.kind == "signed":
        date = LONG_AGO if ask.key == 3 else time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers = signed_headers(scene.pair, "POST", f"http://{HOST}{path}", body, date)
    if ask.made_up:
        headers["X-Client-Request-Id"] = ask.made_up
    return head(path, headers, ask.kind, body)


def head(path: str, headers: dict[str, str], kind: Kind, body: bytes) -> bytes:
    match kind:
        case "chunked":
            headers["Transfer-Encoding"] = "chunked"
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        case "expects":
            headers["Expect"] = "100-continue"
        case "last":
            headers["Connection"] = "close"
    if kind != "chunked":
        headers["Content-Length"] = str(len(body))
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if kind == "twice":
        lines.append("X-Client-Request-Id: again")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def cut(data: bytes, how: Cut) -> list[bytes]:
    end = data.index(b"\r\n\r\n") + 4
    match how:
        case "behind the head":
            return [data[:end], data[end:]] if data[end:] else [data]
        case "in the head":
            return [data[: end - 3], data[end - 3 :]]
        case "in the body":
            return [data[: end + 1], data[end + 1 : end + 9], data[end + 9 :]] if len(data) > end + 9 else [data]
        case "two at once":
            return [data + data]
        case "and an empty line":
            return [data + b"\r\n"]
        case "and more":
            return [data + data[:10], data[10:]]
    return [data]


ASKS = st.builds(
    Ask,
    st.sampled_from(Kind.__args__) | st.sampled_from(["v3", "v3", "openai", "v1", "signed"]),  # type: ignore[attr-defined]
    st.sampled_from([0, 0, 0, 1, 1, 2, 2, 3]),
    st.sampled_from([0, 1, 1, 2, 60, 2000]),
    st.sampled_from(["", "id-1", "id-2", "一".encode().decode("latin-1"), "two words", " lead", "\tTab"]),
    st.sampled_from(Cut.__args__),  # type: ignore[attr-defined]
)
STEPS = st.lists(st.tuples(ASKS, st.integers(1, 3)) | st.sampled_from(Happening.__args__), max_size=14)  # type: ignore[attr-defined]


@given(steps=STEPS)
@examples(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_recognised_head_is_answered_like_any_other(house: House, steps: list[tuple[Ask, int] | Happening]) -> None:
    async def play() -> None:
        scene = Scene(house)
        for step in steps:
            if isinstance(step, str):
                scene.happens(step)
                continue
            for _ in range(step[1]):
                await scene.asks(step[0])
        scene.leave()

    asyncio.run(play())


V3 = Ask("v3", 0, 5, "", "whole")


def scenes(house: House, *asks: Ask) -> tuple[list[int], Scene]:
    """How often a caller stood, without a look-up, after each of them."""

    async def play() -> tuple[list[int], Scene]:
        scene, stood = Scene(house), []
        for ask in asks:
            await scene.asks(ask)
            stood.append(scene.directory.stood)
        scene.leave()
        return stood, scene

    return asyncio.run(play())


def test_heads_are_recognised_whatever_is_made_up_for_each(house: House) -> None:
    asks = [V3._replace(made_up=f"id-{count}", size=5**count, cut=cut) for count, cut in enumerate(WHOLE_HEADS)]
    stood, scene = scenes(house, *asks)
    assert stood == [0, 1, 2, 3]
    assert scene.said.count(b"HTTP/1.1 200 ") == 4
    for count in range(4):
        assert b"\r\nx-client-request-id: id-%d\r\n" % count in scene.said
        assert b'"content":"%d"' % 5**count in scene.said.replace(b" ", b"")


WHOLE_HEADS: list[Cut] = ["whole", "behind the head", "in the body", "whole"]


@pytest.mark.parametrize(
    "other",
    [
        V3._replace(kind="openai"),
        V3._replace(key=1),
        V3._replace(kind="last"),
        V3._replace(kind="chunked"),
        V3._replace(kind="alive"),
        V3._replace(cut="in the head"),
        V3._replace(cut="two at once"),
        V3._replace(made_up="new"),
    ],
    ids=str,
)
def test_another_head_is_read(house: House, other: Ask) -> None:
    assert scenes(house, V3, other)[0] == [0, 0]


def test_a_revoked_key_is_refused_at_its_next_request(house: House) -> None:
    async def play() -> None:
        scene = Scene(house)
        for ask in (V3, V3, V3._replace(key=1), V3._replace(key=1)):
            await scene.asks(ask)
        assert scene.directory.stood == 2
        scene.happens("the second key changes")
        await scene.asks(V3._replace(key=1))
        assert b"HTTP/1.1 403 " in scene.said
        await scene.asks(V3)
        scene.happens("the first key goes")
        await scene.asks(V3)
        assert b"HTTP/1.1 401 " in scene.said
        assert scene.directory.stood == 2
        scene.leave()

    asyncio.run(play())


def test_a_temporary_key_is_good_until_it_expires(house: House) -> None:
    async def play() -> None:
        scene = Scene(house)
        for _ in range(3):
            await scene.asks(V3._replace(key=2))
        assert scene.said.count(b"HTTP/1.1 200 ") == 3
        scene.happens("an hour passes")
        await scene.asks(V3._replace(key=2))
        assert b"HTTP/1.1 401 " in scene.said
        scene.leave()

    asyncio.run(play())


def test_a_connection_whose_heads_always_differ_is_not_looked_at_for_long(house: House) -> None:
    others = [V3, V3._replace(kind="openai")] * MISSES_MAX
    assert scenes(house, *others, V3, V3, V3)[0][-1] == 0
    assert scenes(house, *others[:4], V3, V3, V3)[0][-1] == 2
