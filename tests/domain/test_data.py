"""Data: work goes where its data are, unless it is worth more than bringing them elsewhere costs in money and time."""

from typing import Any

import pytest

from corral.api import CapacityType, Dataset, Target
from corral.policy import Policy
from domain.decision import Start
from domain.round import schedule
from tests.builders import NOON, AWorkload, a_node, a_queue, a_snapshot, a_workload

DOLLAR = 1_000_000
HOUR = 3_600
EAST = a_node("east", region="east", price=2 * DOLLAR)
WEST = a_node("west", region="west", price=3 * DOLLAR)
QUEUES = [a_queue("research", 64)]

CORPUS = Dataset(name="corpus", size_gib=1_000, regions=("west",))
NOWHERE = Dataset(name="nowhere", size_gib=1_000, regions=())
CHEAP = {"dollars_per_gib": 0.001, "gib_per_second": 1_000}
SLOW = CHEAP | {"gib_per_second": 0.1}


def start(workload: AWorkload, *datasets: Dataset, **goals: Any) -> Start:
    policy = Policy.model_validate({"goals": {"waste": 0, **goals}})
    return schedule(a_snapshot([EAST, WEST], QUEUES, workload, policy=policy, datasets=datasets), NOON).starts[0]


def reader(*names: str, hours: float = 1, **fields: Any) -> AWorkload:
    return a_workload(**{"gpus": 8, **fields}, datasets=names, expected_seconds=int(hours * HOUR))


SITUATIONS = [
    ("without data, the price decides", reader(), {}, "east"),
    ("its data draw it", reader("corpus"), {}, "west"),
    ("long work shares the cost among more hours", reader("corpus", hours=24), {}, "east"),
    ("large work among more accelerators", reader("corpus", gpus=1, hours=4), {}, "west"),
    ("what nobody knows draws nowhere", reader("unknown"), {}, "east"),
    ("nor what nobody has", reader("nowhere"), {}, "east"),
    ("cheap and fast transfers draw less", reader("corpus"), {"transfers": CHEAP}, "east"),
    ("a slow one does", reader("corpus"), {"transfers": SLOW}, "west"),
    ("unless waiting counts nothing", reader("corpus"), {"transfers": SLOW, "staging": {"weight": 0}}, "east"),
    ("a route has terms of its own", reader("corpus"), {"transfers": {"routes": {"west": {"east": CHEAP}}}}, "east"),
    ("in its own direction alone", reader("corpus"), {"transfers": {"routes": {"east": {"west": CHEAP}}}}, "west"),
    ("each term has its limit", reader("corpus"), {"egress": {"limit": 0.1}, "staging": {"limit": 0.1}}, "east"),
    ("and its weight", reader("corpus", hours=24), {"egress": {"weight": 100}}, "west"),
]  # fmt: skip


@pytest.mark.parametrize(("workload", "goals", "region"), [pytest.param(*each[1:], id=each[0]) for each in SITUATIONS])
def test_where_work_goes_for_the_sake_of_its_data(workload: AWorkload, goals: dict[str, Any], region: str) -> None:
    assert start(workload, CORPUS, NOWHERE, **goals).placement.region == region


def test_a_start_says_what_its_data_cost() -> None:
    elsewhere = reader("corpus", targets=[Target(regions=("east",))])

    terms = dict(start(elsewhere, CORPUS).terms)

    assert terms["egress"] == 20 * DOLLAR / 8  # 1,000 GiB at two cents, over eight accelerator-hours
    assert terms["staging"] == 2 * DOLLAR * 1_000 // HOUR  # 1,000 seconds of its price


def test_data_come_from_where_they_are_cheapest() -> None:
    everywhere = CORPUS.model_copy(update={"regions": ("north", "west", "south")})
    elsewhere = reader("corpus", targets=[Target(regions=("east",))])
    routes = {"north": {"east": {"dollars_per_gib": 0.01}}, "south": {"east": {"dollars_per_gib": 0.01, "gib_per_second": 10}}}

    terms = dict(start(elsewhere, everywhere, transfers={"routes": routes}).terms)

    assert (terms["egress"], terms["staging"]) == (10 * DOLLAR / 8, 2 * DOLLAR * 100 // HOUR)


def test_work_that_says_no_length_is_taken_to_run_as_long_as_the_policy_says() -> None:
    unsaid = a_workload(gpus=8, datasets=("corpus",))

    assert start(unsaid, CORPUS).placement.region == "west"
    assert start(unsaid, CORPUS, expected_seconds=24 * HOUR).placement.region == "east"


def test_work_that_says_that_it_is_over_at_once_shares_the_cost_among_no_more_than_a_second() -> None:
    little = CORPUS.model_copy(update={"size_gib": 0.1})

    assert start(reader("corpus"), little).placement.region == "east"
    assert start(reader("corpus", hours=0), little).placement.region == "west"


def test_what_needs_no_accelerator_pays_for_none() -> None:
    assert not any(score for _, score in start(reader("corpus", gpus=0), CORPUS).terms)


# Interruptions

RISKY = a_node("risky", price=2 * DOLLAR - 1, capacity_type=CapacityType.SPOT)
SAFE = a_node("safe", price=2 * DOLLAR)

HAZARDS = [
    ({}, a_workload(gpus=8), "safe"),
    ({"interruptions_per_hour": {}}, a_workload(gpus=8), "risky"),
    ({"interruptions_per_hour": {"on-demand": 0.05}}, a_workload(gpus=8), "risky"),
    ({"weight": 0}, a_workload(gpus=8), "risky"),
    ({"limit": 0}, a_workload(gpus=8), "risky"),
]


@pytest.mark.parametrize(("hazard", "workload", "node"), HAZARDS)
def test_what_may_be_interrupted_must_be_cheaper(hazard: dict[str, Any], workload: AWorkload, node: str) -> None:
    policy = Policy.model_validate({"goals": {"hazard": hazard}})

    plan = schedule(a_snapshot([RISKY, SAFE], QUEUES, workload, policy=policy), NOON)

    assert [share.node_id for share in plan.starts[0].placement.shares] == [node]


def test_what_a_provider_says_of_a_node_counts_before_the_capacity_type() -> None:
    calm = a_node("calm", region="calm", price=2 * DOLLAR - 1, capacity_type=CapacityType.SPOT, interruptions=0)
    wild = a_node("wild", region="wild", price=2 * DOLLAR - 2, interruptions=500_000)

    plan = schedule(a_snapshot([calm, wild, SAFE], QUEUES, a_workload(gpus=8)), NOON)

    assert plan.starts[0].placement.region == "calm"
    assert dict(plan.starts[0].terms)["hazard"] == 0


@pytest.mark.parametrize(("expected_seconds", "lost_seconds"), [(None, 1_800), (600, 300), (86_400, 1_800)])
def test_an_interruption_costs_what_it_loses_and_the_way_back(expected_seconds: int | None, lost_seconds: int) -> None:
    workload = a_workload(gpus=8, expected_seconds=expected_seconds)

    terms = dict(schedule(a_snapshot([RISKY], QUEUES, workload), NOON).starts[0].terms)

    assert terms["hazard"] == int(0.05 * (lost_seconds + 30 + 300 + 60) / HOUR * RISKY.price)
