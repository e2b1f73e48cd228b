"""A fleet grows for work that waits, though the worker dies when it has asked for nodes; and shrinks again."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing

import pytest

from corral.api import DeliveryState, NodePoolStatus, QuotaSpec, ReplicaGroup, State
from corral.policy import Growth
from tests.end_to_end.faulty_worker import died_after, dying_after
from tests.end_to_end.leaving import FOR_EVER, is_in_order, whole_node
from tests.end_to_end.loads import behaving
from tests.end_to_end.pools import QUEUES, WITHOUT_PROMISES, LivePool, deaths_are_ordered, eventually, running_pool
from tests.patience import PATIENCE_SECONDS
from tests.servers import PostgresServer

RULES = Growth(dollars_per_hour=1.0, up_window_seconds=5, down_window_seconds=60, give_up_seconds=30_000)


@pytest.fixture(scope="module")
async def growing(postgres: PostgresServer, temporal: str) -> AsyncIterator[LivePool]:
    """A pool whose worker dies once, when its provider has taken the first order."""
    with deaths_are_ordered():
        async with running_pool(postgres, temporal, "growing", also={"growth_seconds": 0.5}) as pool:
            await pool.start_worker(*dying_after("provision"))
            pool.remember_launches()
            cells = next(queue for queue in QUEUES.queues if queue.name == "cells")
            more = tuple(QuotaSpec(sku=sku, nominal=100) for sku in ("gh200", "gb300"))
            wider = cells.model_copy(update={"quotas": (*cells.quotas, *more)})
            await pool.corral.apply_queues(QUEUES.model_copy(update={"queues": (wider,)}))
            await pool.corral.apply_policy(WITHOUT_PROMISES.model_copy(update={"growth": RULES}))
            yield pool


async def of(pool: LivePool, name: str) -> NodePoolStatus:
    (found,) = [each for each in await pool.corral.node_pools() if each.id == f"{pool.simulator}/{name}"]
    return found


def ordered(pool: LivePool) -> list[str]:
    """Every order that the simulated provider ever took."""
    with closing(sqlite3.connect(pool.directory / f"{pool.simulator}.sqlite", timeout=PATIENCE_SECONDS)) as file:
        return [subject for (subject,) in file.execute("SELECT subject FROM change WHERE kind = 'ordered'")]


async def test_nodes_come_once_though_the_worker_dies_and_leave_when_nobody_uses_them(growing: LivePool) -> None:
    pool = growing
    await eventually(lambda: pool.value("SELECT count(*) = 2 FROM node_pools"), "the node pools are known")
    gang = (ReplicaGroup(count=2, accelerators=4),)
    await pool.corral.submit(whole_node("growing-gang", "gh200", groups=gang, parameters=behaving(FOR_EVER)))
    await died_after(pool, "provision")
    await pool.until("growing-gang", State.RUNNING)

    burst = f"{pool.simulator}/burst"
    assert ordered(pool) == [f"{burst}-1"]
    (order,) = await pool.corral.provisionings()
    assert (order.nodes, order.why) == (2, "for growing-gang")
    assert (await of(pool, "burst")).nodes == 2

    await pool.corral.cancel("growing-gang")
    await pool.until_closed(["growing-gang"])

    async def all_are_gone() -> bool:
        world = await pool.second_simulator()
        try:
            nodes = [node for node in (await world.snapshot()).nodes if node.provisioning]
        finally:
            await world.aclose()
        return not nodes and (await of(pool, "burst")).nodes == 0

    await eventually(all_are_gone, "the nodes are given back")
    (order,) = await pool.corral.provisionings()
    assert (order.state, order.arrived) == (DeliveryState.ARRIVED, 2)
    await is_in_order(pool)


async def test_a_pool_whose_provider_has_nothing_left_is_asked_again_later(growing: LivePool) -> None:
    pool = growing
    await pool.corral.submit(whole_node("growing-in-vain", "gb300", parameters=behaving(10)))

    async def is_paused() -> bool:
        return (await of(pool, "scarce")).paused_until is not None

    await eventually(is_paused, "the scarce pool is left alone")
    scarce = await of(pool, "scarce")
    assert scarce.failure == "node pool scarce has no node left of 0"
    assert (scarce.nodes, scarce.coming) == (0, 0)
    await pool.corral.cancel("growing-in-vain")
