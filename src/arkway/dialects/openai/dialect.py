"""OpenAI: bytes to canonical and back."""

from __future__ import annotations

from typing import Any, Self

from arkway.core.chat import ChatReply, ChatRequest, ReplyTag
from arkway.core.embedding import EmbedReply, EmbedRequest
from arkway.core.errors import ArkwayError, EndpointNotFound
from arkway.core.model import Deployment
from arkway.core.raw import ErrorReply, RawRequest
from arkway.dialects.openai import errors, fields
from arkway.ports import StreamEncoder
from arkway.wire import json
from arkway.wire.bots import is_bot
from arkway.wire.openai_shape import reply as shape
from arkway.wire.openai_shape.bots import bot_request
from arkway.wire.openai_shape.ordinary import OrdinaryChats
from arkway.wire.openai_shape.request import chat_request, embed_request
from arkway.wire.openai_shape.stream import ChunkEncoder, ChunkStyle

STYLE = ChunkStyle(role_everywhere=False, usage_always=False, nulls=True)
_ordinary_chat = OrdinaryChats(fields.CHAT).read


class OpenAI:
    """Implements `arkway.ports.Dialect` and Listing."""

    name = "openai"
    deaf_to_status = False

    def suited(self, raw: RawRequest) -> Self:
        return self

    def wants_stream(self, body: bytes) -> bool:
        return False

    def decode_chat(self, raw: RawRequest, body: bytes) -> ChatRequest:
        return _ordinary_chat(body) or _chat(json.load_object(body))

    def encode_chat(self, reply: ChatReply, request: ChatRequest, tag: ReplyTag) -> bytes:
        return shape.completion(reply, tag, legacy_functions=request.legacy_functions)

    def stream(self, request: ChatRequest, tag: ReplyTag) -> StreamEncoder:
        return ChunkEncoder(request, tag, STYLE, errors.payload)

    def decode_embed(self, raw: RawRequest, body: bytes) -> EmbedRequest:
        return embed_request(fields.EMBED, json.load_object(body))

    def encode_embed(self, reply: EmbedReply, request: EmbedRequest, tag: ReplyTag) -> bytes:
        return json.dumps(shape.embeddings(reply, request, tag))

    def encode_models(self, deployments: tuple[Deployment, ...], name: str = "") -> bytes:
        data = _models(deployments)
        if not name:
            return json.dumps({"object": "list", "data": list(data.values())})
        if name not in data:
            raise EndpointNotFound(name)
        return json.dumps(data[name])

    def encode_error(self, error: ArkwayError, request_id: str, *, stream: bool = False) -> ErrorReply:
        return errors.reply(error)


def _chat(body: dict[str, Any]) -> ChatRequest:
    return bot_request(fields.BOT_CHAT, body) if is_bot(body.get("model")) else chat_request(fields.CHAT, body)


def _models(deployments: tuple[Deployment, ...]) -> dict[str, dict[str, Any]]:
    """Model names first, then endpoint ids: either can be asked for."""
    named = [(entry.card.name, entry.endpoint) for entry in deployments]
    ids = [(entry.endpoint.id, entry.endpoint) for entry in deployments]
    return {
        name: {"id": name, "object": "model", "created": endpoint.created_at, "owned_by": endpoint.project}
        for name, endpoint in named + ids
    }
