"""Access key pairs, and other names for models."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# PostgreSQL's own integers have 32 bits.
WHOLE = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    """Makes the tables ``access_keys`` and ``aliases``."""
    _access_keys()
    _aliases()


def _access_keys() -> None:
    op.create_table(
        "access_keys",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("account", sa.String, nullable=False),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("secret", sa.LargeBinary, nullable=False),
        sa.Column("session_token", sa.LargeBinary),
        sa.Column("endpoints", sa.JSON, nullable=False),
        sa.Column("created_at", WHOLE, nullable=False),
        sa.Column("expires_at", WHOLE),
        sa.Column("revoked_at", WHOLE),
        sa.Column("last_used_at", WHOLE),
        sa.PrimaryKeyConstraint("id", name="pk_access_keys"),
        sa.ForeignKeyConstraint(
            ["account", "project"], ["projects.account", "projects.id"], name="fk_access_keys_account_project"
        ),
    )
    op.create_index("ix_access_keys_account_project", "access_keys", ["account", "project"])


def _aliases() -> None:
    op.create_table(
        "aliases",
        sa.Column("name", sa.String, nullable=False),
        sa.Column("model_name", sa.String, nullable=False),
        sa.Column("model_version", sa.String, nullable=False),
        sa.Column("created_at", WHOLE, nullable=False),
        sa.Column("removed_at", WHOLE),
        sa.PrimaryKeyConstraint("name", name="pk_aliases"),
    )
