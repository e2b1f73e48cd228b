"""Of the changes that are asked for, the newest of a kind and workload are kept."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("operations", sa.Column("about", sa.Text))
    op.create_index("ix_operations_about", "operations", ["about", "written"], postgresql_where=sa.text("about IS NOT NULL"))


def downgrade() -> None:
    op.drop_index("ix_operations_about", "operations")
    op.drop_column("operations", "about")
