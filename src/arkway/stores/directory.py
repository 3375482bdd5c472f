"""Keys, endpoints, bots and aliases as the road of a call sees them: dictionaries of this process, never a query."""

from __future__ import annotations

import hmac
import itertools
import logging
import secrets
from concurrent.futures import Future
from hashlib import blake2b

import msgspec
import sqlalchemy as sa

from arkway.core.bot import Bot
from arkway.core.caller import AccessKey, Caller
from arkway.core.limit import Rule
from arkway.core.model import Endpoint
from arkway.core.roles import PERMISSIONS, reaches
from arkway.ports import Alias
from arkway.stores.bots import BotShelf
from arkway.stores.home import Pepper
from arkway.stores.keyring import KeyRing
from arkway.stores.limits import RuleBook, read_rules
from arkway.stores.schema import access_keys, accounts, aliases, api_keys
from arkway.stores.shelves import EndpointShelf, Key, KeyShelf, Pair, PairShelf
from arkway.stores.store import Store
from arkway.stores.temporary import TemporaryKeys, caller_of

MARK_BYTES = 16
MARKED_MAX = 256

log = logging.getLogger("arkway.store")


_UNKNOWN = Key(b"\0" * 32, Caller("", "", ""), 0)


class CachedDirectory:
    """A Directory that holds all keys, endpoints, bots and aliases and is told when they change.

    A change made through the same store is effective when its command returns; one made by another process at the
    store's next poll (``poll_s``, one second). While the database is away the last known state goes on. An access key
    whose secret the ``ring`` cannot decrypt is unknown, and its id is logged; without a ring all of them are unknown.
    """

    def __init__(
        self, store: Store, pepper: Pepper, ring: KeyRing | None = None, *, used_every_polls: int = 10
    ) -> None:
        self._store, self._pepper = store, pepper
        self._temporary = TemporaryKeys(pepper)
        self._marking = secrets.token_bytes(32)
        self._digests: dict[bytes, bytes] = {}
        self._key_shelf, self._pair_shelf, self._endpoint_shelf = KeyShelf(), PairShelf(ring), EndpointShelf()
        self._keys: dict[bytes, Key] = {}
        self._by_id: dict[str, Key] = {}
        self._pairs: dict[str, Pair] = {}
        self._aliases: dict[str, Alias] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._projects: dict[tuple[str, str], tuple[Endpoint, ...]] = {}
        self._bot_shelf = BotShelf()
        self._bots: dict[str, Bot] = {}
        self._rules = RuleBook()
        self._numbers = itertools.count(1)
        self.changes = 0
        self._used: dict[str, int] = {}
        self._pairs_used: dict[str, int] = {}
        self._used_every_polls, self._polls = used_every_polls, 0
        store.watch(self._load)
        store.every_poll(self._poll)

    def caller(self, secret: str, now_s: int) -> Caller | None:
        """Whose key this is. Unknown, revoked and expired keys take the same steps and give the same None.

        A temporary key is good as long as the access key that it was given to.
        """
        if self._temporary.claimed(secret):
            return self._of_access_key(secret, now_s)
        mark = self._mark(secret)
        digest = self._digests.get(mark) or self._pepper.digest(secret)
        key = self._keys.get(digest, _UNKNOWN)
        known = hmac.compare_digest(key.digest, digest)
        alive = now_s < key.dead_from_s
        if not (known and alive):
            return None
        if mark:
            # The pepper's digest costs ten times as much as a mark, which says nothing outside this process.
            self._digests[mark] = key.digest
        self._used[key.caller.key_id] = now_s
        return key.caller

    def stands(self, caller: Caller, now_s: int) -> bool:
        """By identity: a caller is made anew with any change of its key. Those of temporary keys never stand."""
        key = self._by_id.get(caller.key_id)
        if key is None or key.caller is not caller or now_s >= key.dead_from_s:
            return False
        self._used[caller.key_id] = now_s
        return True

    def _mark(self, secret: str) -> bytes:
        """The same for the same secret; of one that is too long to be ours, for none."""
        if len(secret) > MARKED_MAX:
            return b""
        return blake2b(secret.encode("utf-8", "surrogatepass"), digest_size=MARK_BYTES, key=self._marking).digest()

    def _of_access_key(self, secret: str, now_s: int) -> Caller | None:
        grant = self._temporary.grant(secret, now_s)
        pair = self.access_key(grant.access_key_id, now_s) if grant is not None else None
        if grant is None or pair is None:
            return None
        caller = _held_to(pair.caller, caller_of(grant))
        if caller is not None:
            self.used(pair.id, now_s)
        return caller

    def access_key(self, access_key_id: str, now_s: int) -> AccessKey | None:
        """The pair of this id, its secret in clear. Unknown, revoked and expired ones give the same None."""
        pair = self._pairs.get(access_key_id)
        return pair.key if pair is not None and now_s < pair.dead_from_s else None

    def used(self, access_key_id: str, now_s: int) -> None:
        """Remembers the time until it is written; who is only claimed to call is not counted as a use."""
        if access_key_id in self._pairs:
            self._pairs_used[access_key_id] = now_s

    def alias(self, name: str) -> Alias | None:
        return self._aliases.get(name.casefold())

    def aliases(self) -> tuple[Alias, ...]:
        return tuple(self._aliases.values())

    def endpoint(self, endpoint_id: str) -> Endpoint | None:
        """The endpoint of this id, or the bot of this id as an endpoint."""
        return self._endpoints.get(endpoint_id)

    def bot(self, bot_id: str) -> Bot | None:
        return self._bots.get(bot_id)

    def endpoints(self, account: str, project: str) -> tuple[Endpoint, ...]:
        """Every endpoint of one project, oldest first; no bots."""
        return self._projects.get((account, project), ())

    def limits(self, account: str, project: str, key_id: str, endpoint_id: str) -> tuple[Rule, ...]:
        return self._rules.of(account, project, key_id, endpoint_id)

    def changed(self) -> None:
        """Something has, in here or outside: which models there are. Everybody sees it already. For any thread."""
        # Two threads that added one to the number could bring back one that stood for less.
        self.changes = next(self._numbers)

    def write_used(self) -> Future[None]:
        """Start writing the times of last use that are only in memory."""
        used, self._used = self._used, {}
        pairs, self._pairs_used = self._pairs_used, {}
        future = self._store.submit(lambda connection: _write_used(connection, used, pairs))
        future.add_done_callback(lambda done: self._keep_unwritten(done, used, pairs))
        return future

    def _keep_unwritten(self, done: Future[None], used: dict[str, int], pairs: dict[str, int]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._used = {**used, **self._used}
            self._pairs_used = {**pairs, **self._pairs_used}

    def _poll(self) -> None:
        self._polls += 1
        if (self._used or self._pairs_used) and self._polls % self._used_every_polls == 0:
            self.write_used()

    def _load(self, connection: sa.Connection) -> None:
        idle = sa.select(accounts.c.id).where(accounts.c.status != "active")
        suspended = frozenset(connection.execute(idle).scalars())
        keys = self._key_shelf.read(connection, suspended)
        found = self._endpoint_shelf.read(connection)
        projects: dict[tuple[str, str], list[Endpoint]] = {}
        for endpoint in found:
            projects.setdefault((endpoint.account, endpoint.project), []).append(endpoint)
        known = connection.execute(sa.select(aliases).where(aliases.c.removed_at.is_(None)).order_by(aliases.c.name))
        self._aliases = {row.name: Alias(row.name, row.model_name, row.model_version) for row in known}
        self._pairs = self._pair_shelf.read(connection, suspended)
        self._rules = RuleBook(read_rules(connection))
        self._keys, self._by_id = keys, {key.caller.key_id: key for key in keys.values()}
        if len(self._digests) > len(keys):  # of keys that are gone
            self._digests = {}
        bots = self._bot_shelf.read(connection)
        self._bots = bots
        self._endpoints = {each.id: each for each in (*(bot.as_endpoint() for bot in bots.values()), *found)}
        self._projects = {place: tuple(group) for place, group in projects.items()}
        self.changed()


def _held_to(holder: Caller, wanted: Caller) -> Caller | None:
    """What is left of a temporary key's grant under what its access key may do today; None = nothing."""
    if holder.role not in PERMISSIONS["models.call"].roles or not reaches(holder, wanted.account, wanted.project):
        return None
    if not holder.endpoints:
        return wanted
    left = tuple(endpoint for endpoint in wanted.endpoints if endpoint in holder.endpoints)
    return msgspec.structs.replace(wanted, endpoints=left) if left else None


def _write_used(connection: sa.Connection, used: dict[str, int], pairs: dict[str, int]) -> None:
    for table, times in ((api_keys, used), (access_keys, pairs)):
        if times:
            change = table.update().where(table.c.id == sa.bindparam("key_id"))
            values = [{"key_id": key_id, "now_s": now_s} for key_id, now_s in times.items()]
            connection.execute(change.values(last_used_at=sa.bindparam("now_s")), values)
