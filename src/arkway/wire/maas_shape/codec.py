"""Bytes to canonical and back, as every dialect of this shape does it; what differs is data of the dialect."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from arkway.core.chat import ChatReply, ChatRequest, ReplyTag
from arkway.core.classification import ClassifyReply, ClassifyRequest
from arkway.core.embedding import EmbedReply, EmbedRequest, Tokenized, TokenizeRequest
from arkway.core.errors import ArkwayError, InvalidField, RouteNotFound
from arkway.core.model import Deployment
from arkway.core.raw import ErrorReply, RawRequest
from arkway.ports import CertRequest, Channel, Sealing, StreamEncoder
from arkway.wire import json
from arkway.wire.fields import Reading, Table, read_in_mode
from arkway.wire.maas_shape import errors
from arkway.wire.maas_shape import reply as shape
from arkway.wire.maas_shape.clients import Client
from arkway.wire.maas_shape.ordinary import OrdinaryChats
from arkway.wire.maas_shape.request import (
    CRYPTO_HEADER,
    Asked,
    ChatRules,
    chat_request,
    classify_request,
    embed_request,
    token_of,
    tokenize_request,
    wants_stream,
)
from arkway.wire.maas_shape.stream import AsciiFrames, FrameEncoder

Seal = Callable[[str], str]


class Tables(msgspec.Struct, frozen=True):
    """The field tables of a dialect's operations."""

    chat: Table
    embed: Table
    tokenize: Table
    classify: Table
    cert: Table


class Form(msgspec.Struct, frozen=True):
    """What makes a dialect of this shape: its fields, where a call says what it asks for, how its answers look.

    ``asked`` reads that from the request and its body, ``cert`` writes what stands beside a certificate.
    """

    tables: Tables
    rules: ChatRules
    asked: Callable[[RawRequest, Reading], Asked]
    cert: Callable[[Deployment, CertRequest], dict[str, Any]]
    style: shape.ReplyStyle


class MaasCodec:
    """One form for one family of clients; a dialect names it and chooses among the families.

    ``strict`` enforces the documented ranges (protocol §11a); ``sealing`` turns message encryption on.
    """

    def __init__(self, form: Form, client: Client, sealing: Sealing | None, *, strict: bool) -> None:
        self._form = form
        self._style = form.style
        self._client = client
        self._sealing = sealing
        self._strict = strict
        self._ordinary_chat = OrdinaryChats(form.tables.chat, form.rules, form.asked, strict=strict).read
        self.deaf_to_status = client.deaf_to_status

    def wants_stream(self, body: bytes) -> bool:
        return wants_stream(body)

    def decode_chat(self, raw: RawRequest, body: bytes) -> ChatRequest:
        if CRYPTO_HEADER not in raw.headers and (ordinary := self._ordinary_chat(raw, body)) is not None:
            return ordinary
        reading = self._read(self._form.tables.chat, body)
        token = token_of(reading, raw.header(CRYPTO_HEADER))
        channel = self._channel(token)
        opened = channel.open if channel else None
        asked = self._form.asked(raw, reading)
        return chat_request(self._form.rules, reading, asked, opened, token=token, strict=self._strict)

    def encode_chat(self, reply: ChatReply, request: ChatRequest, tag: ReplyTag) -> bytes:
        seal = self._seal(request) if request.crypto_token else None
        return shape.completion(reply, request, tag, self._style, seal)

    def stream(self, request: ChatRequest, tag: ReplyTag) -> StreamEncoder:
        shown = shape.shown_id(request, tag) if self._style.request_id else ""
        payload = partial(errors.payload, request_id=tag.id, shown_id=shown)
        frames = FrameEncoder(request, tag, self._style, payload, self._seal(request))
        return AsciiFrames(frames) if self._client.cuts_characters else frames

    def decode_embed(self, raw: RawRequest, body: bytes) -> EmbedRequest:
        reading = self._read(self._form.tables.embed, body)
        return embed_request(reading, self._form.asked(raw, reading))

    def encode_embed(self, reply: EmbedReply, request: EmbedRequest, tag: ReplyTag) -> bytes:
        return json.dumps(shape.embeddings(reply, request, tag.id, self._style))

    def decode_tokenize(self, raw: RawRequest, body: bytes) -> TokenizeRequest:
        reading = self._read(self._form.tables.tokenize, body)
        return tokenize_request(reading, self._form.asked(raw, reading))

    def encode_tokenize(self, reply: tuple[Tokenized, ...], request: TokenizeRequest, tag: ReplyTag) -> bytes:
        return json.dumps(shape.tokenization(reply[0], request, tag.id, self._style))

    def decode_classify(self, raw: RawRequest, body: bytes) -> ClassifyRequest:
        reading = self._read(self._form.tables.classify, body)
        return classify_request(reading, self._form.asked(raw, reading))

    def encode_classify(self, reply: ClassifyReply, request: ClassifyRequest, tag: ReplyTag) -> bytes:
        return json.dumps(shape.classification(reply, tag.id, self._style))

    def decode_cert(self, raw: RawRequest, body: bytes) -> CertRequest:
        if self._sealing is None:
            raise RouteNotFound(raw.path)
        asked = self._form.asked(raw, self._read(self._form.tables.cert, body))
        return CertRequest(asked.name, asked.version)

    def encode_cert(self, deployment: Deployment, request: CertRequest, tag: ReplyTag) -> bytes:
        assert self._sealing is not None
        body = {**self._form.cert(deployment, request), "cert": self._sealing.certificate}
        return json.dumps(body)

    def encode_error(self, error: ArkwayError, request_id: str, *, stream: bool = False) -> ErrorReply:
        shown_id = request_id if self._style.request_id else ""
        answer = errors.reply(error, errors.payload(error, request_id, shown_id))
        return errors.framed(answer) if stream and self.deaf_to_status else answer

    def _read(self, table: Table, body: bytes) -> Reading:
        return read_in_mode(table, json.load_object(body), strict=self._strict)

    def _seal(self, request: ChatRequest) -> Seal | None:
        channel = self._channel(request.crypto_token)
        return channel.seal if channel else None

    def _channel(self, crypto_token: str) -> Channel | None:
        if not crypto_token:
            return None
        if self._sealing is None:
            raise InvalidField("message encryption is switched off on this server", "crypto_token")
        return self._sealing.channel(crypto_token)
