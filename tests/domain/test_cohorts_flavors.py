"""Which SKU work gets in a queue with several, by Kueue's rules."""

import pytest

from corral.api import Fungibility, FungibilityPreference, QueueSpec, ReplicaGroup, Search
from domain.decision import Plan
from domain.round import schedule
from tests.builders import (
    NOON,
    AWorkload,
    a_cohort,
    a_node,
    a_preemption,
    a_queue,
    a_quota,
    a_snapshot,
    a_workload,
    in_cohorts,
    started,
)

FLEET = [a_node("old", gpus=16, sku="a100"), a_node("new", gpus=16, sku="h100")]
OLD, NEW = FLEET


def two(old: int, new: int, **fields: object) -> QueueSpec:
    """A queue with both SKUs that tries the new one first."""
    quotas = [a_quota(old, sku="a100"), a_quota(new, sku="h100")]
    return a_queue("research", quotas=quotas, sku_order=("h100", "a100"), **fields)  # type: ignore[arg-type]


def decided(queues: list[QueueSpec], *workloads: object) -> Plan:
    return schedule(a_snapshot(FLEET, queues, *workloads, policy=in_cohorts()), NOON)  # type: ignore[arg-type]


def test_skus_are_tried_in_the_queues_own_order() -> None:
    assert started(decided([two(4, 4)], a_workload(gpus=4)))["w"].sku == "h100"


def test_the_next_sku_is_tried_when_the_first_is_used_up() -> None:
    runner = a_workload("r", gpus=2).on((NEW, 2))
    assert started(decided([two(4, 4)], runner, a_workload(gpus=4)))["w"].sku == "a100"


@pytest.mark.parametrize(("when_can_preempt", "sku"), [(Search.TRY_NEXT, "a100"), (Search.STOP, None)])
def test_whether_a_free_sku_comes_before_preempting_is_the_queues_choice(when_can_preempt: Search, sku: str | None) -> None:
    queue = two(4, 4, preemption=a_preemption("lower-priority"), fungibility=Fungibility(when_can_preempt=when_can_preempt))
    runner = a_workload("r", gpus=4).on((NEW, 4))
    plan = decided([queue], runner, a_workload(gpus=4, priority=1))
    assert (started(plan)["w"].sku if "w" in started(plan) else None) == sku
    assert plan.preempts == (() if sku else (("r.1", "w"),))


def without_room(gpus: int, width: int, priority: int = 0, **fields: object) -> Plan:
    """Nodes of the first SKU that take no more of such width, beside idle ones of the next; there is quota for both."""
    new, old = a_node("new", gpus=gpus), a_node("old", gpus=4, sku="a100")
    runner = a_workload("r", gpus=2).on((new, 2))
    works = runner, a_workload(gpus=width, priority=priority)
    return schedule(a_snapshot([new, old], [two(8, 8, **fields)], *works, policy=in_cohorts()), NOON)


@pytest.mark.parametrize(("gpus", "width"), [(4, 3), (2, 4)], ids=["full", "too small ever"])
def test_the_next_sku_is_tried_where_the_first_has_quota_and_no_room(gpus: int, width: int) -> None:
    assert started(without_room(gpus, width))["w"].sku == "a100"


def test_nobody_leaves_a_sku_for_work_that_has_room_on_the_next_unless_the_queue_says_so() -> None:
    lower = a_preemption("lower-priority")
    assert not without_room(4, 3, priority=1, preemption=lower).preempts
    stopping = Fungibility(when_can_preempt=Search.STOP)
    assert without_room(4, 3, priority=1, preemption=lower, fungibility=stopping).preempts == (("r.1", "w"),)


@pytest.mark.parametrize(("when_can_borrow", "sku"), [(Search.STOP, "h100"), (Search.TRY_NEXT, "a100")])
def test_whether_an_own_sku_comes_before_borrowing_is_the_queues_choice(when_can_borrow: Search, sku: str) -> None:
    queue = two(4, 0, fungibility=Fungibility(when_can_borrow=when_can_borrow))
    lender = a_queue("lender", quotas=[a_quota(8, sku="h100"), a_quota(0, sku="a100")])
    assert started(decided(a_cohort(queue, lender), a_workload(gpus=4)))["w"].sku == sku


def test_quota_that_nobody_can_be_made_to_give_back_is_worse_than_any_that_works() -> None:
    queue = two(4, 4, fungibility=Fungibility(when_can_preempt=Search.STOP))
    assert started(decided([queue], a_workload("r", gpus=4).on((NEW, 4)), a_workload(gpus=4)))["w"].sku == "a100"


def test_preempting_may_be_preferred_to_borrowing() -> None:
    fungibility = Fungibility(when_can_borrow=Search.TRY_NEXT, preference=FungibilityPreference.PREEMPTION_OVER_BORROWING)
    queue = two(0, 4, preemption=a_preemption("lower-priority"), fungibility=fungibility)
    lender = a_queue("lender", quotas=[a_quota(8, sku="a100"), a_quota(0, sku="h100")])
    plan = decided(a_cohort(queue, lender), a_workload("r", gpus=4).on((NEW, 4)), a_workload(gpus=4, priority=1))
    assert plan.preempts == (("r.1", "w"),)


def test_groups_of_one_gang_sit_on_skus_of_their_own_and_share_their_quota() -> None:
    groups = (
        ReplicaGroup(name="lead", accelerators=2, skus=("a100",)),
        ReplicaGroup(name="work", count=2, accelerators=2),
        ReplicaGroup(name="spare", count=2, accelerators=2),
    )
    placement = started(decided([two(8, 4)], a_workload(groups=groups)))["w"]
    assert {share.sku or placement.sku: len(share.replicas) for share in placement.shares} == {"a100": 3, "h100": 2}


def test_of_an_elastic_gang_as_much_starts_as_fits_when_each_group_gives_up_the_same_part() -> None:
    groups = (ReplicaGroup(name="first", count=20, minimum=8), ReplicaGroup(name="second", count=10, minimum=4))
    queue = a_queue("research", 16)
    plan = schedule(a_snapshot([a_node("n", gpus=32)], [queue], a_workload(groups=groups), policy=in_cohorts()), NOON)
    replicas = [replica.group for share in started(plan)["w"].shares for replica in share.replicas]
    assert (replicas.count("first"), replicas.count("second")) == (10, 5)


def test_no_less_starts_than_the_gang_needs_over_all_groups() -> None:
    groups = (ReplicaGroup(name="first", count=3, minimum=0), ReplicaGroup(name="second", count=2, minimum=0))

    def placed(least: int) -> list[str]:
        snapshot = a_snapshot(
            [a_node("n", gpus=2)],
            [a_queue("research", 8)],
            a_workload(groups=groups, minimum_replicas=least),
            policy=in_cohorts(),
        )
        placements = started(schedule(snapshot, NOON)).values()
        return [replica.group for placement in placements for share in placement.shares for replica in share.replicas]

    assert placed(1) == ["first", "second"]
    assert placed(3) == []


def test_what_a_gang_needs_over_all_groups_may_be_of_one_that_has_room() -> None:
    groups = (ReplicaGroup(name="first", count=3, minimum=0), ReplicaGroup(name="second", count=2, minimum=0, skus=("a100",)))
    plan = decided([two(32, 8)], a_workload("r", gpus=16).on((OLD, 16)), a_workload(groups=groups, minimum_replicas=2))
    assert [replica.group for share in started(plan)["w"].shares for replica in share.replicas] == ["first", "first"]


def test_the_whole_gang_comes_before_a_smaller_one_even_if_others_must_leave() -> None:
    queue = a_queue("research", 8, preemption=a_preemption("lower-priority"))
    node = a_node("n", gpus=8)
    runner = a_workload("r", gpus=4).on((node, 4))
    elastic: AWorkload = a_workload(count=8, minimum=1, priority=1)
    plan = schedule(a_snapshot([node], [queue], runner, elastic, policy=in_cohorts()), NOON)
    assert plan.preempts == (("r.1", "w"),)
