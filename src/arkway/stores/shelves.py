"""Keys and endpoints of the database as the directory holds them, read again after every change.

There may be a hundred thousand of them, and calls are served meanwhile: they are read a few at a time, and of a row
that says what it said before nothing is made anew.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import msgspec
import sqlalchemy as sa

from arkway.core.caller import AccessKey, Caller
from arkway.core.errors import ArkwayError
from arkway.core.model import Endpoint
from arkway.stores.access_keys import in_clear
from arkway.stores.keyring import KeyRing
from arkway.stores.portable import MadeInTurn
from arkway.stores.schema import access_keys, api_keys, endpoints

NEVER = 1 << 62
# Read between two moments in which the other threads may go on.
ROWS_AT_ONCE = 500

log = logging.getLogger("arkway.store")


class Key(msgspec.Struct, frozen=True, gc=False):
    """One API key: whom it stands for, until ``dead_from_s`` (epoch seconds)."""

    digest: bytes
    caller: Caller
    dead_from_s: int


class KeyShelf:
    """The API keys of all tenants. One of which nothing has changed stays the same object, and so does its caller."""

    def __init__(self) -> None:
        self._keys: dict[bytes, Key] = {}
        self._lists: dict[str, tuple[str, ...]] = {}

    def read(self, connection: sa.Connection, suspended: frozenset[str]) -> dict[bytes, Key]:
        """By digest. ``suspended``: the accounts whose keys are dead."""
        keys, lists, words = dict[bytes, Key](), dict[str, tuple[str, ...]](), dict[Any, Any]()
        for part in _parts(connection, _KEYS):
            for digest, expires_at, revoked_at, account, project, key_id, text, role in part:
                allowed = lists.get(text)
                if allowed is None:
                    allowed = lists[text] = self._lists.get(text) or msgspec.json.decode(text, type=tuple[str, ...])
                dead_from_s = dead_from(expires_at, revoked_at, suspended=account in suspended)
                said, key = (account, project, key_id, allowed, role), self._keys.get(digest)
                if key is None or key.dead_from_s != dead_from_s or _said(key.caller) != said:
                    # One object each for what most rows have in common.
                    account, project, role = (words.setdefault(word, word) for word in (account, project, role))
                    key = Key(digest, Caller(account, project, key_id, allowed, role), dead_from_s)
                keys[digest] = key
        self._keys, self._lists = keys, lists
        return keys


class Pair(msgspec.Struct, frozen=True):
    """One access key pair, its secret in clear, until ``dead_from_s`` (epoch seconds)."""

    key: AccessKey
    dead_from_s: int


class PairShelf:
    """The access key pairs of all tenants that were not revoked: nothing needs the secrets of those any more.

    A pair is decrypted once, and forgotten with the key of the ring; without a ring there are none.
    """

    def __init__(self, ring: KeyRing | None) -> None:
        self._ring = ring
        self._known: dict[str, tuple[tuple[Any, ...], AccessKey]] = {}
        self._unreadable: frozenset[str] = frozenset()

    def read(self, connection: sa.Connection, suspended: frozenset[str]) -> dict[str, Pair]:
        """By id. The log says once of each that does not decrypt."""
        if self._ring is None:
            return {}
        known: dict[str, tuple[tuple[Any, ...], AccessKey]] = {}
        pairs, unreadable = dict[str, Pair](), set[str]()
        for row in map(tuple[Any, ...], chain.from_iterable(_parts(connection, _PAIRS))):
            access_key_id, account, expires_at = row[:3]
            try:
                key = self._opened(row, self._ring)
            except ArkwayError:
                unreadable.add(access_key_id)
                continue
            known[access_key_id] = row, key
            pairs[access_key_id] = Pair(key, dead_from(expires_at, None, suspended=account in suspended))
        for access_key_id in sorted(unreadable - self._unreadable):
            log.warning("the access key %s cannot be used: its secret does not decrypt", access_key_id)
        self._known, self._unreadable = known, frozenset(unreadable)
        return pairs

    def _opened(self, row: tuple[Any, ...], ring: KeyRing) -> AccessKey:
        key_id, account, _, project, role, listed, secret, session_token = row
        before = self._known.get(key_id)
        if before is not None and before[0] == row and ring.knows(secret):
            return before[1]
        caller = Caller(account, project, key_id, msgspec.json.decode(listed, type=tuple[str, ...]), role)
        in_use, token = in_clear(key_id, secret, session_token, ring)
        return AccessKey(key_id, in_use, caller, token)


class EndpointShelf:
    """The endpoints of all tenants. One of which nothing has changed stays the same object."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[Any, ...], Endpoint]] = {}

    def read(self, connection: sa.Connection) -> list[Endpoint]:
        """In the order in which they were made."""
        known: dict[str, tuple[tuple[Any, ...], Endpoint]] = {}
        for part in _parts(connection, _ENDPOINTS):
            for row in map(tuple[Any, ...], part):
                before = self._known.get(row[0])
                known[row[0]] = before if before is not None and before[0] == row else (row, _endpoint(row))
        self._known = known
        return [endpoint for _, endpoint in known.values()]


def dead_from(expires_at: int | None, revoked_at: int | None, *, suspended: bool) -> int:
    """From which epoch second on a key is worth nothing; revoked, or of a suspended account, it never was."""
    if revoked_at is not None or suspended:
        return 0
    return NEVER if expires_at is None else expires_at


def _said(caller: Caller) -> tuple[str, str, str, tuple[str, ...], str]:
    return caller.account, caller.project, caller.key_id, caller.endpoints, caller.role


def _endpoint(row: tuple[Any, ...]) -> Endpoint:
    values = dict(zip(_ENDPOINT_FIELDS, row, strict=True))
    return msgspec.convert({**values, "tags": msgspec.json.decode(values["tags"])}, Endpoint)


def _parts(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[Sequence[Any]]:
    """The result piece by piece; an event loop that has become ready need not wait for the interpreter's turn."""
    for part in connection.execute(query).partitions(ROWS_AT_ONCE):
        yield part
        time.sleep(0)


def _text(column: sa.Column[Any]) -> sa.ColumnElement[str]:
    """JSON as it is written: most of it is the same text again and again."""
    return sa.cast(column, sa.Text)


_KEYS = sa.select(
    api_keys.c.digest,
    api_keys.c.expires_at,
    api_keys.c.revoked_at,
    api_keys.c.account,
    api_keys.c.project,
    api_keys.c.id,
    _text(api_keys.c.endpoints),
    api_keys.c.role,
)
_PAIRS = sa.select(
    access_keys.c.id,
    access_keys.c.account,
    access_keys.c.expires_at,
    access_keys.c.project,
    access_keys.c.role,
    _text(access_keys.c.endpoints),
    access_keys.c.secret,
    access_keys.c.session_token,
).where(access_keys.c.revoked_at.is_(None))
_ENDPOINT_FIELDS = Endpoint.__struct_fields__
_ENDPOINTS = (
    sa.select(*(_text(endpoints.c.tags) if name == "tags" else endpoints.c[name] for name in _ENDPOINT_FIELDS))
    .where(endpoints.c.status != "deleted")
    .order_by(endpoints.c.created_at, MadeInTurn(endpoints.c.id))
)
