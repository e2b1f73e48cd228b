"""Affinity: replica groups like and dislike nodes by their labels and levels, each with what that is worth to them."""

from collections.abc import Sequence
from typing import Any

import pytest

from corral.api import Affinity, ReplicaGroup, Topology
from corral.policy import Policy, QuotaModel, Rank
from domain.pool.fleet import Node
from domain.round import schedule
from tests.builders import (
    NOON,
    AWorkload,
    a_node,
    a_queue,
    a_quota,
    a_snapshot,
    a_workload,
    in_cohorts,
    nodes_of,
    started,
)

DOLLAR = 1_000_000
QUEUES = [a_queue("research", quotas=[a_quota(64), a_quota(64, sku="a100")])]


def likes(worth: float, **labels: str) -> Affinity:
    return Affinity(nodes={name: (value,) for name, value in labels.items()}, worth=worth)


def placed(fleet: Sequence[Node], workload: AWorkload, policy: Policy | None = None, **goals: Any) -> dict[str, int]:
    policy = policy or Policy.model_validate({"goals": goals})
    return nodes_of(started(schedule(a_snapshot(fleet, QUEUES, workload, policy=policy), NOON))["w"])


PLAIN = a_node("plain", labels={"disk": "slow"}, topology=(("rack", "r1"),))
NVME = a_node("nvme", labels={"disk": "fast"}, topology=(("rack", "r2"),), price=3 * DOLLAR)

SITUATIONS = [
    ((), {}, "plain"),
    ((likes(0.9, disk="fast"),), {}, "plain"),
    ((likes(1.1, disk="fast"),), {}, "nvme"),
    ((likes(1.1, rack="r2"),), {}, "nvme"),
    ((likes(-1.1, disk="slow"),), {}, "nvme"),
    ((likes(0.6, disk="fast"), likes(0.6, rack="r2")), {}, "nvme"),
    ((likes(5, disk="fast", rack="r1"),), {}, "plain"),
    ((likes(5, disk="fast"),), {"affinity": {"limit": 0.5}}, "plain"),
    ((likes(-5, disk="slow"),), {"affinity": {"limit": 0.5}}, "plain"),
    ((likes(5, disk="fast"),), {"affinity": {"weight": 0}}, "plain"),
    ((likes(0.6, disk="fast"),), {"affinity": {"weight": 2}}, "nvme"),
]


@pytest.mark.parametrize(("affinities", "goals", "node"), SITUATIONS)
@pytest.mark.parametrize("elsewhere", [False, True], ids=["within one supply", "across regions"])
def test_what_a_node_is_worth_is_weighed_against_its_price(
    affinities: Sequence[Affinity], goals: dict[str, Any], node: str, *, elsewhere: bool
) -> None:
    region = "us-east" if elsewhere else NVME.region
    nvme = a_node("nvme", labels=dict(NVME.labels), topology=NVME.topology, price=NVME.price, region=region)

    assert placed([PLAIN, nvme], a_workload(gpus=4, affinities=affinities), waste=0, **goals) == {node: 1}


@pytest.mark.parametrize("policy", [Policy(), in_cohorts(), Policy(rank=Rank(quota_model=QuotaModel.DESERVED))])
def test_every_quota_model_looks_at_what_groups_like(policy: Policy) -> None:
    assert placed([PLAIN, NVME], a_workload(gpus=4, affinities=[likes(5, disk="fast")]), policy) == {"nvme": 1}


def test_a_gang_that_is_too_large_takes_what_it_likes_and_little_else() -> None:
    fleet = [PLAIN, NVME, a_node("other", labels={"disk": "slow"})]

    assert placed(fleet, a_workload(count=10, affinities=[likes(2, disk="fast")]))["nvme"] == 8


def test_a_large_fleet_is_no_different() -> None:
    fleet = [a_node(f"n{number:02d}", labels={"disk": "fast" if number == 33 else "slow"}) for number in range(40)]

    assert placed(fleet, a_workload(gpus=4, affinities=[likes(1, disk="fast")])) == {"n33": 1}


def test_liking_costs_no_replica() -> None:
    fleet = [a_node("large"), a_node("nvme", gpus=4, labels={"disk": "fast"})]

    placement = placed(fleet, a_workload(count=8, minimum=2, affinities=[likes(0.5, disk="fast")]))

    assert sum(placement.values()) == 8


def test_what_is_liked_still_sits_in_one_domain() -> None:
    racks = {"alone": "r1", "one": "r2", "another": "r2"}
    fast = [a_node(id, gpus=2, labels={"disk": "fast"}, topology=(("rack", rack),)) for id, rack in racks.items()]
    slow = a_node("slow", gpus=4, topology=(("rack", "r1"),), price=DOLLAR)

    placement = placed([*fast, slow], a_workload(count=4, required="rack", affinities=[likes(5, disk="fast")]))

    assert placement == {"one": 2, "another": 2}


def test_each_group_likes_nodes_of_its_own() -> None:
    groups = [
        ReplicaGroup(name="trains", accelerators=4, skus=("h100",), affinities=(likes(5, disk="fast"),)),
        ReplicaGroup(name="serves", accelerators=4, skus=("a100",), affinities=(likes(5, disk="slow"),)),
    ]
    fleet = [a_node(f"{sku}-{disk}", sku=sku, labels={"disk": disk}) for sku in ("h100", "a100") for disk in ("slow", "fast")]

    assert set(placed(fleet, a_workload(groups=groups))) == {"h100-fast", "a100-slow"}


def test_a_start_says_what_its_nodes_were_worth() -> None:
    workload = a_workload(gpus=4, affinities=[likes(1.25, disk="fast")])

    plan = schedule(a_snapshot([PLAIN, NVME], QUEUES, workload), NOON)

    assert dict(plan.starts[0].terms)["affinity"] == -1_250_000


def test_groups_without_wishes_are_asked_for_nothing_more() -> None:
    assert placed([PLAIN, NVME], AWorkload(a_workload().spec.model_copy(update={"topology": Topology()}))) == {"plain": 1}
