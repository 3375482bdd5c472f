"""A program whose every try is a fork of one process: what it imports is imported once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TRIES = """

def tries():
    import os, sys, traceback
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = act(int(line))
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)

tries()
"""


@contextmanager
def forking(program: str, *words: object) -> Iterator[Callable[[int], int]]:
    """Calls the function ``act(number) -> int`` of a program, each time in a new process; gives the exit status.

    A negative status is the signal that has ended the try. ``words`` are the program's arguments.
    """
    command = [sys.executable, "-c", program + TRIES, *map(str, words)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, told = process.stdin, process.stdout

        def tried(number: int) -> int:
            asked.write(f"{number}\n")
            asked.flush()
            return int(told.readline())

        try:
            yield tried
        finally:
            asked.close()
