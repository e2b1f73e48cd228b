"""Each round keeps the bound of what it could have started, how far it is from it, and how regions were asked for."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("rounds", sa.Column("quality", postgresql.JSONB(none_as_null=True)))


def downgrade() -> None:
    op.drop_column("rounds", "quality")
