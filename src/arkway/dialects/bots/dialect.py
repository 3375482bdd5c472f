"""Bot API V2: bytes to canonical and back. No SDK speaks it, so that there are no families of clients."""

from __future__ import annotations

from functools import partial
from typing import Self

from msgspec import structs

from arkway.core.chat import ChatReply, ChatRequest, ReplyTag
from arkway.core.embedding import EmbedReply, EmbedRequest
from arkway.core.errors import ArkwayError, RouteNotFound
from arkway.core.raw import ErrorReply, RawRequest
from arkway.dialects.bots import errors, fields
from arkway.ports import StreamEncoder
from arkway.wire import bots, json
from arkway.wire.fields import read_in_mode
from arkway.wire.maas_shape import bots as shape
from arkway.wire.maas_shape.ordinary import OrdinaryChats
from arkway.wire.maas_shape.reply import shown_id
from arkway.wire.maas_shape.request import chat_request


class BotsV2:
    """Implements `arkway.ports.Dialect`. ``strict`` enforces the documented ranges (protocol §11a)."""

    name = "bots"
    deaf_to_status = False

    def __init__(self, strict: bool = False) -> None:
        self._strict = strict
        self._ordinary_chat = OrdinaryChats(
            fields.CHAT, fields.RULES, lambda raw, _: fields.asked(raw.path), strict=strict
        ).read

    def suited(self, raw: RawRequest) -> Self:
        return self

    def wants_stream(self, body: bytes) -> bool:
        return False

    def decode_chat(self, raw: RawRequest, body: bytes) -> ChatRequest:
        return self._ordinary_chat(raw, body) or self.read_chat(raw, body)

    def read_chat(self, raw: RawRequest, body: bytes) -> ChatRequest:
        """As `decode_chat`, by the field tables alone."""
        asked = fields.asked(raw.path)
        reading = read_in_mode(fields.CHAT, json.load_object(body), strict=self._strict)
        request = chat_request(fields.RULES, reading, asked, None, strict=self._strict)
        aside = bots.aside(reading.values.get("extra"), "extra.")
        return structs.replace(
            request,
            asker=aside.asker,
            wants_intention=aside.wants_intention,
            ignored=(*request.ignored, *aside.ignored),
        )

    def encode_chat(self, reply: ChatReply, request: ChatRequest, tag: ReplyTag) -> bytes:
        return shape.completion(reply, request, tag)

    def stream(self, request: ChatRequest, tag: ReplyTag) -> StreamEncoder:
        shown = shown_id(request, tag)
        return shape.BotFrames(request, tag, partial(errors.payload, request_id=tag.id, shown_id=shown))

    def decode_embed(self, raw: RawRequest, body: bytes) -> EmbedRequest:
        raise RouteNotFound(raw.path)

    def encode_embed(self, reply: EmbedReply, request: EmbedRequest, tag: ReplyTag) -> bytes:
        raise RouteNotFound("embeddings")

    def encode_error(self, error: ArkwayError, request_id: str, *, stream: bool = False) -> ErrorReply:
        return errors.reply(error, request_id)
