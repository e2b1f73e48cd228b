"""A cluster that is cut off: its gang goes on elsewhere, though the worker dies at each step of losing it and of its return."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from corral.api import ClusterStatus, ReplicaGroup, State
from tests.end_to_end.faulty_worker import died_after, dying_after
from tests.end_to_end.leaving import is_in_order, until_state
from tests.end_to_end.loads import a_gang
from tests.end_to_end.pools import QUEUES, SPEED, LivePool, deaths_are_ordered, eventually, running_pool
from tests.servers import PostgresServer

GANG = "gang-released"
"""The worker dies when it has released it where it was lost, before it can note that."""
LEASE, MARGIN = 40.0, 0.4
"""Seconds of the wall; long enough for another worker to take over before the cluster that answers has to stop its work."""
STEPS = ("suspect", "lost", "released")

FLEET = """
providers:
  - name: cut-sim
    kind: simulated
    regions:
      - name: east
        clusters:
          - {name: e1, nodes: [{sku: h100, count: 2, accelerators: 8, nodes_per_rack: 2}]}
          - {name: e2, nodes: [{sku: h100, count: 2, accelerators: 8, nodes_per_rack: 2, price: 9000000}]}
"""


@pytest.fixture
async def pool(postgres: PostgresServer, temporal: str, tmp_path: Path) -> AsyncIterator[LivePool]:
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(FLEET)
    leases = {
        "lease_seconds": LEASE,
        "lease_grace_seconds": MARGIN / 2,
        "lease_skew_seconds": MARGIN / 2,
        "suspect_seconds": 1.5,
    }
    with deaths_are_ordered():
        async with running_pool(postgres, temporal, "cut", {"fleet_file": fleet, **leases}) as pool:
            await pool.start_worker(*dying_after(*STEPS))
            pool.remember_launches()
            await pool.corral.apply_queues(QUEUES)
            yield pool


async def the_cluster(pool: LivePool) -> ClusterStatus:
    return next(each for each in await pool.corral.clusters() if each.cluster == "e1")


async def until_cluster(pool: LivePool, *states: str) -> None:
    async def look() -> bool:
        return bool(await pool.rows("SELECT 1 FROM clusters WHERE name = 'e1' AND reach = ANY($1)", list(states)))

    await eventually(look, f"the cluster is {' or '.join(states)}")


async def has_a_lease(pool: LivePool) -> bool:
    return bool(await pool.rows("SELECT 1 FROM clusters WHERE name = 'e1' AND heard_at IS NOT NULL"))


async def test_a_gang_goes_on_elsewhere_when_its_cluster_is_lost_and_the_cluster_is_used_again(pool: LivePool) -> None:
    await pool.corral.submit(a_gang(GANG, 20_000, groups=(ReplicaGroup(count=2, accelerators=8),)))
    assert (where := (await pool.until(GANG, State.RUNNING)).where) is not None
    assert where.cluster == "e1"
    await eventually(lambda: has_a_lease(pool), "it has answered, and so may be lost")
    world = await pool.second_simulator()
    try:
        await world.cut_cluster("east/e1")
        await died_after(pool, "suspect")
        await died_after(pool, "lost")
        (lease_over,) = await pool.rows("SELECT extract(epoch FROM until) AS at FROM clusters WHERE name = 'e1'")

        async def runs_elsewhere() -> bool:
            attempts = await pool.attempts(GANG)
            return [(row["epoch"], row["cluster"]) for row in attempts if row["started_at"]] == [(1, "e1"), (2, "e2")]

        await eventually(runs_elsewhere, "it runs elsewhere")
        (launch,) = pool.launches()[f"{GANG}.2"]
        assert launch["launched_at"] >= float(lease_over["at"]) + MARGIN * SPEED, "the first one had stopped by then"
        status = await the_cluster(pool)
        assert (status.state, status.losses, status.unreleased) == ("lost", 1, 1)

        await world.join_cluster("east/e1")
        await died_after(pool, "released")
        await until_cluster(pool, "reachable")
    finally:
        await world.aclose()
    first, second = await pool.attempts(GANG)
    assert (first["outcome"], second["ended_at"]) == ("lost", None)
    assert (await pool.simulated_now()) == {f"{GANG}.2": "running"}
    states = [note.state for note in (await the_cluster(pool)).trail]
    assert states == ["suspect", "lost", "returned", "reachable"]
    await pool.corral.submit(a_gang("another-gang", 100))
    await until_state(pool, "another-gang", State.SUCCEEDED)
    assert (await pool.attempts("another-gang"))[0]["cluster"] == "e1", "its capacity is used again"
    await pool.corral.cancel(GANG, key="over")
    await until_state(pool, GANG, State.CANCELLED)
    await is_in_order(pool)
