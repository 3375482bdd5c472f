"""Images that callers name by URL: fetched and put into the request, or refused, in the form of every dialect that
has images."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from arkway.backends.group import Group, Groups
from arkway.backends.pictured import Images, Pictured, PulledPictured
from arkway.backends.upstream.upstream import UpstreamServer
from arkway.core.chat import ImagePart
from arkway.core.errors import UnsupportedInput
from arkway.core.model import Deployment, Endpoint
from arkway.core.upstream import Group as GroupValue
from arkway.core.upstream import Member, Policy, Upstream
from arkway.ports import Fetched, Fetcher
from arkway.testing import CHAT_CARD, MemoryLedger, RunningServer, ScriptedBackend, bot, echoes, running_server
from arkway.wire.images import is_web
from tests.tools.client import Connection, Reply
from tests.tools.faultproxy import ScriptedUpstream, scripted_upstream
from tests.tools.raw_upstream import RawUpstream
from tests.tools.waiting import PATIENCE_S, until
from tests.tools.web import OUTSIDE, Names, fetcher, page, paths
from tests.tools.wires import OF_BOTS, WIRES, Call, Wire

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
JPEG = b"\xff\xd8\xff\xe0" + bytes(20)
WEBP = b"RIFF\x10\0\0\0WEBPVP8 "
GIF = b"GIF89a" + bytes(8)
SEES = msgspec.structs.replace(CHAT_CARD, name="seeing", capabilities=("chat", "images"))
ENDPOINT = Endpoint("ep-20990101000000-seeing", "seeing", "seeing", "1", "running", "default", "default", 0)
SEEING_BOT = "bot-20990101000000-seeing"
SEEING_WIRES = [wire for wire in WIRES if wire.route != "v1"]
WIRES_ = pytest.mark.parametrize("wire", SEEING_WIRES, ids=repr)
WAYS = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
IMAGES_MAX = 3
MAX_BYTES = 64


def data(octets: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(octets).decode()}"


def see(*urls: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": "看"}, *({"type": "image_url", "image_url": {"url": url}} for url in urls)]


class Web:
    """The web as tests have it: its pages by path, and what was asked for."""

    def __init__(self) -> None:
        self.pages = {
            "/a.png": page(PNG),
            "/a.jpeg": page(JPEG, "application/octet-stream"),
            "/a.webp": page(WEBP, "image/png"),
            "/a.gif": page(GIF, "image/gif"),
            "/page": page(b"<html>", "text/html"),
            "/fake.png": page(b"<svg/>", "image/png"),
            "/large.png": page(PNG + bytes(MAX_BYTES)),
        }
        self.asked: list[bytes] = []
        self.names = Names({"a.test": [[OUTSIDE]], "inside.test": [["10.0.0.1"]]})


@contextmanager
def serving(
    images: Images | None, upstream: ScriptedUpstream, ledger: MemoryLedger, kind: str
) -> Iterator[RunningServer]:
    """A server over one upstream that sees."""
    there = Upstream(name="eyes", base_url=upstream.url, kind="ark" if kind == "ark" else "openai")
    server = UpstreamServer(there)
    groups = Groups()
    value = GroupValue(card=SEES, members=(Member(upstream="eyes", model="m"),), policy=Policy())
    groups.replace([Group(value, lambda member: server.model(member.model))])

    def wanted(_: Deployment, url: str) -> bool:
        return is_web(url) and not (kind == "ark" and url.startswith("https:"))

    backend = groups if images is None else Pictured(groups, images, wanted)
    with running_server(
        ledger=ledger,
        backends={"scripted": backend},
        cards=[SEES],
        endpoints=[ENDPOINT],
        bots=[bot(ENDPOINT.id, SEEING_BOT)],
        shutdown=server.aclose,
    ) as running:
        yield running


class Scene:
    def __init__(self, web: Web, port: int, upstream: ScriptedUpstream, server: RunningServer, ledger: MemoryLedger):
        self.web, self.port, self.upstream, self.server, self.ledger = web, port, upstream, server, ledger

    def url(self, path: str, host: str = "a.test") -> str:
        return f"http://{host}:{self.port}{path}"

    async def ask(self, wire: Wire, *urls: str, stream: bool = False, **values: Any) -> Reply:
        chosen = SEEING_BOT if wire in OF_BOTS else ENDPOINT.id

        def asked() -> Reply:
            with Connection(self.server.url, timeout_s=2 * PATIENCE_S) as client:
                return client.post(*wire.chat(see(*urls), asked=chosen, stream=stream, **values))

        return await asyncio.to_thread(asked)

    def sent(self) -> list[str]:
        """The URLs of the images in the last request to the upstream."""
        content = self.upstream.requests[-1]["messages"][-1]["content"]
        return [part["image_url"]["url"] for part in content if part["type"] == "image_url"]


@pytest.fixture
async def scenes() -> AsyncIterator[Any]:
    """Makes scenes: ``fetching`` off, or on as operators have it; ``kind`` of the upstream."""
    from contextlib import AsyncExitStack

    async with AsyncExitStack() as stack:

        async def make(*, fetching: bool = True, kind: str = "openai") -> Scene:
            web, ledger = Web(), MemoryLedger()
            there = await stack.enter_async_context(RawUpstream(paths(web.pages, web.asked), OUTSIDE))
            made = fetcher(there.port, web.names)
            images = (
                Images(made, images_max=IMAGES_MAX, max_bytes=MAX_BYTES, timeout_s=PATIENCE_S) if fetching else None
            )
            upstream = stack.enter_context(scripted_upstream())
            server = stack.enter_context(serving(images, upstream, ledger, kind))
            return Scene(web, there.port, upstream, server, ledger)

        yield make


@WIRES_
@WAYS
async def test_an_image_is_fetched_and_goes_along(scenes: Any, wire: Wire, stream: bool) -> None:
    scene = await scenes()
    reply = await scene.ask(wire, scene.url("/a.png"), stream=stream)
    assert reply.status == 200
    assert (wire.text(reply.body) if stream else wire.text_of(reply)) == "春眠不觉晓"
    assert scene.sent() == [data(PNG, "image/png")]


async def test_each_kind_is_told_by_its_octets_and_fetched_once(scenes: Any) -> None:
    scene = await scenes()
    inline = data(GIF, "image/gif")
    urls = [scene.url("/a.jpeg"), inline, scene.url("/a.webp"), scene.url("/a.jpeg"), scene.url("/a.gif")]
    assert (await scene.ask(SEEING_WIRES[0], *urls)).status == 200
    jpeg = data(JPEG, "image/jpeg")
    assert scene.sent() == [jpeg, inline, data(WEBP, "image/webp"), jpeg, inline]
    assert len(scene.web.asked) == 3


def refused(scene: Scene, wire: Wire, reply: Reply, why: str, place: int = 1, *, stream: bool = False) -> None:
    """By the dialect's own form and code, with the image's place; nothing went to the model, nothing is billed."""
    error = wire.error(reply, stream=stream)
    meant = UnsupportedInput("x", "")
    assert reply.status == (200 if wire.deaf and stream else 400)
    assert error["code"] == wire.error_of(meant, reply)["code"]
    assert why in error["message"]
    field = f"messages[0].content[{place}].image_url.url"
    assert wire.blamed(error) == {field} or field in error["message"]
    for hidden in (OUTSIDE, "10.0.0.1", "127.0.0.1"):
        assert hidden not in error["message"]
    assert scene.upstream.requests == []


@WIRES_
@WAYS
async def test_an_image_that_is_refused(scenes: Any, wire: Wire, stream: bool) -> None:
    scene = await scenes()
    reply = await scene.ask(wire, scene.url("/a.png"), scene.url("/a.png", "inside.test"), stream=stream)
    refused(scene, wire, reply, "no address in public", 2, stream=stream)
    until(lambda: scene.ledger.settlements)
    (settled,) = scene.ledger.settlements.values()
    assert settled.outcome == "refused"
    assert settled.usage.total_tokens == 0


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/none.png", "the status 404"),
        ("/page", "not of the type image/*"),
        ("/fake.png", "not a PNG, JPEG, WebP or GIF"),
        ("/large.png", f"the limit of {MAX_BYTES} bytes"),
        ("http://127.0.0.1/", "port 80"),
        ("http://u:p@a.test/", "user name"),
    ],
)
async def test_what_an_image_cannot_be(scenes: Any, path: str, why: str) -> None:
    scene, wire = await scenes(), SEEING_WIRES[0]
    refused(scene, wire, await scene.ask(wire, scene.url(path) if path.startswith("/") else path), why)


async def test_only_so_many_are_fetched(scenes: Any) -> None:
    scene, wire = await scenes(), SEEING_WIRES[0]
    urls = [scene.url(f"/a.png?{number}") for number in range(IMAGES_MAX + 1)]
    refused(scene, wire, await scene.ask(wire, *urls), f"at most {IMAGES_MAX} images", IMAGES_MAX + 1)
    assert scene.web.asked == []


@WIRES_
async def test_nothing_is_fetched_where_that_is_off(scenes: Any, wire: Wire) -> None:
    scene = await scenes(fetching=False)
    refused(scene, wire, await scene.ask(wire, scene.url("/a.png")), "end the image itself")
    assert (scene.web.asked, scene.web.names.asked) == ([], [])


async def test_ark_fetches_itself_what_has_tls(scenes: Any) -> None:
    scene = await scenes(kind="ark")
    assert (await scene.ask(SEEING_WIRES[0], "https://a.test/x.png", scene.url("/a.png"))).status == 200
    assert scene.sent() == ["https://a.test/x.png", data(PNG, "image/png")]
    assert scene.web.names.asked == ["a.test"]


async def test_a_model_that_sees_nothing_has_nothing_fetched(scenes: Any) -> None:
    scene, wire = await scenes(), SEEING_WIRES[0]

    def asked() -> Reply:
        with Connection(scene.server.url, timeout_s=2 * PATIENCE_S) as client:
            return client.post(*wire.chat(see(scene.url("/a.png"))))

    reply = await asyncio.to_thread(asked)
    assert reply.status == 400
    assert "takes text only" in wire.error(reply)["message"]
    assert (scene.web.asked, scene.web.names.asked) == ([], [])


class Held:
    """A fetcher that waits until it is let go; ``gone``: its caller has left."""

    def __init__(self) -> None:
        self.asked, self.gone, self.go = 0, 0, False

    async def fetch(self, url: str, *, max_bytes: int, timeout_s: float, accept: Sequence[str] = ()) -> Fetched:
        self.asked += 1
        try:
            while not self.go:
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            self.gone += 1
            raise
        return Fetched("image/png", PNG, url)


def _send(client: Connection, call: Call) -> None:
    client.send("POST", *call)


def held_images(held: Fetcher) -> Images:
    return Images(held, images_max=3, max_bytes=64, timeout_s=PATIENCE_S)


def test_a_caller_that_leaves_while_an_image_is_fetched() -> None:
    held, ledger, wire = Held(), MemoryLedger(), SEEING_WIRES[0]
    with scripted_upstream() as upstream, serving(held_images(held), upstream, ledger, "openai") as server:
        client = Connection(server.url)
        with client:
            _send(client, wire.chat(see("http://a.test/"), asked=ENDPOINT.id))
            until(lambda: held.asked)
        until(lambda: held.gone)
        until(lambda: ledger.settlements)
        assert [settled.outcome for settled in ledger.settlements.values()] == ["client_abort"]
        assert upstream.requests == []


def test_text_does_not_wait_for_another_callers_image() -> None:
    held, wire = Held(), SEEING_WIRES[0]
    with (
        scripted_upstream() as upstream,
        serving(held_images(held), upstream, MemoryLedger(), "openai") as server,
        Connection(server.url, timeout_s=2 * PATIENCE_S) as waiting,
        Connection(server.url, timeout_s=2 * PATIENCE_S) as client,
    ):
        _send(waiting, wire.chat(see("http://a.test/"), asked=ENDPOINT.id))
        until(lambda: held.asked)
        assert client.post(*wire.chat("问", asked=ENDPOINT.id)).status == 200
        held.go = True
        assert waiting.reply("POST").status == 200
        assert len(upstream.requests) == 2


def test_a_pulled_backend_gets_the_image_too() -> None:
    held, wire = Held(), SEEING_WIRES[0]
    held.go = True
    backend = ScriptedBackend(echoes)
    with (
        running_server(
            backends={"scripted": PulledPictured(backend, held_images(held))}, cards=[SEES], endpoints=[ENDPOINT]
        ) as server,
        Connection(server.url, timeout_s=2 * PATIENCE_S) as client,
    ):
        assert client.post(*wire.chat(see("http://a.test/"), asked=ENDPOINT.id)).status == 200
        assert client.post(*wire.chat("问", asked=ENDPOINT.id)).status == 200
    (content, _) = (request.messages[0].content for request in backend.requests)
    assert isinstance(content, tuple)
    assert content[1] == ImagePart(data(PNG, "image/png"))
    assert held.asked == 1
