"""Preemption step by step, on real servers: the worker is killed at each step, and all comes to a good end."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from corral.api import Checkpoint, ReplicaGroup, SlaTier, State, Target, WorkloadSpec
from tests.end_to_end.loads import a_workload, behaving
from tests.end_to_end.pools import QUEUES, LivePool, eventually, oversubscribed, running_pool
from tests.servers import PostgresServer
from worker import supervision

SLOWLY = 20
"""How much faster than the wall's the time runs: no grace must be over while worker after worker is started."""
PATIENTLY = 30
"""Seconds; what a workflow does must not be done by a reconciler before."""
FOR_EVER = 1e6
LONG_GRACE = 3_600

COMPENSATIONS = ("hold", "notice", "spare", "keep", "kept")


@pytest.fixture(scope="module")
async def pool(postgres: PostgresServer, temporal: str) -> AsyncIterator[LivePool]:
    """A pool whose worker dies once at each step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervision, "STARTS_PER_MINUTE", 100)  # these deaths are ordered
        async with running_pool(postgres, temporal, "saga", speed=SLOWLY, reconcile_seconds=PATIENTLY) as pool:
            await pool.start_worker("-m", "tests.end_to_end.faulty_worker", *COMPENSATIONS)
            pool.remember_launches()
            await pool.corral.apply_queues(QUEUES)
            yield pool


def whole_node(id: str, sku: str = "l4", accelerators: int = 4, **more: Any) -> WorkloadSpec:
    given = {"targets": (Target(skus=(sku,)),), "groups": (ReplicaGroup(accelerators=accelerators),)}
    return a_workload(id, **(given | more))


def a_victim(id: str, *, grace: int = LONG_GRACE, **behaviour: object) -> WorkloadSpec:
    """Basic work that would run for ever, and saves nothing on notice."""
    parameters = behaving(FOR_EVER, ignore_notice="true") | {name: str(value) for name, value in behaviour.items()}
    return whole_node(id, tier=SlaTier.BASIC, parameters=parameters, checkpoint=Checkpoint(grace_seconds=grace))


def an_urgent(id: str) -> WorkloadSpec:
    return whole_node(id, tier=SlaTier.PREMIUM, parameters=behaving(40))


async def died_after(pool: LivePool, step: str) -> None:
    async def look() -> bool:
        return (pool.settings.state_dir / f"died-after-{step}").exists()

    await eventually(look, f"the worker dies after {step}")


async def until_simulated(pool: LivePool, attempt: str, phase: str) -> None:
    async def look() -> bool:
        return (await pool.simulated_now()).get(attempt) == phase

    await eventually(look, f"{attempt} is {phase} at its provider")


async def is_in_order(pool: LivePool) -> None:
    """The record has no breach, no device ran more than it has, and no attempt was launched twice."""
    assert await pool.audit() == []
    assert await oversubscribed(pool) == []
    assert {attempt: len(times) for attempt, times in pool.launches().items() if len(times) > 1} == {}


@pytest.mark.parametrize("step", COMPENSATIONS)
async def test_a_victim_runs_on_when_its_beneficiary_is_cancelled_whenever_the_worker_dies(pool: LivePool, step: str) -> None:
    victim, urgent = f"victim-{step}", f"urgent-{step}"
    await pool.corral.submit(a_victim(victim))
    await until_state(pool, victim, State.RUNNING)
    await pool.corral.submit(an_urgent(urgent))
    await until_state(pool, urgent, State.RESERVING)
    if step in {"hold", "notice"}:
        await died_after(pool, step)
    await until_simulated(pool, f"{victim}.1", "stopping")

    await pool.corral.cancel(urgent)
    await died_after(pool, step)

    await eventually(lambda: says(pool, victim, "kept"), "the provider has taken the notice back")
    await until_simulated(pool, f"{victim}.1", "running")
    assert await state_of(pool, victim) is State.RUNNING
    (attempt,) = await pool.attempts(victim)
    assert (attempt["ended_at"], attempt["stop_at"], attempt["beneficiary"]) == (None, None, None)
    (why,) = await pool.rows("SELECT message FROM events WHERE workload_id = $1 AND message LIKE '%is taken back%'", victim)
    assert why["message"].endswith("for the work that it was to leave for was cancelled")
    await is_in_order(pool)
    await pool.corral.cancel(victim)
    await (await pool.second_simulator()).release(f"{victim}.1", 1)
    await pool.until_closed([victim, urgent])


async def says(pool: LivePool, workload: str, kind: str) -> bool:
    """Whether the workload's history has an event of this kind."""
    return bool(await pool.rows("SELECT 1 FROM events WHERE workload_id = $1 AND kind = $2", workload, kind))


async def state_of(pool: LivePool, workload: str) -> State | None:
    """The workload's state in the record; the worker that could answer may be dead."""
    rows = await pool.rows("SELECT state FROM workloads WHERE id = $1", workload)
    return State(rows[0]["state"]) if rows else None


async def until_state(pool: LivePool, workload: str, *states: State) -> None:
    async def look() -> bool:
        return await state_of(pool, workload) in states

    await eventually(look, f"{workload} is {' or '.join(states)}")
