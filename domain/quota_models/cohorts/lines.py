"""Lines: who waits in which queue, and who of them is considered next."""

from collections.abc import Iterator
from datetime import datetime
from heapq import heappop, heappush, heapreplace

from corral.api import Ordering
from domain.pool.workload import Waiting
from domain.quota_models.cohorts.candidates import mine
from domain.quota_models.cohorts.nomination import Nomination, Verdict
from domain.quota_models.cohorts.setting import Setting
from domain.quota_models.openings import why_not_yet
from domain.remembered.lanes import Backlog, Lane, age
from domain.worlds.request import Kind

Place = tuple[int, int, datetime, str]
"""The order of a line: the higher tier and priority first, then who has waited longest, then by id."""


class Column:
    """Those of one lane who are left, the oldest in front."""

    __slots__ = ("_backlog", "_line", "head", "lane", "place")

    def __init__(self, lane: Lane, backlog: Backlog) -> None:
        self.lane, self._backlog = lane, backlog
        self._line = backlog.of(lane)
        self._lead(next(self._line))

    @property
    def queue(self) -> str:
        """Where they wait."""
        return self.head.spec.queue

    @property
    def everybody(self) -> Iterator[Waiting]:
        """All who are left."""
        return (workload for workload in self._backlog.of(self.lane) if age(workload) >= age(self.head))

    def step(self) -> bool:
        """Let the next one lead, if there is one."""
        if (following := next(self._line, None)) is not None:
            self._lead(following)
        return following is not None

    def _lead(self, workload: Waiting) -> None:
        tier, priority = mine(workload)
        self.head, self.place = workload, (-tier, -priority, *age(workload))


class Lines:
    """Each queue's line in order; it lives inside one round.

    Who could not be helped is parked, with all that are like it, unless the queue is strict: then it stays in front. Who is
    alike stands in one lane, so that only the first of each is looked at.
    """

    def __init__(self, backlog: Backlog, setting: Setting) -> None:
        self._setting = setting
        self._lines: dict[str, list[tuple[Place, Column]]] = {}
        """Of each queue those who are not parked, as a heap."""
        self._parked: dict[Kind, tuple[Column, Verdict]] = {}
        for lane in backlog.lanes:
            if why_not_yet(backlog.first(lane), setting.facts) is None:
                self._line_up(Column(lane, backlog))

    def heads(self) -> list[Waiting]:
        """The first of each line, by queue."""
        return [line[0][1].head for _, line in sorted(self._lines.items()) if line]

    def left(self) -> list[Column]:
        """Those of each kind, as far as any are left of them."""
        parked = (column for column, _ in self._parked.values())
        return [*(column for line in self._lines.values() for _, column in line), *parked]

    def first(self, queue: str) -> Waiting:
        """The first of a line in which nobody is parked."""
        return self._lines[queue][0][1].head

    def remove(self, workload: Waiting) -> None:
        """The first of its line has what it asked for."""
        line = self._lines[workload.spec.queue]
        column = line[0][1]
        if column.step():
            heapreplace(line, (column.place, column))
        else:
            heappop(line)

    def park(self, nomination: Nomination) -> bool:
        """Let those behind the first of its line come first from now on; whether that changes anything."""
        queue = nomination.workload.spec.queue
        if self.is_strict(queue):
            return False
        _, column = heappop(self._lines[queue])
        self._parked[column.lane.kind] = column, nomination.verdict
        return True

    def is_strict(self, queue: str) -> bool:
        """Whether the queue starts its work strictly in turn."""
        return self._setting.facts.queues[queue].ordering is Ordering.STRICT_FIFO

    def verdict(self, kind: Kind) -> Verdict | None:
        """Why those of a kind were parked; none where they were not."""
        _, verdict = self._parked.get(kind, (None, None))
        return verdict

    def reconsider(self) -> None:
        """Put everybody back in line."""
        parked, self._parked = self._parked, {}
        for column, _ in parked.values():
            self._line_up(column)

    def _line_up(self, column: Column) -> None:
        heappush(self._lines.setdefault(column.queue, []), (column.place, column))
