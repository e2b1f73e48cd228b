"""Soft goals know where data are (what is said of them counts as an edit), and how often a node is taken back."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("nodes", sa.Column("interruptions", sa.BigInteger))
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
    op.drop_column("nodes", "interruptions")
