"""Whatever waits and whatever providers do: limits hold, what is used stays, and the fleet comes to rest."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from corral.api import SlaTier, Target
from corral.policy import Growth, NodePoolLimits, Policy
from domain.elasticity.provisioning import FleetPlan, fleet_plan
from domain.pool.fleet import Health, Node
from domain.pool.nodepools import MILLION, Course, NodePool, Provisioning, hourly_cost, planned
from domain.pool.workload import Active
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.builders import NOON, AWorkload, a_node, a_queue, a_quota, a_snapshot, a_workload, seconds
from tests.properties.situations import STABLE, settled

TICK = 10
SKUS = ("a100", "h100")


@dataclass
class Fleet:
    """A fleet over time: providers bring what is ordered, or some of it, or nothing."""

    pools: list[NodePool]
    rules: Growth
    workloads: list[AWorkload]
    nodes: list[Node]
    active: list[Active] = field(default_factory=list)
    arrivals: list[Provisioning] = field(default_factory=list)
    courses: Mapping[str, Course] = field(default_factory=dict)
    ticks: int = 0
    orders: int = 0

    @property
    def now(self) -> Any:
        return NOON + seconds(self.ticks * TICK)

    def snapshot(self) -> Snapshot:
        there: dict[str, int] = {}
        for node in self.nodes:
            if node.node_pool:
                there[node.node_pool] = there.get(node.node_pool, 0) + 1
        running = {active.id for active in self.active}
        waiting = [each for each in self.workloads if each.id not in running]
        every = [*self.nodes, *planned(self.pools, self.arrivals, there, self.rules)]
        tree = [a_queue("research", quotas=[a_quota(12, sku=sku) for sku in SKUS])]
        policy = Policy(growth=self.rules)
        snapshot = a_snapshot(every, tree, *self.active, *waiting, policy=policy)
        return replace(snapshot, arrivals=tuple(self.arrivals), node_pools=tuple(self.pools))

    def starts_what_it_can(self) -> None:
        snapshot = self.snapshot()
        self.active = list(settled(snapshot, schedule(snapshot, self.now)).active)

    def ticks_on(self, *, brings: float = 1.0) -> FleetPlan:
        """A round, what the fleet makes of it, and what providers do, which is a part of what was ordered."""
        self.starts_what_it_can()
        plan = fleet_plan(self.snapshot(), self.courses, (), self.now)
        self.courses = {name: pool.course for name, pool in plan.pools.items()}
        gone = {each.node_id for each in plan.returns}
        assert not gone & {share.node_id for active in self.active for share in active.placement.shares}
        assert not gone & {node.id for node in self.nodes if node.node_pool is None}
        self.nodes = [node for node in self.nodes if node.id not in gone]
        for arrival in self.arrivals:
            come = round(arrival.nodes * brings)
            made = [
                replace(arrival.pool.node, id=f"{arrival.id}-{number}", node_pool=arrival.pool.id) for number in range(come)
            ]
            self.nodes += made
        self.arrivals = []
        for order in plan.orders:
            self.orders += 1
            self.arrivals.append(Provisioning(f"{order.pool.id}-{self.orders}", order.pool, order.nodes, self.now))
        self.ticks += 1
        return plan

    def holds_its_limits(self) -> None:
        ours = [node for node in self.nodes if node.node_pool] + [a.pool.node for a in self.arrivals for _ in range(a.nodes)]
        assert sum(map(hourly_cost, ours)) <= self.rules.dollars_per_hour * MILLION
        assert len(ours) <= self.rules.maximum_nodes
        for pool in self.pools:
            number = sum(node.node_pool == pool.id for node in self.nodes)
            number += sum(arrival.nodes for arrival in self.arrivals if arrival.pool.id == pool.id)
            assert number <= pool.most(self.rules)


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    pools = [
        NodePool(
            a_node(
                f"aws/pool{index}",
                gpus=draw(st.sampled_from((1, 2, 4))),
                sku=draw(st.sampled_from(SKUS)),
                region=draw(st.sampled_from(("eu", "us"))),
                price=draw(st.sampled_from((0, 1_000_000, 2_000_000))),
            ),
            draw(st.integers(0, 4)),
        )
        for index in range(draw(st.integers(1, 3)))
    ]
    minimum = draw(st.sampled_from((0, 0, 1)))
    rules = Growth(
        dollars_per_hour=draw(st.sampled_from((0.0, 5.0, 20.0))),
        maximum_nodes=draw(st.integers(0, 6)),
        node_pools={"aws/pool0": NodePoolLimits(minimum=minimum)},
        up_window_seconds=draw(st.sampled_from((0, 15))),
        down_window_seconds=draw(st.sampled_from((0, 25))),
    )
    workloads = [
        a_workload(
            f"w{index}",
            gpus=draw(st.sampled_from((0.5, 1, 2, 4))),
            count=draw(st.integers(1, 3)),
            tier=draw(st.sampled_from(list(SlaTier))),
            targets=draw(st.sampled_from(((), (Target(skus=("h100",)),), (Target(regions=("eu",)), Target(skus=("a100",)))))),
        )
        for index in range(draw(st.integers(0, 5)))
    ]
    return Fleet(pools, rules, workloads, [a_node("fixed", gpus=2, region="eu")])


@STABLE
@given(fleets(), st.lists(st.sampled_from((0.0, 0.5, 1.0)), min_size=4, max_size=4))
def test_limits_hold_and_what_is_used_stays_whatever_providers_bring(fleet: Fleet, brings: list[float]) -> None:
    for part in brings:
        fleet.ticks_on(brings=part)
        fleet.holds_its_limits()
    fleet.active, fleet.workloads = fleet.active[::2], []
    for part in brings:
        fleet.ticks_on(brings=part)
        fleet.holds_its_limits()


@STABLE
@given(fleets())
def test_a_fleet_whose_demand_stays_comes_to_rest(fleet: Fleet) -> None:
    for _ in range(16):
        fleet.ticks_on()
    before = {node.id for node in fleet.nodes}
    for _ in range(4):
        plan = fleet.ticks_on()
        assert (plan.orders, plan.returns) == ((), ())
    assert {node.id for node in fleet.nodes} == before


@STABLE
@given(fleets())
def test_without_demand_all_but_the_minimum_is_given_back(fleet: Fleet) -> None:
    for _ in range(4):
        fleet.ticks_on()
    fleet.active, fleet.workloads = [], []
    for _ in range(8):
        fleet.ticks_on()
    least = {pool.id: fleet.rules.within(pool.id).minimum for pool in fleet.pools}
    for pool in fleet.pools:
        assert sum(node.node_pool == pool.id for node in fleet.nodes) <= least[pool.id]


@STABLE
@given(fleets(), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(fleet: Fleet, random: Any) -> None:
    snapshot = fleet.snapshot()
    shuffled = replace(
        snapshot,
        nodes=tuple(random.sample(snapshot.nodes, len(snapshot.nodes))),
        waiting=tuple(random.sample(snapshot.waiting, len(snapshot.waiting))),
        node_pools=tuple(random.sample(snapshot.node_pools, len(snapshot.node_pools))),
    )
    one, other = fleet_plan(snapshot, {}, (), NOON), fleet_plan(shuffled, {}, (), NOON)
    assert one.pools == other.pools
    assert one.orders == other.orders
    assert set(one.returns) == set(other.returns)


@STABLE
@given(fleets())
def test_what_is_ordered_gets_work_when_it_comes(fleet: Fleet) -> None:
    """Without a window nobody's demand can have changed: every node that was ordered for work has some."""
    fleet.rules = fleet.rules.model_copy(update={"up_window_seconds": 0, "node_pools": {}})
    fleet.ticks_on()
    fleet.ticks_on()
    fleet.starts_what_it_can()
    used = {share.node_id for active in fleet.active for share in active.placement.shares}
    assert all(node.id in used for node in fleet.nodes if node.node_pool and node.health is Health.READY)
