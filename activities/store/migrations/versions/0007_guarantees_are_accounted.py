"""Workloads over quota are entitled to nothing; stops for others are found by whom they were for, and by when."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

FOR_OTHERS = sa.text("beneficiary IS NOT NULL")


def upgrade() -> None:
    op.add_column("workloads", sa.Column("over_quota", sa.Boolean, nullable=False, server_default=sa.text("false")))
    for column in ("beneficiary", "stop_at"):
        op.create_index(f"ix_attempts_{column}", "attempts", [column], postgresql_where=FOR_OTHERS)


def downgrade() -> None:
    for column in ("beneficiary", "stop_at"):
        op.drop_index(f"ix_attempts_{column}", "attempts")
    op.drop_column("workloads", "over_quota")
