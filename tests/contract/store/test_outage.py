"""The database goes away under load: keys go on, usage waits in the journal, and nothing is lost or counted twice."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa

from arkway.admin.keys import Keys
from arkway.core.chat import Usage
from arkway.core.errors import StoreUnavailable
from arkway.ports import Attempt, Settlement
from arkway.stores import schema
from arkway.stores.belonging import pepper_of
from arkway.stores.directory import CachedDirectory
from arkway.stores.drain import Drain
from arkway.stores.journal import Journal
from arkway.stores.postgres import PostgresStore
from arkway.stores.segment import segment_numbers
from arkway.stores.tables import KeyTable
from arkway.stores.usage import UsageTable
from tests.tools.servers import Postgres, new_postgres

NOW_S = 1_750_000_000
BACK_WITHIN_S = 10.0


@pytest.fixture
def durable_postgres() -> Iterator[Postgres]:
    """A server of the test's own that means it: what it commits is on the disk."""
    yield from new_postgres(fsync="on")


class Load:
    """Settles calls through a journal, from a thread, until it is stopped; ``made`` are their ids."""

    def __init__(self, journal: Journal) -> None:
        self.made: list[str] = []
        self._journal = journal
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> set[str]:
        self._stopped.set()
        self._thread.join()
        return set(self.made)

    def _run(self) -> None:
        for number in count():
            if self._stopped.wait(0.001):
                return
            attempt = Attempt(f"a{number}", f"r{number}", "default", "default", "k", "ep-1", "m", "v3", "chat", number)
            self._journal.reserve(attempt)
            self._journal.settle(attempt.id, Settlement("done", Usage(1, number), number + 1))
            self.made.append(attempt.id)


def attempt_ids(store: PostgresStore) -> list[str]:
    query = sa.select(schema.usage.c.attempt_id)
    return store.run_sync(lambda connection: list(connection.scalars(query)), read=True)


def outage(server: Postgres, away_s: float, how: signal.Signals = signal.SIGINT) -> None:
    server.stop(how)
    time.sleep(away_s)
    server.start()


def test_usage_waits_in_the_journal_and_is_written_once(tmp_path: Path, own_postgres: Postgres) -> None:
    with PostgresStore(own_postgres.database()) as store:
        journal = Journal(tmp_path / "journal", segment_bytes=20_000)
        drain = Drain(journal, UsageTable(store), store)
        load = Load(journal)
        time.sleep(0.3)
        outage(own_postgres, 3.0)
        lag, began_s = drain.lag, time.monotonic()
        while drain.lag > lag / 10:
            assert time.monotonic() - began_s < BACK_WITHIN_S
            time.sleep(0.01)
        made = load.stop()
        drain.flush_sync()
        assert len(attempt_ids(store)) == len(made) > 1000
        assert set(attempt_ids(store)) == made
        journal.close(drain.close())
        assert segment_numbers(journal.directory) == []


def test_power_cuts_of_the_server_lose_nothing_and_double_nothing(tmp_path: Path, durable_postgres: Postgres) -> None:
    with PostgresStore(durable_postgres.database()) as store:
        journal = Journal(tmp_path / "journal", segment_bytes=20_000)
        drain = Drain(journal, UsageTable(store), store)
        load = Load(journal)
        for _ in range(5):
            time.sleep(0.3)
            outage(durable_postgres, 0.0, signal.SIGQUIT)
        made = load.stop()
        drain.flush_sync(BACK_WITHIN_S)
        assert sorted(attempt_ids(store)) == sorted(made)
        journal.close(drain.close())


def test_a_stop_during_an_outage_keeps_the_journal_for_the_next_start(tmp_path: Path, own_postgres: Postgres) -> None:
    url = own_postgres.database()
    with PostgresStore(url) as store:
        journal = Journal(tmp_path / "journal")
        drain = Drain(journal, UsageTable(store), store)
        own_postgres.stop()
        load = Load(journal)
        time.sleep(0.2)
        made = load.stop()
        journal.close(drain.close(timeout_s=0.5))
    assert segment_numbers(tmp_path / "journal")
    own_postgres.start()
    with PostgresStore(url) as store:
        journal = Journal(tmp_path / "journal")
        drain = Drain(journal, UsageTable(store), store)
        journal.close(drain.close())
        assert sorted(attempt_ids(store)) == sorted(made)
    assert segment_numbers(tmp_path / "journal") == []


def test_a_server_that_answers_nothing_does_not_hold_up_the_stop_of_a_drain(
    tmp_path: Path, own_postgres: Postgres
) -> None:
    store = PostgresStore(own_postgres.database())
    journal = Journal(tmp_path / "journal")
    drain = Drain(journal, UsageTable(store), store)
    own_postgres.freeze()
    try:
        load = Load(journal)
        time.sleep(0.3)
        load.stop()
        began_s = time.monotonic()
        drained = drain.close(timeout_s=0.5)
        journal.close(drained)
        assert drained is None
        assert time.monotonic() - began_s < 3
        store.close()
    finally:
        own_postgres.thaw()
    assert segment_numbers(tmp_path / "journal")


def test_known_keys_go_on_and_a_revocation_has_to_wait(tmp_path: Path, own_postgres: Postgres) -> None:
    with PostgresStore(own_postgres.database(), poll_s=0.05) as store:
        pepper = pepper_of(tmp_path, store)
        directory = CachedDirectory(store, pepper, used_every_polls=1)
        keys = Keys(KeyTable(store), pepper.digest)
        key, secret = keys.create("one", NOW_S)
        own_postgres.stop()
        ended_s = time.monotonic() + 1.5
        while time.monotonic() < ended_s:
            assert directory.caller(secret, NOW_S) is not None
            assert directory.caller(secret + "x", NOW_S) is None
        with pytest.raises(StoreUnavailable, match="cannot be reached just now"):
            keys.revoke(key.id, NOW_S)
        own_postgres.start()
        while store.trouble:
            assert directory.caller(secret, NOW_S) is not None
        assert directory.caller(secret, NOW_S) is not None
        keys.revoke(key.id, NOW_S)
        assert directory.caller(secret, NOW_S) is None
        assert keys.list()[0].revoked_at == NOW_S
