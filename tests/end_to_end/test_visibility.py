"""What operators see of a workload in Temporal: how it is found, and what is written on it."""

from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus

from corral import wire
from corral.api import State
from tests.end_to_end.loads import a_workload, behaving
from tests.end_to_end.pools import LivePool, eventually

FOR_EVER = 1e6


async def test_it_is_found_by_state_queue_and_sku_and_says_where_it_runs(pool: LivePool) -> None:
    await pool.corral.submit(a_workload("visible", parameters=behaving(FOR_EVER)))
    await pool.until("visible", State.RUNNING)

    async def found(query: str) -> bool:
        return "workload/visible" in [each.id async for each in pool.temporal.list_workflows(query)]

    running = "State = 'running' AND Queue = 'cells' AND Sku = 'a100' AND Region = 'east' AND Tier = 'standard'"
    await eventually(lambda: found(running), "it is listed as running")

    description = await pool.handle("visible").describe()
    assert await description.static_summary() == "visible: 1 accelerators in 1 replicas, standard, queue cells"
    metadata = await pool.handle("visible").query("__temporal_workflow_metadata")
    details = metadata.current_details
    assert f"**running** on 1 a100 in east/e1 ({pool.simulator})" in details

    await pool.corral.cancel("visible")
    await pool.until_closed(["visible"])
    await eventually(lambda: found("State = 'cancelled' AND Queue = 'cells'"), "it is listed as cancelled")


async def test_what_waits_says_why(pool: LivePool) -> None:
    await pool.corral.submit(a_workload("puzzled", queue="closed"))
    await pool.until("puzzled", State.WAITING)

    async def explained() -> bool:
        metadata = await pool.handle("puzzled").query("__temporal_workflow_metadata")
        return "**waiting**" in metadata.current_details and "QueueStopped" in metadata.current_details

    await eventually(explained, "the reason is shown")
    await pool.corral.cancel("puzzled")


async def test_rounds_say_how_good_they_were(pool: LivePool) -> None:
    await pool.corral.submit(a_workload("measured"))
    await pool.corral.wait("measured")

    newest, *_ = [each for each in await pool.corral.rounds() if each.started]

    assert newest.gap == 0
    assert newest.started_accelerators == newest.bound
    assert newest.milliseconds["turns"] > 0


async def test_an_ordinary_life_is_a_short_history(pool: LivePool) -> None:
    """What is not told twice costs nothing."""
    await pool.corral.submit(a_workload("brief"))
    await pool.corral.wait("brief")
    kinds = [event.event_type async for event in pool.handle("brief").fetch_history_events()]
    assert kinds.count(EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED) == 1
    assert EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED not in kinds


async def test_a_planner_that_an_operator_terminates_is_started_again(pool: LivePool) -> None:
    planner = pool.temporal.get_workflow_handle(wire.rounds_workflow_id(pool.settings.pool))
    await planner.terminate("by mistake")

    async def plans_again() -> bool:
        return (await planner.describe()).status is WorkflowExecutionStatus.RUNNING

    await eventually(plans_again, "the planner is back")
