"""Clusters have leases: whether they answer, until when they may run work, and what is to be released where they were lost."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "clusters",
        *(sa.Column(name, sa.Text, nullable=False) for name in ("id", "provider", "region", "name")),
        sa.Column("reach", sa.Text, nullable=False, server_default="reachable"),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        *(sa.Column(name, sa.DateTime(timezone=True)) for name in ("heard_at", "until", "fenced_at")),
        sa.Column("losses", sa.Integer, nullable=False, server_default="0"),
        sa.Column("trail", JSONB, nullable=False, server_default=sa.text("'[]'")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clusters")),
        sa.ForeignKeyConstraint(["provider"], ["providers.name"], name=op.f("fk_clusters_provider")),
        sa.UniqueConstraint("provider", "region", "name", name=op.f("uq_clusters_provider_region_name")),
        sa.CheckConstraint(
            "reach IN ('reachable', 'suspect', 'lost', 'returned')", name=op.f("ck_clusters_known_reach")
        ),
        sa.CheckConstraint(
            "reach IN ('reachable', 'suspect') OR coalesce(fenced_at <= since, false)",
            name=op.f("ck_clusters_lost_when_nothing_runs_there"),
        ),
        sa.CheckConstraint("until <= fenced_at", name=op.f("ck_clusters_fenced_after_its_lease")),
    )
    op.execute("""
        INSERT INTO clusters (id, provider, region, name, since)
        SELECT DISTINCT concat_ws('/', provider, region, cluster), provider, region, cluster, coalesce(seen_at, registered_at)
        FROM nodes JOIN providers ON providers.name = nodes.provider""")
    op.add_column("nodes", sa.Column("reach", sa.Text))
    op.create_check_constraint(op.f("ck_nodes_known_reach"), "nodes", "reach IN ('suspect', 'lost', 'returned')")
    op.add_column("attempts", sa.Column("unreleased_in", sa.Text))
    op.create_check_constraint(
        op.f("ck_attempts_unreleased_when_ended"), "attempts", "unreleased_in IS NULL OR ended_at IS NOT NULL"
    )
    op.create_index(
        "ix_attempts_unreleased_in", "attempts", ["unreleased_in"], postgresql_where=sa.text("unreleased_in IS NOT NULL")
    )


def downgrade() -> None:
    op.drop_index("ix_attempts_unreleased_in", "attempts")
    op.drop_column("attempts", "unreleased_in")
    op.drop_column("nodes", "reach")
    op.drop_table("clusters")
