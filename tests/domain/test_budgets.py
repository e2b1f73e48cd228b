"""What queues may use up: accelerator-hours and money, in periods, replenishing, or once."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from corral.api import BudgetSpec, BudgetUnit, QueueSpec, Reason, SlaTier
from domain.decision import Plan, Refuse
from domain.pool.workload import Active
from domain.quota.budgets import ONE, spent
from domain.quota.flows import Spell, flows_of
from domain.round import schedule
from tests.builders import NOON, AWorkload, a_cohort, a_node, a_queue, a_snapshot, a_workload, nodes, seconds, started, why

HOURS = BudgetUnit.ACCELERATOR_HOURS
DOLLARS = BudgetUnit.DOLLARS
HOUR = 3_600
DAY = 24 * HOUR


def a_budget(amount: int, unit: BudgetUnit = HOURS, **fields: Any) -> BudgetSpec:
    return BudgetSpec(unit=unit, amount=amount, **fields)


def with_budgets(*budgets: BudgetSpec, queue: QueueSpec | None = None) -> QueueSpec:
    return (queue or a_queue("research", 1_000)).model_copy(update={"budgets": budgets})


def hours(gpus: int, lasting: float, id: str = "w", **fields: Any) -> AWorkload:
    """Work of so many accelerators that is expected to take so many hours."""
    return a_workload(id, gpus=gpus, expected_seconds=int(lasting * HOUR), **fields)


def round_of(queue: QueueSpec, *workloads: AWorkload | Active, used: int = 0, **fields: Any) -> Plan:
    """A round in which so many accelerator-hours, or dollars, are used up already."""
    fleet = fields.get("fleet", nodes(4))
    snapshot = a_snapshot(fleet, [queue], *workloads)
    accounts = {(queue.name, index): used * ONE[budget.unit] for index, budget in enumerate(queue.budgets)}
    return schedule(replace(snapshot, spent=accounts), NOON)


# Hard budgets


@pytest.mark.parametrize(("used", "starts"), [(0, True), (84, True), (85, False), (100, False), (101, False)])
def test_nothing_starts_that_would_exceed_what_is_left(used: int, starts: bool) -> None:
    plan = round_of(with_budgets(a_budget(100)), hours(8, 2), used=used)
    assert ("w" in started(plan)) == starts


def test_a_refused_start_says_what_is_left_and_what_it_would_take() -> None:
    plan = round_of(with_budgets(a_budget(100)), hours(8, 2), used=90)
    assert why(plan).reason is Reason.BUDGET_EXHAUSTED
    assert why(plan).message == "10 is left of the budget of research (100 accelerator-hours); it would use up 16"


def test_of_a_used_up_budget_nothing_starts_not_even_without_accelerators_or_an_end() -> None:
    plan = round_of(with_budgets(a_budget(100)), hours(0, 1, id="a"), a_workload("b"), used=100)
    assert started(plan) == {}
    assert why(plan, "a").message == why(plan, "b").message
    assert why(plan, "a").message == "0 is left of the budget of research (100 accelerator-hours); nothing new starts"


def test_work_that_says_no_length_starts_while_anything_is_left() -> None:
    assert "w" in started(round_of(with_budgets(a_budget(100)), a_workload(gpus=8), used=99))


def test_the_shorter_of_expectation_and_limit_counts() -> None:
    assert "w" in started(round_of(with_budgets(a_budget(8)), hours(8, 5, maximum_runtime_seconds=HOUR)))


def test_what_running_work_will_still_take_is_not_left() -> None:
    fleet = nodes(4)
    running = hours(8, 4, id="running").on((fleet[0], 8), started_at=NOON - seconds(HOUR))
    budget = with_budgets(a_budget(40))
    assert "w" in started(round_of(budget, running, hours(8, 1), used=8, fleet=fleet))
    plan = round_of(budget, running, hours(8, 1), hours(1, 1, id="more"), used=8, fleet=fleet)
    assert len(started(plan)) == 1


def test_what_starts_in_a_round_leaves_less_for_the_rest_of_it() -> None:
    plan = round_of(with_budgets(a_budget(20)), *(hours(8, 1, id=f"w{index}") for index in range(4)))
    assert len(started(plan)) == 2


def test_elastic_work_gets_no_more_than_its_budget_pays_for() -> None:
    assert started(round_of(with_budgets(a_budget(6)), hours(1, 2, count=8, minimum=1)))["w"].replicas == 3


def test_the_budget_of_a_cohort_counts_for_all_below_it() -> None:
    cohort, *queues = a_cohort(a_queue("research", 64), a_queue("sales", 64))
    snapshot = a_snapshot(
        nodes(4), [with_budgets(a_budget(20), queue=cohort), *queues], hours(8, 2, id="a"), hours(8, 1, id="b", queue="sales")
    )
    plan = schedule(snapshot, NOON)
    assert set(started(plan)) == {"a"}
    assert why(plan, "b").message.startswith("4 is left of the budget of cohort")


def test_a_budget_stops_nobody_who_runs() -> None:
    fleet = nodes(1)
    running = hours(8, 4, id="running").on((fleet[0], 8))
    plan = round_of(with_budgets(a_budget(1)), running, used=8, fleet=fleet)
    assert (plan.preempts, plan.stops) == ((), ())


# Money


def test_money_is_spent_by_the_prices_of_the_nodes() -> None:
    fleet = [a_node("cheap", price=1_000_000), a_node("dear", price=3_000_000)]
    plan = round_of(with_budgets(a_budget(20, DOLLARS)), hours(8, 1, id="a"), hours(8, 1, id="b"), fleet=fleet)
    assert {id: place.shares[0].node_id for id, place in started(plan).items()} == {"a": "cheap"}
    assert why(plan, "b").message == "12 is left of the budget of research (20 dollars); it would use up 24"


def test_what_nobody_could_pay_is_told_in_dollars() -> None:
    plan = round_of(with_budgets(a_budget(40, DOLLARS)), hours(8, 2), used=20)
    assert why(plan).message == "20 is left of the budget of research (40 dollars); it would use up 32"


def test_elastic_work_starts_with_what_it_can_pay() -> None:
    placement = started(round_of(with_budgets(a_budget(8, DOLLARS)), hours(1, 1, count=8, minimum=2)))["w"]
    assert placement.replicas == 2


# Periods


def test_what_runs_into_the_next_period_counts_there() -> None:
    since = NOON - timedelta(hours=22)
    queue = with_budgets(a_budget(24, period_seconds=DAY, since=since))
    assert "w" in started(round_of(queue, hours(8, 3), used=8)), "two hours of it now, one in the next period"
    assert started(round_of(queue, hours(8, 3), used=9)) == {}
    assert started(round_of(queue, hours(8, 6), used=0)) == {}, "four hours of it are in the next period, which has three"


def test_a_new_period_has_all_its_amount() -> None:
    budget = a_budget(24, period_seconds=DAY, since=NOON - timedelta(days=3))
    spells = [a_spell(8, NOON - timedelta(hours=10), NOON - timedelta(hours=7))]
    assert accelerator_hours(spells, budget, NOON - timedelta(seconds=1)) == 24
    assert accelerator_hours(spells, budget, NOON) == 0


# What is spent


def a_spell(gpus: int, began: datetime, ended: datetime | None, *, sku: str = "h100", price: int = 2_000_000) -> Spell:
    return Spell("research", sku, gpus * 1_000, gpus * 1_000 * price, began, ended)


def accelerator_hours(spells: Sequence[Spell], budget: BudgetSpec, now: datetime = NOON) -> float:
    return spent(flows_of(spells).values(), budget, now) / ONE[budget.unit]


def test_a_grant_counts_all_since_it_began_over_all_skus() -> None:
    spells = [
        a_spell(8, NOON - timedelta(hours=5), NOON - timedelta(hours=3)),
        a_spell(4, NOON - timedelta(minutes=90), None, sku="a100"),
    ]
    assert accelerator_hours(spells, a_budget(1)) == 8 * 2 + 4 * 1.5
    assert accelerator_hours(spells, a_budget(1, since=NOON - timedelta(hours=4))) == 8 + 4 * 1.5
    assert accelerator_hours(spells, a_budget(1, DOLLARS)) == 2 * (8 * 2 + 4 * 1.5)


def test_a_replenishing_budget_forgets_half_after_each_half_life() -> None:
    budget = a_budget(1, half_life_seconds=DAY)
    spells = [a_spell(8, NOON - timedelta(hours=1), NOON)]
    after = [accelerator_hours(spells, budget, NOON + timedelta(days=days)) for days in range(3)]
    assert after[1] / after[0] == pytest.approx(1 / 2, rel=1e-6)
    assert after[2] / after[0] == pytest.approx(1 / 4, rel=1e-6)
    assert after[0] == pytest.approx(8, rel=0.05)


# Soft budgets


def test_beyond_a_soft_budget_work_ranks_as_basic_and_over_quota() -> None:
    soft = with_budgets(a_budget(10, hard=False))
    fleet = [a_node("a", used=4)]
    other = a_workload("other", queue="sales", gpus=4, tier=SlaTier.STANDARD, submitted_at=NOON)
    for used, first in ((9, "w"), (10, "other")):
        snapshot = a_snapshot(fleet, [soft, a_queue("sales", 8)], hours(4, 1, tier=SlaTier.PREMIUM), other)
        plan = schedule(replace(snapshot, spent={("research", 0): used * ONE[HOURS]}), NOON)
        assert list(started(plan)) == [first]


def test_work_beyond_a_soft_budget_still_starts_where_there_is_room() -> None:
    assert "w" in started(round_of(with_budgets(a_budget(10, hard=False)), hours(8, 100), used=1_000))


# What could never be paid


def is_refused(work: AWorkload, *budgets: BudgetSpec, **fields: Any) -> bool:
    plan = round_of(with_budgets(*budgets), work, **fields)
    return any(isinstance(each, Refuse) and each.explanation.reason is Reason.NEVER_WITHIN_QUOTA for each in plan.decisions)


def test_work_that_would_use_up_more_than_a_grant_ever_had_is_refused_and_told_whose() -> None:
    assert why(round_of(with_budgets(a_budget(1)), hours(8, 1))).message == (
        "would use up 8 of the budget of research (1 accelerator-hours), which never has more than 1 for one workload;"
        " ask for less or for a shorter time, use another queue or raise the budget"
    )
    assert is_refused(hours(8, 1), a_budget(100), a_budget(7, half_life_seconds=DAY))
    assert not is_refused(hours(8, 1), a_budget(8), used=8), "raised or replenished, it could"


def test_only_hard_budgets_refuse_and_only_what_says_how_long_it_takes() -> None:
    assert not is_refused(hours(8, 1), a_budget(1, hard=False))
    assert not is_refused(a_workload(gpus=8), a_budget(1))
    assert is_refused(a_workload(gpus=8), a_budget(0))


def test_the_least_that_it_could_cost_counts() -> None:
    fleet = [a_node("cheap", price=1_000_000), a_node("dear", price=3_000_000)]
    assert not is_refused(hours(8, 2), a_budget(16, DOLLARS), fleet=fleet)
    assert is_refused(hours(8, 2), a_budget(15, DOLLARS), fleet=fleet)
    assert not is_refused(hours(1, 2, count=8, minimum=2), a_budget(4, DOLLARS), fleet=fleet), "elastic work: its minimum"


@pytest.mark.parametrize(
    ("gpus", "lasting"), [(gpus, lasting) for gpus in (1, 2, 4, 8) for lasting in (1, 3, 6, 7, 12, 25, 60)]
)
def test_of_a_budget_by_periods_work_may_take_two_parts_if_it_begins_at_the_right_time(gpus: int, lasting: int) -> None:
    work, budget = hours(gpus, lasting), a_budget(24, period_seconds=DAY, since=NOON)
    snapshot = a_snapshot(nodes(4), [with_budgets(budget)], work)
    times = [NOON + timedelta(hours=hour) for hour in range(24)]
    assert any(started(schedule(snapshot, time)) for time in times) == (not is_refused(work, budget))


# Refused


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"period_seconds": DAY, "half_life_seconds": DAY}, "not both"),
        ({"period_seconds": 5_000}, "multiple of 3600"),
        ({"since": NOON + timedelta(minutes=1)}, "not a whole hour"),
    ],
)
def test_budgets_that_cannot_be_counted_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        a_budget(1, **fields)
