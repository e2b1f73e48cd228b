"""What every provider promises that can add nodes (see `activities.ports.Provisioner`)."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from activities.ports import Delivery, ErrorClass, NodeView, ProviderError, Provisioner, ProvisionOrder, as_provisioner
from activities.providers.sim import SimulatedProvider
from activities.providers.sim_fleet import (
    NodeShape,
    SimulatedCluster,
    SimulatedFaults,
    SimulatedFleet,
    SimulatedNodePool,
    SimulatedRegion,
)
from tests.activities.providers.worlds import NO_FAULTS, HandClock, an_order, local, told

LEAD_SECONDS = 60


@dataclass
class Growing:
    """A provider with one node pool of at most three nodes, and the time that its nodes take to come."""

    provider: Provisioner
    open_again: Callable[[], Provisioner]
    passes: Callable[[float], None]

    async def names(self) -> set[str]:
        return {node.name for node in (await self.provider.snapshot()).nodes if node.provisioning is not None}

    async def comes(self, *orders: ProvisionOrder) -> Sequence[str]:
        for order in orders:
            await self.provider.provision(order)
        self.passes(LEAD_SECONDS)
        return sorted(await self.names())


def a_request(id: str = "sim/burst-1", nodes: int = 2, node_pool: str = "burst") -> ProvisionOrder:
    return ProvisionOrder(id, node_pool, nodes)


def a_simulation(path: Path, clock: HandClock, faults: SimulatedFaults, available: int | None = None) -> SimulatedProvider:
    shape = NodeShape(sku="h100", count=1, accelerators=4, price=2_000_000)
    cluster = SimulatedCluster(name="a", nodes=(shape,))
    pool = SimulatedNodePool(
        name="burst", region="here", cluster="b", shape=shape, limit=3, available=available, lead_seconds=LEAD_SECONDS
    )
    fleet = SimulatedFleet(regions=(SimulatedRegion(name="here", clusters=(cluster,)),), node_pools=(pool,))
    return SimulatedProvider(path / "world.sqlite", fleet, clock, faults=faults)


def simulated(path: Path, faults: SimulatedFaults = NO_FAULTS, available: int | None = None) -> Growing:
    clock = HandClock()

    def open_again() -> Provisioner:
        return a_simulation(path, clock, faults, available)

    return Growing(open_again(), open_again, clock.move)


PROVISIONERS = {"sim": simulated}


@pytest.fixture(params=PROVISIONERS)
async def growing(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Growing]:
    opened = PROVISIONERS[request.param](tmp_path)
    yield opened
    await opened.provider.aclose()


async def refusal(provider: Provisioner, order: ProvisionOrder) -> ErrorClass:
    with pytest.raises(ProviderError) as raised:
        await provider.provision(order)
    return raised.value.kind


async def test_it_says_what_it_can_add(growing: Growing) -> None:
    (pool,) = await growing.provider.node_pools()
    assert (pool.node.name, pool.node.sku, pool.node.price, pool.limit) == ("burst", "h100", 2_000_000, 3)
    assert as_provisioner(growing.provider) is growing.provider


async def test_ordered_nodes_come_and_are_told_of(growing: Growing) -> None:
    events = growing.provider.watch()
    assert (await growing.provider.provision(a_request())).delivery is Delivery.COMING
    assert await growing.names() == set()
    growing.passes(LEAD_SECONDS)
    await told(events, lambda event: isinstance(event, NodeView) and event.provisioning == "sim/burst-1")
    nodes = [node for node in (await growing.provider.snapshot()).nodes if node.provisioning]
    assert [(node.node_pool, node.provisioning, node.ready) for node in nodes] == [("burst", "sim/burst-1", True)] * 2
    (order,) = await growing.provider.provisionings()
    assert order.delivery is Delivery.DONE


async def test_ordering_twice_is_ordering_once_even_for_another_worker(growing: Growing) -> None:
    await growing.provider.provision(a_request())
    other = growing.open_again()
    assert (await other.provision(a_request())).id == "sim/burst-1"
    await other.aclose()
    assert len(await growing.comes(a_request())) == 2


async def test_the_same_order_on_other_terms_is_a_conflict(growing: Growing) -> None:
    await growing.provider.provision(a_request())
    assert await refusal(growing.provider, a_request(nodes=1)) is ErrorClass.CONFLICT


async def test_there_is_no_order_from_a_pool_that_there_is_not(growing: Growing) -> None:
    assert await refusal(growing.provider, a_request(node_pool="other")) is ErrorClass.INVALID_SPEC


async def test_its_limit_holds_for_what_is_there_and_what_is_coming(growing: Growing) -> None:
    await growing.provider.provision(a_request(nodes=3))
    assert await refusal(growing.provider, a_request("sim/burst-2", 1)) is ErrorClass.NO_CAPACITY
    growing.passes(LEAD_SECONDS)
    assert await refusal(growing.provider, a_request("sim/burst-2", 1)) is ErrorClass.NO_CAPACITY


async def test_fewer_than_asked_is_a_failure_that_brings_those(growing: Growing) -> None:
    await growing.comes(a_request(nodes=1))
    assert len(await growing.comes(a_request("sim/burst-2", 3))) == 3
    later = {order.id: order.delivery for order in await growing.provider.provisionings()}
    assert later == {"sim/burst-1": Delivery.DONE, "sim/burst-2": Delivery.FAILED}


async def test_nothing_comes_of_an_abandoned_order_not_even_when_it_arrives_later(growing: Growing) -> None:
    await growing.provider.provision(a_request())
    await growing.provider.abandon("sim/burst-1")
    await growing.provider.abandon("sim/burst-2")
    assert await refusal(growing.provider, a_request("sim/burst-2")) is ErrorClass.FENCED
    growing.passes(LEAD_SECONDS)
    assert await growing.names() == set()


async def test_nodes_that_came_stay_when_their_order_is_abandoned(growing: Growing) -> None:
    before = await growing.comes(a_request())
    await growing.provider.abandon("sim/burst-1")
    assert sorted(await growing.names()) == before


async def test_nodes_are_taken_away_once_and_for_all_workers(growing: Growing) -> None:
    one, other = await growing.comes(a_request())
    await growing.provider.deprovision([one, "unknown"])
    await growing.provider.deprovision([one])
    assert await growing.names() == {other}
    again = growing.open_again()
    assert other in {node.name for node in (await again.snapshot()).nodes}
    assert one not in {node.name for node in (await again.snapshot()).nodes}
    await again.aclose()


async def test_a_node_with_work_is_not_taken_away_nor_any_other_with_it(growing: Growing) -> None:
    one, other = await growing.comes(a_request())
    await growing.provider.launch(an_order(node=one))
    with pytest.raises(ProviderError) as raised:
        await growing.provider.deprovision([other, one])
    assert raised.value.kind is ErrorClass.CONFLICT
    assert await growing.names() == {one, other}
    await growing.provider.release("attempt-1", 1)
    await growing.provider.deprovision([other, one])
    assert await growing.names() == set()


async def test_an_order_whose_answer_is_lost_is_found_by_its_id(tmp_path: Path) -> None:
    growing = simulated(tmp_path, SimulatedFaults(lost_answer=1.0))
    assert await refusal(growing.provider, a_request()) is ErrorClass.UNAVAILABLE
    assert [order.id for order in await growing.provider.provisionings()] == ["sim/burst-1"]
    assert len(await growing.comes(a_request())) == 2


@pytest.mark.parametrize(("fault", "come"), [("failed_provisioning", 0), ("partial_provisioning", 1)])
async def test_a_simulated_order_may_bring_nothing_or_a_part(tmp_path: Path, fault: str, come: int) -> None:
    growing = simulated(tmp_path, SimulatedFaults.model_validate({fault: 1.0}))
    assert len(await growing.comes(a_request())) == come
    (order,) = await growing.provider.provisionings()
    assert (order.delivery, order.reason) == (Delivery.FAILED, f"{come} of 2 nodes could be had")


async def test_a_simulated_order_may_be_slow(tmp_path: Path) -> None:
    growing = simulated(tmp_path, SimulatedFaults(slow_provisioning=1.0, slow_provisioning_seconds=600))
    assert await growing.comes(a_request()) == []
    growing.passes(600)
    assert len(await growing.names()) == 2


async def test_a_simulated_provider_may_have_less_than_it_says(tmp_path: Path) -> None:
    growing = simulated(tmp_path, available=0)
    assert await refusal(growing.provider, a_request()) is ErrorClass.NO_CAPACITY


async def test_a_provider_that_cannot_add_nodes_says_so(tmp_path: Path) -> None:
    async with local(tmp_path) as world:
        assert as_provisioner(world.provider) is None
