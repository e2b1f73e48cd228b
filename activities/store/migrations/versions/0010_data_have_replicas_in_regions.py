"""Datasets, with their sizes and the regions that have replicas of them; what is said of them counts as an edit."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "datasets",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("size_gib", sa.Double, nullable=False),
        sa.Column("regions", ARRAY(sa.Text), nullable=False),
        sa.CheckConstraint("size_gib > 0", name=op.f("ck_datasets_some_size")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_datasets")),
    )
    op.execute(
        "CREATE TRIGGER count_edit AFTER INSERT OR DELETE OR UPDATE ON datasets"
        " FOR EACH STATEMENT EXECUTE FUNCTION corral_count_edit()"
    )


def downgrade() -> None:
    op.drop_table("datasets")
