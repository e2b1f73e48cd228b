"""A book of reservations in memory, behind the real activities, by a clock that a test chooses."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, cast

from temporalio.client import Client, WorkflowHandle

from activities.answers import ReservationChange, ReservationStanding
from activities.ports import NotAllowed, NotFound, Store
from activities.reserving import Reserving
from corral import wire
from corral.reservation import ReservationAnswer, ReservationSpec, ReservationState
from domain.calendar.recurrence import first_window, next_window

Now = Callable[[], Awaitable[datetime]]


@dataclass
class Book:
    """What a store would know of reservations; `opened` are the beginnings of all windows that were closed, by id."""

    now: Now
    speed: float = 1
    specs: dict[str, ReservationSpec] = field(default_factory=dict)
    standings: dict[str, ReservationStanding] = field(default_factory=dict)
    opened: dict[str, list[datetime]] = field(default_factory=dict)
    extended: set[str] = field(default_factory=set)
    troubles: list[Exception] = field(default_factory=list)

    @property
    def activities(self) -> list[Callable[..., Any]]:
        reserving = Reserving(cast(Store, self))
        return [reserving.reserve, reserving.advance, reserving.extend, reserving.cancel]

    async def reserve(self, spec: ReservationSpec) -> ReservationStanding:
        if self.troubles:
            raise self.troubles.pop(0)
        now = await self.now()
        if (window := first_window(spec, now)) is None:
            return ReservationStanding(spec.id, ReservationState.REFUSED, message="start: it is over")
        self.specs[spec.id] = spec
        return self._becomes(
            ReservationStanding(spec.id, ReservationState.PLANNED, window.earliest, window.closes_at, windows=1), now
        )

    async def advance_reservation(self, reservation: str) -> ReservationStanding:
        now, standing = await self.now(), self._known(reservation)
        if standing.state.is_over:
            return standing
        opens_at, closes_at = standing.opens_at, standing.closes_at
        assert opens_at is not None
        assert closes_at is not None
        if opens_at <= now:
            standing = replace(standing, state=ReservationState.OPEN)
        if closes_at <= now:
            self.opened.setdefault(reservation, []).append(opens_at)
            window = next_window(self.specs[reservation], closes_at)
            if window is None:
                return self._becomes(replace(standing, state=ReservationState.ENDED), now)
            standing = replace(
                standing,
                state=ReservationState.PLANNED,
                opens_at=window.earliest,
                closes_at=window.closes_at,
                windows=standing.windows + 1,
            )
        return self._becomes(standing, now)

    async def extend_reservation(self, asked: ReservationChange) -> ReservationStanding:
        standing = self._known(asked.reservation)
        if standing.state.is_over:
            raise NotAllowed("it is over")
        assert standing.closes_at is not None
        more = 0 if asked.key in self.extended else asked.seconds
        self.extended.add(asked.key)
        later = replace(standing, closes_at=standing.closes_at + timedelta(seconds=more))
        return self._becomes(later, await self.now())

    async def cancel_reservation(self, reservation: str) -> ReservationStanding:
        standing = replace(self._known(reservation), state=ReservationState.CANCELLED)
        return self._becomes(standing, await self.now())

    def _known(self, reservation: str) -> ReservationStanding:
        if reservation not in self.standings:
            raise NotFound(reservation)
        return self.standings[reservation]

    def _becomes(self, standing: ReservationStanding, now: datetime) -> ReservationStanding:
        assert standing.opens_at is not None
        assert standing.closes_at is not None
        moment = standing.opens_at if now < standing.opens_at else standing.closes_at
        left = None if standing.state.is_over else max(0.0, (moment - now).total_seconds()) / self.speed
        standing = replace(standing, next_in=left)
        self.standings[standing.reservation] = standing
        return standing


async def reserves(
    client: Client, spec: ReservationSpec, pool: str, known: ReservationStanding | None = None
) -> WorkflowHandle[Any, ReservationAnswer]:
    """Start the workflow of a reservation, as a service would; `known` is what a run before this one handed over."""
    asked = spec.model_dump(mode="json")
    return await client.start_workflow(
        wire.RESERVATION,
        args=[asked] if known is None else [asked, known],
        id=wire.reservation_workflow_id(spec.id),
        task_queue=wire.pool_task_queue(pool),
        result_type=ReservationAnswer,
    )
