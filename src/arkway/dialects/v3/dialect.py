"""Ark v3: bytes to canonical and back."""

from __future__ import annotations

from functools import partial
from typing import Any, Self

from arkway.core.chat import ChatReply, ChatRequest, ReplyTag
from arkway.core.embedding import EmbedReply, EmbedRequest, Tokenized, TokenizeRequest
from arkway.core.errors import ArkwayError
from arkway.core.model import Deployment
from arkway.core.raw import ErrorReply, RawRequest
from arkway.dialects.v3 import errors, fields
from arkway.ports import StreamEncoder
from arkway.wire import json
from arkway.wire.bots import is_bot
from arkway.wire.fields import read
from arkway.wire.openai_shape import reply as shape
from arkway.wire.openai_shape.bots import bot_request
from arkway.wire.openai_shape.ordinary import OrdinaryChats
from arkway.wire.openai_shape.request import chat_request, embed_request, texts
from arkway.wire.openai_shape.stream import ChunkEncoder, ChunkStyle

STYLE = ChunkStyle(role_everywhere=True, usage_always=True, nulls=False)
_ordinary_chat = OrdinaryChats(fields.CHAT).read


class ArkV3:
    """Implements `arkway.ports.Dialect`, Tokenizing and Listing."""

    name = "v3"
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
        return ChunkEncoder(request, tag, STYLE, partial(errors.payload, request_id=tag.id))

    def decode_embed(self, raw: RawRequest, body: bytes) -> EmbedRequest:
        return embed_request(fields.EMBED, json.load_object(body))

    def encode_embed(self, reply: EmbedReply, request: EmbedRequest, tag: ReplyTag) -> bytes:
        return json.dumps(shape.embeddings(reply, request, tag))

    def decode_tokenize(self, raw: RawRequest, body: bytes) -> TokenizeRequest:
        values, ignored = read(fields.TOKENIZE, json.load_object(body))
        return TokenizeRequest(values["model"], texts(values["text"], "text"), ignored)

    def encode_tokenize(self, reply: tuple[Tokenized, ...], request: TokenizeRequest, tag: ReplyTag) -> bytes:
        data = [
            {
                "index": index,
                "object": "tokenization",
                "offset_mapping": entry.offsets,
                "token_ids": entry.ids,
                "total_tokens": len(entry.ids),
            }
            for index, entry in enumerate(reply)
        ]
        return json.dumps({"created": tag.created, "data": data, "id": tag.id, "model": tag.model, "object": "list"})

    def encode_models(self, deployments: tuple[Deployment, ...], name: str = "") -> bytes:
        data = [
            {
                "created": entry.endpoint.created_at,
                "id": entry.endpoint.id,
                "name": entry.card.served_name,
                "object": "model",
                "owned_by": entry.endpoint.project,
                "status": entry.endpoint.status,
            }
            for entry in deployments
        ]
        return json.dumps({"data": data, "object": "list"})

    def encode_error(self, error: ArkwayError, request_id: str, *, stream: bool = False) -> ErrorReply:
        return errors.reply(error, request_id)


def _chat(body: dict[str, Any]) -> ChatRequest:
    return bot_request(fields.BOT_CHAT, body) if is_bot(body.get("model")) else chat_request(fields.CHAT, body)
