"""Endpoints follow demand: what is wanted, and what was recommended of late."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workloads", sa.Column("scaling", JSONB))


def downgrade() -> None:
    op.drop_column("workloads", "scaling")
