"""The outbox knows the round that decided what is to be told, so that what is told later links to it as well."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("outbox", sa.Column("round", sa.Text))


def downgrade() -> None:
    op.drop_column("outbox", "round")
