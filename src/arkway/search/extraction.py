"""The child process that reads strangers' pages: ``python -m arkway.search.extraction``.

One JSON line in for each page, one JSON line out, until standard input ends. It gives up the network, files, memory
and time before it looks at anything. `trafilatura`, of the extra ``search``, is imported here and nowhere else.
"""

from __future__ import annotations

import ctypes
import resource
import signal
import sys
from typing import Any

import msgspec

from arkway.search.cleaning import TEXT_MAX_CHARS, lines
from arkway.search.page_head import Head, decoded_page, head_of

MIB = 1 << 20
MEMORY_BYTES = 768 * MIB
CPU_S = 15
WALL_S = 60
OPEN_FILES = 64

_NEW_USERS = 0x10000000  # CLONE_NEWUSER and CLONE_NEWNET of linux/sched.h
_NEW_NETWORK = 0x40000000
_NO_NEW_PRIVILEGES = 38  # PR_SET_NO_NEW_PRIVS of linux/prctl.h


class Task(msgspec.Struct, frozen=True):
    """A page as it came; ``url`` is where it lies and ``number`` what its answer is told by."""

    number: int
    url: str
    content_type: str
    body: bytes


class Extract(msgspec.Struct, frozen=True):
    """What was in it."""

    number: int
    head: Head
    text: str = ""


def main() -> None:
    """Reads pages until there are no more."""
    confine()
    import trafilatura

    for line in sys.stdin.buffer:
        task = msgspec.json.decode(line, type=Task)
        sys.stdout.buffer.write(msgspec.json.encode(extracted(task, trafilatura)) + b"\n")
        sys.stdout.buffer.flush()


def extracted(task: Task, trafilatura: Any) -> Extract:
    """The page's head and main text; one without a main text has none."""
    html = decoded_page(task.body, task.content_type)
    try:
        text = trafilatura.extract(html, include_comments=False, fast=True)
    except Exception:  # whatever its parsers make of a stranger's page: the next one may be better
        text = ""
    return Extract(task.number, head_of(html, task.url), lines(text or "", TEXT_MAX_CHARS))


def confine() -> None:
    """No network where the kernel allows that, no files, little memory, little time."""
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None)
        libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        if libc.unshare(_NEW_NETWORK) != 0:
            libc.unshare(_NEW_USERS | _NEW_NETWORK)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, WALL_S)
    limits = (
        (resource.RLIMIT_CPU, CPU_S), (resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, OPEN_FILES),
    )  # fmt: skip
    for which, wanted in limits:
        hard = resource.getrlimit(which)[1]
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(which, (allowed, allowed))


if __name__ == "__main__":
    main()
