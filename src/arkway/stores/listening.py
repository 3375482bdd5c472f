"""Hearing of other processes' changes: a connection of its own that listens, and polls where it cannot hear."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import select
import threading
import time
from collections.abc import Callable

import psycopg
import sqlalchemy as sa

from arkway.stores.postgres_link import Link, driver_of, said

CHANNEL = "arkway_changes"
PROBE_S = 2.0
FIRST_RETRY_S = 0.1
LONGEST_RETRY_S = 1.0
# A safety net under the notifications.
RELOAD_S = 60.0
DEAF = "the database's notifications do not come through (does a pooler stand before it? It has to be in session mode)"

log = logging.getLogger("arkway.store")


class Listener:
    """A thread that calls ``reload`` with a connection of its own whenever another process has told of a change.

    ``name`` is what this process tells its own changes under: it takes those in by itself. After every interruption
    ``reload`` is called at once, and where notifications do not come through (as behind a pooler that shares
    connections between transactions), every ``poll_s``.
    """

    def __init__(self, link: Link, reload: Callable[[sa.Connection], None], poll_s: float) -> None:
        self.name = secrets.token_hex(8)
        self.hears = False
        self._link, self._reload, self._poll_s = link, reload, poll_s
        self._stale = False
        self._closing = False
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._run, name="arkway-listen", daemon=True)
        self._thread.start()

    def request(self) -> None:
        """Have ``reload`` called soon, from any thread."""
        self._stale = True
        self._rouse()

    def close(self, timeout_s: float = 2.0) -> None:
        """End the thread; one that waits for a server that says nothing is left behind."""
        self._closing = True
        self._rouse()
        self._thread.join(timeout_s)
        if not self._thread.is_alive():
            os.close(self._waker)
            os.close(self._wake)

    def _rouse(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._waker, b"x")

    # The thread

    def _run(self) -> None:
        engine, retry_s = self._link.engine(), FIRST_RETRY_S
        while not self._closing:
            try:
                with engine.connect() as connection:
                    retry_s = FIRST_RETRY_S
                    self._listen_until_it_fails(connection)
            except Exception as error:
                level = logging.WARNING if retry_s == FIRST_RETRY_S else logging.DEBUG
                log.log(level, "changes by other processes are not heard, next try in %g s: %s", retry_s, said(error))
            self.hears = False
            self._sleep(retry_s)
            retry_s = min(2 * retry_s, LONGEST_RETRY_S)
        engine.dispose()

    def _listen_until_it_fails(self, connection: sa.Connection) -> None:
        try:
            self._listen(connection)
        except BaseException:
            connection.invalidate()
            raise

    def _listen(self, connection: sa.Connection) -> None:
        driver = driver_of(connection)
        driver.execute(f"LISTEN {CHANNEL}".encode())
        driver.commit()
        self.hears = self._probe(driver)
        if not self.hears:
            log.warning("%s; its tables are read every %g s instead", DEAF, self._poll_s)
        self._stale = True
        reload_at = 0.0
        while not self._closing:
            if self._stale or time.monotonic() >= reload_at:
                self._stale = False
                self._reload(connection)
                reload_at = time.monotonic() + (RELOAD_S if self.hears else self._poll_s)
            self._hear(driver)
            if not self._stale:
                self._wait(driver, max(0.0, reload_at - time.monotonic()))

    def _probe(self, driver: psycopg.Connection) -> bool:
        """Does a notification of our own come back?"""
        driver.execute(b"SELECT pg_notify(%s, %s)", (CHANNEL, self.name))
        driver.commit()
        return any(note.payload == self.name for note in driver.notifies(timeout=PROBE_S, stop_after=1))

    def _wait(self, driver: psycopg.Connection, timeout_s: float) -> None:
        """Until the server has something to say, or somebody rouses us."""
        ready, _, _ = select.select([driver.fileno(), self._wake], [], [], timeout_s)
        if self._wake in ready:
            os.read(self._wake, 64)

    def _hear(self, driver: psycopg.Connection) -> None:
        """Take in what has been told, by others than ourselves."""
        told = {note.payload for note in driver.notifies(timeout=0)}
        self._stale = self._stale or bool(told - {self.name})

    def _sleep(self, seconds: float) -> None:
        if not self._closing and select.select([self._wake], [], [], seconds)[0]:
            os.read(self._wake, 64)
