"""What holds of every round by Kueue's rules, whatever the tree and the queues' policies."""

from dataclasses import replace
from itertools import count
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from corral.api import BorrowWithinCohort, Fungibility, Ordering, QueuePreemption, QueueSpec, Reclaim, Search, WithinQueue
from corral.policy import Cohorts, FairPreemption, Policy, QuotaModel, Rank
from domain.decision import Plan, Start, StartAfter
from domain.pool.workload import Active
from domain.quota.tree import QuotaTree
from domain.quota.usage import DominantShare, Usage
from domain.round import schedule
from domain.snapshot import Snapshot
from domain.worlds.world import World
from tests.builders import NOON, AWorkload, a_cohort, a_node, a_queue, a_snapshot, a_workload, seconds
from tests.properties.situations import STABLE, carried_out, check_room, settled, worlds
from tests.properties.test_round import shuffled

MOST_ROUNDS = 30

preemptions = st.builds(
    QueuePreemption,
    within_queue=st.sampled_from(WithinQueue),
    reclaim_within_cohort=st.sampled_from(Reclaim),
    borrow_within_cohort=st.builds(
        BorrowWithinCohort,
        policy=st.sampled_from(("never", "lower-priority")),
        maximum_priority=st.none() | st.integers(-1, 1),
    ),
)
fungibilities = st.builds(Fungibility, when_can_borrow=st.sampled_from(Search), when_can_preempt=st.sampled_from(Search))
strategies = st.sampled_from(
    ((FairPreemption.LESS_THAN_INITIAL_SHARE,), (FairPreemption.LESS_THAN_OR_EQUAL_TO_FINAL_SHARE,), tuple(FairPreemption))
)
models = st.builds(Cohorts, fair_sharing=st.booleans(), fair_preemption=strategies)


def ruled_by(model: Cohorts) -> Policy:
    return Policy(rank=Rank(quota_model=QuotaModel.COHORTS, cohorts=model))


@st.composite
def in_cohorts(draw: st.DrawFn) -> Snapshot:
    """Any world, with queues that have policies and a tree that may be deeper."""
    world = draw(worlds)
    queues = [
        queue.model_copy(
            update={
                "preemption": draw(st.none() | preemptions),
                "fungibility": draw(st.none() | fungibilities),
                "ordering": draw(st.sampled_from(Ordering)),
                "parent": draw(st.sampled_from((queue.parent, "inner"))) if queue.parent else None,
            }
        )
        for queue in world.queues
    ]
    inner = a_queue("inner", draw(st.integers(0, 4)), parent="cohort", lending_limit=draw(st.none() | st.integers(0, 4)))
    return replace(world, queues=(*queues, inner), policy=ruled_by(draw(models)))


@STABLE
@given(in_cohorts(), st.randoms(use_true_random=False))
def test_the_order_of_rows_never_matters(snapshot: Snapshot, random: Random) -> None:
    assert schedule(shuffled(snapshot, random), NOON) == schedule(snapshot, NOON)


@STABLE
@given(in_cohorts())
def test_every_workload_gets_one_decision(snapshot: Snapshot) -> None:
    for once in (True, False):
        decided = [decision.workload_id for decision in schedule(snapshot, NOON, once=once).decisions]
        assert sorted(decided) == sorted(workload.id for workload in snapshot.waiting)


@STABLE
@given(in_cohorts())
def test_no_device_cpu_or_memory_is_oversubscribed(snapshot: Snapshot) -> None:
    check_room(carried_out(snapshot, schedule(snapshot, NOON)))


@STABLE
@given(in_cohorts())
def test_a_second_round_has_nothing_left_to_do(snapshot: Snapshot) -> None:
    first = schedule(snapshot, NOON)
    second = schedule(carried_out(snapshot, first), NOON)
    assert not [decision for decision in second.decisions if isinstance(decision, Start | StartAfter)]


# No thrash: what is stopped goes back in line, and yet all comes to rest


LEAVES = ("a", "b", "c", "d")


@st.composite
def trees(draw: st.DrawFn) -> list[QueueSpec]:
    """Two cohorts of two queues each below a root, all with quota and a policy."""
    left, right = (
        a_cohort(
            *(
                a_queue(name, draw(st.integers(0, 4)), weight=draw(st.integers(0, 3)), preemption=draw(preemptions))
                for name in names
            ),
            name=cohort,
            nominal=draw(st.integers(0, 3)),
            weight=draw(st.integers(1, 3)),
        )
        for cohort, names in (("left", LEAVES[:2]), ("right", LEAVES[2:]))
    )
    inner = [queue.model_copy(update={"parent": queue.parent or "root"}) for queue in (*left, *right)]
    return [a_queue("root", draw(st.integers(0, 2))), *inner]


def some_work(draw: st.DrawFn, id: str) -> AWorkload:
    return a_workload(
        id,
        queue=draw(st.sampled_from(LEAVES)),
        gpus=1,
        count=draw(st.integers(1, 4)),
        priority=draw(st.integers(-1, 1)),
        submitted_at=NOON - seconds(draw(st.integers(0, 3))),
    )


@st.composite
def crowds(draw: st.DrawFn) -> Snapshot:
    """Work on one large node, so that quota alone binds; what runs was started by an earlier round."""
    fleet, tree = [a_node("wide", gpus=64)], draw(trees())
    policy = ruled_by(draw(models))
    before = a_snapshot(
        fleet, tree, *(some_work(draw, f"r{index}") for index in range(draw(st.integers(5, 10)))), policy=policy
    )
    waiting = [some_work(draw, f"w{index}") for index in range(draw(st.integers(1, 3)))]
    running = settled(before, schedule(before, NOON)).active
    return a_snapshot(fleet, tree, *running, *waiting, policy=policy)


def changes(plan: Plan) -> bool:
    return any(isinstance(decision, Start | StartAfter) for decision in plan.decisions)


@STABLE
@given(crowds())
def test_all_comes_to_rest_though_victims_wait_again(snapshot: Snapshot) -> None:
    for rounds in count():
        plan = schedule(snapshot, NOON)
        if not changes(plan):
            break
        assert rounds < MOST_ROUNDS
        snapshot = settled(snapshot, plan)


# Fair shares


def shares_below(node: str, usage: Usage, queues: tuple[QueueSpec, ...]) -> list[DominantShare]:
    """The shares of a node's children, the greatest first."""
    return sorted((usage.dominant_share(queue.name) for queue in queues if queue.parent == node), reverse=True)


@STABLE
@given(crowds())
def test_preemption_by_fair_share_makes_shares_more_equal_where_branches_part(snapshot: Snapshot) -> None:
    snapshot = replace(snapshot, policy=ruled_by(Cohorts(fair_sharing=True)), waiting=snapshot.waiting[:1])
    tree = QuotaTree.at(snapshot.queues, NOON)
    plan = schedule(snapshot, NOON)
    after = World.of(settled(snapshot, plan), tree).usage
    before = World.of(snapshot, tree).usage
    actives = {active.attempt_id: active for active in snapshot.active}
    for decision in plan.decisions:
        if isinstance(decision, StartAfter):
            queue = snapshot.waiting[0].spec.queue
            others = [actives[victim] for victim in decision.victims if actives[victim].spec.queue != queue]
            if others and not after.is_within_nominal(queue, "h100", 0):
                ancestor = highest_parting(queue, others, tree)
                assert shares_below(ancestor, after, snapshot.queues) < shares_below(ancestor, before, snapshot.queues)


def highest_parting(queue: str, others: list[Active], tree: QuotaTree) -> str:
    """The node nearest to the root at which the beneficiary's branch parts from one that loses work."""
    path = tree.paths[queue]
    return max((next(node for node in tree.paths[each.spec.queue] if node in path) for each in others), key=path.index)
