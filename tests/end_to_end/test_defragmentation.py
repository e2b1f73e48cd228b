"""Work moves for nobody's sake in a pool at work, though the worker is killed right after it was decided."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from corral.api import Checkpoint, ReplicaGroup, SlaTier, State, Target, WorkloadSpec
from tests.end_to_end.faulty_worker import dying_after, has_died_after
from tests.end_to_end.loads import a_workload, behaving
from tests.end_to_end.pools import QUEUES, LivePool, deaths_are_ordered, eventually, oversubscribed, running_pool
from tests.servers import PostgresServer

SLOWLY = 20
PATIENTLY = 30
FOR_EVER = 1e6


@pytest.fixture(scope="module")
async def pool(postgres: PostgresServer, temporal: str) -> AsyncIterator[LivePool]:
    """A pool whose worker dies once, when it has committed a move."""
    with deaths_are_ordered():
        async with running_pool(postgres, temporal, "scattered", speed=SLOWLY, reconcile_seconds=PATIENTLY) as pool:
            await pool.start_worker(*dying_after("reshape"))
            pool.remember_launches()
            await pool.corral.apply_queues(QUEUES)
            yield pool


def small(id: str, **more: Any) -> WorkloadSpec:
    """Half a node, for work that saves its state now and then."""
    heeds = behaving(FOR_EVER, checkpoint_every_seconds=50)
    given: dict[str, Any] = {
        "tier": SlaTier.BASIC,
        "priority": 1,
        "parameters": heeds,
        "groups": (ReplicaGroup(accelerators=2),),
    }
    given |= {"checkpoint": Checkpoint(grace_seconds=100)}
    return a_workload(id, queue="cells", targets=(Target(skus=("v100",)),), **(given | more))


async def test_two_halves_come_together_and_low_work_that_needs_a_whole_node_runs(pool: LivePool) -> None:
    ids = ["leaves", "one-reshape", "two-reshape"]
    for id in ids:
        await pool.corral.submit(small(id))
        await pool.until(id, State.RUNNING)
    await pool.corral.cancel("leaves")
    await pool.until("leaves", State.CANCELLED)

    whole = {"priority": 0, "groups": (ReplicaGroup(accelerators=4),), "parameters": behaving(20)}
    await pool.corral.submit(small("whole-node", **whole))
    await pool.until("whole-node", State.SUCCEEDED)

    assert has_died_after(pool.settings.state_dir, "reshape")
    moved = [id for id in ids[1:] if [row["outcome"] for row in await pool.attempts(id)] == ["migrated", None]]
    assert len(moved) == 1, "one of them moves, the other one stays"
    told = {event.kind: event.message for event in await pool.corral.events(moved[0])}
    assert "so that more of what is free can be used" in told["migrate"]
    await pool.until(moved[0], State.RUNNING)
    assert [(await pool.corral.status(id)).preemptions for id in ids] == [0, 0, 0]
    assert await pool.audit() == []
    assert await oversubscribed(pool) == []
    assert {attempt: len(times) for attempt, times in pool.launches().items() if len(times) > 1} == {}
    for id in ids[1:]:
        await pool.corral.cancel(id)
    await pool.until_closed([*ids, "whole-node"])
    await eventually(lambda: is_empty(pool), "nothing is left at the provider")


async def is_empty(pool: LivePool) -> bool:
    return await pool.simulated_now() == {}
