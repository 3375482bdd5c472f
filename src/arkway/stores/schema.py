"""The tables, as the newest migration leaves them. Times in ``…_ms`` are epoch milliseconds, in ``…_at`` epoch seconds.

Every row of a tenant carries its account and project. ``access_keys.secret`` and ``.session_token`` are ciphertext of
the key ring (`arkway.stores.keyring`). Aliases are the operator's; a removed one keeps its row.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)

REVISION = "0002"
DEFAULT_ACCOUNT = "default"
DEFAULT_PROJECT = "default"

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("created_at", Integer, nullable=False),
)

projects = Table(
    "projects",
    metadata,
    Column("account", String, ForeignKey("accounts.id"), primary_key=True),
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("created_at", Integer, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("account", String, nullable=False),
    Column("project", String, nullable=False),
    Column("name", String, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("last4", String, nullable=False),
    Column("endpoints", JSON, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("expires_at", Integer),
    Column("revoked_at", Integer),
    Column("last_used_at", Integer),
    ForeignKeyConstraint(["account", "project"], ["projects.account", "projects.id"]),
    Index(None, "account", "project"),
)

access_keys = Table(
    "access_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("account", String, nullable=False),
    Column("project", String, nullable=False),
    Column("name", String, nullable=False),
    Column("secret", LargeBinary, nullable=False),
    Column("session_token", LargeBinary),
    Column("endpoints", JSON, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("expires_at", Integer),
    Column("revoked_at", Integer),
    Column("last_used_at", Integer),
    ForeignKeyConstraint(["account", "project"], ["projects.account", "projects.id"]),
    Index(None, "account", "project"),
)

aliases = Table(
    "aliases",
    metadata,
    Column("name", String, primary_key=True),
    Column("model_name", String, nullable=False),
    Column("model_version", String, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("removed_at", Integer),
)

endpoints = Table(
    "endpoints",
    metadata,
    Column("id", String, primary_key=True),
    Column("account", String, nullable=False),
    Column("project", String, nullable=False),
    Column("name", String, nullable=False),
    Column("model_name", String, nullable=False),
    Column("model_version", String, nullable=False),
    Column("status", String, nullable=False),
    Column("created_at", Integer, nullable=False),
    ForeignKeyConstraint(["account", "project"], ["projects.account", "projects.id"]),
    Index(None, "account", "project"),
)

usage = Table(
    "usage",
    metadata,
    Column("attempt_id", String, primary_key=True),
    Column("request_id", String, nullable=False),
    Column("account", String, nullable=False),
    Column("project", String, nullable=False),
    Column("key_id", String, nullable=False),
    Column("endpoint_id", String, nullable=False),
    Column("model", String, nullable=False),
    Column("dialect", String, nullable=False),
    Column("operation", String, nullable=False),
    Column("opened_ms", Integer, nullable=False),
    Column("closed_ms", Integer, nullable=False),
    Column("outcome", String, nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("cached_tokens", Integer, nullable=False),
    Column("reasoning_tokens", Integer, nullable=False),
    Column("provenance", String, nullable=False),
    Column("first_token_ms", Integer, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("error", String, nullable=False),
    Index(None, "account", "project", "opened_ms"),
    Index(None, "account", "project", "key_id", "opened_ms"),
    Index(None, "request_id"),
)
