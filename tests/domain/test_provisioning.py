"""The fleet grows for work that waits, and shrinks again."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from corral.api import Autoscale, Explanation, Reason, SlaTier, Target
from corral.policy import Growth, NodePoolLimits, Policy
from domain.decision import Refuse, Wait
from domain.elasticity.provisioning import FleetPlan, fleet_plan
from domain.pool.fleet import Health, Node
from domain.pool.nodepools import Course, NodePool, Provisioning, Spell, back_off, followed, planned
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.builders import NOON, a_booking, a_node, a_queue, a_quota, a_snapshot, a_workload, seconds

AT_ONCE: dict[str, Any] = {"dollars_per_hour": 1_000.0, "up_window_seconds": 0, "down_window_seconds": 0}


def a_pool(name: str = "aws/burst", limit: int = 10, **fields: Any) -> NodePool:
    return NodePool(a_node(name, **fields), limit)


def a_fleet_of(
    pools: Sequence[NodePool],
    *workloads: Any,
    there: Sequence[Node] = (),
    arrivals: Sequence[Provisioning] = (),
    queues: Sequence[Any] | None = None,
    bookings: Sequence[Any] = (),
    **growth: Any,
) -> Snapshot:
    """A pool of which providers can add nodes; nodes that are there carry their node pool."""
    policy = Policy(growth=Growth(**(AT_ONCE | growth)))
    present: dict[str, int] = {}
    for node in there:
        if node.node_pool:
            present[node.node_pool] = present.get(node.node_pool, 0) + 1
    nodes = [*there, *planned(pools, arrivals, present, policy.growth)]
    tree = queues or [a_queue("research", 1_000, quotas=[a_quota(1_000, sku="a100")])]
    snapshot = a_snapshot(nodes, tree, *workloads, policy=policy, bookings=bookings)
    return replace(snapshot, arrivals=tuple(arrivals), node_pools=tuple(pools))


def plan(snapshot: Snapshot, courses: Mapping[str, Course] | None = None, closed: Sequence[str] = ()) -> FleetPlan:
    return fleet_plan(snapshot, courses or {}, closed, NOON)


def ordered(snapshot: Snapshot, **more: Any) -> dict[str, int]:
    return {order.pool.id: order.nodes for order in plan(snapshot, **more).orders}


def given_back(snapshot: Snapshot, **more: Any) -> list[str]:
    return [each.node_id for each in plan(snapshot, **more).returns]


def provisioned(id: str = "one", pool: str = "aws/burst", **fields: Any) -> Node:
    return a_node(id, node_pool=pool, **fields)


def says(snapshot: Snapshot, workload: str = "w") -> Explanation:
    decisions = {each.workload_id: each for each in schedule(snapshot, NOON).decisions}
    decision = decisions[workload]
    assert isinstance(decision, (Wait, Refuse))
    return decision.explanation


def test_as_many_nodes_are_ordered_as_let_the_waiting_gang_start() -> None:
    assert ordered(a_fleet_of([a_pool()], a_workload(gpus=8, count=3))) == {"aws/burst": 3}


def test_small_work_shares_nodes() -> None:
    assert ordered(a_fleet_of([a_pool()], *(a_workload(f"w{n}", gpus=2) for n in range(6)))) == {"aws/burst": 2}


def test_nothing_is_ordered_for_what_fits_on_nodes_that_are_there() -> None:
    assert ordered(a_fleet_of([a_pool()], a_workload(gpus=8), there=[a_node("fixed")])) == {}


def test_a_gang_may_sit_on_free_nodes_and_ordered_ones_together() -> None:
    assert ordered(a_fleet_of([a_pool()], a_workload(gpus=8, count=3), there=[a_node("fixed")])) == {"aws/burst": 2}


def test_nothing_is_ordered_for_a_gang_of_which_only_a_part_would_fit() -> None:
    assert ordered(a_fleet_of([a_pool(limit=2)], a_workload(gpus=8, count=3))) == {}


def test_nothing_is_ordered_for_work_that_its_quota_keeps_waiting() -> None:
    assert ordered(a_fleet_of([a_pool()], a_workload(gpus=8), queues=[a_queue("research", 4)])) == {}


def test_the_cheapest_pool_that_serves_is_taken() -> None:
    dear, cheap = a_pool("aws/dear", price=3_000_000), a_pool("aws/cheap", price=2_000_000)
    assert ordered(a_fleet_of([dear, cheap], a_workload(gpus=8))) == {"aws/cheap": 1}


def test_a_small_node_is_cheaper_for_small_work_than_a_large_one_at_a_lower_price() -> None:
    large, small = a_pool("aws/large", gpus=8, price=2_000_000), a_pool("aws/small", gpus=1, price=3_000_000)
    assert ordered(a_fleet_of([large, small], a_workload(gpus=1))) == {"aws/small": 1}


def test_what_the_cheapest_pool_cannot_serve_goes_to_the_next() -> None:
    dear, cheap = a_pool("aws/dear", price=3_000_000), a_pool("aws/cheap", limit=1, price=2_000_000)
    assert ordered(a_fleet_of([dear, cheap], *(a_workload(f"w{n}", gpus=8) for n in range(3)))) == {
        "aws/cheap": 1,
        "aws/dear": 2,
    }


def test_a_pool_that_has_failed_is_left_out() -> None:
    dear, cheap = a_pool("aws/dear", price=3_000_000), a_pool("aws/cheap", price=2_000_000)
    assert ordered(a_fleet_of([dear, cheap], a_workload(gpus=8)), closed=["aws/cheap"]) == {"aws/dear": 1}


def test_the_budget_is_never_exceeded() -> None:
    pool = a_pool(price=2_000_000)  # 16 dollars an hour for a node
    waiting = [a_workload(f"w{n}", gpus=8) for n in range(5)]
    assert ordered(a_fleet_of([pool], *waiting, dollars_per_hour=50.0)) == {"aws/burst": 3}
    there = [provisioned(used=8)]
    assert ordered(a_fleet_of([pool], *waiting, there=there, dollars_per_hour=50.0)) == {"aws/burst": 2}


def test_nor_is_the_number_of_nodes() -> None:
    waiting = [a_workload(f"w{n}", gpus=8) for n in range(5)]
    assert ordered(a_fleet_of([a_pool()], *waiting, maximum_nodes=2)) == {"aws/burst": 2}
    assert ordered(a_fleet_of([a_pool()], *waiting, node_pools={"aws/burst": NodePoolLimits(maximum=1)})) == {"aws/burst": 1}


def test_without_a_budget_nothing_is_ordered() -> None:
    assert ordered(a_fleet_of([a_pool()], a_workload(gpus=8), dollars_per_hour=0.0)) == {}


def test_means_that_are_short_go_to_the_highest_in_rank() -> None:
    pools = [a_pool("aws/h100", price=1_000_000), a_pool("aws/a100", sku="a100", price=2_000_000)]
    low = a_workload("low", gpus=8, tier=SlaTier.BASIC, targets=[Target(skus=("h100",))])
    high = a_workload("high", gpus=8, tier=SlaTier.PREMIUM, targets=[Target(skus=("a100",))])
    assert ordered(a_fleet_of(pools, low, high, maximum_nodes=1)) == {"aws/a100": 1}


def test_nodes_on_their_way_count_as_there() -> None:
    pool = a_pool()
    arrivals = [Provisioning("aws/burst-1", pool, 2, NOON)]
    assert ordered(a_fleet_of([pool], a_workload(gpus=8, count=2), arrivals=arrivals)) == {}
    assert ordered(a_fleet_of([pool], a_workload(gpus=8, count=3), arrivals=arrivals)) == {"aws/burst": 1}


def test_a_minimum_is_there_though_nobody_asks() -> None:
    assert ordered(a_fleet_of([a_pool()], node_pools={"aws/burst": NodePoolLimits(minimum=2)})) == {"aws/burst": 2}


def test_an_endpoint_that_wants_more_replicas_gets_nodes_for_them() -> None:
    node = a_node("fixed", gpus=1)
    endpoint = replace(a_workload(gpus=1, count=1), spec=a_workload(gpus=1, count=3).spec)
    scaled = endpoint.spec.model_copy(
        update={
            "autoscale": Autoscale(target=1, minimum=1, most=9),
            "groups": (endpoint.spec.groups[0].model_copy(update={"minimum": 1}),),
        }
    )
    running = replace(endpoint, spec=scaled).on((node, 1))
    assert ordered(a_fleet_of([a_pool(gpus=1)], running, there=[node])) == {"aws/burst": 2}


def test_more_is_ordered_once_it_was_needed_for_the_whole_window() -> None:
    rules = Growth(up_window_seconds=30)
    course = followed(Course(0), 3, NOON, rules)
    assert (course.wanted, course.more) == (0, Spell(NOON, 3))
    course = followed(course, 2, NOON + seconds(20), rules)
    assert followed(course, 5, NOON + seconds(29), rules).wanted == 0
    assert followed(course, 5, NOON + seconds(30), rules).wanted == 2


def test_a_need_that_went_away_begins_anew() -> None:
    rules = Growth(up_window_seconds=30)
    course = followed(followed(Course(0), 3, NOON, rules), 0, NOON + seconds(20), rules)
    assert followed(course, 3, NOON + seconds(40), rules).wanted == 0


def test_fewer_are_wanted_once_they_were_enough_for_the_whole_window() -> None:
    rules = Growth(down_window_seconds=600)
    course = followed(followed(Course(4), 0, NOON, rules), 2, NOON + seconds(300), rules)
    assert followed(course, 1, NOON + seconds(599), rules).wanted == 4
    assert followed(course, 1, NOON + seconds(600), rules).wanted == 2


def test_idle_provisioned_nodes_are_given_back_and_no_others() -> None:
    fixed, idle, busy = a_node("fixed"), provisioned("idle"), provisioned("busy", gpus=8)
    working = a_workload("v", gpus=1).on((busy, 1))
    assert given_back(a_fleet_of([a_pool()], working, there=[fixed, idle, busy])) == ["idle"]


def test_a_node_that_waiting_work_will_use_is_kept() -> None:
    pool, idle = a_pool(), provisioned("idle")
    arrivals = [Provisioning("aws/burst-1", pool, 1, NOON)]
    assert given_back(a_fleet_of([pool], a_workload(gpus=8, count=2), there=[idle], arrivals=arrivals)) == []


def test_a_node_that_is_kept_for_a_reservation_is_not_given_back() -> None:
    booking = replace(a_booking(accelerators=8), nodes=("idle",))
    queues = [a_queue("research", 100), a_queue("owner", 100)]
    assert given_back(a_fleet_of([a_pool()], there=[provisioned("idle")], queues=queues, bookings=[booking])) == []


def test_a_promise_keeps_a_node() -> None:
    assert given_back(a_fleet_of([a_pool()], there=[provisioned("promised", used=1)])) == []


def test_the_minimum_stays() -> None:
    limits = {"aws/burst": NodePoolLimits(minimum=1)}
    there = [provisioned("one"), provisioned("two")]
    assert given_back(a_fleet_of([a_pool()], there=there, node_pools=limits)) == ["one"]


def test_a_node_that_broke_is_replaced_and_given_back() -> None:
    broken = provisioned("broken", health=Health.SUSPECT)
    assert ordered(a_fleet_of([a_pool()], a_workload(gpus=8), there=[broken])) == {"aws/burst": 1}
    assert given_back(a_fleet_of([a_pool()], there=[broken])) == ["broken"]


def test_what_operators_cordoned_is_theirs() -> None:
    assert given_back(a_fleet_of([a_pool()], there=[provisioned("kept", health=Health.CORDONED)])) == []


def test_an_order_says_for_whom() -> None:
    waiting = [a_workload(f"w{n}", gpus=8) for n in range(5)]
    (order,) = plan(a_fleet_of([a_pool()], *waiting)).orders
    assert order.why == "for w0, w1, w2 and 2 more"


def test_failures_in_a_row_double_the_pause() -> None:
    rules = Growth(back_off_seconds=300, longest_back_off_seconds=1_000)
    assert [back_off(failures, rules).total_seconds() for failures in (0, 1, 2, 3, 9)] == [0, 300, 600, 1_000, 1_000]


def test_work_that_only_a_node_pool_could_take_waits_and_is_not_refused() -> None:
    explanation = says(a_fleet_of([a_pool(sku="a100")], a_workload(gpus=8, targets=[Target(skus=("a100",))])))
    assert (explanation.reason, explanation.message) == (
        Reason.NO_READY_CAPACITY,
        "no node that is there is acceptable; a100 in aws eu-west could be added",
    )


def test_work_that_no_node_pool_could_ever_take_is_refused() -> None:
    assert says(a_fleet_of([a_pool(limit=1)], a_workload(gpus=8, count=2))).reason is Reason.NO_MATCHING_CAPACITY


def test_what_waits_is_told_of_nodes_on_their_way() -> None:
    pool = a_pool()
    other = a_pool("aws/other", sku="a100")
    arrivals = [Provisioning("aws/burst-1", pool, 2, NOON - seconds(90)), Provisioning("aws/other-1", other, 1, NOON)]
    waiting = a_workload(gpus=8, count=2, targets=[Target(skus=("h100",))])
    explanation = says(a_fleet_of([pool, other], waiting, arrivals=arrivals))
    assert explanation.reason is Reason.NODES_ON_THEIR_WAY
    assert explanation.message == (
        "nodes are on their way (2 of aws/burst (8 h100 in eu-west), since 2030-06-01 11:58:30 UTC),"
        " and it fits once they are there"
    )


def test_what_would_not_fit_on_them_is_told_what_it_lacks() -> None:
    pool = a_pool()
    arrivals = [Provisioning("aws/burst-1", pool, 1, NOON)]
    assert says(a_fleet_of([pool], a_workload(gpus=8, count=2), arrivals=arrivals)).reason is not Reason.NODES_ON_THEIR_WAY


def test_nodes_that_are_lost_leave_their_part_of_the_budget_to_those_that_replace_them() -> None:
    pools = [a_pool("aws/eu", price=10_000_000), a_pool("aws/us", price=10_000_000)]
    lost = [provisioned(f"lost-{number}", "aws/eu", price=10_000_000, health=Health.LOST) for number in range(2)]
    limits: dict[str, Any] = {"dollars_per_hour": 160.0, "maximum_nodes": 2}
    work = [a_workload(f"w{number}", gpus=8) for number in range(2)]
    assert sum(ordered(a_fleet_of(pools, *work, there=lost, **limits)).values()) == 2
    there = [replace(node, health=Health.SUSPECT) for node in lost]
    assert ordered(a_fleet_of(pools, *work, there=there, **limits)) == {}, "they may yet be used again"
