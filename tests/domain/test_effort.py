"""What a round spends on looking for work to disturb."""

from dataclasses import replace

from corral.api import SlaTier
from corral.policy import Disruption, Policy, Rank
from domain.preemption.effort import Effort
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.builders import NOON, UNPROMISED, a_queue, a_snapshot, a_workload, nodes, seconds


def contended(searches: int) -> Snapshot:
    """Four full nodes of lower work, and one urgent workload of each size for them."""
    fleet = nodes(4)
    running = [a_workload(f"low-{node.id}", gpus=8, tier=SlaTier.BASIC).on((node, 8)) for node in fleet]
    urgent = [a_workload(f"urgent-{priority}", gpus=8, priority=priority) for priority in range(4)]
    rank = UNPROMISED.rank.model_copy(update={"disruption": Disruption(searches=searches)})
    return a_snapshot(fleet, [a_queue("research", 64)], *running, *urgent, policy=Policy(rank=Rank(**dict(rank))))


def test_a_round_looks_for_no_more_than_its_limit_and_the_next_one_goes_on() -> None:
    plan = schedule(contended(searches=2), NOON)
    assert 1 <= len(plan.preempts) <= 2
    assert plan.unfinished


def test_a_round_that_has_looked_for_everybody_is_finished() -> None:
    plan = schedule(contended(searches=32), NOON)
    assert len(plan.preempts) == 4
    assert not plan.unfinished


def test_those_first_in_rank_are_looked_for_first() -> None:
    plan = schedule(contended(searches=2), NOON)
    assert "urgent-3" in {beneficiary for _, beneficiary in plan.preempts}


def test_nobody_is_passed_over_for_ever() -> None:
    """Whoever ranks last is looked for at some time, though those before it use up half of all searches every time."""
    everybody = [f"w{index}" for index in range(100)]

    def looked_for(at: float) -> set[str]:
        effort = Effort.of(Disruption(searches=10), at, len(everybody))
        found = set()
        for id in everybody:
            if effort.allows(id):
                effort.count()
                found.add(id)
        assert len(found) <= 10
        assert set(everybody[:5]) <= found
        return found

    times = [(NOON + seconds(at)).timestamp() for at in range(200)]
    assert set().union(*map(looked_for, times)) == set(everybody)


def test_the_same_time_looks_for_the_same() -> None:
    snapshot = contended(searches=2)
    assert schedule(snapshot, NOON) == schedule(replace(snapshot, waiting=snapshot.waiting[::-1]), NOON)
