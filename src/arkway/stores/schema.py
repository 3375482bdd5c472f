"""The tables, as the newest migration leaves them. Times in ``…_ms`` are epoch milliseconds, in ``…_at`` epoch seconds.

Every row of a tenant carries its account and project. ``access_keys.secret`` and ``.session_token`` are ciphertext of
the key ring (`arkway.stores.keyring`), and so is ``upstreams.secret``. Aliases, prices, upstreams and groups are the
operator's; a removed alias keeps its row. ``audit`` only grows. A limit's ``subject`` is the id of its scope: a key, an
endpoint or bot, or empty for the project.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)

REVISION = "0005"
# A program of this revision or later can use the schema: migrations only add, so that the version before goes on.
OLDEST_REVISION = "0003"
DEFAULT_PROJECT = "default"

# SQLite's integers have 64 bits; PostgreSQL's have 32, which end in 2038, or at what an upstream may report as tokens.
WHOLE = Integer().with_variant(BigInteger(), "postgresql")
EPOCH_MS = WHOLE

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
    Column("created_at", WHOLE, nullable=False),
    Column("status", String, nullable=False, server_default="active"),
)

projects = Table(
    "projects",
    metadata,
    Column("account", String, ForeignKey("accounts.id"), primary_key=True),
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("created_at", WHOLE, nullable=False),
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
    Column("created_at", WHOLE, nullable=False),
    Column("expires_at", WHOLE),
    Column("revoked_at", WHOLE),
    Column("last_used_at", WHOLE),
    Column("role", String, nullable=False, server_default="inference"),
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
    Column("created_at", WHOLE, nullable=False),
    Column("expires_at", WHOLE),
    Column("revoked_at", WHOLE),
    Column("last_used_at", WHOLE),
    Column("role", String, nullable=False, server_default="owner"),
    ForeignKeyConstraint(["account", "project"], ["projects.account", "projects.id"]),
    Index(None, "account", "project"),
)

aliases = Table(
    "aliases",
    metadata,
    Column("name", String, primary_key=True),
    Column("model_name", String, nullable=False),
    Column("model_version", String, nullable=False),
    Column("created_at", WHOLE, nullable=False),
    Column("removed_at", WHOLE),
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
    Column("created_at", WHOLE, nullable=False),
    Column("description", String, nullable=False, server_default=""),
    Column("moderation", String, nullable=False, server_default=""),
    Column("tags", JSON, nullable=False, server_default="[]"),
    Column("updated_at", WHOLE, nullable=False, server_default="0"),
    ForeignKeyConstraint(["account", "project"], ["projects.account", "projects.id"]),
    Index(None, "account", "project"),
)

bots = Table(
    "bots",
    metadata,
    Column("id", String, primary_key=True),
    Column("account", String, nullable=False),
    Column("project", String, nullable=False),
    Column("name", String, nullable=False),
    Column("endpoint_id", String, nullable=False),
    Column("prompt", String, nullable=False),
    Column("actions", JSON, nullable=False),
    Column("intent", String, nullable=False),
    Column("citation", String, nullable=False),
    Column("lexicon", JSON, nullable=False),
    Column("context_share", Float, nullable=False),
    Column("description", String, nullable=False),
    Column("moderation", String, nullable=False),
    Column("status", String, nullable=False),
    Column("created_at", WHOLE, nullable=False),
    Column("updated_at", WHOLE, nullable=False),
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
    Column("opened_ms", EPOCH_MS, nullable=False),
    Column("closed_ms", EPOCH_MS, nullable=False),
    Column("outcome", String, nullable=False),
    Column("prompt_tokens", WHOLE, nullable=False),
    Column("completion_tokens", WHOLE, nullable=False),
    Column("cached_tokens", WHOLE, nullable=False),
    Column("reasoning_tokens", WHOLE, nullable=False),
    Column("provenance", String, nullable=False),
    Column("first_token_ms", WHOLE, nullable=False),
    Column("duration_ms", WHOLE, nullable=False),
    Column("error", String, nullable=False),
    Column("caller", String, nullable=False, server_default=""),
    Index(None, "account", "project", "opened_ms"),
    Index(None, "account", "project", "key_id", "opened_ms"),
    Index(None, "request_id"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", String, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("account", String, nullable=False),
    Column("project", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("action", String, nullable=False),
    Column("target", String, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("request_id", String, nullable=False),
    Index(None, "account", "at_ms"),
)

limits = Table(
    "limits",
    metadata,
    Column("account", String, primary_key=True),
    Column("project", String, primary_key=True),
    Column("scope", String, primary_key=True),
    Column("subject", String, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("period", String, primary_key=True),
    Column("amount", Float, nullable=False),
    Column("shadow", Boolean, nullable=False),
    Column("updated_at", WHOLE, nullable=False),
)

prices = Table(
    "prices",
    metadata,
    Column("model", String, primary_key=True),
    Column("effective_at", WHOLE, primary_key=True),
    Column("currency", String, nullable=False),
    Column("prompt", Float, nullable=False),
    Column("completion", Float, nullable=False),
    Column("cached", Float),
    Column("reasoning", Float),
)

rollups = Table(
    "rollups",
    metadata,
    Column("period", String, primary_key=True),
    Column("start_ms", BigInteger, primary_key=True),
    *(
        Column(name, String, primary_key=True)
        for name in ("account", "project", "key_id", "endpoint_id", "model", "caller")
    ),
    *(
        Column(name, BigInteger, nullable=False)
        for name in (
            "calls",
            "failed",
            "prompt_tokens",
            "completion_tokens",
            "cached_tokens",
            "reasoning_tokens",
        )
    ),
    Index(None, "account", "project", "period", "start_ms"),
)

# Buckets of `rollups` that are behind (``kind`` is the period), and per project the moment before which the rows of
# `usage` are gone (``kind`` is ``pruned``).
rollup_marks = Table(
    "rollup_marks",
    metadata,
    Column("kind", String, primary_key=True),
    Column("start_ms", BigInteger, primary_key=True),
    Column("account", String, primary_key=True),
    Column("project", String, primary_key=True),
)

upstreams = Table(
    "upstreams",
    metadata,
    Column("name", String, primary_key=True),
    Column("base_url", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("auth", String, nullable=False),
    Column("secret", LargeBinary),
    Column("options", JSON, nullable=False),
    Column("created_at", WHOLE, nullable=False),
    Column("updated_at", WHOLE, nullable=False),
)

groups = Table(
    "groups",
    metadata,
    Column("model_name", String, primary_key=True),
    Column("model_version", String, primary_key=True),
    Column("card", JSON, nullable=False),
    Column("members", JSON, nullable=False),
    Column("policy", JSON, nullable=False),
    Column("is_default", Boolean, nullable=False),
    Column("created_at", WHOLE, nullable=False),
    Column("updated_at", WHOLE, nullable=False),
)

# What the database knows of its installation: ``pepper`` (a fingerprint), ``oldest_program`` (a revision).
installation = Table(
    "installation",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
)
