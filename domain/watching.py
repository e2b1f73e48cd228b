"""Watching a change that is in force: what conditions look at, which is breached, and who may steer it how."""

from datetime import datetime, timedelta

from corral.rollout import Conditions, Readings, RolloutState
from domain.approval import why_not
from domain.facts import Facts
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


def objection(verb: str, id: str, state: RolloutState) -> str | None:
    """Why a roll-out in that state cannot be steered so, in words, or none when it can; it is never paused."""
    awaits = state is RolloutState.AWAITING
    return why_not(verb, f"roll-out {id!r}", state, is_over=state.is_over, awaits=awaits, may_pause=False)
