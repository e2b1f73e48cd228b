"""What operators order stands in one table, evacuations and roll-outs alike, and what-ifs are kept for their tokens."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

COUNTS = ("nodes", "told", "left", "leaving")


def upgrade() -> None:
    op.rename_table("evacuations", "orders")
    op.execute("ALTER TABLE orders RENAME CONSTRAINT pk_evacuations TO pk_orders")
    op.execute("ALTER INDEX ix_evacuations_open RENAME TO ix_orders_open")
    op.drop_constraint(op.f("ck_evacuations_known_state"), "orders")
    op.drop_constraint(op.f("ck_evacuations_over_when_it_has_ended"), "orders")
    op.alter_column("orders", "deadline", new_column_name="due_at", nullable=True)
    for name, kind in (("kind", sa.Text), ("subject", sa.Text), ("progress", JSONB)):
        op.add_column("orders", sa.Column(name, kind))
    op.execute("""
        UPDATE orders SET kind = 'evacuation', subject = (terms->>'kind') || ' ' || (terms->>'place'),
            progress = jsonb_build_object('nodes', nodes, 'told', told, 'left', "left", 'leaving', leaving,
                                          'remaining', to_jsonb(remaining), 'message', '', 'needs', '')""")
    for name in ("kind", "subject", "progress"):
        op.alter_column("orders", name, nullable=False)
    for name in (*COUNTS, "remaining"):
        op.drop_column("orders", name)
    op.create_check_constraint(op.f("ck_orders_known_kind"), "orders", "kind IN ('evacuation', 'policy-roll-out', 'queue-edit')")
    op.create_check_constraint(
        op.f("ck_orders_over_when_it_has_ended"),
        "orders",
        "(ended_at IS NULL) = (state IN ('awaiting-approval', 'moving', 'paused', 'watching'))",
    )
    op.create_table(
        "what_ifs",
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("change", sa.Text, nullable=False),
        sa.Column("surroundings", JSONB, nullable=False),
        sa.Column("hurt", sa.ARRAY(sa.Text), nullable=False),
        sa.PrimaryKeyConstraint("token", name=op.f("pk_what_ifs")),
    )
    op.create_index("ix_what_ifs_at", "what_ifs", ["at"])


def downgrade() -> None:
    op.drop_table("what_ifs")
    op.execute("DELETE FROM orders WHERE kind <> 'evacuation' OR state IN ('awaiting-approval', 'rejected', 'expired')")
    op.drop_constraint(op.f("ck_orders_known_kind"), "orders")
    op.drop_constraint(op.f("ck_orders_over_when_it_has_ended"), "orders")
    for name in COUNTS:
        op.add_column("orders", sa.Column(name, sa.Integer, nullable=False, server_default="0"))
    op.add_column("orders", sa.Column("remaining", sa.ARRAY(sa.Text), nullable=False, server_default="{}"))
    op.execute("""
        UPDATE orders SET nodes = (progress->>'nodes')::integer, told = (progress->>'told')::integer,
            "left" = (progress->>'left')::integer, leaving = (progress->>'leaving')::integer,
            remaining = ARRAY(SELECT jsonb_array_elements_text(progress->'remaining'))""")
    op.alter_column("orders", "remaining", server_default=None)
    for name in ("kind", "subject", "progress"):
        op.drop_column("orders", name)
    op.alter_column("orders", "due_at", new_column_name="deadline", nullable=False)
    op.execute("ALTER INDEX ix_orders_open RENAME TO ix_evacuations_open")
    op.execute("ALTER TABLE orders RENAME CONSTRAINT pk_orders TO pk_evacuations")
    op.rename_table("orders", "evacuations")
    op.create_check_constraint(
        op.f("ck_evacuations_known_state"), "evacuations", "state IN ('moving', 'paused', 'done', 'overdue', 'aborted')"
    )
    op.create_check_constraint(
        op.f("ck_evacuations_over_when_it_has_ended"), "evacuations", "(ended_at IS NULL) = (state IN ('moving', 'paused'))"
    )
