"""A search bot of Ark, or of another Arkway: asked as any bot, it is listened to until its references have come."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec

from arkway.core.bot import Quest
from arkway.core.errors import BackendFailed
from arkway.core.reference import Cover
from arkway.search.asking import Service, decoded, each_decoded
from arkway.search.found import Found
from arkway.search.times import shown_time
from arkway.wire.sse import Reader

PATH = "/bots/chat/completions"
DONE = b"[DONE]"


class _Cover(msgspec.Struct):
    url: str | None = None
    width: int | None = None
    height: int | None = None


class _Reference(msgspec.Struct):
    url: str
    title: str | None = None
    summary: str | None = None
    site_name: str | None = None
    logo_url: str | None = None
    mobile_url: str | None = None
    publish_time: str | None = None
    freshness_info: str | None = None
    cover_image: _Cover | None = None
    extra: dict[str, Any] | None = None


class _Frame(msgspec.Struct):
    """What matters of a frame. Only the presence of ``error`` counts: its text may hold anything."""

    references: list[msgspec.Raw] | None = None
    error: msgspec.Raw | None = None


class ArkBot:
    """Implements `arkway.search.found.Provider`. ``bot_id`` is the other side's."""

    name = "ark"
    on_the_web = True

    def __init__(self, service: Service, bot_id: str) -> None:
        self._service = service
        self._bot_id = bot_id

    async def search(self, quest: Quest, query: str, limit: int) -> list[Found]:
        """The references of its answer; hangs up before the answer itself."""
        asked = {"model": self._bot_id, "stream": True, "messages": [{"role": "user", "content": query}]}
        async with aclosing(self._frames(msgspec.json.encode(asked))) as frames:
            async for frame in frames:
                if frame.error is not None:
                    raise BackendFailed(f"`{self.name}` answers with an error")
                if frame.references:
                    sound = each_decoded(self.name, frame.references[:limit], _Reference)
                    return [_found(reference) for reference in sound]
        return []

    async def aclose(self) -> None:
        await self._service.aclose()

    async def _frames(self, body: bytes) -> AsyncGenerator[_Frame, None]:
        reader = Reader()
        heard = False
        async with aclosing(self._service.stream(PATH, body)) as pieces:
            async for piece in pieces:
                for payload in reader.feed(piece):
                    heard = True
                    if payload != DONE:
                        yield decoded(self.name, payload, _Frame)
        if not heard:
            raise BackendFailed(f"`{self.name}` answers with something else than a stream")


def _found(reference: _Reference) -> Found:
    cover = reference.cover_image
    return Found(
        url=reference.url,
        title=reference.title or "",
        summary=reference.summary or "",
        site_name=reference.site_name or "",
        logo_url=reference.logo_url or "",
        mobile_url=reference.mobile_url or "",
        publish_time=shown_time(reference.publish_time),
        freshness_info=reference.freshness_info or "",
        cover=Cover(cover.url, cover.width or 0, cover.height or 0) if cover and cover.url else None,
        extra=reference.extra or {},
    )
