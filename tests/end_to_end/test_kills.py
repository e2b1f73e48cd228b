"""Whatever is killed in the midst of a mixed load, every workload comes to its end, once, and nothing is left over."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from activities.store.migrations import upgrade
from corral.api import State, WorkloadResult
from tests.end_to_end.asking import PatientCorral
from tests.end_to_end.loads import a_mixed_load
from tests.end_to_end.pools import (
    QUEUES,
    LivePool,
    eventually,
    looking_into,
    oversubscribed,
    pool_settings,
    processes_under,
    started_twice,
)
from tests.patience import PATIENCE_SECONDS
from tests.servers import own_stack
from worker.embedded import POSTGRES, TEMPORAL, WORKER
from worker.temporal_server import connect


@dataclass(frozen=True)
class Aftermath:
    """What is left when all workloads have ended, and how they should have."""

    pool: LivePool
    expected: Mapping[str, State]
    results: Mapping[str, WorkloadResult]
    log: Path


@pytest.fixture(scope="module")
async def aftermath() -> AsyncIterator[Aftermath]:
    """Three mixed loads, and in the midst of each something killed that cannot prepare for it."""
    with tempfile.TemporaryDirectory(prefix="corral-") as temporary:
        directory = Path(temporary)
        settings = pool_settings(directory, "killed", lost_answer=0.2)
        async with own_stack(directory, **settings) as stack, looking_into(stack.settings) as record:
            await upgrade(stack.settings.database_url)
            temporal = await connect(stack.settings)
            corral = PatientCorral(temporal, stack.settings.pool)
            pool = LivePool(stack.settings, stack.supervisor, temporal, corral, record)
            await stack.start_worker()
            pool.remember_launches()
            await pool.corral.apply_queues(QUEUES)

            expected: dict[str, State] = {}
            for name in (WORKER, TEMPORAL, POSTGRES):
                load = a_mixed_load(name, directory / "started")
                expected |= {spec.id: state for spec, state in load}
                for spec, _ in load:  # in this order, so that the first two have all nodes when others want them
                    await pool.corral.submit(spec)
                await eventually(lambda name=name: _several_began(pool, name), "several workloads have begun")  # type: ignore[misc]
                await stack.kill(name)

            waiting = asyncio.gather(*(pool.corral.wait(id) for id in expected))
            results = {result.id: result for result in await asyncio.wait_for(waiting, 5 * PATIENCE_SECONDS)}
            yield Aftermath(pool, expected, results, directory / "started")


async def _several_began(pool: LivePool, tag: str) -> bool:
    bound = "SELECT count(DISTINCT workload_id) FROM attempts WHERE bound_at IS NOT NULL AND workload_id LIKE $1"
    began: int = await pool.value(bound, f"{tag}-%")
    return began >= 5


async def test_every_workload_ends_as_it_would_have(aftermath: Aftermath) -> None:
    assert {id: result.state for id, result in aftermath.results.items()} == aftermath.expected
    recorded = await aftermath.pool.rows("SELECT id, state FROM workloads")
    assert {row["id"]: State(row["state"]) for row in recorded} == aftermath.expected


async def test_every_workflow_is_closed(aftermath: Aftermath) -> None:
    await aftermath.pool.until_closed(aftermath.expected)


async def test_the_audit_finds_nothing(aftermath: Aftermath) -> None:
    assert await aftermath.pool.audit() == []


async def test_no_capacity_is_still_taken(aftermath: Aftermath) -> None:
    pool = aftermath.pool
    assert await pool.rows("SELECT id FROM attempts WHERE ended_at IS NULL") == []
    assert await pool.rows("SELECT attempt_id FROM holds WHERE ended_at IS NULL") == []
    assert await pool.rows("SELECT attempt_id, node_id, phase FROM allocations WHERE phase <> 'released'") == []
    assert await pool.rows("SELECT id FROM nodes WHERE 0 < ANY (device_use) OR cpu_use > 0 OR memory_use > 0") == []
    assert await pool.rows("SELECT id FROM ledger WHERE ended_at IS NULL") == []


async def test_no_device_was_ever_given_out_twice(aftermath: Aftermath) -> None:
    assert await oversubscribed(aftermath.pool) == []
    refused = "SELECT id, reason FROM attempts WHERE outcome = 'refused-by-provider'"
    assert await aftermath.pool.rows(refused) == [], "a provider was asked for what it did not have"


async def test_every_attempt_was_launched_once_on_what_it_had(aftermath: Aftermath) -> None:
    pool = aftermath.pool
    launches = pool.launches()
    assert [attempt for attempt, times in launches.items() if len(times) > 1] == []
    rows = await pool.rows(
        "SELECT a.id, n.name, l.uses FROM attempts a JOIN allocations l ON l.attempt_id = a.id"
        " JOIN nodes n ON n.id = l.node_id WHERE a.provider = $1",
        pool.simulator,
    )
    booked = {(row["id"], row["name"], device) for row in rows for device, milli in enumerate(row["uses"]) if milli}
    for attempt, (launch,) in launches.items():
        used = {(attempt, part["node"], device) for part in launch["occupied"] for device in part["devices"]}
        assert used == {place for place in booked if place[0] == attempt}


async def test_no_process_was_started_twice_for_an_attempt(aftermath: Aftermath) -> None:
    assert started_twice(aftermath.log) == []


async def test_nothing_runs_at_any_provider(aftermath: Aftermath) -> None:
    assert await aftermath.pool.simulated_now() == {}
    assert processes_under(aftermath.pool.directory) == []


async def test_preempted_work_came_back(aftermath: Aftermath) -> None:
    """Otherwise the load was not as mixed as it should be."""
    assert await aftermath.pool.value("SELECT count(*) FROM attempts WHERE outcome = 'preempted'") > 0


async def test_arrays_ran_every_task_once(aftermath: Aftermath) -> None:
    done = await aftermath.pool.rows("SELECT id, tasks_done FROM workloads WHERE id LIKE '%-array'")
    assert {row["tasks_done"] for row in done} == {20}


async def test_everybody_was_told_everything(aftermath: Aftermath) -> None:
    await eventually(lambda: _all_delivered(aftermath.pool), "the outbox is empty")


async def _all_delivered(pool: LivePool) -> bool:
    return bool(await pool.value("SELECT count(*) = 0 FROM outbox WHERE delivered IS NULL"))
