"""The record says which workers can use it; from here on they look, and stop where they cannot."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

oldest_worker = "0029"


def upgrade() -> None:
    op.create_table(
        "compatibility",
        *(sa.Column(name, sa.Text, nullable=False) for name in ("what", "version")),
        sa.PrimaryKeyConstraint("what", name=op.f("pk_compatibility")),
    )


def downgrade() -> None:
    op.drop_table("compatibility")
