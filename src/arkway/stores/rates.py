"""The rates of endpoints as the control plane sets them: rows of ``limits`` of the scope ``endpoint``."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from arkway.core.audit import SERVER, Actor, Entry
from arkway.core.limit import Rates
from arkway.stores.portable import insert
from arkway.stores.recorded import Recorded, Transactions
from arkway.stores.schema import limits
from arkway.stores.tables import plain_rows

KINDS = ("rpm", "tpm")


class RateTable(Recorded):
    """Requests and tokens a minute of the endpoints of one project, on somebody's behalf."""

    def __init__(self, store: Transactions, account: str, project: str, actor: Actor = SERVER) -> None:
        super().__init__(store)
        self._account, self._project, self._actor = account, project, actor

    def all(self) -> Mapping[str, Rates]:
        """By endpoint id; those without a limit are left out."""
        query = sa.select(limits.c.subject, limits.c.kind, limits.c.amount).where(*self._mine())
        found: dict[str, dict[str, int]] = {}
        for row in self._store.run_sync(lambda connection: plain_rows(connection, query), read=True):
            found.setdefault(row["subject"], {})[row["kind"]] = int(row["amount"])
        return {endpoint_id: Rates(**rates) for endpoint_id, rates in found.items()}

    def put(self, endpoint_id: str, rates: Rates, now_s: int) -> None:
        """These in the place of those it had; 0 = no limit. What stays as `all` shows it is not touched: a limit may
        be a shadow, or have a fraction."""
        amounts = {"rpm": rates.rpm, "tpm": rates.tpm}
        entry = Entry(self._account, self._project, self._actor, "limits.set", endpoint_id, amounts)
        self.under(entry)._replace(endpoint_id, amounts, now_s)

    def _replace(self, endpoint_id: str, amounts: Mapping[str, int], now_s: int) -> None:
        place = {"account": self._account, "project": self._project, "scope": "endpoint", "subject": endpoint_id}
        its = (*self._mine(), limits.c.subject == endpoint_id)

        def work(connection: sa.Connection) -> None:
            held = plain_rows(connection, sa.select(limits.c.kind, limits.c.amount).where(*its))
            shown = {row["kind"]: int(row["amount"]) for row in held}
            changed = {kind: amount for kind, amount in amounts.items() if shown.get(kind, 0) != amount}
            connection.execute(limits.delete().where(*its, limits.c.kind.in_(changed)))
            rows = [
                {**place, "kind": kind, "period": "", "amount": amount, "shadow": False, "updated_at": now_s}
                for kind, amount in changed.items()
                if amount
            ]
            if rows:
                connection.execute(insert(connection, limits), rows)

        self._store.run_sync(work, tell=True)

    def _mine(self) -> tuple[sa.ColumnElement[bool], ...]:
        columns = limits.c
        mine = (columns.account == self._account, columns.project == self._project)
        return (*mine, columns.scope == "endpoint", columns.kind.in_(KINDS), columns.period == "")
