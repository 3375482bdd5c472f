"""Lists in pages. A cursor is the place in the list's order that a page ended at: what comes or goes shifts nothing."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from arkway.core.errors import InvalidField

Key = tuple[int | str, ...]
Place = Callable[[Any], Key]


class Order(msgspec.Struct, frozen=True):
    """How a list is ordered: by ``place``, which no two of its items share."""

    place: Place
    newest_first: bool = False


class Page(msgspec.Struct, frozen=True):
    """Which part of a list is wanted: the first ``limit`` items beyond ``after`` (empty = from its beginning)."""

    limit: int
    after: Key = ()


class Listed(msgspec.Struct, frozen=True):
    """One page; ``next_cursor`` null = it is the last one."""

    items: list[Any]
    next_cursor: str | None


def cut(items: Iterable[Any], order: Order, page: Page, name: str) -> Listed:
    """One page of the list ``name``. Raises InvalidField for a cursor of another list."""
    placed = sorted(((order.place(item), item) for item in items), key=lambda each: each[0], reverse=order.newest_first)
    if page.after:
        try:
            placed = [each for each in placed if (each[0] < page.after if order.newest_first else each[0] > page.after)]
        except TypeError:
            raise foreign() from None
    shown = placed[: page.limit]
    more = len(placed) > len(shown)
    return Listed([item for _, item in shown], _written(name, shown[-1][0]) if more else None)


def read_cursor(cursor: str, name: str) -> Key:
    """Where the page before ended. Raises InvalidField."""
    if not cursor:
        return ()
    try:
        raw = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        found, key = msgspec.json.decode(raw, type=tuple[str, tuple[int | str, ...]])
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise foreign() from None
    if found != name or not key:
        raise foreign()
    return key


def _written(name: str, key: Key) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode((name, key))).decode().rstrip("=")


def foreign() -> InvalidField:
    """What to raise for a cursor that this list has not given."""
    return InvalidField("the cursor is not one that this list has given; begin without one", "cursor")
