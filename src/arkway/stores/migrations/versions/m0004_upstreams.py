"""Other model servers, and the models that they answer for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

# PostgreSQL's own integers have 32 bits.
WHOLE = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    """Makes ``upstreams`` and ``groups``; a program that knows neither goes on beside them."""
    op.create_table(
        "upstreams",
        sa.Column("name", sa.String, nullable=False),
        sa.Column("base_url", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("auth", sa.String, nullable=False),
        sa.Column("secret", sa.LargeBinary),
        sa.Column("options", sa.JSON, nullable=False),
        sa.Column("created_at", WHOLE, nullable=False),
        sa.Column("updated_at", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_upstreams"),
    )
    op.create_table(
        "groups",
        sa.Column("model_name", sa.String, nullable=False),
        sa.Column("model_version", sa.String, nullable=False),
        sa.Column("card", sa.JSON, nullable=False),
        sa.Column("members", sa.JSON, nullable=False),
        sa.Column("policy", sa.JSON, nullable=False),
        sa.Column("is_default", sa.Boolean, nullable=False),
        sa.Column("created_at", WHOLE, nullable=False),
        sa.Column("updated_at", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("model_name", "model_version", name="pk_groups"),
    )
