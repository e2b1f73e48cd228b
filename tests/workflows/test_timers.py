"""What passing time does to a workload, on a server that skips it."""

import asyncio
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from corral.api import State
from tests.workflows.scenarios import until_state
from tests.workflows.stage import Record, Stage, a_record


async def skips(environment: WorkflowEnvironment, **time: float) -> None:
    await environment.sleep(timedelta(**time))


async def test_a_lost_saying_costs_time_and_nothing_else(skipping: WorkflowEnvironment, skipping_stage: Stage) -> None:
    record = a_record(State.WAITING)
    handle = await skipping_stage.begins(record)
    await until_state(record, State.WAITING)
    record.becomes(State.RESERVED)
    await skips(skipping, minutes=9)
    assert record.calls == ["admit"]
    await skips(skipping, minutes=2)
    await until_state(record, State.RUNNING)
    assert record.calls == ["admit", "look", "bind"]
    await skipping_stage.tells(record.becomes(State.SUCCEEDED))
    await handle.result()


async def test_who_stops_for_long_looks_whether_it_has_ended(skipping: WorkflowEnvironment, skipping_stage: Stage) -> None:
    record = a_record()
    handle = await skipping_stage.begins(record)
    await until_state(record, State.RUNNING)
    await skipping_stage.tells(record.becomes(State.STOPPING))
    await record.until("stop")
    record.becomes(State.WAITING)
    record.becomes(State.CANCELLED)
    assert (await handle.result()).state is State.CANCELLED
    assert record.calls == ["admit", "bind", "stop", "look"]


async def test_running_work_without_a_limit_is_left_in_peace(skipping: WorkflowEnvironment, skipping_stage: Stage) -> None:
    record = a_record()
    handle = await skipping_stage.begins(record)
    await until_state(record, State.RUNNING)
    await skips(skipping, days=30)
    assert record.calls == ["admit", "bind"]
    await skipping_stage.tells(record.becomes(State.SUCCEEDED))
    await handle.result()


async def test_what_is_resized_is_stopped_when_its_time_is_over_and_looks_whether_that_is_done(
    skipping: WorkflowEnvironment, skipping_stage: Stage
) -> None:
    record = a_record(runtime_left=1_000.0, stopped_as=State.FAILED)
    handle = await skipping_stage.begins(record)
    await until_state(record, State.RUNNING)
    await skipping_stage.tells(record.becomes(State.RESIZING, notice=1))
    await record.until("stop")
    record.runtime_left = 0.0
    record.becomes(State.RESIZING)
    assert (await handle.result()).state is State.FAILED
    assert record.calls == ["admit", "bind", "stop", "look", "expire", "stop"]


async def test_work_whose_time_is_over_is_stopped(skipping: WorkflowEnvironment, skipping_stage: Stage) -> None:
    record = a_record(runtime_left=3_600.0, stopped_as=State.FAILED)
    handle = await skipping_stage.begins(record)
    await until_state(record, State.RUNNING)
    record.runtime_left = 0.0
    assert (await handle.result()).state is State.FAILED
    assert record.calls == ["admit", "bind", "look", "expire", "stop"]


async def test_work_that_started_late_may_use_all_of_its_time(skipping: WorkflowEnvironment, skipping_stage: Stage) -> None:
    record = a_record(runtime_left=3_600.0, stopped_as=State.FAILED)
    handle = await skipping_stage.begins(record)
    await until_state(record, State.RUNNING)
    record.runtime_left = 1_800.0
    await skips(skipping, minutes=61)
    assert record.calls == ["admit", "bind", "look"]
    record.runtime_left = 0.0
    assert (await handle.result()).state is State.FAILED
    assert record.calls == ["admit", "bind", "look", "look", "expire", "stop"]


@pytest.mark.parametrize("after", [State.SUCCEEDED, State.WAITING])
async def test_work_that_ends_just_when_its_time_is_over_has_ended_in_its_own_way(
    skipping: WorkflowEnvironment, skipping_stage: Stage, after: State
) -> None:
    class Ending(Record):
        async def step(self, name: str) -> None:
            if name == "expire":
                self.becomes(after)
            await super().step(name)

    record = Ending(a_record().id, runtime_left=60.0)
    handle = await skipping_stage.begins(record)
    await until_state(record, State.RUNNING)
    record.runtime_left = 0.0
    await skips(skipping, minutes=2)
    await record.until("expire")
    if after is State.WAITING:
        await asyncio.sleep(0.1)
        await skipping_stage.tells(record.becomes(State.SUCCEEDED))
    assert (await handle.result()).state is State.SUCCEEDED
    assert "stop" not in record.calls
