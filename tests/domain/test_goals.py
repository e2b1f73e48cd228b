"""Soft goals: what the policy's weights and preferences change about where work goes, and how much at most."""

import pytest

from corral.api import CapacityType, Selection, SlaTier, Target
from corral.policy import Policy
from domain.decision import Plan, Start
from domain.pool.fleet import Placement
from domain.round import schedule
from tests.builders import NOON, AWorkload, a_cohort, a_node, a_queue, a_snapshot, a_workload, started

DOLLAR = 1_000_000
EAST = a_node("east", region="east", price=2 * DOLLAR, capacity_type=CapacityType.ON_DEMAND)
WEST = a_node("west", region="west", price=3 * DOLLAR, capacity_type=CapacityType.SPOT)


def decided(workload: AWorkload, **goals: object) -> Plan:
    queues = a_cohort(a_queue("research", 64), a_queue("product", 64), name="company")
    return schedule(a_snapshot([EAST, WEST], queues, workload, policy=Policy.model_validate({"goals": goals})), NOON)


def placed(workload: AWorkload, **goals: object) -> Placement:
    return started(decided(workload, **goals))[workload.id]


def a_preference(worth: float = 5, **favours: object) -> dict[str, object]:
    return {"name": "taste", "worth": worth} | (favours or {"capacity_types": ["spot"]})


GOALS = [
    ({}, "east"),
    ({"preferences": [a_preference()]}, "west"),
    ({"preferences": [a_preference(worth=0.5)]}, "east"),
    ({"preferences": [a_preference(worth=0.7), a_preference(worth=0.7)]}, "west"),
    ({"preferences": [a_preference(worth=5)], "preference_limit": 0.5}, "east"),
    ({"preferences": [a_preference(worth=0.5)], "price_weight": 0.1}, "west"),
    ({"preferences": [a_preference(worth=0.5)], "price_limit": 2}, "west"),
    ({"preferences": [a_preference(regions=["west"])]}, "west"),
    ({"preferences": [a_preference(regions=["west"], skus=["a100"])]}, "east"),
    ({"preferences": [a_preference(tiers=["basic"]) | {"capacity_types": ["spot"]}]}, "east"),
    ({"preferences": [a_preference(tiers=["standard"]) | {"capacity_types": ["spot"]}]}, "west"),
    ({"preferences": [a_preference(queues=["product"]) | {"capacity_types": ["spot"]}]}, "east"),
    ({"preferences": [a_preference(queues=["company"]) | {"capacity_types": ["spot"]}]}, "west"),
]


@pytest.mark.parametrize(("goals", "region"), GOALS)
def test_the_sum_of_all_terms_decides(goals: dict[str, object], region: str) -> None:
    assert placed(a_workload(gpus=8, tier=SlaTier.STANDARD), **goals).region == region


def test_a_preference_chooses_among_the_nodes_of_one_supply() -> None:
    bought = a_node("bought", price=1 * DOLLAR, capacity_type=CapacityType.RESERVED)
    spot = a_node("spot", price=2 * DOLLAR, capacity_type=CapacityType.SPOT)
    policy = Policy.model_validate({"goals": {"preferences": [a_preference()]}})

    plan = schedule(a_snapshot([bought, spot], [a_queue("research", 64)], a_workload(gpus=4), policy=policy), NOON)

    assert [share.node_id for share in started(plan)["w"].shares] == ["spot"]


def test_a_preference_never_goes_before_the_order_of_the_targets() -> None:
    east_first = [Target(regions=("east",)), Target(regions=("west",))]

    assert placed(a_workload(targets=east_first), preferences=[a_preference()]).region == "east"
    assert placed(a_workload(targets=east_first, selection=Selection.PRICED), preferences=[a_preference()]).region == "west"


def test_shortfall_weighs_against_price() -> None:
    small, large = (
        a_node("small", region="east", gpus=4, price=2 * DOLLAR),
        a_node("large", region="west", price=2 * DOLLAR + 1),
    )
    elastic = a_workload(count=8, minimum=4)
    queues = [a_queue("research", 64)]

    def region(shortfall: float) -> str:
        policy = Policy.model_validate({"goals": {"shortfall": shortfall}})
        return started(schedule(a_snapshot([small, large], queues, elastic, policy=policy), NOON))["w"].region

    assert (region(0), region(1)) == ("east", "west")


def test_a_start_says_what_each_term_counted() -> None:
    plan = decided(a_workload(gpus=4), preferences=[a_preference()])

    counted = {term: score for term, score in plan.starts[0].terms if score}
    assert counted == {"price": 3 * DOLLAR, "preferences": -5 * DOLLAR, "hazard": 91_250}


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ([("price", 2_990_000), ("waste", 12_000)], "$3.00 per accelerator-hour: price 2.99, waste 0.01"),
        ([("price", 2_990_000), ("fragmentation", -1_230)], "$2.99 per accelerator-hour: price 2.99, fragmentation -0.0012"),
        ([("price", 2_990_000), ("fragmentation", -20)], "$2.99 per accelerator-hour: price 2.99"),
        ([("fragmentation", -20)], "$0.00 per accelerator-hour"),
    ],
)
def test_what_counts_less_than_a_cent_is_told_as_more_than_nothing(terms: list[tuple[str, int]], said: str) -> None:
    start = Start("w", placed(a_workload(gpus=8)), terms=tuple(terms))
    assert start.in_words == said


def test_waste_counts_where_no_work_is_looked_at_that_may_come() -> None:
    plan = decided(a_workload(gpus=4), fragmentation=0)

    assert dict(plan.starts[0].terms)["waste"] == 5_000
