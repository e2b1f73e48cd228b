"""Attained service: work that has run for long ranks as if its priority were lower, wherever priorities are read."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple, TypeVar

from corral.api import WorkloadTerms
from corral.policy import AttainedStep
from domain.pool.claimant import OfTerms
from domain.pool.standing import fall_after, lowered
from domain.pool.versions import Crowd, Versions
from domain.pool.workload import Active, Waiting
from domain.snapshot import Snapshot

Steps = tuple[AttainedStep, ...]
Work = TypeVar("Work", Active, Waiting)

NEVER = datetime.max.replace(tzinfo=UTC)


class _Known(NamedTuple):
    """An attempt as it is given and as it counts, and until when that stays so."""

    given: Active
    counts: Active
    until: datetime


class Attained:
    """Remembers who has fallen how far: whoever has not fallen further is the same object, so that only a fall is a change.

    It is told of every round of one planner in turn.
    """

    def __init__(self) -> None:
        self._begin_anew((), NEVER)

    def _begin_anew(self, steps: Steps, now: datetime) -> None:
        self._steps, self._now = steps, now
        self._terms: dict[int, OfTerms[WorkloadTerms]] = {}
        """As they are lowered by so much."""
        self._known: dict[int, _Known] = {}
        """By object."""
        self._active: tuple[Active, ...] | None = None
        self._counts: tuple[Active, ...] = ()
        self._until = NEVER
        """Of the attempts that were given last, how they count, and until when that stays so."""
        self._crowd = Versions[Waiting]()
        self._fallen: dict[str, Waiting] = {}
        """Those of the last crowd who have fallen, as they count."""

    def counted(self, snapshot: Snapshot, now: datetime) -> Snapshot:
        """The snapshot in which everybody has the priority that counts at this time; the same where nobody has fallen."""
        steps = snapshot.policy.rank.attained_service
        if steps != self._steps or now < self._now:
            self._begin_anew(steps, now)
        if not steps:
            return snapshot
        self._now = now
        active = self._of_attempts(snapshot.active, now)
        waiting, bystanders = self._of_line(snapshot.waiting), self._of_line(snapshot.bystanders)
        is_same = active is snapshot.active and waiting is snapshot.waiting and bystanders is snapshot.bystanders
        return snapshot if is_same else replace(snapshot, active=active, waiting=waiting, bystanders=bystanders)

    def _of_attempts(self, active: tuple[Active, ...], now: datetime) -> tuple[Active, ...]:
        if active is self._active and now < self._until:
            return self._counts
        before = self._known
        known = [
            found if (found := before.get(id(each))) is not None and now < found.until else self._look_at(each, now)
            for each in active
        ]
        self._known = {id(each.given): each for each in known}
        self._active, self._until = active, min([each.until for each in known], default=NEVER)
        is_same = all(each.counts is each.given for each in known)
        self._counts = active if is_same else tuple([each.counts for each in known])
        return self._counts

    def _look_at(self, active: Active, now: datetime) -> _Known:
        if active.spec.autoscale is not None:
            return _Known(active, active, NEVER)
        steps = [(at, step) for step in self._steps if (at := active.has_run_for(step.after_seconds)) is not None]
        fall = sum(step.lowers_priority_by for at, step in steps if at <= now)
        return _Known(active, self._lowered(active, fall), min([at for at, _ in steps if at > now], default=NEVER))

    def _of_line(self, line: Sequence[Waiting]) -> Sequence[Waiting]:
        if not isinstance(line, Crowd):
            whole = tuple(map(self._of_waiting, line))
            return line if all(one is other for one, other in zip(line, whole, strict=True)) else whole
        everybody: Versions[Waiting] = line.by_name
        if (changes := everybody.since(self._crowd)) is None:
            self._fallen = {}
            news = dict[str, Waiting | None](everybody)
        else:
            news = {id: change.now for id, change in changes.items()}
        for id, each in news.items():
            if each is None or (counts := self._of_waiting(each)) is each:
                self._fallen.pop(id, None)
            else:
                self._fallen[id] = counts
        self._crowd = everybody
        return Crowd(everybody.with_(self._fallen)) if self._fallen else line

    def _of_waiting(self, waiting: Waiting) -> Waiting:
        is_spared = waiting.spec.autoscale is not None
        return waiting if is_spared else self._lowered(waiting, fall_after(waiting.ran_seconds, self._steps))

    def _lowered(self, work: Work, fall: int) -> Work:
        """The same that has fallen so far; never less far than it has."""
        if fall <= work.fallen:
            return work
        more = fall - work.fallen
        terms = self._terms.setdefault(more, OfTerms(partial(_lowered, fall=more)))
        return replace(work, spec=terms(work.spec), fallen=fall)


def counted(snapshot: Snapshot, now: datetime) -> Snapshot:
    """The snapshot in which everybody has the priority that counts at this time."""
    return Attained().counted(snapshot, now)


def _lowered(terms: WorkloadTerms, fall: int) -> WorkloadTerms:
    return terms.model_copy(update={"priority": lowered(terms.priority, fall)})
