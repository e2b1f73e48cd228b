"""What was lost with a cluster is released in each of the clusters that it ran in."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "unreleased",
        sa.Column("attempt_id", sa.Text, nullable=False),
        sa.Column("cluster_id", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("attempt_id", "cluster_id", name=op.f("pk_unreleased")),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_unreleased_attempt_id")),
        sa.ForeignKeyConstraint(["cluster_id"], ["clusters.id"], name=op.f("fk_unreleased_cluster_id")),
    )
    op.create_index(op.f("ix_unreleased_cluster_id"), "unreleased", ["cluster_id"])
    op.execute("INSERT INTO unreleased SELECT id, unreleased_in FROM attempts WHERE unreleased_in IS NOT NULL")
    op.drop_column("attempts", "unreleased_in")


def downgrade() -> None:
    op.add_column("attempts", sa.Column("unreleased_in", sa.Text))
    op.execute("""
        UPDATE attempts SET unreleased_in = cluster_id
        FROM (SELECT attempt_id, min(cluster_id) AS cluster_id FROM unreleased GROUP BY 1) AS its WHERE attempt_id = id""")
    op.create_check_constraint(
        op.f("ck_attempts_unreleased_when_ended"), "attempts", "unreleased_in IS NULL OR ended_at IS NOT NULL"
    )
    op.create_index(
        "ix_attempts_unreleased_in", "attempts", ["unreleased_in"], postgresql_where=sa.text("unreleased_in IS NOT NULL")
    )
    op.drop_table("unreleased")
