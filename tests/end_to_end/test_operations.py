"""Evacuations and roll-outs on a live pool come to their ends, though the worker dies right after a step of theirs."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from corral.api import Checkpoint, EvacuationOrder, EvacuationState, OperationChange, PlaceKind, State
from corral.client import Conflict, NotFound
from corral.rollout import Change, Conditions, RolloutOrder, RolloutState
from corral.wire import Steering, evacuation_workflow_id
from tests.end_to_end.faulty_worker import died_after, dying_after
from tests.end_to_end.leaving import FOR_EVER, ends, is_in_order, until_state, whole_node
from tests.end_to_end.loads import behaving
from tests.end_to_end.pools import QUEUES, LivePool, deaths_are_ordered, eventually, running_pool
from tests.servers import PostgresServer

DEATHS = ("evacuate", "begun", "taken-back", "steered")
ENOUGH = OperationChange(who="ben", reason="not needed any more")


@pytest.fixture(scope="module")
async def emptied(postgres: PostgresServer, temporal: str) -> AsyncIterator[LivePool]:
    """A pool whose worker dies once after each of some steps: of an evacuation, and of roll-outs."""
    with deaths_are_ordered():
        async with running_pool(postgres, temporal, "emptied") as pool:
            await pool.start_worker(*dying_after(*DEATHS))
            pool.remember_launches()
            await pool.corral.apply_queues(QUEUES)
            yield pool


def an_order(id: str, node: str, **more: Any) -> EvacuationOrder:
    return EvacuationOrder(id=id, kind=PlaceKind.NODE, place=node, reason="new firmware", who="ada", **more)


async def node_of(pool: LivePool, workload: str) -> str:
    """The node on which the latest attempt of a workload has its room."""
    query = "SELECT node_id FROM allocations a JOIN workloads w ON a.attempt_id = w.id || '.' || w.epoch WHERE w.id = $1"
    node: str = await pool.value(query, workload)
    return node


async def health(pool: LivePool, node: str) -> str:
    (found,) = [each for each in await pool.corral.nodes() if each.id == node]
    return found.health


async def test_it_is_done_though_the_worker_dies_in_the_midst(emptied: LivePool) -> None:
    pool = emptied
    await pool.corral.submit(whole_node("emptied-moves", "v100", parameters=behaving(FOR_EVER, checkpoint_every_seconds=10)))
    await pool.until("emptied-moves", State.RUNNING)
    node = await node_of(pool, "emptied-moves")
    order = an_order("firmware-evacuate", node)

    (move,) = (await pool.corral.foresee_evacuation(order)).moves
    assert (move.workload, move.to) == ("emptied-moves", f"{pool.simulator}/east 4 v100")
    assert (await pool.corral.evacuate(order)).created
    await died_after(pool, "evacuate")

    assert not (await pool.corral.evacuate(order)).created
    status = await pool.corral.evacuated(order.id)
    assert (status.state, status.told, status.left) == (EvacuationState.DONE, 1, 0)
    await until_state(pool, "emptied-moves", State.RUNNING)
    assert await node_of(pool, "emptied-moves") != node
    assert [attempt["outcome"] for attempt in await pool.attempts("emptied-moves")] == ["drained", None]
    assert await health(pool, node) == "cordoned"
    await is_in_order(pool)
    await ends(pool, "emptied-moves", 2)


async def test_aborted_it_gives_the_node_back_and_the_id_stays_taken(emptied: LivePool) -> None:
    pool = emptied
    stubborn = behaving(FOR_EVER, ignore_notice="true")
    await pool.corral.submit(whole_node("emptied-stays", "l4", parameters=stubborn, checkpoint=Checkpoint(grace_seconds=3_600)))
    await pool.until("emptied-stays", State.RUNNING)
    node = await node_of(pool, "emptied-stays")
    await pool.corral.evacuate(an_order("mistake", node))
    await until_state(pool, "emptied-stays", State.STOPPING)
    assert await health(pool, node) == "cordoned"

    status = await pool.corral.steer_operation("mistake", Steering.ABORT, ENOUGH)
    assert status.state == EvacuationState.ABORTED
    assert (await pool.corral.evacuated("mistake")).version == status.version
    assert await health(pool, node) == "ready"
    with pytest.raises(Conflict, match="belongs to another operation"):
        await pool.corral.evacuate(an_order("mistake", node, at_once=2))
    with pytest.raises(NotFound, match="no operation 'mistake' under way"):
        await pool.corral.steer_operation("mistake", Steering.PAUSE, ENOUGH)
    await ends(pool, "emptied-stays", 1)


async def test_at_its_deadline_it_says_who_is_left(emptied: LivePool) -> None:
    pool = emptied
    stubborn = behaving(FOR_EVER, ignore_notice="true")
    await pool.corral.submit(
        whole_node("emptied-late", "a100", parameters=stubborn, checkpoint=Checkpoint(grace_seconds=3_600))
    )
    await pool.until("emptied-late", State.RUNNING)
    node = await node_of(pool, "emptied-late")
    await pool.corral.evacuate(an_order("late", node, deadline_seconds=600))
    status = await pool.corral.evacuated("late")
    assert (status.state, status.left, status.remaining) == (EvacuationState.OVERDUE, 1, ("emptied-late",))
    (listed, *_) = await pool.corral.evacuations()
    assert listed.order.id == "late"
    assert (await pool.corral.events("emptied-late"))[
        -1
    ].message == "still here at the deadline of evacuation late: new firmware"
    await ends(pool, "emptied-late", 1)


async def test_one_whose_workflow_was_terminated_goes_on_by_itself(emptied: LivePool) -> None:
    pool = emptied
    stubborn = {"parameters": behaving(FOR_EVER, ignore_notice="true"), "checkpoint": Checkpoint(grace_seconds=3_600)}
    await pool.corral.submit(whole_node("emptied-again", "t4", 2, **stubborn))
    await pool.until("emptied-again", State.RUNNING)
    order = an_order("again", await node_of(pool, "emptied-again"))
    await pool.corral.evacuate(order)
    await until_state(pool, "emptied-again", State.STOPPING)
    waits = asyncio.create_task(pool.corral.evacuated("again"))
    await pool.temporal.get_workflow_handle(evacuation_workflow_id("again")).terminate("a test asks for it")
    with pytest.raises(Conflict, match="moving"):
        await pool.corral.steer_operation("again", Steering.REJECT, ENOUGH)
    assert not (await pool.corral.evacuate(order)).created
    await ends(pool, "emptied-again", 1)
    status = await waits
    assert (status.state, status.told) == (EvacuationState.DONE, 1)
    assert [note.state for note in status.trail] == [EvacuationState.MOVING, EvacuationState.DONE]


async def test_a_place_that_is_not_there_is_said_to_be_none(emptied: LivePool) -> None:
    order = an_order("nowhere", "emptied-sim/no-such-node")
    with pytest.raises(NotFound, match="there is no node 'emptied-sim/no-such-node'"):
        await emptied.corral.foresee_evacuation(order)
    await emptied.corral.evacuate(order)
    with pytest.raises(NotFound, match="there is no node 'emptied-sim/no-such-node'"):
        await emptied.corral.evacuated("nowhere")


# Roll-outs


async def rolls_out(pool: LivePool, id: str, **more: Any) -> RolloutOrder:
    """Begin to roll out a policy that differs from the one in force by its name alone, on the token of a what-if."""
    (record,) = await pool.corral.policies(1)
    change = Change(policy=record.policy.model_copy(update={"name": id}))
    token = (await pool.corral.what_if(change)).token
    order = RolloutOrder(id=id, change=change, token=token, reason="a quiet night", who="ada", **more)
    assert (await pool.corral.roll_out(order)).created
    await eventually(lambda: is_in_force(pool, id), f"{id} is in force")
    return order


async def names(pool: LivePool) -> list[str]:
    """The policies that were in force, the one that is first."""
    return [record.policy.name for record in await pool.corral.policies(100)]


async def test_a_policy_is_in_force_once_though_the_worker_dies_when_it_has_applied_it(emptied: LivePool) -> None:
    pool, (before, *_) = emptied, await names(emptied)
    order = await rolls_out(pool, "calm-begun", watch_seconds=120)
    await died_after(pool, "begun")
    status = await pool.corral.rolled_out("calm-begun")
    assert (status.state, [note.state for note in status.trail]) == (
        RolloutState.DONE,
        ["watching", "done"],
    )
    assert (await names(pool))[:2] == ["calm-begun", before]
    assert not (await pool.corral.roll_out(order)).created
    assert (await pool.corral.operation("calm-begun")).state == RolloutState.DONE


async def test_it_is_taken_back_once_though_the_worker_dies_when_it_has_seen_the_breach(emptied: LivePool) -> None:
    pool, (before, *_) = emptied, await names(emptied)
    await rolls_out(pool, "calm-taken-back", conditions=Conditions(refused=0), watch_seconds=86_400)
    await pool.corral.submit(whole_node("emptied-never", "no-such-sku"))
    await until_state(pool, "emptied-never", State.REFUSED)
    await died_after(pool, "taken-back")
    status = await pool.corral.rolled_out("calm-taken-back")
    assert (status.state, status.trail[-1].reason) == (
        RolloutState.ROLLED_BACK,
        "1 workloads were refused, and at most 0 may",
    )
    assert (await names(pool))[:3] == [before, "calm-taken-back", before]


async def test_aborted_it_is_taken_back_once_though_the_worker_dies_then(emptied: LivePool) -> None:
    pool, (before, *_) = emptied, await names(emptied)
    await rolls_out(pool, "calm-steered", watch_seconds=86_400)
    status = await pool.corral.steer_operation("calm-steered", Steering.ABORT, ENOUGH, key="once")
    await died_after(pool, "steered")
    assert (status.state, status.trail[-1].who) == (RolloutState.ABORTED, "ben")
    assert (await pool.corral.rolled_out("calm-steered")).state is RolloutState.ABORTED
    assert (await names(pool))[:3] == [before, "calm-steered", before]


async def is_in_force(pool: LivePool, name: str) -> bool:
    return (await names(pool))[0] == name
