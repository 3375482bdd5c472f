"""Prices: one row for each model and each moment that a price begins to be in force."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sqlalchemy as sa

from arkway.stores.portable import insert
from arkway.stores.recorded import Recorded
from arkway.stores.schema import prices
from arkway.stores.store import Store
from arkway.stores.tables import Row, plain_rows

_QUERY = sa.select(prices).order_by(prices.c.model, prices.c.effective_at)
_KEY = ("model", "effective_at")


class PriceTable(Recorded):
    """Prices are the operator's: every account pays the same."""

    def put(self, row: Row) -> None:
        """One price, in the place of that of the same model and moment."""

        def work(connection: sa.Connection) -> None:
            statement = insert(connection, prices).values(dict(row))
            new = {column.name: statement.excluded[column.name] for column in prices.c if column.name not in _KEY}
            connection.execute(statement.on_conflict_do_update(index_elements=_KEY, set_=new))

        self._store.run_sync(work, tell=True)

    def rows(self) -> Sequence[Row]:
        """Every price, by model and then by time."""
        return self._store.run_sync(lambda connection: plain_rows(connection, _QUERY), read=True)

    def remove(self, model: str, effective_at: int | None) -> int:
        """The price of one moment, or all of the model's (None); how many there were."""
        change = prices.delete().where(prices.c.model == model)
        if effective_at is not None:
            change = change.where(prices.c.effective_at == effective_at)
        return self._store.run_sync(lambda connection: connection.execute(change).rowcount, tell=True)


def follow_prices(store: Store, told: Callable[[Sequence[Row]], None]) -> None:
    """Tell all prices now, and again within two seconds of any change, on the store's thread."""
    store.watch(lambda connection: told(plain_rows(connection, _QUERY)))
