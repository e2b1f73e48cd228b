"""Asking providers for what the fleet's growth takes: once, whoever dies in between, and again when they did not answer."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.answers import FleetStep, StepKind
from activities.growing import Growing
from activities.ports import ProviderError
from activities.providers.sim import SimulatedProvider
from activities.providers.sim_fleet import (
    NodeShape,
    SimulatedCluster,
    SimulatedFaults,
    SimulatedFleet,
    SimulatedNodePool,
    SimulatedRegion,
)
from corral.api import DeliveryState
from corral.policy import Growth, PolicyOrder
from tests.activities.dying import death_after
from tests.activities.store.pool import PROVIDER, Pool, a_spec

ASK = FleetStep(StepKind.ASK, PROVIDER, ("aws/burst-1",))


def a_provider(directory: Path, pool: Pool, available: int | None = None, lost_answer: float = 0) -> SimulatedProvider:
    shape = NodeShape(sku="h100", count=1, price=1_000_000)
    cluster = SimulatedCluster(name="eu-1", nodes=(shape,))
    burst = SimulatedNodePool(
        name="burst", region="eu", cluster="eu-1", shape=shape, limit=4, available=available, lead_seconds=60
    )
    fleet = SimulatedFleet(regions=(SimulatedRegion(name="eu", clusters=(cluster,)),), node_pools=(burst,))
    faults = SimulatedFaults(lost_answer=lost_answer)
    return SimulatedProvider(directory / "world.sqlite", fleet, pool.clock, faults=faults, name=PROVIDER)


class Stage:
    """A pool in which two nodes are wanted, and the activities of a worker."""

    def __init__(self, pool: Pool, provider: SimulatedProvider) -> None:
        self.pool, self.provider = pool, provider
        self.worker = Growing(pool.store, {PROVIDER: provider}, look_seconds=0.01)
        self.activity = ActivityEnvironment()

    async def opens(self) -> None:
        await self.pool.gets()
        growth = Growth(dollars_per_hour=100.0, up_window_seconds=0, down_window_seconds=0)
        await self.pool.store.apply_policy(PolicyOrder(policy=self.pool.policy.model_copy(update={"growth": growth})))
        await self.sees()
        await self.pool.arrive(a_spec("w", gpus=8, count=3))

    async def sees(self) -> None:
        await self.pool.store.write_nodes(PROVIDER, (await self.provider.snapshot()).nodes, complete=True)
        await self.pool.store.write_node_pools(PROVIDER, await self.provider.node_pools())

    async def plans(self) -> list[FleetStep]:
        return await self.activity.run(self.worker.keep_planning, 0.02)

    async def carries_out(self, step: FleetStep) -> str:
        return await self.activity.run(self.worker.carry_out, step)

    async def order(self) -> tuple[DeliveryState, str]:
        (found,) = await self.pool.store.provisionings(10)
        return found.state, found.reason


@pytest.fixture
async def stage(tmp_path: Path, pool: Pool) -> AsyncIterator[Stage]:
    stage = Stage(pool, a_provider(tmp_path, pool))
    await stage.opens()
    yield stage
    await stage.provider.aclose()


async def test_a_worker_that_dies_when_it_has_asked_leaves_an_order_that_is_found_again(stage: Stage) -> None:
    assert await stage.plans() == [ASK]
    order = await stage.pool.store.order_to_ask("aws/burst-1")
    assert order is not None
    await stage.provider.provision(order)  # and the worker dies before it can write that down
    assert await stage.plans() == [ASK]
    assert await stage.carries_out(ASK) == "coming"
    assert [view.id for view in await stage.provider.provisionings()] == ["aws/burst-1"]
    assert await stage.plans() == []
    stage.pool.clock.move(60)
    await stage.sees()
    assert len((await stage.provider.snapshot()).nodes) == 3
    assert await stage.plans() == []
    assert await stage.order() == (DeliveryState.ARRIVED, "")


async def test_nodes_that_nobody_wants_any_more_are_taken_away(stage: Stage) -> None:
    await stage.plans()
    await stage.carries_out(ASK)
    stage.pool.clock.move(60)
    await stage.sees()
    await stage.pool.plan()
    assert await stage.plans() == []
    await stage.pool.adjusts("cancel", "w")
    (step,) = await stage.plans()
    assert (step.kind, len(step.subjects)) == (StepKind.GIVE_BACK, 2)
    assert await stage.carries_out(step) == "2 nodes given back"
    assert len((await stage.provider.snapshot()).nodes) == 1
    assert await stage.carries_out(step) == "0 nodes given back"
    assert await stage.plans() == []


async def test_a_refusal_closes_the_order_and_it_is_abandoned(tmp_path: Path, pool: Pool) -> None:
    stage = Stage(pool, a_provider(tmp_path, pool, available=0))
    await stage.opens()
    await stage.plans()
    reason = "node pool burst has no node left of 0"
    assert await stage.carries_out(ASK) == f"refused: {reason}"
    assert await stage.order() == (DeliveryState.FAILED, reason)
    (abandon,) = await stage.plans()
    assert abandon == FleetStep(StepKind.ABANDON, PROVIDER, ("aws/burst-1",))
    await stage.carries_out(abandon)
    assert await stage.carries_out(ASK) == "it is over"
    assert await stage.plans() == []
    await stage.provider.aclose()


@pytest.mark.parametrize("call", ["abandon", "order_abandoned"])
async def test_an_order_is_abandoned_though_the_worker_dies_as_it_does_that(tmp_path: Path, pool: Pool, call: str) -> None:
    stage = Stage(pool, a_provider(tmp_path, pool, available=0))
    await stage.opens()
    await stage.plans()
    await stage.carries_out(ASK)
    (abandon,) = await stage.plans()
    with death_after(stage.provider if call == "abandon" else pool.store, call):
        await stage.carries_out(abandon)

    pool.store = pool.another_store()
    following = Stage(pool, stage.provider)
    again = await following.plans()
    assert again == ([abandon] if call == "abandon" else [])
    for step in again:
        await following.carries_out(step)
    assert await following.plans() == []
    assert (await following.order())[0] is DeliveryState.FAILED
    assert await following.provider.provisionings() == ()
    await stage.provider.aclose()


async def test_without_an_answer_the_same_order_is_given_again(tmp_path: Path, pool: Pool) -> None:
    stage = Stage(pool, a_provider(tmp_path, pool, lost_answer=1.0))
    await stage.opens()
    await stage.plans()
    with pytest.raises(ProviderError):
        await stage.carries_out(ASK)
    assert await stage.plans() == [ASK]
    assert await stage.carries_out(ASK) == "coming"
    await stage.provider.aclose()


async def test_a_provider_that_cannot_add_nodes_is_named(pool: Pool) -> None:
    class Fixed:
        name, capabilities = PROVIDER, SimulatedProvider.capabilities & ~SimulatedProvider.capabilities

    worker = Growing(pool.store, {PROVIDER: Fixed()})  # type: ignore[dict-item]
    with pytest.raises(ApplicationError, match="cannot add nodes"):
        await ActivityEnvironment().run(worker.carry_out, ASK)
