"""A server that speaks the OpenAI-like API, as a backend."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from urllib.parse import urlsplit

import msgspec

from arkway import __version__
from arkway.backends.upstream.chat import WHOLE_MAX_BYTES, ChatCall, KeyedCall
from arkway.backends.upstream.client import Client, Fetched, written
from arkway.backends.upstream.exchange import Carried
from arkway.backends.upstream.keys import TemporaryKeys, control_origin
from arkway.core.caller import Call
from arkway.core.chat import ChatRequest, ImagePart, Message, without_ignored
from arkway.core.embedding import EmbedReply, EmbedRequest, Tokenized, TokenizeRequest
from arkway.core.errors import Misconfigured, UnsupportedInput, UnsupportedModel
from arkway.core.model import Deployment, ModelCard
from arkway.core.upstream import Credential, Upstream
from arkway.ports import Running, Sink
from arkway.wire.openai_shape import cold
from arkway.wire.openai_shape.faults import error_of
from arkway.wire.openai_shape.incoming import reply_events
from arkway.wire.openai_shape.outgoing import (
    chat_body,
    dropped,
    embed_body,
    passed,
    tokenization_body,
    tokenize_body,
)

_JSON = f"content-type: application/json\r\nuser-agent: arkway/{__version__}\r\n".encode()
_is_visible = _is_ours = re.compile(r"[!-~]+").fullmatch
_HAS_NONE = (404, 405, 501)
_is_image = re.compile(r"data:image/(?:png|jpeg|webp|gif);base64,", re.IGNORECASE).match
_is_web = re.compile(r"https://", re.IGNORECASE).match
_TEXTS_AT_ONCE = 8
TELLING = 4
"""A model's name of fewer characters tells nobody anything, and is part of other words."""


class UpstreamServer:
    """One upstream and its connections. Belongs to one event loop.

    ``clock`` is the wall clock in epoch seconds. Raises Misconfigured for what cannot work.
    """

    def __init__(
        self,
        upstream: Upstream,
        credential: Credential = Credential(),  # noqa: B008
        *,
        client: Client | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.upstream = upstream
        self.client = client or Client(upstream)
        self.key = _static_key(upstream, credential)
        self._models: dict[str, UpstreamModel] = {}
        self._others: list[Client] = []
        self._root_client: Client | None = None
        self.keys: TemporaryKeys | None = None
        if upstream.auth == "aksk":
            gate = self._another(control_origin(upstream.base_url))
            self.keys = TemporaryKeys(upstream, credential, gate, clock=clock)
        parts = urlsplit(upstream.base_url)
        self.hidden = tuple(
            word
            for word in (parts.hostname or "", self.key, credential.access_key_id, credential.secret_access_key)
            if word
        )

    def model(self, name: str) -> UpstreamModel:
        """One of the upstream's models, by the upstream's own name for it: the same object for the same name."""
        found = self._models.get(name)
        if found is None:
            found = self._models[name] = UpstreamModel(self, name)
        return found

    async def models(self) -> tuple[str, ...]:
        """What the upstream lists. Raises PlatformError classes."""
        got = await self._fetch(self.client, b"GET", b"/models", b"", self.key)
        return cold.models(self._body(got))

    async def check(self, model: str) -> None:
        """Has the model write one token. Raises what a call of a caller would have met; see `check_embedding`."""
        probe = ChatRequest(model, (Message("user", "hi"),), max_tokens=1)
        body = chat_body(probe, model, self.upstream.kind).body
        got = await self._asked(model, b"/chat/completions", body)
        reply_events(self._body(got), probe, self.hidden)

    async def check_embedding(self, model: str) -> None:
        """As `check`, for a model that embeds and does not chat."""
        got = await self._asked(model, b"/embeddings", embed_body(EmbedRequest(model, ("hi",)), model).body)
        cold.embed_reply(self._body(got), 1)

    async def embed(self, model: str, request: EmbedRequest, call: Call) -> EmbedReply:
        """Raises CallerError, Refused and PlatformError classes."""
        got = await self._asked(model, b"/embeddings", embed_body(request, model).body, call)
        return cold.embed_reply(self._body(got), len(request.texts))

    async def tokenize(self, model: str, request: TokenizeRequest, call: Call) -> tuple[Tokenized, ...]:
        """As `embed`; UnsupportedModel where the upstream has no tokenization that says what a token covers."""
        if self.upstream.kind == "ark":
            body = tokenization_body(request, model)
            got = await self._asked(model, b"/tokenization", body, call)
            return cold.ark_tokens(self._has(got, request), len(request.texts))
        found: list[Tokenized] = []
        for start in range(0, len(request.texts), _TEXTS_AT_ONCE):
            some = request.texts[start : start + _TEXTS_AT_ONCE]
            found += await _together([self._tokenized(model, text, request, call) for text in some])
        return tuple(found)

    async def aclose(self) -> None:
        if self.keys is not None:
            await self.keys.aclose()
        for client in (self.client, *self._others):
            await client.aclose()

    def head(self, key: str) -> bytes:
        """The head of a chat call that is shown this key, up to where it is the same for all of them."""
        return self.client.head(b"POST", b"/chat/completions", _JSON + _authorization(key))

    def check_images(self, request: ChatRequest) -> None:
        """Raises UnsupportedInput for an image that the upstream were to fetch: a server that fetches what callers name
        reaches what callers do not. The vendor's own is outside anyway."""
        for place, url in _images(request):
            if not _is_image(url) and not (self.upstream.kind == "ark" and _is_web(url)):
                raise UnsupportedInput("send the image itself, as a data: URL of a PNG, JPEG, WebP or GIF", place)

    async def _asked(self, model: str, path: bytes, body: bytes, call: Call | None = None) -> Fetched:
        """What the server says; a temporary key that was refused may have been called back: another one is tried."""
        if self.keys is None:
            return await self._fetch(self.client, b"POST", path, body, self.key, call)
        key = await self.keys.wait(model)
        got = await self._fetch(self.client, b"POST", path, body, key, call)
        if got.status == 401:
            self.keys.drop(model, key)
            got = await self._fetch(self.client, b"POST", path, body, await self.keys.wait(model), call)
        return got

    async def _tokenized(self, model: str, text: str, request: TokenizeRequest, call: Call) -> Tokenized:
        got = await self._fetch(self._root(), b"POST", b"/tokenize", tokenize_body(text, model), self.key, call)
        found = cold.server_tokens(self._has(got, request), text)
        if found is None:
            raise UnsupportedModel(request.asked, "tokenization")
        return found

    def _root(self) -> Client:
        """Where a server keeps what is not OpenAI's: beside ``/v1``."""
        if self._root_client is None:
            base = self.upstream.base_url.rstrip("/")
            stem = base.removesuffix("/v1")
            self._root_client = self.client if stem == base else self._another(stem)
        return self._root_client

    def _another(self, base_url: str) -> Client:
        client = Client(msgspec.structs.replace(self.upstream, base_url=base_url))
        self._others.append(client)
        return client

    async def _fetch(
        self, client: Client, method: bytes, path: bytes, body: bytes, key: str, call: Call | None = None
    ) -> Fetched:
        lines = _JSON + (_lines(call) if call is not None else b"") + _authorization(key)
        return await client.fetch(method, path, lines, body, WHOLE_MAX_BYTES)

    def _body(self, got: Fetched) -> bytes:
        if got.status != 200:
            raise error_of(got.status, got.headers, got.body, self.hidden)
        return got.body

    def _has(self, got: Fetched, request: TokenizeRequest) -> bytes:
        if got.status in _HAS_NONE:
            raise UnsupportedModel(request.asked, "tokenization")
        return self._body(got)


class UpstreamModel:
    """One model of an upstream; implements Pushing, Embedder and Tokenizer of `arkway.ports`."""

    __slots__ = ("_head", "_keys", "_kind", "_server", "_start", "hidden", "hidden_but_name", "name")

    def __init__(self, server: UpstreamServer, name: str) -> None:
        self.name = name
        self.hidden_but_name = server.hidden
        self.hidden = server.hidden if len(name) < TELLING else (*server.hidden, name)
        self._server = server
        self._kind = server.upstream.kind
        self._keys = server.keys
        self._head = server.head(server.key)
        self._start = server.client.start

    def start(self, deployment: Deployment, request: ChatRequest, call: Call, sink: Sink) -> Running:
        """As `arkway.ports.Pushing.start`. Raises UnsupportedInput for an image that the upstream were to fetch."""
        card = deployment.card
        if "images" in card.capabilities:
            self._server.check_images(request)
        if request.max_tokens is None:
            request = _limited(request, card)
        body = chat_body(request, self.name, self._kind).body
        if self._keys is not None:
            keyed = KeyedCall(self, card, request, sink, self._keys, call.request_id)
            keyed.begin(body)
            return keyed
        chat = ChatCall(self, card, request, sink, _request(self._head, call.request_id, body))
        self._start(chat)
        return chat

    def send(self, call: Carried, key: str, request_id: str, body: bytes) -> None:
        """A call that is shown this temporary key."""
        call.request = _request(self._server.head(key), request_id, body)
        self._start(call)

    def heeded(self, deployment: Deployment, request: ChatRequest) -> ChatRequest:
        """As `arkway.ports.Heeding.heeded`: extras are passed on, and what this upstream has no word for is dropped."""
        kind = self._kind
        if request.extras:
            request = without_ignored(request, passed(request, kind))
        lost = dropped(request, kind)
        return msgspec.structs.replace(request, ignored=(*request.ignored, *lost)) if lost else request

    async def embed(self, deployment: Deployment, request: EmbedRequest, call: Call) -> EmbedReply:
        return await self._server.embed(self.name, request, call)

    async def tokenize(self, deployment: Deployment, request: TokenizeRequest, call: Call) -> tuple[Tokenized, ...]:
        return await self._server.tokenize(self.name, request, call)


async def _together(asked: Sequence[Coroutine[None, None, Tokenized]]) -> list[Tokenized]:
    """All of them, or the error of the one that failed first: the others are given up then."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in asked]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def _images(request: ChatRequest) -> Iterator[tuple[str, str]]:
    """Every image's place on the wire, and its URL."""
    for i, message in enumerate(request.messages):
        if isinstance(message.content, tuple):
            for j, part in enumerate(message.content):
                if isinstance(part, ImagePart):
                    yield f"messages[{i}].content[{j}].image_url.url", part.url


def _limited(request: ChatRequest, card: ModelCard) -> ChatRequest:
    """With the card's default limit, where it is sure to fit beside the prompt.

    A token is a character at least, nearly always. Where the two may not fit, servers would refuse the call; left to
    themselves they stop where the context ends.
    """
    limit = card.default_output_tokens
    if not limit:
        return request
    room = card.context_tokens - limit
    for message in request.messages:
        content = message.content
        room -= len(content) if type(content) is str else len(message.text())
    return request if room < 0 else msgspec.structs.replace(request, max_tokens=limit)


def _static_key(upstream: Upstream, credential: Credential) -> str:
    if upstream.auth != "key":
        return ""
    if not _is_visible(credential.key):
        raise Misconfigured(f"the upstream `{upstream.name}` needs an API key of visible ASCII characters")
    return credential.key


def _authorization(key: str) -> bytes:
    return f"authorization: Bearer {key}\r\n".encode() if key else b""


def _request(head: bytes, request_id: str, body: bytes) -> tuple[bytes, ...]:
    """With the call's id, for the upstream's own log; ids of another form than ours are kept to ourselves."""
    if _is_ours(request_id):
        end = b"x-client-request-id: %b\r\ncontent-length: %d\r\n\r\n" % (request_id.encode(), len(body))
    else:
        end = b"content-length: %d\r\n\r\n" % len(body)
    return written(head + end, body)


def _lines(call: Call) -> bytes:
    """As of `_request`."""
    return f"x-client-request-id: {call.request_id}\r\n".encode() if _is_ours(call.request_id) else b""
