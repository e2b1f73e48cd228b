"""Capacity is reserved for windows; windows that opened without it are kept, and nodes may have an end."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("nodes", sa.Column("available_until", INSTANT))
    op.create_table(
        "reservations",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("spec", JSONB, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("windows", sa.Integer, nullable=False),
        sa.Column("earliest", INSTANT, nullable=False),
        sa.Column("latest", INSTANT, nullable=False),
        sa.Column("opens_at", INSTANT, nullable=False),
        sa.Column("closes_at", INSTANT, nullable=False),
        sa.Column("nodes", ARRAY(sa.Text), nullable=False),
        sa.Column("missing", sa.BigInteger, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("booked_at", INSTANT, nullable=False),
        sa.Column("ended_at", INSTANT),
        sa.CheckConstraint("opens_at < closes_at", name=op.f("ck_reservations_some_window")),
        sa.CheckConstraint(
            "(ended_at IS NULL) = (state IN ('planned', 'open'))", name=op.f("ck_reservations_ends_once")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reservations")),
    )
    op.create_index("ix_reservations_live", "reservations", ["id"], postgresql_where=sa.text("ended_at IS NULL"))
    op.create_table(
        "misses",
        sa.Column("reservation_id", sa.Text, nullable=False),
        sa.Column("opens_at", INSTANT, nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("missing", sa.BigInteger, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("made_good_at", INSTANT),
        sa.ForeignKeyConstraint(["reservation_id"], ["reservations.id"], name=op.f("fk_misses_reservation_id")),
        sa.PrimaryKeyConstraint("reservation_id", "opens_at", name=op.f("pk_misses")),
    )
    op.create_table(
        "calendars",
        sa.Column("pool", sa.Text, nullable=False),
        sa.Column("look_at", INSTANT),
        sa.PrimaryKeyConstraint("pool", name=op.f("pk_calendars")),
    )


def downgrade() -> None:
    op.drop_table("calendars")
    op.drop_table("misses")
    op.drop_table("reservations")
    op.drop_column("nodes", "available_until")
