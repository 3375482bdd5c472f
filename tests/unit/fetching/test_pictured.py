"""Calls that wait for their images: every way out while they wait and afterwards."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence

import msgspec
import pytest

from arkway.backends.pictured import TOTAL_MAX_BYTES, Images, Pictured
from arkway.core.chat import ChatRequest, ImagePart, Message, Part, TextPart
from arkway.core.errors import ArkwayError, BackendFailed, BackendUnavailable, InternalError, UnsupportedInput
from arkway.core.events import Event
from arkway.ports import Fetched, Running
from tests.tools.pushing import CALL, DEPLOYMENT, Puppet
from tests.tools.waiting import PATIENCE_S, soon

SEES = msgspec.structs.replace(
    DEPLOYMENT, card=msgspec.structs.replace(DEPLOYMENT.card, capabilities=("chat", "images"))
)
PNG = b"\x89PNG\r\n\x1a\n"


class Kept:
    """Implements `arkway.ports.Sink`."""

    def __init__(self) -> None:
        self.batches = 0
        self.over = False
        self.error: ArkwayError | None = None

    def events(self, batch: Sequence[Event]) -> None:
        self.batches += 1

    def ended(self) -> None:
        assert not self.over
        self.over = True

    def failed(self, error: ArkwayError) -> None:
        assert not self.over
        self.over, self.error = True, error


class Slow:
    """A fetcher that the test lets go: by ``go``, or with ``error``."""

    def __init__(self, body: bytes = PNG) -> None:
        self.go = asyncio.Event()
        self.error: BaseException | None = None
        self.body = body
        self.asked: list[str] = []
        self.gone = 0

    async def fetch(self, url: str, *, max_bytes: int, timeout_s: float, accept: Sequence[str] = ()) -> Fetched:
        self.asked.append(url)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.gone += 1
            raise
        if self.error is not None:
            raise self.error
        return Fetched("image/png", self.body, url)


class Scene:
    def __init__(self, body: bytes = PNG) -> None:
        self.web, self.puppet, self.sink = Slow(body), Puppet(), Kept()
        images = Images(self.web, images_max=4, max_bytes=TOTAL_MAX_BYTES, timeout_s=PATIENCE_S)
        self.pictured = Pictured(self.puppet, images)

    async def waiting(self, *urls: str) -> Running:
        parts: list[Part] = [TextPart("see"), *(ImagePart(url) for url in urls or ("http://a/1",))]
        running = self.pictured.start(SEES, ChatRequest("m", (Message("user", tuple(parts)),)), CALL, self.sink)
        await soon(lambda: len(self.web.asked) == max(1, len(urls)))
        assert self.puppet.asked == []
        return running


async def test_text_goes_straight_through() -> None:
    scene = Scene()
    request = ChatRequest("m", (Message("user", (TextPart("a"), ImagePart("data:image/png;base64,AA"))),))
    running = scene.pictured.start(SEES, request, CALL, scene.sink)
    assert running is scene.puppet.last
    assert scene.puppet.last.request is request
    assert scene.web.asked == []


async def test_a_model_without_eyes_goes_straight_through_too() -> None:
    scene = Scene()
    request = ChatRequest("m", (Message("user", (ImagePart("http://a/"),)),))
    assert scene.pictured.start(DEPLOYMENT, request, CALL, scene.sink) is scene.puppet.last
    assert scene.web.asked == []


async def test_the_call_begins_with_its_images() -> None:
    scene = Scene()
    running = await scene.waiting("http://a/1", "http://a/2")
    scene.web.go.set()
    await soon(lambda: scene.puppet.asked)
    assert [
        part.url for part in scene.puppet.last.request.messages[0].content or () if isinstance(part, ImagePart)
    ] == ["data:image/png;base64,iVBORw0KGgo="] * 2
    running.pause()
    running.resume()
    assert scene.puppet.last.told == ["pause", "resume"]
    scene.puppet.last.answers()
    assert (scene.sink.batches, scene.sink.over, scene.sink.error) == (1, True, None)


async def test_a_pause_that_came_early_is_not_lost() -> None:
    scene = Scene()
    running = await scene.waiting()
    running.pause()
    scene.web.go.set()
    await soon(lambda: scene.puppet.asked and scene.puppet.last.told)
    assert scene.puppet.last.told == ["pause"]


@pytest.mark.parametrize("how", ["cancel", "expire"])
async def test_a_call_that_is_given_up_while_it_waits(how: str) -> None:
    scene = Scene()
    running = await scene.waiting("http://a/1", "http://a/2")
    getattr(running, how)()
    await soon(lambda: scene.web.gone == 2)
    scene.web.go.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert (scene.puppet.asked, scene.sink.over) == ([], False)


@pytest.mark.parametrize("how", ["cancel", "expire"])
async def test_a_call_that_is_given_up_at_once_fetches_nothing(how: str, recwarn: pytest.WarningsRecorder) -> None:
    scene = Scene()
    request = ChatRequest("m", (Message("user", (ImagePart("http://a/1"),)),))
    running = scene.pictured.start(SEES, request, CALL, scene.sink)
    getattr(running, how)()
    for _ in range(20):
        await asyncio.sleep(0)
    gc.collect()
    assert (scene.web.asked, scene.puppet.asked, scene.sink.over) == ([], [], False)
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("how", ["cancel", "expire"])
async def test_a_call_that_is_given_up_later(how: str) -> None:
    scene = Scene()
    running = await scene.waiting()
    scene.web.go.set()
    await soon(lambda: scene.puppet.asked)
    getattr(running, how)()
    assert scene.puppet.last.cancelled


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UnsupportedInput("not there"), UnsupportedInput),
        (ZeroDivisionError(), InternalError),
        (asyncio.CancelledError(), BackendFailed),
    ],
)
async def test_what_goes_wrong_is_told_once(error: BaseException, told: type[ArkwayError]) -> None:
    scene = Scene()
    await scene.waiting()
    scene.web.error = error
    scene.web.go.set()
    await soon(lambda: scene.sink.over)
    assert type(scene.sink.error) is told
    assert scene.puppet.asked == []
    if told is UnsupportedInput:
        assert scene.sink.error.field == "messages[0].content[1].image_url.url"
        assert scene.sink.error.message == "the image cannot be taken: not there"


async def test_what_the_backend_refuses_is_told() -> None:
    scene = Scene()
    scene.puppet.refuses = BackendUnavailable("nobody")
    await scene.waiting()
    scene.web.go.set()
    await soon(lambda: scene.sink.over)
    assert scene.sink.error is scene.puppet.refuses


async def test_all_images_together_have_a_size() -> None:
    scene = Scene(PNG + bytes(TOTAL_MAX_BYTES // 2))
    await scene.waiting("http://a/1", "http://a/2")
    scene.web.go.set()
    await soon(lambda: scene.sink.over)
    assert isinstance(scene.sink.error, UnsupportedInput)
    assert f"{TOTAL_MAX_BYTES} bytes together" in scene.sink.error.message
    assert scene.puppet.asked == []
