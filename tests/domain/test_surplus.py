"""What work was given in a round beyond its minimum is given up before anybody is disturbed."""

from random import Random
from typing import Any

import pytest

from corral.api import SlaTier
from corral.policy import Disruption, Policy, Rank, TierPolicy
from domain.decision import Plan, Start, StartAfter
from domain.pool.workload import Active
from domain.round import schedule
from tests.builders import LONG_AGO, NOON, AWorkload, a_node, a_queue, a_snapshot, a_workload, nodes, seconds

OWN = [a_queue("research", 100)]
FREE_TO_STOP = {tier: TierPolicy(guarantee=0.0, minimum_runtime_seconds=0) for tier in SlaTier}


def a_policy(*, shrink: bool = False) -> Policy:
    return Policy(rank=Rank(tiers=FREE_TO_STOP, disruption=Disruption(shrink=shrink, migrate=False)))


def running(id: str, gpus: int, used: int, **fields: Any) -> Active:
    return a_workload(id, gpus=gpus, tier=SlaTier.BASIC, **fields).on((a_node("n0", used=used), gpus), started_at=LONG_AGO)


def elastic(count: int = 4, minimum: int = 1, **fields: Any) -> AWorkload:
    return a_workload("elastic", count=count, minimum=minimum, tier=SlaTier.PREMIUM, **fields)


def replicas(plan: Plan, id: str) -> int:
    return next(each.placement.replicas for each in plan.decisions if isinstance(each, Start) and each.workload_id == id)


@pytest.mark.parametrize("shrink", [False, True])
def test_who_would_need_a_victim_gets_what_a_start_of_the_round_has_beyond_its_minimum(*, shrink: bool) -> None:
    pool = a_snapshot(
        nodes(1), OWN, running("low", 4, used=0), elastic(), a_workload("w", gpus=2), policy=a_policy(shrink=shrink)
    )
    plan = schedule(pool, NOON)
    assert not plan.preempts
    assert (replicas(plan, "elastic"), replicas(plan, "w")) == (2, 1)


def test_no_more_is_given_up_than_is_needed_and_the_last_in_turn_gives_first() -> None:
    second = a_workload("second", count=2, minimum=1, tier=SlaTier.PREMIUM, submitted_at=NOON)
    pool = a_snapshot(
        nodes(1),
        OWN,
        running("low", 3, used=0),
        elastic(3, submitted_at=LONG_AGO),
        second,
        a_workload("w", gpus=1),
        policy=a_policy(),
    )
    plan = schedule(pool, NOON)
    assert not plan.preempts
    assert [replicas(plan, id) for id in ("elastic", "second", "w")] == [3, 1, 1]


def test_fewer_are_stopped_where_a_surplus_is_given_up_beside() -> None:
    pool = a_snapshot(
        nodes(1),
        OWN,
        running("one", 2, used=0),
        running("two", 2, used=2),
        elastic(4, 2),
        a_workload("w", gpus=4),
        policy=a_policy(),
    )
    plan = schedule(pool, NOON)
    (after,) = (each for each in plan.decisions if isinstance(each, StartAfter))
    assert (replicas(plan, "elastic"), len(after.victims)) == (2, 1)


def test_a_surplus_is_kept_where_giving_it_up_spares_nobody() -> None:
    pool = a_snapshot(nodes(1), OWN, running("low", 6, used=0), elastic(2), a_workload("w", gpus=6), policy=a_policy())
    plan = schedule(pool, NOON)
    assert plan.preempts == (("low.1", "w"),)
    assert replicas(plan, "elastic") == 2


def test_a_surplus_is_kept_where_nobody_may_be_stopped_for_who_waits() -> None:
    firm = a_workload("firm", gpus=6, preemptible=False).on((a_node("n0"), 6))
    pool = a_snapshot(nodes(1), OWN, firm, elastic(2), a_workload("w"), policy=a_policy())
    assert replicas(schedule(pool, NOON), "elastic") == 2


@pytest.mark.parametrize("seed", range(3))
def test_whoever_is_stopped_would_be_if_no_start_of_the_round_had_more_than_its_minimum(seed: int) -> None:
    random, stopped = Random(seed), 0
    for _ in range(40):
        fleet = [a_node(f"n{at}", gpus=4) for at in range(random.randint(1, 2))]
        tree = [a_queue(name, random.randint(1, 5)) for name in ("a", "b")]
        runners = []
        for node in fleet:
            used = 0
            while used < 4 and random.random() < 0.8:
                gpus = random.randint(1, min(2, 4 - used))
                work = a_workload(f"{node.id}-{used}", queue=random.choice("ab"), gpus=gpus, priority=random.randint(0, 1))
                runners.append(work.on((a_node(node.id, gpus=4, used=used), gpus), started_at=LONG_AGO))
                used += gpus
        count = random.randint(2, 4)
        queue, minimum = random.choice("ab"), random.randint(1, count - 1)
        first = elastic(count, minimum, queue=queue)
        bare = a_workload("elastic", count=minimum, queue=queue, tier=SlaTier.PREMIUM, submitted_at=first.submitted_at)
        w = a_workload("w", queue=random.choice("ab"), gpus=random.randint(1, 4), priority=1, submitted_at=NOON - seconds(5))
        policy = a_policy(shrink=random.random() < 0.3)
        plans = [schedule(a_snapshot(fleet, tree, *runners, work, w, policy=policy), NOON) for work in (first, bare)]
        victims, fewest = ({victim for victim, _ in plan.preempts} for plan in plans)
        assert not fewest < victims
        stopped += bool(victims)
    assert stopped > 3
