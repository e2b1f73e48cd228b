"""Spread: how many replicas of a group sit in one domain at most, or should, and what is told where they cannot."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from corral.api import FixKind, Reason, ReplicaGroup, Spread, Topology
from corral.policy import Disruption, Exactness, Goals, Policy, QuotaModel, Rank, TopologyProfile
from domain.advice.fixes import cheapest_fixes
from domain.advice.whatif import followed
from domain.decision import Plan
from domain.pool.fleet import Node, Placement
from domain.pool.workload import Active
from domain.round import schedule
from tests.builders import (
    NOON,
    UNPROMISED,
    AWorkload,
    a_node,
    a_queue,
    a_quota,
    a_snapshot,
    a_workload,
    in_cohorts,
    nodes_of,
    started,
    why,
)

QUEUES = [a_queue("research", quotas=[a_quota(1_000)])]
DOLLAR = 1_000_000


def racks(*free: int, block: str = "b", **fields: Any) -> list[Node]:
    """One node a rack, all in one block, with so many accelerators free."""
    return [
        a_node(f"{block}{index}", gpus=gpus, topology=(("block", block), ("rack", f"{block}{index}")), **fields)
        for index, gpus in enumerate(free)
    ]


def apart(count: int, maximum: int, *, level: str = "rack", worth: float | None = None, **fields: Any) -> AWorkload:
    """Single accelerators of which so many may, or should, sit in one domain."""
    topology = {key: fields.pop(key) for key in ("required", "preferred", "slice_level", "slice_size") if key in fields}
    asked = Topology(spread=Spread(level=level, maximum=maximum, worth=worth), **topology)
    group = ReplicaGroup(count=count, topology=asked, minimum=fields.pop("minimum", None))
    return a_workload(groups=[group], **fields)


def decided(fleet: list[Node], workload: AWorkload, policy: Policy | None = None) -> Plan:
    return schedule(a_snapshot(fleet, QUEUES, workload, policy=policy), NOON)


def placed(fleet: list[Node], workload: AWorkload, policy: Policy | None = None) -> Placement:
    return started(decided(fleet, workload, policy))["w"]


def in_racks(placement: Placement) -> list[int]:
    return sorted(nodes_of(placement).values())


@pytest.mark.parametrize("profile", TopologyProfile)
def test_no_rack_has_more_than_its_share(profile: TopologyProfile) -> None:
    policy = Policy(goals=Goals(topology=profile))

    assert in_racks(placed(racks(8, 8, 8), apart(6, 2), policy)) == [2, 2, 2]
    assert max(in_racks(placed(racks(8, 8, 8, 8), apart(5, 3, preferred="block"), policy))) <= 3


def test_a_large_fleet_is_no_different() -> None:
    assert in_racks(placed(racks(*[8] * 40), apart(6, 2))) == [2, 2, 2]
    assert in_racks(placed(racks(*[8] * 40), apart(6, 2, worth=0.5))) == [2, 2, 2]
    assert why(decided(racks(*[8] * 40), apart(82, 2))).message.startswith("asks for 82 replicas, at most 2 of a group")


@pytest.mark.parametrize("policy", [Policy(), in_cohorts(), Policy(rank=Rank(quota_model=QuotaModel.DESERVED))])
def test_every_quota_model_keeps_replicas_apart(policy: Policy) -> None:
    assert in_racks(placed(racks(8, 8, 8), apart(3, 1), policy)) == [1, 1, 1]
    assert in_racks(placed(racks(8, 8), apart(8, 2, minimum=2), policy)) == [2, 2]


def test_a_spread_counts_below_the_level_at_which_the_gang_sits_together() -> None:
    fleet = [*racks(8, 8, block="small"), *racks(8, 8, 8, block="large")]

    assert set(nodes_of(placed(fleet, apart(3, 1, required="block")))) == {"large0", "large1", "large2"}


def test_slices_are_whole_and_apart() -> None:
    fleet = [*racks(4, 4, block="b"), *racks(4, 4, block="c")]

    placement = placed(fleet, apart(4, 2, level="block", slice_level="rack", slice_size=2))

    assert Counter(node_id[0] for node_id in nodes_of(placement)) == {"b": 1, "c": 1}
    assert in_racks(placement) == [2, 2]


def test_two_groups_are_each_kept_apart() -> None:
    groups = [ReplicaGroup(name="a", count=2, accelerators=2), ReplicaGroup(name="b", count=3), ReplicaGroup(name="c", count=2)]
    fleet = racks(8, 8, 8)
    workload = a_workload(groups=groups).spec.model_copy(update={"topology": Topology(spread=Spread(level="rack", maximum=1))})

    found = placed(fleet, AWorkload(workload))

    seats = Counter((share.node_id, replica.group) for share in found.shares for replica in share.replicas)
    assert set(seats.values()) == {1}


def test_a_node_that_does_not_say_its_rack_is_no_place() -> None:
    assert in_racks(placed([*racks(8, 8), a_node("loose")], apart(2, 1))) == [1, 1]
    assert why(decided([*racks(8), a_node("loose")], apart(2, 1))).reason is Reason.NO_MATCHING_CAPACITY


def busy(free: Mapping[str, int]) -> list[Node]:
    """Nodes of eight accelerators in a rack each."""
    return [a_node(id, used=8 - number, topology=(("rack", id),)) for id, number in free.items()]


def test_it_waits_where_too_few_domains_have_room_and_says_so() -> None:
    explanation = why(decided(busy({"a": 8, "b": 1, "c": 0}), apart(6, 2)))

    assert explanation.reason is Reason.TOO_FEW_DOMAINS
    assert (
        explanation.message
        == "needs 6 replicas, at most 2 of a group in one rack; there is room for 3 of them so (aws eu-west)"
    )


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        (
            apart(6, 2),
            "asks for 6 replicas, at most 2 of a group in one rack; there is room for 4 of them so when idle (aws eu-west);"
            " ask for fewer, or let more of them sit in one",
        ),
        (
            apart(6, 2, level="island"),
            "asks for 6 replicas, at most 2 of a group in one island; its nodes know no such level, but block, rack;"
            " correct the level of the spread",
        ),
        (
            apart(6, 2, required="rack"),
            "asks for 6 replicas, at most 2 of a group in one rack; there is room for 2 of them so when idle (aws eu-west);"
            " ask for fewer, or let more of them sit in one",
        ),
    ],
)
def test_what_can_never_be_apart_is_refused(workload: AWorkload, message: str) -> None:
    explanation = why(decided(racks(8, 8), workload))

    assert (explanation.reason, explanation.message) == (Reason.NO_MATCHING_CAPACITY, message)


def test_the_least_that_would_start_it_is_offered() -> None:
    waiting = AWorkload(
        a_workload(count=6).spec.model_copy(update={"topology": Topology(spread=Spread(level="rack", maximum=2))})
    )
    snapshot = a_snapshot(busy({"a": 8, "b": 2, "c": 0}), QUEUES, waiting)

    closer = next(fix for fix in cheapest_fixes("w", snapshot, NOON) if fix.kind is FixKind.WIDEN_TOPOLOGY)

    assert closer.message == "let 4 replicas sit in one rack instead of 2"
    assert followed(closer, waiting.spec).topology.spread == Spread(level="rack", maximum=4)


def test_what_grows_keeps_its_distance_from_what_is_there() -> None:
    deserved = UNPROMISED.model_copy(update={"rank": UNPROMISED.rank.model_copy(update={"quota_model": QuotaModel.DESERVED})})
    first, second = racks(8, 8)
    running = apart(4, 1, minimum=1).on((first, 1))

    plan = schedule(a_snapshot([first, second], QUEUES, running, policy=deserved), NOON)

    assert [nodes_of(reshape.placement) for reshape in plan.reshapes] == [{"b0": 1, "b1": 1}]


@pytest.mark.parametrize("exact", [0, 32], ids=["greedy", "exact"])
def test_room_is_made_in_as_many_domains_as_the_spread_needs(exact: int) -> None:
    policy = UNPROMISED.model_copy(
        update={"rank": UNPROMISED.rank.model_copy(update={"disruption": Disruption(exact=Exactness(nodes=exact))})}
    )
    fleet = racks(2, 2)
    low = [a_workload(f"low-{node.id}-{at}", priority=-1).on((node, 1)) for node in fleet for at in (0, 1)]
    low = [moved(active, at % 2) for at, active in enumerate(low)]

    plan = schedule(a_snapshot(fleet, QUEUES, *low, apart(2, 1), policy=policy), NOON)

    assert sorted(victim.split("-")[1] for victim, _ in plan.preempts) == ["b0", "b1"]


def moved(active: Active, device: int) -> Active:
    """The same on another device of its node of two."""
    (share,) = active.placement.shares
    room = replace(share.room, devices=(1_000, 0) if device == 0 else (0, 1_000))
    seated = tuple(replace(replica, devices=(device,)) for replica in share.replicas)
    return replace(active, placement=replace(active.placement, shares=(replace(share, room=room, replicas=seated),)))


# As a wish


WISHES = [
    (racks(8, 8, 8), {}, [2, 2, 2]),
    (racks(8), {}, [6]),
    ([*racks(8), *racks(8, 8, block="dear", price=3 * DOLLAR)], {}, [6]),
    ([*racks(8), *racks(8, 8, block="dear", price=3 * DOLLAR)], {"spread": {"weight": 10}}, [2, 2, 2]),
    ([*racks(8), *racks(8, 8, block="dear", price=3 * DOLLAR)], {"spread": {"weight": 10, "limit": 0.5}}, [6]),
    (racks(8, 8, 8), {"spread": {"weight": 0}}, [6]),
]


@pytest.mark.parametrize(("fleet", "goals", "expected"), WISHES)
def test_a_wish_is_weighed_and_refuses_nothing(fleet: list[Node], goals: dict[str, Any], expected: list[int]) -> None:
    policy = Policy.model_validate({"goals": {"waste": 0, **goals}})

    assert in_racks(placed(fleet, apart(6, 2, worth=0.5), policy)) == expected


def test_a_start_says_what_it_costs_to_sit_close_together() -> None:
    crowded = decided(racks(8), apart(6, 2, worth=0.6)).starts[0]

    assert dict(crowded.terms)["spread"] == 400_000
