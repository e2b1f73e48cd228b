"""Workloads know the trace in which they were submitted, so that what is told to them is part of it."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workloads", sa.Column("trace", sa.Text))


def downgrade() -> None:
    op.drop_column("workloads", "trace")
