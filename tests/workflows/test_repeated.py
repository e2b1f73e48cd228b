"""What was asked of a workflow in one run and is repeated in a later one, as its answer was lost, is answered as it was."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from corral import wire
from corral.api import (
    Cancel,
    Checkpointed,
    Cordon,
    Demand,
    EvacuationState,
    EvacuationStatus,
    ExtendRuntime,
    Hold,
    Model,
    NodeStatus,
    Release,
    Reprioritize,
    Resize,
    Retarget,
    State,
    Target,
)
from corral.reservation import Extend, ReservationAnswer
from corral.rollout import RolloutState, RolloutStatus
from corral.wire import Steering
from tests.patience import PATIENCE_SECONDS
from tests.workflows import evacuations, rollouts
from tests.workflows.book import Book, reserves
from tests.workflows.providers import PROVIDER, Watched, until
from tests.workflows.reservation_scenarios import a_spec
from tests.workflows.rollouts import BEN, Desk, by_the_wall
from tests.workflows.scenarios import until_shown
from tests.workflows.stage import Record, Stage, a_record, open_stage

ASKED: list[tuple[wire.Update, Model, State, State]] = [
    (wire.Update.CANCEL, Cancel(reason="typo"), State.RUNNING, State.STOPPING),
    (wire.Update.HOLD, Hold(), State.WAITING, State.SUSPENDED),
    (wire.Update.RELEASE, Release(), State.SUSPENDED, State.WAITING),
    (wire.Update.RESIZE, Resize(group="workers", count=2), State.WAITING, State.STOPPING),
    (wire.Update.DEMAND, Demand(value=3), State.WAITING, State.SUSPENDED),
    (wire.Update.REPRIORITIZE, Reprioritize(priority=3), State.WAITING, State.STOPPING),
    (wire.Update.RETARGET, Retarget(targets=(Target(skus=("h100",)),)), State.WAITING, State.STOPPING),
    (wire.Update.EXTEND, ExtendRuntime(seconds=60), State.RUNNING, State.SUSPENDED),
    (wire.Update.CHECKPOINTED, Checkpointed(), State.RUNNING, State.WAITING),
]
"""Each change of a workload, a state that takes it, and one, where there is any, that would not."""


def test_every_change_of_a_workload_is_asked_for() -> None:
    assert {verb for verb, *_ in ASKED} == set(wire.Update)


@pytest.mark.parametrize(("verb", "change", "then", "later"), ASKED, ids=[verb for verb, *_ in ASKED])
async def test_a_change_of_a_workload(hasty_stage: Stage, verb: wire.Update, change: Model, then: State, later: State) -> None:
    record = a_record(State.WAITING)
    handle = await hasty_stage.begins(record)
    await until_shown(hasty_stage, record, State.WAITING)
    await is_shown(hasty_stage, record, then)
    answer = await hasty_stage.asks(record, verb, change, "request")
    await in_a_new_run(
        handle, lambda turn: hasty_stage.asks(record, "reprioritize", Reprioritize(priority=turn), f"turn-{turn}")
    )
    await is_shown(hasty_stage, record, later)
    asked_before = record.calls.count(verb)
    assert (await hasty_stage.asks(record, verb, change, "request")).message == answer.message
    assert record.calls.count(verb) == asked_before + 1, "the record was asked, which knows that it is done"
    await hasty_stage.tells(record.becomes(State.CANCELLED))
    await handle.result()


async def is_reprioritized(stage: Stage, record: Record, turn: int) -> None:
    await stage.asks(record, wire.Update.REPRIORITIZE, Reprioritize(priority=turn), f"turn-{turn}")


async def is_shown(stage: Stage, record: Record, state: State) -> None:
    if record.standing().state is not state:
        await stage.tells(record.becomes(state))
    await until_shown(stage, record, state)


async def test_what_was_never_asked_before_is_refused_as_in_the_first_run(hasty_stage: Stage) -> None:
    record = a_record(State.WAITING)
    handle = await hasty_stage.begins(record)
    await until_shown(hasty_stage, record, State.WAITING)
    said = await refused(hasty_stage.asks(record, "release", Release(), "first"))
    await in_a_new_run(
        handle, lambda turn: hasty_stage.asks(record, "reprioritize", Reprioritize(priority=turn), f"turn-{turn}")
    )
    assert await refused(hasty_stage.asks(record, "release", Release(), "second")) == said
    assert "release needs it to be suspended" in said
    await hasty_stage.tells(record.becomes(State.CANCELLED))
    await handle.result()


async def test_the_steering_of_a_roll_out(hasty_stage: Stage) -> None:
    desk = Desk(needs="2 would lose protection", watched=3_600, looks=0.05)
    async with open_stage(hasty_stage.client, *desk.activities, name=desk.order.id) as own:
        handle = await desk.begins(own)
        await rollouts.until_told(handle, RolloutState.AWAITING)
        first = await handle.execute_update(Steering.APPROVE, BEN, id="request", result_type=RolloutStatus)
        await in_a_new_run(handle, lambda turn: rollouts.until_told(handle, RolloutState.WATCHING))
        again = await handle.execute_update(Steering.APPROVE, BEN, id="request", result_type=RolloutStatus)
        assert (again.state, again.version) == (first.state, first.version)
        assert "only one that awaits approval" in await refused(handle.execute_update(Steering.APPROVE, BEN, id="another"))
        await handle.execute_update(Steering.ABORT, BEN)
        await handle.result()


@pytest.mark.parametrize(
    ("verb", "before", "later"),
    [
        (Steering.APPROVE, EvacuationState.AWAITING, EvacuationState.PAUSED),
        (Steering.PAUSE, EvacuationState.MOVING, EvacuationState.AWAITING),
        (Steering.RESUME, EvacuationState.PAUSED, EvacuationState.AWAITING),
    ],
)
async def test_the_steering_of_an_evacuation(
    hasty_stage: Stage, verb: Steering, before: EvacuationState, later: EvacuationState
) -> None:
    place = evacuations.Place()
    async with open_stage(hasty_stage.client, place.keep_moving, place.steer, name=place.order.id) as own:
        place.becomes(before)
        handle = await place.begins(own)
        await evacuations.until_told(handle, before)
        await handle.execute_update(verb, evacuations.BEN, id="request")

        async def something_happens(turn: int) -> None:
            version = place.becomes(later).version
            await until_version(handle, version)

        await in_a_new_run(handle, something_happens)
        assert (await handle.execute_update(verb, evacuations.BEN, id="request", result_type=EvacuationStatus)).state is later
        assert place.calls.count(verb) == 1
        place.becomes(EvacuationState.DONE)
        await handle.result()


async def test_a_reservation_that_is_to_last_longer(hasty_stage: Stage) -> None:
    book = Book(by_the_wall)
    pool = "repeated-reservations"
    async with open_stage(hasty_stage.client, *book.activities, name=pool):
        handle = await reserves(hasty_stage.client, await a_spec(book, opens_in=timedelta(days=300)), pool)

        async def extends(key: str) -> ReservationAnswer:
            answer: ReservationAnswer = await handle.execute_update(
                wire.ReservationUpdate.EXTEND, Extend(seconds=60), id=key, result_type=ReservationAnswer
            )
            return answer

        await extends("request")
        await in_a_new_run(handle, lambda turn: extends(f"turn-{turn}"))
        closes_at = (await extends("request")).closes_at
        assert closes_at == (await extends("request")).closes_at
        assert closes_at == book.standings[handle.id.removeprefix("reservation/")].closes_at
        await handle.execute_update(wire.ReservationUpdate.CANCEL, Cancel(), result_type=ReservationAnswer)
        await handle.result()


async def test_an_order_about_nodes_is_the_same_request_to_the_record(hasty_stage: Stage) -> None:
    client, asked = hasty_stage.client, list[str]()

    @activity.defn(name="inventory.cordon")
    async def cordon(provider: str, order: Cordon, key: str) -> list[NodeStatus]:
        asked.append(key)
        return []

    order = Cordon(action="drain", nodes=("n1",), reason="firmware")
    provider = Watched()
    async with open_stage(client, provider.watch, provider.keep, cordon, name=PROVIDER):
        handle = await provider.begins(client)
        await until(lambda: provider.kept > 0)
        current = client.get_workflow_handle(handle.id)
        await current.execute_update(wire.CORDON, order, id="request")
        await in_a_new_run(handle, lambda turn: current.execute_update(wire.CORDON, order, id=f"turn-{turn}"))
        await current.execute_update(wire.CORDON, order, id="request")
        assert [asked[0], asked[-1]] == ["request", "request"]
        await current.terminate("the test is over")


async def in_a_new_run(handle: WorkflowHandle[Any, Any], happens: Callable[[int], Awaitable[Any]]) -> None:
    """Something happens until the workflow has gone on in another run than its first one."""
    first = (await handle.describe()).run_id
    async with asyncio.timeout(PATIENCE_SECONDS):
        for turn in count():
            await happens(turn)
            if (await handle.describe()).run_id != first:
                return


async def until_version(handle: WorkflowHandle[Any, Any], version: int) -> None:
    """Until the workflow has heard of a version of its evacuation."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            status: EvacuationStatus | None = await handle.query(wire.OPERATION_STATUS, result_type=EvacuationStatus)
            if status is not None and status.version >= version:
                return
            await asyncio.sleep(0.02)


async def refused(asked: Awaitable[Any]) -> str:
    """What an update is refused with, before or after it is in the history."""
    with pytest.raises(WorkflowUpdateFailedError) as error:
        await asked
    assert isinstance(error.value.cause, ApplicationError)
    return error.value.cause.message
