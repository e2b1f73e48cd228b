"""What has ended long ago is forgotten; what it has added to figures is kept."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "bygones",
        *(sa.Column(name, sa.Text, nullable=False) for name in ("pool", "figure")),
        sa.Column("labels", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("amount", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("pool", "figure", "labels", name=op.f("pk_bygones")),
    )


def downgrade() -> None:
    op.drop_table("bygones")
