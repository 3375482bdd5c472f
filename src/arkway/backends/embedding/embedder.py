"""The Universal Sentence Encoder behind the ports Embedder and Tokenizer."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Final, Literal, TypeVar

import msgspec

from arkway.backends.embedding.frames import (
    Answer,
    Drop,
    Embed,
    Failed,
    Question,
    Ready,
    Tokenize,
    Tokens,
    Vectors,
    unpacked,
)
from arkway.backends.embedding.link import Link
from arkway.core.caller import Call
from arkway.core.chat import Usage
from arkway.core.embedding import EmbedReply, EmbedRequest, Tokenized, TokenizeRequest
from arkway.core.errors import (
    ArkwayError,
    BackendFailed,
    BackendTimeout,
    BackendUnavailable,
    InvalidField,
    Overloaded,
)
from arkway.core.model import Deployment

DIMENSIONS: Final = 512
VECTOR_BYTES: Final = DIMENSIONS * 4
# A child that lived this long is started again at once after a crash; one that did not waits for the next request.
SETTLED_S: Final = 1.0
UNPACKED_ON_LOOP_BYTES: Final = 65_536
_CLOSING: Final = "the server is shutting down"

ReplyT = TypeVar("ReplyT", Vectors, Tokens)


class EmbedderStatus(msgspec.Struct, frozen=True):
    """A look at the embedder: ``pending`` counts unfinished requests, ``start_s`` the last start's seconds."""

    state: Literal["stopped", "starting", "ready", "closed"]
    pid: int | None
    pending: int
    starts: int
    crashes: int
    start_s: float


class _Pending:
    """A request somebody waits for: under way on ``link`` once it is sent."""

    __slots__ = ("begun", "link", "result", "timeout")

    def __init__(self, timeout: asyncio.Timeout) -> None:
        self.result: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.timeout = timeout
        self.link: Link | None = None
        self.begun = False

    def unanswered(self) -> bool:
        """True too when the waiting itself was cancelled, as that cancels the future."""
        return not self.result.done() or self.result.cancelled()


class UseEmbedder:
    """Embeds and tokenizes in one child process, which starts with the first request and stops when idle.

    One unit vector of 512 float32 per text. A text longer than about 200 tokens is cut at sentence ends; its vector
    is the normalised mean of the windows' vectors, weighted by tokens (`arkway.backends.embedding.encoder` says why
    it is so and what retrieval should do instead).

    At most ``queue_limit`` requests are unfinished at a time; callers take turns, and so do the requests of one
    caller, piece by piece. ``wait_limit_s`` bounds the wait for the first piece and for each next one. A request
    that was under way when the child crashed fails and is not repeated. Belongs to the event loop that first uses it.
    """

    def __init__(
        self, *, idle_stop_s: float = 600.0, queue_limit: int = 64, wait_limit_s: float = 30.0, threads: int = 1
    ) -> None:
        self._idle_stop_s = idle_stop_s
        self._queue_limit = queue_limit
        self._wait_limit_s = wait_limit_s
        self._threads = threads
        self._ids = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._link: Link | None = None
        self._starting: asyncio.Task[Link] | None = None
        self._stopping: set[asyncio.Task[None]] = set()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._starts = self._crashes = 0
        self._start_s = 0.0

    async def embed(self, deployment: Deployment, request: EmbedRequest, call: Call) -> EmbedReply:
        """Vectors in the order of the texts; ``usage`` counted by the encoder's own tokenizer.

        Raises InvalidField (``input[i]`` blank, ``dimensions`` not 512), Overloaded, BackendUnavailable,
        BackendFailed, BackendTimeout, Misconfigured.
        """
        _check_dimensions(request, deployment)
        _check_texts(request.texts)
        reply = await self._ask(lambda job_id: Embed(job_id, _fair_to(call), request.texts), Vectors)
        return EmbedReply(
            vectors=tuple(reply.octets[at : at + VECTOR_BYTES] for at in range(0, len(reply.octets), VECTOR_BYTES)),
            usage=Usage(prompt_tokens=reply.tokens, provenance="counted"),
        )

    async def tokenize(
        self,
        deployment: Deployment,
        request: TokenizeRequest,
        call: Call,
    ) -> tuple[Tokenized, ...]:
        """Tokens of each text without begin and end marks; a blank text has none. Raises as ``embed`` does."""
        _check_unicode(request.texts, "text")
        reply = await self._ask(lambda job_id: Tokenize(job_id, _fair_to(call), request.texts), Tokens)
        size = sum(len(tokens.ids) for tokens in reply.texts)
        if size <= UNPACKED_ON_LOOP_BYTES:
            return _unpacked(reply)
        return await asyncio.to_thread(_unpacked, reply)

    async def start(self) -> None:
        """Have the child ready now rather than at the first request."""
        await self._ready_link()

    async def aclose(self) -> None:
        """Stop the child; what is under way fails as BackendUnavailable."""
        self._closed = True
        self._fail(tuple(self._pending.values()), BackendUnavailable, _CLOSING)
        if self._starting:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        self._retire()
        if self._stopping:
            await asyncio.wait(self._stopping)

    def status(self) -> EmbedderStatus:
        return EmbedderStatus(
            state=self._state(),
            pid=self._link.process.pid if self._link else None,
            pending=len(self._pending),
            starts=self._starts,
            crashes=self._crashes,
            start_s=self._start_s,
        )

    def _state(self) -> Literal["stopped", "starting", "ready", "closed"]:
        if self._closed:
            return "closed"
        if self._link:
            return "ready"
        return "starting" if self._starting else "stopped"

    async def _ask(self, question: Callable[[int], Question], kind: type[ReplyT]) -> ReplyT:
        if len(self._pending) >= self._queue_limit:
            raise Overloaded(f"{self._queue_limit} embedding requests are waiting already; try again in a moment")
        self._wake()
        job_id = next(self._ids)
        timeout = asyncio.timeout(self._wait_limit_s)
        pending = self._pending[job_id] = _Pending(timeout)
        try:
            async with timeout:
                await self._send(pending, question(job_id))
                answer = await pending.result
        except TimeoutError:
            raise self._overdue(pending) from None
        finally:
            del self._pending[job_id]
            if pending.link and pending.unanswered():
                pending.link.send(Drop(job_id))
            self._rest()
        if not isinstance(answer, kind):
            raise BackendFailed("the embedding model could not process this input")
        return answer

    async def _send(self, pending: _Pending, question: Question) -> None:
        link = await self._ready_link()
        if pending.result.done():  # the server shut down meanwhile
            return
        pending.link = link
        link.send(question)

    def _overdue(self, pending: _Pending) -> ArkwayError:
        """The error for a request whose time ran out; a child that says nothing at all is ended."""
        link, now_s = pending.link, asyncio.get_running_loop().time()
        if link and now_s - link.last_heard_s >= self._wait_limit_s:
            link.kill()
            self._gone(link)
        if pending.begun:
            return BackendTimeout(f"the embedding model stopped answering for {self._wait_limit_s:.0f} s")
        return Overloaded(f"the request waited {self._wait_limit_s:.0f} s for its turn; try again in a moment")

    async def _ready_link(self) -> Link:
        """The running child, started if need be; whoever leaves while it starts does not stop the start."""
        if self._closed:
            raise BackendUnavailable(_CLOSING)
        if self._link:
            return self._link
        start = self._begin()
        await asyncio.wait([start])
        if start.cancelled():
            raise BackendUnavailable(_CLOSING)
        return start.result()

    def _begin(self) -> asyncio.Task[Link]:
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._start())
            self._starting.add_done_callback(_noticed)
        return self._starting

    async def _start(self) -> Link:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        self._starts += 1
        try:
            self._link = await Link.start(self._threads, self._heard, self._gone)
            self._start_s = loop.time() - began_s
            self._rest()
            return self._link
        finally:
            self._starting = None

    def _heard(self, answer: Answer) -> None:
        if isinstance(answer, Ready):
            return
        pending = self._pending.get(answer.id)
        if pending is None or pending.result.done():
            return
        if isinstance(answer, Vectors | Tokens | Failed):
            pending.result.set_result(answer)
        else:
            pending.begun = True
            pending.timeout.reschedule(asyncio.get_running_loop().time() + self._wait_limit_s)

    def _gone(self, link: Link) -> None:
        if link.stopping:
            return
        self._crashes += 1
        self._bury(link)
        if self._link is link:
            self._link = None
        lost = tuple(pending for pending in self._pending.values() if pending.link is link)
        self._fail(lost, BackendFailed, "the embedding process ended while it worked on this request; send it again")
        lived_s = asyncio.get_running_loop().time() - link.ready_at_s
        if link.ready_at_s and lived_s >= SETTLED_S and not self._closed:
            self._begin()

    def adjust(self, *, idle_stop_s: float) -> None:
        """When it is idle for this long the child is stopped; an idle time under way begins anew."""
        self._idle_stop_s = idle_stop_s
        if self._idle_timer is not None:
            self._rest()

    def _fail(self, lost: tuple[_Pending, ...], kind: type[ArkwayError], message: str) -> None:
        for pending in lost:
            if not pending.result.done():
                pending.result.set_exception(kind(message))
                pending.result.exception()  # its caller may be leaving just now

    def _wake(self) -> None:
        if self._idle_timer:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _rest(self) -> None:
        """Count down to the idle stop, unless somebody waits."""
        self._wake()
        if self._link and not self._pending:
            self._idle_timer = asyncio.get_running_loop().call_later(self._idle_stop_s, self._retire)

    def _retire(self) -> None:
        """Stop the child in the background; a request that comes meanwhile starts a new one."""
        self._wake()
        link, self._link = self._link, None
        if link:
            self._bury(link)

    def _bury(self, link: Link) -> None:
        link.stopping = True
        task = asyncio.get_running_loop().create_task(link.stop())
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)


def _noticed(task: asyncio.Task[Link]) -> None:
    """Take note of a failed start that nobody waits for any more."""
    if not task.cancelled():
        task.exception()


def _unpacked(reply: Tokens) -> tuple[Tokenized, ...]:
    return tuple(unpacked(tokens) for tokens in reply.texts)


def _fair_to(call: Call) -> str:
    return call.key_id or call.account or call.request_id


def _check_dimensions(request: EmbedRequest, deployment: Deployment) -> None:
    if request.dimensions not in (None, DIMENSIONS):
        raise InvalidField(
            f"`{deployment.card.name}` makes vectors of {DIMENSIONS} dimensions and no other length; "
            f"leave `dimensions` out or set it to {DIMENSIONS}",
            "dimensions",
        )


def _check_texts(texts: tuple[str, ...]) -> None:
    for index, text in enumerate(texts):
        if not text.strip():
            raise InvalidField("the text is empty or only white space; send at least one character", f"input[{index}]")
    _check_unicode(texts, "input")


def _check_unicode(texts: tuple[str, ...], field: str) -> None:
    for index, text in enumerate(texts):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidField(
                f"the text has half of a surrogate pair at character {error.start}, which is not valid Unicode",
                f"{field}[{index}]",
            ) from None
