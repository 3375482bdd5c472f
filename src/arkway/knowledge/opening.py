"""Where the knowledge of an installation is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from arkway.ports.lookup import KnowledgeStore

if TYPE_CHECKING:
    import psycopg


def knowledge_path(home: Path) -> Path:
    return home / "knowledge.db"


def open_knowledge(home: Path, connect: Callable[[], psycopg.Connection] | None = None) -> KnowledgeStore:
    """In PostgreSQL where there is a way to ``connect`` to it, else in the SQLite file of the data directory.

    Raises Misconfigured and StoreUnavailable.
    """
    if connect is None:
        from arkway.knowledge.sqlite_store import open_sqlite

        return open_sqlite(knowledge_path(home))
    from arkway.knowledge.postgres_store import open_postgres

    return open_postgres(connect)
