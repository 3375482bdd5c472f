"""Roles, an audit log, limits, prices and rollups; what the control plane knows of an endpoint."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# PostgreSQL's own integers have 32 bits.
WHOLE = sa.Integer().with_variant(sa.BigInteger(), "postgresql")

DIMENSIONS = ("account", "project", "key_id", "endpoint_id", "model", "caller")
COUNTS = ("calls", "failed", "prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")

REFUSAL = "the audit log only grows"
# INSERT OR REPLACE removes a row without firing a trigger on DELETE: hence the third one.
_SQLITE = f"""
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END
;;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END
;;
CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END
"""  # noqa: S608 (a constant)
_POSTGRESQL = f"""
CREATE FUNCTION audit_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{REFUSAL}'; END $$
;;
CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_only_grows()
;;
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_only_grows()
"""
APPEND_ONLY = {"sqlite": _SQLITE.split(";;"), "postgresql": _POSTGRESQL.split(";;")}


def upgrade() -> None:
    """Adds columns to ``accounts``, ``api_keys``, ``access_keys``, ``endpoints``, ``usage``; makes six tables."""
    op.add_column("accounts", sa.Column("status", sa.String, nullable=False, server_default="active"))
    op.add_column("api_keys", sa.Column("role", sa.String, nullable=False, server_default="inference"))
    op.add_column("access_keys", sa.Column("role", sa.String, nullable=False, server_default="owner"))
    for name in ("description", "moderation"):
        op.add_column("endpoints", sa.Column(name, sa.String, nullable=False, server_default=""))
    op.add_column("endpoints", sa.Column("tags", sa.JSON, nullable=False, server_default="[]"))
    op.add_column("endpoints", sa.Column("updated_at", WHOLE, nullable=False, server_default="0"))
    op.add_column("usage", sa.Column("caller", sa.String, nullable=False, server_default=""))
    _audit()
    _limits()
    _prices()
    _rollups()
    _rollup_marks()
    _installation()


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
    for statement in APPEND_ONLY[op.get_bind().dialect.name]:
        op.execute(statement)


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
        sa.Column("updated_at", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("account", "project", "scope", "subject", "kind", "period", name="pk_limits"),
    )


def _prices() -> None:
    op.create_table(
        "prices",
        sa.Column("model", sa.String, nullable=False),
        sa.Column("effective_at", WHOLE, nullable=False),
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


def _rollup_marks() -> None:
    """Every minute that has usage already is behind: nothing of it is in the rollups yet."""
    op.create_table(
        "rollup_marks",
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("start_ms", sa.BigInteger, nullable=False),
        sa.Column("account", sa.String, nullable=False),
        sa.Column("project", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("kind", "start_ms", "account", "project", name="pk_rollup_marks"),
    )
    op.execute(
        "INSERT INTO rollup_marks (kind, start_ms, account, project) "
        "SELECT DISTINCT 'minute', opened_ms - opened_ms % 60000, account, project FROM usage"
    )


def _installation() -> None:
    op.create_table(
        "installation",
        sa.Column("name", sa.String, nullable=False),
        sa.Column("value", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_installation"),
    )
