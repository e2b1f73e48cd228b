"""Whose work is stopped for whom in cohorts, by Kueue's rules."""

from dataclasses import replace
from datetime import datetime

import pytest

from corral.api import QueueSpec, Reason, State
from domain.decision import Plan, StartAfter
from domain.pool.workload import Active
from domain.round import schedule
from tests.builders import (
    NOON,
    AWorkload,
    a_cohort,
    a_preemption,
    a_queue,
    a_runner,
    a_snapshot,
    a_workload,
    in_cohorts,
    seconds,
    started,
    why,
    wide_fleet,
)


def decided(queues: list[QueueSpec], *workloads: AWorkload | Active) -> Plan:
    return schedule(a_snapshot(wide_fleet(workloads), queues, *workloads, policy=in_cohorts()), NOON)


def stopped(plan: Plan) -> set[str]:
    return {victim.removesuffix(".1") for victim, _ in plan.preempts}


# In one queue


@pytest.mark.parametrize(
    ("within", "priority", "waits_since", "victims"),
    [
        ("never", 1, 10, set[str]()),
        ("lower-priority", 1, 10, {"r"}),
        ("lower-priority", 0, 1_000_000, set[str]()),
        ("lower-or-newer-equal-priority", 0, 1_000_000, {"r"}),
        ("lower-or-newer-equal-priority", 0, 10, set[str]()),
    ],
)
def test_a_queue_says_which_of_its_own_work_gives_way(within: str, priority: int, waits_since: int, victims: set[str]) -> None:
    queue = a_queue("research", 4, preemption=a_preemption(within))
    workload = a_workload(gpus=4, priority=priority, submitted_at=NOON - seconds(waits_since))
    assert stopped(decided([queue], a_runner("r", "research", 4), workload)) == victims


def test_the_lowest_leaves_first_and_nobody_leaves_in_vain() -> None:
    queue = a_queue("research", 6, preemption=a_preemption("lower-priority"))
    runners = [a_runner(id, "research", gpus, priority=priority) for id, gpus, priority in (("low", 1, -1), ("mid", 2, 0))]
    plan = decided([queue], *runners, a_runner("high", "research", 3, priority=1), a_workload(gpus=2, priority=1))
    assert stopped(plan) == {"mid"}, "the lowest alone would not be enough, and beside the next it need not leave"


def test_of_equals_whoever_got_capacity_last_leaves_first() -> None:
    queue = a_queue("research", 4, preemption=a_preemption("lower-priority"))
    times: tuple[tuple[str, datetime], ...] = (("early", NOON - seconds(90)), ("late", NOON - seconds(30)))
    runners = [a_runner(id, "research", 2, held_at=held_at) for id, held_at in times]
    assert stopped(decided([queue], *runners, a_workload(gpus=2, priority=1))) == {"late"}


# Between queues


OWNER = a_queue("research", 4, preemption=a_preemption(reclaim="any"))


def test_an_owner_takes_back_what_others_borrow_whatever_its_priority() -> None:
    cohort = a_cohort(OWNER, a_queue("guest", 4))
    runners = [a_runner("old", "guest", 4, priority=9), a_runner("new", "guest", 4, priority=5)]
    assert stopped(decided(cohort, *runners, a_workload(gpus=4))) == {"new"}


def test_nobody_takes_from_a_queue_that_does_not_borrow() -> None:
    cohort = a_cohort(OWNER, a_queue("guest", 8))
    plan = decided(cohort, a_runner("r", "guest", 8), a_runner("own", "research", 4), a_workload(gpus=4, priority=9))
    assert stopped(plan) == set()
    assert why(plan).reason is Reason.WAITING_FOR_QUOTA


def test_reclaiming_from_lower_work_alone_spares_equals() -> None:
    owner = a_queue("research", 4, preemption=a_preemption(reclaim="lower-priority"))
    cohort = a_cohort(owner, a_queue("guest", 4))
    runners = [a_runner("equal", "guest", 4), a_runner("low", "guest", 4, priority=-1)]
    assert stopped(decided(cohort, *runners, a_workload(gpus=4))) == {"low"}


@pytest.mark.parametrize(("highest", "victims"), [(None, set[str]()), (0, {"low"}), (-2, set[str]())])
def test_to_borrow_a_queue_may_stop_low_work_of_other_borrowers_up_to_a_priority(
    highest: int | None, victims: set[str]
) -> None:
    queue = a_queue("research", 1, preemption=a_preemption(reclaim="lower-priority", borrow=highest))
    cohort = a_cohort(queue, a_queue("guest", 0), a_queue("lender", 7))
    plan = decided(cohort, a_runner("low", "guest", 8, priority=-1), a_workload(gpus=8))
    assert stopped(plan) == victims


def test_what_is_lent_to_nobody_cannot_be_had_by_preempting() -> None:
    cohort = a_cohort(
        a_queue("research", 6, preemption=a_preemption("lower-priority", "any")), a_queue("guest", 6, lending_limit=2)
    )
    plan = decided(cohort, a_runner("r", "guest", 10, priority=-1), a_workload(gpus=9))
    assert stopped(plan) == set()
    assert why(plan).reason is Reason.NEVER_WITHIN_QUOTA


def deep_tree(*queues: QueueSpec) -> list[QueueSpec]:
    """An owning cohort of two queues without quota below a root, beside a queue that can only borrow."""
    inner = a_cohort(*queues, name="inner", nominal=4)
    return [
        a_queue("root"),
        *(each.model_copy(update={"parent": each.parent or "root"}) for each in inner),
        a_queue("guest", 0, parent="root"),
    ]


def test_a_cohort_takes_its_quota_back_from_outside_before_its_own_queues_give_way() -> None:
    research = a_queue("research", 0, preemption=a_preemption("lower-priority", "any"))
    tree = deep_tree(research, a_queue("sibling", 0))
    runners = [a_runner("outside", "guest", 2, priority=9), a_runner("own", "research", 2, priority=-9)]
    assert stopped(decided(tree, *runners, a_workload(gpus=2))) == {"outside"}


def test_parts_of_the_tree_within_their_quota_are_left_alone() -> None:
    research = a_queue("research", 0, preemption=a_preemption(reclaim="any"))
    tree = [*deep_tree(research, a_queue("sibling", 0)), a_queue("other", 2, parent="root")]
    runners = [a_runner("other", "other", 2, priority=-9), a_runner("guest", "guest", 4)]
    assert stopped(decided(tree, *runners, a_workload(gpus=4))) == {"guest"}


# What else is looked at


def test_work_on_its_way_out_makes_room_before_anybody_else_is_stopped() -> None:
    queue = a_queue("research", 4, preemption=a_preemption("lower-priority"))
    leaving = replace(a_runner("leaving", "research", 2, priority=5), state=State.STOPPING)
    plan = decided([queue], leaving, a_runner("r", "research", 2), a_workload(gpus=2, priority=1))
    [promise] = plan.decisions
    assert isinstance(promise, StartAfter)
    assert promise.victims == ()


def test_work_that_may_not_be_preempted_is_nobodys_victim() -> None:
    queue = a_queue("research", 4, preemption=a_preemption("lower-priority"))
    plan = decided([queue], a_runner("r", "research", 4, preemptible=False), a_workload(gpus=4, priority=1))
    assert plan.preempts == ()


def test_nothing_is_stopped_before_work_has_waited_for_its_delay() -> None:
    queue = a_queue("research", 4, preemption=a_preemption("lower-priority"))
    hasty, patient = (
        a_workload(gpus=4, priority=1, preemption_delay_seconds=60, submitted_at=NOON - seconds(waited)) for waited in (59, 60)
    )
    plan = decided([queue], a_runner("r", "research", 4), hasty)
    assert stopped(plan) == set()
    assert why(plan).reason is Reason.PREEMPTION_DELAYED
    assert stopped(decided([queue], a_runner("r", "research", 4), patient)) == {"r"}


def test_quota_left_over_by_victims_starts_others_in_the_same_round() -> None:
    queue = a_queue("research", 8, preemption=a_preemption("lower-priority"))
    others = [a_workload("first", gpus=4, priority=2), a_workload("second", gpus=4, priority=1)]
    plan = decided([queue], a_runner("r", "research", 8), *others)
    assert {decision.workload_id for decision in plan.decisions} == {"first", "second"}
    assert "second" in started(plan)
