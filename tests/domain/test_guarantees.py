"""Promises are only sold while they can be kept."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from corral.api import QueueSpec, Reason, ReplicaGroup, SlaTier
from corral.policy import Limits, Policy
from domain.decision import Plan
from domain.pool.fleet import Health, Node
from domain.pool.workload import Active
from domain.round import schedule
from tests.builders import (
    NOON,
    AWorkload,
    a_cohort,
    a_node,
    a_queue,
    a_quota,
    a_snapshot,
    a_workload,
    nodes,
    seconds,
    started,
    why,
)

PREMIUM, STANDARD, BASIC = SlaTier.PREMIUM, SlaTier.STANDARD, SlaTier.BASIC
OWN = [a_queue("research", 1_000)]


def admit(
    fleet: Sequence[Node], *workloads: AWorkload | Active, queues: Sequence[QueueSpec] = OWN, level: str | None = "node"
) -> Plan:
    """What a round decides about workloads that have just come."""
    snapshot = a_snapshot(fleet, queues, *workloads, policy=Policy(limits=Limits(failure_domain=level)))
    return schedule(replace(snapshot, waiting=tuple(replace(each, is_new=True) for each in snapshot.waiting)), NOON)


def refused(plan: Plan) -> set[str]:
    kept = {decision.workload_id for decision in plan.starts}
    return {decision.workload_id for decision in plan.decisions} - kept


def a_demand(id: str = "w", gpus: int = 8, **fields: Any) -> AWorkload:
    return a_workload(id, gpus=gpus, **fields)


@pytest.mark.parametrize(("number", "sold"), [(22, True), (23, False)])
def test_a_promise_is_sold_up_to_what_the_loss_of_the_largest_domain_leaves(number: int, sold: bool) -> None:
    """Of 24 accelerators 16 are left: at 0.7 of each that is enough for 22."""
    plan = admit(nodes(3), a_workload(gpus=1, count=number))
    assert bool(plan.starts) is sold


def test_a_refusal_says_what_is_missing_and_what_to_do() -> None:
    explanation = why(admit(nodes(3), a_workload(gpus=1, count=24, tier=PREMIUM)))
    assert explanation.reason is Reason.GUARANTEE_CANNOT_BE_KEPT
    assert explanation.message == (
        "the promise of tier premium takes 22.8 accelerators that are there whatever fails; 16 are not promised yet;"
        " submit it as basic or a lower tier, ask for less, or add capacity"
    )


def test_what_runs_and_what_waits_has_been_promised_before() -> None:
    fleet = nodes(3)
    runs = a_demand("runs", 8, tier=PREMIUM).on((fleet[0], 8))
    assert refused(admit(fleet, runs, a_demand("fits"), a_demand("not", submitted_at=NOON))) == {"not"}
    waits = a_demand("waits", tier=PREMIUM).waiting()
    snapshot = a_snapshot(fleet, OWN, a_demand("fits"), a_demand("not", submitted_at=NOON))
    fresh = tuple(replace(each, is_new=True) for each in snapshot.waiting)
    assert refused(schedule(replace(snapshot, waiting=fresh, bystanders=(waits,)), NOON)) == {"not"}


def test_the_oldest_of_several_come_first() -> None:
    newer, older = a_demand("a", 16, submitted_at=NOON), a_demand("b", 16, submitted_at=NOON - seconds(1))
    fleet = [a_node("n0", gpus=16), a_node("n1", gpus=16)]
    assert refused(admit(fleet, newer, older)) == {"a"}


def test_who_is_promised_nothing_is_not_refused() -> None:
    assert not refused(admit(nodes(3), a_workload(gpus=8, count=3, tier=BASIC)))
    cohort = a_cohort(a_queue("research", 0), a_queue("idle", 100))
    assert not refused(admit(nodes(3), a_workload(gpus=8, count=3), queues=cohort))


def test_work_that_has_been_admitted_is_never_refused_for_it() -> None:
    snapshot = a_snapshot(nodes(3), OWN, a_workload(gpus=1, count=24))
    assert schedule(snapshot, NOON).starts


def test_only_ready_capacity_keeps_promises() -> None:
    fleet = [*nodes(2), a_node("down", health=Health.SUSPECT)]
    assert refused(admit(fleet, a_demand("w", 8, tier=PREMIUM), a_demand("x", 8, tier=PREMIUM, submitted_at=NOON))) == {"x"}


def test_the_policy_names_the_domain_that_may_fail() -> None:
    racks = [a_node(f"n{at}", topology=(("rack", f"r{at // 2}"),)) for at in range(4)]
    wide = a_workload(gpus=8, count=3)
    assert admit(racks, wide, level="node").starts
    assert refused(admit(racks, wide, level="rack")) == {"w"}
    assert admit(racks, a_workload(gpus=8, count=4, tier=PREMIUM), level=None).starts


def test_promises_on_the_only_domain_hold_as_long_as_it_does() -> None:
    assert admit([a_node("alone")], a_demand(tier=PREMIUM)).starts


def test_nothing_is_refused_before_the_whole_fleet_is_known() -> None:
    snapshot = a_snapshot(nodes(3), OWN, a_workload(gpus=1, count=24))
    fresh = tuple(replace(each, is_new=True) for each in snapshot.waiting)
    assert schedule(replace(snapshot, waiting=fresh, is_complete=False), NOON).starts


# Gangs of several groups


def two_kinds() -> list[Node]:
    """Of each kind three nodes, so that two are left when one is lost: 16 h100, and 4 a100."""
    return [*nodes(3), *nodes(3, "a", gpus=2, sku="a100")]


OF_BOTH = [OWN[0].model_copy(update={"quotas": (*OWN[0].quotas, a_quota(1_000, sku="a100"))})]


@pytest.mark.parametrize(("number", "sold"), [(4, True), (5, False)])
def test_a_group_is_promised_only_skus_that_it_accepts(number: int, sold: bool) -> None:
    """At 0.95 of each, the 4 a100 that are left are enough for 4."""
    groups = [ReplicaGroup(name="small", count=number, skus=("a100",)), ReplicaGroup(name="large", count=1, skus=("h100",))]
    assert bool(admit(two_kinds(), a_workload(groups=groups, tier=PREMIUM), queues=OF_BOTH).starts) is sold


def test_what_runs_on_two_skus_is_promised_some_of_each() -> None:
    fleet = two_kinds()
    groups = [ReplicaGroup(name="main", count=8, skus=("h100",)), ReplicaGroup(name="small", count=2, skus=("a100",))]
    runs = started(admit(fleet, a_workload("runs", groups=groups, tier=PREMIUM), queues=OF_BOTH))["runs"]
    active = replace(a_workload("runs", groups=groups, tier=PREMIUM).on((fleet[0], 8)), placement=runs)
    more = [a_workload(id, groups=[ReplicaGroup(count=2, skus=("a100",))], tier=PREMIUM) for id in ("fits", "not")]
    assert refused(admit(fleet, active, *more, queues=OF_BOTH)) == {"not"}


def test_a_gang_that_counts_over_its_groups_is_promised_its_fewest_replicas() -> None:
    elastic = a_workload(groups=[ReplicaGroup(count=30, minimum=0)], minimum_replicas=23)
    assert refused(admit(nodes(3), elastic)) == {"w"}
