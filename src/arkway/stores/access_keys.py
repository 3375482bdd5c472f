"""Access key pairs in the database: their secrets only as ciphertext of the key ring."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import msgspec
import sqlalchemy as sa
from msgspec import UnsetType

from arkway.core.errors import Misconfigured
from arkway.files import FileLock
from arkway.stores.keyring import KID_BYTES, KeyRing, kid_within
from arkway.stores.portable import MadeInTurn
from arkway.stores.recorded import Recorded, Transactions
from arkway.stores.schema import access_keys
from arkway.stores.store import Store
from arkway.stores.tables import Row, given, plain_rows
from arkway.stores.upstreams import encrypt_anew, secrets_held

Progress = Callable[[int, int], None]

BATCH_ROWS = 200
LOCK_WAIT_S = 5.0

_SECRETS = ("secret", "session_token")
_PUBLIC_COLUMNS = [column for column in access_keys.c if column.name not in _SECRETS]


class AccessKeyTable(Recorded):
    """Access key pairs, for the admin commands. Nothing here ever returns a secret."""

    def __init__(self, store: Transactions, ring: KeyRing) -> None:
        super().__init__(store)
        self._ring = ring

    def insert(self, row: Row, secret: str, session_token: str = "") -> None:
        """Raises Misconfigured when the key ring is not the one that the other secrets are encrypted under."""

        def work(connection: sa.Connection) -> None:
            # Within the transaction: a rotation drops a key only in one of its own.
            self._ring.reload()
            _check_ring(connection, self._ring, row["created_at"])
            sealed = self._ring.encrypt(secret.encode(), row["id"])
            token = self._ring.encrypt(session_token.encode(), _token_place(row["id"])) if session_token else None
            values = {**row, "endpoints": list(row["endpoints"]), "secret": sealed, "session_token": token}
            connection.execute(access_keys.insert().values(values))

        self._store.run_sync(work, tell=True)

    def rows(self, account: str, project: str) -> Sequence[Row]:
        """Every pair of the project, oldest first."""
        query = sa.select(*_PUBLIC_COLUMNS).where(access_keys.c.account == account, access_keys.c.project == project)
        ordered = query.order_by(access_keys.c.created_at, MadeInTurn(access_keys.c.id))
        return self._store.run_sync(lambda connection: plain_rows(connection, ordered), read=True)

    def revoke(self, account: str, project: str, access_key_id: str, now_s: int) -> bool:
        """False when the project has no such pair. A second revocation keeps the time of the first."""
        columns = access_keys.c
        change = access_keys.update().values(revoked_at=sa.func.coalesce(columns.revoked_at, now_s))
        mine = change.where(columns.account == account, columns.project == project, columns.id == access_key_id)
        return self._store.run_sync(lambda connection: connection.execute(mine).rowcount > 0, tell=True)

    def update(
        self,
        account: str,
        project: str,
        access_key_id: str,
        role: str | UnsetType,
        endpoints: Sequence[str] | UnsetType,
        expires_at: int | UnsetType | None,
    ) -> bool:
        """False when the project has no such pair, or it was revoked. What is UNSET stays as it is."""
        columns = access_keys.c
        change = access_keys.update().values(given(role=role, endpoints=endpoints, expires_at=expires_at))
        mine = change.where(columns.account == account, columns.project == project, columns.id == access_key_id)
        alive = mine.where(columns.revoked_at.is_(None))
        return self._store.run_sync(lambda connection: connection.execute(alive).rowcount > 0, tell=True)

    def check_ring(self, now_s: int) -> None:
        """Raises Misconfigured when there are pairs in use and the key ring has the key of none of them."""
        self._store.run_sync(lambda connection: _check_ring(connection, self._ring, now_s), read=True)


class Rotation(msgspec.Struct, frozen=True):
    """What a rotation has done: rows encrypted anew, key ids, and whose secrets did not decrypt.

    Those are ids of pairs, and ``upstream/<name>``.
    """

    current: str
    new_key: bool
    rows: int
    dropped: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


def rotate(
    store: Store,
    ring: KeyRing,
    *,
    drop_old: bool,
    progress: Progress = lambda *_: None,
) -> Rotation:
    """Encrypt every secret under a new current key; ``progress(rows done, rows altogether)``.

    When secrets are left under an older key (a rotation was killed, or the operator has given another key), they are
    brought to the current one and no new key is made. Killed at any moment, every secret can still be decrypted: all
    keys stay until no row needs them. Raises Misconfigured, StoreUnavailable.
    """
    lock = FileLock(ring.path.with_name(ring.path.name + ".lock"))
    try:
        lock.wait(LOCK_WAIT_S)
        ring.reload()
        new_key = not ring.given and not _behind(store, ring)
        if new_key:
            # Within a transaction, as `insert`: a first key that is made at this moment is not written over.
            store.run_sync(lambda _: ring.advance(), tell=True)
        rows, unreadable = _encrypt_anew(store, ring, progress)
        more, lost = store.run_sync(lambda connection: encrypt_anew(connection, ring), tell=True)
        dropped = store.run_sync(lambda connection: ring.keep_only(_kids(connection)), tell=True) if drop_old else ()
        return Rotation(ring.current, new_key, rows + more, dropped, (*unreadable, *lost))
    finally:
        lock.close()


def in_clear(access_key_id: str, secret: bytes, session_token: bytes | None, ring: KeyRing) -> tuple[bytes, str]:
    """The pair's secret and session token, from ciphertext. Raises Misconfigured, StoreUnavailable."""
    token = "" if session_token is None else ring.decrypt(session_token, _token_place(access_key_id)).decode()
    return ring.decrypt(secret, access_key_id), token


def _token_place(access_key_id: str) -> str:
    """A place of its own: a session token put where the secret belongs does not decrypt."""
    return f"{access_key_id}/session_token"


def _check_ring(connection: sa.Connection, ring: KeyRing, now_s: int) -> None:
    columns = access_keys.c
    alive = sa.select(columns.secret).where(columns.revoked_at.is_(None))
    used = alive.where(sa.or_(columns.expires_at.is_(None), columns.expires_at > now_s))
    secrets = [bytes(secret) for secret in connection.execute(used).scalars()]
    if secrets and not any(map(ring.knows, secrets)):
        kid = kid_within(secrets[0])
        raise Misconfigured(
            f"no access key can be used: their secrets are encrypted under the key {kid}, {ring.lost()}"
        )


def _of_other_keys(kid: str) -> sa.ColumnElement[bool]:
    key: sa.ColumnElement[bytes] = sa.func.substr(access_keys.c.secret, 1, KID_BYTES, type_=sa.LargeBinary)
    return key != bytes.fromhex(kid)


def _behind(store: Store, ring: KeyRing) -> bool:
    """Whether there are secrets that can be decrypted and are not under the current key."""
    query = sa.select(access_keys.c.secret).where(_of_other_keys(ring.current))

    def work(connection: sa.Connection) -> list[bytes]:
        others = [secret for secret in secrets_held(connection) if kid_within(secret) != ring.current]
        return [*connection.execute(query).scalars(), *others]

    return bool(ring.current) and any(map(ring.knows, store.run_sync(work, read=True)))


def _encrypt_anew(store: Store, ring: KeyRing, progress: Progress) -> tuple[int, tuple[str, ...]]:
    """How many rows were brought to the current key, and the ids of those that cannot be decrypted."""
    count = sa.select(sa.func.count()).select_from(access_keys).where(_of_other_keys(ring.current))
    total = store.run_sync(lambda connection: connection.execute(count).scalar_one(), read=True)
    seen, unreadable = 0, list[str]()
    for ids, failed in _batches(store, ring):
        seen += len(ids)
        unreadable += failed
        progress(seen, max(seen, total))
    return seen - len(unreadable), tuple(unreadable)


def _batches(store: Store, ring: KeyRing) -> Iterator[tuple[list[str], list[str]]]:
    """One transaction at a time: the ids it looked at, and those among them that could not be decrypted."""
    last = ""
    while True:
        ids, failed = store.run_sync(partial(_batch, ring=ring, after=last), tell=True)
        if not ids:
            return
        yield ids, failed
        last = ids[-1]


def _batch(connection: sa.Connection, ring: KeyRing, after: str) -> tuple[list[str], list[str]]:
    query = sa.select(access_keys).where(_of_other_keys(ring.current), access_keys.c.id > after)
    rows = connection.execute(query.order_by(access_keys.c.id).limit(BATCH_ROWS)).all()
    failed: list[str] = []
    for row in rows:
        try:
            secret, session_token = in_clear(row.id, row.secret, row.session_token, ring)
        except Misconfigured:
            failed.append(row.id)
            continue
        token = ring.encrypt(session_token.encode(), _token_place(row.id)) if session_token else None
        values = {"secret": ring.encrypt(secret, row.id), "session_token": token}
        connection.execute(access_keys.update().where(access_keys.c.id == row.id).values(values))
    return [row.id for row in rows], failed


def _kids(connection: sa.Connection) -> set[str]:
    """The keys that any row needs."""
    secrets = connection.execute(sa.select(access_keys.c.secret)).scalars()
    return {kid_within(secret) for secret in (*secrets, *secrets_held(connection))}
