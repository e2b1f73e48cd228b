"""What lint accuses of pulling to no end really changes nothing, and no preset stops work again and again."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from corral.api import CapacityType, QueuePreemption, Reclaim, SlaTier, WithinQueue
from corral.cli.policies import PRESETS, read_policy
from corral.policy import Policy, QuotaModel
from domain.decision import Start, StartAfter
from domain.lint.rules import lint
from domain.pool.fleet import Node
from domain.pool.workload import Active, Waiting
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.builders import NOON, a_cohort, a_node, a_queue, a_snapshot, a_workload, nodes, seconds, started, without_room_of

SPOT = a_node("spot", region="east", capacity_type=CapacityType.SPOT, price=3_000_000)
BOUGHT = a_node("bought", region="west", capacity_type=CapacityType.RESERVED, price=1_000_000)
FOR_SPOT = {"name": "for-spot", "capacity_types": ["spot"], "worth": 100}

PULLING_TO_NO_END = [
    ("prefers-the-forbidden", {"platform": {"deny": {"capacity_types": ["spot"]}}}, {}),
    (
        "prefers-the-forbidden",
        {"queues": {"research": {"allow": {"regions": ["west"]}}}},
        {"queues": ["research"], "regions": ["east"]},
    ),
    ("never-decides", {"platform": {"allow": {"capacity_types": ["spot"]}}}, {}),
]


@pytest.mark.parametrize(("rule", "constraints", "further"), PULLING_TO_NO_END)
def test_a_preference_that_lint_accuses_changes_no_decision(
    rule: str, constraints: dict[str, Any], further: dict[str, Any]
) -> None:
    accused = a_policy(constraints, FOR_SPOT | further)

    assert [finding.rule for finding in lint(accused)] == [rule]
    assert placements(accused) == placements(a_policy(constraints))


def test_the_same_preference_decides_where_lint_says_nothing() -> None:
    innocent = a_policy({}, FOR_SPOT)

    assert not lint(innocent)
    assert placements(innocent) != placements(a_policy({}))


def a_policy(constraints: dict[str, Any], *preferences: dict[str, Any]) -> Policy:
    return Policy.model_validate({"constraints": constraints, "goals": {"preferences": list(preferences)}})


def placements(policy: Policy) -> dict[str, str]:
    """The region in which each of some workloads starts."""
    workloads = [a_workload(f"w{number}", gpus=2) for number in range(3)]
    plan = schedule(a_snapshot([SPOT, BOUGHT], [a_queue("research", 16)], *workloads, policy=policy), NOON)
    return {workload: placement.region for workload, placement in started(plan).items()}


@pytest.mark.parametrize("preset", PRESETS)
def test_no_preset_stops_work_again_and_again(preset: str) -> None:
    fleet = nodes(2, gpus=8)
    stops = [len(stopped) for stopped in stopped_by_round(a_contest(read_policy(preset).content, fleet), fleet, rounds=16)]

    assert sum(stops) > 0
    assert sum(stops[8:]) == 0


def a_contest(policy: Policy, fleet: list[Node]) -> Snapshot:
    """Three queues that own less than they want, each allowed to take all that its model lets it take."""
    everything = QueuePreemption(within_queue=WithinQueue.LOWER_PRIORITY, reclaim_within_cohort=Reclaim.ANY)
    preemption = everything if policy.rank.quota_model is QuotaModel.COHORTS else None
    queues = [
        a_queue(name, nominal).model_copy(update={"preemption": preemption}) for name, nominal in (("a", 8), ("b", 4), ("c", 0))
    ]
    running = [
        a_workload(f"r{number}", queue="c", gpus=8, tier=SlaTier.BASIC).on((node, 8)) for number, node in enumerate(fleet)
    ]
    waiting = [
        a_workload(f"{queue}{number}", queue=queue, gpus=4, priority=number, submitted_at=NOON - seconds(100 * number))
        for queue in ("a", "b", "c")
        for number in range(3)
    ]
    return a_snapshot(fleet, a_cohort(*queues), *running, *waiting, policy=policy)


def stopped_by_round(snapshot: Snapshot, fleet: list[Node], rounds: int) -> list[list[str]]:
    """The attempts that each of some rounds, an hour apart, stops. Whoever is stopped is back in line at once."""
    stopped: list[list[str]] = []
    for number in range(rounds):
        now = NOON + seconds(3_600 * number)
        plan = schedule(snapshot, now)
        leaving = {victim for victim, _ in plan.preempts} | {stop.attempt_id for stop in plan.stops}
        stopped.append(sorted(leaving))
        waiting = {workload.id: workload for workload in snapshot.waiting}
        began = [
            _running(waiting.pop(decision.workload_id), decision, now)
            for decision in plan.decisions
            if isinstance(decision, Start | StartAfter)
        ]
        moved = {reshape.attempt_id: reshape.placement for reshape in plan.reshapes}
        stayed = [
            replace(active, placement=moved.get(active.attempt_id, active.placement))
            for active in snapshot.active
            if active.attempt_id not in leaving
        ]
        back = [_in_line(active) for active in snapshot.active if active.attempt_id in leaving]
        active = (*stayed, *began)
        free = tuple(without_room_of(node, active) for node in fleet)
        snapshot = replace(snapshot, nodes=free, active=active, waiting=(*waiting.values(), *back))
    return stopped


def _running(workload: Waiting, decision: Start | StartAfter, now: datetime) -> Active:
    placed = a_workload(workload.id).on((a_node("any"), 1))
    return replace(
        placed,
        attempt_id=f"{workload.id}.{workload.epoch + 1}",
        epoch=workload.epoch + 1,
        spec=workload.spec,
        placement=decision.placement,
        submitted_at=workload.submitted_at,
        held_at=now,
        started_at=now,
    )


def _in_line(active: Active) -> Waiting:
    return Waiting(active.id, active.spec, active.submitted_at, epoch=active.epoch)
