"""Reservations: booked, taken from window to window, changed, and listed."""

from typing import Protocol

from activities.answers import ReservationChange, ReservationStanding
from corral.reservation import ReservationSpec, ReservationStatus


class Reservations(Protocol):
    """Books capacity over windows."""

    async def reserve(self, spec: ReservationSpec) -> ReservationStanding:
        """Write a reservation, once; one whose windows are all over stands refused.

        Raises:
            domain.calendar.recurrence.BadRecurrence: its time zone or its recurrence cannot be read.
            NotAllowed: the id is taken by another one.
            NotFound: it names a queue, a node or a cluster that there is not.
        """

    async def advance_reservation(self, reservation: str) -> ReservationStanding:
        """Close the windows that are over, and begin the next; answers how it stands, and until when.

        Raises:
            NotFound: there is no such reservation.
        """

    async def extend_reservation(self, asked: ReservationChange) -> ReservationStanding:
        """Let the present or next window end later, once a key.

        Raises:
            NotFound: there is no such reservation.
            NotAllowed: it is over.
        """

    async def cancel_reservation(self, reservation: str) -> ReservationStanding:
        """Keep nothing for a reservation any more.

        Raises:
            NotFound: there is no such reservation.
        """

    async def reservations(self, reservation: str | None = None) -> list[ReservationStatus]:
        """All reservations, or the one of that id; those that are not over first."""
