"""Bots: endpoints with a prompt of their own, and actions that they look things up with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

# PostgreSQL's own integers have 32 bits.
WHOLE = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    """Makes ``bots``; a program that does not know them goes on beside them."""
    op.create_table(
        "bots",
        sa.Column("id", sa.String, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in ("account", "project", "name", "endpoint_id")),
        sa.Column("prompt", sa.String, nullable=False),
        sa.Column("actions", sa.JSON, nullable=False),
        sa.Column("intent", sa.String, nullable=False),
        sa.Column("citation", sa.String, nullable=False),
        sa.Column("lexicon", sa.JSON, nullable=False),
        sa.Column("context_share", sa.Float, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in ("description", "moderation", "status")),
        sa.Column("created_at", WHOLE, nullable=False),
        sa.Column("updated_at", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_bots"),
        sa.ForeignKeyConstraint(
            ["account", "project"], ["projects.account", "projects.id"], name="fk_bots_account_project"
        ),
    )
    op.create_index("ix_bots_account_project", "bots", ["account", "project"])
