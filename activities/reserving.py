"""Reserving: a reservation is written down, goes from window to window, and is changed by whoever asked for it."""

from pydantic import ValidationError
from temporalio import activity

from activities.admission import in_words, misnamed
from activities.answers import ReservationChange, ReservationOrder, ReservationStanding
from activities.errors import final_failures, writable
from activities.ports import NotAllowed, NotFound, Store
from corral import wire
from corral.reservation import ReservationSpec, ReservationState
from domain.calendar.recurrence import BadRecurrence


class Reserving:
    """Steps of a reservation in the record; rounds decide what is kept for it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @activity.defn(name="reserving.reserve")
    async def reserve(self, order: ReservationOrder) -> ReservationStanding:
        """Answer how the reservation stands once it is written; asked again, how it stands now."""
        try:
            spec = ReservationSpec.model_validate(order.spec)
        except ValidationError as error:
            return _refused(order, in_words(error))
        if spec.id != order.reservation:
            return _refused(order, f"id: {spec.id!r} differs from the id of its workflow, {order.reservation!r}")
        if problem := misnamed(order.workflow, wire.reservation_workflow_id(spec.id)):
            return _refused(order, problem)
        try:
            return await self._store.reserve(spec)
        except (BadRecurrence, NotAllowed, NotFound) as refusal:
            return _refused(order, str(refusal))

    @activity.defn(name="reserving.advance")
    async def advance(self, reservation: str) -> ReservationStanding:
        """Do what time has made due: windows that are over are closed, and the next one begins."""
        with final_failures():
            return await self._store.advance_reservation(reservation)

    @activity.defn(name="reserving.extend")
    async def extend(self, asked: ReservationChange) -> ReservationStanding:
        """Let the window end later, once a key."""
        writable(asked.key)
        with final_failures():
            return await self._store.extend_reservation(asked)

    @activity.defn(name="reserving.cancel")
    async def cancel(self, asked: ReservationChange) -> ReservationStanding:
        """Keep nothing any more."""
        with final_failures():
            return await self._store.cancel_reservation(asked.reservation)


def _refused(order: ReservationOrder, message: str) -> ReservationStanding:
    return ReservationStanding(order.reservation, ReservationState.REFUSED, message=message)
