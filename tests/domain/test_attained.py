"""What has run for long ranks, within its tier, as if its priority were lower."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from pydantic import ValidationError

from corral.api import Autoscale, EvacuationOrder, FixKind, PlaceKind, ReplicaGroup, SlaTier
from corral.policy import AttainedStep, Policy, QuotaModel, Rank
from corral.rollout import Change, EffectKind
from domain.advice.fixes import cheapest_fixes
from domain.advice.whatif import applied
from domain.decision import Plan
from domain.operations.evacuation import foreseen
from domain.operations.rollout import what_if
from domain.pool.standing import LOWEST_PRIORITY
from domain.pool.versions import Crowd, Versions
from domain.pool.workload import Active, Waiting
from domain.remembered.attained import Attained, counted
from domain.remembered.memory import Memory
from domain.round import schedule, who_starts
from domain.snapshot import Snapshot
from tests.builders import NOON, AWorkload, a_node, a_queue, a_snapshot, a_workload, follower, seconds, started

HOUR = 3_600
DAY = 24 * HOUR
A_DAY_BY_100 = AttainedStep(after_seconds=DAY, lowers_priority_by=100)
FOUR_HOURS_BY_10 = AttainedStep(after_seconds=4 * HOUR, lowers_priority_by=10)

NODE = a_node("a", gpus=8)
BASIC: dict[str, Any] = {"gpus": 8, "tier": SlaTier.BASIC}


def a_policy(*steps: AttainedStep, model: QuotaModel = QuotaModel.RANKED) -> Policy:
    return Policy(rank=Rank(quota_model=model, attained_service=steps))


def a_pool(*work: AWorkload | Active, policy: Policy | None = None, nominal: int = 8) -> Snapshot:
    return a_snapshot([NODE], [a_queue("research", nominal)], *work, policy=policy or a_policy(A_DAY_BY_100))


def a_runner(id: str = "runner", *, ran: int, before: int = 0, **fields: Any) -> Active:
    """It has been running for so many seconds, and had run in attempts before."""
    terms = BASIC | {"ran_seconds": before} | fields
    return a_workload(id, **terms).on((NODE, 8), started_at=NOON - seconds(ran), held_at=NOON - seconds(ran))


def the_stopped(plan: Plan) -> list[str]:
    return [attempt for attempt, _ in plan.preempts]


def priorities(snapshot: Snapshot, now: datetime = NOON) -> dict[str, int]:
    after = counted(snapshot, now)
    everybody: list[Active | Waiting] = [*after.active, *after.waiting, *after.bystanders]
    return {each.id: each.spec.priority for each in everybody}


def test_it_gives_way_once_it_has_run_for_so_long_and_not_before() -> None:
    waiting = a_workload("w", **BASIC)
    assert the_stopped(schedule(a_pool(a_runner(ran=DAY - 1), waiting), NOON)) == []
    assert the_stopped(schedule(a_pool(a_runner(ran=DAY), waiting), NOON)) == ["runner.1"]
    assert the_stopped(schedule(a_pool(a_runner(ran=DAY), waiting, policy=Policy()), NOON)) == []


@pytest.mark.parametrize("model", [QuotaModel.RANKED, QuotaModel.DESERVED])
def test_whatever_divides_the_pool(model: QuotaModel) -> None:
    pool = a_pool(a_runner(ran=DAY), a_workload("w", **BASIC), policy=a_policy(A_DAY_BY_100, model=model))
    assert the_stopped(schedule(pool, NOON)) == ["runner.1"]


def test_all_that_it_has_run_counts() -> None:
    waiting = a_workload("w", **BASIC)
    assert the_stopped(schedule(a_pool(a_runner(ran=HOUR, before=23 * HOUR), waiting), NOON)) == ["runner.1"]
    assert the_stopped(schedule(a_pool(a_runner(ran=HOUR, before=23 * HOUR - 1), waiting), NOON)) == []


def test_work_that_goes_on_in_another_shape_has_run_for_as_long() -> None:
    old = replace(a_runner(ran=DAY), preempted=True)
    new = replace(follower(old, old.placement, NOON), preempted=False, follows_since=old.started_at)
    after = counted(a_pool(old, new), NOON)
    assert [each.spec.priority for each in after.active] == [-100, -100]


def test_steps_add_up() -> None:
    policy = a_policy(FOUR_HOURS_BY_10, A_DAY_BY_100)
    runners = [a_runner(f"ran-{hours}", ran=hours * HOUR, priority=5) for hours in (3, 4, 23, 24)]
    assert list(priorities(a_pool(*runners, policy=policy)).values()) == [5, -5, -5, -105]


def test_no_priority_falls_below_the_lowest() -> None:
    runner = a_runner(ran=DAY, priority=LOWEST_PRIORITY + 1)
    assert priorities(a_pool(runner)) == {"runner": LOWEST_PRIORITY}


def test_a_higher_tier_keeps_its_rank_beside_a_lower_one() -> None:
    runner = a_runner(ran=DAY, tier=SlaTier.STANDARD)
    assert the_stopped(schedule(a_pool(runner, a_workload("w", **BASIC, priority=1_000)), NOON)) == []


def test_endpoints_run_for_ever_and_are_spared() -> None:
    group = ReplicaGroup(count=8, minimum=8, accelerators=1)
    serves: dict[str, Any] = {"groups": [group], "autoscale": Autoscale(target=1, minimum=8, most=8)}
    pool = a_pool(a_runner("chat", ran=9 * DAY, **serves), a_workload("back", ran_seconds=9 * DAY, **serves))
    assert priorities(pool) == {"chat": 0, "back": 0}


def test_nobody_is_stopped_in_turn_by_whom_it_gave_way_to() -> None:
    stopped = a_workload("stopped", ran_seconds=DAY, submitted_at=NOON - seconds(9 * DAY), **BASIC)
    successor = a_runner("successor", ran=HOUR)
    for hours in (0, 22, 23, 48):
        assert the_stopped(schedule(a_pool(successor, stopped), NOON + seconds(hours * HOUR))) == []


def test_who_has_fallen_waits_behind_who_has_not() -> None:
    fallen = a_workload("fallen", ran_seconds=DAY, submitted_at=NOON - seconds(9 * DAY), **BASIC)
    assert started(schedule(a_pool(fallen, a_workload("new", **BASIC)), NOON)).keys() == {"new"}
    assert started(schedule(a_pool(fallen, a_workload("new", **BASIC), policy=Policy()), NOON)).keys() == {"fallen"}


def test_who_has_fallen_is_not_within_quota_before_who_has_not() -> None:
    running, waiting = a_runner(ran=DAY), a_workload("w", **BASIC, submitted_at=NOON)
    before = schedule(a_pool(running, waiting, policy=Policy()), NOON)
    after = schedule(a_pool(running, waiting), NOON)
    assert (list(before.over_quota), list(after.over_quota)) == (["w"], ["runner"])


def test_minimum_runtimes_and_stops_a_day_protect_it_as_they_protect_all() -> None:
    waiting = a_workload("w", **BASIC)
    assert the_stopped(schedule(a_pool(a_runner(ran=200, before=DAY), waiting), NOON)) == [], "basic: 300 s"
    assert the_stopped(schedule(a_pool(replace(a_runner(ran=DAY), preemptions=99), waiting), NOON)) == []


@pytest.mark.parametrize(("nominal", "saved_ago", "stopped"), [(16, DAY, []), (16, 60, ["runner.1"]), (8, DAY, ["runner.1"])])
def test_a_promise_protects_what_it_has_not_saved_as_long_as_quota_covers_it(
    nominal: int, saved_ago: int, stopped: list[str]
) -> None:
    runner = replace(a_runner(ran=DAY, tier=SlaTier.STANDARD), checkpoint_at=NOON - seconds(saved_ago))
    assert the_stopped(schedule(a_pool(runner, a_workload("w", gpus=8), nominal=nominal), NOON)) == stopped


def test_the_priority_to_set_is_told_and_starts_it_once_it_is_set() -> None:
    fallen = a_workload("fallen", ran_seconds=DAY, priority=7, **BASIC)
    pool = a_pool(fallen, a_workload("other", priority=20, **BASIC))
    assert who_starts(pool, NOON) == {"other"}
    fix = next(each for each in cheapest_fixes("fallen", pool, NOON) if each.kind is FixKind.GO_FIRST and each.priority)
    assert (fix.priority, "raise its priority to 121" in fix.message, "counts as 21" in fix.message) == (121, True, True)
    assert who_starts(applied(fix, "fallen", pool, NOON)[0], NOON) == {"fallen"}
    as_told = a_workload("fallen", ran_seconds=DAY, priority=121, **BASIC)
    assert who_starts(a_pool(as_told, a_workload("other", priority=20, **BASIC)), NOON) == {"fallen"}


def test_no_priority_is_advised_that_cannot_be_set() -> None:
    fallen = a_workload("fallen", ran_seconds=DAY, **BASIC)
    pool = a_pool(fallen, a_workload("other", priority=900, **BASIC))
    assert [each.priority for each in cheapest_fixes("fallen", pool, NOON) if each.priority is not None] == []


def test_it_is_advised_to_wait_until_who_runs_has_fallen() -> None:
    pool = a_pool(a_runner(ran=23 * HOUR), a_workload("w", **BASIC))
    waits = [each.wait_seconds for each in cheapest_fixes("w", pool, NOON) if each.kind is FixKind.WAIT]
    assert waits == [HOUR]


def test_who_leaves_a_place_is_listed_as_it_ranks() -> None:
    fresh = a_workload("a", gpus=4, tier=SlaTier.BASIC, priority=-1).on((NODE, 4), started_at=NOON)
    fallen = a_workload("b", gpus=4, tier=SlaTier.BASIC).on((a_node("a", used=4), 4))
    order = EvacuationOrder(id="e", kind=PlaceKind.REGION, place=f"{NODE.provider}/{NODE.region}", reason="test", who="me")
    found = foreseen(order, a_pool(fresh, fallen), NOON)
    assert found is not None
    assert [move.workload for move in found.moves] == ["b", "a"]


def test_a_what_if_of_a_policy_says_who_would_give_way_under_it() -> None:
    pool = a_pool(a_runner(ran=DAY), a_workload("w", **BASIC), policy=Policy())
    for policy, leaves in ((a_policy(A_DAY_BY_100), ["runner"]), (Policy(name="other"), [])):
        effects = what_if(Change(policy=policy), pool, NOON).effects
        assert [each.workload for each in effects if each.kind is EffectKind.LEAVES] == leaves


def test_nobody_else_becomes_another_object_when_one_falls() -> None:
    attained, waiting = Attained(), [a_workload(f"w{n}", ran_seconds=n * DAY, **BASIC) for n in range(2)]
    line = Versions({each.id: each.waiting() for each in waiting})
    pool = replace(a_pool(a_runner("one", ran=DAY - 60), a_runner("two", ran=HOUR), nominal=64), waiting=Crowd(line))
    first, again = attained.counted(pool, NOON), attained.counted(pool, NOON + seconds(59))
    assert first.active is again.active is pool.active
    assert all(one is other for one, other in zip(first.waiting, again.waiting, strict=True))
    assert [each.spec.priority for each in first.waiting] == [0, -100]
    later = attained.counted(pool, NOON + seconds(60))
    assert [each.spec.priority for each in later.active] == [-100, 0]
    assert later.active[1] is pool.active[1]
    assert isinstance(first.waiting, Crowd)
    assert isinstance(later.waiting, Crowd)
    assert later.waiting.by_name.since(first.waiting.by_name) == {}


def test_whoever_shares_terms_shares_them_when_both_have_fallen() -> None:
    one = a_runner("one", ran=DAY)
    after = counted(a_pool(one, replace(one, id="two", attempt_id="two.1"), nominal=64), NOON)
    assert after.active[0].spec is after.active[1].spec


def test_to_count_again_changes_nothing() -> None:
    pool = counted(a_pool(a_runner(ran=DAY), a_workload("w", ran_seconds=DAY, **BASIC)), NOON)
    assert counted(pool, NOON) is pool


def test_without_steps_nobody_is_looked_at() -> None:
    pool = a_pool(a_runner(ran=DAY), policy=Policy())
    assert Attained().counted(pool, NOON) is pool


def test_a_planner_that_remembers_sees_a_fall_and_a_clock_that_goes_back() -> None:
    memory, pool = Memory(), a_pool(a_runner(ran=DAY - 60), a_workload("w", **BASIC))
    for later in (0, 59, 60, 120, 0, 60):
        now = NOON + seconds(later)
        assert schedule(pool, now, memory=memory) == schedule(pool, now)


def test_steps_come_one_after_the_other() -> None:
    with pytest.raises(ValidationError, match="after_seconds 86400 follows 86400; expected each step to come later"):
        Rank(attained_service=(A_DAY_BY_100, A_DAY_BY_100))
    for wrong in ({"after_seconds": 0, "lowers_priority_by": 1}, {"after_seconds": 1, "lowers_priority_by": 0}):
        with pytest.raises(ValidationError):
            AttainedStep.model_validate(wrong)
