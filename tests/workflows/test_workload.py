"""The life of a workload, as its workflow drives it."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from corral import wire
from corral.api import (
    Cancel,
    Demand,
    Explanation,
    Hold,
    Moment,
    Reason,
    Release,
    Reprioritize,
    Resize,
    State,
    WorkloadResult,
    WorkloadStatus,
)
from corral.client import Corral, Unreachable, errors
from domain.pool.lifecycle import Leave
from tests.patience import PATIENCE_SECONDS
from tests.workflows import scenarios
from tests.workflows.scenarios import ends_cancelled, until_accepted, until_calls, until_page, until_shown, until_state
from tests.workflows.stage import Stage, a_record, a_record_in_admission, open_stage, page_of

MOST_EVENTS_OF_A_PLAIN_LIFE = 18
TRIES_IN_THE_WORKER = 3
"""After so many a step is an ordinary activity."""


async def test_a_plain_life_is_short(stage: Stage) -> None:
    record, handle = await scenarios.finishes(stage)
    assert record.calls == ["admit", "bind"]
    history = await handle.fetch_history()
    kinds = [EventType.Name(event.event_type).removeprefix("EVENT_TYPE_") for event in history.events]
    assert len(kinds) <= MOST_EVENTS_OF_A_PLAIN_LIFE, kinds
    assert await handle.result() == WorkloadResult(id=record.id, state=State.SUCCEEDED, exit_code=0)


async def test_a_workload_that_can_never_run_is_told_so_and_ends(stage: Stage) -> None:
    record, handle = await scenarios.is_refused(stage)
    assert record.calls == ["admit"]
    assert await handle.result() == WorkloadResult(id=record.id, state=State.REFUSED, message="count: -1 is not possible")


async def test_a_preempted_workload_is_stopped_once_and_comes_back(stage: Stage) -> None:
    record, _ = await scenarios.waits_and_is_preempted(stage)
    assert record.calls == ["admit", "bind", "stop", "bind"]


async def test_work_that_goes_on_elsewhere_is_stopped_once_and_bound_again(stage: Stage) -> None:
    record, _ = await scenarios.goes_on_elsewhere(stage)
    assert record.calls == ["admit", "bind", "stop", "bind"]
    assert record.now is not None
    assert record.now.epoch == 2


async def test_work_that_may_stay_is_told_so_once_and_leaves_by_another_notice(stage: Stage) -> None:
    record, _ = await scenarios.is_told_to_stay(stage)
    assert record.calls == ["admit", "bind", "stop", "keep", "stop", "bind"]


async def test_what_has_to_leave_and_is_saved_is_stopped_a_second_time_without_a_grace(stage: Stage) -> None:
    record, _ = await scenarios.says_that_it_is_saved(stage)
    assert record.calls == ["admit", "bind", "checkpointed", "stop", "checkpointed", "stop"]


async def test_what_changes_its_size_as_it_runs_is_told_so_and_forced_where_replicas_do_not_leave(stage: Stage) -> None:
    record, _ = await scenarios.is_resized_as_it_runs(stage)
    assert record.calls == ["admit", "bind", "stop", "stop"]


async def test_what_is_to_grow_is_told_so_once_others_have_left_the_room(stage: Stage) -> None:
    record = a_record()
    handle = await stage.begins(record)
    await until_shown(stage, record, State.RUNNING)
    wider = {"next_place": "8 h100 in eu/eu-1 (stage)"}
    await stage.tells(record.becomes(State.RESIZING, leave=Leave.WAITING, **wider))
    await until_calls(record, ["admit", "bind", "stop"])
    await until_page(handle, "on its way out: waiting")
    await stage.tells(record.becomes(State.RESIZING, notice=1, leave=Leave.ORDERED, **wider))
    await until_calls(record, ["admit", "bind", "stop", "stop"])
    await stage.tells(record.becomes(State.RUNNING, notice=0, leave=None))
    await stage.tells(record.becomes(State.SUCCEEDED, exit_code=0))
    await handle.result()
    assert record.calls == ["admit", "bind", "stop", "stop"]


async def test_what_waits_for_room_to_grow_and_may_not_is_told_nothing(stage: Stage) -> None:
    record = a_record()
    handle = await stage.begins(record)
    await until_shown(stage, record, State.RUNNING)
    await stage.tells(record.becomes(State.RESIZING, leave=Leave.WAITING, next_place="8 h100 in eu/eu-1 (stage)"))
    await until_calls(record, ["admit", "bind", "stop"])
    await stage.tells(record.becomes(State.RUNNING, leave=None))
    await stage.tells(record.becomes(State.SUCCEEDED, exit_code=0))
    await handle.result()
    assert record.calls == ["admit", "bind", "stop"]


async def test_an_operator_reads_on_its_page_that_work_does_not_stop(stage: Stage) -> None:
    record = a_record()
    handle = await stage.begins(record)
    await until_shown(stage, record, State.RUNNING)
    saying = {"reason": Reason.DOES_NOT_STOP, "message": "it was stopped by force and is still there"}
    await stage.tells(record.becomes(State.STOPPING, notice=1, leave=Leave.STUCK, **saying))
    page = await until_page(handle, "on its way out: stuck")
    assert "DoesNotStop: it was stopped by force and is still there" in page
    await stage.tells(record.becomes(State.CANCELLED))
    await handle.result()


async def test_two_notices_are_given_though_nobody_said_that_the_first_was_taken_back(stage: Stage) -> None:
    record = a_record()
    handle = await stage.begins(record)
    await until_state(record, State.RUNNING)
    await stage.tells(record.becomes(State.STOPPING, notice=1))
    await record.until("stop")
    record.becomes(State.RUNNING)
    await stage.tells(record.becomes(State.STOPPING, notice=2))
    await until_calls(record, ["admit", "bind", "stop", "stop"])
    await stage.tells(record.becomes(State.CANCELLED))
    await handle.result()


async def test_work_is_told_to_stay_though_its_workflow_never_heard_of_the_notice(stage: Stage) -> None:
    record = a_record()
    handle = await stage.begins(record)
    await until_state(record, State.RUNNING)
    record.becomes(State.STOPPING, notice=1)
    await stage.tells(record.becomes(State.RUNNING))
    await until_calls(record, ["admit", "bind", "keep"])
    await stage.tells(record.becomes(State.SUCCEEDED, exit_code=0))
    await handle.result()


async def test_while_it_stops_its_page_says_where_it_goes_on(stage: Stage) -> None:
    record = a_record()
    handle = await stage.begins(record)
    await until_shown(stage, record, State.RUNNING)
    await stage.tells(record.becomes(State.STOPPING, next_place="4 h100 in eu/eu-2 (stage)"))
    await until_shown(stage, record, State.STOPPING)
    page = await page_of(handle)
    assert "**stopping** on 8 h100 in eu/eu-1 (stage)" in page
    assert "goes on with 4 h100 in eu/eu-2 (stage)" in page
    await stage.tells(record.becomes(State.CANCELLED))
    await handle.result()


async def test_nothing_is_lost_when_no_worker_remembers_anything(stage: Stage) -> None:
    async with open_stage(stage.client, name="forgetful", cached=0) as forgetful:
        record, _ = await scenarios.waits_and_is_preempted(forgetful)
        assert record.calls == ["admit", "bind", "stop", "bind"]


# Signals


async def test_older_and_repeated_sayings_change_nothing(stage: Stage) -> None:
    record = a_record(bound_as=State.STARTING)
    handle = await stage.begins(record)
    await until_state(record, State.STARTING)
    starting = record.standing()
    running = record.becomes(State.RUNNING)
    await stage.tells(running, running, starting, replace(running, version=1, state=State.WAITING), running)
    status: WorkloadStatus = await handle.query(wire.Query.STATUS, result_type=WorkloadStatus)
    assert status.state is State.RUNNING
    await stage.tells(running, starting, record.becomes(State.SUCCEEDED, exit_code=3))
    assert (await handle.result()).exit_code == 3
    assert record.calls == ["admit", "bind"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
async def test_sayings_count_by_their_version_and_not_by_their_arrival(stage: Stage, order: tuple[int, ...]) -> None:
    record = a_record(State.WAITING, stopped_as=State.SUSPENDED)
    handle = await stage.begins(record)
    await until_state(record, State.WAITING)
    record.becomes(State.RESERVED)
    sayings = [record.becomes(state) for state in (State.STARTING, State.RUNNING, State.CANCELLED)]
    await stage.tells(*(sayings[place] for place in order))
    assert (await handle.result()).state is State.CANCELLED
    assert record.calls == ["admit"]


async def test_what_is_said_before_admission_has_answered_counts(stage: Stage) -> None:
    record = a_record_in_admission()
    handle = await stage.begins(record)
    await record.until("admit")
    admitted = record.becomes(State.RESERVED)
    await stage.tells(record.becomes(State.CANCELLED))
    record.now, newest = admitted, record.standing()
    record.gates["admit"].set()
    assert (await handle.result()).state is State.CANCELLED
    assert record.calls == ["admit"] * 4
    assert newest.state is State.CANCELLED


# Changes that people ask for


async def test_people_may_hold_release_and_cancel(stage: Stage) -> None:
    record, handle = await scenarios.is_held_released_and_cancelled(stage)
    assert record.calls == ["admit", "reprioritize", "hold", "release", "cancel"]
    assert await handle.result() == WorkloadResult(
        id=record.id, state=State.CANCELLED, message="cancelled: not needed any more"
    )


async def test_an_endpoint_is_told_its_demand(stage: Stage) -> None:
    record, _ = await scenarios.is_told_its_demand(stage)
    assert record.calls == ["admit", "bind", "demand", "demand", "cancel", "stop"]


async def test_a_change_that_is_asked_for_twice_with_one_key_is_done_once(stage: Stage) -> None:
    record = a_record(State.WAITING)
    await stage.begins(record)
    answers = [await stage.asks(record, "reprioritize", Reprioritize(priority=number), "mine") for number in (5, 5)]
    assert answers[0] == answers[1]
    assert record.calls.count("reprioritize") == 1
    await stage.asks(record, "reprioritize", Reprioritize(priority=5), "another")
    assert record.calls.count("reprioritize") == 2
    await stage.asks(record, "cancel", Cancel())


async def test_a_change_that_the_state_does_not_allow_is_refused_in_plain_words(stage: Stage) -> None:
    record = a_record()
    handle = await stage.begins(record)
    await until_state(record, State.RUNNING)
    await until_shown(stage, record, State.RUNNING)
    before = len((await handle.fetch_history()).events)
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await stage.asks(record, "release", Release())
    assert isinstance(refused.value.cause, ApplicationError)
    problem = f"release: workload {record.id!r} is running; release needs it to be suspended"
    assert refused.value.cause.message == problem
    assert refused.value.cause.type == wire.Failure.NOT_ALLOWED
    assert "release" not in record.calls
    assert len((await handle.fetch_history()).events) == before
    await stage.tells(record.becomes(State.SUCCEEDED))


async def test_a_change_that_the_record_does_not_allow_is_refused_in_its_words(stage: Stage) -> None:
    record = a_record(State.WAITING)
    await stage.begins(record)
    await until_shown(stage, record, State.WAITING)
    record.becomes(State.RESERVED)
    record.becomes(State.STARTING)
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await stage.asks(record, "resize", Resize(count=2))
    assert isinstance(refused.value.cause, ApplicationError)
    assert "is starting; resize needs it to be" in refused.value.cause.message
    assert refused.value.cause.type == wire.Failure.NOT_ALLOWED
    await stage.tells(record.becomes(State.SUCCEEDED))


async def test_a_change_that_is_asked_for_before_admission_has_answered_is_done_after_it(stage: Stage) -> None:
    record = a_record_in_admission(State.WAITING)
    handle = await stage.begins(record)
    await record.until("admit")
    asked = asyncio.create_task(stage.asks(record, "cancel", Cancel()))
    await until_accepted(handle)
    record.gates["admit"].set()
    assert (await asked).state is State.CANCELLED
    assert (await handle.result()).state is State.CANCELLED


async def test_a_change_of_a_workload_that_admission_refuses_is_refused_in_plain_words(stage: Stage) -> None:
    record = a_record_in_admission(State.REFUSED)
    handle = await stage.begins(record)
    await record.until("admit")
    asked = asyncio.create_task(stage.asks(record, "hold", Hold()))
    await until_accepted(handle)
    record.gates["admit"].set()
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await asked
    assert isinstance(refused.value.cause, ApplicationError)
    assert refused.value.cause.message.startswith(f"hold: workload '{record.id}' is refused; hold needs it to be")
    assert "hold" not in record.calls


async def test_a_hold_on_running_work_stops_it_and_a_release_lets_it_run_again(stage: Stage) -> None:
    record = a_record(stopped_as=State.SUSPENDED)
    handle = await stage.begins(record)
    await until_state(record, State.RUNNING)
    assert (await stage.asks(record, "hold", Hold(reason="maintenance"))).state is State.STOPPING
    await until_state(record, State.SUSPENDED)
    await until_shown(stage, record, State.SUSPENDED)
    assert (await stage.asks(record, "release", Release())).state is State.WAITING
    await stage.tells(record.becomes(State.RESERVED))
    await until_state(record, State.RUNNING)
    await stage.tells(record.becomes(State.SUCCEEDED))
    await handle.result()
    assert record.calls == ["admit", "bind", "hold", "stop", "release", "bind"]


# Cancellation of the workflow itself


async def test_a_workflow_that_is_cancelled_before_it_began_leaves_nothing(stage: Stage) -> None:
    record = a_record(State.WAITING, gates={"admit": asyncio.Event()})
    handle = await stage.begins(record)
    await handle.cancel()
    record.gates["admit"].set()
    await ends_cancelled(handle)
    assert record.now is None or record.now.state is State.CANCELLED


async def test_a_workflow_that_is_cancelled_during_admission_gives_back_what_that_gave_it(stage: Stage) -> None:
    record = a_record_in_admission(State.RESERVED)
    handle = await stage.begins(record)
    await record.until("admit")
    await handle.cancel()
    await asyncio.sleep(0.1)
    record.gates["admit"].set()
    await ends_cancelled(handle)
    assert record.calls == ["admit"] * 4 + ["cancel"]
    assert record.standing().state is State.CANCELLED


@pytest.mark.parametrize("state", [State.WAITING, State.SUSPENDED, State.RESERVING])
async def test_a_workflow_that_is_cancelled_without_a_launch_cancels_its_workload(stage: Stage, state: State) -> None:
    record = a_record(state)
    handle = await stage.begins(record)
    await until_state(record, state)
    await handle.cancel()
    await ends_cancelled(handle)
    assert record.calls == ["admit", "cancel"]


async def test_a_workflow_that_is_cancelled_while_it_binds_stops_what_may_have_begun(stage: Stage) -> None:
    record = a_record(stopped_as=State.CANCELLED, gates={"bind": asyncio.Event()})
    handle = await stage.begins(record)
    await record.until("bind")
    await handle.cancel()
    await ends_cancelled(handle)
    record.gates["bind"].set()
    assert record.calls == ["admit", "bind", "cancel", "stop"]


async def test_a_workflow_that_is_cancelled_while_it_runs_stops_its_work_once_and_sees_it_gone(stage: Stage) -> None:
    record, handle = await scenarios.has_its_workflow_cancelled(stage)
    assert record.calls == ["admit", "bind", "cancel", "stop"]
    assert (await handle.describe()).status is WorkflowExecutionStatus.CANCELED


async def test_a_workflow_that_is_cancelled_waits_until_its_work_is_observed_gone(stage: Stage) -> None:
    record = a_record()
    handle = await stage.begins(record)
    await until_state(record, State.RUNNING)
    await handle.cancel()
    await record.until("stop")
    await asyncio.sleep(0.1)
    assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING
    await stage.tells(record.becomes(State.CANCELLED))
    await ends_cancelled(handle)
    assert record.calls == ["admit", "bind", "cancel", "stop"]


async def test_a_workflow_that_is_cancelled_while_its_work_stops_stops_it_no_second_time(stage: Stage) -> None:
    record = a_record()
    handle = await stage.begins(record)
    await until_state(record, State.RUNNING)
    await stage.tells(record.becomes(State.STOPPING))
    await record.until("stop")
    await handle.cancel()
    await record.until("cancel")
    await stage.tells(record.becomes(State.CANCELLED))
    await ends_cancelled(handle)
    assert record.calls == ["admit", "bind", "stop", "cancel"]


async def test_a_workflow_that_is_cancelled_when_its_work_has_just_finished_closes_all_the_same(stage: Stage) -> None:
    record = a_record()
    handle = await stage.begins(record)
    await until_state(record, State.RUNNING)
    record.becomes(State.SUCCEEDED)
    await handle.cancel()
    await ends_cancelled(handle)
    assert "stop" not in record.calls


async def test_a_change_that_is_under_way_is_answered_when_the_workflow_is_cancelled(stage: Stage) -> None:
    record = a_record(stopped_as=State.CANCELLED, gates={"reprioritize": asyncio.Event()})
    handle = await stage.begins(record)
    await until_state(record, State.RUNNING)
    asked = asyncio.create_task(stage.asks(record, "reprioritize", Reprioritize(priority=3)))
    await record.until("reprioritize")
    await handle.cancel()
    await asyncio.sleep(0.1)
    record.gates["reprioritize"].set()
    await ends_cancelled(handle)
    assert (await asked).message in {"done: reprioritize"}


async def test_a_change_that_outlasts_the_workload_of_a_cancelled_workflow_is_answered(stage: Stage) -> None:
    trouble = {"reprioritize": [ConnectionError("no record")] * 3}  # so that it becomes an ordinary activity
    record = a_record(stopped_as=State.CANCELLED, troubles=trouble, gates={"reprioritize": asyncio.Event()})
    handle = await stage.begins(record)
    await until_state(record, State.RUNNING)
    asked = asyncio.create_task(stage.asks(record, "reprioritize", Reprioritize(priority=3)))
    await record.until("reprioritize")
    await handle.cancel()
    await until_page(handle, "**cancelled**")
    record.gates["reprioritize"].set()
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await asked
    assert "reprioritize: workload" in str(refused.value.cause)
    await ends_cancelled(handle)


# Outages


async def test_a_step_that_keeps_failing_in_the_worker_is_done_as_an_ordinary_one(stage: Stage) -> None:
    record, handle = await scenarios.meets_an_outage(stage)
    assert record.calls == ["admit"] * 4 + ["bind"] * 2
    scheduled = [
        event.activity_task_scheduled_event_attributes.activity_type.name
        for event in (await handle.fetch_history()).events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    assert scheduled == ["admission.admit", "placement.bind"]


async def test_a_provider_that_does_not_answer_keeps_nobody_from_cancelling(stage: Stage) -> None:
    record = a_record(stopped_as=State.CANCELLED, gates={"bind": asyncio.Event()})
    handle = await stage.begins(record)
    await record.until("bind")
    assert (await stage.asks(record, "cancel", Cancel())).state is State.STOPPING
    assert (await handle.result()).state is State.CANCELLED
    record.gates["bind"].set()
    assert record.calls == ["admit", "bind", "cancel", "stop"]


# Long histories


async def test_a_long_life_goes_on_in_new_runs_that_know_what_the_old_ones_knew(hasty_stage: Stage) -> None:
    record = a_record(State.WAITING)
    first = await hasty_stage.begins(record)
    for number in range(12):
        await hasty_stage.asks(record, "reprioritize", Reprioritize(priority=number))
    await hasty_stage.tells(record.becomes(State.RESERVED))
    await until_state(record, State.RUNNING)
    await hasty_stage.tells(record.becomes(State.STOPPING))
    await until_shown(hasty_stage, record, State.STOPPING)
    for number in range(12):
        await hasty_stage.asks(record, "reprioritize", Reprioritize(priority=number))
    await hasty_stage.tells(record.becomes(State.SUCCEEDED, exit_code=0))
    assert (await first.result()).state is State.SUCCEEDED
    assert [call for call in record.calls if call != "reprioritize"] == ["admit", "bind", "stop"]
    latest = await hasty_stage.client.get_workflow_handle(first.id).describe()
    assert latest.run_id != first.first_execution_run_id


async def test_a_run_that_is_long_enough_ends_though_nothing_that_it_was_asked_changed_anything(hasty_stage: Stage) -> None:
    record = a_record()
    first = await hasty_stage.begins(record)
    await until_shown(hasty_stage, record, State.RUNNING)
    standing = record.standing()
    for number in range(20):
        record.done[f"demand:{number}"] = "newer demand is known"
        assert (await hasty_stage.asks(record, "demand", Demand(value=number), str(number))).message == "newer demand is known"
    assert record.standing() == standing
    latest = await hasty_stage.client.get_workflow_handle(first.id).describe()
    assert latest.run_id != first.first_execution_run_id
    assert latest.history_length < 40
    history: list[Moment] = await hasty_stage.client.get_workflow_handle(first.id).query(
        wire.Query.HISTORY, result_type=list[Moment]
    )
    assert [moment.state for moment in history] == [State.RESERVED, State.RUNNING]
    await hasty_stage.tells(record.becomes(State.SUCCEEDED))
    assert (await first.result()).state is State.SUCCEEDED


async def test_a_run_that_is_long_enough_leaves_its_call_to_the_provider_to_the_next(hasty_stage: Stage) -> None:
    record = a_record(State.WAITING)
    first = await hasty_stage.begins(record)
    await until_shown(hasty_stage, record, State.WAITING)
    record.becomes(State.RESERVED)
    record.becomes(State.RUNNING)
    record.troubles["stop"] = [ConnectionError("no provider")] * 3
    await hasty_stage.tells(record.becomes(State.STOPPING, notice=1))
    for number in range(20):
        await hasty_stage.asks(record, "reprioritize", Reprioritize(priority=number))
    await record.until("stop")
    latest = await hasty_stage.client.get_workflow_handle(first.id).describe()
    assert latest.run_id != first.first_execution_run_id
    await hasty_stage.tells(record.becomes(State.SUCCEEDED))
    await first.result()


async def test_a_key_is_of_one_kind_of_change_alone(stage: Stage) -> None:
    record, corral = a_record(State.WAITING), Corral(stage.client, stage.name)
    await stage.begins(record)
    await until_shown(stage, record, State.WAITING)
    for _ in range(2):
        assert (await corral.reprioritize(record.id, 5, key="monday")).message == "done: reprioritize"
        assert (await corral.hold(record.id, key="monday")).message == "done: hold"
    assert record.calls == ["admit", "reprioritize", "hold"]
    await corral.cancel(record.id)


async def test_nothing_that_many_ask_and_tell_at_once_is_lost_between_runs(hasty_stage: Stage) -> None:
    record = a_record()
    first = await hasty_stage.begins(record)
    await until_shown(hasty_stage, record, State.RUNNING)
    corral = Corral(hasty_stage.client, hasty_stage.name)

    async def asks(who: int) -> None:
        for number in range(15):
            answer = await corral.reprioritize(record.id, number, key=f"asked-{who}-{number}")
            assert answer.message == "done: reprioritize"
            await corral.tell_demand(record.id, Demand(value=number), key=f"told-{who}-{number}")

    await asyncio.gather(*(asks(who) for who in range(8)))
    kinds = ("reprioritize:reprioritize/asked", "demand:told")
    wanted = {f"{kind}-{who}-{number}" for kind in kinds for who in range(8) for number in range(15)}
    async with asyncio.timeout(PATIENCE_SECONDS):
        while set(record.done) != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    latest = await hasty_stage.client.get_workflow_handle(first.id).describe()
    assert latest.run_id != first.first_execution_run_id
    await hasty_stage.tells(record.becomes(State.SUCCEEDED))
    assert (await first.result()).state is State.SUCCEEDED


async def test_who_asks_for_what_a_server_keeps_from_being_done_is_told_why(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, corral = a_record(State.WAITING), Corral(stage.client, stage.name)
    await stage.begins(record)
    await until_shown(stage, record, State.WAITING)
    trouble = ApplicationError("PostgreSQL could not be used: no room", type=wire.Failure.UNAVAILABLE)
    record.troubles["hold"] = [trouble] * 1_000
    asking = asyncio.create_task(corral.hold(record.id, key="once"))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while record.calls.count("hold") <= TRIES_IN_THE_WORKER + 1:  # noqa: ASYNC110  a record in memory sets no event
            await asyncio.sleep(0.01)
    monkeypatch.setattr(errors, "ANSWER_WITHIN", timedelta(seconds=1))
    with pytest.raises(Unreachable, match=r"could not answer within 1 s: PostgreSQL could not be used: no room$"):
        await corral.hold(record.id, key="once")
    record.troubles.clear()
    await asking
    await stage.asks(record, "cancel", Cancel())
    assert [done for done in record.done if done.startswith("hold")] == ["hold:hold/once"]


# A record that is older than its workflows


async def test_work_that_the_record_does_not_know_any_more_is_admitted_once_more(stage: Stage) -> None:
    record, handle = await scenarios.begins_anew(stage)
    assert record.calls == ["admit", "bind", "look", "admit", "bind"]
    assert (await handle.result()).state is State.SUCCEEDED


async def test_work_that_the_record_does_not_know_when_it_is_bound_is_admitted_once_more(stage: Stage) -> None:
    record, handle = await scenarios.begins_anew_as_it_is_bound(stage)
    assert record.calls == ["admit", "bind", "look", "admit", "bind"]
    assert (await handle.result()).state is State.SUCCEEDED


async def test_work_that_was_admitted_once_more_is_given_the_same_notice_as_before(stage: Stage) -> None:
    record = a_record()
    handle = await stage.begins(record)
    await until_shown(stage, record, State.RUNNING)
    await stage.tells(record.becomes(State.STOPPING, notice=1))
    await record.until("stop")
    record.now = None
    await Corral(stage.client, stage.name).wake(record.id)
    await until_state(record, State.RUNNING)
    await until_shown(stage, record, State.RUNNING)
    await stage.tells(record.becomes(State.STOPPING, notice=1))
    await until_calls(record, ["admit", "bind", "stop", "look", "admit", "bind", "stop"])
    await stage.tells(record.becomes(State.SUCCEEDED))
    await handle.result()


# Questions


async def test_a_workflow_tells_how_its_workload_stands_without_asking_anybody(stage: Stage) -> None:
    record = a_record(State.WAITING)
    handle = await stage.begins(record)
    await until_shown(stage, record, State.WAITING)
    status: WorkloadStatus = await handle.query(wire.Query.STATUS, result_type=WorkloadStatus)
    why = Explanation(reason=Reason.WAITING_FOR_QUOTA, message="queue research has room for 0")
    assert (status.id, status.queue, status.state, status.explanation) == (record.id, "research", State.WAITING, why)
    explanation: Explanation | None = await handle.query(wire.Query.EXPLANATION, result_type=Explanation)
    assert explanation == why
    assert record.calls == ["admit"]
    await stage.asks(record, "cancel", Cancel())


async def test_a_workflow_whose_spec_makes_no_sense_can_say_so(stage: Stage) -> None:
    record = a_record(State.REFUSED)
    handle = await stage.begins(record, spec={"id": record.id, "queue": 7, "groups": [{"count": -1}]})
    assert (await handle.result()).state is State.REFUSED
    status: WorkloadStatus = await handle.query(wire.Query.STATUS, result_type=WorkloadStatus)
    assert (status.id, status.state) == (record.id, State.REFUSED)
    assert status.explanation == Explanation(reason=Reason.INVALID_SPEC, message="count: -1 is not possible")


async def test_operators_find_workloads_by_state_place_and_sku(stage: Stage) -> None:
    _, handle = await scenarios.waits_and_is_preempted(stage)
    attributes = (await handle.describe()).typed_search_attributes
    assert (attributes[wire.STATE], attributes[wire.REGION], attributes[wire.SKU]) == ("succeeded", "eu", "h100")
