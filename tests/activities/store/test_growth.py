"""The fleet's growth in the record: orders that are found again, nodes that come and leave, and what is never done twice."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from activities.answers import FleetStep, StepKind
from activities.ports import Delivery, NodePoolView, NodeView, ProvisioningView, ProvisionOrder
from corral.api import DeliveryState, Reason, State
from corral.policy import Growth, PolicyOrder
from domain.elasticity.provisioning import FleetPlan, fleet_plan
from domain.pool.nodepools import Course
from domain.snapshot import Snapshot
from tests.activities.store.pool import PROVIDER, Pool, a_spec, a_view

RULES: dict[str, Any] = {"dollars_per_hour": 1_000.0, "up_window_seconds": 0, "down_window_seconds": 60}
ASK = FleetStep(StepKind.ASK, PROVIDER, ("aws/burst-1",))


async def a_plan(snapshot: Snapshot, courses: Mapping[str, Course], closed: Collection[str], now: datetime) -> FleetPlan:
    return fleet_plan(snapshot, courses, closed, now)


async def can_grow(pool: Pool, limit: int = 4, **rules: Any) -> None:
    """One node is there, and its provider could add some."""
    await pool.gets(a_view("n1"))
    policy = pool.policy.model_copy(update={"growth": Growth(**(RULES | rules))})
    await pool.store.apply_policy(PolicyOrder(policy=policy))
    await pool.store.write_node_pools(PROVIDER, [NodePoolView(a_view("burst", price=2_000_000), limit, 60)])


def an_added(name: str, order: str = "aws/burst-1", **fields: Any) -> NodeView:
    return replace(a_view(name, price=2_000_000, **fields), node_pool="burst", provisioning=order)


async def sees(pool: Pool, *added: NodeView) -> None:
    await pool.store.write_nodes(PROVIDER, [a_view("n1"), *added], complete=True)


async def looks(pool: Pool) -> list[FleetStep]:
    return await pool.another_store().grow(a_plan)


async def two_came(pool: Pool) -> None:
    """Two nodes were ordered for work that runs on them now."""
    await can_grow(pool)
    await pool.arrive(a_spec("w0", gpus=8), a_spec("w1", gpus=8), a_spec("w2", gpus=8))
    assert await looks(pool) == [ASK]
    await pool.store.order_taken("aws/burst-1")
    await sees(pool, an_added("b1"), an_added("b2"))
    await pool.plan()
    await pool.runs("w0", "w1", "w2")
    assert await looks(pool) == []


async def test_an_order_stands_in_the_record_before_anybody_is_asked(pool: Pool) -> None:
    await can_grow(pool)
    await pool.arrive(a_spec("w", gpus=8, count=3))
    assert await looks(pool) == [ASK]
    (order,) = await pool.store.provisionings(10)
    assert (order.id, order.nodes, order.state, order.why) == ("aws/burst-1", 2, DeliveryState.COMING, "for w")
    assert await pool.store.order_to_ask("aws/burst-1") == ProvisionOrder("aws/burst-1", "burst", 2)


async def test_who_looks_again_finds_the_same_order_and_gives_no_other(pool: Pool) -> None:
    await can_grow(pool)
    await pool.arrive(a_spec("w", gpus=8, count=3))
    for _ in range(3):
        assert await looks(pool) == [ASK]
    assert len(await pool.store.provisionings(10)) == 1


async def test_two_who_decide_at_once_order_once(pool: Pool) -> None:
    await can_grow(pool)
    await pool.arrive(a_spec("w", gpus=8, count=3))

    async def is_overtaken(snapshot: Snapshot, courses: Any, closed: Any, now: datetime) -> FleetPlan:
        await looks(pool)
        return fleet_plan(snapshot, courses, closed, now)

    assert await pool.store.grow(is_overtaken) == [ASK]
    assert len(await pool.store.provisionings(10)) == 1


async def test_what_waits_is_told_of_nodes_on_their_way_and_starts_on_them(pool: Pool) -> None:
    await can_grow(pool)
    await pool.arrive(a_spec("w", gpus=8, count=3))
    await looks(pool)
    await pool.plan()
    status = await pool.store.status("w")
    assert status is not None
    assert status.explanation is not None
    assert status.explanation.reason is Reason.NODES_ON_THEIR_WAY
    assert "2 of aws/burst (8 h100 in eu), since" in status.explanation.message
    await sees(pool, an_added("b1"), an_added("b2"))
    await pool.plan()
    assert await pool.states("w") == [State.RESERVED]
    assert await looks(pool) == []
    (order,) = await pool.store.provisionings(10)
    assert (order.state, order.arrived) == (DeliveryState.ARRIVED, 2)


async def test_a_provider_that_refuses_is_left_alone_for_a_while_and_longer_each_time(pool: Pool) -> None:
    await can_grow(pool, back_off_seconds=300)
    await pool.arrive(a_spec("w", gpus=8, count=2))
    await looks(pool)
    await pool.store.order_failed("aws/burst-1", "the quota is used up")
    assert await looks(pool) == [FleetStep(StepKind.ABANDON, PROVIDER, ("aws/burst-1",))]
    await pool.store.order_abandoned("aws/burst-1")
    (status,) = await pool.store.node_pools()
    assert (status.failure, status.coming, status.desired) == ("the quota is used up", 0, 1)
    pool.clock.move(299)
    assert await looks(pool) == []
    pool.clock.move(1)
    assert await looks(pool) == [FleetStep(StepKind.ASK, PROVIDER, ("aws/burst-2",))]
    await pool.store.order_failed("aws/burst-2", "the quota is used up")
    await pool.store.order_abandoned("aws/burst-2")
    pool.clock.move(599)
    assert await looks(pool) == []


async def test_what_takes_too_long_is_given_up_and_what_came_of_it_is_kept(pool: Pool) -> None:
    await can_grow(pool, give_up_seconds=900)
    await pool.arrive(a_spec("w", gpus=8, count=3))
    await looks(pool)
    await pool.store.order_taken("aws/burst-1")
    await sees(pool, an_added("b1"))
    pool.clock.move(899)
    assert await looks(pool) == []
    pool.clock.move(1)
    assert await looks(pool) == [FleetStep(StepKind.ABANDON, PROVIDER, ("aws/burst-1",))]
    (order,) = await pool.store.provisionings(10)
    assert (order.state, order.arrived, order.reason) == (DeliveryState.GIVEN_UP, 1, "1 of 2 nodes have come in 900 s")
    (status,) = await pool.store.node_pools()
    assert (status.nodes, status.coming) == (1, 0)


async def test_a_delivery_that_failed_closes_its_order_and_strangers_are_named(pool: Pool) -> None:
    await can_grow(pool)
    await pool.arrive(a_spec("w", gpus=8, count=2))
    await looks(pool)
    seen = [ProvisioningView("aws/burst-1", Delivery.FAILED, "none left"), ProvisioningView("aws/burst-9", Delivery.DONE)]
    assert await pool.store.write_deliveries(PROVIDER, seen) == ["aws/burst-9"]
    (order,) = await pool.store.provisionings(10)
    assert (order.state, order.reason) == (DeliveryState.FAILED, "none left")


async def test_idle_nodes_are_drained_after_a_while_and_given_back(pool: Pool) -> None:
    await two_came(pool)
    places = {id: next(iter(await pool.phases(id))) for id in ("w0", "w1", "w2")}
    idle, gone = next((id, node) for id, node in places.items() if node != "n1")
    await pool.ends(idle)
    assert await looks(pool) == []
    pool.clock.move(59)
    assert await looks(pool) == []
    pool.clock.move(1)
    assert await looks(pool) == [FleetStep(StepKind.GIVE_BACK, PROVIDER, (gone,))]
    assert {node.id: node.health for node in await pool.store.nodes()}[f"aws/{gone}"] == "draining"
    assert await pool.store.nodes_to_give_back(PROVIDER, [gone, "n1"]) == [gone]
    await pool.store.nodes_given_back(PROVIDER, [gone])
    assert await looks(pool) == []
    assert f"aws/{gone}" not in {node.id for node in await pool.store.nodes()}
    assert f"aws/{gone}" not in {node.id for node in (await pool.snapshot()).nodes}
    assert await pool.findings() == {}


async def test_a_node_that_was_given_back_never_comes_again(pool: Pool) -> None:
    await two_came(pool)
    for id in ("w0", "w1", "w2"):
        await pool.ends(id)
    await looks(pool)
    pool.clock.move(60)
    await looks(pool)
    await pool.store.nodes_given_back(PROVIDER, ["b1", "b2"])
    await sees(pool, an_added("b1"))
    assert {node.id for node in await pool.store.nodes()} == {"aws/n1"}
    assert await pool.store.given_back_but_there(PROVIDER, {"n1", "b1"}) == ["b1"]
    assert await looks(pool) == []


async def test_a_node_that_got_work_while_it_was_decided_about_stays(pool: Pool) -> None:
    await two_came(pool)
    for id in ("w0", "w1", "w2"):
        await pool.ends(id)
    await looks(pool)
    pool.clock.move(60)

    async def is_overtaken(snapshot: Snapshot, courses: Any, closed: Any, now: datetime) -> FleetPlan:
        plan = fleet_plan(snapshot, courses, closed, now)
        assert {each.node_id for each in plan.returns} == {"aws/b1", "aws/b2"}
        await pool.arrive(a_spec("late", gpus=8, count=3))
        return plan

    assert await pool.store.grow(is_overtaken) == []
    assert await pool.states("late") == [State.RESERVED]


async def test_a_node_that_somebody_puts_back_meanwhile_stays(pool: Pool) -> None:
    await two_came(pool)
    for id in ("w0", "w1", "w2"):
        await pool.ends(id)
    await looks(pool)
    pool.clock.move(60)
    await looks(pool)
    await pool.orders("uncordon", "b1")
    assert await pool.store.nodes_to_give_back(PROVIDER, ["b1", "b2"]) == ["b2"]


async def test_without_a_budget_what_is_idle_is_given_back_and_nothing_is_ordered(pool: Pool) -> None:
    await two_came(pool)
    for id in ("w0", "w1", "w2"):
        await pool.ends(id)
    policy = pool.policy.model_copy(update={"growth": Growth(**(RULES | {"dollars_per_hour": 0.0}))})
    await pool.store.apply_policy(PolicyOrder(policy=policy))
    assert [step.kind for step in await looks(pool)] == [StepKind.GIVE_BACK]


async def test_a_budget_is_not_taken_away_from_work_that_waits_for_it_alone(pool: Pool) -> None:
    await can_grow(pool)
    await pool.arrive(a_spec("w", gpus=8, count=3))
    none = pool.policy.model_copy(update={"growth": Growth(**(RULES | {"dollars_per_hour": 0.0}))})
    answer = await pool.store.apply_policy(PolicyOrder(policy=none))
    assert answer.record is None
    assert [finding.rule for finding in answer.findings] == ["strands-waiting-work"]


async def test_a_pool_that_its_provider_has_no_more_is_not_ordered_from(pool: Pool) -> None:
    await can_grow(pool)
    await pool.store.write_node_pools(PROVIDER, [])
    await pool.arrive(a_spec("w", gpus=8))
    await pool.arrive(a_spec("v", gpus=8))
    assert await looks(pool) == []


@pytest.mark.parametrize("figure", ["provisioned_nodes", "wanted_nodes", "provisioned_dollars_per_hour"])
async def test_it_is_measured(pool: Pool, figure: str) -> None:
    await two_came(pool)
    await pool.arrive(a_spec("more", gpus=8))
    await looks(pool)
    expected = {
        "provisioned_nodes": {("aws/burst", "ready"): 2.0, ("aws/burst", "coming"): 1.0},
        "wanted_nodes": {("aws/burst",): 3.0},
        "provisioned_dollars_per_hour": {("aws/burst",): 32.0},
    }
    assert (await pool.store.figures())[figure] == expected[figure]
