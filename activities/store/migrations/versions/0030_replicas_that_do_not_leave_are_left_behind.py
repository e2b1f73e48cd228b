"""Replicas that do not leave are left behind: an endpoint goes on without them, and what they have stays taken."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

oldest_worker = "0030"

USE = """
    UPDATE nodes SET device_use = corral_sum(device_use, {row}.uses, {sign}1),
                     cpu_use = cpu_use + {sign}1 * {row}.cpu_milli, memory_use = memory_use + {sign}1 * {row}.memory_mib,
                     replica_use = replica_use + {sign}1 * jsonb_array_length({row}.replicas)
    WHERE id = {row}.node_id"""


def upgrade() -> None:
    op.create_table(
        "remnants",
        sa.Column("attempt_id", sa.Text, nullable=False),
        sa.Column("notice", sa.Integer, nullable=False),
        sa.Column("node_id", sa.Text, nullable=False),
        sa.Column("uses", sa.ARRAY(sa.Integer), nullable=False),
        sa.Column("cpu_milli", sa.BigInteger, nullable=False),
        sa.Column("memory_mib", sa.BigInteger, nullable=False),
        sa.Column("replicas", JSONB, nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("attempt_id", "notice", "node_id", name=op.f("pk_remnants")),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_remnants_attempt_id")),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name=op.f("fk_remnants_node_id")),
    )
    op.create_index(op.f("ix_remnants_node_id"), "remnants", ["node_id"])
    op.execute(f"""
        CREATE FUNCTION corral_count_remnant() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'INSERT' THEN {USE.format(row="NEW", sign="")};
            ELSE {USE.format(row="OLD", sign="-")};
            END IF;
            RETURN NULL;
        END $$""")
    op.execute("""
        CREATE TRIGGER count_remnant AFTER INSERT OR DELETE ON remnants
        FOR EACH ROW EXECUTE FUNCTION corral_count_remnant()""")


def downgrade() -> None:
    op.execute("DELETE FROM remnants")
    op.drop_table("remnants")
    op.execute("DROP FUNCTION corral_count_remnant()")
