"""Notices to leave have numbers, and may be taken back."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("notice", sa.Integer, nullable=False, server_default="0"))
    op.add_column("attempts", sa.Column("kept_at", sa.DateTime(timezone=True)))
    op.execute("UPDATE attempts SET notice = 1 WHERE stop_at IS NOT NULL")


def downgrade() -> None:
    op.drop_column("attempts", "kept_at")
    op.drop_column("attempts", "notice")
