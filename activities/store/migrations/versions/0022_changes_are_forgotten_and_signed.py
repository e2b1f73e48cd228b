"""Of the changes that are asked for, the newest of a kind and workload are kept; signed orders are written down."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("operations", sa.Column("about", sa.Text))
    op.create_index("ix_operations_about", "operations", ["about", "written"], postgresql_where=sa.text("about IS NOT NULL"))
    op.create_table(
        "signed_orders",
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("clock_timestamp()")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("principal", "command", "subject", "request", "run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signed_orders")),
        sa.UniqueConstraint(
            "subject", "command", "request", "principal", name=op.f("uq_signed_orders_subject_command_request_principal")
        ),
    )


def downgrade() -> None:
    op.drop_table("signed_orders")
    op.drop_index("ix_operations_about", "operations")
    op.drop_column("operations", "about")
