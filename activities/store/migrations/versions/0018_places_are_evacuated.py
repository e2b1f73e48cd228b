"""Nodes, clusters and regions are evacuated: what was ordered, how far it is, and which nodes it cordoned."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("nodes", sa.Column("cordoned_by", sa.Text))
    op.create_table(
        "evacuations",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("terms", JSONB, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False, server_default="1"),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deadline", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        *(sa.Column(name, sa.Integer, nullable=False, server_default="0") for name in ("nodes", "told", "left", "leaving")),
        sa.Column("remaining", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("trail", JSONB, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evacuations")),
        sa.CheckConstraint(
            "state IN ('moving', 'paused', 'done', 'overdue', 'aborted')", name=op.f("ck_evacuations_known_state")
        ),
        sa.CheckConstraint(
            "(ended_at IS NULL) = (state IN ('moving', 'paused'))", name=op.f("ck_evacuations_over_when_it_has_ended")
        ),
    )
    op.create_index("ix_evacuations_open", "evacuations", ["began_at"], postgresql_where=sa.text("ended_at IS NULL"))


def downgrade() -> None:
    op.drop_table("evacuations")
    op.drop_column("nodes", "cordoned_by")
