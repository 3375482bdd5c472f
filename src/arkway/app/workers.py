"""Several processes of one server on one listening socket, and the one that watches over them.

The watcher binds the sockets, forks the processes and serves nothing itself. A process that dies is started again, at
first at once; connections that wait are taken by the others. SIGTERM and SIGINT end them all, each after the calls it
has under way; when the watcher dies, they end as well.
"""

from __future__ import annotations

import gc
import logging
import os
import secrets
import select
import signal
import sys
import time
from collections.abc import Callable

import msgspec

TICK_S = 0.1
LIVED_S = 10.0
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 30.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)

log = logging.getLogger("arkway.workers")


class Seat(msgspec.Struct, frozen=True):
    """Which of how many processes; ``lifeline`` is a descriptor at its end when the watcher is gone (-1: no watcher).

    ``report`` is where to write when ready; ``meeting`` names where the processes ask each other (empty: there is one).
    """

    number: int
    count: int
    lifeline: int = -1
    report: int = -1
    meeting: str = ""

    def ready(self, announcement: str) -> None:
        """Tell the watcher, which passes the first process's announcement on when all are ready."""
        text = msgspec.json.encode([self.number, announcement]) + b"\n"
        while text:
            text = text[os.write(self.report, text) :]


LONE = Seat(1, 1)


class _Place:
    """One seat as the watcher sees it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid = 0
        self.ready = False
        self.started_s = 0.0
        self.start_at_s = 0.0
        self.failures = 0


class Workers:
    """Runs ``work`` in ``count`` processes.

    ``announce`` gets the first process's announcement when all of them are ready. ``patience_s``: how long a stop waits
    before it kills.
    """

    def __init__(
        self, count: int, work: Callable[[Seat], None], *, announce: Callable[[str], None], patience_s: float
    ) -> None:
        self._count, self._work, self._announce, self._patience_s = count, work, announce, patience_s
        self._places = [_Place(number) for number in range(1, count + 1)]
        self._announcement = ""
        self._announced = self._failed = False
        self._stopping_s = 0.0
        self._heard = b""
        self._meeting = secrets.token_hex(16)

    def run(self) -> bool:
        """Until a signal ends it; False when a process could not start, or did not end well."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._lifeline, self._held = os.pipe()
        self._reports, self._report = os.pipe()
        gc.freeze()  # what is loaded now stays in memory that the processes share
        while not (self._stopping_s and not self._alive()):
            self._start_due()
            caught = signal.sigtimedwait(SIGNALS, TICK_S)
            if caught is not None:
                self._handle(signal.Signals(caught.si_signo))
            self._bury()
            self._listen()
            self._hurry()
        for descriptor in (self._lifeline, self._held, self._reports, self._report):
            os.close(descriptor)
        return not self._failed

    def _alive(self) -> list[_Place]:
        return [place for place in self._places if place.pid]

    # Starting

    def _start_due(self) -> None:
        """The first process alone, so that it makes what is made once; the others when it is ready."""
        if self._stopping_s:
            return
        now_s = time.monotonic()
        for place in self._places:
            if place.number > 1 and not self._announcement:
                return
            if not place.pid and now_s >= place.start_at_s:
                self._start(place)

    def _start(self, place: _Place) -> None:
        place.started_s, place.ready = time.monotonic(), False
        sys.stdout.flush()
        sys.stderr.flush()
        place.pid = os.fork()
        if place.pid == 0:
            self._serve(Seat(place.number, self._count, self._lifeline, self._report, self._meeting))

    def _serve(self, seat: Seat) -> None:
        """The new process, which never returns. In a group of its own: a Ctrl-C is for the watcher to pass on."""
        status = 1
        try:
            os.setpgid(0, 0)
            os.close(self._held)
            os.close(self._reports)
            # Until the server listens to it; it reads its settings after that anyway.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            self._work(seat)
            status = 0
        except SystemExit as ending:
            status = ending.code if isinstance(ending.code, int) else 1
        except BaseException:
            log.exception("a server process failed")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    # Watching

    def _handle(self, caught: signal.Signals) -> None:
        if caught == signal.SIGCHLD:
            return
        if caught in (signal.SIGTERM, signal.SIGINT):
            # Two of them: a process that is stopping cuts its calls at an interrupt.
            passed = signal.SIGINT if self._stopping_s and caught == signal.SIGINT else signal.SIGTERM
            self._stopping_s = self._stopping_s or time.monotonic()
            self._send(passed)
        else:
            self._send(caught)

    def _send(self, passed: signal.Signals) -> None:
        for place in self._alive():
            os.kill(place.pid, passed)

    def _bury(self) -> None:
        for place in self._alive():
            pid, status = os.waitpid(place.pid, os.WNOHANG)
            if pid:
                place.pid = 0
                self._ended(place, os.waitstatus_to_exitcode(status))

    def _ended(self, place: _Place, status: int) -> None:
        if self._stopping_s:
            self._failed = self._failed or status not in (0, -signal.SIGTERM)
            return
        if not self._announced:
            self._failed = True
            self._handle(signal.SIGTERM)
            return
        lived_s = time.monotonic() - place.started_s
        place.failures = 0 if lived_s >= LIVED_S else place.failures + 1
        wait_s = min(FIRST_RETRY_S * 2 ** (place.failures - 2), LONGEST_RETRY_S) if place.failures > 1 else 0.0
        place.start_at_s = time.monotonic() + wait_s
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        log.error("server process %d ended %s; it starts again in %g seconds", place.number, how, wait_s)

    def _listen(self) -> None:
        while select.select([self._reports], [], [], 0)[0]:
            self._heard += os.read(self._reports, 1 << 16)
        *lines, self._heard = self._heard.split(b"\n")
        for line in lines:
            number, announcement = msgspec.json.decode(line, type=tuple[int, str])
            self._places[number - 1].ready = True
            self._announcement = self._announcement or announcement
        if not self._announced and all(place.ready for place in self._places):
            self._announced = True
            self._announce(self._announcement)

    def _hurry(self) -> None:
        if self._stopping_s and time.monotonic() - self._stopping_s > self._patience_s:
            self._failed = True
            self._send(signal.SIGKILL)
