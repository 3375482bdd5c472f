"""Parsing from the server's side: a child process per file, without which a bad file would be the server's problem."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Final

import msgspec

from arkway.core.errors import BackendUnavailable, Misconfigured
from arkway.core.knowledge import Chunk
from arkway.knowledge.parsing.frames import (
    LENGTH,
    Answer,
    Question,
    Success,
    Unequipped,
    answer_from_bytes,
    answer_limit_bytes,
    framed,
)
from arkway.knowledge.parsing.kinds import check_size, kind_of
from arkway.knowledge.parsing.parsed import Limits, Parsed, Unreadable, shown_mib

COMMAND: Final = (sys.executable, "-P", "-m", "arkway.knowledge.parsing")
_INHERITED: Final = ("PYTHONPATH", "LD_LIBRARY_PATH")
_LOOK_S: Final = 0.1
_WRITE_BYTES: Final = 64 * 1024
_READ_BYTES: Final = 256 * 1024
_MESSAGE_CHARS: Final = 1_000
_MEMORY_SIGNALS: Final = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGTRAP, signal.SIGILL)


class Cancelled(Exception):
    """The caller has called the parsing off."""


def parse_in_child(
    file_name: str,
    body: bytes,
    limits: Limits | None = None,
    *,
    cancelled: threading.Event | None = None,
    command: Sequence[str] = COMMAND,
) -> Parsed:
    """The file as Markdown, read in a process of its own that has no environment, little memory and little time.

    Blocks, up to ``limits.wall_s`` seconds: meant for a thread. Setting ``cancelled`` ends it within a fraction of a
    second. Raises Unreadable for a file that cannot be taken in, Cancelled, BackendUnavailable if no process can be
    started, Misconfigured without the extra ``knowledge``. The process has ended when this returns or raises.
    """
    limits = limits or Limits()
    return _asked(Question(file_name[-1024:], len(body), limits), body, cancelled, command).parsed


def chunks_in_child(
    file_name: str,
    body: bytes,
    document_id: str,
    limits: Limits | None = None,
    *,
    chunk_limit: int,
    cancelled: threading.Event | None = None,
    command: Sequence[str] = COMMAND,
) -> tuple[Parsed, list[Chunk]]:
    """As ``parse_in_child``, and the document's chunks as ``chunking.chunk`` makes them: cutting up what strangers
    wrote is kept to the same limits, and costs the server's process nothing. The chunks have the text, and stand for
    the Markdown and the outline, which are left empty."""
    limits = limits or Limits()
    question = Question(file_name[-1024:], len(body), limits, document_id, chunk_limit)
    answer = _asked(question, body, cancelled, command)
    return answer.parsed, answer.chunks


def _asked(question: Question, body: bytes, cancelled: threading.Event | None, command: Sequence[str]) -> Success:
    limits = question.limits
    kind_of(question.file_name)
    check_size(len(body), limits)
    with _started(command) as process:
        talk = _Talk(process, (memoryview(framed(question)), memoryview(body)), answer_limit_bytes(limits))
        content = talk.answer(time.monotonic() + limits.wall_s, cancelled or threading.Event())
        if content is None:
            raise _timed_out(limits)
        return _success(content, process, limits)


@contextlib.contextmanager
def _started(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """The child in a session of its own, which ends here with everything it has started."""
    try:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module, nothing from outside
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(os.environ),
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise BackendUnavailable(f"no process could be started to read the file: {error.strerror}") from error
    try:
        yield process
    finally:
        _end(process)


def child_environment(parent: Mapping[str, str]) -> dict[str, str]:
    """Nothing but where Python finds its modules, where that is said in the environment at all."""
    return {name: parent[name] for name in _INHERITED if name in parent}


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


class _Talk:
    """Writing the question and reading the answer, both as the child is ready for them."""

    def __init__(self, process: subprocess.Popen[bytes], question: Sequence[memoryview], limit_bytes: int) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin: IO[bytes] = process.stdin
        self._stdout: IO[bytes] = process.stdout
        self._unsent = list(question)
        self._heard = bytearray()
        self._limit_bytes = limit_bytes + LENGTH.size

    def answer(self, deadline_s: float, cancelled: threading.Event) -> bytearray | None:
        """What the child has said before it closed its output; None when it was not done by the deadline."""
        os.set_blocking(self._stdin.fileno(), False)
        os.set_blocking(self._stdout.fileno(), False)
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdin, selectors.EVENT_WRITE)
            selector.register(self._stdout, selectors.EVENT_READ)
            while not self._turn(selector):
                if cancelled.is_set():
                    raise Cancelled
                if time.monotonic() > deadline_s:
                    return None
        return self._heard

    def _turn(self, selector: selectors.BaseSelector) -> bool:
        """Wait a moment for what can be done, and do it. Whether the child has said all it will say."""
        done = False
        for key, _ in selector.select(_LOOK_S):
            if key.fileobj is self._stdin:
                if not self._write():
                    selector.unregister(self._stdin)
                    with contextlib.suppress(OSError):
                        self._stdin.close()
            else:
                done = not self._read()
        return done

    def _write(self) -> bool:
        """Whether there is more to write. A child that has stopped reading says why on its output, or by its end."""
        try:
            sent = os.write(self._stdin.fileno(), self._unsent[0][:_WRITE_BYTES])
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._unsent[0] = self._unsent[0][sent:]
        if not self._unsent[0]:
            self._unsent.pop(0)
        return bool(self._unsent)

    def _read(self) -> bool:
        """Whether there may be more to read. One that says too much is not listened to any further."""
        try:
            piece = os.read(self._stdout.fileno(), _READ_BYTES)
        except BlockingIOError:
            return True
        self._heard += piece
        return bool(piece) and len(self._heard) <= self._limit_bytes


def _success(content: bytearray, process: subprocess.Popen[bytes], limits: Limits) -> Success:
    answer = _decoded(content)
    if len(content) > answer_limit_bytes(limits):
        process.kill()  # it may still be talking
    if answer is None:
        raise _died(process, limits)
    if isinstance(answer, Success):
        return answer
    if isinstance(answer, Unequipped):
        raise Misconfigured("reading documents needs the extra `knowledge`: run `pip install 'arkway[knowledge]'`")
    raise Unreadable(answer.reason, answer.message[:_MESSAGE_CHARS], answer.detail[:_MESSAGE_CHARS])


def _decoded(content: bytearray) -> Answer | None:
    """The answer, if it is whole and is one."""
    if len(content) < LENGTH.size or LENGTH.unpack_from(content)[0] != len(content) - LENGTH.size:
        return None
    try:
        return answer_from_bytes(memoryview(content)[LENGTH.size :])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _died(process: subprocess.Popen[bytes], limits: Limits) -> Unreadable:
    """Why there is no answer, by the way the child has ended."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_LOOK_S * 50)
    status = process.returncode
    detail = f"the child ended with the status {status}"
    if status in (-signal.SIGXCPU, -signal.SIGALRM):
        return _timed_out(limits, detail)
    if status is not None and -status in _MEMORY_SIGNALS:
        memory = shown_mib(limits.memory_bytes)
        message = f"the file is damaged, or takes more than {memory} of memory to read; save it again or split it"
        return Unreadable("memory", message, detail)
    return Unreadable("killed", "the file could not be read: its parser has ended; save it again or split it", detail)


def _timed_out(limits: Limits, detail: str = "") -> Unreadable:
    return Unreadable(
        "time",
        f"the file takes too long to read, more than {limits.cpu_s} s of processor time or {limits.wall_s:g} s in all; "
        "split it into several files",
        detail,
    )
