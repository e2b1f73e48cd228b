"""Work leaves step by step: notices have numbers and may be taken back, and what does not stop makes its nodes suspect."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

INSTANTS = ("kept_at", "leave_at")


def upgrade() -> None:
    op.add_column("attempts", sa.Column("notice", sa.Integer, nullable=False, server_default="0"))
    op.add_column("attempts", sa.Column("leave", sa.Text))
    for name in INSTANTS:
        op.add_column("attempts", sa.Column(name, sa.DateTime(timezone=True)))
    op.execute("UPDATE attempts SET notice = 1, leave = 'ordered', leave_at = stop_at WHERE stop_at IS NOT NULL")
    op.create_check_constraint(
        op.f("ck_attempts_leaves_by_steps"), "attempts", "(stop_at IS NULL) = (leave IS NULL) AND (leave IS NULL) = (leave_at IS NULL)"
    )
    op.create_index(
        "ix_attempts_leaving", "attempts", ["leave_at"], postgresql_where=sa.text("ended_at IS NULL AND leave IS NOT NULL")
    )
    op.add_column("nodes", sa.Column("suspect", sa.Text))


def downgrade() -> None:
    op.drop_column("nodes", "suspect")
    op.drop_index("ix_attempts_leaving", "attempts")
    op.drop_constraint(op.f("ck_attempts_leaves_by_steps"), "attempts")
    for name in ("notice", "leave", *INSTANTS):
        op.drop_column("attempts", name)
