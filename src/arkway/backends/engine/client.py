"""HTTP to one engine process over its Unix socket: templates, tokens, and completions that can be abandoned at once."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

import aiohttp
import msgspec

from arkway.core.errors import BackendFailed, BadRequest, ContextTooLong, InvalidField, UnsupportedInput

FRAME_MAX_BYTES = 4 * 1024 * 1024
CALL_LIMIT_S = 60.0
DRAIN_LIMIT_S = 30.0
FENCE = -1
"""Echoed by the engine's tokenizer between texts; no token has this id."""

FINAL_FIELDS = (
    "content",
    "tokens",
    "stop",
    "stop_type",
    "truncated",
    "tokens_predicted",
    "tokens_evaluated",
    "timings",
)


class Candidate(msgspec.Struct, frozen=True):
    """One token the engine could have chosen at a position. ``octets`` of a top entry are the token's own.

    ``prob`` takes the place of ``logprob`` where probabilities after the cuts were asked for (``post_sampling_probs``).
    """

    id: int
    token: str
    logprob: float = -math.inf
    octets: list[int] = msgspec.field(name="bytes", default_factory=list)
    prob: float = 0.0


class Position(Candidate, frozen=True):
    """The chosen token of one position; its ``octets`` are those of the text sent with it."""

    top_logprobs: list[Candidate] = []
    top_probs: list[Candidate] = []


class PromptProgress(msgspec.Struct, frozen=True):
    """How far the prompt is read, in tokens; ``cache`` of them were there from an earlier call."""

    total: int = 0
    cache: int = 0
    processed: int = 0


class Timings(msgspec.Struct, frozen=True):
    """``cache_n``: the prompt's tokens that were there from an earlier call."""

    cache_n: int = 0


class Frame(msgspec.Struct, frozen=True):
    """One event of a completion. ``tokens_predicted`` counts from the start; ``stop`` marks the last frame."""

    content: str = ""
    tokens: list[int] = []
    stop: bool = False
    stop_type: str = "none"
    truncated: bool = False
    tokens_predicted: int = 0
    tokens_evaluated: int = 0
    prompt_progress: PromptProgress | None = None
    completion_probabilities: list[Position] = []
    timings: Timings = Timings()
    error: dict[str, Any] | None = None


class Piece(msgspec.Struct, frozen=True):
    """A token id and its text; a piece that is not valid UTF-8 comes as a list of octets."""

    id: int
    piece: str | list[int]

    @property
    def octets(self) -> bytes:
        return self.piece.encode() if isinstance(self.piece, str) else bytes(self.piece)


class Traits(msgspec.Struct, frozen=True):
    """What the engine says of its model's chat template, of the token that ends a text, and of the word that stands
    for an image in a prompt: made anew, out of chance, by each process, so that no caller can know it."""

    chat_template_caps: dict[str, bool] = {}
    eos_token: str = ""
    media_marker: str = ""

    def supports(self, feature: str) -> bool:
        return self.chat_template_caps.get(f"supports_{feature}", False)


class _Rendered(msgspec.Struct, frozen=True):
    prompt: str


class _Excess(msgspec.Struct, frozen=True):
    n_prompt_tokens: int = 0
    n_ctx: int = 0


class _Refused(msgspec.Struct, frozen=True):
    error: _Excess = _Excess()


class _Ids(msgspec.Struct, frozen=True):
    tokens: list[int]


class _Pieces(msgspec.Struct, frozen=True):
    tokens: list[Piece]


_frame = msgspec.json.Decoder(Frame)


class Watch:
    """How long the engine has been silent towards those who wait for it."""

    def __init__(self) -> None:
        self._waiting = 0
        self._heard_s = 0.0

    @property
    def silent_s(self) -> float:
        """Seconds since the engine was heard; 0 when nobody waits."""
        return time.monotonic() - self._heard_s if self._waiting else 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around every wait for the engine; whatever ends it without an error is a sign of life."""
        if not self._waiting:
            self._heard_s = time.monotonic()
        self._waiting += 1
        try:
            yield
            self._heard_s = time.monotonic()
        finally:
            self._waiting -= 1


class EngineClient:
    """One engine process. Every method raises BackendFailed when the process breaks off.

    Calls and completions are watched apart: the engine's tokenizer still answers when its inference hangs.
    """

    def __init__(self, socket_path: str, api_key: str) -> None:
        self._session = aiohttp.ClientSession(
            "http://engine",
            connector=aiohttp.UnixConnector(socket_path, limit=0, force_close=True),
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=aiohttp.ClientTimeout(total=None),
        )
        self._drains: set[asyncio.Task[None]] = set()
        self._calls = Watch()
        self._completions = Watch()

    @property
    def silent_s(self) -> float:
        """Seconds for which somebody has waited and nothing of that kind came; 0 when nobody waits."""
        return max(self._calls.silent_s, self._completions.silent_s)

    async def aclose(self) -> None:
        for drain in self._drains:
            drain.cancel()
        await self._session.close()

    async def traits(self) -> Traits:
        return msgspec.json.decode(await self._call("GET", "/props", None), type=Traits)

    async def render(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str:
        """The prompt the model's own template makes. Raises InvalidField when the template refuses the messages."""
        body = {"messages": messages, **({"tools": tools} if tools else {})}
        status, payload = await self._answer("POST", "/apply-template", body)
        if status != 200:
            raise InvalidField(f"the model's chat template refuses the messages: {_reason(payload)}", "messages")
        return msgspec.json.decode(payload, type=_Rendered).prompt

    async def ids(self, content: str | Sequence[str | int], *, special: bool, start: bool = False) -> list[int]:
        """Token ids. ``special``: control tokens are recognised; ``start``: the model's opening token is added."""
        body = {"content": content, "parse_special": special, "add_special": start}
        return msgspec.json.decode(await self._call("POST", "/tokenize", body), type=_Ids).tokens

    async def ids_of_each(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        """Token ids of every text, in one call."""
        if not texts:
            return []
        fenced: list[str | int] = []
        for text in texts:
            fenced += (text, FENCE)
        return _split(await self.ids(fenced, special=special))

    async def pieces(self, content: str | Sequence[int], *, special: bool) -> list[Piece]:
        """Tokens with their own text; a list of ids gives the pieces of those ids."""
        body = {"content": content, "parse_special": special, "add_special": False, "with_pieces": True}
        return msgspec.json.decode(await self._call("POST", "/tokenize", body), type=_Pieces).tokens

    def complete(self, body: dict[str, Any]) -> Completion:
        """A streamed completion, not yet begun."""
        streamed = {**body, "stream": True, "return_progress": True, "return_tokens": True}
        fields = {**streamed, "response_fields": FINAL_FIELDS}
        return Completion(self._session, fields, self._drains, self._completions)

    async def _call(self, method: str, path: str, body: dict[str, Any] | None) -> bytes:
        """The body of a good answer; BackendFailed with the engine's reason for any other."""
        status, payload = await self._answer(method, path, body)
        if status != 200:
            raise BackendFailed(_reason(payload))
        return payload

    async def _answer(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, bytes]:
        """Status and body."""
        try:
            data = None if body is None else msgspec.json.encode(body)
            with self._calls.waiting():
                async with (
                    asyncio.timeout(CALL_LIMIT_S),
                    self._session.request(method, path, data=data) as response,
                ):
                    return response.status, await response.read()
        except UnicodeEncodeError:
            raise InvalidField("the text holds half a surrogate pair, which is no character", "messages") from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise BackendFailed("the engine broke off; send the request again") from error


class Completion:
    """One running completion. ``abandon`` is synchronous: safe in a ``finally``."""

    def __init__(
        self, session: aiohttp.ClientSession, body: dict[str, Any], drains: set[asyncio.Task[None]], watch: Watch
    ) -> None:
        self._session = session
        self._body = body
        self._drains = drains
        self._watch = watch
        self._post: asyncio.Task[aiohttp.ClientResponse] | None = None
        self._finished = False

    async def frames(self) -> AsyncGenerator[Frame, None]:
        """The engine's frames, the last one with ``stop``. Raises BackendFailed when the stream ends without it."""
        try:
            response = await self._begun()
            if response.status != 200:
                raise _refusal(response.status, await response.read())
            async with aclosing(_events(response.content, self._watch)) as events:
                async for data in events:
                    frame = _decoded(data)
                    self._finished = frame.stop
                    yield frame
                    if frame.stop:
                        return
        except (aiohttp.ClientError, OSError) as error:
            raise BackendFailed("the engine broke off while answering; send the request again") from error
        raise BackendFailed("the engine ended its answer without finishing it; send the request again")

    def abandon(self) -> asyncio.Task[None] | None:
        """Tells the engine that nobody listens. The task returned ends when the engine has let go of the slot."""
        post = self._post
        if post is None or _failed(post):
            return None
        if post.done() and (self._finished or post.result().connection is None):
            post.result().close()
            return None
        drain = asyncio.get_running_loop().create_task(_drain(post))
        self._drains.add(drain)
        drain.add_done_callback(self._drains.discard)
        drain.add_done_callback(lambda _: _close(post))
        return drain

    async def _begun(self) -> aiohttp.ClientResponse:
        """The head of the answer. The post outlives whoever waits for it: the engine may be reading the prompt."""
        self._post = asyncio.get_running_loop().create_task(self._posted())
        with self._watch.waiting():
            return await asyncio.shield(self._post)

    async def _posted(self) -> aiohttp.ClientResponse:
        return await self._session.post("/completion", data=msgspec.json.encode(self._body))


async def _drain(post: asyncio.Task[aiohttp.ClientResponse]) -> None:
    """Waits until the engine hangs up.

    Closing only our writing half lets the engine see that the client is gone and lets us see it hang up in turn.
    """
    try:
        async with asyncio.timeout(DRAIN_LIMIT_S):
            response = await post
            transport = response.connection.transport if response.connection is not None else None
            if transport is not None and not transport.is_closing():
                transport.write_eof()
            async for _ in response.content.iter_any():
                pass
    except (aiohttp.ClientError, OSError, TimeoutError):
        pass


def _failed(post: asyncio.Task[aiohttp.ClientResponse]) -> bool:
    return post.done() and (post.cancelled() or post.exception() is not None)


def _close(post: asyncio.Task[aiohttp.ClientResponse]) -> None:
    if not post.done():
        post.cancel()
    elif not _failed(post):
        post.result().close()


async def _events(stream: aiohttp.StreamReader, watch: Watch) -> AsyncGenerator[bytes, None]:
    """The data of each server-sent event; lines are cut here because a reader's own line limit is too short."""
    pending = b""
    while chunk := await _chunk(stream, watch):
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            if line.startswith((b"data:", b"error:")):
                yield line.partition(b":")[2].strip()
        if len(pending) > FRAME_MAX_BYTES:
            raise BackendFailed("the engine sent an event that is too large")


async def _chunk(stream: aiohttp.StreamReader, watch: Watch) -> bytes:
    """What came meanwhile, empty at the end. Only this wait is the engine's: a reader may take its time."""
    with watch.waiting():
        return await stream.readany()


def _decoded(data: bytes) -> Frame:
    try:
        frame = _frame.decode(data)
    except msgspec.MsgspecError as error:
        raise BackendFailed("the engine sent an event that cannot be read") from error
    if frame.error is not None:
        raise BackendFailed(f"the engine gave up: {str(frame.error.get('message', ''))[:300]}")
    return frame


def _refusal(status: int, payload: bytes) -> BackendFailed | BadRequest:
    reason = _reason(payload)
    if status != 400:
        return BackendFailed(reason)
    if "load image" in reason:
        return UnsupportedInput("an image is broken, or of a form that the engine does not read", "messages")
    found = _excess(payload)
    if found.n_prompt_tokens:
        return ContextTooLong(found.n_prompt_tokens, 1, found.n_ctx)
    return InvalidField(f"the engine refuses the request: {reason}")


def _excess(payload: bytes) -> _Excess:
    try:
        return msgspec.json.decode(payload, type=_Refused).error
    except msgspec.MsgspecError:
        return _Excess()


def _reason(payload: bytes) -> str:
    try:
        return str(msgspec.json.decode(payload)["error"]["message"])[:300]
    except (msgspec.MsgspecError, KeyError, TypeError):
        return "no reason given"


def _split(ids: list[int]) -> list[list[int]]:
    groups: list[list[int]] = [[]]
    for token in ids:
        if token == FENCE:
            groups.append([])
        else:
            groups[-1].append(token)
    return groups[:-1]
