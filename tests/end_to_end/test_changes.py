"""What people ask of workloads and nodes of a live pool, and what comes of it."""

import asyncio

import pytest

from corral.api import Cordon, ReplicaGroup, Resize, State, Target
from corral.client import Conflict, Invalid, NotFound
from tests.end_to_end.loads import a_workload, behaving
from tests.end_to_end.pools import LivePool, eventually

FOR_EVER = 1e6


async def test_held_work_stops_with_its_work_saved_and_goes_on_when_released(pool: LivePool) -> None:
    await pool.corral.submit(a_workload("pausing", parameters=behaving(FOR_EVER)))
    await pool.until("pausing", State.RUNNING)

    await pool.corral.hold("pausing", "the results look odd")
    await pool.until("pausing", State.SUSPENDED)
    assert await pool.has_nothing_of("pausing")
    await pool.corral.release("pausing")

    await pool.until("pausing", State.RUNNING)
    assert [attempt["outcome"] for attempt in await pool.attempts("pausing")] == ["suspended", None]
    await pool.corral.cancel("pausing")


async def test_a_held_workload_waits_in_no_line(pool: LivePool) -> None:
    await pool.corral.submit(a_workload("aside", queue="closed"))
    assert (await pool.corral.hold("aside")).state is State.SUSPENDED
    with pytest.raises(Conflict, match="hold needs it to be"):
        await pool.corral.hold("aside")
    assert (await pool.corral.release("aside")).state is State.WAITING
    await pool.corral.cancel("aside")


async def test_a_waiting_workload_is_resized(pool: LivePool) -> None:
    two_nodes = (ReplicaGroup(count=2, accelerators=4),)
    await pool.corral.submit(a_workload("too-large", queue="closed", groups=two_nodes))
    await pool.until("too-large", State.WAITING)
    await pool.corral.resize("too-large", Resize(count=1))
    spec = await pool.value("SELECT spec -> 'groups' -> 0 ->> 'count' FROM workloads WHERE id = 'too-large'")
    assert spec == "1"
    with pytest.raises(Conflict, match="minimum 5 exceeds count 2"):
        await pool.corral.resize("too-large", Resize(count=2, minimum=5))
    await pool.corral.cancel("too-large")


async def test_running_work_keeps_its_size(pool: LivePool) -> None:
    await pool.corral.submit(a_workload("settled", parameters=behaving(FOR_EVER)))
    await pool.until("settled", State.RUNNING)
    with pytest.raises(Conflict, match="expected an endpoint"):
        await pool.corral.resize("settled", Resize(count=2))
    await pool.corral.cancel("settled")


async def test_the_higher_priority_goes_first(pool: LivePool) -> None:
    whole = {"targets": (Target(skus=("t4",)),), "groups": (ReplicaGroup(count=2, accelerators=2),)}
    await pool.corral.submit(a_workload("in-the-way", parameters=behaving(FOR_EVER), **whole))
    await pool.until("in-the-way", State.RUNNING)
    for name in ("first-come", "last-come"):
        await pool.corral.submit(a_workload(name, priority=-1, parameters=behaving(50), **whole))
    await pool.corral.reprioritize("last-come", 0)
    await pool.corral.cancel("in-the-way")
    await asyncio.gather(pool.corral.wait("first-come"), pool.corral.wait("last-come"))
    began = await pool.rows("SELECT workload_id FROM attempts WHERE workload_id LIKE '%-come' ORDER BY bound_at")
    assert [row["workload_id"] for row in began] == ["last-come", "first-come"]


async def test_a_change_asked_for_again_with_its_key_is_done_once(pool: LivePool) -> None:
    await pool.corral.submit(a_workload("once", queue="closed"))
    first = await pool.corral.reprioritize("once", 7, key="k")
    assert await pool.corral.reprioritize("once", 7, key="k") == first
    events = [event for event in await pool.corral.events("once") if event.kind == "reprioritized"]
    assert len(events) == 1
    await pool.corral.cancel("once")


async def test_what_has_ended_or_never_was_takes_no_change(pool: LivePool) -> None:
    await pool.corral.submit(a_workload("over"))
    await pool.corral.wait("over")
    with pytest.raises(NotFound, match="over"):
        await pool.corral.cancel("over")
    with pytest.raises(NotFound, match="never-was"):
        await pool.corral.cancel("never-was")
    with pytest.raises(NotFound, match="never-was"):
        await pool.corral.status("never-was")


async def test_the_runtime_is_limited(pool: LivePool) -> None:
    await pool.corral.submit(a_workload("endless", parameters=behaving(FOR_EVER), maximum_runtime_seconds=150))
    assert (await pool.corral.wait("endless")).state is State.FAILED
    (attempt,) = await pool.attempts("endless")
    assert attempt["outcome"] == "out-of-time"


async def test_a_drained_node_empties_itself_and_comes_back(pool: LivePool) -> None:
    v100 = {"targets": (Target(skus=("v100",)),), "groups": (ReplicaGroup(accelerators=4),)}
    await pool.corral.submit(a_workload("moving", parameters=behaving(FOR_EVER, checkpoint_every_seconds=10), **v100))
    status = await pool.until("moving", State.RUNNING)
    assert status.where
    (node,) = status.where.nodes

    await pool.corral.cordon(pool.simulator, Cordon(action="drain", nodes=(node,), reason="new firmware"))

    async def elsewhere() -> bool:
        now = await pool.corral.status("moving")
        return now.state is State.RUNNING and now.where is not None and node not in now.where.nodes

    await eventually(elsewhere, "it runs on another node")
    (drained,) = [each for each in await pool.corral.nodes() if each.id == node]
    assert (drained.health, drained.used, drained.reason) == ("draining", 0, "new firmware")

    await pool.corral.submit(a_workload("patient", **v100))
    await pool.until("patient", State.WAITING)
    await pool.corral.cordon(pool.simulator, Cordon(action="uncordon", nodes=(node,), reason="done"))
    assert (await pool.corral.wait("patient")).state is State.SUCCEEDED
    await pool.corral.cancel("moving")
    await pool.until_closed(["moving"])


async def test_a_cordoned_node_keeps_what_it_runs(pool: LivePool) -> None:
    on_l4 = {"targets": (Target(skus=("l4",)),), "groups": (ReplicaGroup(accelerators=1),)}
    await pool.corral.submit(a_workload("staying", parameters=behaving(FOR_EVER), **on_l4))
    status = await pool.until("staying", State.RUNNING)
    assert status.where
    await pool.corral.cordon(pool.simulator, Cordon(action="cordon", nodes=tuple(status.where.nodes), reason="looks ill"))
    await pool.corral.submit(a_workload("outside", **on_l4))
    await pool.until("outside", State.WAITING)
    await pool.corral.cordon(pool.simulator, Cordon(action="uncordon", nodes=tuple(status.where.nodes), reason="was not"))
    assert (await pool.corral.wait("outside")).state is State.SUCCEEDED
    (attempt,) = await pool.attempts("staying")
    assert (attempt["ended_at"], attempt["notice"]) == (None, 0)
    await pool.corral.cancel("staying")


async def test_nodes_that_are_not_there_are_named(pool: LivePool) -> None:
    order = Cordon(action="drain", nodes=("e1-l4-0000", "no-such-node"), reason="test")
    with pytest.raises((Invalid, NotFound), match="no-such-node"):
        await pool.corral.cordon(pool.simulator, order)
    assert {node.health for node in await pool.corral.nodes() if node.sku == "l4"} == {"ready"}
    with pytest.raises(NotFound, match="no-such-provider"):
        await pool.corral.cordon("no-such-provider", order)
