"""Ark v3's route for bots: chats as v3 has them, with bots only, and frames without a space (protocol §7.1, §7.3)."""

from __future__ import annotations

from functools import partial

from msgspec import structs

from arkway.core.chat import ChatRequest, ReplyTag
from arkway.core.errors import ArkwayError, EndpointNotFound
from arkway.core.raw import ErrorReply, RawRequest
from arkway.dialects.v3 import errors, fields
from arkway.dialects.v3.dialect import STYLE, ArkV3
from arkway.ports import StreamEncoder
from arkway.wire import json
from arkway.wire.bots import only_bot
from arkway.wire.openai_shape.bots import bot_request
from arkway.wire.openai_shape.ordinary import OrdinaryChats
from arkway.wire.openai_shape.stream import ChunkEncoder

TIGHT = structs.replace(STYLE, tight=True)
_ordinary_chat = OrdinaryChats(fields.BOT_CHAT).read


class ArkV3Bots(ArkV3):
    """Implements `arkway.ports.Dialect`."""

    name = "v3-bots"

    def decode_chat(self, raw: RawRequest, body: bytes) -> ChatRequest:
        request = _ordinary_chat(body) or bot_request(fields.BOT_CHAT, json.load_object(body))
        only_bot(request.asked)
        return request

    def stream(self, request: ChatRequest, tag: ReplyTag) -> StreamEncoder:
        return ChunkEncoder(request, tag, TIGHT, partial(_payload, request_id=tag.id))

    def encode_error(self, error: ArkwayError, request_id: str, *, stream: bool = False) -> ErrorReply:
        return super().encode_error(_without_hint(error), request_id, stream=stream)


def _payload(error: ArkwayError, request_id: str) -> bytes:
    return errors.payload(_without_hint(error), request_id)


def _without_hint(error: ArkwayError) -> ArkwayError:
    """What looks like the name is an endpoint, which would not be taken here."""
    return EndpointNotFound(error.asked) if isinstance(error, EndpointNotFound) else error
