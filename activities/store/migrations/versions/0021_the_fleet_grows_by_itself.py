"""Providers add nodes: which pools of nodes they have, what was ordered of them, and which nodes came of it and left again.

Changes of size are looked up by their time, as moves are: disruption budgets count them.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "node_pools",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("node", JSONB, nullable=False),
        sa.Column("most", sa.Integer, nullable=False),
        sa.Column("lead_seconds", sa.Integer, nullable=False),
        sa.Column("needed", sa.Integer, nullable=False, server_default="0"),
        sa.Column("course", JSONB),
        sa.Column("why", sa.Text, nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_node_pools")),
        sa.ForeignKeyConstraint(["provider"], ["providers.name"], name=op.f("fk_node_pools_provider_providers")),
    )
    op.create_table(
        "provisionings",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("node_pool", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("nodes", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("arrived", sa.Integer, nullable=False, server_default="0"),
        sa.Column("ordered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True)),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("settled_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provisionings")),
        sa.ForeignKeyConstraint(["node_pool"], ["node_pools.id"], name=op.f("fk_provisionings_node_pool_node_pools")),
        sa.UniqueConstraint("node_pool", "number", name=op.f("uq_provisionings_node_pool_number")),
        sa.CheckConstraint(
            "state IN ('coming', 'arrived', 'failed', 'given-up')", name=op.f("ck_provisionings_known_state")
        ),
        sa.CheckConstraint("(ended_at IS NULL) = (state = 'coming')", name=op.f("ck_provisionings_over_when_it_has_ended")),
        sa.CheckConstraint("nodes > 0", name=op.f("ck_provisionings_some_nodes")),
    )
    op.create_index(
        "ix_provisionings_unsettled", "provisionings", ["node_pool"], postgresql_where=sa.text("settled_at IS NULL")
    )
    op.add_column("nodes", sa.Column("node_pool", sa.Text))
    op.add_column("nodes", sa.Column("provisioning", sa.Text))
    op.add_column("nodes", sa.Column("given_back_at", sa.DateTime(timezone=True)))
    op.create_index(
        "ix_nodes_provisioning", "nodes", ["provisioning"], postgresql_where=sa.text("provisioning IS NOT NULL")
    )
    op.create_index("ix_attempts_resized_at", "attempts", ["stop_at"], postgresql_where=sa.text("stop_as = 'resized'"))


def downgrade() -> None:
    op.drop_index("ix_attempts_resized_at", "attempts")
    op.drop_index("ix_nodes_provisioning", "nodes")
    for name in ("given_back_at", "provisioning", "node_pool"):
        op.drop_column("nodes", name)
    op.drop_table("provisionings")
    op.drop_table("node_pools")
