"""Rows say which transaction changed them last, so that a planner that remembers the pool reads only what is new."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

MARKED = ("nodes", "workloads", "penalties")
REMOVALS = (("nodes", ""), ("workloads", "WHEN (OLD.ended_at IS NULL)"))

ON_NODE = (
    "device_use = corral_sum(device_use, {0}.uses{1}), cpu_use = cpu_use {2} {0}.cpu_milli,"
    " memory_use = memory_use {2} {0}.memory_mib, replica_use = replica_use {2} jsonb_array_length({0}.replicas)"
)
INSERTED = "TG_OP = 'INSERT'"
PROMISED = "TG_OP = 'INSERT' OR OLD.phase = 'promised'"


def upgrade() -> None:
    op.execute("""
        CREATE FUNCTION corral_mark_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW.changed = pg_current_xact_id()::text::bigint;
            RETURN NEW;
        END $$""")
    for table in MARKED:
        op.add_column(table, sa.Column("changed", sa.BigInteger, nullable=False, server_default="0"))
        op.create_index(op.f(f"ix_{table}_changed"), table, ["changed"])
        op.execute(
            f"CREATE TRIGGER mark_change BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION corral_mark_change()"
        )
    op.add_column("pools", sa.Column("removals", sa.BigInteger, nullable=False, server_default="0"))
    op.execute("""
        CREATE FUNCTION corral_count_removal() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE pools SET removals = removals + 1;
            RETURN NULL;
        END $$""")
    for table, which in REMOVALS:
        op.execute(
            f"CREATE TRIGGER count_removal AFTER DELETE ON {table} FOR EACH ROW {which} EXECUTE FUNCTION corral_count_removal()"
        )
    _count_claims(touched_by=PROMISED)


def _count_claims(touched_by: str) -> None:
    op.execute(f"""
        CREATE OR REPLACE FUNCTION corral_count_claim() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            counted boolean := TG_OP <> 'INSERT' AND OLD.phase = 'claimed';
            counts boolean := TG_OP <> 'DELETE' AND NEW.phase = 'claimed';
        BEGIN
            IF counted THEN
                UPDATE nodes SET {ON_NODE.format("OLD", ", -1", "-")} WHERE id = OLD.node_id;
            END IF;
            IF counts THEN
                UPDATE nodes SET {ON_NODE.format("NEW", "", "+")} WHERE id = NEW.node_id;
            ELSIF {touched_by} THEN
                -- A promise is not counted, but whoever plans with the same room, or remembers the node, must notice it.
                UPDATE nodes SET device_use = device_use WHERE id = coalesce(NEW.node_id, OLD.node_id);
            END IF;
            RETURN NULL;
        END $$""")


def downgrade() -> None:
    _count_claims(touched_by=INSERTED)
    for table, _ in REMOVALS:
        op.execute(f"DROP TRIGGER count_removal ON {table}")
    op.execute("DROP FUNCTION corral_count_removal()")
    op.drop_column("pools", "removals")
    for table in MARKED:
        op.execute(f"DROP TRIGGER mark_change ON {table}")
        op.drop_index(f"ix_{table}_changed", table)
        op.drop_column(table, "changed")
    op.execute("DROP FUNCTION corral_mark_change()")
