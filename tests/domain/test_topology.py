"""Which domains a gang takes: levels, slices, leaders, even shares, and nodes that groups choose."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from corral.api import Reason, ReplicaGroup, Spread, Target, Topology
from corral.policy import Goals, Policy, TopologyProfile
from domain.placement.layout import Layout, lay_out
from domain.placement.topology import levels_of
from domain.pool.fleet import Node
from domain.quota.tree import QuotaTree
from domain.round import schedule
from domain.snapshot import Snapshot
from domain.worlds.request import Gang
from domain.worlds.world import World
from tests.builders import NOON, UNPROMISED, AWorkload, a_node, a_queue, a_quota, a_snapshot, a_workload, nodes, started, why

BEST_FIT, MIXED, BALANCED = TopologyProfile.BEST_FIT, TopologyProfile.MIXED, TopologyProfile.BALANCED
PLENTY = [a_queue("research", 1000, quotas=[a_quota(1000, sku="a100")])]

Fleet = Mapping[str, Mapping[str, Sequence[int]]]
"""Free accelerators of the nodes of each rack of each block."""

By = dict[str, dict[str, int]]


def a_fleet(blocks: Fleet) -> list[Node]:
    """Nodes named by their rack and their place in it; a rack name is unique only within its block."""
    return [
        a_node(f"{block}-{rack}-{index}", gpus=free, topology=(("block", block), ("rack", rack)))
        for block, racks in blocks.items()
        for rack, numbers in racks.items()
        for index, free in enumerate(numbers)
    ]


def layout_of(fleet: Sequence[Node], *groups: ReplicaGroup, profile: TopologyProfile = BEST_FIT) -> Layout | None:
    world = World.of(a_snapshot(fleet, PLENTY), QuotaTree.at(PLENTY, NOON))
    return lay_out(Gang.of(groups, Topology()), world.nodes(world.classes), profile)


def spread(fleet: Sequence[Node], *groups: ReplicaGroup, profile: TopologyProfile = BEST_FIT) -> By:
    """Replicas of each group by node."""
    layout = layout_of(fleet, *groups, profile=profile)
    assert layout is not None
    found: By = {group.name: {} for group in groups}
    for share in layout.shares:
        for replica in share.replicas:
            found[replica.group][share.node_id] = found[replica.group].get(share.node_id, 0) + 1
    return found


def by_domain(spots: Mapping[str, int], depth: int) -> dict[str, int]:
    """Replicas by block (depth 1) or by rack (depth 2)."""
    counts: dict[str, int] = {}
    for node_id, number in spots.items():
        domain = "-".join(node_id.split("-")[:depth])
        counts[domain] = counts.get(domain, 0) + number
    return counts


def a_group(count: int, *, gpus: int = 1, name: str = "main", **fields: Any) -> ReplicaGroup:
    topology = {key: fields.pop(key) for key in ("required", "preferred", "slice_level", "slice_size") if key in fields}
    asked = Topology(**topology) if topology else None
    return ReplicaGroup(name=name, count=count, accelerators=gpus, topology=asked, **fields)


# One domain


def test_of_the_domains_that_fit_the_one_with_least_room_left_is_taken() -> None:
    fleet = a_fleet({"b1": {"r1": [8, 8], "r2": [3], "r3": [4]}})
    assert spread(fleet, a_group(3, required="rack")) == {"main": {"b1-r2-0": 3}}
    assert spread(fleet, a_group(4, required="rack")) == {"main": {"b1-r3-0": 4}}


def test_inside_a_domain_as_few_narrower_domains_are_used_as_can_be() -> None:
    fleet = a_fleet({"b1": {"r1": [2], "r2": [2], "r3": [1, 1, 1, 1]}})
    assert by_domain(spread(fleet, a_group(4, required="block"))["main"], 2) == {"b1-r3": 4}


def test_the_last_domain_is_the_tightest_of_those_that_take_the_rest() -> None:
    fleet = a_fleet({"b1": {"r1": [6], "r2": [3], "r3": [2]}})
    assert spread(fleet, a_group(8, required="block")) == {"main": {"b1-r1-0": 6, "b1-r3-0": 2}}


def test_racks_of_the_same_name_in_two_blocks_are_two_racks() -> None:
    fleet = a_fleet({"b1": {"r1": [2]}, "b2": {"r1": [2]}})
    assert layout_of(fleet, a_group(4, required="rack")) is None


def test_every_node_is_a_domain_of_the_level_node() -> None:
    fleet = a_fleet({"b1": {"r1": [4, 2]}})
    assert spread(fleet, a_group(3, required="node")) == {"main": {"b1-r1-0": 3}}
    assert layout_of(fleet, a_group(5, required="node")) is None


def test_where_nodes_tie_the_cheaper_one_is_taken() -> None:
    fleet = [a_node("a", price=2, topology=(("rack", "r"),)), a_node("b", price=1, topology=(("rack", "r"),))]
    assert spread(fleet, a_group(8, required="rack")) == {"main": {"b": 8}}


def test_levels_of_nodes_that_do_not_say_all_of_them_are_put_in_one_order() -> None:
    fleet = [
        a_node("a", topology=(("zone", "z"), ("rack", "r"))),
        a_node("b", topology=(("zone", "z"), ("block", "b"), ("rack", "r"))),
        a_node("c"),
    ]
    assert levels_of(fleet) == ("zone", "block", "rack", "node")
    assert spread(fleet, a_group(12, required="zone", preferred="block"))["main"].keys() == {"a", "b"}


def test_nodes_that_do_not_say_a_wider_level_share_the_narrower_ones_that_they_say() -> None:
    elsewhere = a_node("c", gpus=1, topology=(("region", "eu"), ("rack", "r2")))
    fleet = [*(a_node(name, gpus=1, topology=(("rack", "r1"),)) for name in ("a", "b")), elsewhere]
    assert spread(fleet, a_group(2, required="rack")) == {"main": {"a": 1, "b": 1}}
    apart = ReplicaGroup(count=2, topology=Topology(spread=Spread(level="rack", maximum=1)))
    assert "c" in spread(fleet, apart)["main"]
    assert layout_of(fleet[:2], apart) is None


# Preference


def test_a_preference_widens_level_by_level_before_it_is_given_up() -> None:
    fleet = a_fleet({"b1": {"r1": [3], "r2": [3]}, "b2": {"r1": [4], "r2": [1]}})
    assert by_domain(spread(fleet, a_group(4, preferred="rack"))["main"], 2) == {"b2-r1": 4}
    assert by_domain(spread(fleet, a_group(5, preferred="rack"))["main"], 1) == {"b2": 5}
    assert by_domain(spread(fleet, a_group(7, preferred="rack"))["main"], 2) == {"b2-r1": 4, "b1-r1": 3}


def test_a_preference_inside_a_requirement_widens_no_further() -> None:
    fleet = a_fleet({"b1": {"r1": [2], "r2": [2]}, "b2": {"r1": [3]}})
    assert by_domain(spread(fleet, a_group(4, required="block", preferred="rack"))["main"], 1) == {"b1": 4}
    assert layout_of(fleet, a_group(5, required="block", preferred="rack")) is None


# No topology asked for


def test_without_topology_small_work_fills_broken_nodes_under_best_fit() -> None:
    fleet = a_fleet({"b1": {"r1": [1, 1, 2, 8]}})
    assert spread(fleet, a_group(2)) == {"main": {"b1-r1-0": 1, "b1-r1-1": 1}}


def test_without_topology_the_least_free_domain_that_takes_all_is_taken_under_mixed() -> None:
    fleet = a_fleet({"b1": {"r1": [1, 1], "r2": [4], "r3": [3]}})
    assert by_domain(spread(fleet, a_group(2), profile=MIXED)["main"], 2) == {"b1-r1": 2}
    assert by_domain(spread(fleet, a_group(3), profile=MIXED)["main"], 2) == {"b1-r3": 3}
    assert by_domain(spread(fleet, a_group(6), profile=MIXED)["main"], 2) == {"b1-r1": 2, "b1-r3": 3, "b1-r2": 1}


# Slices


def test_slices_each_stay_in_one_domain() -> None:
    fleet = a_fleet({"b1": {"r1": [3, 2], "r2": [3, 3]}})
    placed = by_domain(spread(fleet, a_group(8, required="block", slice_level="rack", slice_size=4))["main"], 2)
    assert placed == {"b1-r1": 4, "b1-r2": 4}
    assert layout_of(fleet, a_group(12, required="block", slice_level="rack", slice_size=4)) is None


def test_consecutive_replicas_make_a_slice() -> None:
    layout = layout_of(a_fleet({"b1": {"r1": [2, 2], "r2": [2, 2]}}), a_group(8, slice_level="rack", slice_size=4))
    assert layout is not None
    racks = {replica.index: share.node_id[:5] for share in layout.shares for replica in share.replicas}
    assert len({racks[index] for index in range(4)}) == len({racks[index] for index in range(4, 8)}) == 1


def test_the_last_slice_may_be_smaller_than_the_others() -> None:
    fleet = a_fleet({"b1": {"r1": [4], "r2": [4]}})
    assert sorted(spread(fleet, a_group(6, slice_level="rack", slice_size=4))["main"].values()) == [2, 4]


def test_a_smaller_last_slice_needs_no_room_for_a_whole_one() -> None:
    fleet = a_fleet({"b1": {"r1": [4], "r2": [2]}})
    assert spread(fleet, a_group(6, slice_level="rack", slice_size=4)) == {"main": {"b1-r1-0": 4, "b1-r2-0": 2}}


def test_slices_wider_than_the_domain_that_must_hold_them_fit_nowhere() -> None:
    assert layout_of(a_fleet({"b1": {"r1": [8]}}), a_group(2, required="rack", slice_level="block", slice_size=2)) is None


# Groups of one gang


def test_groups_with_topologies_of_their_own_may_sit_in_different_domains() -> None:
    fleet = a_fleet({"b1": {"r1": [2], "r2": [4]}})
    placed = spread(fleet, a_group(4, name="train", required="rack"), a_group(2, name="serve", required="rack"))
    assert placed == {"train": {"b1-r2-0": 4}, "serve": {"b1-r1-0": 2}}


def test_colocated_groups_share_the_domain() -> None:
    fleet = a_fleet({"b1": {"r1": [2], "r2": [4, 3]}})
    leader = a_group(1, name="leader", required="rack", colocate="pair")
    placed = spread(fleet, leader, a_group(2, name="workers", gpus=2, required="rack", colocate="pair"))
    assert {node[:5] for spots in placed.values() for node in spots} == {"b1-r2"}


def test_a_group_without_a_topology_shares_that_of_the_group_it_is_colocated_with() -> None:
    fleet = a_fleet({"b1": {"r1": [2], "r2": [4, 3]}})
    helper = a_group(2, name="helper", colocate="pair")
    placed = spread(fleet, helper, a_group(4, name="workers", required="rack", colocate="pair"))
    assert {node[:5] for spots in placed.values() for node in spots} == {"b1-r2"}
    assert (
        layout_of(
            fleet, a_group(4, name="helper", colocate="pair"), a_group(4, name="workers", required="rack", colocate="pair")
        )
        is None
    )


def test_the_leader_sits_where_it_costs_the_workers_least() -> None:
    fleet = a_fleet({"b1": {"r1": [2, 4, 3]}})
    leader = a_group(1, name="leader", required="rack", colocate="pair")
    placed = spread(fleet, leader, a_group(4, name="workers", gpus=2, required="rack", colocate="pair"))
    assert placed == {"leader": {"b1-r1-2": 1}, "workers": {"b1-r1-0": 1, "b1-r1-1": 2, "b1-r1-2": 1}}


def test_a_leader_needs_no_level_that_only_the_slices_of_its_workers_need() -> None:
    fleet = [*a_fleet({"b1": {"r1": [2]}}), a_node("apart", gpus=1, topology=(("block", "b1"),))]
    leader = a_group(1, name="leader", required="block", colocate="pair")
    workers = a_group(2, name="workers", required="block", colocate="pair", slice_level="rack", slice_size=2)
    assert spread(fleet, leader, workers) == {"leader": {"apart": 1}, "workers": {"b1-r1-0": 2}}


def test_packed_groups_with_slices_are_placed_wherever_they_fit() -> None:
    fleet = a_fleet({"b1": {"r1": [1, 4]}})
    leader = a_group(1, name="leader", preferred="node", colocate="pair")
    workers = a_group(4, name="workers", preferred="node", colocate="pair", slice_level="node", slice_size=2)
    placed = spread(fleet, leader, workers, profile=TopologyProfile.PACKED)
    assert placed == {"leader": {"b1-r1-0": 1}, "workers": {"b1-r1-1": 4}}


def test_three_colocated_groups_share_the_domain_too() -> None:
    fleet = a_fleet({"b1": {"r1": [8], "r2": [4, 3]}, "b2": {"r1": [6]}})
    groups = [a_group(2, name=name, required="rack", colocate="trio") for name in ("one", "two", "three")]
    placed = spread(fleet, *groups)
    assert {by_domain(spots, 2).popitem()[0] for spots in placed.values()} == {"b2-r1"}


def test_a_group_that_must_sit_together_is_not_crowded_out_by_one_given_before_it() -> None:
    fleet = a_fleet({"b1": {"r1": [4], "r2": [3]}})
    placed = spread(fleet, a_group(3, name="anywhere", preferred="node"), a_group(4, name="together", required="node"))
    assert placed == {"anywhere": {"b1-r2-0": 3}, "together": {"b1-r1-0": 4}}
    placed = spread(fleet, a_group(4, name="anywhere", preferred="block"), a_group(3, name="together", required="node"))
    assert placed["together"] == {"b1-r2-0": 3}


def test_groups_that_fit_in_one_way_alone_find_it() -> None:
    fleet = [a_node("a", gpus=4, cpu_milli=2), a_node("b", gpus=2, cpu_milli=4)]
    hungry, plain = a_group(1, gpus=2, name="hungry", cpu_milli=4), a_group(2, gpus=2, name="plain", cpu_milli=1)
    assert spread(fleet, plain, hungry) == {"plain": {"a": 2}, "hungry": {"b": 1}}
    small = [a_node("a", free=(600, 500), cpu_milli=100), a_node("b", free=(500,), cpu_milli=0)]
    half, more = (
        ReplicaGroup(name="half", count=2, accelerators=0.5),
        ReplicaGroup(name="more", accelerators=0.6, cpu_milli=100),
    )
    assert spread(small, half, more) == {"half": {"a": 1, "b": 1}, "more": {"a": 1}}


def test_each_group_grows_as_far_as_its_domain_allows() -> None:
    fleet = a_fleet({"b1": {"r1": [5], "r2": [3]}})
    placed = spread(fleet, a_group(8, name="elastic", minimum=1, required="rack"), a_group(3, name="fixed", required="rack"))
    assert placed == {"elastic": {"b1-r1-0": 5}, "fixed": {"b1-r2-0": 3}}


# Even shares


def test_balanced_placement_makes_the_smallest_share_as_large_as_can_be() -> None:
    fleet = a_fleet({"b1": {"r1": [10, 10]}})
    assert spread(fleet, a_group(12, preferred="rack"), profile=BALANCED) == {"main": {"b1-r1-0": 6, "b1-r1-1": 6}}
    assert spread(fleet, a_group(12, preferred="rack")) == {"main": {"b1-r1-0": 10, "b1-r1-1": 2}}


def test_balanced_placement_uses_as_few_domains_as_can_be() -> None:
    fleet = a_fleet({"b1": {"r1": [8, 8, 8, 2]}})
    assert sorted(spread(fleet, a_group(16, preferred="rack"), profile=BALANCED)["main"].values()) == [8, 8]


def test_what_must_sit_in_one_domain_is_not_balanced() -> None:
    fleet = a_fleet({"b1": {"r1": [10, 10]}})
    assert spread(fleet, a_group(12, required="rack"), profile=BALANCED) == {"main": {"b1-r1-0": 10, "b1-r1-1": 2}}


# What groups ask of nodes


def plan_for(fleet: Sequence[Node], workload: AWorkload, policy: Policy | None = None) -> Snapshot:
    return a_snapshot(fleet, PLENTY, workload, policy=policy)


def test_a_group_uses_only_nodes_with_one_of_the_named_values() -> None:
    fleet = [a_node("a", labels={"disk": "slow"}), a_node("b", labels={"disk": "fast"}), a_node("c")]
    group = ReplicaGroup(nodes={"disk": ("fast", "faster")})
    assert started(schedule(plan_for(fleet, a_workload(groups=[group])), NOON))["w"].shares[0].node_id == "b"


@pytest.mark.parametrize("name", ["rack", "node"])
def test_a_group_may_name_levels_and_nodes(name: str) -> None:
    fleet = [a_node("a", topology=(("rack", "x"),)), a_node("b", topology=(("rack", "b"),))]
    assert spread(fleet, ReplicaGroup(nodes={name: ("b",)})) == {"main": {"b": 1}}


def test_groups_that_name_skus_sit_on_several_of_one_region() -> None:
    fleet = [a_node("h"), a_node("a", sku="a100"), a_node("far", sku="a100", region="us-east")]
    groups = [ReplicaGroup(name="train", accelerators=8, skus=("h100",)), ReplicaGroup(name="serve", skus=("a100",))]
    placement = started(schedule(plan_for(fleet, a_workload(groups=groups)), NOON))["w"]
    assert (placement.sku, placement.by_sku) == ("h100", {"h100": 8000, "a100": 1000})
    assert [(share.node_id, share.sku) for share in placement.shares] == [("a", "a100"), ("h", "")]


def test_each_sku_of_a_gang_needs_quota_of_its_own() -> None:
    fleet = [a_node("h"), a_node("a", sku="a100")]
    groups = [ReplicaGroup(name="train", skus=("h100",)), ReplicaGroup(name="serve", accelerators=2, skus=("a100",))]
    queues = [a_queue("research", 8, quotas=[a_quota(1, sku="a100", cap=2)])]
    waits = a_snapshot(fleet, queues, a_workload(groups=groups, preemptible=False))
    assert why(schedule(waits, NOON)).reason is Reason.NEVER_WITHIN_QUOTA
    assert why(schedule(waits, NOON)).message == (
        "asks for 2 whole a100; queue research could never have more than 1 as work that may not be preempted;"
        " ask for less, use another queue or raise its quota"
    )


def test_groups_that_accept_the_same_skus_get_the_same_one() -> None:
    fleet = [a_node("h", used=6), a_node("a", sku="a100", used=5)]
    groups = [ReplicaGroup(name=name, accelerators=1, skus=("h100", "a100")) for name in ("one", "two", "three")]
    assert started(schedule(plan_for(fleet, a_workload(groups=groups)), NOON))["w"].by_sku == {"a100": 3000}


def test_a_region_without_a_sku_that_a_group_needs_is_no_place_for_the_gang() -> None:
    groups = [ReplicaGroup(name="train", skus=("h100",)), ReplicaGroup(name="serve", skus=("a100",))]
    fleet = [a_node("h"), a_node("a", sku="a100", region="us-east")]
    assert why(schedule(plan_for(fleet, a_workload(groups=groups)), NOON)).reason is Reason.NO_MATCHING_CAPACITY


def test_a_group_may_tolerate_what_the_others_do_not() -> None:
    fleet = [a_node("lab", taints=["lab"]), a_node("plain", used=7)]
    groups = [ReplicaGroup(name="one", tolerations=("lab",)), ReplicaGroup(name="two")]
    placed = spread(fleet, *groups)
    assert placed["two"] == {"plain": 1}
    assert "w" in started(schedule(plan_for(fleet, a_workload(groups=groups)), NOON))


def test_a_node_takes_no_more_replicas_than_it_may() -> None:
    fleet = [a_node("a", maximum_replicas=3), a_node("b", maximum_replicas=2)]
    assert spread(fleet, a_group(5)) == {"main": {"a": 3, "b": 2}}
    assert layout_of(fleet, a_group(6)) is None


def test_replicas_that_are_already_on_a_node_count() -> None:
    node = a_node("a", maximum_replicas=3)
    running = a_workload("r", count=2).on((node, 2))
    for count, fits in ((1, True), (2, False)):
        snapshot = a_snapshot([node], PLENTY, running, a_workload(count=count))
        assert ("w" in started(schedule(snapshot, NOON))) is fits


def test_who_leaves_makes_room_for_other_replicas() -> None:
    node = a_node("a", maximum_replicas=2)
    low = a_workload("low", count=2, priority=0).on((node, 2))
    plan = schedule(a_snapshot([node], PLENTY, low, a_workload(count=2, priority=1), policy=UNPROMISED), NOON)
    assert plan.preempts == (("low.1", "w"),)


# The fewest replicas


def test_a_gang_starts_with_its_fewest_replicas_over_all_groups() -> None:
    groups = [ReplicaGroup(name="large", count=2, minimum=0, accelerators=8), ReplicaGroup(name="small", count=3, minimum=0)]
    fleet = [a_node("a", used=6)]
    assert "w" in started(schedule(plan_for(fleet, a_workload(groups=groups, minimum_replicas=2)), NOON))
    assert why(schedule(plan_for(fleet, a_workload(groups=groups, minimum_replicas=3)), NOON)).reason is (
        Reason.NOT_ENOUGH_FREE_ACCELERATORS
    )


# Why not


@pytest.mark.parametrize(
    ("group", "reason", "message"),
    [
        (
            a_group(4, gpus=8, required="block", slice_level="rack", slice_size=2),
            Reason.TOPOLOGY_DOMAIN_TOO_SMALL,
            "needs 32 whole h100 (4 replicas of 8) in one block, 2 at a time in one rack; the most that fit so is 16"
            " (aws eu-west)",
        ),
        (
            a_group(4, slice_level="island", slice_size=2),
            Reason.NO_MATCHING_CAPACITY,
            "asks for 4 whole h100 2 at a time in one island; its nodes know no such level, but block, rack;"
            " correct the required level",
        ),
        (
            ReplicaGroup(accelerators=8, nodes={"node": ("b2-r2-0",)}),
            Reason.NOT_ENOUGH_FREE_ACCELERATORS,
            "needs 8 whole h100 on one node; the most free in one is 0 (aws eu-west)",
        ),
        (
            a_group(3, gpus=0, cpu_milli=60_000, required="rack"),
            Reason.NO_MATCHING_CAPACITY,
            "asks for 3 replicas without accelerators in one rack; the largest has room for 2 of 3 replicas when idle"
            " (aws eu-west); ask for less, or require a wider level",
        ),
        (
            ReplicaGroup(nodes={"rack": ("r9",)}),
            Reason.NO_MATCHING_CAPACITY,
            "group main may use none of the nodes with h100 in aws eu-west: see the SKUs, the nodes and the tolerations"
            " that it names; correct them, or add a target",
        ),
    ],
)
def test_why_a_group_fits_nowhere(group: ReplicaGroup, reason: Reason, message: str) -> None:
    racks = {"r1": [8], "r2": [8, 8], "r3": [8]}
    fleet = [
        a_node(node.id, topology=node.topology, used=8 if node.id.startswith("b2-r2") else 0)
        for node in a_fleet({"b1": racks, "b2": {"r1": [8, 8], "r2": [8, 8]}})
    ]
    explanation = why(schedule(plan_for(fleet, a_workload(groups=[group])), NOON))
    assert (explanation.reason, explanation.message) == (reason, message)


def test_nodes_that_take_no_more_replicas_are_named_as_the_reason() -> None:
    node = a_node("a", maximum_replicas=2)
    running = a_workload("r", count=2, preemptible=False).on((node, 2))
    explanation = why(schedule(a_snapshot([node], PLENTY, running, a_workload()), NOON))
    assert explanation.reason is Reason.NODES_TAKE_NO_MORE_REPLICAS
    assert explanation.message == "needs nodes that take 1 replica; beside what runs there they take 0 (aws eu-west)"


def test_more_replicas_than_all_nodes_take_are_refused() -> None:
    explanation = why(schedule(plan_for(nodes(2, maximum_replicas=2), a_workload(count=5, targets=[Target()])), NOON))
    assert explanation.reason is Reason.NO_MATCHING_CAPACITY
    assert explanation.message == (
        "asks for 5 replicas; idle nodes take 4 in one region (aws eu-west); ask for fewer and larger replicas, or add a target"
    )


def test_the_policy_chooses_the_profile() -> None:
    fleet = a_fleet({"b1": {"r1": [8, 8]}})
    workload = a_workload(gpus=1, count=12, preferred="rack")
    for profile, shares in ((BALANCED, [6, 6]), (BEST_FIT, [4, 8])):
        snapshot = plan_for(fleet, workload, Policy(goals=Goals(topology=profile)))
        placement = started(schedule(snapshot, NOON))["w"]
        assert sorted(len(share.replicas) for share in placement.shares) == shares
