"""What is reserved is lent until it is wanted: how much, and since when; and misses say why in one word."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


KIND = """
    CASE WHEN cause LIKE 'no round%' THEN 'not-planned' WHEN cause LIKE 'work of others%' THEN 'work-stays'
         ELSE 'too-few-nodes' END"""


def upgrade() -> None:
    op.add_column("reservations", sa.Column("kind", sa.Text))
    op.add_column("reservations", sa.Column("lent", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("reservations", sa.Column("lent_since", sa.DateTime(timezone=True)))
    op.add_column("reservations", sa.Column("lent_milli_seconds", sa.BigInteger, nullable=False, server_default="0"))
    op.execute(f"UPDATE reservations SET kind = {KIND} WHERE missing > 0")
    op.alter_column("reservations", "lent", server_default=None)
    op.alter_column("reservations", "lent_milli_seconds", server_default=None)
    op.create_check_constraint(
        op.f("ck_reservations_lent_since_some_time"), "reservations", "(lent_since IS NOT NULL) = (lent > 0)"
    )
    op.add_column("misses", sa.Column("kind", sa.Text))
    op.execute(f"UPDATE misses SET kind = {KIND}")
    op.alter_column("misses", "kind", nullable=False)


def downgrade() -> None:
    op.drop_column("misses", "kind")
    op.drop_constraint(op.f("ck_reservations_lent_since_some_time"), "reservations")
    for column in ("lent_milli_seconds", "lent_since", "lent", "kind"):
        op.drop_column("reservations", column)
