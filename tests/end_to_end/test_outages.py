"""Servers that are away for a while, workers that come and go, and workflows that are taken away: nothing is lost."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import WorkflowExecutionStatus

from activities.store.migrations import upgrade
from activities.store.postgres import PostgresStore
from corral import wire
from corral.api import QueueSpec, QueueTree, State
from tests.end_to_end.asking import PatientCorral
from tests.end_to_end.loads import a_process, a_workload, behaving
from tests.end_to_end.pools import QUEUES, LivePool, eventually, looking_into, pool_settings
from tests.servers import own_stack
from worker.embedded import POSTGRES, TEMPORAL, WORKER, postgres_child, temporal_child
from worker.temporal_server import connect

AWAY_SECONDS = 12
FOR_EVER = 1e6


@pytest.fixture(scope="module")
async def pool() -> AsyncIterator[LivePool]:
    """A pool whose servers these tests may stop, one after the other."""
    with tempfile.TemporaryDirectory(prefix="corral-") as temporary:
        directory = Path(temporary)
        settings = pool_settings(directory, "outages")
        async with own_stack(directory, **settings) as stack, looking_into(stack.settings) as record:
            await upgrade(stack.settings.database_url)
            temporal = await connect(stack.settings)
            corral = PatientCorral(temporal, stack.settings.pool)
            pool = LivePool(stack.settings, stack.supervisor, temporal, corral, record)
            await pool.start_worker()
            pool.remember_launches()
            await pool.corral.apply_queues(QUEUES)
            yield pool


async def test_what_is_submitted_while_postgres_is_away_waits_for_it(pool: LivePool) -> None:
    await pool.corral.submit(a_workload("before", parameters=behaving(1_000)))
    await pool.until("before", State.RUNNING)
    await pool.supervisor.stop(POSTGRES)
    submitted = [f"meanwhile-{n}" for n in range(10)]
    for workload in (*submitted, "unwanted", "withdrawn"):
        assert (await pool.corral.submit(a_workload(workload))).created
    cancelling = asyncio.create_task(pool.corral.cancel("unwanted", key="unwanted"))
    await pool.handle("withdrawn").cancel()

    async def is_seen_trying() -> bool:
        pending = (await pool.handle("meanwhile-0").describe()).raw_description.pending_activities
        return [(each.activity_type.name, each.attempt > 1) for each in pending] == [("admission.admit", True)]

    await eventually(is_seen_trying, "operators see the admission being tried")
    await asyncio.sleep(AWAY_SECONDS)
    await pool.supervisor.start(postgres_child(pool.settings.state_dir, pool.settings.postgres_port))

    results = await asyncio.gather(*(pool.corral.wait(workload) for workload in ("before", *submitted)))
    assert {result.state for result in results} == {State.SUCCEEDED}
    assert (await cancelling).state in {State.CANCELLED, State.STOPPING}
    for workload in ("unwanted", "withdrawn"):
        await pool.until(workload, State.CANCELLED)
        await pool.until_closed([workload])
        assert await pool.has_nothing_of(workload)


async def test_news_that_could_not_be_told_is_told_later(pool: LivePool) -> None:
    """The planner starts work while Temporal is away; the workflows hear of it when that is back."""
    waiting = [f"parked-{n}" for n in range(3)]
    for workload in waiting:
        await pool.corral.submit(a_workload(workload, queue="closed"))
        await pool.until(workload, State.WAITING)
    await eventually(lambda: _planner_is_at_work(pool), "the planner is back at work")
    await pool.supervisor.stop(TEMPORAL)
    await _apply_without_a_worker(pool, QueueSpec(name="closed", quotas=QUEUES.queues[-1].quotas))

    async def placed() -> bool:
        return bool(await pool.value("SELECT count(*) = 3 FROM attempts WHERE workload_id LIKE 'parked-%'"))

    try:
        await eventually(placed, "the planner has placed them")
        assert await pool.value("SELECT count(*) FROM outbox WHERE delivered IS NULL") > 0
    finally:
        await pool.supervisor.start(temporal_child(pool.settings.state_dir, pool.settings.temporal_port, headless=True))

    results = await asyncio.gather(*(pool.corral.wait(workload) for workload in waiting))
    assert {result.state for result in results} == {State.SUCCEEDED}
    await pool.corral.apply_queues(QueueTree(queues=(QUEUES.queues[-1],)))


async def _apply_without_a_worker(pool: LivePool, queue: QueueSpec) -> None:
    store = PostgresStore.connect(pool.settings.database_url, pool.settings.clock(), pool.settings.pool)
    await store.apply_queues(QueueTree(queues=(queue,)))
    await store.aclose()


async def _planner_is_at_work(pool: LivePool) -> bool:
    described = await pool.temporal.get_workflow_handle(wire.rounds_workflow_id(pool.settings.pool)).describe()
    pending = described.raw_description.pending_activities
    return [each.state for each in pending] == [PendingActivityState.PENDING_ACTIVITY_STATE_STARTED]


async def test_news_told_again_changes_nothing(pool: LivePool) -> None:
    await pool.corral.submit(a_workload("told-twice", parameters=behaving(FOR_EVER)))
    await pool.until("told-twice", State.RUNNING)
    stale = "UPDATE outbox SET delivered = NULL, written = written - interval '1 hour'"
    before = await pool.rows("SELECT id, state, version FROM workloads ORDER BY id")
    await pool.rows(stale)

    async def delivered() -> bool:
        return bool(await pool.value("SELECT count(*) = 0 FROM outbox WHERE delivered IS NULL"))

    await eventually(delivered, "everything was told again")
    assert await pool.rows("SELECT id, state, version FROM workloads ORDER BY id") == before
    assert (await pool.handle("told-twice").query("status"))["state"] == "running"
    await pool.corral.cancel("told-twice")
    assert (await pool.corral.wait("told-twice")).state is State.CANCELLED
    assert len(await pool.attempts("told-twice")) == 1


async def test_a_worker_is_replaced_in_good_order(pool: LivePool) -> None:
    """While two work at the same time, and after the first has been told to stop."""
    log = pool.settings.state_dir / "started"
    await pool.corral.submit(a_process("here", f"echo $CORRAL_ATTEMPT >> {log}; sleep 6"))
    await pool.corral.submit(a_workload("there", parameters=behaving(1200)))
    for workload in ("here", "there"):
        await pool.until(workload, State.RUNNING, State.SUCCEEDED)

    await pool.start_worker(name="second")
    both = [f"shared-{n}" for n in range(20)]
    await asyncio.gather(*(pool.corral.submit(a_workload(workload, parameters=behaving(60))) for workload in both))
    await pool.supervisor.stop(WORKER)
    later = [f"inherited-{n}" for n in range(5)]
    await asyncio.gather(*(pool.corral.submit(a_workload(workload)) for workload in later))

    ids = ("here", "there", *both, *later)
    results = await asyncio.gather(*(pool.corral.wait(workload) for workload in ids))
    assert {result.state for result in results} == {State.SUCCEEDED}
    numbers = await pool.rows("SELECT count(*) AS n FROM attempts WHERE workload_id = ANY($1) GROUP BY workload_id", list(ids))
    assert {row["n"] for row in numbers} == {1}
    assert log.read_text().split() == ["here.1"]
    assert [attempt for attempt, times in pool.launches().items() if len(times) > 1] == []


async def test_a_terminated_workflow_is_found_and_what_it_had_is_freed(pool: LivePool) -> None:
    await pool.corral.submit(a_workload("orphan", parameters=behaving(FOR_EVER)))
    await pool.corral.submit(a_process("stray", "sleep 1000"))
    await pool.corral.submit(a_workload("forgotten", queue="closed"))
    for workload, state in (("orphan", State.RUNNING), ("stray", State.RUNNING), ("forgotten", State.WAITING)):
        await pool.until(workload, state)
        await pool.handle(workload).terminate("by mistake")
        assert (await pool.handle(workload).describe()).status is WorkflowExecutionStatus.TERMINATED
    for workload in ("orphan", "stray", "forgotten"):
        await pool.until(workload, State.CANCELLED)
        await eventually(lambda id=workload: pool.has_nothing_of(id), f"nothing is left of {workload}")  # type: ignore[misc]


async def test_in_the_end_nothing_is_left_over(pool: LivePool) -> None:
    assert await pool.audit() == []
    assert await pool.rows("SELECT attempt_id FROM allocations WHERE phase <> 'released'") == []
    assert await pool.simulated_now() == {}
