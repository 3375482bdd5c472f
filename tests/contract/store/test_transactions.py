"""What every database does: transactions, one after the other where they are told of, and changes heard elsewhere."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from arkway.core.errors import StoreUnavailable
from arkway.stores import schema
from arkway.stores.portable import insert
from arkway.stores.store import Store
from tests.tools.waiting import until


def add_account(connection: sa.Connection, name: str, created_at: int = 1) -> None:
    connection.execute(schema.accounts.insert().values(id=name, name=name, created_at=created_at))


def adding(name: str, created_at: int = 1) -> Callable[[sa.Connection], None]:
    return lambda connection: add_account(connection, name, created_at)


def account_ids(connection: sa.Connection) -> set[str]:
    return set(connection.scalars(sa.select(schema.accounts.c.id)))


def test_committed_work_is_seen_by_every_process(store: Store, another: Store) -> None:
    store.run_sync(lambda connection: add_account(connection, "a"))
    assert another.run_sync(account_ids, read=True) == {"default", "a"}


def test_work_that_fails_leaves_nothing(store: Store, another: Store) -> None:
    def broken(connection: sa.Connection) -> None:
        add_account(connection, "half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.run_sync(broken, tell=True)
    assert another.run_sync(account_ids, read=True) == {"default"}
    store.run_sync(lambda connection: add_account(connection, "whole"))
    assert store.run_sync(account_ids, read=True) == {"default", "whole"}


async def test_work_without_blocking_the_event_loop(store: Store) -> None:
    names = [f"a{number}" for number in range(20)]
    await asyncio.gather(*(store.run(adding(name), tell=True) for name in names))
    assert await store.run(account_ids, read=True) == {"default", *names}


def test_an_error_of_the_database_is_one_of_ours_and_names_no_row(store: Store) -> None:
    store.run_sync(lambda connection: add_account(connection, "secret-name"))
    with pytest.raises(StoreUnavailable) as caught:
        store.run_sync(lambda connection: add_account(connection, "secret-name"))
    assert "secret-name" not in caught.value.message


def test_a_watcher_reads_now_and_after_each_change_that_is_told_of(store: Store) -> None:
    seen: list[set[str]] = []
    store.watch(lambda connection: seen.append(account_ids(connection)))
    assert seen == [{"default"}]
    store.run_sync(lambda connection: add_account(connection, "a"), tell=True)
    assert seen[-1] == {"default", "a"}


def test_a_change_is_taken_in_by_another_process(store: Store, another: Store) -> None:
    seen: list[set[str]] = []
    another.watch(lambda connection: seen.append(account_ids(connection)))
    for name in ("a", "b", "c", "d", "e"):
        store.run_sync(adding(name), tell=True)
        until(partial(lambda name: name in seen[-1], name))


def test_a_watcher_is_never_called_twice_at_a_time_nor_with_an_older_state_last(store: Store, another: Store) -> None:
    inside, sizes = threading.Lock(), list[int]()

    def reload(connection: sa.Connection) -> None:
        assert inside.acquire(blocking=False)
        size = len(account_ids(connection))
        time.sleep(0.001)
        sizes.append(size)
        inside.release()

    store.watch(reload)
    with ThreadPoolExecutor(2) as pool:
        for place in (store, another):
            for number in range(25):
                pool.submit(place.run_sync, adding(f"{id(place)}-{number}"), tell=True)
    until(lambda: sizes[-1] == 51)
    assert sizes == sorted(sizes)


def test_work_that_is_told_of_may_read_and_then_write(store: Store, another: Store) -> None:
    """Whichever process it is of: nobody else's comes in between."""
    accounts = schema.accounts.c

    def count_up(connection: sa.Connection) -> None:
        found = connection.execute(sa.select(accounts.created_at).where(accounts.id == "counter")).scalar_one()
        change = schema.accounts.update().where(accounts.id == "counter").values(created_at=found + 1)
        connection.execute(change)

    store.run_sync(lambda connection: add_account(connection, "counter", 0))
    with ThreadPoolExecutor(4) as pool:
        for place in (store, another) * 50:
            pool.submit(place.run_sync, count_up, tell=True)
    query = sa.select(accounts.created_at).where(accounts.id == "counter")
    assert store.run_sync(lambda connection: connection.execute(query).scalar_one(), read=True) == 100


def test_only_one_thread_of_all_processes_is_alone(store: Store, another: Store) -> None:
    inside, met = threading.Lock(), list[int]()

    def enter(place: Store, number: int) -> None:
        with place.alone():
            assert inside.acquire(blocking=False)
            place.run_sync(lambda connection: add_account(connection, f"a{number}"), tell=True)
            met.append(number)
            inside.release()

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(enter, place, number) for number, place in enumerate((store, another) * 5)]:
            done.result()
    assert sorted(met) == list(range(10))


def test_a_tick_comes_about_once_in_a_poll(store: Store) -> None:
    ticks: list[float] = []
    store.every_poll(lambda: ticks.append(time.monotonic()))
    until(lambda: len(ticks) >= 5)
    assert ticks[4] - ticks[0] > 0.1  # four polls of a twentieth of a second


def test_a_tick_that_fails_harms_nothing(store: Store) -> None:
    ticks: list[int] = []

    def failing() -> None:
        ticks.append(1)
        raise ValueError("no")

    store.every_poll(failing)
    until(lambda: len(ticks) >= 2)
    assert store.run_sync(account_ids, read=True) == {"default"}


def test_a_closed_store_refuses_work(store: Store) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        store.run_sync(account_ids, read=True)


def test_there_is_no_trouble_with_a_database_that_answers(store: Store) -> None:
    assert store.run_sync(account_ids, read=True)
    assert store.trouble == ""
    assert store.checkpoint_sync()


def test_large_whole_numbers_and_any_text_are_kept(store: Store) -> None:
    columns = schema.accounts.c
    for name, at in (("é瓦🧱'\"\\%s %(x)s", 1 << 53), ("ends-in-2038", 1 << 31)):
        store.run_sync(adding(name, at))
        query = sa.select(columns.created_at).where(columns.id == name)
        assert store.run_sync(partial(sa.Connection.scalar, statement=query), read=True) == at


def test_lists_mappings_octets_and_truths_come_back_as_they_were(store: Store) -> None:
    key: dict[str, Any] = {
        "id": "k",
        "account": "default",
        "project": "default",
        "name": "n",
        "digest": bytes(range(256)),
        "last4": "abcd",
        "endpoints": ["ep-1", "瓦\0"],
        "created_at": 1,
    }
    limit = {"account": "a", "project": "p", "scope": "key", "subject": "k", "kind": "rpm", "period": "", "amount": 0.1}

    def work(connection: sa.Connection) -> tuple[Any, ...]:
        connection.execute(schema.api_keys.insert().values(key))
        connection.execute(schema.limits.insert().values(**limit, shadow=True, updated_at=1))
        found = connection.execute(sa.select(schema.api_keys)).one()
        held = connection.execute(sa.select(schema.limits)).one()
        return found.digest, found.endpoints, found.expires_at, found.role, held.amount, held.shadow

    assert store.run_sync(work) == (key["digest"], key["endpoints"], None, "inference", 0.1, True)


def test_what_is_there_already_is_left_alone(store: Store) -> None:
    def again(connection: sa.Connection) -> int:
        values = {"id": "default", "name": "another", "created_at": 2}
        return connection.execute(insert(connection, schema.accounts).on_conflict_do_nothing(), [values]).rowcount

    store.run_sync(again)
    names = store.run_sync(lambda c: list(c.scalars(sa.select(schema.accounts.c.name))), read=True)
    assert names == ["Default account"]
