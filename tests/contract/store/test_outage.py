"""The database goes away under load: keys go on, usage waits in the journal, and nothing is lost or counted twice."""

from __future__ import annotations

import signal
import threading
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
from tests.tools.waiting import PATIENCE_S, ends, until

NOW_S = 1_750_000_000


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

    def go_on(self, calls: int = 100) -> None:
        """Until so many more have been made."""
        wanted = len(self.made) + calls
        until(lambda: len(self.made) >= wanted)

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


def test_usage_waits_in_the_journal_and_is_written_once(tmp_path: Path, own_postgres: Postgres) -> None:
    with PostgresStore(own_postgres.database()) as store:
        journal = Journal(tmp_path / "journal", segment_bytes=20_000)
        drain = Drain(journal, UsageTable(store), store)
        load = Load(journal)
        load.go_on(300)
        own_postgres.stop()
        load.go_on(1000)
        lag = drain.lag
        own_postgres.start()
        until(lambda: drain.lag <= lag / 10)
        made = load.stop()
        drain.flush_sync(PATIENCE_S)
        assert len(attempt_ids(store)) == len(made) > 1300
        assert set(attempt_ids(store)) == made
        journal.close(drain.close(PATIENCE_S))
        assert segment_numbers(journal.directory) == []


def test_power_cuts_of_the_server_lose_nothing_and_double_nothing(tmp_path: Path, durable_postgres: Postgres) -> None:
    with PostgresStore(durable_postgres.database()) as store:
        journal = Journal(tmp_path / "journal", segment_bytes=20_000)
        drain = Drain(journal, UsageTable(store), store)
        load = Load(journal)
        for _ in range(5):
            load.go_on()
            durable_postgres.stop(signal.SIGQUIT)
            durable_postgres.start()
        made = load.stop()
        drain.flush_sync(PATIENCE_S)
        assert sorted(attempt_ids(store)) == sorted(made)
        journal.close(drain.close(PATIENCE_S))


def test_a_stop_during_an_outage_keeps_the_journal_for_the_next_start(tmp_path: Path, own_postgres: Postgres) -> None:
    url = own_postgres.database()
    with PostgresStore(url) as store:
        journal = Journal(tmp_path / "journal")
        drain = Drain(journal, UsageTable(store), store)
        own_postgres.stop()
        load = Load(journal)
        load.go_on()
        made = load.stop()
        journal.close(drain.close(timeout_s=0.5))
    assert segment_numbers(tmp_path / "journal")
    own_postgres.start()
    with PostgresStore(url) as store:
        journal = Journal(tmp_path / "journal")
        drain = Drain(journal, UsageTable(store), store)
        journal.close(drain.close(PATIENCE_S))
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
        load.go_on()
        load.stop()
        drained = ends(lambda: drain.close(timeout_s=0.5))
        journal.close(drained)
        assert drained is None
        ends(store.close)
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
        ticks: list[None] = []
        store.every_poll(lambda: ticks.append(None))
        while len(ticks) < 10 or not store.trouble:
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
