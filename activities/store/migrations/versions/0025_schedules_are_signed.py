"""What schedules order is signed once by a mandate, which can be revoked."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "mandates",
        *(sa.Column(name, sa.Text, nullable=False) for name in ("id", "pool", "schedule")),
        sa.Column("terms", sa.dialects.postgresql.JSONB, nullable=False),
        sa.Column("signed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        *(sa.Column(name, sa.Text, nullable=False, server_default="") for name in ("revoked_by", "revoked_because")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mandates")),
    )
    op.create_index(op.f("ix_mandates_schedule"), "mandates", ["schedule"])
    op.add_column("signed_orders", sa.Column("mandate", sa.Text))
    op.add_column("signed_orders", sa.Column("due_at", sa.DateTime(timezone=True)))
    op.create_index(
        "ix_signed_orders_mandate", "signed_orders", ["mandate"], postgresql_where=sa.text("mandate IS NOT NULL")
    )


def downgrade() -> None:
    op.drop_index("ix_signed_orders_mandate", "signed_orders")
    op.drop_column("signed_orders", "due_at")
    op.drop_column("signed_orders", "mandate")
    op.drop_table("mandates")
