"""Limits in the database, as callers are under them, and what their quotas have on record."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from arkway.admin.keys import Keys
from arkway.admin.limits import Limits
from arkway.core.chat import Usage
from arkway.core.errors import InvalidField
from arkway.core.limit import Period, Rule, window
from arkway.ports import Attempt, Settlement
from arkway.stores.directory import CachedDirectory
from arkway.stores.drain import usage_row
from arkway.stores.home import pepper
from arkway.stores.limits import LimitTable, RuleBook, Spending
from arkway.stores.store import Store
from arkway.stores.tables import KeyTable
from arkway.stores.usage import UsageTable
from tests.tools.waiting import until

NOW_MS = int(datetime(2026, 11, 22, 10, 30, tzinfo=UTC).timestamp() * 1000)
NOW_S = NOW_MS // 1000
HOUR_MS = 3_600_000


@pytest.fixture
def key_id(store: Store, tmp_path: Path) -> str:
    return Keys(KeyTable(store), pepper(tmp_path).digest).create("one", NOW_S)[0].id


@pytest.fixture
def limits(store: Store) -> Limits:
    return Limits(LimitTable(store))


def used(store: Store, number: int, opened_ms: int, tokens: int, **place: str) -> None:
    named = {
        "account": "default",
        "project": "default",
        "key_id": "key-1",
        "endpoint_id": "ep-1",
        "model": "m",
        **place,
    }
    ids = {"id": f"a{number}", "request_id": f"r{number}", "dialect": "v3", "operation": "chat"}
    attempt = msgspec.convert({**named, **ids, "opened_ms": opened_ms}, Attempt)
    UsageTable(store).insert([usage_row(attempt, Settlement("done", Usage(tokens - 1, 1), opened_ms + 100))])


def rule(kind: str, period: Period, *, scope: str = "project", subject: str = "", project: str = "default") -> Rule:
    return Rule("default", project, scope, subject, kind, period, 1)  # type: ignore[arg-type]


def test_the_directory_knows_limits_as_soon_as_they_are_set(
    store: Store, limits: Limits, key_id: str, tmp_path: Path
) -> None:
    directory = CachedDirectory(store, pepper(tmp_path))
    place = ("default", "default", key_id, "ep-1")
    assert directory.limits(*place) == ()
    limits.set("key", key_id, {"rpm": 60, "tokens-per-day": 1000}, NOW_S)
    limits.set("project", "", {"concurrency": 4}, NOW_S, shadow=True)
    limits.set("account", "", {"cost-total": 9.5}, NOW_S)
    found = directory.limits(*place)
    assert [(each.scope, each.kind, each.period, each.amount, each.shadow) for each in found] == [
        ("key", "rpm", "", 60, False),
        ("key", "tokens", "day", 1000, False),
        ("project", "concurrency", "", 4, True),
        ("account", "cost", "total", 9.5, False),
    ]
    assert directory.limits(*place) is found
    # A temporary key acts in other projects, too: the limits of its access key go with it.
    assert [each.scope for each in directory.limits("default", "other", key_id, "ep-1")] == ["key", "key", "account"]
    assert directory.limits("default", "other", key_id, "ep-1")[:2] == found[:2]
    assert directory.limits("other", "default", key_id, "ep-1") == ()
    assert limits.remove("key", key_id, ["rpm"]) == 1
    assert [each.kind for each in directory.limits(*place)] == ["tokens", "concurrency", "cost"]
    assert limits.remove("key", key_id) == 1


def test_a_limit_that_is_set_again_is_replaced_and_others_stay(limits: Limits) -> None:
    limits.set("project", "", {"rpm": 60, "tpm": 1000}, NOW_S)
    limits.set("project", "", {"rpm": 30}, NOW_S + 1, shadow=True)
    assert [(each.name, each.amount, each.shadow, each.updated_at) for each in limits.list()] == [
        ("rpm", 30, True, NOW_S + 1),
        ("tpm", 1000, False, NOW_S),
    ]


@pytest.mark.parametrize("amount", [0, -1, float("inf"), float("nan"), 1e16])
def test_amounts_without_a_sense_are_refused(limits: Limits, amount: float) -> None:
    with pytest.raises(InvalidField, match=r"has to be from 0\.001"):
        limits.set("project", "", {"rpm": 5, "tpm": amount}, NOW_S)
    assert limits.list() == ()


def test_only_what_is_there_can_be_limited_and_only_in_its_own_project(
    store: Store, limits: Limits, key_id: str
) -> None:
    with pytest.raises(InvalidField, match="has no key `key-nobody`"):
        limits.set("key", "key-nobody", {"rpm": 5}, NOW_S)
    with pytest.raises(InvalidField, match="has no endpoint"):
        limits.set("endpoint", key_id, {"rpm": 5}, NOW_S)
    with pytest.raises(InvalidField, match="has no key"):
        Limits(LimitTable(store), "default", "other").set("key", key_id, {"rpm": 5}, NOW_S)
    with pytest.raises(InvalidField, match="say what to limit"):
        limits.set("key", key_id, {}, NOW_S)
    with pytest.raises(InvalidField, match="whole number"):
        limits.set("key", key_id, {"concurrency": 1.5}, NOW_S)
    with pytest.raises(InvalidField, match="no such limit"):
        limits.remove("key", key_id)


def test_calls_without_limits_of_their_own_are_under_the_very_same_tuple() -> None:
    """Ten thousand endpoints under the limits of their account are one thing to whoever counts by it, not so many."""
    whole, own = rule("rpm", "", scope="account", project=""), rule("rpm", "", scope="endpoint", subject="ep-1")
    of_key = rule("rpm", "", scope="key", subject="key-1", project="")
    book = RuleBook([whole, own, of_key])
    shared = book.of("default", "default", "key-2", "ep-2")
    assert shared == (whole,)
    assert all(book.of("default", "default", f"key-{n}", f"ep-{n}") is shared for n in range(3, 100))
    assert book.of("default", "default", "key-2", "ep-1") == (own, whole)
    assert book.of("default", "default", "key-1", "ep-2") == (of_key, whole)
    assert book.of("default", "default", "key-1", "ep-1") == (of_key, own, whole)
    assert book.of("default", "another", "key-1", "ep-1") == (of_key, whole)
    assert book.of("acme", "default", "key-1", "ep-1") == ()


def test_the_rule_book_gives_the_same_tuple_for_the_same_call() -> None:
    book = RuleBook([rule("rpm", ""), rule("tpm", "", scope="key", subject="key-1")])
    first = book.of("default", "default", "key-1", "ep-1")
    assert [each.kind for each in first] == ["tpm", "rpm"]
    assert book.of("default", "default", "key-1", "ep-1") is first
    assert RuleBook().of("default", "default", "key-1", "ep-1") == ()


@pytest.mark.parametrize(
    "quota, expected",
    [
        (rule("tokens", "day"), 100 + 20),
        (rule("tokens", "month"), 100 + 20 + 3000),
        (rule("tokens", "total"), 100 + 20 + 3000 + 40000),
        (rule("tokens", "day", scope="key", subject="key-1"), 100 + 500000),
        (rule("tokens", "month", scope="endpoint", subject="ep-2"), 20 + 3000),
        (rule("tokens", "total", scope="account", project=""), 43120 + 500000),
        (rule("cost", "day"), 120 * 2.0),
        (rule("cost", "total"), 120 * 2.0 + 43000 * 1.0),
    ],
    ids=lambda value: f"{value.kind}-{value.period}-{value.scope}" if isinstance(value, Rule) else "",
)
def test_what_is_spent_is_what_the_ledger_has(store: Store, quota: Rule, expected: float) -> None:
    """Filed under the moment when a call came in, as the limiter counts it."""
    today_ms, month_ms = window("day", NOW_MS)[0], window("month", NOW_MS)[0]
    used(store, 1, today_ms, 100)
    used(store, 2, NOW_MS, 20, key_id="key-2", endpoint_id="ep-2")
    used(store, 3, today_ms - 1, 3000, key_id="key-2", endpoint_id="ep-2")
    used(store, 4, month_ms - 1, 40000)
    used(store, 5, NOW_MS, 500000, project="second", account="default")
    used(store, 6, NOW_MS, 7000000, account="other")
    from arkway.stores.schema import limits as table
    from arkway.stores.schema import projects

    row = {
        name: getattr(quota, name) for name in ("account", "project", "scope", "subject", "kind", "period", "amount")
    }
    second = {"account": "default", "id": "second", "name": "second", "created_at": 1}
    store.run_sync(lambda connection: connection.execute(projects.insert().values(second)))
    store.run_sync(lambda connection: connection.execute(table.insert().values(**row, shadow=False, updated_at=1)))
    spending = Spending(
        store, lambda _, usage, at_ms: usage.total_tokens * (2.0 if at_ms >= today_ms else 1.0), lambda: NOW_MS
    )
    assert spending.spent(quota, window(quota.period, NOW_MS)[0]) == pytest.approx(expected)


async def test_a_quota_is_summed_up_when_it_is_new_and_when_asked(store: Store, limits: Limits) -> None:
    clock = [NOW_MS]
    day = rule("tokens", "day")
    today_ms = window("day", NOW_MS)[0]
    used(store, 1, today_ms, 100)
    spending = Spending(store, lambda *_: 0.0, lambda: clock[0])
    assert spending.spent(day, today_ms) == 0
    limits.set("project", "", {"tokens-per-day": 1000}, NOW_S)
    assert spending.spent(day, today_ms) == 100
    used(store, 2, today_ms, 50)
    limits.set("project", "", {"rpm": 5}, NOW_S)
    # Who counts the calls has counted this one.
    assert spending.spent(day, today_ms) == 100
    await spending.refresh()
    assert spending.spent(day, today_ms) == 150
    clock[0] += 24 * HOUR_MS
    limits.set("project", "", {"rpm": 6}, NOW_S)
    assert spending.spent(day, today_ms + 24 * HOUR_MS) == 0
    clock[0] = NOW_MS
    limits.remove("project", "")
    used(store, 3, today_ms, 7)
    limits.set("project", "", {"tokens-per-day": 1000}, NOW_S)
    assert spending.spent(day, today_ms) == 157


def test_changes_are_in_the_audit_log(store: Store, limits: Limits) -> None:
    from arkway.stores.audit import AuditTable

    limits.set("project", "", {"tokens-per-day": 1000}, NOW_S, shadow=True)
    limits.remove("project", "")
    removed, made = AuditTable(store).rows("default")
    assert (made["action"], made["target"]) == ("limits.set", "project")
    assert made["detail"] == {"tokens-per-day": 1000, "shadow": True}
    assert removed["action"] == "limits.remove"


def test_a_limit_of_another_process_is_in_force_soon(
    tmp_path: Path, store: Store, new_store: Callable[[], Store]
) -> None:
    directory = CachedDirectory(store, pepper(tmp_path))
    Limits(LimitTable(new_store())).set("project", "", {"rpm": 1}, NOW_S)
    until(lambda: directory.limits("default", "default", "key-1", "ep-1"))
