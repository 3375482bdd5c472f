"""Limits in the database, by caller in memory, and what their quotas have on record in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec
import sqlalchemy as sa

from arkway.core.chat import Usage
from arkway.core.limit import END_OF_TIME_MS, Rule, window
from arkway.stores.portable import insert
from arkway.stores.recorded import Recorded, Within
from arkway.stores.schema import access_keys, api_keys, bots, endpoints, limits
from arkway.stores.store import Store
from arkway.stores.tables import Row, plain_rows
from arkway.stores.usage import Grouping, UsageTable

REMEMBERED_MAX = 65_536
_KEY = ("account", "project", "scope", "subject", "kind", "period")
_ORDER = [limits.c[name] for name in _KEY]
_SUBJECTS = {"key": (api_keys, access_keys), "endpoint": (endpoints, bots)}

CostOf = Callable[[str, Usage, int], float]
"""What the use of a model costs that is called at that moment (epoch milliseconds)."""


class LimitTable(Recorded):
    """Limits, every question within one account. Those of a whole account have the project ``""``."""

    def put(self, rows: Sequence[Row]) -> None:
        """Each in the place of the one of the same scope, subject, kind and period."""

        def work(connection: sa.Connection) -> None:
            statement = insert(connection, limits)
            new = {column.name: statement.excluded[column.name] for column in limits.c if column.name not in _KEY}
            replaced = statement.on_conflict_do_update(index_elements=_KEY, set_=new)
            connection.execute(replaced, [dict(row) for row in rows])

        self._store.run_sync(work, tell=True)

    def rows(self, account: str, project: str) -> Sequence[Row]:
        """Every limit of the project, and of the whole account."""
        query = sa.select(limits).where(limits.c.account == account, limits.c.project.in_(("", project)))
        return self._store.run_sync(lambda connection: plain_rows(connection, query.order_by(*_ORDER)), read=True)

    def remove(self, where: Row, which: Sequence[tuple[str, str]]) -> int:
        """The limits of one subject (``where``: account, project, scope, subject) of these kinds and periods, all if
        none is named; how many there were.
        """
        change = limits.delete().where(*(limits.c[name] == value for name, value in where.items()))
        if which:
            change = change.where(sa.tuple_(limits.c.kind, limits.c.period).in_(list(which)))
        return self._store.run_sync(lambda connection: connection.execute(change).rowcount, tell=True)

    def knows(self, account: str, project: str, scope: str, subject: str) -> bool:
        """Whether the project has such a key (of either sort), endpoint or bot."""

        def work(connection: sa.Connection) -> bool:
            for table in _SUBJECTS[scope]:
                mine = (table.c.account == account, table.c.project == project, table.c.id == subject)
                if connection.execute(sa.select(table.c.id).where(*mine)).first() is not None:
                    return True
            return False

        return self._store.run_sync(work, read=True)


class RuleBook:
    """Limits by whom they bind."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._rules: dict[tuple[str, str, str, str], list[Rule]] = {}
        for rule in rules:
            # A key takes its limits along into every project that it acts in, by way of its temporary keys.
            project = "" if rule.scope == "key" else rule.project
            self._rules.setdefault((rule.account, project, rule.scope, rule.subject), []).append(rule)
        self._remembered: dict[tuple[str, str, str, str], tuple[Rule, ...]] = {}

    def of(self, account: str, project: str, key_id: str, endpoint_id: str) -> tuple[Rule, ...]:
        """Those that a call is under, always the same tuple; one for all that have no limits of their own."""
        rules = self._rules
        if not rules:
            return ()
        place = (
            account,
            project,
            key_id if (account, "", "key", key_id) in rules else "",
            endpoint_id if (account, project, "endpoint", endpoint_id) in rules else "",
        )
        found = self._remembered.get(place)
        if found is None:
            if len(self._remembered) >= REMEMBERED_MAX:
                self._remembered.clear()
            found = self._remembered[place] = self._found(*place)
        return found

    def _found(self, account: str, project: str, key_id: str, endpoint_id: str) -> tuple[Rule, ...]:
        places = (
            (account, "", "key", key_id),
            (account, project, "endpoint", endpoint_id),
            (account, project, "project", ""),
            (account, "", "account", ""),
        )
        return tuple(rule for place in places for rule in self._rules.get(place, ()))


def read_rules(connection: sa.Connection) -> list[Rule]:
    """Every limit of every tenant."""
    columns = [limits.c[name] for name in (*_KEY, "amount", "shadow")]
    return [msgspec.convert(row, Rule) for row in plain_rows(connection, sa.select(*columns).order_by(*_ORDER))]


class Spending:
    """What quotas have on record, summed up from settled calls: when a quota is first seen, and when asked to.

    In between, who counts the calls knows more than the ledger. ``now_ms`` is the clock that calls are filed under.
    """

    def __init__(self, store: Store, cost_of: CostOf, now_ms: Callable[[], int]) -> None:
        self._store, self._cost_of, self._now_ms = store, cost_of, now_ms
        self._sums: dict[tuple[str, int], float] = {}
        store.watch(self._notice)

    def spent(self, rule: Rule, start_ms: int) -> float:
        """Tokens or money, as of the last look; 0 for periods that have begun since."""
        return self._sums.get((rule.place, start_ms), 0.0)

    async def refresh(self) -> None:
        """Sums everything up anew. Raises StoreUnavailable."""
        await self._store.run(self._read, read=True)

    def _notice(self, connection: sa.Connection) -> None:
        """New quotas are summed up; those that are gone are forgotten, so that they are new when they come back."""
        self._sums = self._summed(connection, self._sums)

    def _read(self, connection: sa.Connection) -> None:
        self._sums = self._summed(connection, {})

    def _summed(
        self, connection: sa.Connection, known: Mapping[tuple[str, int], float]
    ) -> dict[tuple[str, int], float]:
        now_ms = self._now_ms()
        sums: dict[tuple[str, int], float] = {}
        places = {place for place, _ in known}
        for rule in read_rules(connection):
            if rule.period:
                place = (rule.place, window(rule.period, now_ms)[0])
                # A period that begins while the rule is known begins with nothing, and is counted as it goes.
                sums[place] = known.get(place, 0.0) if rule.place in places else self._sum(connection, rule, place[1])
        return sums

    def _sum(self, connection: sa.Connection, rule: Rule, start_ms: int) -> float:
        table = UsageTable(Within(connection))
        everywhere = rule.scope in ("account", "key")
        tenants = table.tenants(rule.account) if everywhere else [(rule.account, rule.project)]
        where: dict[str, list[str]] = {rule.scope: [rule.subject]} if rule.subject else {}
        if rule.kind == "tokens":
            rows = table.totals(tenants, start_ms, END_OF_TIME_MS, (), where)
            return float(sum(row["prompt_tokens"] + row["completion_tokens"] for row in rows))
        by: tuple[Grouping, ...] = ("model", "hour" if rule.period == "day" else "day")
        rows = table.totals(tenants, start_ms, END_OF_TIME_MS, by, where)
        return sum(self._cost_of(row["model"], _usage(row), _moment_ms(row[by[1]])) for row in rows)


def _usage(row: Row) -> Usage:
    return Usage(row["prompt_tokens"], row["completion_tokens"], row["cached_tokens"], row["reasoning_tokens"])


def _moment_ms(label: str) -> int:
    """The beginning of an hour or a day as sums name it."""
    return int(datetime.fromisoformat(label).replace(tzinfo=UTC).timestamp() * 1000)
