"""Rounds by deserved quota: who starts, who takes from whom, and who has to leave, shrink or move."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from corral.api import QueueSpec, Reason, ReplicaGroup, SlaTier, State
from corral.policy import Action, Deserved, Policy, QuotaModel, Rank, TierPolicy
from domain.decision import Change, Plan, StartAfter, Stop
from domain.pool.fleet import Node
from domain.pool.workload import Active
from domain.round import schedule
from tests.builders import NOON, AWorkload, a_node, a_queue, a_snapshot, a_workload, nodes_of, seconds, started

EVERYTHING = (Action.ALLOCATE, Action.CONSOLIDATE, Action.RECLAIM, Action.PREEMPT)


def a_policy(*actions: Action, **deserved: Any) -> Policy:
    return Policy(
        rank=Rank(
            quota_model=QuotaModel.DESERVED,
            deserved=Deserved(actions=actions or EVERYTHING, **deserved),
            tiers={tier: TierPolicy(guarantee=0, minimum_runtime_seconds=0) for tier in SlaTier},
        )
    )


def decided(
    fleet: list[Node], queues: list[QueueSpec], *work: AWorkload | Active, policy: Policy | None = None, now: datetime = NOON
) -> Plan:
    return schedule(a_snapshot(fleet, queues, *work, policy=policy or a_policy()), now)


def two_queues(one: int = 2, two: int = 2, **fields: Any) -> list[QueueSpec]:
    return [a_queue("one", one, over_quota_weight=1, **fields), a_queue("two", two, over_quota_weight=1, **fields)]


def reshapes(plan: Plan) -> dict[str, tuple[Change, dict[str, int]]]:
    """What happens to running work, by attempt id."""
    return {reshape.attempt_id: (reshape.change, nodes_of(reshape.placement)) for reshape in plan.reshapes}


# Idle capacity


def test_preemptible_work_takes_idle_capacity_beyond_what_its_queue_deserves() -> None:
    plan = decided([a_node("n", gpus=4)], two_queues(one=1), a_workload("w", queue="one", gpus=4))
    assert started(plan).keys() == {"w"}


def test_a_cap_holds_on_idle_capacity_too() -> None:
    plan = decided([a_node("n", gpus=4)], [a_queue("one", 1, cap=2)], a_workload("w", queue="one", gpus=4))
    assert not started(plan)


def test_what_work_needs_over_all_groups_may_be_replicas_of_those_that_there_is_room_for() -> None:
    groups = [ReplicaGroup(name="wide", count=2, minimum=0, accelerators=2), ReplicaGroup(name="small", count=3, minimum=0)]
    work = a_workload("w", queue="one", groups=groups, minimum_replicas=2)
    plan = decided([a_node("n", gpus=3)], two_queues(), work)
    assert nodes_of(started(plan)["w"]) == {"n": 3}


def test_a_group_without_room_for_more_lets_those_after_it_grow() -> None:
    groups = [ReplicaGroup(name="wide", count=2, minimum=1, accelerators=2), ReplicaGroup(name="small", count=2, minimum=0)]
    plan = decided([a_node("n", gpus=3)], two_queues(), a_workload("w", queue="one", groups=groups))
    assert nodes_of(started(plan)["w"]) == {"n": 2}


def test_work_that_may_not_be_preempted_stays_within_what_its_queue_and_every_parent_deserve() -> None:
    tree = [a_queue("department", 1), a_queue("one", 2, parent="department")]
    firm = a_workload("firm", queue="one", gpus=2, preemptible=False)
    assert not started(decided([a_node("n", gpus=4)], tree, firm))


def test_queues_take_turns_by_what_they_use_of_what_they_may_have() -> None:
    work = [a_workload(f"{queue}{number}", queue=queue) for queue in ("one", "two") for number in range(3)]
    plan = decided([a_node("n", gpus=4)], two_queues(), *work)
    assert started(plan).keys() == {"one0", "one1", "two0", "two1"}


def test_the_queue_of_higher_priority_has_idle_capacity_beyond_quota_first() -> None:
    low, high = two_queues(one=0, two=0)
    high = high.model_copy(update={"priority": 1})
    plan = decided([a_node("n", gpus=1)], [low, high], a_workload("a", queue="one"), a_workload("b", queue="two"))
    assert started(plan).keys() == {"b"}


def test_running_elastic_work_grows_into_idle_capacity_once_every_minimum_runs() -> None:
    node = a_node("n", gpus=4)
    small = a_workload("small", queue="one", count=4, minimum=1).on((node, 1))
    plan = decided([node], two_queues(), small, a_workload("other", queue="two", gpus=2))
    assert started(plan).keys() == {"other"}
    assert reshapes(plan) == {"small.1": (Change.GROW, {"n": 2})}


def test_who_waits_for_victims_to_leave_grows_when_it_has_what_it_was_promised() -> None:
    node = a_node("n", gpus=4)
    elastic = a_workload("new", queue="one", count=3, minimum=1)
    victim = a_workload("victim", queue="two").on((node, 1)).stopping()
    promised = elastic.on((node, 1), state=State.RESERVING, started_at=None)
    assert not reshapes(decided([node], two_queues(), replace(victim, beneficiary="new.1"), promised))
    assert reshapes(decided([node], two_queues(), elastic.on((node, 1)))) == {"new.1": (Change.GROW, {"n": 3})}


# Reclaim


def test_a_queue_below_its_share_takes_back_from_one_above_its_own_the_newest_first() -> None:
    node = a_node("n", gpus=2)
    old = a_workload("old", queue="one", submitted_at=NOON - seconds(200)).on((node, 1))
    new = a_workload("new", queue="one", submitted_at=NOON - seconds(100)).on((a_node("n", gpus=2, used=1), 1))
    plan = decided([node], two_queues(one=1, two=1), old, new, a_workload("w", queue="two"))
    assert plan.preempts == (("new.1", "w"),)


def test_nobody_takes_from_a_queue_within_what_it_deserves() -> None:
    node = a_node("n", gpus=2)
    guest = a_workload("guest", queue="one", gpus=2).on((node, 2))
    plan = decided([node], two_queues(one=2, two=0), guest, a_workload("w", queue="two"))
    assert not plan.preempts


def test_nobody_is_stopped_who_would_be_first_in_line_again() -> None:
    """KAI: a reclaim that the next allocation would undo is a loop."""
    node = a_node("n", gpus=4)
    owners = a_workload("owners", queue="one", gpus=2, submitted_at=NOON - seconds(360)).on((node, 2))
    extra = a_workload("extra", queue="one", submitted_at=NOON - seconds(300)).on((a_node("n", gpus=4, used=2), 1))
    mine = a_workload("mine", queue="two", submitted_at=NOON - seconds(240)).on((a_node("n", gpus=4, used=3), 1))
    too_large = a_workload("large", queue="two", gpus=3, submitted_at=NOON - seconds(180))
    small = a_workload("small", queue="two", submitted_at=NOON - seconds(120))
    assert not decided([node], two_queues(), owners, extra, mine, too_large, small).preempts


@pytest.mark.parametrize(("cap", "promised"), [(10, {"first"}), (19, {"first"}), (20, {"first", "second"})])
def test_who_needs_more_quota_than_its_own_victims_leave_waits_until_others_have_left(cap: int, promised: set[str]) -> None:
    large, small = a_node("a", gpus=8), a_node("b", gpus=4)
    victim = a_workload("victim", gpus=8, tier=SlaTier.BASIC).on((large, 8))
    other = a_workload("other", gpus=2, tier=SlaTier.BASIC).on((small, 2))
    first, second = a_workload("first", gpus=6, tier=SlaTier.PREMIUM), a_workload("second", gpus=4)
    plan = decided([large, small], [a_queue("research", cap, cap=cap)], victim, other, first, second)
    assert {each.workload_id for each in plan.decisions if isinstance(each, StartAfter)} == promised


def test_elastic_work_shrinks_instead_of_being_stopped() -> None:
    node = a_node("n", gpus=2)
    elastic = a_workload("elastic", queue="one", count=2, minimum=1).on((node, 2))
    plan = decided([node], two_queues(one=1, two=1), elastic, a_workload("w", queue="two"))
    assert not plan.preempts
    assert reshapes(plan) == {"elastic.1": (Change.SHRINK, {"n": 1})}
    assert plan.reshapes[0].beneficiary == "w"


def test_a_victim_that_fits_elsewhere_is_moved() -> None:
    wide, narrow = a_node("wide", gpus=3), a_node("narrow", gpus=2)
    large = a_workload("large", queue="one", gpus=2, submitted_at=NOON - seconds(200)).on((wide, 2))
    small = a_workload("small", queue="one", submitted_at=NOON - seconds(100)).on((narrow, 1))
    queues, wanted = two_queues(one=3, two=2), a_workload("w", queue="two", gpus=2)
    plan = decided([wide, narrow], queues, large, small, wanted, policy=a_policy(Action.RECLAIM))
    assert not plan.preempts
    assert reshapes(plan) == {"small.1": (Change.MIGRATE, {"wide": 1})}


def test_replicas_of_a_group_that_is_not_preemptible_stay() -> None:
    node = a_node("n", gpus=2)
    heads = ReplicaGroup(name="head", count=2, minimum=1, preemptible=False)
    gang = a_workload("gang", queue="one", groups=[heads]).on((node, 2))
    plan = decided([node], two_queues(one=1, two=1), gang, a_workload("w", queue="two"))
    assert not plan.preempts
    assert not plan.reshapes


def test_a_workload_waits_out_its_preemption_delay_before_anybody_is_stopped_for_it() -> None:
    node = a_node("n", gpus=2)
    guest = a_workload("guest", queue="one", gpus=2).on((node, 2))
    patient = a_workload("w", queue="two", preemption_delay_seconds=60, submitted_at=NOON - seconds(30))
    assert not decided([node], two_queues(one=1, two=1), guest, patient).preempts
    assert decided([node], two_queues(one=1, two=1), guest, patient, now=NOON + seconds(30)).preempts


def test_departments_protect_work_from_each_other_by_their_own_minimum_runtime() -> None:
    node = a_node("n", gpus=2)
    guest = a_workload("guest", queue="one", gpus=2).on((node, 2), started_at=NOON - seconds(60))
    tree = [
        a_queue("left", 1, over_quota_weight=1).model_copy(update={"reclaim_minimum_runtime_seconds": 100}),
        a_queue("right", 1, over_quota_weight=1),
        a_queue("one", 1, parent="left").model_copy(update={"reclaim_minimum_runtime_seconds": 0}),
        a_queue("two", 1, parent="right"),
    ]
    assert not decided([node], tree, guest, a_workload("w", queue="two")).preempts
    assert decided([node], tree, guest, a_workload("w", queue="two"), now=NOON + seconds(60)).preempts


# Preempt, consolidate, enforce


def test_higher_priority_stops_lower_work_of_its_own_queue_alone() -> None:
    node = a_node("n", gpus=2)
    mine = a_workload("mine", queue="one").on((node, 1))
    theirs = a_workload("theirs", queue="two").on((a_node("n", gpus=2, used=1), 1))
    plan = decided([node], two_queues(one=1, two=1), mine, theirs, a_workload("w", queue="one", priority=1))
    assert plan.preempts == (("mine.1", "w"),)


def test_a_policy_may_ask_for_a_gap_in_priority() -> None:
    node = a_node("n", gpus=1)
    mine, work = a_workload("mine", queue="one").on((node, 1)), a_workload("w", queue="one", priority=9)
    assert not decided([node], two_queues(), mine, work, policy=a_policy(priority_gap=10)).preempts
    assert decided([node], two_queues(), mine, work, policy=a_policy(priority_gap=9)).preempts


def test_running_work_moves_together_so_that_a_large_job_fits() -> None:
    left, right = a_node("left", gpus=2), a_node("right", gpus=2)
    old = a_workload("old", queue="one", submitted_at=NOON - seconds(200)).on((left, 1))
    new = a_workload("new", queue="one", submitted_at=NOON - seconds(100)).on((right, 1))
    plan = decided([left, right], two_queues(), old, new, a_workload("w", queue="two", gpus=2, submitted_at=NOON))
    assert not plan.preempts
    assert reshapes(plan) == {"new.1": (Change.MIGRATE, {"left": 1})}


def test_only_the_actions_of_the_policy_are_done() -> None:
    node = a_node("n", gpus=2)
    guest = a_workload("guest", queue="one", gpus=2).on((node, 2))
    plan = decided([node], two_queues(one=1, two=1), guest, a_workload("w", queue="two"), policy=a_policy(Action.ALLOCATE))
    assert not plan.preempts


def test_a_lowered_cap_is_enforced_but_never_by_more_than_the_excess() -> None:
    node = a_node("n", gpus=20)
    sizes = {"five": 5, "six": 6, "three": 3, "four": 4}
    running, used = [], 0
    for name, gpus in sizes.items():
        running.append(a_workload(name, queue="one", gpus=gpus).on((a_node("n", gpus=20, used=used), gpus)))
        used += gpus
    plan = decided([node], [a_queue("one", 10, cap=10)], *running, policy=a_policy(Action.ENFORCE))
    assert set(plan.stops) == {Stop("three.1", Reason.QUEUE_CAP_REACHED), Stop("four.1", Reason.QUEUE_CAP_REACHED)}
