"""Roles, an audit log, limits, prices and rollups; what the control plane knows of an endpoint."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

DIMENSIONS = ("account", "project", "key_id", "endpoint_id", "model", "caller")
COUNTS = ("calls", "failed", "prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")


def upgrade() -> None:
    """Adds columns to ``accounts``, ``api_keys``, ``access_keys``, ``endpoints``, ``usage``; makes four tables."""
    op.add_column("accounts", sa.Column("status", sa.String, nullable=False, server_default="active"))
    op.add_column("api_keys", sa.Column("role", sa.String, nullable=False, server_default="inference"))
    op.add_column("access_keys", sa.Column("role", sa.String, nullable=False, server_default="owner"))
    for name in ("description", "moderation"):
        op.add_column("endpoints", sa.Column(name, sa.String, nullable=False, server_default=""))
    op.add_column("endpoints", sa.Column("tags", sa.JSON, nullable=False, server_default="[]"))
    op.add_column("endpoints", sa.Column("updated_at", sa.Integer, nullable=False, server_default="0"))
    op.add_column("usage", sa.Column("caller", sa.String, nullable=False, server_default=""))
    _audit()
    _limits()
    _prices()
    _rollups()


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("account", sa.String, nullable=False),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("target", sa.String, nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.Column("request_id", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_account_at_ms", "audit", ["account", "at_ms"])


def _limits() -> None:
    op.create_table(
        "limits",
        sa.Column("account", sa.String, nullable=False),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("scope", sa.String, nullable=False),
        sa.Column("subject", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("period", sa.String, nullable=False),
        sa.Column("amount", sa.Float, nullable=False),
        sa.Column("shadow", sa.Boolean, nullable=False),
        sa.Column("updated_at", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("account", "project", "scope", "subject", "kind", "period", name="pk_limits"),
    )


def _prices() -> None:
    op.create_table(
        "prices",
        sa.Column("model", sa.String, nullable=False),
        sa.Column("effective_at", sa.Integer, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("prompt", sa.Float, nullable=False),
        sa.Column("completion", sa.Float, nullable=False),
        sa.Column("cached", sa.Float),
        sa.Column("reasoning", sa.Float),
        sa.PrimaryKeyConstraint("model", "effective_at", name="pk_prices"),
    )


def _rollups() -> None:
    op.create_table(
        "rollups",
        sa.Column("period", sa.String, nullable=False),
        sa.Column("start_ms", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in DIMENSIONS),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in COUNTS),
        sa.PrimaryKeyConstraint("period", "start_ms", *DIMENSIONS, name="pk_rollups"),
    )
    op.create_index(
        "ix_rollups_account_project_period_start_ms", "rollups", ["account", "project", "period", "start_ms"]
    )
