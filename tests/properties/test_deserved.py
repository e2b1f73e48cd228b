"""Properties of rounds by deserved quota: they come to rest, take only from those who have too much, and spare the rest."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from corral.api import QueueSpec, SlaTier
from corral.policy import Deserved, Policy, QuotaModel, Rank, TierPolicy
from domain.decision import Change, Plan, Start, StartAfter
from domain.facts import Facts
from domain.round import schedule
from domain.snapshot import Snapshot
from domain.worlds.world import World
from tests.builders import NOON, AWorkload, a_node, a_queue, a_snapshot, a_workload, seconds
from tests.conformance.running import settled
from tests.properties.situations import STABLE, is_within, left_of
from tests.properties.test_round import shuffled

QUEUES = ("a1", "a2", "b1", "b2")
MOST_ROUNDS = 12

policy = Policy(
    rank=Rank(
        quota_model=QuotaModel.DESERVED,
        deserved=Deserved(scenarios=50),
        tiers={tier: TierPolicy(guarantee=0, minimum_runtime_seconds=0) for tier in SlaTier},
    )
)


@st.composite
def trees(draw: st.DrawFn) -> list[QueueSpec]:
    """Two departments with two queues each; not every department has quota of its own."""
    return [
        *(a_queue(name, draw(st.none() | st.integers(0, 6)), over_quota_weight=1) for name in ("a", "b")),
        *(draw(queues(name)) for name in QUEUES),
    ]


@st.composite
def queues(draw: st.DrawFn, name: str) -> QueueSpec:
    nominal = draw(st.integers(0, 4))
    cap = draw(st.none() | st.integers(nominal, nominal + 4))
    queue = a_queue(name, nominal, parent=name[0], cap=cap, over_quota_weight=draw(st.integers(0, 2)))
    return queue.model_copy(update={"priority": draw(st.integers(0, 1))})


@st.composite
def workloads(draw: st.DrawFn, id: str) -> AWorkload:
    count = draw(st.integers(1, 3))
    return a_workload(
        id,
        queue=draw(st.sampled_from(QUEUES)),
        gpus=draw(st.sampled_from((0.5, 1, 1, 2, 3))),
        count=count,
        minimum=draw(st.none() | st.integers(1, count)),
        priority=draw(st.integers(0, 2)),
        preemptible=draw(st.sampled_from((True, True, False))),
        required=draw(st.sampled_from((None, None, "rack"))),
        submitted_at=NOON - seconds(draw(st.integers(0, 300))),
    )


@st.composite
def contested(draw: st.DrawFn) -> Snapshot:
    """Work that runs where a first round put it, and work that came later."""
    fleet = [a_node(f"n{index}", gpus=4, topology=(("rack", f"r{index // 2}"),)) for index in range(draw(st.integers(1, 3)))]
    tree = draw(trees())
    earlier = a_snapshot(
        fleet, tree, *(draw(workloads(f"r{index}")) for index in range(draw(st.integers(1, 6)))), policy=policy
    )
    running = [active for active in settled(earlier, schedule(earlier, NOON), NOON).active if draw(st.booleans())]
    later = [draw(workloads(f"w{index}")) for index in range(draw(st.integers(1, 5)))]
    return a_snapshot(fleet, tree, *running, *later, policy=policy)


def rounds(snapshot: Snapshot) -> list[tuple[Snapshot, Plan]]:
    """Round after round, each carried out to the end, until one changes nothing."""
    done = []
    for _ in range(MOST_ROUNDS):
        plan = schedule(snapshot, NOON)
        done.append((snapshot, plan))
        if not (plan.reshapes or plan.stops or any(isinstance(decision, Start | StartAfter) for decision in plan.decisions)):
            break
        snapshot = settled(snapshot, plan, NOON)
    return done


def losers(plan: Plan) -> set[str]:
    """The attempts that are stopped, shrunk or moved."""
    grown = {reshape.attempt_id for reshape in plan.reshapes if reshape.change is Change.GROW}
    touched = {reshape.attempt_id for reshape in plan.reshapes} - grown
    return touched | {victim for victim, _ in plan.preempts} | {stop.attempt_id for stop in plan.stops}


@STABLE
@given(contested())
def test_rounds_come_to_rest(snapshot: Snapshot) -> None:
    assert len(rounds(snapshot)) < MOST_ROUNDS


@STABLE
@given(contested())
def test_nothing_is_given_twice_and_no_cap_is_exceeded(snapshot: Snapshot) -> None:
    for before, plan in rounds(snapshot):
        after = settled(before, plan, NOON)
        assert all(is_within(left_of(node, after.active)) for node in after.nodes)
        facts = Facts.of(after, NOON)
        usage = World.of(after, facts.tree).usage
        for (node, name), standing in facts.tree.standings.items():
            assert standing.quota.cap is None or usage.use(node, name).total <= standing.quota.cap


@STABLE
@given(contested())
def test_work_that_may_not_be_preempted_is_never_touched(snapshot: Snapshot) -> None:
    for before, plan in rounds(snapshot):
        firm = {active.attempt_id for active in before.active if not active.spec.preemptible}
        assert firm.isdisjoint(losers(plan))


@STABLE
@given(contested())
def test_only_those_lose_to_others_who_have_more_than_they_deserve(snapshot: Snapshot) -> None:
    for before, plan in rounds(snapshot):
        queues_of = {workload.id: workload.spec.queue for workload in before.waiting}
        by_attempt = {active.attempt_id: active for active in before.active}
        facts = Facts.of(before, NOON)
        usage = World.of(before, facts.tree).usage
        for victim, beneficiary in plan.preempts:
            loser, winner = by_attempt[victim].spec.queue, queues_of[beneficiary]
            if loser != winner:
                level = loser if loser[0] == winner[0] else loser[0]
                standing = facts.tree.standings[level, "h100"]
                assert not standing.has_row or usage.use(level, "h100").total > standing.quota.nominal


@STABLE
@given(contested(), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(snapshot: Snapshot, random: Random) -> None:
    assert schedule(shuffled(snapshot, random), NOON) == schedule(snapshot, NOON)
