"""Whose turn it is."""

from typing import Any

import pytest

from corral.api import Ordering, QueueSpec, Reason, SlaTier, StopPolicy
from corral.policy import Limits, Policy, Rank
from domain.facts import Facts
from domain.pool.fleet import Node
from domain.quota_models.ranking import Line
from domain.round import schedule
from domain.worlds.world import World
from tests.builders import (
    LONG_AGO,
    NOON,
    AWorkload,
    a_cohort,
    a_node,
    a_queue,
    a_snapshot,
    a_workload,
    nodes,
    seconds,
    started,
    why,
)
from tests.domain.test_many_wait import calls_of


def order(*workloads: AWorkload, fleet: list[Node] | None = None) -> list[str]:
    cohort = a_cohort(a_queue("research", 8), a_queue("guest", 0), a_queue("other", 0))
    borrower = a_node("borrowed", gpus=1)
    running = a_workload("running", queue="other").on((borrower, 1))
    snapshot = a_snapshot([*(fleet or nodes(2)), borrower], cohort, running, *workloads)
    facts = Facts.of(snapshot, NOON)
    usage = World.of(snapshot, facts.tree).usage
    line = Line(snapshot.waiting, usage, facts)
    return [workload.id for workload in iter(lambda: line.next(usage), None)]


def test_rank_is_lexicographic() -> None:
    assert order(
        a_workload("i-id"),
        a_workload("h-id"),
        a_workload("age", submitted_at=LONG_AGO - seconds(1)),
        a_workload("priority", priority=1),
        a_workload("share", queue="guest", priority=5),
        a_workload("large-share", queue="other", priority=9),
        a_workload("tier", tier=SlaTier.PREMIUM, priority=-5, submitted_at=NOON),
        a_workload("low-tier", tier=SlaTier.BASIC, priority=9, submitted_at=LONG_AGO - seconds(9)),
    ) == ["tier", "priority", "age", "h-id", "i-id", "share", "large-share", "low-tier"]


def test_a_request_beyond_nominal_ranks_after_one_within_it() -> None:
    assert order(a_workload("large", gpus=8, count=2, priority=9), a_workload("small")) == ["small", "large"]


def test_waiting_adds_to_priority_but_never_beats_a_tier() -> None:
    assert order(
        a_workload("urgent", priority=2, submitted_at=NOON),
        a_workload("old", submitted_at=NOON - 3 * DAY),
        a_workload("ancient", tier=SlaTier.BASIC, submitted_at=NOON - 99 * DAY),
    ) == ["old", "urgent", "ancient"]


def test_what_a_queue_was_given_in_this_round_counts_for_whose_turn_is_next() -> None:
    cohort = a_cohort(a_queue("early", 4), a_queue("late", 4))
    early = [a_workload(f"early-{index}", queue="early", gpus=2) for index in range(4)]
    late = [a_workload(f"late-{index}", queue="late", gpus=2, submitted_at=NOON) for index in range(2)]
    plan = schedule(a_snapshot(nodes(1), cohort, *early, *late), NOON)
    assert set(started(plan)) == {"early-0", "early-1", "late-0", "late-1"}


# Strict and best-effort order inside a queue

DAY = seconds(86_400)


def strictly(queue: QueueSpec) -> QueueSpec:
    return queue.model_copy(update={"ordering": Ordering.STRICT_FIFO})


def first_and_second(**first: Any) -> list[AWorkload]:
    return [a_workload("first", **{"gpus": 8, **first}), a_workload("second", submitted_at=NOON)]


def test_the_first_of_a_best_effort_queue_blocks_nobody() -> None:
    plan = schedule(
        a_snapshot([a_node("a", used=4), a_node("b", used=4)], [a_queue("research", 64)], *first_and_second()), NOON
    )
    assert set(started(plan)) == {"second"}


def test_the_first_of_a_strict_queue_blocks_those_behind_it_and_no_other_queue() -> None:
    queues = [strictly(a_queue("research", 64)), a_queue("sales", 64)]
    fleet = [a_node("a", used=4), a_node("b", used=4)]
    other = a_workload("other", queue="sales", gpus=2, submitted_at=NOON)
    plan = schedule(a_snapshot(fleet, queues, *first_and_second(), other), NOON)
    assert set(started(plan)) == {"other"}
    assert why(plan, "first").reason is Reason.NOT_ENOUGH_FREE_ACCELERATORS
    assert why(plan, "second").reason is Reason.BEHIND_OTHERS_IN_QUEUE


def test_a_strict_queue_starts_in_turn_though_what_comes_later_would_be_within_nominal() -> None:
    cohort = a_cohort(strictly(a_queue("research", 4)), a_queue("lender", 8))
    plan = schedule(a_snapshot(nodes(1, gpus=16), cohort, *first_and_second()), NOON)
    assert list(started(plan)) == ["first", "second"]


def test_work_that_may_not_start_yet_blocks_nobody() -> None:
    early = first_and_second(earliest_start=NOON + DAY)
    plan = schedule(a_snapshot(nodes(2), [strictly(a_queue("research", 64))], *early), NOON)
    assert set(started(plan)) == {"second"}


def test_nobody_behind_takes_what_the_first_of_its_queue_waits_for() -> None:
    fleet = nodes(2)
    leaving = a_workload("leaving", gpus=4).on((fleet[0], 4)).stopping()
    staying = a_workload("staying", gpus=8).on((fleet[1], 8))
    queues = [a_queue("research", 64), a_queue("sales", 64)]
    other = a_workload("other", queue="sales", gpus=4, submitted_at=NOON)
    plan = schedule(a_snapshot(fleet, queues, leaving, staying, *first_and_second()), NOON)
    assert started(plan) == {}
    assert why(plan, "first").reason is Reason.WAITING_FOR_VICTIMS
    assert why(plan, "second").message == (
        "would start, but on room that is kept for work before it in queue research, which waits for others to leave"
    )
    assert set(started(schedule(a_snapshot(fleet, queues, leaving, staying, *first_and_second(), other), NOON))) == {"other"}


# Rate limits


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(starts_per_round=3), 3),
        (Limits(starts_per_queue_and_round=2), 4),
        (Limits(starts_per_round=3, starts_per_queue_and_round=1), 2),
        (Limits(), 8),
    ],
)
def test_a_round_starts_no_more_than_its_limits_and_the_next_one_goes_on(limits: Limits, expected: int) -> None:
    waiting = [a_workload(f"{queue}-{index}", queue=queue) for queue in ("research", "sales") for index in range(4)]
    queues, policy = [a_queue("research", 64), a_queue("sales", 64)], Policy(limits=limits)
    plan = schedule(a_snapshot(nodes(1), queues, *waiting, policy=policy), NOON)
    assert len(plan.starts) == expected
    assert plan.unfinished == (expected < 8)
    waits = [why(plan, workload.id) for workload in waiting if workload.id not in started(plan)]
    assert {wait.reason for wait in waits} <= {Reason.ROUND_LIMIT_REACHED}


def test_what_would_not_start_anyway_is_told_the_real_reason_and_needs_no_further_round() -> None:
    policy = Policy(limits=Limits(starts_per_round=1))
    plan = schedule(
        a_snapshot([a_node("a", gpus=1)], [a_queue("research", 8)], *(a_workload(id) for id in "ab"), policy=policy), NOON
    )
    assert why(plan, "b").reason is Reason.NOT_ENOUGH_FREE_ACCELERATORS
    assert not plan.unfinished


def test_priority_does_not_age_where_the_policy_says_so() -> None:
    policy = Policy(rank=Rank(ageing_seconds_per_priority=None))
    old, urgent = a_workload("old", submitted_at=NOON - 99 * DAY), a_workload("urgent", priority=1, submitted_at=NOON)
    assert list(
        started(schedule(a_snapshot([a_node("a", used=7)], [a_queue("research", 8)], old, urgent, policy=policy), NOON))
    ) == ["urgent"]


def test_who_ranks_first_gets_the_last_device() -> None:
    contenders = [a_workload("basic", tier=SlaTier.BASIC), a_workload("premium", tier=SlaTier.PREMIUM)]
    plan = schedule(a_snapshot([a_node("a", used=7)], [a_queue("research", 8)], *contenders), NOON)
    assert list(started(plan)) == ["premium"]


def test_a_stopped_queue_starts_nothing_and_neither_does_anything_below_it() -> None:
    cohort = [
        queue.model_copy(update={"stop": StopPolicy.HOLD}) if queue.name == "cohort" else queue
        for queue in a_cohort(a_queue("research", 8))
    ]
    plan = schedule(a_snapshot(nodes(1), cohort, a_workload()), NOON)
    assert why(plan).message == "queue cohort is stopped (hold); nothing new starts below it until it is open"


# How much is asked


def calls_to_rank_again(kinds: int) -> int:
    """Calls of functions to rank anew a queue that still borrows, where so many things are asked for that differ in memory."""
    cohort = a_cohort(a_queue("one", 4), a_queue("two", 4))
    everybody = [a_workload(f"w{n:04}", queue=("one", "two")[n % 2], memory_mib=1 + n) for n in range(kinds)]
    facts = Facts.of(snapshot := a_snapshot(nodes(2), cohort, *everybody), NOON)
    usage = World.of(snapshot, facts.tree).usage.plus("one", "h100", 8_000, preemptible=True)
    line = Line(snapshot.waiting, usage, facts)
    line.next(usage)
    eased = usage.plus("one", "h100", -2_000, preemptible=True)
    return calls_of(lambda: line.again({"one"}, eased))


def test_ranking_anew_takes_as_many_calls_however_many_different_things_are_asked_for() -> None:
    assert calls_to_rank_again(40) == calls_to_rank_again(400)
