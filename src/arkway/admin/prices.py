"""Prices, and what usage costs at them. Amounts are decimal and exact; two currencies are never added up."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, Protocol, Self, get_args

import msgspec

from arkway.admin.audit import Acting
from arkway.core.audit import SERVER, Actor, Entry
from arkway.core.errors import InvalidField
from arkway.core.roles import HOST_ACCOUNT

Currency = Literal["CNY", "USD"]

PER_TOKENS = 1_000_000
MODEL_MAX_CHARACTERS = 256
PRICE_MAX = 1_000_000_000.0
MINUTE_S = 60


class Price(msgspec.Struct, frozen=True):
    """What a model's tokens cost from ``effective_at`` (epoch seconds, a whole minute) until its next price.

    In ``currency`` for a million tokens. ``cached`` None = as ``prompt``, ``reasoning`` None = as ``completion``.
    ``model`` is the name that usage is filed under, such as ``qwen2.5-0.5b-instruct-q4_k_m``: name and version.
    """

    model: str
    effective_at: int
    currency: Currency
    prompt: float
    completion: float
    cached: float | None = None
    reasoning: float | None = None


class Cost(msgspec.Struct, frozen=True):
    """An amount of money, not rounded."""

    currency: Currency
    amount: Decimal


class Counted(Protocol):
    """Token counts of one call or of many. Cached tokens are among the prompt's, reasoning ones in the completion's."""

    @property
    def prompt_tokens(self) -> int: ...
    @property
    def completion_tokens(self) -> int: ...
    @property
    def cached_tokens(self) -> int: ...
    @property
    def reasoning_tokens(self) -> int: ...


class PriceTable(Protocol):
    """Where prices are kept."""

    def under(self, entry: Entry) -> Self: ...

    def put(self, row: Mapping[str, Any]) -> None: ...

    def rows(self) -> Sequence[Mapping[str, Any]]: ...

    def remove(self, model: str, effective_at: int | None) -> int: ...


def cost_at(price: Price, usage: Counted) -> Cost:
    """What this usage costs at this price."""
    cached = price.prompt if price.cached is None else price.cached
    reasoning = price.completion if price.reasoning is None else price.reasoning
    parts = (
        (usage.prompt_tokens - usage.cached_tokens, price.prompt),
        (usage.cached_tokens, cached),
        (usage.completion_tokens - usage.reasoning_tokens, price.completion),
        (usage.reasoning_tokens, reasoning),
    )
    amount = sum((tokens * Decimal(str(each)) for tokens, each in parts), Decimal(0))
    return Cost(price.currency, amount / PER_TOKENS)


class PriceBook:
    """Every price, held in memory: `cost_of` never waits. ``rows`` as a price table gives them."""

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self._prices: dict[str, list[Price]] = {}
        self.replace(rows)

    def replace(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """These prices from now on, in the place of all others. May be called from any thread."""
        found: dict[str, list[Price]] = {}
        for price in sorted((_price(row) for row in rows), key=lambda price: price.effective_at):
            found.setdefault(price.model, []).append(price)
        self._prices = found

    def price_of(self, model: str, at_ms: int) -> Price | None:
        """The price in force at the moment (epoch milliseconds); None before the first one."""
        known = self._prices.get(model, [])
        place = bisect_right(known, at_ms, key=lambda price: price.effective_at * 1000)
        return known[place - 1] if place else None

    def cost_of(self, model: str, usage: Counted, at_ms: int) -> Cost | None:
        """What this usage costs where the call was opened at ``at_ms``; None where the model has no price then."""
        price = self.price_of(model, at_ms)
        return None if price is None else cost_at(price, usage)

    def changes_ms(self, since_ms: int, until_ms: int, models: Collection[str] = ()) -> list[int]:
        """The moments within the range at which a price begins (of any model, or of these), in order."""
        known = [prices for model, prices in self._prices.items() if not models or model in models]
        moments = {price.effective_at * 1000 for prices in known for price in prices}
        return sorted(moment for moment in moments if since_ms < moment < until_ms)


class Prices:
    """The commands on prices. They are the operator's.

    A cost is worked out whenever it is asked for, so a price that begins in the past changes what the past costs.
    """

    def __init__(self, table: PriceTable, actor: Actor = SERVER) -> None:
        self._table = table
        self._acting = Acting(HOST_ACCOUNT, "", actor)

    def list(self, model: str | None = None) -> tuple[Price, ...]:
        """Every price, or those of one model; by model, then by time."""
        found = map(_price, self._table.rows())
        return tuple(price for price in found if model in (None, price.model))

    def book(self) -> PriceBook:
        return PriceBook(self._table.rows())

    def set(self, price: Price) -> Price:
        """Adds a price, or replaces the model's price of the same moment. Raises InvalidField."""
        _check(price)
        row = msgspec.structs.asdict(price)
        detail = {name: value for name, value in row.items() if name != "model"}
        self._table.under(self._acting.entry("prices.set", price.model, **detail)).put(row)
        return price

    def remove(self, model: str, effective_at: int | None = None) -> int:
        """Removes one price or all of the model's (None); how many. Raises InvalidField when there is none."""
        entry = self._acting.entry("prices.remove", model, effective_at=effective_at)
        if not (removed := self._table.under(entry).remove(model, effective_at)):
            when = "" if effective_at is None else " that begins at that moment"
            raise InvalidField(
                f"`{model[:MODEL_MAX_CHARACTERS]}` has no price{when}; `arkway prices list` shows all of them", "model"
            )
        return removed


def whole_minute(at_s: int) -> int:
    """The moment itself, or the next whole minute: sums of usage can be told apart at whole minutes."""
    return -(-at_s // MINUTE_S) * MINUTE_S


def _price(row: Mapping[str, Any]) -> Price:
    return msgspec.convert(row, Price)


def _check(price: Price) -> None:
    if not price.model or len(price.model) > MODEL_MAX_CHARACTERS or not price.model.isprintable():
        raise InvalidField(f"a model's name has 1 to {MODEL_MAX_CHARACTERS} printable characters", "model")
    if price.currency not in get_args(Currency):
        raise InvalidField(f"prices are in {' or '.join(get_args(Currency))}", "currency")
    if price.effective_at < 0 or price.effective_at % MINUTE_S:
        raise InvalidField("a price begins at a whole minute", "effective_at")
    for name in ("prompt", "completion", "cached", "reasoning"):
        amount = getattr(price, name)
        if amount is not None and not (math.isfinite(amount) and 0 <= amount <= PRICE_MAX):
            raise InvalidField(f"the {name} price of a million tokens is a number from 0 to {PRICE_MAX:,.0f}", name)
