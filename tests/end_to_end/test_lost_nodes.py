"""Nodes that are lost: their work goes on elsewhere, as a new attempt."""

from corral.api import ReplicaGroup, State, Target
from tests.end_to_end.loads import a_workload, behaving
from tests.end_to_end.pools import LivePool, eventually


async def test_a_gang_that_lost_a_node_starts_anew_elsewhere_and_goes_on_from_its_checkpoint(pool: LivePool) -> None:
    v100 = {"targets": (Target(skus=("v100",)),), "groups": (ReplicaGroup(accelerators=4),)}
    spec = a_workload("surviving", parameters=behaving(1e6, checkpoint_every_seconds=50), **v100)
    await pool.corral.submit(spec)
    status = await pool.until("surviving", State.RUNNING)
    assert status.where
    (node,) = status.where.nodes
    name = node.partition("/")[2]
    world = await pool.second_simulator()
    try:
        await world.lose_node(name)

        async def elsewhere() -> bool:
            now = await pool.corral.status("surviving")
            return now.epoch == 2 and now.state is State.RUNNING

        await eventually(elsewhere, "it runs elsewhere")
        (lost,) = [each for each in await pool.corral.nodes() if each.id == node]
        assert lost.health == "suspect"
        assert lost.used == 0
        await pool.corral.cancel("surviving")
        await pool.until_closed(["surviving"])
    finally:
        await world.recover_node(name)
        await world.aclose()
    first, second = await pool.attempts("surviving")
    assert (first["outcome"], second["outcome"]) == ("lost", "cancelled")
    booked = await pool.rows("SELECT node_id FROM allocations WHERE attempt_id = $1", second["id"])
    assert [row["node_id"] for row in booked] != [node]

    async def is_back() -> bool:
        return {each.health for each in await pool.corral.nodes() if each.sku == "v100"} == {"ready"}

    await eventually(is_back, "the node is back")
    assert await pool.audit() == []
