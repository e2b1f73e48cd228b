"""Running a case: ask the scheduler as the horizon says, and gather what became of everybody."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from corral.api import State
from domain.decision import Plan, Start, StartAfter
from domain.pool.fleet import Node, Placement, Room
from domain.pool.workload import Active, Waiting
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.conformance.cases import Case
from tests.conformance.translation import Translated, translate

MOST_ROUNDS = 50

Spot = tuple[str, str, str]
"""Group, SKU and node, in the names of the case."""


@dataclass(frozen=True)
class Admission:
    """A workload that starts: on which spots with how many replicas, and who leaves for it."""

    spots: Mapping[Spot, int]
    victims: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Outcome:
    """What became of a case, in its own names; `before` and `spots` say where everybody was and is."""

    admitted: Mapping[str, Admission]
    preempted: frozenset[str]
    shrunk: Mapping[str, int]
    grown: Mapping[str, int]
    moved: frozenset[str]
    spots: Mapping[str, Mapping[Spot, int]]
    before: Mapping[str, Mapping[Spot, int]]
    complaints: list[str] = field(default_factory=list)


def run(case: Case) -> Outcome:
    """Decide one round, or for a steady state as many as it takes, and one more in which nothing may change."""
    translated = translate(case)
    if case.horizon != "steady-state":
        plan = schedule(translated.snapshot, translated.now, once=True)
        return _outcome(translated, settled(translated.snapshot, plan, translated.now), _victims(plan, translated.snapshot))
    snapshot = translated.snapshot
    for _ in range(MOST_ROUNDS):
        plan = schedule(snapshot, translated.now)
        if not _changes(plan):
            return _outcome(translated, snapshot, {})
        snapshot = settled(snapshot, plan, translated.now)
    outcome = _outcome(translated, snapshot, {})
    return replace(outcome, complaints=[f"still changes after {MOST_ROUNDS} rounds"])


def _changes(plan: Plan) -> bool:
    return bool(plan.reshapes or plan.stops or any(isinstance(decision, Start | StartAfter) for decision in plan.decisions))


def _victims(plan: Plan, snapshot: Snapshot) -> dict[str, frozenset[str]]:
    """Who leaves, or has replicas taken, for each beneficiary; by workload id."""
    ids = {active.attempt_id: active.id for active in snapshot.active}
    victims: dict[str, set[str]] = {}
    for victim, beneficiary in plan.preempts:
        victims.setdefault(beneficiary, set()).add(ids[victim])
    for reshape in plan.reshapes:
        if reshape.beneficiary is not None:
            victims.setdefault(reshape.beneficiary, set()).add(ids[reshape.attempt_id])
    return {beneficiary: frozenset(found) for beneficiary, found in victims.items()}


def settled(snapshot: Snapshot, plan: Plan, now: datetime) -> Snapshot:
    """The world once the plan has been carried out to the end: victims have left, and what was promised runs."""
    waiting = {workload.id: workload for workload in snapshot.waiting}
    leaving = {victim for victim, _ in plan.preempts} | {stop.attempt_id for stop in plan.stops}
    leaving |= {active.attempt_id for active in snapshot.active if active.preempted}
    reshaped = {reshape.attempt_id: reshape.placement for reshape in plan.reshapes}
    active = []
    for each in snapshot.active:
        if each.attempt_id in leaving:
            waiting[each.id] = each.back_in_line()
        else:
            active.append(replace(each, placement=reshaped.get(each.attempt_id, each.placement)))
    active += [
        _started(waiting.pop(decision.workload_id), decision.placement, now)
        for decision in plan.decisions
        if isinstance(decision, Start | StartAfter)
    ]
    nodes = tuple(replace(node, free=_left(node, active)) for node in snapshot.nodes)
    return replace(snapshot, nodes=nodes, waiting=tuple(waiting.values()), active=tuple(active))


def _started(workload: Waiting, placement: Placement, now: datetime) -> Active:
    return Active(
        id=workload.id,
        attempt_id=f"{workload.id}.{workload.epoch + 1}",
        epoch=workload.epoch + 1,
        spec=workload.spec,
        state=State.RUNNING,
        placement=placement,
        submitted_at=workload.submitted_at,
        held_at=now,
        started_at=now,
    )


def _left(node: Node, actives: Iterable[Active]) -> Room:
    room = node.total
    for active in actives:
        for share in active.placement.shares:
            if share.node_id == node.id:
                room -= share.room
    return room


def _outcome(translated: Translated, end: Snapshot, victims: Mapping[str, frozenset[str]]) -> Outcome:
    names = translated.names.meant
    start = translated.snapshot
    skus = {node.id: node.sku for node in start.nodes}

    def spots(active: Active) -> dict[Spot, int]:
        return dict(
            Counter(
                (names[replica.group], names[skus[share.node_id]], names[share.node_id])
                for share in active.placement.shares
                for replica in share.replicas
            )
        )

    before = {names[active.id]: spots(active) for active in start.active}
    after = {names[active.id]: spots(active) for active in end.active if not active.preempted}
    stayed = {id for id in before if id in after}
    evicting = {names[active.id] for active in start.active if active.preempted}
    complaints = [
        f"node {names[node.id]} is oversubscribed" for node in end.nodes if node.free.devices and min(node.free.devices) < 0
    ]
    return Outcome(
        admitted={
            names[workload.id]: Admission(
                after[names[workload.id]], frozenset(names[id] for id in victims.get(workload.id, ()))
            )
            for workload in start.waiting
            if names[workload.id] in after
        },
        preempted=frozenset(before.keys() - stayed - evicting),
        shrunk={id: _total(after[id]) for id in stayed if _total(after[id]) < _total(before[id])},
        grown={id: _total(after[id]) for id in stayed if _total(after[id]) > _total(before[id])},
        moved=frozenset(id for id in stayed if after[id] != before[id] and _total(after[id]) == _total(before[id])),
        spots=after,
        before=before,
        complaints=complaints,
    )


def _total(spots: Mapping[Spot, int]) -> int:
    return sum(spots.values())
