"""A gang that starts is charged at once, and its charge is settled when its real use shows or its attempt ends."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "penalties",
        sa.Column("workload_id", sa.Text, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("sku", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("milli_seconds", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "kind = 'charge' AND milli_seconds > 0 OR kind = 'settlement' AND milli_seconds < 0",
            name=op.f("ck_penalties_known_kind"),
        ),
        sa.ForeignKeyConstraint(["workload_id"], ["workloads.id"], name=op.f("fk_penalties_workload_id_workloads")),
        sa.PrimaryKeyConstraint("workload_id", "epoch", "sku", "kind", name=op.f("pk_penalties")),
    )


def downgrade() -> None:
    op.drop_table("penalties")
