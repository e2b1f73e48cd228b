"""Reservations: booked, taken from window to window, changed, and listed."""

from collections.abc import Awaitable, Callable

from sqlalchemy.ext.asyncio import AsyncConnection

from activities.answers import ReservationChange, ReservationStanding
from activities.store import reservations
from activities.store.parts.transactions import Result, Transactions
from activities.store.reservations import ReservationRow
from activities.store.rows import Journal
from corral.api import WHOLE
from corral.reservation import ReservationSpec, ReservationState, ReservationStatus


class Reservations(Transactions):
    """Books capacity over windows."""

    async def reserve(self, spec: ReservationSpec) -> ReservationStanding:
        """Write a reservation, once; one whose windows are all over stands refused.

        Raises:
            domain.calendar.recurrence.BadRecurrence: its time zone or its recurrence cannot be read.
            activities.ports.NotAllowed: the id is taken by another one.
            activities.ports.NotFound: it names a queue, a node or a cluster that there is not.
        """
        row = await self._reserving(lambda connection, journal: reservations.book(connection, spec, journal.now))
        return self._over_before(spec) if row is None else self._reservation_standing(row)

    async def advance_reservation(self, reservation: str) -> ReservationStanding:
        """Close the windows that are over, and begin the next.

        Raises:
            activities.ports.NotFound: there is no such reservation.
        """
        return self._reservation_standing(
            await self._reserving(lambda connection, journal: reservations.advance(connection, reservation, journal.now))
        )

    async def extend_reservation(self, asked: ReservationChange) -> ReservationStanding:
        """Let the present or next window end later, once a key.

        Raises:
            activities.ports.NotFound: there is no such reservation.
            activities.ports.NotAllowed: it is over.
        """
        return self._reservation_standing(
            await self._reserving(lambda connection, journal: reservations.extend(connection, asked))
        )

    async def cancel_reservation(self, reservation: str) -> ReservationStanding:
        """Keep nothing for a reservation any more.

        Raises:
            activities.ports.NotFound: there is no such reservation.
        """
        return self._reservation_standing(
            await self._reserving(lambda connection, journal: reservations.cancel(connection, reservation, journal.now))
        )

    async def reservations(self, reservation: str | None = None) -> list[ReservationStatus]:
        """All reservations, or the one of that id; those that are not over first."""
        async with self._engine.connect() as connection:
            return await reservations.statuses(connection, self._clock.now(), reservation)

    async def reservations_to_keep(self, after: str, limit: int) -> list[ReservationSpec]:
        """Some of those that are not over, by their ids, from the next after that one on."""
        async with self._engine.connect() as connection:
            bookings = await reservations.read_bookings(connection)
        return sorted((booking.spec for booking in bookings if booking.id > after), key=lambda spec: spec.id)[:limit]

    async def _reserving(self, work: Callable[[AsyncConnection, Journal], Awaitable[Result]]) -> Result:
        """Do something about a reservation, and let a round look at what that means."""

        async def and_look(connection: AsyncConnection, journal: Journal) -> Result:
            result = await work(connection, journal)
            await reservations.write_look_at(connection, self._pool, journal.now)
            await self._note_change(connection)
            return result

        return (await self._write(and_look))[0]

    def _reservation_standing(self, row: ReservationRow) -> ReservationStanding:
        now = self._clock.now()
        moment = row.opens_at if now < row.opens_at else row.closes_at
        left = None if row.state.is_over else max(0.0, (moment - now).total_seconds())
        return ReservationStanding(
            reservation=row.id,
            state=row.state,
            opens_at=row.opens_at,
            closes_at=row.closes_at,
            windows=row.windows,
            missing=row.missing / WHOLE,
            message=row.cause,
            next_in=None if left is None else self._clock.wall_seconds(left),
        )

    def _over_before(self, spec: ReservationSpec) -> ReservationStanding:
        message = f"start: the window of {spec.start.isoformat()} is over, and no further one begins; give one that is ahead"
        return ReservationStanding(spec.id, ReservationState.REFUSED, message=message)
