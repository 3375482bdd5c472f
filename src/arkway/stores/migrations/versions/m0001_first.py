"""The first schema: accounts, projects, API keys, endpoints and usage."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# PostgreSQL's own integers have 32 bits.
WHOLE = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    """Makes every table, and the account and project ``default``."""
    _tenants()
    _keys()
    _endpoints()
    _usage()


def _tenants() -> None:
    accounts = op.create_table(
        "accounts",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("created_at", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_accounts"),
    )
    projects = op.create_table(
        "projects",
        sa.Column("account", sa.String, nullable=False),
        sa.Column("id", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("created_at", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("account", "id", name="pk_projects"),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name="fk_projects_account"),
    )
    now_s = int(time.time())
    op.bulk_insert(accounts, [{"id": "default", "name": "Default account", "created_at": now_s}])
    op.bulk_insert(projects, [{"account": "default", "id": "default", "name": "Default project", "created_at": now_s}])


def _keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("account", sa.String, nullable=False),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("last4", sa.String, nullable=False),
        sa.Column("endpoints", sa.JSON, nullable=False),
        sa.Column("created_at", WHOLE, nullable=False),
        sa.Column("expires_at", WHOLE),
        sa.Column("revoked_at", WHOLE),
        sa.Column("last_used_at", WHOLE),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("digest", name="uq_api_keys_digest"),
        sa.ForeignKeyConstraint(
            ["account", "project"], ["projects.account", "projects.id"], name="fk_api_keys_account_project"
        ),
    )
    op.create_index("ix_api_keys_account_project", "api_keys", ["account", "project"])


def _endpoints() -> None:
    op.create_table(
        "endpoints",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("account", sa.String, nullable=False),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("model_name", sa.String, nullable=False),
        sa.Column("model_version", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("created_at", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_endpoints"),
        sa.ForeignKeyConstraint(
            ["account", "project"], ["projects.account", "projects.id"], name="fk_endpoints_account_project"
        ),
    )
    op.create_index("ix_endpoints_account_project", "endpoints", ["account", "project"])


def _usage() -> None:
    texts = ("request_id", "account", "project", "key_id", "endpoint_id", "model", "dialect", "operation")
    counts = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")
    op.create_table(
        "usage",
        sa.Column("attempt_id", sa.String, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in texts),
        sa.Column("opened_ms", WHOLE, nullable=False),
        sa.Column("closed_ms", WHOLE, nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        *(sa.Column(name, WHOLE, nullable=False) for name in counts),
        sa.Column("provenance", sa.String, nullable=False),
        sa.Column("first_token_ms", WHOLE, nullable=False),
        sa.Column("duration_ms", WHOLE, nullable=False),
        sa.Column("error", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("attempt_id", name="pk_usage"),
    )
    op.create_index("ix_usage_account_project_opened_ms", "usage", ["account", "project", "opened_ms"])
    op.create_index("ix_usage_account_project_key_id_opened_ms", "usage", ["account", "project", "key_id", "opened_ms"])
    op.create_index("ix_usage_request_id", "usage", ["request_id"])
