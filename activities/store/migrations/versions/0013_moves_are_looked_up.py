"""Planned moves of a day are looked up by their time, as stops for others are."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_attempts_moved_at",
        "attempts",
        ["stop_at"],
        postgresql_where=sa.text("stop_as = 'migrated'"),
    )


def downgrade() -> None:
    op.drop_index("ix_attempts_moved_at", "attempts")
