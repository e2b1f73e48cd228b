"""Work that is shrunk, moved or let grow goes on in its new shape, though the worker is killed at each step on the way."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from corral.api import Checkpoint, QueueTree, ReplicaGroup, State, Target, WorkloadSpec
from tests.end_to_end.faulty_worker import died_after, dying_after
from tests.end_to_end.loads import a_workload, behaving
from tests.end_to_end.pools import LivePool, deaths_are_ordered, eventually, oversubscribed, running_pool
from tests.servers import PostgresServer

SLOWLY = 20
"""How much faster than the wall's the time runs: a hold must not expire while worker after worker is started."""
PATIENTLY = 30
"""Seconds; before an attempt is given up that did not arrive, it must have been tried again."""
FOR_EVER = 1e6

DIVIDED = QueueTree.model_validate(
    {
        "queues": [
            {"name": "company"},
            {"name": "guests", "parent": "company", "quotas": [{"sku": sku, "nominal": 2} for sku in ("l4", "t4", "v100")]},
            {"name": "owners", "parent": "company", "quotas": [{"sku": sku, "nominal": 4} for sku in ("l4", "t4", "v100")]},
        ]
    }
)


def an_elastic(id: str, sku: str, **more: Any) -> WorkloadSpec:
    """Four replicas, content with two, in a queue that owns two accelerators; it saves its work on notice."""
    group = ReplicaGroup(count=4, minimum=2, accelerators=1)
    return guest(id, sku, groups=(group,), **more)


def guest(id: str, sku: str, **more: Any) -> WorkloadSpec:
    heeds = behaving(FOR_EVER, checkpoint_seconds=20)
    given = {
        "queue": "guests",
        "targets": (Target(skus=(sku,)),),
        "parameters": heeds,
        "checkpoint": Checkpoint(grace_seconds=100),
    }
    return a_workload(id, **(given | more))


def owner(id: str, sku: str, accelerators: int, **more: Any) -> WorkloadSpec:
    group = ReplicaGroup(accelerators=accelerators)
    return a_workload(id, queue="owners", targets=(Target(skus=(sku,)),), groups=(group,), **more)


@pytest.fixture(scope="module")
async def pool(postgres: PostgresServer, temporal: str) -> AsyncIterator[LivePool]:
    """A pool that divides itself by deserved quota, and whose worker dies once at each step of a reshape."""
    with deaths_are_ordered():
        chosen: dict[str, Any] = {"speed": SLOWLY, "reconcile_seconds": PATIENTLY, "policy": "kai-like"}
        async with running_pool(postgres, temporal, "reshaped", **chosen) as pool:
            await pool.start_worker(*dying_after("reshape", "settle", "stop", "spare"))
            pool.remember_launches()
            await pool.corral.apply_queues(DIVIDED)
            yield pool


async def sizes(pool: LivePool, workload: str) -> list[tuple[str | None, int]]:
    """The workload's attempts: how each ended, and with how many replicas it ran."""
    return [(row["outcome"], row["replicas"]) for row in await pool.attempts(workload)]


async def is_in_order(pool: LivePool) -> None:
    """The record has no breach, no device ran more than it has, and no attempt was launched twice."""
    assert await pool.audit() == []
    assert await oversubscribed(pool) == []
    assert {attempt: len(times) for attempt, times in pool.launches().items() if len(times) > 1} == {}


@pytest.mark.parametrize(("sku", "step"), [("l4", "reshape"), ("t4", "settle")])
async def test_an_elastic_workload_makes_room_for_an_owner_and_grows_again(pool: LivePool, sku: str, step: str) -> None:
    elastic, owned = f"elastic-{step}", f"owner-{sku}"
    await pool.corral.submit(an_elastic(elastic, sku))
    await pool.until(elastic, State.RUNNING)
    await pool.corral.submit(owner(owned, sku, 2, parameters=behaving(FOR_EVER)))
    await died_after(pool, step)

    await pool.until(owned, State.RUNNING)
    await eventually(lambda: goes_on_with(pool, elastic, 2), f"{elastic} goes on with two replicas")
    await is_in_order(pool)
    (first, second) = await sizes(pool, elastic)
    assert (first, second) == (("resized", 4), (None, 2))
    assert (await pool.corral.status(elastic)).preemptions == 0

    await pool.corral.cancel(owned)
    await eventually(lambda: goes_on_with(pool, elastic, 4), f"{elastic} grows again")
    await is_in_order(pool)
    await pool.corral.cancel(elastic)
    await pool.until_closed([elastic, owned])


async def goes_on_with(pool: LivePool, workload: str, replicas: int) -> bool:
    last = (await pool.attempts(workload))[-1]
    return last["started_at"] is not None and last["ended_at"] is None and last["replicas"] == replicas


async def test_what_was_to_shrink_keeps_its_size_when_whoever_needed_room_is_gone(pool: LivePool) -> None:
    slow = behaving(FOR_EVER, ignore_notice="true")
    unhurried = {"parameters": slow, "checkpoint": Checkpoint(grace_seconds=3_600)}
    await pool.corral.submit(an_elastic("elastic-spare", "l4", **unhurried))
    await pool.until("elastic-spare", State.RUNNING)
    await pool.corral.submit(owner("owner-gone", "l4", 2, parameters=behaving(FOR_EVER)))
    await pool.until("elastic-spare", State.STOPPING)
    assert (await pool.corral.status("elastic-spare")).next_where is not None

    await pool.corral.cancel("owner-gone")
    await died_after(pool, "spare")

    await eventually(lambda: is_kept(pool, "elastic-spare"), "the provider has taken the notice back")
    assert await sizes(pool, "elastic-spare") == [(None, 4)]
    assert (await pool.simulated_now())["elastic-spare.1"] == "running"
    status = await pool.corral.status("elastic-spare")
    assert (status.state, status.next_where) == (State.RUNNING, None)
    await is_in_order(pool)
    await pool.corral.cancel("elastic-spare")
    await (await pool.second_simulator()).release("elastic-spare.1", 1)
    await pool.until_closed(["elastic-spare", "owner-gone"])


async def is_kept(pool: LivePool, workload: str) -> bool:
    return bool(await pool.rows("SELECT 1 FROM events WHERE workload_id = $1 AND kind = 'kept'", workload))


async def test_work_moves_together_so_that_a_whole_node_is_free(pool: LivePool) -> None:
    halves = {"groups": (ReplicaGroup(accelerators=2),)}
    await pool.corral.submit(guest("gone", "v100", **halves))
    await pool.until("gone", State.RUNNING)
    await pool.corral.submit(guest("one-stop", "v100", **halves))
    await pool.until("one-stop", State.RUNNING)
    await pool.corral.submit(guest("two-stop", "v100", **halves))
    await pool.until("two-stop", State.RUNNING)
    await pool.corral.cancel("gone")
    await pool.until("gone", State.CANCELLED)

    await pool.corral.submit(owner("whole", "v100", 4, parameters=behaving(20)))
    await died_after(pool, "stop")
    await pool.until("whole", State.SUCCEEDED)

    moved = [id for id in ("one-stop", "two-stop") if (await sizes(pool, id))[0] == ("migrated", 1)]
    assert len(moved) == 1, "one of them makes room, the other one stays"
    kinds = [event.kind for event in await pool.corral.events(moved[0])]
    assert kinds[4:9] == ["migrate", "stopping", "reserving", "reserved", "starting"]
    await pool.until(moved[0], State.RUNNING)
    places = [set((await pool.corral.status(id)).where.nodes) for id in ("one-stop", "two-stop")]  # type: ignore[union-attr]
    assert places[0] == places[1]
    await is_in_order(pool)
    for id in ("one-stop", "two-stop"):
        await pool.corral.cancel(id)
    await pool.until_closed(["one-stop", "two-stop", "whole", "gone"])
    assert await pool.simulated_now() == {}
