"""Policies are applied by somebody, for a reason, and count as edits: rounds read the newest one."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("policies", sa.Column("who", sa.Text(), server_default="", nullable=False))
    op.add_column("policies", sa.Column("why", sa.Text(), server_default="", nullable=False))
    op.create_index("ix_policies_newest", "policies", ["pool", "version"])
    op.execute(
        "CREATE TRIGGER count_edit AFTER INSERT OR DELETE OR UPDATE ON policies"
        " FOR EACH STATEMENT EXECUTE FUNCTION corral_count_edit()"
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER count_edit ON policies")
    op.drop_index("ix_policies_newest", "policies")
    op.drop_column("policies", "why")
    op.drop_column("policies", "who")
