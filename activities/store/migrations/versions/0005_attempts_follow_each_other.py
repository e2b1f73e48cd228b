"""A workload that is moved or resized has its next attempt, with capacity, before the one that runs has ended."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

COUNTS = ("reshaped", "stopped")


def upgrade() -> None:
    op.add_column("attempts", sa.Column("follows", sa.Text))
    op.create_check_constraint(
        op.f("ck_attempts_a_follower_has_not_begun"), "attempts", "follows IS NULL OR bound_at IS NULL AND ended_at IS NULL"
    )
    _one_open("ended_at IS NULL AND follows IS NULL")
    op.create_index(
        "uq_attempts_one_follower", "attempts", ["workload_id"], unique=True, postgresql_where=sa.text("follows IS NOT NULL")
    )
    for name in COUNTS:
        op.add_column("rounds", sa.Column(name, sa.Integer, nullable=False, server_default="0"))


def _one_open(which: str) -> None:
    op.drop_index("uq_attempts_one_open", "attempts")
    op.create_index("uq_attempts_one_open", "attempts", ["workload_id"], unique=True, postgresql_where=sa.text(which))


def downgrade() -> None:
    for name in COUNTS:
        op.drop_column("rounds", name)
    followers = "SELECT id FROM attempts WHERE follows IS NOT NULL"
    for table in ("holds", "allocations"):
        op.execute(f"DELETE FROM {table} WHERE attempt_id IN ({followers})")
    op.execute("DELETE FROM attempts WHERE follows IS NOT NULL")
    op.drop_index("uq_attempts_one_follower", "attempts")
    _one_open("ended_at IS NULL")
    op.drop_constraint(op.f("ck_attempts_a_follower_has_not_begun"), "attempts")
    op.drop_column("attempts", "follows")
