"""Isolation: where deciding fails, which is a defect of Corral, the round goes on without the workload that it fails about."""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from domain.decision import Plan, Wait
from domain.explanation.answers import left_for_the_next_round, not_decidable
from domain.pool.workload import Waiting
from domain.remembered.memory import Memory
from domain.round import Lap, schedule
from domain.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Fault:
    """What deciding met, and with whose turn; no workload where it fails even if nobody has a turn."""

    error: Exception
    workload_id: str | None


def schedule_around(
    snapshot: Snapshot,
    now: datetime,
    aside: Collection[str] = (),
    lap: Lap = lambda _: None,
    memory: Memory | None = None,
) -> tuple[Plan, Fault | None]:
    """Decide one round with turns for all but those that are set aside; a fault adds at most one workload to them.

    To find it takes as many rounds as the number of workloads has binary digits, each about fewer of them. It is the one
    with which those who came before it fail. Where the others fail without it as well, only those who came before it have
    their turns, and the others the next round.
    """
    known = {workload.id for workload in snapshot.waiting if workload.id in aside} if aside else set[str]()
    line = [workload for workload in snapshot.waiting if workload.id not in known] if known else snapshot.waiting
    decided = _decide(line, snapshot, now, lap, memory)
    if isinstance(decided, Plan):
        return _with_waits(decided, now, known), None
    line = sorted(line, key=lambda workload: (workload.submitted_at, workload.id))
    number = bisect_left(range(len(line)), True, key=lambda first: not isinstance(_decide(line[:first], snapshot, now), Plan))
    if number == 0:
        everybody = [workload.id for workload in snapshot.waiting]
        return _with_waits(Plan(()), now, everybody), Fault(decided, None)
    *before, culprit = line[:number]
    fault, known = Fault(decided, culprit.id), known | {culprit.id}
    others = _decide([*before, *line[number:]], snapshot, now)
    if isinstance(others, Plan):
        return _with_waits(others, now, known), fault
    first = _decide(before, snapshot, now)
    plan = replace(first, unfinished=True) if isinstance(first, Plan) else Plan(())
    return _with_waits(plan, now, known, later=[workload.id for workload in line[number:]]), fault


def with_turns_for(waiting: Sequence[Waiting], snapshot: Snapshot) -> Snapshot:
    """The pool in which of all who wait only these are decided about."""
    if len(waiting) == len(snapshot.waiting):
        return snapshot
    ids = {workload.id for workload in waiting}
    others = (workload for workload in snapshot.waiting if workload.id not in ids)
    return replace(snapshot, waiting=tuple(waiting), bystanders=(*snapshot.bystanders, *others))


def _decide(
    waiting: Sequence[Waiting],
    snapshot: Snapshot,
    now: datetime,
    lap: Lap = lambda _: None,
    memory: Memory | None = None,
) -> Plan | Exception:
    try:
        return schedule(with_turns_for(waiting, snapshot), now, lap=lap, memory=memory)
    except Exception as error:  # whatever it is, the others must not wait for its repair
        if memory is not None:
            memory.forget()
        return error


def _with_waits(plan: Plan, now: datetime, undecided: Iterable[str], later: Iterable[str] = ()) -> Plan:
    waits = [Wait(id, not_decidable(now)) for id in sorted(undecided)]
    waits += [Wait(id, left_for_the_next_round(now)) for id in sorted(later)]
    return replace(plan, decisions=(*plan.decisions, *waits))
