"""What runs has a cost, and the ledger is summed up by the hour, by a trigger: budgets and fair shares are read from the sums."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

CHANGES = """
    SELECT change.queue, used.sku, div(change.at, 3600000) AS hour, change.sign * used.milli::bigint AS milli,
           change.sign * coalesce((change.cost_by_sku ->> used.sku)::numeric, 0) AS cost, change.at % 3600000 AS into_hour
    FROM (SELECT queue, by_sku, cost_by_sku, sign, floor(extract(epoch FROM instant) * 1000) AS at FROM ({sides}) AS side(queue, by_sku, cost_by_sku, sign, instant)) AS change
    CROSS JOIN LATERAL jsonb_each_text(change.by_sku) AS used(sku, milli)
    WHERE change.at IS NOT NULL"""

SUMS = f"""
    INSERT INTO flows (queue, sku, hour, milli, milli_moment, cost, cost_moment, changed)
    SELECT queue, sku, hour, sum(milli), sum(milli * into_hour), sum(cost), sum(cost * into_hour), pg_current_xact_id()::text::bigint
    FROM ({CHANGES}) AS changes GROUP BY queue, sku, hour
    HAVING sum(milli) <> 0 OR sum(milli * into_hour) <> 0 OR sum(cost) <> 0 OR sum(cost * into_hour) <> 0
    ORDER BY queue, sku, hour
    ON CONFLICT (queue, sku, hour) DO UPDATE SET
        milli = flows.milli + excluded.milli, milli_moment = flows.milli_moment + excluded.milli_moment,
        cost = flows.cost + excluded.cost, cost_moment = flows.cost_moment + excluded.cost_moment, changed = excluded.changed"""

SIDES = """
    VALUES (OLD.queue, OLD.allocated_by_sku, OLD.cost_by_sku, -1, OLD.began_at),
           (OLD.queue, OLD.allocated_by_sku, OLD.cost_by_sku, 1, OLD.ended_at),
           (NEW.queue, NEW.allocated_by_sku, NEW.cost_by_sku, 1, NEW.began_at),
           (NEW.queue, NEW.allocated_by_sku, NEW.cost_by_sku, -1, NEW.ended_at)"""

LEDGER = """
    SELECT queue, allocated_by_sku, cost_by_sku, sign, CASE sign WHEN 1 THEN began_at ELSE ended_at END
    FROM ledger CROSS JOIN (VALUES (1), (-1)) AS side(sign)"""


def upgrade() -> None:
    for table in ("attempts", "ledger"):
        op.add_column(table, sa.Column("cost_by_sku", JSONB, nullable=False, server_default=sa.text("'{}'")))
        op.alter_column(table, "cost_by_sku", server_default=None)
    op.create_table(
        "flows",
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("sku", sa.Text, nullable=False),
        sa.Column("hour", sa.BigInteger, nullable=False),
        sa.Column("milli", sa.BigInteger, nullable=False),
        sa.Column("milli_moment", sa.Numeric(scale=0, precision=40), nullable=False),
        sa.Column("cost", sa.Numeric(scale=0, precision=40), nullable=False),
        sa.Column("cost_moment", sa.Numeric(scale=0, precision=40), nullable=False),
        sa.Column("changed", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("queue", "sku", "hour", name=op.f("pk_flows")),
    )
    op.create_index(op.f("ix_flows_changed"), "flows", ["changed"])
    op.execute(SUMS.format(sides=LEDGER))
    op.execute(f"""
        CREATE FUNCTION corral_sum_up() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            {SUMS.format(sides=SIDES)};
            RETURN NULL;
        END $$""")
    op.execute("""
        CREATE TRIGGER sum_up_new AFTER INSERT ON ledger
        FOR EACH ROW WHEN (NEW.allocated_milli > 0) EXECUTE FUNCTION corral_sum_up()""")
    op.execute("""
        CREATE TRIGGER sum_up_changed AFTER UPDATE ON ledger
        FOR EACH ROW WHEN (OLD.allocated_milli > 0 OR NEW.allocated_milli > 0) EXECUTE FUNCTION corral_sum_up()""")


def downgrade() -> None:
    op.execute("DROP TRIGGER sum_up_changed ON ledger")
    op.execute("DROP TRIGGER sum_up_new ON ledger")
    op.execute("DROP FUNCTION corral_sum_up()")
    op.drop_table("flows")
    for table in ("attempts", "ledger"):
        op.drop_column(table, "cost_by_sku")
