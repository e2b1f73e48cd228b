"""Reservations in the record: their windows one after the other, what rounds keep for them, and what they missed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, any_, bindparam, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.answers import ReservationChange
from activities.ports import NotAllowed, NotFound
from activities.store import tables
from corral.api import WHOLE
from corral.reservation import Miss, MissKind, ReservationSpec, ReservationState, ReservationStatus
from domain.calendar.recurrence import Window, first_window, next_window
from domain.pool.bookings import Booking

UNPLANNED = "no round was decided while the window was open"
UNPLANNED_UNTIL = "no round was decided before {:%Y-%m-%dT%H:%M:%SZ}"
LATE_SECONDS = 60.0
"""So long (by the wall's clock) after it should have opened a window that opens only then is a miss."""

_LIVE = select(tables.reservations).where(tables.reservations.c.ended_at.is_(None)).order_by(tables.reservations.c.id)
_TOUCH = text("UPDATE nodes SET device_use = device_use WHERE id = ANY(:nodes)").bindparams(
    bindparam("nodes", type_=tables.Names)
)


@dataclass(frozen=True, slots=True)
class ReservationRow:
    """A row of `reservations`."""

    id: str
    spec: ReservationSpec
    digest: str
    state: ReservationState
    windows: int
    earliest: datetime
    latest: datetime
    opens_at: datetime
    closes_at: datetime
    nodes: tuple[str, ...]
    missing: int
    cause: str
    booked_at: datetime
    kind: MissKind | None = None
    lent: int = 0
    lent_since: datetime | None = None
    lent_milli_seconds: int = 0
    ended_at: datetime | None = None

    @classmethod
    def of(cls, row: Row[Any]) -> "ReservationRow":
        """The row as it was read."""
        values = row._asdict()
        parsed = {
            "spec": ReservationSpec.model_validate(values["spec"]),
            "state": ReservationState(values["state"]),
            "nodes": tuple(values["nodes"]),
            "kind": None if values["kind"] is None else MissKind(values["kind"]),
        }
        return cls(**(values | parsed))

    @property
    def values(self) -> dict[str, Any]:
        """What is written of it."""
        values = {column.name: getattr(self, column.name) for column in tables.reservations.columns}
        return values | {"spec": self.spec.model_dump(mode="json"), "nodes": list(self.nodes)}

    @property
    def booking(self) -> Booking:
        """What a round knows of it."""
        return Booking(
            spec=self.spec,
            earliest=self.earliest,
            latest=self.latest,
            opens_at=self.opens_at,
            closes_at=self.closes_at,
            booked_at=self.booked_at,
            nodes=self.nodes,
            is_open=self.state is ReservationState.OPEN,
            missing=self.missing,
            kind=self.kind,
            cause=self.cause,
            lent=self.lent,
        )

    def lending(self, milli: int, now: datetime) -> "ReservationRow":
        """The same where others have so much of it from now on."""
        if milli == self.lent:
            return self
        total = self.lent_until(now)
        return replace(self, lent=milli, lent_since=now if milli else None, lent_milli_seconds=total)

    def lent_until(self, now: datetime) -> int:
        """Thousandths of an accelerator times seconds that others have had in open windows so far."""
        if self.lent_since is None:
            return self.lent_milli_seconds
        seconds = max(0, (min(now, self.closes_at) - self.lent_since) // timedelta(seconds=1))
        return self.lent_milli_seconds + self.lent * seconds

    def in_window(self, window: Window) -> "ReservationRow":
        """The same with its next window; the nodes of the last one are kept as long as nothing speaks against them."""
        return replace(
            self.lending(0, self.closes_at),
            state=ReservationState.PLANNED,
            windows=self.windows + 1,
            earliest=window.earliest,
            latest=window.latest,
            opens_at=window.earliest,
            closes_at=window.closes_at,
            missing=0,
            kind=None,
            cause="",
        )

    def over(self, state: ReservationState, now: datetime) -> "ReservationRow":
        """The same when nothing is kept for it any more; of one that was cancelled nothing is missing either."""
        over = replace(self.lending(0, now), state=state, ended_at=now, nodes=())
        return replace(over, missing=0, kind=None, cause="") if state is ReservationState.CANCELLED else over


# What a round reads and writes


async def read_bookings(connection: AsyncConnection) -> tuple[Booking, ...]:
    """All reservations that are not over."""
    return tuple(ReservationRow.of(row).booking for row in await connection.execute(_LIVE))


async def read_look_at(connection: AsyncConnection, pool: str) -> datetime | None:
    """When time alone gives a round something to do, as far as the last one knew."""
    found: datetime | None = await connection.scalar(select(tables.calendars.c.look_at).where(tables.calendars.c.pool == pool))
    return found


async def write_look_at(connection: AsyncConnection, pool: str, look_at: datetime | None) -> None:
    """Note when time alone gives a round something to do."""
    statement = insert(tables.calendars).values(pool=pool, look_at=look_at)
    await connection.execute(statement.on_conflict_do_update(index_elements=["pool"], set_={"look_at": look_at}))


async def write_bookings(
    connection: AsyncConnection, bookings: Sequence[Booking], before: Iterable[Booking], now: datetime, late: timedelta
) -> None:
    """Write what a round has settled; a window that opens without all of its capacity is a miss, until that has come.

    So is one that opens `late`, as nobody planned before, and one in which what was lent comes back too late for who wants it.
    Nodes that are newly kept are touched, so that no plan which knows nothing of that can start work there.
    """
    known = {booking.id: booking for booking in before}
    for booking in bookings:
        was = known[booking.id]
        if added := sorted(set(booking.nodes) - set(was.nodes)):
            await connection.execute(_TOUCH, {"nodes": added})
        row = await _existing(connection, booking.id)
        row = replace(
            row.lending(booking.lent, now),
            state=ReservationState.OPEN if booking.is_open else ReservationState.PLANNED,
            opens_at=booking.opens_at,
            closes_at=booking.closes_at,
            nodes=booking.nodes,
            missing=booking.missing,
            kind=booking.kind,
            cause=booking.cause,
        )
        await _write(connection, row)
        opens = booking.is_open and not was.is_open
        if opens and now - max(row.latest, row.booked_at) > late:
            unplanned = replace(row, missing=(row.spec.accelerators or 0) * WHOLE, cause=UNPLANNED_UNTIL.format(now))
            await _record_miss(connection, unplanned, MissKind.NOT_PLANNED, now)
        is_late = booking.kind is MissKind.LOAN_IS_LATE and was.kind is not MissKind.LOAN_IS_LATE
        if booking.is_open and booking.kind is not None and (is_late or opens):
            await _record_miss(connection, row, booking.kind, now)
        if booking.is_open and (was.missing or opens) and not booking.missing:
            await _made_good(connection, booking, now)


async def _record_miss(connection: AsyncConnection, row: ReservationRow, kind: MissKind, now: datetime) -> None:
    statement = insert(tables.misses).values(
        reservation_id=row.id, opens_at=row.opens_at, at=now, missing=row.missing, kind=kind, cause=row.cause
    )
    await connection.execute(statement.on_conflict_do_nothing())


async def _made_good(connection: AsyncConnection, booking: Booking, now: datetime) -> None:
    columns = tables.misses.c
    await connection.execute(
        update(tables.misses)
        .where(columns.reservation_id == booking.id, columns.opens_at == booking.opens_at, columns.made_good_at.is_(None))
        .values(made_good_at=now)
    )


# What its workflow does


async def book(connection: AsyncConnection, spec: ReservationSpec, now: datetime) -> ReservationRow | None:
    """Write a reservation with its first window, or find that this was done; none where all of its windows are over.

    Raises:
        domain.calendar.recurrence.BadRecurrence: its time zone or its recurrence cannot be read.
        NotAllowed: the id is taken by another one.
        NotFound: it names a queue, a node or a cluster that there is not.
    """
    if (known := await _locked(connection, spec.id)) is not None:
        if known.digest != spec.digest:
            raise NotAllowed(f"id: {spec.id!r} belongs to another reservation; make this one under an id of its own")
        return known
    if (window := first_window(spec, now)) is None:
        return None
    await _check_names(connection, spec)
    row = ReservationRow(
        id=spec.id,
        spec=spec,
        digest=spec.digest,
        state=ReservationState.PLANNED,
        windows=1,
        earliest=window.earliest,
        latest=window.latest,
        opens_at=window.earliest,
        closes_at=window.closes_at,
        nodes=(),
        missing=0,
        cause="",
        booked_at=now,
    )
    await connection.execute(insert(tables.reservations).values(row.values))
    return row


async def _check_names(connection: AsyncConnection, spec: ReservationSpec) -> None:
    queues, nodes = tables.queues.c.name, tables.nodes.c
    checks = (
        ("queues", spec.queues, queues, "queue; `corral queue list` lists them"),
        ("nodes", spec.nodes, nodes.id, "node; `corral fleet nodes` lists them by their ids"),
        ("clusters", spec.clusters, nodes.cluster, "cluster of a known node; `corral fleet nodes` lists them"),
    )
    for field, named, column, what in checks:
        known = set(await connection.scalars(select(column).where(column.in_(named)))) if named else set()
        if unknown := [name for name in named if name not in known]:
            raise NotFound(f"{field}: {unknown[0]!r} is no {what}")


async def advance(connection: AsyncConnection, reservation: str, now: datetime) -> ReservationRow:
    """Close the windows that are over, and open the book for the next one; done once, whatever how often it is asked.

    Raises:
        NotFound: there is no such reservation.
    """
    row = await _existing(connection, reservation)
    before = row
    while not row.state.is_over and row.closes_at <= now:
        if row.state is ReservationState.PLANNED:
            missed = replace(row, missing=(row.spec.accelerators or 0) * WHOLE, cause=UNPLANNED)
            await _record_miss(connection, missed, MissKind.NOT_PLANNED, now)
        window = next_window(row.spec, row.closes_at)
        row = row.over(ReservationState.ENDED, now) if window is None else row.in_window(window)
    if row is not before:
        await _write(connection, row)
    return row


async def extend(connection: AsyncConnection, asked: ReservationChange) -> ReservationRow:
    """Let the window end later, once a key.

    Raises:
        NotFound: there is no such reservation.
        NotAllowed: it is over.
    """
    row = await _existing(connection, asked.reservation)
    key = f"reservation/{asked.reservation}:extend:{asked.key}"
    if await connection.scalar(select(tables.operations.c.key).where(tables.operations.c.key == key)) is not None:
        return row
    if row.state.is_over:
        raise NotAllowed(f"extend: reservation {row.id!r} is {row.state}; only one that is planned or open can be extended")
    row = replace(row, closes_at=row.closes_at + timedelta(seconds=asked.seconds))
    await _write(connection, row)
    await connection.execute(insert(tables.operations).values(key=key, result={"closes_at": row.closes_at.isoformat()}))
    return row


async def cancel(connection: AsyncConnection, reservation: str, now: datetime) -> ReservationRow:
    """Keep nothing for it any more; one that is over stays as it is.

    Raises:
        NotFound: there is no such reservation.
    """
    row = await _existing(connection, reservation)
    if not row.state.is_over:
        row = row.over(ReservationState.CANCELLED, now)
        await _write(connection, row)
    return row


async def _existing(connection: AsyncConnection, reservation: str) -> ReservationRow:
    if (row := await _locked(connection, reservation)) is None:
        raise NotFound(f"there is no reservation {reservation!r}")
    return row


async def _locked(connection: AsyncConnection, reservation: str) -> ReservationRow | None:
    query = select(tables.reservations).where(tables.reservations.c.id == reservation).with_for_update()
    found = (await connection.execute(query)).one_or_none()
    return None if found is None else ReservationRow.of(found)


async def _write(connection: AsyncConnection, row: ReservationRow) -> None:
    await connection.execute(update(tables.reservations).where(tables.reservations.c.id == row.id).values(row.values))


# What people ask


async def statuses(connection: AsyncConnection, now: datetime, reservation: str | None = None) -> list[ReservationStatus]:
    """All reservations, or that one: those that are not over first, by the time at which they open."""
    columns = tables.reservations.c
    query = select(tables.reservations).order_by(columns.ended_at.is_not(None), columns.opens_at, columns.id)
    if reservation is not None:
        query = query.where(columns.id == reservation)
    rows = [ReservationRow.of(row) for row in await connection.execute(query)]
    devices = await _devices(connection, sorted({node for row in rows for node in row.nodes}))
    missed = await _misses(connection, [row.id for row in rows])
    return [
        ReservationStatus(
            id=row.id,
            state=row.state,
            spec=row.spec,
            opens_at=row.opens_at,
            closes_at=row.closes_at,
            windows=row.windows,
            kept={node: devices[node] for node in row.nodes},
            missing=row.missing / WHOLE,
            cause=row.cause,
            lent=row.lent / WHOLE,
            lent_accelerator_seconds=row.lent_until(now) / WHOLE,
            misses=tuple(missed.get(row.id, ())),
        )
        for row in rows
    ]


async def _devices(connection: AsyncConnection, nodes: list[str]) -> dict[str, int]:
    columns = tables.nodes.c
    query = select(columns.id, columns.accelerators).where(columns.id == any_(bindparam("ids", nodes, type_=tables.Names)))
    return {row.id: row.accelerators for row in await connection.execute(query)}


async def _misses(connection: AsyncConnection, reservations: list[str]) -> dict[str, list[Miss]]:
    columns = tables.misses.c
    query = select(tables.misses).where(columns.reservation_id == any_(bindparam("ids", reservations, type_=tables.Names)))
    missed: dict[str, list[Miss]] = {}
    for row in await connection.execute(query.order_by(columns.opens_at)):
        miss = Miss(
            opens_at=row.opens_at,
            at=row.at,
            missing=row.missing / WHOLE,
            kind=row.kind,
            cause=row.cause,
            made_good_at=row.made_good_at,
        )
        missed.setdefault(row.reservation_id, []).append(miss)
    return missed
