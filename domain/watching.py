"""Watching a change that is in force: what conditions look at, which is breached, and who may steer it how."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from corral.policy import Policy
from corral.queue import QueueSpec
from corral.rollout import Change, Conditions, Readings, RolloutState
from domain.approval import why_not
from domain.facts import Facts
from domain.rollout import changed
from domain.snapshot import Snapshot
from domain.workload import Active, Waiting

HOUR = timedelta(hours=1)


def readings(snapshot: Snapshot, since: datetime, now: datetime, *, refused: int, undecided: int) -> Readings:
    """What conditions look at, of a pool in which the change has been in force since a time."""
    line = (*snapshot.waiting, *snapshot.bystanders)
    protection, from_then = Facts.of(snapshot, now).protection, max(since, now - HOUR)
    demand: dict[str, Waiting | Active] = {each.id: each for each in line} | {each.id: each for each in snapshot.active}
    return Readings(
        live=len(demand),
        waiting=len(line),
        refused=refused,
        stops=sum(stop.at > from_then for stop in snapshot.stops),
        promises_missed=sum(protection.headroom(each) < 0 for each in demand.values()),
        undecided=undecided,
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


def in_force(change: Change, policy: Policy, queues: Iterable[QueueSpec]) -> str:
    """What tells apart what is in force of that which a change is about."""
    known = change.as_it_is(policy, queues)
    return known.digest if known else ""


@dataclass(frozen=True, slots=True)
class Applied:
    """A change that a roll-out has put in force: what tells that it is (`in_force`), and what it goes back to, if anything."""

    change: Change
    mark: str
    before: Change | None

    def is_in_force(self, snapshot: Snapshot) -> bool:
        """Whether it is what is in force, and nobody has changed the same since."""
        return in_force(self.change, snapshot.policy, snapshot.queues) == self.mark


def comes_back(under: Applied, over: Iterable[Applied], snapshot: Snapshot) -> bool:
    """Whether a change is in force again once the roll-outs that were laid over it, the newest first, have gone back."""
    for each in over:
        if each.before is not None and each.is_in_force(snapshot):
            snapshot = changed(each.before, snapshot)
        if under.is_in_force(snapshot):
            return True
    return False


def objection(verb: str, id: str, state: RolloutState) -> str | None:
    """Why a roll-out in that state cannot be steered so, in words, or none when it can; it is never paused."""
    awaits = state is RolloutState.AWAITING
    return why_not(verb, f"roll-out {id!r}", state, is_over=state.is_over, awaits=awaits, may_pause=False)
