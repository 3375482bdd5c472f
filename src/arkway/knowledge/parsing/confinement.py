"""What the child process takes away from itself before it reads a stranger's file."""

from __future__ import annotations

import ctypes
import resource
import signal
import sys
from typing import Final

from arkway.knowledge.parsing.landlock import leave_files
from arkway.knowledge.parsing.parsed import Limits

_NEW_USERS: Final = 0x10000000  # CLONE_NEWUSER and CLONE_NEWNET of linux/sched.h
_NEW_NETWORK: Final = 0x40000000
_NO_NEW_PRIVILEGES: Final = 38  # PR_SET_NO_NEW_PRIVS of linux/prctl.h
_OPEN_FILES: Final = 64
_GRACE_S: Final = 5
_DEPTH: Final = 10_000


def confine(limits: Limits) -> bool:
    """Limit memory, processor time and life, forbid files and processes. Whether the network could be taken away too:
    that needs Linux and a kernel that lets this user have namespaces. Processes are forbidden to all users but root;
    reading files that are no libraries, and starting programs, where the kernel has Landlock."""
    isolated = _leave_network()
    _keep_privileges_down()
    leave_files()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, limits.wall_s + _GRACE_S)  # for when the parent is gone
    _limit(resource.RLIMIT_CPU, limits.cpu_s, limits.cpu_s + 1)  # the first ends it with SIGXCPU, the second by force
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _limit(resource.RLIMIT_NPROC, 0)
    _limit(resource.RLIMIT_AS, limits.memory_bytes)
    sys.setrecursionlimit(_DEPTH)
    return isolated


def _limit(which: int, soft: int, hard: int | None = None) -> None:
    """Both limits, as far as the ones that are set allow it."""
    top = resource.getrlimit(which)[1]
    hard = soft if hard is None else hard
    allowed = hard if top == resource.RLIM_INFINITY else min(hard, top)
    resource.setrlimit(which, (min(soft, allowed), allowed))


def _leave_network() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    return any(libc.unshare(flags) == 0 for flags in (_NEW_NETWORK, _NEW_USERS | _NEW_NETWORK))


def _keep_privileges_down() -> None:
    """No program that this process might start gets more rights than it has, whatever is set on its file."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
