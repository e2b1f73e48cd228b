"""Entry penalties in the record: charges of holds, and what settles them; writing an entry again changes nothing."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from sqlalchemy import and_, bindparam, literal, or_, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.store import tables
from activities.store.bulk import insert_new_rows
from activities.store.rows import AttemptRow
from domain.quota.penalties import Entry, EntryKind

_ENTRIES = tables.penalties
_SETTLEMENTS = tables.penalties.alias("settlements")
_IS_SETTLED = (
    select(literal(1))
    .where(
        *(_SETTLEMENTS.c[name] == _ENTRIES.c[name] for name in ("workload_id", "epoch", "sku")),
        _SETTLEMENTS.c.kind == EntryKind.SETTLEMENT,
    )
    .exists()
)
_UNSETTLED = (
    select(_ENTRIES)
    .join(
        tables.attempts,
        and_(tables.attempts.c.workload_id == _ENTRIES.c.workload_id, tables.attempts.c.epoch == _ENTRIES.c.epoch),
    )
    .where(tables.attempts.c.ended_at.is_(None), _ENTRIES.c.kind == EntryKind.CHARGE, ~_IS_SETTLED)
)
_CHANGED = select(_ENTRIES).where(
    _ENTRIES.c.changed >= bindparam("since"), or_(_ENTRIES.c.kind == EntryKind.SETTLEMENT, ~_IS_SETTLED)
)
"""A charge that is settled is left out: its settlement may be of an older transaction than the charge itself."""


@dataclass
class OpenCharges:
    """The charges that are not settled, as a planner remembers them; those of ended attempts all are."""

    entries: dict[tuple[str, int, str], Entry] = field(default_factory=dict)

    async def news(self, connection: AsyncConnection, since: int) -> list[Entry]:
        """Read charges and settlements that a transaction from that one on has written."""
        query = connection.execute(_CHANGED, {"since": since}) if since else connection.execute(_UNSETTLED)
        return [
            Entry(row.workload_id, row.epoch, row.sku, EntryKind(row.kind), row.queue, row.milli_seconds) for row in await query
        ]

    def take(self, news: Sequence[Entry]) -> None:
        """Remember it."""
        for entry in news:
            if entry.kind is EntryKind.CHARGE:
                self.entries[entry.workload, entry.epoch, entry.sku] = entry
            else:
                self.entries.pop((entry.workload, entry.epoch, entry.sku), None)


async def write_entries(connection: AsyncConnection, entries: Sequence[Entry]) -> None:
    """Write charges or settlements that are not there yet."""
    if entries:
        rows = [
            dict(zip(("workload_id", "epoch", "sku", "kind", "queue", "milli_seconds"), entry, strict=True))
            for entry in sorted(entries)
        ]
        await insert_new_rows(connection, _ENTRIES, rows, "workload_id")


async def settle_ended(connection: AsyncConnection, attempts: Collection[AttemptRow]) -> None:
    """Settle what attempts were charged that have ended."""
    keys = [(attempt.workload_id, attempt.epoch) for attempt in attempts]
    columns = _ENTRIES.c
    settled = select(
        columns.workload_id,
        columns.epoch,
        columns.sku,
        literal(EntryKind.SETTLEMENT.value),
        columns.queue,
        -columns.milli_seconds,
    ).where(tuple_(columns.workload_id, columns.epoch).in_(keys), columns.kind == EntryKind.CHARGE)
    await connection.execute(
        insert(_ENTRIES)
        .from_select(["workload_id", "epoch", "sku", "kind", "queue", "milli_seconds"], settled.order_by(columns.workload_id))
        .on_conflict_do_nothing()
    )
