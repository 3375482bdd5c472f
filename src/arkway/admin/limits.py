"""Limits: how many calls, tokens and how much money a key, an endpoint, a project or an account may use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import msgspec

from arkway.admin.audit import Acting
from arkway.core.audit import SERVER, Actor, Entry
from arkway.core.errors import InvalidField
from arkway.core.limit import Kind, Period, Scope

AMOUNT_MIN = 0.001
AMOUNT_MAX = 1e15

What = tuple[Kind, Period]
"""A kind of limit and its period, ``""`` for the kinds that have none."""

WHATS: Mapping[str, What] = {
    "rpm": ("rpm", ""),
    "tpm": ("tpm", ""),
    "concurrency": ("concurrency", ""),
    "tokens-per-day": ("tokens", "day"),
    "tokens-per-month": ("tokens", "month"),
    "tokens-total": ("tokens", "total"),
    "cost-per-day": ("cost", "day"),
    "cost-per-month": ("cost", "month"),
    "cost-total": ("cost", "total"),
}
"""Every kind of limit by the name that people use."""
_NAMES = {what: name for name, what in WHATS.items()}


class LimitInfo(msgspec.Struct, frozen=True):
    """One limit. ``subject`` is a key's or an endpoint's id; ``updated_at`` epoch seconds."""

    account: str
    project: str
    scope: Scope
    subject: str
    kind: Kind
    period: Period
    amount: float
    shadow: bool
    updated_at: int

    @property
    def name(self) -> str:
        """As in ``WHATS``."""
        return _NAMES[self.kind, self.period]


class LimitTable(Protocol):
    """Where limits are kept."""

    def under(self, entry: Entry) -> Self: ...

    def put(self, rows: Sequence[Mapping[str, Any]]) -> None: ...

    def rows(self, account: str, project: str) -> Sequence[Mapping[str, Any]]: ...

    def remove(self, where: Mapping[str, Any], which: Sequence[What]) -> int: ...

    def knows(self, account: str, project: str, scope: str, subject: str) -> bool: ...


class Limits:
    """The commands on the limits of one project, and of its account."""

    def __init__(
        self, table: LimitTable, account: str = "default", project: str = "default", actor: Actor = SERVER
    ) -> None:
        self._table = table
        self._account, self._project, self._actor = account, project, actor

    def set(
        self, scope: Scope, subject: str, amounts: Mapping[str, float], now_s: int, *, shadow: bool = False
    ) -> tuple[LimitInfo, ...]:
        """Sets limits by their names (``WHATS``), all or none; they are in force within two seconds.

        Raises InvalidField for an unknown subject, no amount, or one that is not above zero.
        """
        place = self._place(scope, subject)
        if not amounts:
            raise InvalidField(f"say what to limit: {', '.join(WHATS)}", "amounts")
        for name, amount in amounts.items():
            _check(name, amount)
        infos = [_info(place, name, amount, shadow, now_s) for name, amount in amounts.items()]
        entry = self._entry("limits.set", place, **amounts, shadow=shadow)
        self._table.under(entry).put([msgspec.structs.asdict(info) for info in infos])
        return tuple(infos)

    def list(self) -> tuple[LimitInfo, ...]:
        """Every limit of the project and of the whole account, by scope and subject."""
        return tuple(msgspec.convert(row, LimitInfo) for row in self._table.rows(self._account, self._project))

    def remove(self, scope: Scope, subject: str, names: Sequence[str] = ()) -> int:
        """Takes these limits away, all of the subject if none is named; how many. Raises InvalidField for none."""
        place = self._place(scope, subject, known=False)
        which = [_what(name) for name in names]
        removed = self._table.under(self._entry("limits.remove", place, names=list(names))).remove(place, which)
        if not removed:
            raise InvalidField("there is no such limit; `arkway limits list` shows all of them", "subject")
        return removed

    def _place(self, scope: Scope, subject: str, *, known: bool = True) -> dict[str, str]:
        project = "" if scope == "account" else self._project
        if known and subject and not self._table.knows(self._account, project, scope, subject):
            raise InvalidField(f"the project `{project}` has no {scope} `{subject[:128]}`", "subject")
        return {"account": self._account, "project": project, "scope": scope, "subject": subject}

    def _entry(self, action: str, place: Mapping[str, str], **detail: Any) -> Entry:
        acting = Acting(self._account, place["project"], self._actor)
        return acting.entry(action, place["subject"] or place["scope"], **detail)


def _what(name: str) -> What:
    if name not in WHATS:
        raise InvalidField(f"there is no limit `{name[:64]}`; there are {', '.join(WHATS)}", "name")
    return WHATS[name]


def _check(name: str, amount: float) -> None:
    kind, _ = _what(name)
    if not (math.isfinite(amount) and AMOUNT_MIN <= amount <= AMOUNT_MAX):
        raise InvalidField(f"`{name}` has to be from {AMOUNT_MIN:g} to {AMOUNT_MAX:,.0f}", name)
    if kind in ("concurrency", "tokens") and amount != int(amount):
        raise InvalidField(f"`{name}` has to be a whole number", name)


def _info(place: Mapping[str, str], name: str, amount: float, shadow: bool, now_s: int) -> LimitInfo:
    kind, period = WHATS[name]
    row = {**place, "kind": kind, "period": period, "amount": float(amount), "shadow": shadow, "updated_at": now_s}
    return msgspec.convert(row, LimitInfo)
