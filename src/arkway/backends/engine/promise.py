"""Answers that are held to a JSON schema, and who is told when the engine lets go of one.

A grammar that cannot be compiled, or that fails in the middle of an answer, is only complained about on standard error;
the engine then writes freely. A complaint does not say which answer it means, so it is laid on the answers whose
schema has proved least: one at its first trial (there is one at a time), else those that have not been obeyed to the
end yet, else all. Nothing that may be free text ends as an answer.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Protocol

from arkway.backends.engine.process import fingerprint
from arkway.core.errors import BackendFailed, InvalidField, Overloaded
from arkway.core.events import Event, Finished, Progress

SCHEMAS_KEPT = 256
COMPLAINT_WAIT_S = 0.05
"""How long a complaint may be behind the frame that it belongs to."""
UNTRIED, COMPILED, OBEYED = 0, 1, 2


class Complainer(Protocol):
    """The part of a process that promises need: what it has complained of since somebody took it away."""

    complaints: list[str]


class Promises:
    """What is known of the schemas of one model, and the answers under way."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, int] = OrderedDict()
        self._open: set[Promise] = set()
        self.trial = asyncio.Lock()

    @contextmanager
    def promise(self, schema: dict[str, Any] | None, field: str) -> Iterator[Promise]:
        """Around one answer, from before it has a slot. ``field`` is where the schema came from."""
        promise = Promise(self, None if schema is None else fingerprint({"schema": schema}), field)
        try:
            yield promise
        finally:
            promise.end_trial()
            self._open.discard(promise)

    def proof(self, key: bytes) -> int:
        return self._known.get(key, UNTRIED)

    def proved(self, key: bytes, proof: int) -> None:
        self._known[key] = max(proof, self._known.pop(key, UNTRIED))
        if len(self._known) > SCHEMAS_KEPT:
            self._known.popitem(last=False)

    def distrust(self, key: bytes) -> None:
        self._known.pop(key, None)

    def begin(self, promise: Promise, process: Complainer) -> None:
        """Complaints from before the first answer are nobody's."""
        if not any(other.process is process for other in self._open):
            process.complaints.clear()
        self._open.add(promise)

    def listen(self, process: Complainer) -> None:
        """Lays what the process has complained of on the answers it may mean."""
        if not process.complaints:
            return
        complaint = process.complaints[0]
        process.complaints.clear()
        under_way = [promise for promise in self._open if promise.process is process]
        least = min((promise.proof for promise in under_way), default=UNTRIED)
        for promise in [promise for promise in under_way if promise.proof == least]:
            promise.complaint = complaint
        for promise in under_way:
            if promise.complaint:
                promise.distrust()


class Promise:
    """One answer's schema; without one nothing is watched."""

    def __init__(self, book: Promises, key: bytes | None, field: str) -> None:
        self._book = book
        self._key = key
        self._field = field
        self._in_trial = False
        self.process: Complainer | None = None
        self.complaint = ""

    @property
    def proof(self) -> int:
        return OBEYED if self._key is None else self._book.proof(self._key)

    def untried(self) -> bool:
        return self.proof == UNTRIED

    async def turn(self, limit_s: float) -> None:
        """Waits until no other schema is tried, unless this one has been. Raises Overloaded after the limit."""
        if not self.untried():
            return
        await acquired(self._book.trial, limit_s)
        self._in_trial = True
        if not self.untried():
            self.end_trial()

    def end_trial(self) -> None:
        if self._in_trial:
            self._in_trial = False
            self._book.trial.release()

    def distrust(self) -> None:
        if self._key is not None:
            self._book.distrust(self._key)

    async def kept(self, process: Complainer, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        """The events of the answer. Raises InvalidField or, once text was shown, BackendFailed on a complaint."""
        if self._key is not None:
            self.process = process
            self._book.begin(self, process)
        shown = False
        try:
            async with aclosing(events) as stream:
                async for event in stream:
                    if self._key is not None:
                        await self._check(event, shown)
                    shown = shown or not isinstance(event, Progress)
                    yield event
        except BackendFailed:
            self.distrust()
            raise

    async def _check(self, event: Event, shown: bool) -> None:
        """Waits for a complaint where one is to be expected: at the first event, the first text, and the end."""
        turning = self._in_trial or isinstance(event, Finished) or not (shown or isinstance(event, Progress))
        if turning and self.proof < OBEYED:
            await asyncio.sleep(COMPLAINT_WAIT_S)
        assert self.process is not None
        assert self._key is not None
        self._book.listen(self.process)
        if self.complaint and shown:
            raise BackendFailed("the engine lost hold of the JSON schema while it answered; simplify the schema")
        if self.complaint:
            raise InvalidField(f"the JSON schema cannot be used: {self.complaint}", self._field)
        whole = isinstance(event, Finished) and event.reason != "length"
        self._book.proved(self._key, OBEYED if whole else COMPILED)
        self.end_trial()


async def acquired(lock: asyncio.Lock | asyncio.Semaphore, limit_s: float) -> None:
    """The lock is taken. Raises Overloaded after the limit."""
    try:
        async with asyncio.timeout(limit_s):
            await lock.acquire()
    except TimeoutError:
        raise Overloaded(f"the request waited {limit_s:g} seconds for its turn; try again later", 5.0) from None
