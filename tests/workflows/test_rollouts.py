"""Roll-outs as workflows: what they ask for and when, how they are steered, and what they tell."""

import asyncio
from datetime import timedelta

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.testing import WorkflowEnvironment

from corral.rollout import RolloutState
from corral.wire import Steering
from tests.patience import PATIENCE_SECONDS
from tests.workflows.rollouts import BEN, ROLLOUTS, Desk, until_told
from tests.workflows.scenarios import ends_cancelled
from tests.workflows.stage import Stage, open_stage, page_of
from workflows.rollout import page


@pytest.mark.parametrize(
    ("scenario", "end", "steered"),
    [
        ("rolls_out_when_approved", RolloutState.DONE, [Steering.APPROVE]),
        ("rolls_back", RolloutState.ROLLED_BACK, []),
        ("rollout_is_approved_too_late", RolloutState.EXPIRED, []),
        ("rollout_is_aborted", RolloutState.ABORTED, [Steering.ABORT]),
        ("has_its_rollout_cancelled", RolloutState.ABORTED, [Steering.ABORT]),
    ],
)
async def test_each_comes_to_its_end(stage: Stage, scenario: str, end: RolloutState, steered: list[Steering]) -> None:
    desk, handle = await ROLLOUTS[scenario](stage)
    assert desk.status is not None
    assert desk.status.state is end
    assert [call for call in desk.calls if call not in {"begin", "advance"}] == steered
    if scenario != "has_its_rollout_cancelled":
        assert (await handle.result()).version == desk.status.version


async def test_what_a_schedule_starts_is_over_when_its_roll_out_is(stage: Stage) -> None:
    desk, handle = await ROLLOUTS["is_ordered_by_a_schedule"](stage)
    (order,) = desk.orders
    assert await handle.result() == order.id
    assert desk.status is not None
    assert desk.status.state is RolloutState.DONE


# Time


async def test_a_day_goes_by_without_approval(skipping: WorkflowEnvironment) -> None:
    desk = Desk(skipping.get_current_time, needs="2 would lose protection")
    async with open_stage(skipping.client, *desk.activities, name=desk.order.id) as own:
        status = await (await desk.begins(own)).result()
    assert (status.state, desk.calls) == (RolloutState.EXPIRED, ["begin", "advance"])
    assert status.ended_at is not None
    assert status.ended_at - status.began_at >= timedelta(days=1)


async def test_it_is_watched_minute_by_minute_to_the_end(skipping: WorkflowEnvironment) -> None:
    desk = Desk(skipping.get_current_time)
    async with open_stage(skipping.client, *desk.activities, name=desk.order.id) as own:
        status = await (await desk.begins(own)).result()
    assert status.state is RolloutState.DONE
    assert desk.calls == ["begin", *["advance"] * 30]


async def test_a_breach_is_seen_at_the_next_look(skipping: WorkflowEnvironment) -> None:
    desk = Desk(skipping.get_current_time, breach_after=290)
    async with open_stage(skipping.client, *desk.activities, name=desk.order.id) as own:
        status = await (await desk.begins(own)).result()
    assert (status.state, desk.calls.count("advance")) == (RolloutState.ROLLED_BACK, 5)


async def test_who_approves_it_in_time_lets_it_begin(skipping: WorkflowEnvironment) -> None:
    desk = Desk(skipping.get_current_time, needs="2 would lose protection")
    async with open_stage(skipping.client, *desk.activities, name=desk.order.id) as own:
        handle = await desk.begins(own)
        await until_told(handle, RolloutState.AWAITING)
        await skipping.sleep(timedelta(hours=23))
        assert (await until_told(handle, RolloutState.AWAITING)).state is RolloutState.AWAITING
        await handle.execute_update(Steering.APPROVE, BEN)
        assert (await handle.result()).state is RolloutState.DONE


# Steering


async def test_what_its_state_does_not_allow_is_refused_before_it_is_in_the_history(stage: Stage) -> None:
    desk = Desk()
    async with open_stage(stage.client, *desk.activities, name=desk.order.id) as own:
        handle = await desk.begins(own)
        await until_told(handle, RolloutState.WATCHING)
        for verb in (Steering.APPROVE, Steering.REJECT, Steering.PAUSE, Steering.RESUME):
            with pytest.raises(WorkflowUpdateFailedError):
                await handle.execute_update(verb, BEN)
        assert desk.calls == ["begin"]
        await handle.execute_update(Steering.ABORT, BEN)


async def test_aborted_during_an_outage_before_it_has_begun_it_never_does(stage: Stage) -> None:
    desk = Desk(cannot_begin=True)
    async with open_stage(stage.client, *desk.activities, name=desk.order.id) as own:
        handle = await desk.begins(own)
        await handle.execute_update(Steering.ABORT, BEN)
        desk.cannot_begin = False
        status = await handle.result()
    assert [note.state for note in status.trail] == [RolloutState.ABORTED]


async def test_cancelled_while_it_begins_it_is_undone_once_it_has_begun(stage: Stage) -> None:
    desk = Desk(gate=asyncio.Event())
    async with open_stage(stage.client, *desk.activities, name=desk.order.id) as own:
        handle = await desk.begins(own)
        await asyncio.wait_for(desk.begun.wait(), PATIENCE_SECONDS)
        await handle.cancel()
        assert desk.gate is not None
        desk.gate.set()
        await ends_cancelled(handle)
    assert desk.status is not None
    assert desk.status.state is RolloutState.ABORTED
    assert desk.calls == ["begin", Steering.ABORT]


async def test_its_page_says_what_it_waits_for(stage: Stage) -> None:
    desk = Desk(needs="2 would lose protection")
    async with open_stage(stage.client, *desk.activities, name=desk.order.id) as own:
        handle = await desk.begins(own)
        status = await until_told(handle, RolloutState.AWAITING)
        shown = await page_of(handle)
        assert shown == page(status)
        assert "awaiting-approval: policy calm; too much ado (ada)" in shown
        assert "2 would lose protection, until" in shown
        await handle.execute_update(Steering.REJECT, BEN)
        assert (await handle.result()).state is RolloutState.REJECTED


async def test_one_that_is_watched_long_goes_on_in_a_new_run(hasty_stage: Stage) -> None:
    desk = Desk(watched=2, looks=0.1)
    async with open_stage(hasty_stage.client, *desk.activities, name=desk.order.id) as own:
        first = await desk.begins(own)
        assert (await first.result()).state is RolloutState.DONE
        latest = await own.client.get_workflow_handle(first.id).describe()
        assert latest.run_id != first.first_execution_run_id
    assert desk.calls.count("begin") > 1
