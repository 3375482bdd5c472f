"""The line to a Valkey server: scripts go out in batches, one round trip each, and nobody who sends one has to wait."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError

from arkway.core.errors import Misconfigured

BATCH_MAX = 256


class LineBroken(Exception):
    """The server did not answer, or not in time: whether it has run the script is not known."""


class Job:
    """One script to run. ``done`` hears its answer, or LineBroken."""

    __slots__ = ("arguments", "done", "keys", "script")

    def __init__(
        self,
        script: str,
        keys: Sequence[str],
        arguments: Sequence[str | float],
        done: Callable[[Any], None],
    ) -> None:
        self.script, self.keys, self.arguments, self.done = script, keys, arguments, done


class Line:
    """Raises Misconfigured for an address that is none. ``timeout_s`` is how long one batch may take."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        try:
            self._client = redis.asyncio.Redis.from_url(
                url, retry=Retry(NoBackoff(), 0), socket_connect_timeout=timeout_s, decode_responses=True
            )
        except ValueError:
            raise Misconfigured("the setting `limits.valkey` has to be a URL such as redis://host:6379/0") from None
        self._jobs: deque[Job] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._closed = False

    def put(self, job: Job) -> None:
        """Sends it with the next batch. Never waits, never raises; after ``aclose`` the line is as good as broken."""
        if self._closed:
            job.done(LineBroken("closed"))
            return
        self._jobs.append(job)
        if self._sender is None:
            self._sender = asyncio.get_running_loop().create_task(self._send_all())

    async def ask(self, job_script: str, keys: Sequence[str], arguments: Sequence[str | float]) -> Any:
        """Runs one script and waits for its answer. Raises LineBroken."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.put(Job(job_script, keys, arguments, lambda said: None if answer.done() else answer.set_result(said)))
        said = await answer
        if isinstance(said, LineBroken):
            raise said
        return said

    async def aclose(self) -> None:
        """What was put is sent, if the server takes it."""
        if self._sender is not None:
            await asyncio.wait([self._sender], timeout=2 * self._timeout_s)
        self._closed = True
        await self._client.aclose()

    async def _send_all(self) -> None:
        try:
            while self._jobs:
                batch = [self._jobs.popleft() for _ in range(min(BATCH_MAX, len(self._jobs)))]
                for job, answer in zip(batch, await self._sent(batch), strict=True):
                    job.done(answer)
        finally:
            self._sender = None

    async def _sent(self, batch: list[Job]) -> list[Any]:
        """The answers; LineBroken in the place of each that did not come."""
        try:
            async with asyncio.timeout(self._timeout_s):
                answers = await self._run(batch)
                unknown = {
                    job.script for job, said in zip(batch, answers, strict=True) if isinstance(said, NoScriptError)
                }
                if unknown:
                    answers = await self._taught(batch, answers, unknown)
        except TimeoutError:
            return [LineBroken(f"no answer within {self._timeout_s * 1000:.0f} ms")] * len(batch)
        except Exception as error:  # whatever it is: every job has somebody who waits for its answer
            return [LineBroken(error)] * len(batch)
        return [LineBroken(said) if isinstance(said, Exception) else said for said in answers]

    async def _taught(self, batch: list[Job], answers: list[Any], unknown: set[str]) -> list[Any]:
        """A server that has been started anew knows no script: those that it missed are run again."""
        for script in unknown:
            await _awaited(self._client.script_load(script))
        missed = [index for index, said in enumerate(answers) if isinstance(said, NoScriptError)]
        for index, said in zip(missed, await self._run([batch[index] for index in missed]), strict=True):
            answers[index] = said
        return answers

    async def _run(self, batch: list[Job]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for job in batch:
            pipeline.evalsha(_digest(job.script), len(job.keys), *job.keys, *job.arguments)
        return list(await pipeline.execute(raise_on_error=False))


_DIGESTS: dict[str, str] = {}


def _digest(script: str) -> str:
    found = _DIGESTS.get(script)
    if found is None:
        found = _DIGESTS[script] = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
    return found


async def _awaited(answer: Awaitable[Any] | Any) -> Any:
    """The client's types leave open whether it waits."""
    return await answer
