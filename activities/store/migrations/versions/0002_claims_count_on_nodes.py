"""Claims count on their node, by a trigger: the checks of `nodes` then refuse oversubscription whoever writes."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE FUNCTION corral_sum(a integer[], b integer[], sign integer DEFAULT 1) RETURNS integer[]
        LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
            SELECT coalesce(array_agg(coalesce(x, 0) + sign * coalesce(y, 0) ORDER BY n), '{}')
            FROM unnest(a, b) WITH ORDINALITY AS t(x, y, n)
        $$""")
    op.execute("""
        CREATE FUNCTION corral_count_claim() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            counted boolean := TG_OP <> 'INSERT' AND OLD.phase = 'claimed';
            counts boolean := TG_OP <> 'DELETE' AND NEW.phase = 'claimed';
        BEGIN
            IF counted THEN
                UPDATE nodes SET device_use = corral_sum(device_use, OLD.uses, -1),
                                 cpu_use = cpu_use - OLD.cpu_milli, memory_use = memory_use - OLD.memory_mib
                WHERE id = OLD.node_id;
            END IF;
            IF counts THEN
                UPDATE nodes SET device_use = corral_sum(device_use, NEW.uses),
                                 cpu_use = cpu_use + NEW.cpu_milli, memory_use = memory_use + NEW.memory_mib
                WHERE id = NEW.node_id;
            ELSIF TG_OP = 'INSERT' THEN
                -- A promise is not counted, but whoever plans with the same room at the same time must notice it.
                UPDATE nodes SET device_use = device_use WHERE id = NEW.node_id;
            END IF;
            RETURN NULL;
        END $$""")
    op.execute("""
        CREATE TRIGGER count_claim AFTER INSERT OR DELETE OR UPDATE OF phase, uses, cpu_milli, memory_mib ON allocations
        FOR EACH ROW EXECUTE FUNCTION corral_count_claim()""")


def downgrade() -> None:
    op.execute("DROP TRIGGER count_claim ON allocations")
    op.execute("DROP FUNCTION corral_count_claim()")
    op.execute("DROP FUNCTION corral_sum(integer[], integer[], integer)")
