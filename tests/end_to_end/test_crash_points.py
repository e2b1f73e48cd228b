"""The worker is killed between commit and answer of a step: the next one finds what was done, and does not do it again."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from corral.api import Checkpoint, ReplicaGroup, State, Target
from tests.end_to_end.faulty_worker import died_after, dying_after
from tests.end_to_end.loads import a_process, a_workload, behaving
from tests.end_to_end.pools import QUEUES, LivePool, deaths_are_ordered, running_pool, started_twice
from tests.servers import PostgresServer

SLOWLY = 20
"""How much faster than the wall's the time runs: a hold must not expire while worker after worker is started."""
PATIENTLY = 300
"""Seconds; an attempt that did not arrive must be tried again, however long workers take to start, before it is given up."""
FOR_EVER = 1e6
WHOLE_NODE = {"targets": (Target(skus=("l4",)),), "groups": (ReplicaGroup(accelerators=4),)}


def log_of(pool: LivePool) -> Path:
    return pool.settings.state_dir / "started"


async def die_after_admit(pool: LivePool) -> None:
    await pool.corral.submit(a_workload("killed-in-admit"))


async def die_after_begin(pool: LivePool) -> None:
    await pool.corral.submit(a_process("real-begin", f"echo $CORRAL_ATTEMPT >> {log_of(pool)}; sleep 2"))


async def die_after_bind(pool: LivePool) -> None:
    await pool.corral.submit(a_process("real-bind", f"echo $CORRAL_ATTEMPT >> {log_of(pool)}; sleep 2"))


async def die_after_round(pool: LivePool) -> None:
    """It has to wait for the node, so that it is the planner who places it."""
    await pool.corral.submit(a_workload("in-their-way", parameters=behaving(FOR_EVER), **WHOLE_NODE))
    await pool.until("in-their-way", State.RUNNING)
    await pool.corral.submit(a_workload("placed-by-round", parameters=behaving(20), **WHOLE_NODE))
    await pool.until("placed-by-round", State.WAITING)
    await pool.corral.cancel("in-their-way")


async def die_after_stop(pool: LivePool) -> None:
    heeds = behaving(FOR_EVER, checkpoint_seconds=20)
    await pool.corral.submit(a_workload("killed-in-stop", parameters=heeds, checkpoint=Checkpoint(grace_seconds=100)))
    await pool.until("killed-in-stop", State.RUNNING)
    await pool.corral.cancel("killed-in-stop")


async def die_after_settle(pool: LivePool) -> None:
    await pool.corral.submit(a_workload("killed-in-settle"))


STEPS = {
    "admit": die_after_admit,
    "begin": die_after_begin,
    "bind": die_after_bind,
    "settle": die_after_settle,
    "round": die_after_round,
    "stop": die_after_stop,
}


@pytest.fixture(scope="module")
async def pool(postgres: PostgresServer, temporal: str) -> AsyncIterator[LivePool]:
    """A pool in which a worker died at each of the steps, and in which all workloads have ended since.

    One after the other: a death strikes whatever else that worker has in hand, and what it had done and not yet answered for
    is found done by the next one, who has no reason to do that step.
    """
    with deaths_are_ordered():
        async with running_pool(postgres, temporal, "faulty", speed=SLOWLY, reconcile_seconds=PATIENTLY) as pool:
            await pool.start_worker(*dying_after(*STEPS))
            pool.remember_launches()
            await pool.corral.apply_queues(QUEUES)
            for step, die in STEPS.items():
                await die(pool)
                await died_after(pool, step)
            await pool.until_closed(row["id"] for row in await pool.rows("SELECT id FROM workloads"))
            yield pool


async def said_of(pool: LivePool, workload: str) -> list[str]:
    return [event.kind for event in await pool.corral.events(workload) if event.kind != "explained"]


def is_a_plain_life(said: list[str]) -> bool:
    """Each step was said once; of those that were over before a worker could see them, nothing was."""
    steps = ["submitted", "reserved", "starting", "running", "succeeded"]
    return said == [step for step in steps if step in said] and {"submitted", "reserved", "succeeded"} <= set(said)


async def test_every_workload_has_one_attempt_and_one_launch(pool: LivePool) -> None:
    attempts = await pool.rows("SELECT workload_id, count(*) AS number FROM attempts GROUP BY workload_id")
    assert {row["workload_id"]: row["number"] for row in attempts if row["number"] != 1} == {}
    launches = {attempt: len(times) for attempt, times in pool.launches().items()}
    simulated = await pool.rows("SELECT id FROM attempts WHERE provider = $1", pool.simulator)
    assert launches == {row["id"]: 1 for row in simulated}


async def test_an_attempt_has_one_process(pool: LivePool) -> None:
    assert sorted(log_of(pool).read_text().split()) == ["real-begin.1", "real-bind.1"]
    assert started_twice(log_of(pool)) == []


async def test_a_workload_is_admitted_once(pool: LivePool) -> None:
    assert is_a_plain_life(await said_of(pool, "killed-in-admit"))


async def test_a_placement_that_nobody_was_told_of_is_found_in_the_outbox(pool: LivePool) -> None:
    assert (await pool.corral.wait("placed-by-round")).state is State.SUCCEEDED
    told = await pool.rows("SELECT delivered FROM outbox WHERE workload_id = 'placed-by-round' ORDER BY id")
    assert told
    assert all(row["delivered"] for row in told)


async def test_notice_is_given_once_and_heeded(pool: LivePool) -> None:
    (attempt,) = await pool.attempts("killed-in-stop")
    assert (await pool.corral.wait("killed-in-stop")).state is State.CANCELLED
    assert attempt["reason"] == "stopped with its work saved"
    assert attempt["outcome"] == "cancelled"


async def test_an_end_is_believed_once(pool: LivePool) -> None:
    assert is_a_plain_life(await said_of(pool, "killed-in-settle"))


async def test_nothing_is_left_over(pool: LivePool) -> None:
    assert await pool.audit() == []
    assert await pool.rows("SELECT attempt_id FROM allocations WHERE phase <> 'released'") == []
    assert await pool.simulated_now() == {}
