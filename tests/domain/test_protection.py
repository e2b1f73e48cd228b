"""What spares running work, for the sake of whom it would be stopped."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from corral.api import QueueSpec, Reason, SlaTier, Target
from corral.policy import DisruptionBudget, Limits, Policy
from domain.disruption.protection import minimum_runtime
from domain.facts import Facts
from domain.pool.workload import Active
from domain.quota.accounting import Interval, IntervalKind
from domain.quota.disruption_budgets import ForcedStop
from domain.round import schedule
from tests.builders import NOON, AWorkload, a_cohort, a_node, a_queue, a_snapshot, a_workload, nodes, seconds, why

NODE = a_node("a")
OWN = [a_queue("research", 100)]
PREMIUM, STANDARD, BASIC = SlaTier.PREMIUM, SlaTier.STANDARD, SlaTier.BASIC


def a_runner(id: str = "low", *, checkpoint_at: datetime | None = NOON, **fields: Any) -> Active:
    return a_workload(id, gpus=8, **fields).on((NODE, 8), checkpoint_at=checkpoint_at)


def is_stopped(
    victim: Active,
    beneficiary: AWorkload,
    *,
    queues: list[QueueSpec] = OWN,
    waiting: Mapping[str, Any] | None = None,
    **facts: Any,
) -> bool:
    """Whether the victim leaves for the beneficiary, of which these facts are known."""
    snapshot = a_snapshot([NODE], queues, victim, beneficiary, **facts)
    (waits,) = snapshot.waiting
    return bool(schedule(replace(snapshot, waiting=(replace(waits, **(waiting or {})),)), NOON).preempts)


def an_interval(id: str, kind: IntervalKind, began: float, ended: float | None, allocated: int = 0) -> Interval:
    end = None if ended is None else NOON + seconds(ended)
    return Interval(id, STANDARD, "research", kind, 8000, allocated, NOON + seconds(began), end)


# Headroom and stop cost


def test_work_with_more_headroom_than_a_stop_costs_gives_way_to_higher_priority() -> None:
    assert is_stopped(a_runner(), a_workload(gpus=8, priority=1))


@pytest.mark.parametrize(("unsaved", "stopped"), [(690, True), (691, False)])
def test_work_is_kept_whose_promise_the_stop_would_break(unsaved: int, stopped: bool) -> None:
    """H = (1 - 0.7) * 3600 s for each accelerator; C = what is not saved + 30 s grace + 60 s restart + 300 s in line."""
    victim = a_runner(checkpoint_at=NOON - seconds(unsaved))
    assert is_stopped(victim, a_workload(gpus=8, priority=1)) is stopped


def test_work_that_waited_long_has_no_headroom_to_give() -> None:
    waited, runs = (
        an_interval("low", IntervalKind.WAITING, -3600, -1800),
        an_interval("low", IntervalKind.RUNNING, -1800, None, allocated=8000),
    )
    assert not is_stopped(a_runner(), a_workload(gpus=8, priority=1), ledger={"low": (waited, runs)})


def test_a_shortfall_of_a_higher_tier_outweighs_a_promise() -> None:
    assert is_stopped(a_runner(checkpoint_at=None), a_workload(gpus=8, tier=PREMIUM))


def test_a_higher_tier_that_has_kept_its_promise_breaks_nobody_s() -> None:
    victim, premium = a_runner(checkpoint_at=None), a_workload(gpus=8, tier=PREMIUM)
    was_stopped_now = {"w": (an_interval("w", IntervalKind.RUNNING, -3600, 0, allocated=8000),)}
    assert not is_stopped(victim, premium, ledger=was_stopped_now, waiting={"epoch": 1})


def test_basic_work_has_no_promise_to_break() -> None:
    assert is_stopped(a_runner(tier=BASIC, checkpoint_at=None), a_workload(gpus=8, tier=BASIC, priority=1))


# Over quota


def test_work_over_quota_is_basic_whatever_its_tier() -> None:
    cohort = a_cohort(a_queue("owner", 8), a_queue("guest", 0))
    guest = a_runner("guest", queue="guest", tier=PREMIUM, checkpoint_at=None)
    assert is_stopped(guest, a_workload(queue="owner", gpus=8), queues=cohort)


def test_of_a_queue_that_borrows_only_what_its_quota_does_not_cover_is_reclaimed() -> None:
    fleet = nodes(2)
    cohort = a_cohort(a_queue("owner", 8), a_queue("guest", 8))
    older = a_workload("older", queue="guest", gpus=8).on((fleet[0], 8), started_at=NOON - seconds(700))
    newer = a_workload("newer", queue="guest", gpus=8, submitted_at=NOON - seconds(1_000)).on((fleet[1], 8))
    assert schedule(a_snapshot(fleet, cohort, older, newer, a_workload(queue="owner", gpus=8)), NOON).preempts == (
        ("newer.1", "w"),
    )
    protected = replace(newer, started_at=NOON - seconds(10))
    snapshot = a_snapshot(fleet, cohort, older, protected, a_workload(queue="owner", gpus=8))
    assert schedule(snapshot, NOON).preempts == ()


def test_work_over_quota_goes_before_lower_priorities_within_it() -> None:
    fleet = nodes(2)
    over = a_workload("over", gpus=8, priority=0).on((fleet[0], 8), checkpoint_at=NOON)
    low = a_workload("low", gpus=4, priority=-1).on((fleet[1], 4), checkpoint_at=NOON)
    rest = a_workload("rest", gpus=4, priority=1, preemptible=False).on(
        (replace(fleet[1], free=fleet[1].free - low.placement.shares[0].room), 4)
    )
    queues = a_cohort(a_queue("research", 12), a_queue("idle", 100))
    plan = schedule(a_snapshot(fleet, queues, over, low, rest, a_workload(gpus=4, priority=1)), NOON)
    assert plan.preempts == (("over.1", "w"),)


# Never twice, not too often, not for everybody


def test_nobody_is_stopped_twice_for_the_same_workload() -> None:
    victim = a_runner(tier=BASIC)
    assert is_stopped(victim, a_workload(gpus=8))
    assert not is_stopped(victim, a_workload(gpus=8), waiting={"epoch": 1, "relieved_by": frozenset({"low"})})


def test_another_workload_of_the_same_kind_may_still_stop_it() -> None:
    relieved, other = a_workload("a", gpus=8), a_workload("b", gpus=8)
    snapshot = a_snapshot([NODE], OWN, a_runner(tier=BASIC), relieved, other)
    waiting = tuple(
        replace(workload, relieved_by=frozenset({"low"})) if workload.id == "a" else workload for workload in snapshot.waiting
    )
    assert schedule(replace(snapshot, waiting=waiting), NOON).preempts == (("low.1", "b"),)


@pytest.mark.parametrize(("failed", "stopped"), [(2, True), (3, False)])
def test_who_only_crashes_loses_the_right(failed: int, stopped: bool) -> None:
    beneficiary = {"epoch": failed, "failed_in_a_row": failed}
    assert is_stopped(a_runner(tier=BASIC), a_workload(gpus=8), waiting=beneficiary) is stopped


@pytest.mark.parametrize(("waited", "stopped"), [(59, False), (60, True)])
def test_nothing_is_stopped_before_the_delay_is_over(waited: int, stopped: bool) -> None:
    patient = a_workload(gpus=8, preemption_delay_seconds=60)
    assert is_stopped(a_runner(tier=BASIC), patient, waiting={"since": NOON - seconds(waited)}) is stopped


def test_a_tier_has_a_delay_of_its_own() -> None:
    tiers = dict(Policy().rank.tiers)
    tiers[STANDARD] = tiers[STANDARD].model_copy(update={"preemption_delay_seconds": 60})
    policy = Policy(rank=Policy().rank.model_copy(update={"tiers": tiers}))
    waiting = {"since": NOON - seconds(30)}
    assert not is_stopped(a_runner(tier=BASIC), a_workload(gpus=8), policy=policy, waiting=waiting)


# Disruption budgets


def a_stop(at: float = -10, *, queue: str = "research", tier: SlaTier = BASIC, id: str = "x") -> ForcedStop:
    return ForcedStop(f"{id}.1", id, queue, tier, NOON + seconds(at))


def budgeted(**fields: Any) -> Policy:
    return Policy(limits=Limits(disruption_budgets=(DisruptionBudget(stops=1, **fields),)))


@pytest.mark.parametrize(
    ("budget", "stop", "stopped"),
    [
        ({}, a_stop(), False),
        ({}, a_stop(-3600), True),
        ({"period_seconds": 5}, a_stop(), True),
        ({"tier": BASIC}, a_stop(), False),
        ({"tier": BASIC}, a_stop(tier=STANDARD), True),
        ({"tier": STANDARD}, a_stop(tier=STANDARD), True),
        ({"queue": "research"}, a_stop(), False),
        ({"queue": "elsewhere"}, a_stop(), True),
    ],
)
def test_a_budget_bounds_the_stops_that_it_selects(budget: dict[str, Any], stop: ForcedStop, stopped: bool) -> None:
    assert is_stopped(a_runner(tier=BASIC), a_workload(gpus=8), policy=budgeted(**budget), stops=(stop,)) is stopped


def test_stops_of_one_round_count_in_that_round() -> None:
    fleet = nodes(2)
    victims = [a_workload(f"low{at}", gpus=8, tier=BASIC).on((node, 8)) for at, node in enumerate(fleet)]
    contenders = [a_workload("one", gpus=8), a_workload("two", gpus=8)]
    assert len(schedule(a_snapshot(fleet, OWN, *victims, *contenders), NOON).preempts) == 2
    assert len(schedule(a_snapshot(fleet, OWN, *victims, *contenders, policy=budgeted()), NOON).preempts) == 1


def test_of_several_budgets_the_tightest_decides() -> None:
    budgets = (DisruptionBudget(stops=5), DisruptionBudget(stops=0, tier=BASIC))
    assert not is_stopped(a_runner(tier=BASIC), a_workload(gpus=8), policy=Policy(limits=Limits(disruption_budgets=budgets)))


def test_who_waits_for_a_budget_alone_says_so() -> None:
    policy = Policy(limits=Limits(disruption_budgets=(DisruptionBudget(stops=9), DisruptionBudget(stops=1, tier=BASIC))))
    snapshot = a_snapshot([NODE], OWN, a_runner(tier=BASIC), a_workload(gpus=8), policy=policy, stops=(a_stop(),))
    explanation = why(schedule(snapshot, NOON))
    assert explanation.reason is Reason.DISRUPTION_BUDGET_SPENT
    assert explanation.message == "others would leave for it, but no more may be stopped for now: limits.disruption_budgets[1]"


def test_who_could_not_be_helped_by_a_stop_says_what_else_is_short() -> None:
    snapshot = a_snapshot([NODE], OWN, a_runner(tier=PREMIUM), a_workload(gpus=8), policy=budgeted(), stops=(a_stop(),))
    assert why(schedule(snapshot, NOON)).reason is Reason.NOT_ENOUGH_FREE_ACCELERATORS


@pytest.mark.parametrize(
    ("waiting", "reason"),
    [
        ({"since": NOON}, Reason.PREEMPTION_DELAYED),
        ({"since": NOON - seconds(60), "epoch": 3, "failed_in_a_row": 3}, Reason.CRASH_LOOPING),
    ],
)
def test_who_has_no_right_to_stop_others_says_so(waiting: dict[str, Any], reason: Reason) -> None:
    snapshot = a_snapshot([NODE], OWN, a_runner(tier=BASIC), a_workload(gpus=8, preemption_delay_seconds=60))
    (waits,) = snapshot.waiting
    assert why(schedule(replace(snapshot, waiting=(replace(waits, **waiting),)), NOON)).reason is reason


# Minimum runtime


TREE = [
    a_queue("root", minimum_runtime_seconds=1),
    a_queue("left", parent="root", minimum_runtime_seconds=20),
    a_queue("a", parent="left", minimum_runtime_seconds=300),
    a_queue("b", parent="left"),
    a_queue("right", parent="root"),
    a_queue("c", parent="right"),
]


@pytest.mark.parametrize(
    ("victim", "beneficiary", "expected"),
    [("a", "a", 300), ("b", "b", 20), ("c", "c", 1), ("a", "b", 300), ("b", "a", 20), ("a", "c", 20), ("c", "a", 1)],
)
def test_minimum_runtime_is_read_below_the_lowest_common_ancestor(victim: str, beneficiary: str, expected: int) -> None:
    snapshot = a_snapshot([NODE], TREE)
    facts = Facts.of(snapshot, NOON)
    assert minimum_runtime(victim, beneficiary, facts.queues, facts.tree.paths) == expected


def test_a_queue_may_protect_more_from_reclaim_than_from_its_own() -> None:
    tree = [queue.model_copy(update={"reclaim_minimum_runtime_seconds": 500}) if queue.name == "b" else queue for queue in TREE]
    facts = Facts.of(a_snapshot([NODE], tree), NOON)
    assert minimum_runtime("b", "a", facts.queues, facts.tree.paths) == 500
    assert minimum_runtime("b", "b", facts.queues, facts.tree.paths) == 20


# Order


def test_cost_counts_by_the_accelerators_that_are_really_usable() -> None:
    """Both cost the same for each of their accelerators, but half of the wide one is where the beneficiary may not be."""
    other = a_node("b", region="us")
    wide = a_workload("wide", gpus=4, count=2, tier=BASIC).on((NODE, 4), (other, 4), started_at=NOON - seconds(900))
    half = replace(NODE, free=NODE.free - wide.placement.shares[0].room)
    narrow = a_workload("narrow", gpus=4, tier=BASIC).on((half, 4), started_at=NOON - seconds(1_000))
    targeted = a_workload(gpus=4, targets=(Target(regions=(NODE.region,)),))
    plan = schedule(a_snapshot([NODE, other], OWN, wide, narrow, targeted), NOON)
    assert plan.preempts == (("narrow.1", "w"),)
