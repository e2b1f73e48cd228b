"""Whose turn it is in cohorts, and what fair shares decide, by Kueue's rules."""

from corral.api import Ordering, QueueSpec, Reason
from corral.policy import FairPreemption, Policy
from domain.decision import Plan
from domain.pool.workload import Active
from domain.round import schedule
from tests.builders import (
    NOON,
    AWorkload,
    a_cohort,
    a_node,
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

FAIR = in_cohorts(fair_sharing=True)


def decided(queues: list[QueueSpec], *workloads: AWorkload | Active, policy: Policy | None = None, once: bool = False) -> Plan:
    snapshot = a_snapshot(wide_fleet(workloads), queues, *workloads, policy=policy or in_cohorts())
    return schedule(snapshot, NOON, once=once)


def stopped(plan: Plan) -> set[str]:
    return {victim.removesuffix(".1") for victim, _ in plan.preempts}


# One cycle


def test_who_borrows_nothing_comes_before_higher_work_that_borrows() -> None:
    cohort = a_cohort(a_queue("one", 4), a_queue("two", 0))
    plan = decided(cohort, a_workload("owns", queue="one", gpus=4), a_workload("borrows", queue="two", gpus=4, priority=9))
    assert set(started(plan)) == {"owns"}


def test_who_borrows_from_nearer_comes_first() -> None:
    inner = a_cohort(a_queue("one", 0), name="inner", nominal=4)
    tree = [a_queue("root"), *(each.model_copy(update={"parent": each.parent or "root"}) for each in inner)]
    works = a_workload("near", queue="one", gpus=4), a_workload("far", queue="two", gpus=4, priority=9)
    assert set(started(decided([*tree, a_queue("two", 0, parent="root")], *works))) == {"near"}


def test_a_pass_looks_at_the_first_of_each_queue_alone() -> None:
    works = [a_workload(id, gpus=1, submitted_at=NOON - seconds(age)) for id, age in (("first", 9), ("second", 5))]
    plan = decided([a_queue("research", 4)], *works, once=True)
    assert set(started(plan)) == {"first"}
    assert why(plan, "second").reason is Reason.PENDING_EVALUATION


def test_of_two_that_want_the_same_victim_one_waits_for_the_next_pass() -> None:
    queues = [a_queue(name, 4, preemption=a_preemption(reclaim="any")) for name in ("one", "two")]
    cohort = a_cohort(*queues, a_queue("guest", 0))
    works = a_workload("w1", queue="one", gpus=4), a_workload("w2", queue="two", gpus=4)
    plan = decided(cohort, a_runner("r", "guest", 8), *works, once=True)
    assert plan.preempts == (("r.1", "w1"),)
    assert why(plan, "w2").reason is Reason.PENDING_EVALUATION
    assert set(started(decided(cohort, a_runner("r", "guest", 8), *works))) == {"w2"}, "the next pass finds quota left over"


def test_quota_is_kept_for_who_may_not_take_it_back_from_borrowers() -> None:
    def plan(reclaim: str) -> Plan:
        cohort = a_cohort(a_queue("owner", 2, preemption=a_preemption(reclaim=reclaim)), a_queue("guest", 0))
        works = a_workload("borrows", queue="guest", gpus=1), a_workload("owns", queue="owner", gpus=2, priority=1)
        return decided(cohort, a_runner("r", "owner", 1), *works, once=True)

    assert set(started(plan("never"))) == set()
    assert set(started(plan("any"))) == {"borrows"}


# Until quiet


def test_a_best_effort_queue_passes_over_what_does_not_fit() -> None:
    works = a_workload("large", gpus=4, priority=1), a_workload("small", gpus=1)
    assert set(started(decided([a_queue("research", 4)], a_runner("r", "research", 3), *works))) == {"small"}


def test_a_strict_queue_waits_for_its_first() -> None:
    queue = a_queue("research", 4, ordering=Ordering.STRICT_FIFO)
    works = a_workload("large", gpus=4, priority=1), a_workload("small", gpus=1)
    plan = decided([queue], a_runner("r", "research", 3), *works)
    assert set(started(plan)) == set()
    assert why(plan, "large").reason is Reason.WAITING_FOR_QUOTA
    assert why(plan, "small").reason is Reason.BEHIND_OTHERS_IN_QUEUE


def test_nodes_are_kept_for_who_lacks_victims_within_one_cycle_alone() -> None:
    node = a_node("n", gpus=2)
    cohort = a_cohort(*(a_queue(name, 2) for name in ("one", "two", "three")))
    works = a_workload("large", queue="one", gpus=2, priority=1), a_workload("small", queue="two")
    snapshot = a_snapshot([node], cohort, a_workload("r", queue="three").on((node, 1)), *works, policy=in_cohorts())
    assert why(schedule(snapshot, NOON, once=True), "small").reason is Reason.PENDING_EVALUATION
    assert set(started(schedule(snapshot, NOON))) == {"small"}


# What they are told who ask for the same


def test_each_is_told_until_when_nothing_is_stopped_for_it() -> None:
    queue = a_queue("research", 4, preemption=a_preemption(within="lower-priority"))
    late = {age: NOON - seconds(age) for age in (20, 10)}
    works = [
        a_workload(f"w{age}", gpus=4, priority=1, preemption_delay_seconds=60, submitted_at=at) for age, at in late.items()
    ]
    plan = decided([queue], a_runner("r", "research", 4), *works)
    for age, at in late.items():
        assert why(plan, f"w{age}").reason is Reason.PREEMPTION_DELAYED
        assert (at + seconds(60)).isoformat() in why(plan, f"w{age}").message


def test_only_who_was_outraced_is_told_so() -> None:
    queues = [a_queue(name, 4, preemption=a_preemption(reclaim="any")) for name in ("one", "two")]
    works = [a_workload(f"{name}{n}", queue=name, gpus=4) for name in ("one", "two") for n in range(3)]
    plan = decided(a_cohort(*queues, a_queue("guest", 0)), a_runner("r", "guest", 8), *works, once=True)
    assert plan.preempts == (("r.1", "one0"),)
    told = {each.id: why(plan, each.id).message for each in works if each.id != "one0"}
    assert [id for id, message in told.items() if "whose turn came first" in message] == ["two0"]
    assert {id for id, message in told.items() if "its turn has not come" in message} == set(told) - {"two0"}


def test_all_of_a_queue_are_told_that_it_has_started_enough() -> None:
    policy = in_cohorts()
    limits = policy.limits.model_copy(update={"starts_per_queue_and_round": 1})
    works = [a_workload(f"w{n}", gpus=1) for n in range(4)]
    plan = decided([a_queue("research", 4)], *works, policy=policy.model_copy(update={"limits": limits}))
    assert {why(plan, f"w{n}").reason for n in (1, 2, 3)} == {Reason.ROUND_LIMIT_REACHED}
    assert plan.unfinished


# Fair shares


def test_the_queue_whose_share_would_be_least_comes_first() -> None:
    cohort = a_cohort(a_queue("one", 0), a_queue("two", 0), nominal=10)
    works = a_workload("much", queue="one", gpus=7, priority=9), a_workload("little", queue="two", gpus=6)
    assert set(started(decided(cohort, *works, policy=FAIR))) == {"little"}
    assert set(started(decided(cohort, *works))) == {"much"}


def test_weight_divides_the_share() -> None:
    cohort = a_cohort(a_queue("one", 0, weight=2), a_queue("two", 0), nominal=10)
    works = a_workload("heavy", queue="one", gpus=7), a_workload("light", queue="two", gpus=6)
    assert set(started(decided(cohort, *works, policy=FAIR))) == {"heavy"}


SHARING = [a_queue(name, 3, preemption=a_preemption("lower-priority", "any")) for name in ("one", "two", "three")]


def test_who_has_most_loses_work_to_who_has_less() -> None:
    runners = [a_runner(f"r{index}", "two", 3) for index in range(3)]
    plan = decided(a_cohort(*SHARING), *runners, a_workload(queue="one", gpus=4), policy=FAIR)
    assert stopped(plan) == {"r0", "r1"}


def test_nobody_is_stopped_when_that_would_only_turn_the_balance() -> None:
    runners = [a_runner("r1", "one", 4), a_runner("r2", "two", 5)]
    plan = decided(a_cohort(*SHARING), *runners, a_workload(queue="one", gpus=2), policy=FAIR)
    assert stopped(plan) == set()


def test_the_strategies_decide_how_far_sharing_goes() -> None:
    runners = [a_runner("one", "one", 3), a_runner("low", "two", 5), a_runner("high", "two", 1, priority=1)]
    final, initial = (
        in_cohorts(fair_sharing=True, fair_preemption=(strategy,))
        for strategy in (FairPreemption.LESS_THAN_OR_EQUAL_TO_FINAL_SHARE, FairPreemption.LESS_THAN_INITIAL_SHARE)
    )
    workload = a_workload(queue="one", gpus=1)
    assert stopped(decided(a_cohort(*SHARING), *runners, workload, policy=final)) == {"high"}
    assert stopped(decided(a_cohort(*SHARING), *runners, workload, policy=initial)) == {"low"}


def test_what_a_queue_owns_it_takes_back_whatever_the_shares() -> None:
    cohort = a_cohort(SHARING[0], SHARING[1].model_copy(update={"weight": 9}), a_queue("three", 3))
    plan = decided(cohort, a_runner("r1", "two", 9), a_workload(queue="one", gpus=3), policy=FAIR)
    assert stopped(plan) == {"r1"}


def test_a_queue_of_no_weight_may_borrow_what_is_idle_and_takes_nothing_from_others() -> None:
    weightless = a_queue("one", 1, weight=0, preemption=a_preemption(reclaim="any"))
    cohort = a_cohort(weightless, a_queue("two", 1), nominal=1)
    assert set(started(decided(cohort, a_workload(queue="one", gpus=3), policy=FAIR))) == {"w"}
    runners = a_runner("own", "one", 1), a_runner("r", "two", 2)
    assert stopped(decided(cohort, *runners, a_workload(queue="one", gpus=1), policy=FAIR)) == set()
