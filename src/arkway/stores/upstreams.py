"""Other model servers and the models that they answer for, in the database; secrets only as ciphertext of the key ring.

An upstream's secret (an API key, or the secret half of an access key pair) is bound to the upstream's name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from arkway.core.errors import ArkwayError, Misconfigured
from arkway.core.upstream import Credential, Group, Upstream
from arkway.stores.keyring import KeyRing, kid_within
from arkway.stores.portable import insert
from arkway.stores.recorded import Recorded, Transactions
from arkway.stores.schema import groups, upstreams
from arkway.stores.store import Store
from arkway.stores.tables import Row, plain_rows

T = TypeVar("T")

_PUBLIC_COLUMNS = [column for column in upstreams.c if column.name != "secret"]
_OF_GROUP = ("model_name", "model_version")

log = logging.getLogger("arkway.store")


class Known(msgspec.Struct, frozen=True):
    """Everything at one moment: upstreams with what they are shown, and groups, both in order of their names."""

    upstreams: tuple[tuple[Upstream, Credential], ...] = ()
    groups: tuple[Group, ...] = ()


class UpstreamTable(Recorded):
    """Upstreams, for the admin commands. Nothing here ever returns a secret.

    Rows are flat: the columns of the table and the names within ``options``.
    """

    def __init__(self, store: Transactions, ring: KeyRing) -> None:
        super().__init__(store)
        self._ring = ring

    def add(self, row: Row, secret: str) -> bool:
        """False when the name is taken. ``secret`` empty = there is none. Raises Misconfigured for a wrong key ring."""

        def work(connection: sa.Connection) -> bool:
            values = {**_folded(row), "secret": self._sealed(connection, row["name"], secret)}
            statement = insert(connection, upstreams).values(values).on_conflict_do_nothing()
            return connection.execute(statement.returning(upstreams.c.name)).scalar() is not None

        return self._store.run_sync(work, tell=True)

    def update(self, row: Row, secret: str | None) -> bool:
        """Everything but when it was made; ``secret`` None = the one it has, empty = none. False: there is no such."""

        def work(connection: sa.Connection) -> bool:
            values = {name: value for name, value in _folded(row).items() if name not in ("name", "created_at")}
            if secret is not None:
                values["secret"] = self._sealed(connection, row["name"], secret)
            change = upstreams.update().where(upstreams.c.name == row["name"]).values(values)
            return connection.execute(change).rowcount > 0

        return self._store.run_sync(work, tell=True)

    def rows(self) -> Sequence[Row]:
        """Every upstream, by name."""
        query = sa.select(*_PUBLIC_COLUMNS).order_by(upstreams.c.name)
        return self._store.run_sync(lambda connection: [*map(_flat, plain_rows(connection, query))], read=True)

    def has_secret(self, name: str, secret: str) -> bool:
        """Whether it is this one that the upstream is shown; one that does not decrypt is not."""
        query = sa.select(upstreams.c.secret).where(upstreams.c.name == name)
        found = self._store.run_sync(lambda connection: connection.execute(query).scalar(), read=True)
        try:
            return (_opened(name, found, self._ring) if found is not None else "") == secret
        except Misconfigured:
            return False

    def remove(self, name: str) -> bool:
        """False when there is no such upstream, or a group has it as a member."""

        def work(connection: sa.Connection) -> bool:
            if name in {member["upstream"] for each in _members(connection) for member in each}:
                return False
            return connection.execute(upstreams.delete().where(upstreams.c.name == name)).rowcount > 0

        return self._store.run_sync(work, tell=True)

    def _sealed(self, connection: sa.Connection, name: str, secret: str) -> bytes | None:
        """Within the transaction: a rotation drops a key only in one of its own."""
        if not secret:
            return None
        self._ring.reload()
        _check_ring(connection, self._ring, name)
        return self._ring.encrypt(secret.encode(), _place(name))


class GroupTable(Recorded):
    """The models that upstreams answer for."""

    def put(self, row: Row) -> bool:
        """One version of a model, in the place of what it was; False when a member's upstream is not there.

        A row that is the default takes that from the other versions. When it was first made stays.
        """

        def work(connection: sa.Connection) -> bool:
            there = set(connection.execute(_NAMES).scalars())
            if not {member["upstream"] for member in row["members"]} <= there:
                return False
            if row["is_default"]:
                same = groups.c.model_name == row["model_name"]
                connection.execute(groups.update().where(same).values(is_default=False))
            statement = insert(connection, groups).values(dict(row))
            kept = (*_OF_GROUP, "created_at")
            new = {column.name: statement.excluded[column.name] for column in groups.c if column.name not in kept}
            connection.execute(statement.on_conflict_do_update(index_elements=_OF_GROUP, set_=new))
            return True

        return self._store.run_sync(work, tell=True)

    def upstreams(self) -> Sequence[str]:
        """The names that members may have."""
        return self._store.run_sync(lambda connection: connection.execute(_NAMES).scalars().all(), read=True)

    def rows(self) -> Sequence[Row]:
        """Every version, by model and version."""
        return self._store.run_sync(lambda connection: plain_rows(connection, _GROUPS), read=True)

    def remove(self, model_name: str, model_version: str) -> bool:
        """False when there is no such version."""
        change = groups.delete().where(groups.c.model_name == model_name, groups.c.model_version == model_version)
        return self._store.run_sync(lambda connection: connection.execute(change).rowcount > 0, tell=True)


_NAMES = sa.select(upstreams.c.name)
_GROUPS = sa.select(groups).order_by(groups.c.model_name, groups.c.model_version)


def follow_upstreams(store: Store, ring: KeyRing, told: Callable[[Known], None]) -> None:
    """Tell everything now, and again within two seconds of any change, on a thread of the store's.

    An upstream whose secret does not decrypt is left out, as is what a newer program wrote; the log says so once.
    """
    reading = _Reading(ring)
    store.watch(lambda connection: told(reading.known(connection)))


def known(store: Store, ring: KeyRing) -> Known:
    """Everything, once."""
    return store.run_sync(_Reading(ring).known, read=True)


class _Reading:
    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self._unreadable: frozenset[str] = frozenset()

    def known(self, connection: sa.Connection) -> Known:
        unreadable: dict[str, str] = {}

        def read(rows: Sequence[Row], one: Callable[[Row], T], shown: str) -> Iterator[T]:
            for row in rows:
                try:
                    yield one(row)
                except (ArkwayError, msgspec.ValidationError) as error:
                    unreadable[shown.format(**row)] = str(error)

        servers = plain_rows(connection, sa.select(upstreams).order_by(upstreams.c.name))
        found = tuple(read(servers, lambda row: _upstream(row, self._ring), "upstream {name}"))
        models = tuple(read(plain_rows(connection, _GROUPS), group_of, "group {model_name}:{model_version}"))
        for what in sorted(unreadable.keys() - self._unreadable):
            log.warning("the %s cannot be used: %s", what, unreadable[what])
        self._unreadable = frozenset(unreadable)
        return Known(found, models)


def group_of(row: Row) -> Group:
    """A row of ``groups`` as a value."""
    parts = {name: row[name] for name in ("card", "members", "policy", "is_default")}
    return msgspec.convert(parts, Group)


def _upstream(row: Row, ring: KeyRing) -> tuple[Upstream, Credential]:
    flat = _flat(row)
    upstream = msgspec.convert(flat, Upstream)
    secret = "" if row["secret"] is None else _opened(upstream.name, row["secret"], ring)
    if upstream.auth == "aksk":
        return upstream, Credential(access_key_id=flat.get("access_key_id", ""), secret_access_key=secret)
    return upstream, Credential(key=secret)


def _folded(row: Row) -> dict[str, Any]:
    """The columns; what has none is among the options."""
    values = {name: value for name, value in row.items() if name in upstreams.c}
    return {**values, "options": {name: value for name, value in row.items() if name not in upstreams.c}}


def _flat(row: Row) -> dict[str, Any]:
    return {**row["options"], **{name: value for name, value in row.items() if name not in ("options", "secret")}}


def _members(connection: sa.Connection) -> list[list[dict[str, Any]]]:
    return list(connection.execute(sa.select(groups.c.members)).scalars())


def _place(name: str) -> str:
    """What the secret is bound to; no access key's id has a slash."""
    return f"upstream/{name}"


def _opened(name: str, ciphertext: bytes, ring: KeyRing) -> str:
    """The secret in clear. Raises Misconfigured."""
    try:
        return ring.decrypt(ciphertext, _place(name)).decode()
    except Misconfigured as error:
        raise Misconfigured(
            f"the secret of the upstream `{name}` does not decrypt: restore the key ring "
            f"(its key was {kid_within(ciphertext)}), or give the secret again: `arkway upstreams update {name}`"
        ) from error


def _check_ring(connection: sa.Connection, ring: KeyRing, name: str) -> None:
    """Raises Misconfigured when other upstreams have secrets and the ring has the key of none of them."""
    query = sa.select(upstreams.c.secret).where(upstreams.c.secret.is_not(None), upstreams.c.name != name)
    secrets = [bytes(secret) for secret in connection.execute(query).scalars()]
    if secrets and not any(map(ring.knows, secrets)):
        kid = kid_within(secrets[0])
        raise Misconfigured(
            f"the secrets of the upstreams are encrypted under the key {kid}, which is not in {ring.path}; restore "
            "that file from a backup, or remove the upstreams and add them again"
        )


# A rotation of the key ring


def secrets_held(connection: sa.Connection) -> list[bytes]:
    """Every upstream's ciphertext."""
    query = sa.select(upstreams.c.secret).where(upstreams.c.secret.is_not(None))
    return [bytes(secret) for secret in connection.execute(query).scalars()]


def encrypt_anew(connection: sa.Connection, ring: KeyRing) -> tuple[int, tuple[str, ...]]:
    """Every secret under the ring's current key: how many were not, and the places of those that do not decrypt."""
    done, failed = 0, list[str]()
    for row in connection.execute(sa.select(upstreams.c.name, upstreams.c.secret)).all():
        if row.secret is None or kid_within(row.secret) == ring.current:
            continue
        try:
            secret = _opened(row.name, row.secret, ring)
        except Misconfigured:
            failed.append(_place(row.name))
            continue
        sealed = ring.encrypt(secret.encode(), _place(row.name))
        connection.execute(upstreams.update().where(upstreams.c.name == row.name).values(secret=sealed))
        done += 1
    return done, tuple(failed)
