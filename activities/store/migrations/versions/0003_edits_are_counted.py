"""Edits of queues, quotas and providers are counted in `pools.edits`, by triggers: whoever edits, nobody decides on old ones."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

EDITS = (
    ("queues", "INSERT OR DELETE OR UPDATE OF name, parent, weight, stop, minimum_runtime_seconds"),
    ("quotas", "INSERT OR DELETE OR UPDATE"),
    ("providers", "INSERT OR DELETE"),
)


def upgrade() -> None:
    op.execute("""
        CREATE FUNCTION corral_count_edit() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE pools SET edits = edits + 1;
            RETURN NULL;
        END $$""")
    for table, events in EDITS:
        op.execute(f"CREATE TRIGGER count_edit AFTER {events} ON {table} FOR EACH STATEMENT EXECUTE FUNCTION corral_count_edit()")
    op.execute("""
        CREATE TRIGGER count_first_report AFTER UPDATE OF seen_at ON providers
        FOR EACH ROW WHEN (OLD.seen_at IS NULL) EXECUTE FUNCTION corral_count_edit()""")


def downgrade() -> None:
    op.execute("DROP TRIGGER count_first_report ON providers")
    for table, _ in EDITS:
        op.execute(f"DROP TRIGGER count_edit ON {table}")
    op.execute("DROP FUNCTION corral_count_edit()")
