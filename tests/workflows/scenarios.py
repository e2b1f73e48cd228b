"""Lives of workloads, each driven to its end; tests watch them, and their histories are kept to be replayed."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import CancelledError

from corral import wire
from corral.api import (
    Cancel,
    Checkpointed,
    Demand,
    ExtendRuntime,
    Hold,
    Reason,
    Release,
    Reprioritize,
    Resize,
    Retarget,
    State,
    Target,
    Told,
    ToldDemand,
)
from corral.client import Corral
from domain.pool.lifecycle import Leave
from tests.patience import PATIENCE_SECONDS
from tests.workflows.stage import Record, Stage, a_record, page_of

Scenario = Callable[[Stage], Awaitable[tuple[Record, WorkflowHandle[Any, Any]]]]


async def finishes(stage: Stage) -> tuple[Record, WorkflowHandle[Any, Any]]:
    """Held at once, bound, run, succeeded."""
    record = a_record()
    handle = await stage.begins(record)
    await until_shown(stage, record, State.RUNNING)
    await stage.tells(record.becomes(State.SUCCEEDED, exit_code=0))
    await handle.result()
    return record, handle


async def starts_slowly(stage: Stage) -> tuple[Record, WorkflowHandle[Any, Any]]:
    """Held at once, bound, observed running only later, succeeded."""
    record = a_record(bound_as=State.STARTING)
    handle = await stage.begins(record)
    await until_shown(stage, record, State.STARTING)
    await stage.tells(record.becomes(State.RUNNING))
    await until_shown(stage, record, State.RUNNING)
    await stage.tells(record.becomes(State.SUCCEEDED, exit_code=0))
    await handle.result()
    return record, handle


async def waits_and_is_preempted(stage: Stage) -> tuple[Record, WorkflowHandle[Any, Any]]:
    """Waits, is held, runs, has to leave, waits again, is held again, finishes."""
    record = a_record(State.WAITING)
    handle = await stage.begins(record)
    await record.until("admit")
    await stage.tells(record.becomes(State.RESERVED))
    await until_shown(stage, record, State.RUNNING)
    record.stopped_as = State.WAITING
    await stage.tells(record.becomes(State.STOPPING))
    await until_shown(stage, record, State.WAITING)
    await stage.tells(record.becomes(State.RESERVED))
    await until_shown(stage, record, State.RUNNING)
    await stage.tells(record.becomes(State.SUCCEEDED, exit_code=0))
    await handle.result()
    return record, handle


async def goes_on_elsewhere(stage: Stage) -> tuple[Record, WorkflowHandle[Any, Any]]:
    """Runs, has to leave for a place that is kept for it, goes on there at once, finishes."""
    record = a_record(stopped_as=State.RESERVED)
    handle = await stage.begins(record)
    await until_shown(stage, record, State.RUNNING)
    await stage.tells(record.becomes(State.STOPPING, next_place="4 h100 in eu/eu-2 (stage)"))
    await record.until("stop")
    await until_state(record, State.RUNNING)
    await stage.tells(record.becomes(State.SUCCEEDED, exit_code=0))
    await handle.result()
    return record, handle


async def is_told_to_stay(stage: Stage) -> tuple[Record, WorkflowHandle[Any, Any]]:
    """Runs, has to leave, is told to stay before it has, has to leave by another notice, comes back, finishes."""
    record = a_record()
    handle = await stage.begins(record)
    await until_shown(stage, record, State.RUNNING)
    await stage.tells(record.becomes(State.STOPPING, notice=1))
    await record.until("stop")
    await stage.tells(record.becomes(State.RUNNING))
    await record.until("keep")
    record.stopped_as = State.WAITING
    await stage.tells(record.becomes(State.STOPPING, notice=2))
    await until_state(record, State.WAITING)
    await stage.tells(record.becomes(State.RESERVED, notice=0))
    await until_state(record, State.RUNNING)
    await stage.tells(record.becomes(State.SUCCEEDED, exit_code=0))
    await handle.result()
    return record, handle


async def is_resized_as_it_runs(stage: Stage) -> tuple[Record, WorkflowHandle[Any, Any]]:
    """Runs, goes on in another size, of which replicas do not leave before they are forced to; then it runs, and finishes."""
    record = a_record()
    handle = await stage.begins(record)
    await until_shown(stage, record, State.RUNNING)
    await stage.tells(record.becomes(State.RESIZING, notice=1, leave=Leave.ORDERED, next_place="4 h100 in eu/eu-1 (stage)"))
    await until_calls(record, ["admit", "bind", "stop"])
    saying = {"reason": Reason.DOES_NOT_STOP, "message": "they are stopped by force, and the others run on"}
    await stage.tells(record.becomes(State.RESIZING, leave=Leave.FORCED, **saying))
    await until_calls(record, ["admit", "bind", "stop", "stop"])
    await stage.tells(record.becomes(State.RUNNING, notice=0, leave=None, reason=None))
    await stage.tells(record.becomes(State.SUCCEEDED, exit_code=0))
    await handle.result()
    return record, handle


async def says_that_it_is_saved(stage: Stage) -> tuple[Record, WorkflowHandle[Any, Any]]:
    """Runs, has to leave, says that its work is saved, is stopped at once, does not stop, is stopped by force."""
    record = a_record()
    handle = await stage.begins(record)
    await until_shown(stage, record, State.RUNNING)
    await stage.asks(record, "checkpointed", Checkpointed(), "early")
    await stage.tells(record.becomes(State.STOPPING, notice=1, leave=Leave.ORDERED))
    await until_calls(record, ["admit", "bind", "checkpointed", "stop"])
    await stage.asks(record, "checkpointed", Checkpointed(), "late")
    await until_calls(record, ["admit", "bind", "checkpointed", "stop", "checkpointed", "stop"])
    saying = {"reason": Reason.DOES_NOT_STOP, "message": "it has not stopped in time; it is stopped by force"}
    await stage.tells(record.becomes(State.STOPPING, leave=Leave.FORCED, **saying))
    await until_page(handle, "on its way out: forced")
    await stage.tells(record.becomes(State.CANCELLED))
    await handle.result()
    return record, handle


async def is_held_released_and_cancelled(stage: Stage) -> tuple[Record, WorkflowHandle[Any, Any]]:
    """Changed by people while it waits."""
    record = a_record(State.WAITING)
    handle = await stage.begins(record)
    await stage.asks(record, "reprioritize", Reprioritize(priority=5))
    await stage.asks(record, "hold", Hold())
    await stage.asks(record, "release", Release())
    await stage.asks(record, "cancel", Cancel(reason="not needed any more"))
    await handle.result()
    return record, handle


async def is_told_its_demand(stage: Stage) -> tuple[Record, WorkflowHandle[Any, Any]]:
    """An endpoint that runs while its demand rises and falls."""
    record = a_record(stopped_as=State.CANCELLED)
    handle = await stage.begins(record)
    await until_shown(stage, record, State.RUNNING)
    await stage.asks(record, "demand", Demand(value=40))
    await stage.asks(record, "demand", Demand(value=0.5))
    await stage.asks(record, "cancel", Cancel())
    await handle.result()
    return record, handle


async def has_its_workflow_cancelled(stage: Stage) -> tuple[Record, WorkflowHandle[Any, Any]]:
    """Runs when Temporal is asked to cancel its workflow."""
    record = a_record(stopped_as=State.CANCELLED)
    handle = await stage.begins(record)
    await until_state(record, State.RUNNING)
    await handle.cancel()
    await ends_cancelled(handle)
    return record, handle


async def meets_an_outage(stage: Stage) -> tuple[Record, WorkflowHandle[Any, Any]]:
    """The record does not answer until an ordinary activity asks it, and the provider does not answer at first."""
    record = a_record(troubles={"admit": [ConnectionError("no record")] * 3, "bind": [ConnectionError("no provider")]})
    handle = await stage.begins(record)
    await until_state(record, State.RUNNING)
    await stage.tells(record.becomes(State.SUCCEEDED, exit_code=0))
    await handle.result()
    return record, handle


async def is_refused(stage: Stage) -> tuple[Record, WorkflowHandle[Any, Any]]:
    """Can never run."""
    record = a_record(State.REFUSED)
    handle = await stage.begins(record)
    await handle.result()
    return record, handle


async def goes_on_in_a_new_run(stage: Stage) -> tuple[Record, WorkflowHandle[Any, Any]]:
    """The second run of a workload that has notice to leave, and has been told so at its provider."""
    from workflows.contracts import HandOver

    record = a_record()
    record.becomes(State.RESERVED)
    record.becomes(State.RUNNING)
    standing = record.becomes(State.STOPPING)
    handle = await stage.begins(record, hand_over=HandOver(standing, noticed_epoch=1))
    await stage.tells(replace(standing, state=State.RUNNING, version=standing.version - 1))
    await stage.tells(record.becomes(State.FAILED, exit_code=1))
    await handle.result()
    return record, handle


async def is_given_other_targets_and_more_time(stage: Stage) -> tuple[Record, WorkflowHandle[Any, Any]]:
    """Runs while its targets and its maximum runtime are changed."""
    record = a_record(runtime_left=3600.0)
    handle = await stage.begins(record)
    await until_shown(stage, record, State.RUNNING)
    await stage.asks(record, "retarget", Retarget(targets=(Target(skus=("h100",)),)))
    record.runtime_left = 7200.0
    await stage.asks(record, "extend", ExtendRuntime(seconds=3600))
    await stage.tells(record.becomes(State.SUCCEEDED, exit_code=0))
    await handle.result()
    return record, handle


async def is_resized(stage: Stage) -> tuple[Record, WorkflowHandle[Any, Any]]:
    """Waits while its size is changed, and is cancelled."""
    record = a_record(State.WAITING)
    handle = await stage.begins(record)
    await stage.asks(record, "resize", Resize(count=2))
    await stage.asks(record, "cancel", Cancel())
    await handle.result()
    return record, handle


async def is_told_without_an_answer(stage: Stage) -> tuple[Record, WorkflowHandle[Any, Any]]:
    """Runs while it is told its demand and that it is saved, and is woken."""
    record = a_record()
    handle = await stage.begins(record)
    await until_shown(stage, record, State.RUNNING)
    for what, told in (
        (wire.Telling.DEMAND, (ToldDemand(key="noon", demand=Demand(value=7)),)),
        (wire.Telling.CHECKPOINTED, (Told(key="saved"),)),
        (wire.Telling.WAKE, ()),
    ):
        await handle.signal(what, args=told)
    for step in ("demand", "checkpointed", "look"):
        await record.until(step)
    await stage.tells(record.becomes(State.SUCCEEDED, exit_code=0))
    await handle.result()
    return record, handle


async def ends_its_first_run_when_that_is_long(stage: Stage) -> tuple[Record, WorkflowHandle[Any, Any]]:
    """On a server that wants short histories: is asked what changes nothing, until it goes on in a new run. The first run."""
    record = a_record()
    handle = await stage.begins(record)
    await until_shown(stage, record, State.RUNNING)
    for number in range(20):
        record.done[f"demand:{number}"] = "newer demand is known"
        await stage.asks(record, "demand", Demand(value=number), str(number))
    await stage.tells(record.becomes(State.SUCCEEDED, exit_code=0))
    await handle.result()
    return record, stage.client.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id)


async def begins_anew(stage: Stage) -> tuple[Record, WorkflowHandle[Any, Any]]:
    """Runs, is in no record any more, is told to look there, is admitted once more, finishes."""
    record = a_record()
    handle = await stage.begins(record)
    await until_shown(stage, record, State.RUNNING)
    record.now = None
    await Corral(stage.client, stage.name).wake(record.id)
    await until_state(record, State.RUNNING)
    await stage.tells(record.becomes(State.SUCCEEDED, exit_code=0))
    await handle.result()
    return record, handle


async def begins_anew_as_it_is_bound(stage: Stage) -> tuple[Record, WorkflowHandle[Any, Any]]:
    """Is bound when the record does not know it any more, is admitted once more, finishes."""
    record = a_record(gates={"bind": asyncio.Event()})
    handle = await stage.begins(record)
    await record.until("bind")
    record.now = None
    record.gates["bind"].set()
    await until_state(record, State.RUNNING)
    await stage.tells(record.becomes(State.SUCCEEDED, exit_code=0))
    await handle.result()
    return record, handle


HASTY_SCENARIOS: dict[str, Scenario] = {scenario.__name__: scenario for scenario in (ends_its_first_run_when_that_is_long,)}
"""Those that need a server which wants every history begun anew after a few events."""

SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        finishes,
        starts_slowly,
        waits_and_is_preempted,
        goes_on_elsewhere,
        is_told_to_stay,
        is_resized_as_it_runs,
        says_that_it_is_saved,
        is_held_released_and_cancelled,
        is_told_its_demand,
        has_its_workflow_cancelled,
        meets_an_outage,
        is_refused,
        is_resized,
        is_given_other_targets_and_more_time,
        is_told_without_an_answer,
        goes_on_in_a_new_run,
        begins_anew,
        begins_anew_as_it_is_bound,
    )
}


async def until_state(record: Record, state: State) -> None:
    """Until the record has the workload in a state."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while record.now is None or record.now.state is not state:  # noqa: ASYNC110  a record in memory sets no event
            await asyncio.sleep(0.01)


async def until_calls(record: Record, calls: list[str]) -> None:
    """Until exactly these steps have been called."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while record.calls != calls:
            assert record.calls == calls[: len(record.calls)], record.calls
            await asyncio.sleep(0.01)


async def until_page(handle: WorkflowHandle[Any, Any], words: str) -> str:
    """Until operators read these words on the workflow's page; answers with the page."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while words not in (page := await page_of(handle)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        return str(page)


async def until_accepted(handle: WorkflowHandle[Any, Any]) -> None:
    """Until the workflow has accepted a change, whether it has been done or not."""
    accepted = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED
    async with asyncio.timeout(PATIENCE_SECONDS):
        while accepted not in {event.event_type for event in (await handle.fetch_history()).events}:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def until_shown(stage: Stage, record: Record, state: State) -> None:
    """Until the workflow itself shows that its workload is in a state."""
    handle = stage.client.get_workflow_handle(wire.workload_workflow_id(record.id))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await handle.describe()).typed_search_attributes.get(wire.STATE) != state:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def ends_cancelled(handle: WorkflowHandle[Any, Any]) -> None:
    """The workflow closes as cancelled, and in no other way."""
    with pytest.raises(WorkflowFailureError) as failure:
        await handle.result()
    assert isinstance(failure.value.cause, CancelledError), failure.value.cause
