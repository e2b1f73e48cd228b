"""What a workload's workflow takes from others, in each state: updates, signals and queries."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from corral import wire
from corral.api import (
    Cancel,
    Checkpointed,
    Demand,
    ExtendRuntime,
    Hold,
    Model,
    Moment,
    Release,
    Reprioritize,
    Resize,
    Retarget,
    State,
    Told,
    ToldDemand,
    WakeUp,
)
from domain.pool.lifecycle import ALLOWED, LIVE, objection
from tests.workflows.scenarios import until_calls, until_shown, until_state
from tests.workflows.stage import Record, Stage, a_record
from workflows.contracts import HandOver, Signal

CHANGES: Mapping[str, Model] = {
    wire.Update.CANCEL: Cancel(),
    wire.Update.HOLD: Hold(),
    wire.Update.RELEASE: Release(),
    wire.Update.RESIZE: Resize(count=2),
    wire.Update.DEMAND: Demand(value=1),
    wire.Update.REPRIORITIZE: Reprioritize(priority=1),
    wire.Update.RETARGET: Retarget(targets=()),
    wire.Update.EXTEND: ExtendRuntime(seconds=60),
    wire.Update.CHECKPOINTED: Checkpointed(),
}
STATES = sorted(LIVE - {State.SUBMITTED})


async def begun_in(stage: Stage, state: State) -> Record:
    """A workload whose workflow knows it in that state, and is doing nothing about it but what takes for ever."""
    record = a_record()
    for each in dict.fromkeys((State.RESERVED, state)):
        standing = record.becomes(each)
    record.troubles["starting"] = [ConnectionError("no record")] * 100
    await stage.begins(record, hand_over=HandOver(standing, noticed_epoch=standing.epoch))
    return record


def test_every_update_is_asked_for() -> None:
    assert set(CHANGES) == set(wire.Update)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("verb", CHANGES)
async def test_each_change_is_taken_in_the_states_of_the_table_and_in_no_others(stage: Stage, verb: str, state: State) -> None:
    record = await begun_in(stage, state)
    if state in ALLOWED[verb]:
        assert (await stage.asks(record, verb, CHANGES[verb])).message == f"done: {verb}"
        assert verb in record.calls
    else:
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await stage.asks(record, verb, CHANGES[verb])
        assert isinstance(refused.value.cause, ApplicationError)
        assert refused.value.cause.message == objection(verb, record.id, state)
        assert verb not in record.calls
    with suppress(RPCError):  # one that is cancelled may have ended by itself
        await stage.client.get_workflow_handle(wire.workload_workflow_id(record.id)).terminate()


# Signals


async def tells(stage: Stage, record: Record, what: wire.Telling, *told: Told) -> None:
    await stage.client.get_workflow_handle(wire.workload_workflow_id(record.id)).signal(what, args=told)


async def test_what_is_told_without_an_answer_is_done_once(stage: Stage) -> None:
    record = a_record()
    handle = await stage.begins(record)
    await until_shown(stage, record, State.RUNNING)
    await tells(stage, record, wire.Telling.DEMAND, ToldDemand(key="noon", demand=Demand(value=7)))
    await tells(stage, record, wire.Telling.DEMAND, ToldDemand(key="noon", demand=Demand(value=7)))
    await tells(stage, record, wire.Telling.CHECKPOINTED, Told(key="saved"))
    await until_calls(record, ["admit", "bind", "demand", "demand", "checkpointed"])
    assert set(record.done) == {"demand:noon", "checkpointed:saved"}
    await stage.tells(record.becomes(State.SUCCEEDED))
    await handle.result()


async def test_what_is_told_in_vain_changes_nothing_and_ends_nothing(stage: Stage) -> None:
    record = a_record(State.WAITING)
    handle = await stage.begins(record)
    await until_shown(stage, record, State.WAITING)
    await tells(stage, record, wire.Telling.CHECKPOINTED, Told(key="early"))
    record.becomes(State.CANCELLED)  # as yet unknown to its workflow
    await tells(stage, record, wire.Telling.DEMAND, ToldDemand(key="late", demand=Demand(value=7)))
    await until_calls(record, ["admit", "demand"])
    await stage.tells(record.standing())
    assert (await handle.result()).state is State.CANCELLED
    assert record.done == {}


async def test_who_is_woken_looks_at_the_record_at_once(stage: Stage) -> None:
    record = a_record(State.WAITING)
    handle = await stage.begins(record)
    await until_shown(stage, record, State.WAITING)
    record.becomes(State.RESERVED)
    await tells(stage, record, wire.Telling.WAKE)
    await until_state(record, State.RUNNING)
    assert record.calls == ["admit", "look", "bind"]
    await stage.tells(record.becomes(State.SUCCEEDED))
    await handle.result()


TOO_LITTLE_OR_TOO_MUCH = [
    (name, arguments)
    for name in (Signal.STANDING, wire.Telling.DEMAND, wire.Telling.CHECKPOINTED)
    for arguments in ([], ["more"], [{"key": "twice"}, {"key": "twice"}], [None, None, None])
]


@pytest.mark.parametrize(("name", "arguments"), TOO_LITTLE_OR_TOO_MUCH)
async def test_a_signal_that_makes_no_sense_is_dropped_and_stops_nothing(stage: Stage, name: str, arguments: list[Any]) -> None:
    record = a_record(State.WAITING)
    handle = await stage.begins(record)
    await until_shown(stage, record, State.WAITING)
    await handle.signal(name, args=arguments)
    assert (await stage.asks(record, wire.Update.CANCEL, Cancel())).message == "done: cancel"
    assert (await handle.result()).state is State.CANCELLED
    assert record.calls == ["admit", "cancel"]


@pytest.mark.parametrize("verb", CHANGES)
@pytest.mark.parametrize("arguments", [[], [{}, {}]])
async def test_an_update_that_makes_no_sense_is_refused_and_stops_nothing(
    stage: Stage, verb: str, arguments: list[Any]
) -> None:
    record = a_record(State.WAITING)
    handle = await stage.begins(record)
    with pytest.raises(WorkflowUpdateFailedError):
        await handle.execute_update(verb, args=arguments)
    assert (await stage.asks(record, wire.Update.CANCEL, Cancel())).message == "done: cancel"
    assert (await handle.result()).state is State.CANCELLED


# Queries


async def test_a_workflow_tells_its_last_changes_of_state(stage: Stage) -> None:
    record = a_record(State.WAITING)
    handle = await stage.begins(record)
    await until_shown(stage, record, State.WAITING)
    await stage.tells(record.becomes(State.RESERVED, message=""))
    await until_shown(stage, record, State.RUNNING)
    history: list[Moment] = await handle.query(wire.Query.HISTORY, result_type=list[Moment])
    assert [(moment.state, moment.message) for moment in history] == [
        (State.WAITING, "queue research has room for 0"),
        (State.RESERVED, "8 h100 in eu/eu-1 (stage)"),
        (State.RUNNING, "8 h100 in eu/eu-1 (stage)"),
    ]
    assert [moment.at for moment in history] == sorted(moment.at for moment in history)
    await stage.tells(record.becomes(State.SUCCEEDED))
    await handle.result()


async def test_a_workflow_tells_when_it_does_something_by_itself(skipping: WorkflowEnvironment, skipping_stage: Stage) -> None:
    record = a_record(State.WAITING)
    handle = await skipping_stage.begins(record)
    await until_shown(skipping_stage, record, State.WAITING)
    now = await skipping.get_current_time()
    waits: WakeUp = await handle.query(wire.Query.NEXT_WAKE_UP, result_type=WakeUp)
    assert waits.why == "looks at the record, in case a signal was lost"
    assert timedelta(minutes=9) < waits.at - now <= timedelta(minutes=10)
    record.runtime_left = 3600
    await skipping_stage.tells(record.becomes(State.RESERVED))
    await until_shown(skipping_stage, record, State.RUNNING)
    now = await skipping.get_current_time()
    runs: WakeUp = await handle.query(wire.Query.NEXT_WAKE_UP, result_type=WakeUp)
    assert runs.why == "its maximum runtime may be over"
    assert timedelta(minutes=59) < runs.at - now <= timedelta(minutes=60)
    record.runtime_left = None
    await skipping_stage.tells(record.becomes(State.RUNNING))
    assert await handle.query(wire.Query.NEXT_WAKE_UP) is None
    await skipping_stage.tells(record.becomes(State.SUCCEEDED))
    await handle.result()
