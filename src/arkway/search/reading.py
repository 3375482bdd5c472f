"""Pages of search results, fetched as callers' URLs are and read in a child process of their own."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import msgspec

from arkway.core.errors import ArkwayError, BackendUnavailable, Misconfigured
from arkway.ports import Fetcher
from arkway.search.extraction import Extract, Task
from arkway.search.web_search import Read

ACCEPTED = ("text/html", "application/xhtml+xml")
PAGE_MAX_BYTES = 2_097_152
CHILDREN_MAX = 4
"""Child processes at a time; who comes beyond waits, within its own time."""
LINE_MAX_BYTES = 1 << 20
COMMAND = (sys.executable, "-P", "-m", "arkway.search.extraction")

log = logging.getLogger("arkway.search")

_INHERITED = ("PYTHONPATH", "LD_LIBRARY_PATH")


class PageReading:
    """Implements `arkway.search.web_search.Reading`."""

    def __init__(self, fetcher: Fetcher, *, max_bytes: int = PAGE_MAX_BYTES, command: Sequence[str] = COMMAND) -> None:
        self._fetcher = fetcher
        self._max_bytes = max_bytes
        self._command = command
        self._turns = asyncio.Semaphore(CHILDREN_MAX)

    async def read(self, urls: list[str], timeout_s: float) -> Mapping[str, Read]:
        """What could be read in time. Raises BackendUnavailable where no process can be started."""
        read: dict[str, Read] = {}
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._turns, _child(self._command) as child:
                sending = asyncio.ensure_future(self._send(child, urls, timeout_s))
                answers = asyncio.ensure_future(_collect(child, urls, read))
                try:
                    # A child that is done before it has everything is done.
                    await asyncio.wait([sending, answers], return_when=asyncio.FIRST_COMPLETED)
                    await answers
                finally:
                    sending.cancel()
                    answers.cancel()
                    await asyncio.wait([sending, answers])
        return read

    async def _send(self, child: asyncio.subprocess.Process, urls: list[str], timeout_s: float) -> None:
        """Every page as soon as it is here, then the end."""
        stdin = child.stdin
        assert stdin is not None
        await asyncio.gather(*(self._page(stdin, number, url, timeout_s) for number, url in enumerate(urls)))
        with suppress(OSError):
            stdin.close()

    async def _page(self, stdin: asyncio.StreamWriter, number: int, url: str, timeout_s: float) -> None:
        """A page that cannot be had is one page less; a child that is gone takes no more."""
        try:
            got = await self._fetcher.fetch(url, max_bytes=self._max_bytes, timeout_s=timeout_s, accept=ACCEPTED)
            stdin.write(msgspec.json.encode(Task(number, got.url, got.content_type, got.body)) + b"\n")
            await stdin.drain()
        except (ArkwayError, OSError, RuntimeError):  # the last is uvloop's word for a pipe that is closed
            pass
        except Exception:
            log.exception("internal error in the reading of a page")


def require_extra() -> None:
    """Raises Misconfigured where what reads pages is not installed."""
    if importlib.util.find_spec("trafilatura") is None:
        raise Misconfigured("reading pages needs the extra `search`: run `pip install 'arkway[search]'`")


async def _collect(child: asyncio.subprocess.Process, urls: list[str], read: dict[str, Read]) -> None:
    """Takes answers until the child says no more, or nothing sensible."""
    assert child.stdout is not None
    with suppress(ValueError, msgspec.MsgspecError):
        async for line in child.stdout:
            got = msgspec.json.decode(line, type=Extract)
            if 0 <= got.number < len(urls):
                read[urls[got.number]] = Read(got.head, got.text)


@asynccontextmanager
async def _child(command: Sequence[str]) -> AsyncGenerator[asyncio.subprocess.Process, None]:
    """In a session of its own that ends with the block, whatever it was at."""
    try:
        child = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={name: os.environ[name] for name in _INHERITED if name in os.environ},
            cwd="/",
            start_new_session=True,
            limit=LINE_MAX_BYTES,
        )
    except OSError:
        raise BackendUnavailable("no process could be started to read pages") from None
    try:
        yield child
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        # What it still had to say: a pipe that nobody reads is never done, and nor is a process with such a pipe.
        if child.stdout is not None:
            await child.stdout.read()
        await child.wait()
