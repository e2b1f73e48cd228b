"""Queues keep all their terms, nodes their labels and their most replicas, and what a gang has is counted by SKU."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

NEW = (
    ("queues", "terms", "'{}'"),
    ("quotas", "terms", "'{}'"),
    ("nodes", "labels", "'[]'"),
    ("attempts", "by_sku", "'{}'"),
    ("ledger", "allocated_by_sku", "'{}'"),
)
"""JSON columns that every row must have, with what the rows of old have there."""

OLD_EDITS = "INSERT OR DELETE OR UPDATE OF name, parent, weight, stop, minimum_runtime_seconds"
EDITS = f"{OLD_EDITS}, created_at, terms"
ON_NODE = "device_use = corral_sum(device_use, {0}.uses{1}), cpu_use = cpu_use {2} {0}.cpu_milli, memory_use = memory_use {2} {0}.memory_mib"
REPLICAS = ", replica_use = replica_use {2} jsonb_array_length({0}.replicas)"


def upgrade() -> None:
    for table, name, before in NEW:
        op.add_column(table, sa.Column(name, JSONB, nullable=False, server_default=sa.text(before)))
        op.alter_column(table, name, server_default=None)
    op.add_column("queues", sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()))
    op.alter_column("queues", "created_at", server_default=None)
    op.add_column("nodes", sa.Column("maximum_replicas", sa.Integer))
    op.add_column("nodes", sa.Column("replica_use", sa.Integer, nullable=False, server_default="0"))
    op.add_column("allocations", sa.Column("sku", sa.Text))
    op.execute("UPDATE attempts SET by_sku = jsonb_build_object(sku, milli)")
    op.execute("UPDATE allocations SET sku = attempts.sku FROM attempts WHERE attempts.id = attempt_id")
    op.execute("UPDATE ledger SET allocated_by_sku = jsonb_build_object(sku, allocated_milli) WHERE sku IS NOT NULL")
    op.execute("""
        UPDATE nodes SET replica_use = claimed.replicas
        FROM (SELECT node_id, sum(jsonb_array_length(replicas)) AS replicas FROM allocations
              WHERE phase = 'claimed' GROUP BY node_id) AS claimed
        WHERE claimed.node_id = nodes.id""")
    op.alter_column("allocations", "sku", nullable=False)
    op.drop_column("ledger", "sku")
    op.create_check_constraint(
        op.f("ck_nodes_replicas_not_oversubscribed"), "nodes", "replica_use BETWEEN 0 AND coalesce(maximum_replicas, replica_use)"
    )
    _count_claims(ON_NODE + REPLICAS, "phase, uses, cpu_milli, memory_mib, replicas")
    _count_edits(EDITS)


def _count_claims(use: str, columns: str) -> None:
    op.execute("DROP TRIGGER count_claim ON allocations")
    op.execute(f"""
        CREATE OR REPLACE FUNCTION corral_count_claim() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            counted boolean := TG_OP <> 'INSERT' AND OLD.phase = 'claimed';
            counts boolean := TG_OP <> 'DELETE' AND NEW.phase = 'claimed';
        BEGIN
            IF counted THEN
                UPDATE nodes SET {use.format("OLD", ", -1", "-")} WHERE id = OLD.node_id;
            END IF;
            IF counts THEN
                UPDATE nodes SET {use.format("NEW", "", "+")} WHERE id = NEW.node_id;
            ELSIF TG_OP = 'INSERT' THEN
                -- A promise is not counted, but whoever plans with the same room at the same time must notice it.
                UPDATE nodes SET device_use = device_use WHERE id = NEW.node_id;
            END IF;
            RETURN NULL;
        END $$""")
    op.execute(f"""
        CREATE TRIGGER count_claim AFTER INSERT OR DELETE OR UPDATE OF {columns} ON allocations
        FOR EACH ROW EXECUTE FUNCTION corral_count_claim()""")


def _count_edits(events: str) -> None:
    op.execute("DROP TRIGGER count_edit ON queues")
    op.execute(f"CREATE TRIGGER count_edit AFTER {events} ON queues FOR EACH STATEMENT EXECUTE FUNCTION corral_count_edit()")


def downgrade() -> None:
    _count_edits(OLD_EDITS)
    _count_claims(ON_NODE, "phase, uses, cpu_milli, memory_mib")
    op.add_column("ledger", sa.Column("sku", sa.Text))
    op.execute("UPDATE ledger SET sku = attempts.sku FROM attempts WHERE attempts.id = attempt_id")
    op.drop_constraint(op.f("ck_nodes_replicas_not_oversubscribed"), "nodes")
    for name in ("maximum_replicas", "replica_use"):
        op.drop_column("nodes", name)
    op.drop_column("allocations", "sku")
    op.drop_column("queues", "created_at")
    for table, name, _ in NEW:
        op.drop_column(table, name)
