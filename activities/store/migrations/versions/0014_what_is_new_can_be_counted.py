"""Attempts and rounds say which transaction changed them, so that totals are kept by what is new; the last hour has an index."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

MARKED = ("attempts", "rounds")


def upgrade() -> None:
    for table in MARKED:
        op.add_column(table, sa.Column("changed", sa.BigInteger, nullable=False, server_default="0"))
        op.create_index(op.f(f"ix_{table}_changed"), table, ["changed"])
        op.execute(
            f"CREATE TRIGGER mark_change BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION corral_mark_change()"
        )
    op.create_index("ix_ledger_ended_at", "ledger", ["ended_at"])


def downgrade() -> None:
    op.drop_index("ix_ledger_ended_at", "ledger")
    for table in MARKED:
        op.execute(f"DROP TRIGGER mark_change ON {table}")
        op.drop_column(table, "changed")
