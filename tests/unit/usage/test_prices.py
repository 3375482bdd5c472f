"""Prices, and what usage costs: exact, at the price of the moment, each currency for itself."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkway.admin.prices import Cost, Price, PriceBook, Prices, cost_at, whole_minute
from arkway.admin.usage import UsageReports
from arkway.core.chat import Usage
from arkway.core.errors import InvalidField
from arkway.stores.prices import PriceTable, follow_prices
from arkway.stores.rollups import flush
from arkway.stores.sqlite import SqliteStore
from arkway.stores.usage import UsageTable

MakeRow = Callable[..., dict[str, Any]]
START_S = 1_793_232_000  # 2026-10-29
START_MS = START_S * 1000
HOUR_MS = 3_600_000
PLAIN = Price("small-1", START_S, "CNY", 2.0, 8.0)


def _book(*prices: Price) -> PriceBook:
    return PriceBook([msgspec.structs.asdict(price) for price in prices])


def test_each_kind_of_token_has_its_price() -> None:
    price = Price("m", 0, "CNY", prompt=0.8, completion=2.0, cached=0.16, reasoning=4.0)
    usage = Usage(1_000_000, 500_000, cached_tokens=400_000, reasoning_tokens=100_000)
    assert cost_at(price, usage) == Cost("CNY", Decimal("0.48") + Decimal("0.064") + Decimal("0.8") + Decimal("0.4"))


def test_cached_and_reasoning_tokens_cost_what_the_others_cost() -> None:
    usage = Usage(1_000_000, 1_000_000, cached_tokens=999_999, reasoning_tokens=7)
    assert cost_at(PLAIN, usage) == Cost("CNY", Decimal(10))


def test_a_free_kind_is_free() -> None:
    price = Price("m", 0, "USD", 1.0, 1.0, cached=0.0, reasoning=0.0)
    assert cost_at(price, Usage(10, 10, 10, 10)).amount == 0


def test_costs_are_exact() -> None:
    assert cost_at(Price("m", 0, "CNY", 0.1, 0.2), Usage(3, 0)).amount == Decimal("0.0000003")


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.integers(-10, 4000))
def test_the_price_in_force_is_the_last_that_began(minutes: list[int], at_s: int) -> None:
    prices = [Price("m", START_S + 60 * minute, "CNY", float(minute), 0.0) for minute in set(minutes)]
    begun = [price for price in prices if price.effective_at <= START_S + at_s]
    expected = max(begun, key=lambda price: price.effective_at, default=None)
    assert _book(*prices).price_of("m", (START_S + at_s) * 1000) == expected


def test_before_its_first_price_a_model_has_none() -> None:
    book = _book(PLAIN)
    assert book.cost_of("small-1", Usage(1), START_MS - 1) is None
    assert book.cost_of("other", Usage(1), START_MS) is None
    assert book.cost_of("small-1", Usage(1), START_MS) == Cost("CNY", Decimal("0.000002"))


def test_prices_are_set_replaced_listed_and_removed(store: SqliteStore) -> None:
    prices = Prices(PriceTable(store))
    later = Price("small-1", START_S + 60, "USD", 3.0, 9.0, 1.0, 10.0)
    for price in (later, PLAIN, Price("big-1", START_S, "CNY", 1.0, 1.0)):
        prices.set(price)
    assert prices.list("small-1") == (PLAIN, later)
    prices.set(msgspec.structs.replace(later, currency="CNY", cached=None))
    assert prices.list("small-1")[1] == Price("small-1", START_S + 60, "CNY", 3.0, 9.0, None, 10.0)
    assert prices.remove("small-1", START_S + 60) == 1
    assert prices.remove("small-1") == 1
    assert [price.model for price in prices.list()] == ["big-1"]
    with pytest.raises(InvalidField, match="has no price"):
        prices.remove("small-1")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"model": ""}, "name has 1 to 256"),
        ({"model": "a\n"}, "name has 1 to 256"),
        ({"currency": "EUR"}, "CNY or USD"),
        ({"effective_at": START_S + 1}, "whole minute"),
        ({"effective_at": -60}, "whole minute"),
        ({"prompt": -0.1}, "prompt price"),
        ({"completion": float("nan")}, "completion price"),
        ({"cached": float("inf")}, "cached price"),
        ({"reasoning": 1e10}, "reasoning price"),
    ],
)
def test_wrong_prices_are_refused(store: SqliteStore, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidField, match=said):
        Prices(PriceTable(store)).set(msgspec.structs.replace(PLAIN, **wrong))
    assert Prices(PriceTable(store)).list() == ()


def test_a_book_follows_the_table(store: SqliteStore) -> None:
    book = PriceBook()
    follow_prices(store, book.replace)
    assert book.price_of("small-1", START_MS) is None
    Prices(PriceTable(store)).set(PLAIN)
    assert book.price_of("small-1", START_MS) == PLAIN


def test_the_next_whole_minute() -> None:
    assert [whole_minute(at_s) for at_s in (0, 1, 59, 60, 61)] == [0, 60, 60, 60, 120]


@pytest.mark.parametrize("summed_up", [False, True])
def test_sums_cost_what_their_calls_cost(store: SqliteStore, make_row: MakeRow, summed_up: bool) -> None:
    """Over a change of price in the middle of an hour, and a change of currency."""
    rows = [
        make_row(n, START_MS + n * 7 * 60_000, Usage(1000 + n, 100, n % 3, n % 5), key=f"key-{n % 2}")
        for n in range(200)
    ]
    UsageTable(store).insert(rows)
    if summed_up:
        flush(store)
    book = _book(
        PLAIN,
        Price("small-1", START_S + 90 * 60, "CNY", 3.0, 9.0, 0.5, 12.0),
        Price("small-1", START_S + 1000 * 60, "USD", 0.3, 0.9),
    )
    totals = UsageReports(UsageTable(store)).totals("key", prices=book)
    for total in totals:
        expected: dict[str, Decimal] = {}
        for row in rows:
            if row["key_id"] == total.group:
                usage = Usage(*(row[f"{kind}_tokens"] for kind in ("prompt", "completion", "cached", "reasoning")))
                cost = book.cost_of("small-1", usage, row["opened_ms"])
                assert cost is not None
                expected[cost.currency] = expected.get(cost.currency, Decimal(0)) + cost.amount
        assert total.cost is not None
        assert {cost.currency: cost.amount for cost in total.cost} == expected
        assert (len(total.cost), total.unpriced_tokens, total.calls) == (2, 0, 100)


def test_what_has_no_price_is_told(store: SqliteStore, make_row: MakeRow) -> None:
    UsageTable(store).insert([make_row(1, START_MS - 1), make_row(2, START_MS), make_row(3, START_MS, model="other")])
    (total,) = UsageReports(UsageTable(store)).totals((), prices=_book(PLAIN))
    assert total.unpriced_tokens == 2200
    assert total.cost == (Cost("CNY", Decimal("0.0028")),)
    (plain,) = UsageReports(UsageTable(store)).totals(())
    assert plain.cost is None


@pytest.mark.parametrize("by", [("day", "hour"), ("key", "key"), ("colour",), "colour"])
def test_groupings_that_do_not_go_together(store: SqliteStore, by: Any) -> None:
    with pytest.raises(InvalidField, match="usage is grouped"):
        UsageReports(UsageTable(store)).totals(by)
