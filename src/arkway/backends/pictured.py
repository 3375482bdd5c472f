"""Images that callers name by URL, put into the request before a backend gets it.

A wrapper around backends: what it wraps sees ``data:`` URLs alone. A call without such an image goes straight through;
one with some waits for them, after its limits were held and its ledger entry was made, and fails as any call does that
its backend refuses.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from functools import partial

import msgspec

from arkway.backends.wrapping import Awaiting
from arkway.core.caller import Call
from arkway.core.chat import ChatRequest, ImagePart, Message, Part
from arkway.core.errors import UnsupportedInput
from arkway.core.events import Event
from arkway.core.model import Deployment
from arkway.ports import Backend, Fetcher, Pushing, Running, Sink
from arkway.wire.images import data_url, is_web

ACCEPTED = ("image/*", "application/octet-stream", "binary/octet-stream")
"""What stores say of images. What they are is told by their octets."""
TOTAL_MAX_BYTES = 32 << 20
"""All fetched images of one request together."""
BROKEN_OFF = "the call was broken off while its images were fetched"

ToBeFetched = Callable[[Deployment, str], bool]


def any_web(_: Deployment, url: str) -> bool:
    return is_web(url)


class Images:
    """Fetches the images of a request; at most ``images_max`` of ``max_bytes`` each, within ``timeout_s``."""

    def __init__(self, fetcher: Fetcher, *, images_max: int, max_bytes: int, timeout_s: float) -> None:
        self._fetcher = fetcher
        self._images_max = images_max
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s

    def named(self, deployment: Deployment, request: ChatRequest, wanted: ToBeFetched) -> dict[str, str]:
        """The URLs to be fetched, each with the place where it comes first. Empty for a model that sees nothing."""
        if "images" not in deployment.card.capabilities:
            return {}
        places: dict[str, str] = {}
        for i, message in enumerate(request.messages):
            for j, part in enumerate(message.content if isinstance(message.content, tuple) else ()):
                if isinstance(part, ImagePart) and wanted(deployment, part.url):
                    places.setdefault(part.url, f"messages[{i}].content[{j}].image_url.url")
        return places

    async def inlined(self, request: ChatRequest, places: Mapping[str, str]) -> ChatRequest:
        """The request with these images in it. Raises UnsupportedInput naming the image that cannot be had."""
        if len(places) > self._images_max:
            last = list(places.values())[self._images_max]
            raise UnsupportedInput(f"at most {self._images_max} images of a request are fetched", last)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {url: group.create_task(self._fetched(url, place)) for url, place in places.items()}
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        found = {url: task.result() for url, task in tasks.items()}
        if sum(map(len, found.values())) > TOTAL_MAX_BYTES * 4 // 3:
            raise UnsupportedInput(
                f"the images of the request are larger than {TOTAL_MAX_BYTES} bytes together",
                next(iter(places.values())),
            )
        messages = tuple(_with(message, found) for message in request.messages)
        return msgspec.structs.replace(request, messages=messages)

    async def _fetched(self, url: str, place: str) -> str:
        try:
            got = await self._fetcher.fetch(url, max_bytes=self._max_bytes, timeout_s=self._timeout_s, accept=ACCEPTED)
            return data_url(got.body)
        except UnsupportedInput as error:
            raise UnsupportedInput(f"the image cannot be taken: {error.message}", place) from None


class Pictured:
    """Implements `arkway.ports.Pushing` and `Heeding` over a backend that pushes.

    ``wanted`` tells which URLs are to be fetched: some upstreams take some themselves.
    """

    def __init__(self, backend: Pushing, images: Images, wanted: ToBeFetched = any_web) -> None:
        self._backend, self._images, self._wanted = backend, images, wanted
        self.heeded = getattr(backend, "heeded", _as_it_is)

    def start(self, deployment: Deployment, request: ChatRequest, call: Call, sink: Sink) -> Running:
        places = self._images.named(deployment, request, self._wanted)
        if not places:
            return self._backend.start(deployment, request, call, sink)

        def begin(whole: ChatRequest) -> Running:
            return self._backend.start(deployment, whole, call, sink)

        return Awaiting(partial(self._images.inlined, request, places), begin, sink, call.request_id, BROKEN_OFF)


class PulledPictured:
    """Implements `arkway.ports.Backend` over one that is pulled."""

    def __init__(self, backend: Backend, images: Images) -> None:
        self._backend, self._images = backend, images

    def chat(self, deployment: Deployment, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        places = self._images.named(deployment, request, any_web)
        if not places:
            return self._backend.chat(deployment, request, call)
        return self._chat(deployment, request, call, places)

    async def _chat(
        self, deployment: Deployment, request: ChatRequest, call: Call, places: Mapping[str, str]
    ) -> AsyncGenerator[Event, None]:
        whole = await self._images.inlined(request, places)
        async with aclosing(self._backend.chat(deployment, whole, call)) as events:
            async for event in events:
                yield event


def _as_it_is(_: Deployment, request: ChatRequest) -> ChatRequest:
    return request


def _with(message: Message, found: Mapping[str, str]) -> Message:
    if not isinstance(message.content, tuple):
        return message
    return msgspec.structs.replace(message, content=tuple(_filled(part, found) for part in message.content))


def _filled(part: Part, found: Mapping[str, str]) -> Part:
    if not isinstance(part, ImagePart) or part.url not in found:
        return part
    return msgspec.structs.replace(part, url=found[part.url])
