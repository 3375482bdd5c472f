"""What the control plane sets of an endpoint's limits, and what it leaves as it is."""

from __future__ import annotations

import sqlalchemy as sa

from arkway.core.limit import Rates
from arkway.stores.rates import RateTable
from arkway.stores.schema import limits
from arkway.stores.store import Store

EP = "ep-20240701000000-rates"


def held(store: Store) -> dict[str, tuple[float, bool, int]]:
    query = sa.select(limits.c.kind, limits.c.amount, limits.c.shadow, limits.c.updated_at)
    rows = store.run_sync(lambda connection: connection.execute(query).all(), read=True)
    return {kind: (amount, shadow, at) for kind, amount, shadow, at in rows}


def write(store: Store, kind: str, amount: float, *, shadow: bool) -> None:
    place = {"account": "default", "project": "default", "scope": "endpoint", "subject": EP, "period": ""}
    row = {**place, "kind": kind, "amount": amount, "shadow": shadow, "updated_at": 1}
    store.run_sync(lambda connection: connection.execute(limits.insert().values(row)))


def test_what_is_not_changed_stays_a_shadow_and_keeps_its_fraction(store: Store) -> None:
    rates = RateTable(store, "default", "default")
    write(store, "rpm", 0.5, shadow=False)
    write(store, "tpm", 77, shadow=True)
    assert rates.all() == {EP: Rates(0, 77)}
    rates.put(EP, Rates(0, 77), 2)
    assert held(store) == {"rpm": (0.5, False, 1), "tpm": (77, True, 1)}
    rates.put(EP, Rates(0, 78), 3)
    assert held(store) == {"rpm": (0.5, False, 1), "tpm": (78, False, 3)}
    rates.put(EP, Rates(9, 0), 4)
    assert held(store) == {"rpm": (9, False, 4)}
