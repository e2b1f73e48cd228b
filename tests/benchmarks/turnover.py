"""What becomes of a pool after a round, and what changes in it by itself; all that stays as it was is the same object.

Who waits, and what has been told, comes in versions, as in what a planner reads of the store.
"""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from random import Random

from corral.api import Explanation, State
from domain.decision import Plan, Start, StartAfter, Wait
from domain.pool.fleet import Placement, Room
from domain.pool.versions import Crowd, Versions
from domain.pool.workload import Active, Waiting
from domain.snapshot import Snapshot
from tests.benchmarks.pools import the_waiting
from tests.builders import follower, ran

PART = 0.01
"""How much changes of what waits, of what runs and of what must leave."""


def as_stored(pool: Snapshot) -> Snapshot:
    """The same pool where those who wait come as a version."""
    return replace(pool, waiting=Crowd(line(pool)))


def line(pool: Snapshot) -> Versions[Waiting]:
    """Those who wait, by id: the version itself, where there is one."""
    waiting = pool.waiting
    return waiting.by_name if isinstance(waiting, Crowd) else Versions({each.id: each for each in waiting})


def carried_out(snapshot: Snapshot, plan: Plan, now: datetime) -> Snapshot:
    """The pool once the plan is committed: holds and promises stand, and who must leave or change has notice of it."""
    changing = {victim for victim, _ in plan.preempts} | {reshape.attempt_id for reshape in plan.reshapes}
    before = {active.attempt_id: active for active in snapshot.active}
    waiting, told = line(snapshot), dict[str, Explanation | None]()
    new = [follower(before[reshape.attempt_id], reshape.placement, now) for reshape in plan.reshapes]
    for decision in plan.decisions:
        match decision:
            case Start():
                new.append(_held(waiting[decision.workload_id], decision.placement, State.RESERVED, now))
            case StartAfter():
                new.append(_held(waiting[decision.workload_id], decision.placement, State.RESERVING, now))
            case Wait():
                told[decision.workload_id] = decision.explanation
    gone = {decision.workload_id: None for decision in plan.decisions if not isinstance(decision, Wait)}
    over: dict[str, bool | None] = {id: id in plan.over_quota or None for id in snapshot.over_quota.keys() | plan.over_quota}
    after = replace(
        snapshot,
        active=(*(each.stopping() if each.attempt_id in changing else each for each in snapshot.active), *new),
        waiting=Crowd(waiting.with_(gone)),
        told=snapshot.told.with_({**told, **gone}),
        over_quota=snapshot.over_quota.with_(over),
    )
    return _with_room(after, {share.node_id for active in new for share in active.placement.shares})


def _held(workload: Waiting, placement: Placement, state: State, now: datetime) -> Active:
    epoch = workload.epoch + 1
    return Active(
        workload.id, f"{workload.id}.{epoch}", epoch, workload.spec, state, placement, workload.submitted_at, held_at=now
    )


def _with_room(snapshot: Snapshot, touched: Collection[str]) -> Snapshot:
    """The pool in which these nodes have free what nobody has or was promised."""
    left = {node.id: node.total for node in snapshot.nodes if node.id in touched}
    for active in snapshot.active:
        for share in active.placement.shares:
            if share.node_id in left:
                left[share.node_id] -= share.room
    nodes = (replace(node, free=_free(left[node.id], node.free)) if node.id in left else node for node in snapshot.nodes)
    return replace(snapshot, nodes=tuple(nodes))


def _free(left: Room, before: Room) -> Room:
    """What is left, where several that share it until somebody has left may together have more than there is."""
    return Room(
        tuple(max(0, milli) for milli in left.devices), max(0, left.cpu_milli), max(0, left.memory_mib), before.replicas
    )


def a_little_later(snapshot: Snapshot, now: datetime, random: Random, name: str, part: float = PART) -> Snapshot:
    """The pool after a part of it has changed: new work waits, some that ran is over, and some has left as it was told.

    Whoever left waits again, unless it goes on elsewhere. What was promised on that room runs, if nobody else must leave first.
    """
    arriving = [
        Waiting(f"{name}-{each.id}", each.spec, now) for each in the_waiting(random, _part(len(snapshot.waiting), part))
    ]
    told = [active for active in snapshot.active if active.preempted]
    running = [active for active in snapshot.active if active.state is State.RUNNING and not active.preempted]
    gone = random.sample(told, min(len(told), _part(len(told), part)))
    over = random.sample(running, min(len(running), _part(len(running), part)))
    left = {active.attempt_id for active in (*gone, *over)}
    elsewhere = {active.id for active in snapshot.active if active.attempt_id not in left}
    back = [each.back_in_line() for each in gone if each.id not in elsewhere]
    ended = {active.id for active in over}
    after = replace(
        snapshot,
        waiting=Crowd(line(snapshot).with_({each.id: each for each in (*back, *arriving)})),
        over_quota=snapshot.over_quota.with_(dict.fromkeys(ended - elsewhere)),
        active=tuple(active for active in snapshot.active if active.attempt_id not in left),
        ledger={id: intervals for id, intervals in snapshot.ledger.items() if id not in ended},
    )
    touched = {share.node_id for active in (*gone, *over) for share in active.placement.shares}
    return _with_room(_with_started(after, now, touched), touched)


def _part(number: int, part: float) -> int:
    return max(1, round(number * part))


def _with_started(snapshot: Snapshot, now: datetime, touched: set[str]) -> Snapshot:
    """The pool in which all that was promised on these nodes alone runs now, unless somebody must still leave them."""
    blocked = {share.node_id for active in snapshot.active if active.preempted for share in active.placement.shares}
    started = [
        replace(active, state=State.RUNNING, started_at=now)
        if active.state is State.RESERVING and _nodes(active) & touched and not _nodes(active) & blocked
        else active
        for active in snapshot.active
    ]
    new = {mine.id: (ran(mine),) for mine, before in zip(started, snapshot.active, strict=True) if mine is not before}
    return replace(snapshot, active=tuple(started), ledger={**snapshot.ledger, **new})


def _nodes(active: Active) -> set[str]:
    return {share.node_id for share in active.placement.shares}
