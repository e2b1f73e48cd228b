"""Watching a change that is in force: what conditions look at, which is breached, and who may steer it how."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from corral.api import QueueSpec
from corral.rollout import Conditions, Readings, RolloutState
from domain.facts import Facts
from domain.operations.approval import why_not
from domain.pool.workload import Active, Waiting
from domain.remembered.attained import counted
from domain.snapshot import Snapshot

HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Reign:
    """How long a roll-out was in force and watched. It is about these queues, or, of a policy, about everybody."""

    id: str
    since: datetime
    until: datetime | None = None
    """None: it still is."""
    place: int = 0
    """Of those that were applied at the same time the highest was the last."""
    names: frozenset[str] | None = None

    def is_there(self, at: datetime) -> bool:
        """Whether it was in force then."""
        return self.since <= at and (self.until is None or at < self.until)

    def is_after(self, other: "Reign") -> bool:
        """Whether it was applied later."""
        return (self.since, self.place) > (other.since, other.place)


class Blame:
    """To which roll-out harm is put down: of those in force when it came, to the last that is about its tree of queues.

    Where none is, to the last of all: nobody can tell better.
    """

    def __init__(self, reigns: Iterable[Reign], queues: Iterable[QueueSpec]) -> None:
        self._parents = {queue.name: queue.parent for queue in queues}
        self._roots: dict[str, str] = {}
        self._reigns = sorted(reigns, key=lambda reign: (reign.since, reign.place), reverse=True)
        self._trees = {reign.id: self._trees_of(reign) for reign in self._reigns}

    def on(self, queue: str, at: datetime) -> Reign | None:
        """The roll-out to which harm is put down that came to a queue then; none where none was in force."""
        root, there = self._root(queue), [reign for reign in self._reigns if reign.is_there(at)]
        return next((reign for reign in there if self._is_about(reign, root)), there[0] if there else None)

    def is_hidden(self, own: Reign, now: datetime) -> bool:
        """Whether all harm that could be its own is put down to others now, which were applied later."""
        later = [reign for reign in self._reigns if reign.is_there(now) and reign.is_after(own)]
        if own.names is None or any(reign.names is None for reign in later):
            return any(reign.names is None for reign in later)
        return self._trees[own.id] <= frozenset().union(*(self._trees[reign.id] for reign in later))

    def meets(self, one: Reign, other: Reign) -> bool:
        """Whether there are queues that both are about."""
        return one.names is None or other.names is None or bool(self._trees[one.id] & self._trees[other.id])

    def _is_about(self, reign: Reign, root: str) -> bool:
        return reign.names is None or root in self._trees[reign.id]

    def _trees_of(self, reign: Reign) -> frozenset[str]:
        return frozenset(map(self._root, reign.names or ()))

    def _root(self, queue: str) -> str:
        if queue not in self._roots:
            root = queue
            while parent := self._parents.get(root):
                root = parent
            self._roots[queue] = root
        return self._roots[queue]


def readings(
    snapshot: Snapshot,
    own: Reign,
    blame: Blame,
    now: datetime,
    *,
    refused: Mapping[tuple[str, datetime], int],
    undecided: Mapping[str, int],
) -> Readings:
    """What conditions look at of a roll-out: of the pool as it is, what is put down to that.

    `refused` are as many workloads, by queue and some time at which the same roll-outs were in force; `undecided` by queue.
    """
    line = (*snapshot.waiting, *snapshot.bystanders)
    protection, from_then = Facts.of(counted(snapshot, now), now).protection, max(own.since, now - HOUR)
    demand: dict[str, Waiting | Active] = {each.id: each for each in line} | {each.id: each for each in snapshot.active}

    def is_its(queue: str, at: datetime = now) -> bool:
        return blame.on(queue, at) == own

    def waits_for_it(each: Waiting) -> bool:
        """Who has waited since before it is counted as well; not who began to when a later one was in force."""
        began_under = blame.on(each.spec.queue, each.since or each.submitted_at)
        return is_its(each.spec.queue) and not (began_under and began_under.is_after(own))

    return Readings(
        live=len(demand),
        waiting=sum(map(waits_for_it, line)),
        refused=sum(number for (queue, at), number in refused.items() if is_its(queue, at)),
        stops=sum(stop.at > from_then and is_its(stop.queue, stop.at) for stop in snapshot.stops),
        promises_missed=sum(is_its(each.spec.queue) and protection.headroom(each) < 0 for each in demand.values()),
        undecided=sum(number for queue, number in undecided.items() if is_its(queue)),
    )


def excused(before: Readings, own: Readings, at_first: Readings) -> Readings:
    """What one was begun on, once another has ended that lay over it: what that has brought is as if it had been there."""
    return before.model_copy(
        update={
            "promises_missed": before.promises_missed + max(0, own.promises_missed - at_first.promises_missed),
            "undecided": before.undecided + max(0, own.undecided - at_first.undecided),
        }
    )


def breach(conditions: Conditions, before: Readings, now: Readings) -> str:
    """The first condition that is breached, in words; empty when none is."""
    share = now.waiting / now.live if now.live else 0.0
    if conditions.waiting_share is not None and share > conditions.waiting_share:
        return f"{now.waiting} of {now.live} workloads wait ({share:.0%}), and at most {conditions.waiting_share:.0%} may"
    counted = (
        (conditions.refused, now.refused, "workloads were refused"),
        (conditions.stops_per_hour, now.stops, "workloads had to leave or move for others within an hour"),
        (
            conditions.promises_missed,
            now.promises_missed - before.promises_missed,
            "more workloads fall short of their promise",
        ),
        (conditions.undecided, now.undecided - before.undecided, "more workloads cannot be decided about"),
    )
    return next(
        (f"{number} {what}, and at most {most} may" for most, number, what in counted if most is not None and number > most), ""
    )


def objection(verb: str, id: str, state: RolloutState) -> str | None:
    """Why a roll-out in that state cannot be steered so, in words, or none when it can; it is never paused."""
    awaits = state is RolloutState.AWAITING
    return why_not(verb, f"roll-out {id!r}", state, is_over=state.is_over, awaits=awaits, may_pause=False)
