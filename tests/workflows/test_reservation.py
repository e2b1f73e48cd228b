"""What a reservation's workflow does: windows by timers, for years if need be, and what is asked of it meanwhile."""

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from corral import wire
from corral.api import Cancel
from corral.reservation import Extend, ReservationAnswer, ReservationSpec, ReservationState
from tests.workflows.book import Book, reserves
from tests.workflows.stage import connected, open_stage
from tests.workflows.test_beginnings import failed_tasks
from tests.workflows.test_strange_payloads import STRANGE

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = 3600
POOL = "reservations"


@pytest.fixture
async def book(skipping: WorkflowEnvironment) -> AsyncIterator[Book]:
    """A book whose time is that of a server which skips it."""
    book = Book(skipping.get_current_time)
    async with open_stage(skipping.client, *book.activities, name=POOL):
        yield book


async def a_reservation(id: str, book: Book, *, opens_in: float = HOUR, **fields: Any) -> ReservationSpec:
    asked: dict[str, Any] = {"seconds": HOUR, "accelerators": 8, "sku": "h100", "queues": ("research",)}
    start = fields.pop("start", None) or await book.now() + timedelta(seconds=opens_in)
    return ReservationSpec(id=id, start=start, **(asked | fields))


async def test_a_window_opens_and_closes_by_itself(skipping: WorkflowEnvironment, book: Book) -> None:
    handle = await reserves(skipping.client, await a_reservation("once", book), POOL)
    answer = await handle.execute_update(wire.ReservationUpdate.CONFIRM, result_type=ReservationAnswer)
    assert answer.state is ReservationState.PLANNED
    await skipping.sleep(timedelta(hours=1.5))
    assert book.standings["once"].state is ReservationState.OPEN
    assert (await handle.result()).state is ReservationState.ENDED


async def wall_time() -> datetime:
    return datetime.now(UTC)


@pytest.mark.parametrize("update", wire.ReservationUpdate)
async def test_what_is_asked_of_it_by_what_cannot_be_read_fails_no_task(temporal: str, update: str) -> None:
    client, book, name = await connected(temporal), Book(wall_time), f"strange-{update}"
    async with open_stage(client, *book.activities, name=name):
        handle = await reserves(client, await a_reservation(name, book), name)
        for given, _ in STRANGE.values():
            for arguments in ([given], [given, given]):
                with suppress(WorkflowUpdateFailedError):
                    await handle.execute_update(update, args=arguments)
        answer = await handle.execute_update(wire.ReservationUpdate.CONFIRM, result_type=ReservationAnswer)
        assert answer.state is ReservationState.PLANNED
        assert await failed_tasks(handle) == []
        await handle.terminate()


async def test_one_whose_workflow_has_an_id_by_which_nobody_finds_it_is_refused(
    skipping: WorkflowEnvironment, book: Book
) -> None:
    spec = (await a_reservation("misnamed", book)).model_dump(mode="json")
    handle = await skipping.client.start_workflow(
        wire.RESERVATION, spec, id="misnamed", task_queue=wire.pool_task_queue(POOL), result_type=ReservationAnswer
    )
    answer = await handle.result()
    assert (answer.state, answer.message.partition("; ")[2]) == (
        ReservationState.REFUSED,
        "start it as 'reservation/misnamed'",
    )
    assert "misnamed" not in book.standings


async def test_a_year_of_mornings_opens_at_nine_by_the_clocks_of_its_place(skipping: WorkflowEnvironment, book: Book) -> None:
    first = (await book.now()).astimezone(BERLIN).replace(hour=9, minute=0, second=0, microsecond=0) + timedelta(days=1)
    until = (first + timedelta(days=365)).strftime("%Y%m%d")
    spec = await a_reservation(
        "mornings",
        book,
        start=first.replace(tzinfo=None),
        time_zone="Europe/Berlin",
        recurrence=f"FREQ=DAILY;UNTIL={until}",
    )
    handle = await reserves(skipping.client, spec, POOL)
    assert (await handle.result()).state is ReservationState.ENDED
    opened = book.opened["mornings"]
    days = [each.astimezone(BERLIN).date() for each in opened]
    assert days == [first.date() + timedelta(days=day) for day in range(366)], "every day, none twice"
    assert {each.astimezone(BERLIN).strftime("%H:%M") for each in opened} == {"09:00"}
    assert {each.hour for each in opened} == {7, 8}, "clocks changed twice"
    history = await handle.fetch_history()
    assert len(history.events) < 4_000, "a run holds few of the windows"


async def test_extending_moves_the_end_and_its_timer(skipping: WorkflowEnvironment, book: Book) -> None:
    handle = await reserves(skipping.client, await a_reservation("longer", book, opens_in=60), POOL)
    await handle.execute_update(wire.ReservationUpdate.CONFIRM, result_type=ReservationAnswer)
    for _ in range(2):
        answer = await handle.execute_update(
            wire.ReservationUpdate.EXTEND, Extend(seconds=2 * HOUR), id="more", result_type=ReservationAnswer
        )
    assert answer.closes_at == book.standings["longer"].closes_at
    await skipping.sleep(timedelta(hours=2))
    assert book.standings["longer"].state is ReservationState.OPEN
    assert (await handle.result()).state is ReservationState.ENDED
    assert "longer" in book.opened


async def test_who_cancels_ends_it_and_nothing_more_can_be_asked_of_it(skipping: WorkflowEnvironment, book: Book) -> None:
    handle = await reserves(skipping.client, await a_reservation("never-mind", book), POOL)
    answer = await handle.execute_update(
        wire.ReservationUpdate.CANCEL, Cancel(reason="a mistake"), result_type=ReservationAnswer
    )
    assert answer.state is ReservationState.CANCELLED
    assert (await handle.result()).state is ReservationState.CANCELLED
    assert await handle.query(wire.Query.STATUS, result_type=ReservationAnswer) == await handle.result()


async def test_who_changes_what_lacks_capacity_is_told_how_it_stands_and_not_only_what_is_missing(
    skipping: WorkflowEnvironment, book: Book
) -> None:
    handle = await reserves(skipping.client, await a_reservation("short", book), POOL)
    await handle.execute_update(wire.ReservationUpdate.CONFIRM, result_type=ReservationAnswer)
    book.standings["short"] = replace(book.standings["short"], missing=8, message="too few nodes")
    answer = await handle.execute_update(wire.ReservationUpdate.EXTEND, Extend(seconds=60), result_type=ReservationAnswer)
    assert answer.message.startswith("planned, window 1: ")
    assert answer.message.endswith("; 8 accelerators are missing: too few nodes")


async def test_a_change_of_what_is_over_in_the_record_is_refused(skipping: WorkflowEnvironment, book: Book) -> None:
    handle = await reserves(skipping.client, await a_reservation("over", book), POOL)
    await handle.execute_update(wire.ReservationUpdate.CONFIRM, result_type=ReservationAnswer)
    await book.cancel_reservation("over")
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await handle.execute_update(wire.ReservationUpdate.EXTEND, Extend(seconds=60), result_type=ReservationAnswer)
    assert isinstance(refused.value.cause, ApplicationError)
    assert refused.value.cause.type == wire.Failure.NOT_ALLOWED
    assert (await handle.result()).state is ReservationState.CANCELLED, "at the next moment it learns of that"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"time_zone": "Mars/Olympus"}, "time_zone: 'Mars/Olympus'"),
        ({"recurrence": "FREQ=SECONDLY"}, "needs FREQ"),
        ({"start": datetime(2001, 1, 1)}, "start:"),
    ],
)
async def test_what_cannot_be_is_refused(skipping: WorkflowEnvironment, book: Book, fields: dict[str, Any], named: str) -> None:
    id = f"refused-{next(iter(fields)).replace('_', '-')}"
    handle = await reserves(skipping.client, await a_reservation(id, book, **fields), POOL)
    answer = await handle.result()
    assert answer.state is ReservationState.REFUSED
    assert named in answer.message


async def test_a_workflow_that_is_cancelled_keeps_nothing(skipping: WorkflowEnvironment, book: Book) -> None:
    handle = await reserves(skipping.client, await a_reservation("dropped", book), POOL)
    await handle.execute_update(wire.ReservationUpdate.CONFIRM, result_type=ReservationAnswer)
    await handle.cancel()
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    assert book.standings["dropped"].state is ReservationState.CANCELLED


async def test_an_outage_of_the_record_only_delays(skipping: WorkflowEnvironment, book: Book) -> None:
    book.troubles = [ConnectionError("no record")] * 4
    handle = await reserves(skipping.client, await a_reservation("patient", book, opens_in=24 * HOUR), POOL)
    answer = await handle.execute_update(wire.ReservationUpdate.CONFIRM, result_type=ReservationAnswer)
    assert answer.state is ReservationState.PLANNED
    await handle.execute_update(wire.ReservationUpdate.CANCEL, Cancel(), result_type=ReservationAnswer)
