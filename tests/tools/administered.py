"""A server with an Admin API over a real database: two accounts, with keys of every role and things of each kind."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import sqlalchemy as sa

from arkway.admin.access_keys import NewAccessKey
from arkway.app.administration import admin_commands, status_of
from arkway.app.knowledge import Opened, alone
from arkway.config import load
from arkway.core.audit import SERVER
from arkway.core.caller import Caller, Role
from arkway.core.knowledge import Chunk, Document
from arkway.core.upstream import Credential, Upstream
from arkway.http.admin.commands import Commands
from arkway.http.admin.shapes import model_shown
from arkway.http.admin.table import OPERATIONS
from arkway.knowledge.holdings import Holdings
from arkway.knowledge.identity import document_id
from arkway.stores.directory import CachedDirectory
from arkway.stores.home import Pepper
from arkway.stores.keyring import open_ring
from arkway.stores.schema import usage
from arkway.stores.store import Store, open_store
from arkway.testing import CHAT_CARD, EMBEDDING_CARD, RunningServer, running_server
from tests.tools.client import Connection, Reply
from tests.tools.databases import made

HOST, OTHER = "default", "acme"
SECOND = "second"
ROLES: tuple[Role, ...] = get_args(Role)
BY_ID = {operation.id: operation for operation in OPERATIONS}
COLLECTIONS = {(account, "default", f"of-{account}") for account in (HOST, OTHER)}
CARDS = {(card.name, version): card for card in (CHAT_CARD, EMBEDDING_CARD) for version in ("", card.version)}


class Administered:
    """The server, and what is in its database.

    ``keys`` are secrets by account and role; ``things`` are ids of the account by the name of the path's open segment.
    """

    def __init__(self, server: RunningServer, store: Store, commands: Commands, knowledge: Opened) -> None:
        self.server, self.store, self.commands, self.knowledge = server, store, commands, knowledge
        self.keys: dict[tuple[str, Role], str] = {}
        self.things: dict[str, dict[str, str]] = {}
        self.pair: NewAccessKey
        now_s = int(time.time())
        for account in (HOST, OTHER):
            self._furnish(account, now_s)

    def _furnish(self, account: str, now_s: int) -> None:
        if account != HOST:
            self.commands.accounts(SERVER).create(now_s, account)
        projects = self.commands.projects(account, SERVER)
        for project in (SECOND, f"of-{account}"):
            projects.create(project, now_s)
        keys = self.commands.keys(account, "default", SERVER)
        for role in ROLES:
            if role != "operator" or account == HOST:
                self.keys[account, role] = keys.create(role, now_s, role=role)[1]
        server = Upstream(name=f"of-{account}", base_url="http://127.0.0.1:9/v1")
        self.commands.upstreams(SERVER).add(server, Credential(), now_s)
        endpoint = self.commands.endpoints(account, "default", SERVER).create("first", CHAT_CARD.name, now_s)
        self.pair = self.commands.access_keys(account, "default", SERVER).create("pair", now_s)
        key, _ = keys.create("spare", now_s)
        knowledge = self._knowledge(account, now_s)
        bot = self.commands.bots(account, "default", SERVER).create("helper", endpoint.id, now_s)
        limits = self.commands.limits(account, "default", SERVER)
        limits.set("endpoint", endpoint.id, {"rpm": 60.0}, now_s)
        self.store.run_sync(
            lambda connection: connection.execute(sa.insert(usage), _calls(account, endpoint.id, key.id, now_s))
        )
        self.things[account] = {
            "account": account,
            "project": f"of-{account}",
            "key": key.id,
            "access_key": self.pair.info.id,
            "endpoint": endpoint.id,
            "bot": bot.id,
            **knowledge,
            "upstream": f"of-{account}",
        }

    def _knowledge(self, account: str, now_s: int) -> dict[str, str]:
        """A collection with a document of one chunk, and an upload that waits."""
        holdings = self.commands.holdings(account, "default", SERVER)
        collection = holdings.create(f"of-{account}", now_s)
        document = Document(
            id=document_id(collection.id, "first.md"),
            collection_id=collection.id,
            source="first.md",
            name="first",
            type="md",
        )
        chunk = Chunk(id=f"{document.id}-1", document_id=document.id, ordinal=0, text=f"Only {account} knows.")
        self.knowledge().put(document, [chunk], {})
        job = holdings.upload(collection.id, "second.md", b"# Second", now_s)
        return {"collection": collection.id, "document": document.id, "chunk": chunk.id, "job": job.id}

    def server_caller(self) -> Caller:
        """An operator, for servers that have a directory of their own."""
        return Caller(HOST, "default", "key-operator", (), "operator")

    @contextmanager
    def client(self, role: Role = "operator", account: str = HOST) -> Iterator[Client]:
        with Connection(self.server.url, self.keys[account, role]) as connection:
            yield Client(connection, self)


class Client:
    """Makes operations by their ids."""

    def __init__(self, connection: Connection, administered: Administered) -> None:
        self.connection, self._administered = connection, administered

    def do(
        self,
        operation_id: str,
        body: Any = None,
        *,
        name: str | None = None,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        of: str = HOST,
    ) -> Reply:
        """``name`` stands in the path's open segment; by default it is the thing of the account ``of``."""
        operation = BY_ID[operation_id]
        path = operation.full_path
        for segment, thing in self._administered.things[of].items():
            path = path.replace(f"{{{segment}}}", thing if name is None else name)
        return self.connection.call(operation.method, f"{path}{'?' if query else ''}{query}", body, headers)


@contextmanager
def administered(home: Path, url: str = "", **options: Any) -> Iterator[Administered]:
    """A running server over a new database in ``home`` or at ``url``; ``options`` are those of `running_server`."""
    pepper = Pepper(b"testing only")
    knowledge = Opened(load(environ={}, overrides={"home": str(home)}))
    ring = open_ring(home)
    with open_store(home / "arkway.db" if url else made(home / "arkway.db"), url, poll_s=0.05) as store:
        commands = admin_commands(
            store,
            pepper,
            ring,
            lambda name, version: (CARDS[name, version], "scripted") if (name, version) in CARDS else None,
            lambda: [model_shown(card, is_default=True) for card in (CHAT_CARD, EMBEDDING_CARD)],
            lambda: status_of((), (), {"ledger_lag_bytes": 0}),
            lambda account, project, name: (account, project, name) in COLLECTIONS,
            lambda account, project, actor: Holdings(alone(knowledge, store), account, project, actor),
        )
        directory = CachedDirectory(store, pepper, ring)
        with running_server(directory=directory, admin=commands, **options) as server:
            yield Administered(server, store, commands, knowledge)
        knowledge.close()


def _calls(account: str, endpoint_id: str, key_id: str, now_s: int) -> list[dict[str, Any]]:
    """Five calls of one moment, and a later one."""
    moments = [now_s * 1000 - 60_000] * 5 + [now_s * 1000 - 30_000]
    return [
        {
            "attempt_id": f"{account}-attempt-{number}",
            "request_id": f"02-{account}-{number}",
            "account": account,
            "project": "default",
            "key_id": key_id,
            "endpoint_id": endpoint_id,
            "model": CHAT_CARD.served_name,
            "dialect": "v3",
            "operation": "chat",
            "opened_ms": opened_ms,
            "closed_ms": opened_ms + 100,
            "outcome": "done",
            "prompt_tokens": 100,
            "completion_tokens": 10,
            "cached_tokens": 0,
            "reasoning_tokens": 0,
            "provenance": "reported",
            "first_token_ms": 5,
            "duration_ms": 100,
            "error": "",
            "caller": "anna",
        }
        for number, opened_ms in enumerate(moments)
    ]
