"""A process that is killed before its n-th step on the file system."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator

# What the interpreter tells its auditors before it does it.
STEPS = {"open", "os.rename", "os.mkdir", "os.remove", "os.link", "os.chmod", "os.chown", "os.utime", "os.rmdir"}
STEPS_MAX = 400


def killed_at_every_step(act: Callable[[], None]) -> Iterator[int]:
    """Does ``act`` again and again in a process of its own, killed (SIGKILL) one step later each time, until it is
    through. After each death its number is yielded, and once more after the one that was through."""
    for step in range(1, STEPS_MAX):
        survived = _forked(act, step)
        yield step
        if survived:
            return
    raise AssertionError("it never came to an end")


def _forked(act: Callable[[], None], step: int) -> bool:
    child = os.fork()
    if child == 0:
        _child(act, step)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.waitstatus_to_exitcode(status) == 0
    return True


def _child(act: Callable[[], None], step: int) -> None:
    left = step

    def count(event: str, _: tuple[object, ...]) -> None:
        nonlocal left
        if event in STEPS:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    try:
        act()
    except BaseException:  # the parent must not get its tests run twice
        os._exit(1)
    os._exit(0)
