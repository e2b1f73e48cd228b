"""Closures: which of the nodes that are kept are closed to whom, looked up by what that depends on, and until when it is so."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple

from corral.policy import Limits
from domain.pool.bookings import FOREVER, Engagement, Paths, closed_to
from domain.pool.workload import Waiting

Closed = tuple[frozenset[Engagement], frozenset[Engagement]]
"""What is closed to somebody where nothing that is lent is wanted, and where all of it is."""

OPEN: Closed = frozenset(), frozenset()


class Claim(NamedTuple):
    """Whatever it depends on in a workload; `name` is its id where something is kept for it by that."""

    queue: str
    tenant: str | None
    is_preemptible: bool
    grace_seconds: int
    maximum_runtime_seconds: int | None
    name: str | None


@dataclass(slots=True, eq=False)
class _Answer:
    """What is closed to all who have one claim, of whom one is an example."""

    example: Waiting
    closed: Closed
    ids: set[str] = field(default_factory=set)


class Closures:
    """Remembers what is closed to whom from round to round; belongs to one planner."""

    def __init__(self) -> None:
        self._answers: dict[Claim, _Answer] = {}
        self._due: list[tuple[datetime, int, Claim]] = []
        self._number = count()
        self._every: frozenset[Engagement] = frozenset()
        self._names: frozenset[str] = frozenset()
        self._paths: Paths = {}
        self._limits = Limits()
        self._now = datetime.min.replace(tzinfo=UTC)

    def take(self, every: frozenset[Engagement], paths: Paths, limits: Limits, now: datetime) -> Collection[str]:
        """Know what nodes are kept for, and the time; answers with the workloads of which something else is true by now."""
        is_same = (every, paths, limits) == (self._every, self._paths, self._limits) and self._now <= now
        self._every, self._paths, self._limits, self._now = every, paths, limits, now
        if not is_same:
            return self._anew()
        due = set[Claim]()
        while self._due and self._due[0][0] <= now:
            due.add(heappop(self._due)[2])
        return set().union(*(self._asked_again(claim) for claim in due))

    def closed(self, workload: Waiting) -> Closed:
        """What is closed to the workload now."""
        if not self._every:
            return OPEN
        claim = self._claim(workload)
        if (answer := self._answers.get(claim)) is None:
            answer = self._answers[claim] = _Answer(workload, OPEN)
            self._ask(claim, answer)
        answer.ids.add(workload.id)
        return answer.closed

    def forget(self, gone: Iterable[Waiting]) -> None:
        """Forget who does not wait any more."""
        if not self._answers:
            return
        for workload in gone:
            claim = self._claim(workload)
            if (answer := self._answers.get(claim)) is not None:
                answer.ids.discard(workload.id)
                if not answer.ids:
                    del self._answers[claim]

    def _anew(self) -> Collection[str]:
        """Forget what was worked out for another question; answers with all for whom it was."""
        known = set[str]().union(*(answer.ids for answer in self._answers.values()))
        self._names = frozenset().union(*(each.workloads for each in self._every))
        self._answers, self._due = {}, []
        return known

    def _asked_again(self, claim: Claim) -> Collection[str]:
        """Those for whom the answer is another one by now."""
        if (answer := self._answers.get(claim)) is None:
            return ()
        before = answer.closed
        self._ask(claim, answer)
        return answer.ids if answer.closed != before else ()

    def _claim(self, workload: Waiting) -> Claim:
        spec, name = workload.spec, workload.id if workload.id in self._names else None
        grace_seconds, most = spec.checkpoint.grace_seconds, spec.maximum_runtime_seconds
        return Claim(spec.queue, spec.tenant, spec.preemptible, grace_seconds, most, name)

    def _ask(self, claim: Claim, answer: _Answer) -> None:
        """Work out what is closed by now, and until when that is sure to be so."""
        lent = frozenset(each for each in self._every if each.lends)
        question = answer.example, self._every, self._paths, self._now, self._limits
        answer.closed = closed_to(*question), closed_to(*question, lent)
        moments = (at for each in self._every for at in self._moments(each, answer.example) if self._now <= at < FOREVER)
        if (until := min(moments, default=None)) is not None:
            heappush(self._due, (until, next(self._number), claim))

    def _moments(self, engagement: Engagement, workload: Waiting) -> Iterable[datetime]:
        """At which, or right after which, it may become another question whether the workload is admitted."""
        spec, told_at = workload.spec, engagement.notice_at(workload.spec, self._limits)
        yield engagement.closes_at
        yield told_at
        yield told_at - timedelta(seconds=self._limits.shortest_loan_seconds)
        if spec.maximum_runtime_seconds is not None:
            yield told_at - timedelta(seconds=spec.maximum_runtime_seconds)
