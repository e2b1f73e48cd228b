"""Ways that a reservation may go, each on a real server, and each with a recorded history."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from temporalio.client import Client, WorkflowHandle

from activities.answers import ReservationStanding
from corral import wire
from corral.api import Cancel
from corral.reservation import Extend, ReservationAnswer, ReservationSpec, ReservationState
from tests.workflows.book import Book, reserves
from worker.clock import PoolClock

POOL = "reservation-scenarios"
DAYS_A_SECOND = 1.0
SPEED = DAYS_A_SECOND * 86_400
Scenario = Callable[[Client, Book], Awaitable[WorkflowHandle[Any, Any]]]

_numbers = count(1)


def a_fast_book() -> Book:
    """A book in whose pool days pass in moments."""
    clock = PoolClock(datetime.now(UTC), SPEED)

    async def now() -> datetime:
        return clock.now()

    return Book(now, SPEED)


async def a_spec(book: Book, *, opens_in: timedelta, **fields: Any) -> ReservationSpec:
    start = await book.now() + opens_in
    asked: dict[str, Any] = {"seconds": 3600, "accelerators": 8, "sku": "h100", "queues": ("research",)}
    return ReservationSpec(id=f"r{next(_numbers)}", start=start, **(asked | fields))


async def reserved_day_by_day(client: Client, book: Book) -> WorkflowHandle[Any, Any]:
    """Has a window each day, until there is none any more."""
    until = (await book.now() + timedelta(days=5)).strftime("%Y%m%d")
    spec = await a_spec(book, opens_in=timedelta(days=1), recurrence=f"FREQ=DAILY;UNTIL={until}")
    handle = await reserves(client, spec, POOL)
    await handle.result()
    return handle


async def reserved_longer_and_cancelled(client: Client, book: Book) -> WorkflowHandle[Any, Any]:
    """Is extended, and cancelled before it opens."""
    handle = await reserves(client, await a_spec(book, opens_in=timedelta(days=300)), POOL)
    await handle.execute_update(wire.ReservationUpdate.CONFIRM, result_type=ReservationAnswer)
    await handle.execute_update(wire.ReservationUpdate.EXTEND, Extend(seconds=60), result_type=ReservationAnswer)
    await handle.execute_update(wire.ReservationUpdate.CANCEL, Cancel(reason="typo"), result_type=ReservationAnswer)
    await handle.result()
    return handle


async def reserved_in_a_new_run(client: Client, book: Book) -> WorkflowHandle[Any, Any]:
    """The second run of a reservation that recurs."""
    spec = await a_spec(book, opens_in=timedelta(days=1))
    await book.reserve(spec)
    known = ReservationStanding(spec.id, ReservationState.PLANNED, windows=101, next_in=0.01)
    handle = await reserves(client, spec, POOL, known)
    await handle.result()
    return handle


async def reserved_in_vain(client: Client, book: Book) -> WorkflowHandle[Any, Any]:
    """Is refused, as it makes no sense; the record does not answer at first."""
    book.troubles = [ConnectionError("no record")] * 3
    handle = await reserves(client, await a_spec(book, opens_in=timedelta(days=1), recurrence="often"), POOL)
    await handle.result()
    return handle


RESERVATION_SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        reserved_day_by_day,
        reserved_longer_and_cancelled,
        reserved_in_a_new_run,
        reserved_in_vain,
    )
}
