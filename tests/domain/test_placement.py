"""Where a workload goes: filters, targets, best fit, gangs and topology."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from corral.api import CapacityType, Reason, ReplicaGroup, Selection, Target
from corral.policy import Goals, Policy, QuotaModel
from domain.decision import Plan, Refuse, Wait
from domain.pool.fleet import Health, Node
from domain.round import schedule
from tests.builders import (
    LONG_AGO,
    NOON,
    AWorkload,
    a_node,
    a_queue,
    a_quota,
    a_snapshot,
    a_workload,
    by_model,
    nodes,
    nodes_of,
    seconds,
    started,
    why,
)

PLENTY = [a_queue("research", 1000, quotas=[a_quota(1000, sku="a100"), a_quota(1000, sku="b200")])]


def plan(fleet: list[Node], *workloads: AWorkload, **fields: Any) -> Plan:
    return schedule(a_snapshot(fleet, PLENTY, *workloads, **fields), NOON)


def placed(fleet: list[Node], workload: AWorkload, **fields: Any) -> dict[str, int]:
    """Replicas by node."""
    return nodes_of(started(plan(fleet, workload, **fields))[workload.id])


# What the work that is known loses

WIDTHS = (1, 1, 1, 2, 2, 4, 8)


def placed_among(fleet: list[Node], workload: AWorkload, others: Sequence[AWorkload]) -> str:
    """The node of a workload that comes before others, which need room as well."""
    late = [replace(each, submitted_at=NOON) for each in others]
    decided = schedule(a_snapshot(fleet, [a_queue("research", 1_000)], workload, *late), NOON)
    (node,) = nodes_of(started(decided)[workload.id])
    return node


@pytest.mark.parametrize(("gpus", "node"), [(1, "nearly-full"), (2, "broken"), (8, "whole")])
def test_small_work_fills_broken_nodes_and_keeps_whole_ones_whole(gpus: int, node: str) -> None:
    fleet = [a_node("whole"), a_node("broken", used=6), a_node("nearly-full", used=7)]
    others = [a_workload(f"w{index}", gpus=width) for index, width in enumerate(WIDTHS)]
    assert placed_among(fleet, a_workload("first", gpus=gpus), others) == node


def test_a_share_breaks_no_whole_device_that_others_need() -> None:
    fleet = [a_node("nearly-full", used=7), a_node("broken", free=[1000] * 7 + [500])]
    others = [a_workload(f"w{index}", gpus=1) for index in range(8)]
    assert placed_among(fleet, a_workload("first", gpus=0.5), others) == "broken"


def test_a_node_that_only_some_work_can_use_is_kept_for_it() -> None:
    fleet = [a_node("roomy", used=4, cpu_milli=64_000), a_node("short-of-cpu", used=4, cpu_milli=4_000)]
    others = [a_workload(f"w{index}", gpus=1, cpu_milli=16_000) for index in range(4)]
    assert placed_among(fleet, a_workload("first", gpus=1, cpu_milli=1_000), others) == "short-of-cpu"


# Best fit


def test_where_others_are_not_looked_at_the_fullest_node_is_taken() -> None:
    fleet = [a_node("whole"), a_node("broken", used=4), a_node("nearly-full", used=7)]
    filling = Policy(goals=Goals(fragmentation=0))
    assert placed(fleet, a_workload(gpus=1), policy=filling) == {"nearly-full": 1}
    assert placed(fleet, a_workload(gpus=2), policy=filling) == {"broken": 1}
    assert placed(fleet, a_workload(gpus=8), policy=filling) == {"whole": 1}


def test_a_share_goes_to_the_fullest_device_that_still_fits() -> None:
    fleet = [a_node("a", free=[1000, 600, 300]), a_node("b", free=[1000, 400, 250])]
    placement = started(plan(fleet, a_workload(gpus=0.3)))["w"]
    assert (placement.shares[0].node_id, placement.shares[0].replicas[0].devices) == ("a", (2,))


def test_a_share_breaks_a_whole_device_only_when_no_broken_one_fits() -> None:
    fleet = [a_node("nearly-full", used=7), a_node("broken", free=[1000] * 7 + [500])]
    filling = Policy(goals=Goals(fragmentation=0))
    assert placed(fleet, a_workload(gpus=0.5), policy=filling) == {"broken": 1}
    assert placed(fleet, a_workload(gpus=0.6), policy=filling) == {"nearly-full": 1}


@pytest.mark.parametrize("count", [1, 3])
def test_no_share_goes_to_a_dearer_node_for_the_sake_of_a_broken_device(count: int) -> None:
    fleet = [a_node("dear", price=7_000_000, free=[1000, 500]), a_node("cheap", price=1_000_000, gpus=2)]
    for goals in (Goals(), Goals(fragmentation=0)):
        assert placed(fleet, a_workload(gpus=0.5, count=count), policy=Policy(goals=goals)) == {"cheap": count}


def test_shares_of_one_workload_may_sit_on_one_device() -> None:
    placement = started(plan(nodes(1), a_workload(gpus=0.25, count=5)))["w"]
    assert placement.shares[0].room.devices[:3] == (1000, 250, 0)


def test_a_replica_without_accelerators_needs_only_cpu_and_memory() -> None:
    fleet = [a_node("full", used=8, cpu_milli=8000)]
    queue = a_queue("research")
    snapshot = a_snapshot(fleet, [queue], a_workload(gpus=0, count=3, cpu_milli=2000))
    assert nodes_of(started(schedule(snapshot, NOON))["w"]) == {"full": 3}


def test_cpu_and_memory_limit_what_a_node_takes() -> None:
    fleet = nodes(2, cpu_milli=4000)
    assert placed(fleet, a_workload(gpus=1, count=4, cpu_milli=2000)) == {"n0": 2, "n1": 2}
    assert why(plan(fleet, a_workload("a", cpu_milli=4000), a_workload(count=2, cpu_milli=4000))).reason is (
        Reason.NOT_ENOUGH_FREE_CPU_OR_MEMORY
    )


# Gangs


def test_a_gang_starts_whole_or_not_at_all() -> None:
    fleet = [*nodes(3), a_node("busy", used=1)]
    assert started(plan(fleet, a_workload(gpus=8, count=4))) == {}
    assert placed(fleet, a_workload(gpus=8, count=3)) == {"n0": 1, "n1": 1, "n2": 1}


@pytest.mark.parametrize("other", [{"region": "us-east"}, {"provider": "gcp"}, {"sku": "a100"}])
def test_a_gang_sits_within_one_provider_region_and_sku(other: dict[str, Any]) -> None:
    fleet = [a_node("here"), a_node("there", **other)]
    assert why(plan(fleet, a_workload(gpus=8, count=2))).reason is Reason.NO_MATCHING_CAPACITY


@pytest.mark.parametrize("model", QuotaModel)
@pytest.mark.parametrize(("used", "replicas"), [(0, 2), (7, 1), (8, None)])
def test_a_gang_that_asks_for_no_minimum_starts_with_whatever_fits_but_never_with_nothing(
    model: QuotaModel, used: int, replicas: int | None
) -> None:
    node, policy = a_node("n", used=used, topology=(("rack", "a"),)), by_model(model)
    wishes: list[dict[str, Any]] = [{}, {"required": "rack"}, {"groups": [ReplicaGroup(name=name, minimum=0) for name in "ab"]}]
    for wish in wishes:
        asked = {"gpus": 1, "count": 2, "minimum": 0} | wish
        plan = schedule(a_snapshot([node], [a_queue("research", 8)], a_workload(**asked), policy=policy), NOON)
        assert {id: placement.replicas for id, placement in started(plan).items()} == ({"w": replicas} if replicas else {})


@pytest.mark.parametrize("model", QuotaModel)
def test_an_array_that_asks_for_no_minimum_waits_for_room_for_one_task(model: QuotaModel) -> None:
    array = a_workload(gpus=1, tasks=3, minimum=0)
    full = a_snapshot([a_node("n", used=8)], [a_queue("research", 8)], array, policy=by_model(model))
    assert not started(schedule(full, NOON))


def test_every_group_gets_its_minimum_before_any_grows() -> None:
    workers = ReplicaGroup(name="workers", count=8, minimum=2, accelerators=1)
    servers = ReplicaGroup(name="servers", count=2, accelerators=2)
    placement = started(plan(nodes(1), a_workload(groups=[workers, servers])))["w"]
    names = [replica.group for replica in placement.shares[0].replicas]
    assert (names.count("workers"), names.count("servers")) == (4, 2)


def test_an_elastic_gang_grows_as_far_as_room_allows() -> None:
    assert placed([a_node("a", used=3)], a_workload(gpus=1, count=16, minimum=2)) == {"a": 5}


def test_an_elastic_gang_grows_as_far_as_quota_allows() -> None:
    snapshot = a_snapshot(nodes(2), [a_queue("research", 6)], a_workload(gpus=1, count=16, minimum=2))
    assert started(schedule(snapshot, NOON))["w"].replicas == 6


def test_an_array_runs_as_many_unfinished_tasks_as_fit() -> None:
    assert placed([a_node("a", used=4)], a_workload(gpus=1, tasks=100)) == {"a": 4}
    assert placed([a_node("a", used=4)], a_workload(gpus=1, tasks=100, tasks_done=98)) == {"a": 2}


def test_where_more_of_an_array_fits_is_worth_more_than_a_tight_fit() -> None:
    fleet = [a_node("tight", used=7, region="eu-west"), a_node("wide", region="us-east")]
    assert placed(fleet, a_workload(gpus=1, tasks=8)) == {"wide": 8}


# Filters


def test_a_taint_keeps_out_who_does_not_tolerate_all_of_them() -> None:
    fleet = [a_node("lab", taints=["lab", "fragile"])]
    assert why(plan(fleet, a_workload(tolerations=("lab",)))).reason is Reason.NO_MATCHING_CAPACITY
    assert placed(fleet, a_workload(tolerations=("fragile", "lab"))) == {"lab": 1}


@pytest.mark.parametrize("health", [health for health in Health if health.is_there and health is not Health.READY])
def test_only_ready_nodes_are_given_work(health: Health) -> None:
    explanation = why(plan([a_node("a", health=health)], a_workload()))
    assert explanation.reason is Reason.NO_READY_CAPACITY
    message, _, why_not = explanation.message.partition(": ")
    assert message == "no ready node is acceptable; h100 in aws eu-west would be, once ready"
    assert bool(why_not) == (health in {Health.SUSPECT, Health.LOST}), "what an operator ordered needs no looking up"


@pytest.mark.parametrize("health", [health for health in Health if not health.is_there])
def test_nodes_that_are_not_there_are_given_no_work(health: Health) -> None:
    explanation = why(plan([a_node("a", health=health)], a_workload()))
    assert explanation.reason is Reason.NO_READY_CAPACITY
    assert explanation.message == "no node that is there is acceptable; h100 in aws eu-west could be added"


@pytest.mark.parametrize(
    ("target", "node"),
    [
        (Target(skus=("a100",)), "a100"),
        (Target(regions=("us-east",)), "us"),
        (Target(providers=("gcp",)), "gcp"),
        (Target(capacity_types=(CapacityType.SPOT,)), "spot"),
    ],
)
def test_a_target_names_what_is_acceptable(target: Target, node: str) -> None:
    fleet = [
        a_node("plain", price=0),
        a_node("a100", sku="a100"),
        a_node("us", region="us-east"),
        a_node("gcp", provider="gcp"),
        a_node("spot", capacity_type=CapacityType.SPOT),
    ]
    assert placed(fleet, a_workload(targets=[target])) == {node: 1}


# Targets

H100, A100 = Target(skus=("h100",)), Target(skus=("a100",))
DEAR_AND_CHEAP = [a_node("h", price=3_000_000), a_node("a", sku="a100", price=1_000_000)]


def test_ordered_targets_are_taken_in_their_order() -> None:
    placement = started(plan(DEAR_AND_CHEAP, a_workload(targets=[H100, A100])))["w"]
    assert (placement.sku, placement.target) == ("h100", 0)


def test_priced_targets_are_taken_by_price() -> None:
    placement = started(plan(DEAR_AND_CHEAP, a_workload(targets=[H100, A100], selection=Selection.PRICED)))["w"]
    assert (placement.sku, placement.target) == ("a100", 1)


def test_without_targets_the_cheapest_place_is_taken() -> None:
    placement = started(plan(DEAR_AND_CHEAP, a_workload()))["w"]
    assert (placement.sku, placement.target) == ("a100", None)


def test_the_next_target_is_taken_when_the_first_has_no_room() -> None:
    fleet = [a_node("h", used=8), a_node("a", sku="a100")]
    assert started(plan(fleet, a_workload(targets=[H100, A100])))["w"].target == 1


def test_a_target_has_its_own_count() -> None:
    fleet = [a_node("h", used=1), *nodes(2, sku="a100")]
    many = Target(skus=("a100",), count=16)
    assert started(plan(fleet, a_workload(gpus=1, count=8, targets=[H100, many])))["w"].replicas == 16


def test_a_target_opens_when_the_workload_has_waited_long_enough() -> None:
    fleet = [a_node("h", used=8), a_node("a", sku="a100")]
    later = Target(skus=("a100",), after_seconds=600)
    patient = a_workload(targets=[H100, later], submitted_at=NOON - seconds(599))
    assert why(plan(fleet, patient)).reason is Reason.NOT_ENOUGH_FREE_ACCELERATORS
    assert "w" in started(plan(fleet, a_workload(targets=[H100, later], submitted_at=NOON - seconds(600))))


def test_before_any_target_is_open_the_workload_waits_for_relaxation() -> None:
    workload = a_workload(targets=[Target(after_seconds=60)], submitted_at=NOON)
    assert why(plan(nodes(1), workload)).message == "no target is open yet; the next one opens at 2030-06-01T12:01:00Z"


def test_where_only_a_later_target_can_match_the_workload_waits_for_relaxation() -> None:
    targets = [Target(skus=("b200",)), Target(skus=("h100",), after_seconds=60)]
    assert why(plan(nodes(1), a_workload(targets=targets, submitted_at=NOON))).reason is Reason.WAITING_FOR_RELAXATION


def test_nothing_starts_before_its_earliest_start() -> None:
    explanation = why(plan(nodes(1), a_workload(earliest_start=NOON + seconds(1))))
    assert explanation.reason is Reason.NOT_YET_EARLIEST_START
    assert "w" in started(plan(nodes(1), a_workload(earliest_start=NOON)))


# Topology


def racks(*free: tuple[int, ...]) -> list[Node]:
    """One rack for each tuple, with as many free devices on each of its nodes."""
    return [
        a_node(f"r{rack}n{index}", used=8 - number, topology=(("block", f"b{rack // 2}"), ("rack", f"r{rack}")))
        for rack, numbers in enumerate(free)
        for index, number in enumerate(numbers)
    ]


def test_required_topology_takes_the_narrowest_domain_that_fits() -> None:
    fleet = racks((8, 8, 8), (8, 8), (8,))
    assert placed(fleet, a_workload(gpus=8, count=2, required="rack")) == {"r1n0": 1, "r1n1": 1}


def test_required_topology_waits_rather_than_spread() -> None:
    fleet = racks((8, 4), (8, 4))
    explanation = why(plan(fleet, a_workload(gpus=8, count=2, required="rack")))
    assert explanation.reason is Reason.TOPOLOGY_DOMAIN_TOO_SMALL
    assert (
        explanation.message == "needs 16 whole h100 (2 replicas of 8) in one rack; the most that fit in one is 8 (aws eu-west)"
    )


def test_preferred_topology_is_tried_first_and_given_up_for_room() -> None:
    assert set(placed(racks((8, 0), (8, 8)), a_workload(gpus=8, count=2, preferred="rack"))) == {"r1n0", "r1n1"}
    assert set(placed(racks((8, 0), (8, 0)), a_workload(gpus=8, count=2, preferred="rack"))) == {"r0n0", "r1n0"}


def test_preferred_topology_gives_way_within_the_required_one() -> None:
    fleet = racks((8, 0), (8, 0), (8,), (8,))
    assert set(placed(fleet, a_workload(gpus=8, count=2, required="block", preferred="rack"))) == {"r0n0", "r1n0"}


def test_an_elastic_gang_that_fits_nowhere_whole_takes_the_domain_it_can_grow_in() -> None:
    assert placed(racks((2,), (5,), (4,)), a_workload(gpus=1, count=8, minimum=1, required="rack")) == {"r1n0": 5}


def test_a_topology_level_that_no_node_has_is_refused() -> None:
    explanation = why(plan(racks((8,)), a_workload(required="island")))
    assert explanation.reason is Reason.NO_MATCHING_CAPACITY
    assert explanation.message == (
        "asks for 1 whole h100 in one island; its nodes know no such level, but block, rack; correct the required level"
    )


def test_a_topology_level_that_is_only_preferred_may_be_unknown() -> None:
    assert "w" in started(plan(nodes(1), a_workload(preferred="island")))


# Refusals say what was asked, what exists, and what to do


@pytest.mark.parametrize(
    ("workload", "reason", "message"),
    [
        (
            a_workload(queue="nowhere"),
            Reason.UNKNOWN_QUEUE,
            "queue nowhere does not exist; check its name, ask an operator which queue is yours, or have nowhere defined",
        ),
        (
            a_workload(targets=[Target(skus=("tpu",))]),
            Reason.NO_MATCHING_CAPACITY,
            "asks for SKU tpu; the fleet has a100, h100; correct the SKU or add a target",
        ),
        (
            a_workload(targets=[Target(skus=("h100",), regions=("mars",))]),
            Reason.NO_MATCHING_CAPACITY,
            "asks for region mars; the fleet has eu-west; correct the region or add a target",
        ),
        (
            a_workload(gpus=16),
            Reason.NO_MATCHING_CAPACITY,
            "one replica needs 16 a100 on one node; the largest node has 8 (aws eu-west);"
            " use smaller replicas, or add a target",
        ),
        (
            a_workload(gpus=8, count=3, targets=[H100]),
            Reason.NO_MATCHING_CAPACITY,
            "asks for 24 whole h100 (3 replicas of 8) in one region; the largest has room for 16 when idle (aws eu-west);"
            " ask for less, or add a target",
        ),
        (
            a_workload(cpu_milli=10**6),
            Reason.NO_MATCHING_CAPACITY,
            "asks for 1 replica; idle nodes have cpu and memory for 0 in one region (aws eu-west);"
            " ask for less cpu or memory per replica, or add a target",
        ),
        (
            a_workload(gpus=8, count=2, queue="small", targets=[H100]),
            Reason.NEVER_WITHIN_QUOTA,
            "asks for 16 whole h100 (2 replicas of 8); queue small could never have more than 12;"
            " ask for less, use another queue or raise its quota",
        ),
    ],
)
def test_what_can_never_run_is_refused_at_once(workload: AWorkload, reason: Reason, message: str) -> None:
    fleet = [*nodes(2, used=8), a_node("a", sku="a100", used=8)]
    queues = [a_queue("research", 100, quotas=[a_quota(100, sku="a100")])]
    if workload.spec.queue == "small":
        queues = [a_queue("small", 12)]
    explanation = why(schedule(a_snapshot(fleet, queues, workload), NOON))
    assert (explanation.reason, explanation.message) == (reason, message)


def test_what_a_coming_grant_will_allow_is_not_refused() -> None:
    grant = a_quota(16, valid_from=NOON + seconds(60), valid_until=NOON + seconds(120))
    snapshot = a_snapshot(nodes(2), [a_queue("research", 4, quotas=[grant])], a_workload(gpus=8))
    assert why(schedule(snapshot, NOON)).reason is Reason.WAITING_FOR_QUOTA


def test_what_a_later_target_will_allow_is_not_refused() -> None:
    targets = [Target(skus=("tpu",)), Target(after_seconds=10**6)]
    assert why(plan(nodes(1), a_workload(targets=targets))).reason is Reason.WAITING_FOR_RELAXATION


def test_nothing_is_refused_for_capacity_before_the_fleet_is_known() -> None:
    assert why(plan([], a_workload(gpus=100))).reason is Reason.NO_READY_CAPACITY


def test_nothing_is_refused_for_capacity_while_a_provider_has_told_nothing() -> None:
    snapshot = a_snapshot(nodes(1), PLENTY, a_workload(gpus=100))
    for is_complete, decision in ((True, Refuse), (False, Wait)):
        [decided] = schedule(replace(snapshot, is_complete=is_complete), NOON).decisions
        assert isinstance(decided, decision)


def test_work_behind_a_waiting_gang_starts_on_what_the_gang_cannot_use() -> None:
    fleet = [a_node("a", used=4), a_node("b", used=8)]
    gang = a_workload("gang", gpus=8, submitted_at=LONG_AGO)
    small = a_workload("small", gpus=2, submitted_at=NOON)
    assert set(started(plan(fleet, gang, small))) == {"small"}
