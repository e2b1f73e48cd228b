"""Rank: whose turn it is, lexicographic and not scriptable."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush

from corral.api import Ordering
from domain.facts import Facts
from domain.quota import DominantShare, Usage
from domain.request import Request, requests
from domain.standing import TIERS
from domain.workload import Waiting

Rank = tuple[int, bool, tuple[DominantShare, ...], int, datetime, str]
"""The order of `semantics.md` 1: tier, quota band, fair share, priority (aged), age, id. The least goes first."""

Place = tuple[int, int, datetime, str]
"""The order inside a queue that starts its work strictly in turn: tier, priority (aged), age, id."""


class Line:
    """Everybody who waits, always led by whose turn it is in the world as it has become; it lives inside one pass.

    A start makes a queue's rank worse and never better, so that only whoever leads needs to be looked at again.
    """

    def __init__(self, waiting: Iterable[Waiting], usage: Usage, facts: Facts) -> None:
        self._facts, self._fair = facts, facts.fair
        self._behind: dict[str, deque[_Entry]] = {}
        self._usage, self._shares = usage, dict[tuple[str, bool], tuple[DominantShare, ...]]()
        entries = [_Entry(workload, tuple(requests(workload))) for workload in waiting]
        self._heap = [(self._rank(entry, usage), entry.workload.id, entry) for entry in self._leaders(entries)]
        heapify(self._heap)

    def next(self, usage: Usage) -> Waiting | None:
        """Whose turn it is now, or none when nobody is left. Of a strict queue the next one only follows after `step`."""
        while self._heap:
            rank, id, entry = heappop(self._heap)
            if (now := self._rank(entry, usage)) <= rank:
                return entry.workload
            heappush(self._heap, (now, id, entry))
        return None

    def step(self, queue: str, usage: Usage) -> None:
        """Let the next of a strict queue come forward."""
        if behind := self._behind.get(queue):
            entry = behind.popleft()
            heappush(self._heap, (self._rank(entry, usage), entry.workload.id, entry))

    def again(self, usage: Usage) -> None:
        """Rank everybody anew: somebody gave quota back."""
        self._heap = [(self._rank(entry, usage), id, entry) for _, id, entry in self._heap]
        heapify(self._heap)

    def left(self) -> list[Waiting]:
        """Those who had no turn."""
        entries = [entry for _, _, entry in self._heap] + [entry for behind in self._behind.values() for entry in behind]
        return [entry.workload for entry in entries]

    def _leaders(self, entries: Iterable["_Entry"]) -> list["_Entry"]:
        """Everybody, but of a strict queue only the first."""
        leaders = []
        for entry in sorted(entries, key=lambda entry: _place(entry.workload, self._facts)):
            queue = entry.workload.spec.queue
            if not _is_strict(queue, self._facts):
                leaders.append(entry)
            elif queue in self._behind:
                self._behind[queue].append(entry)
            else:
                self._behind[queue] = deque()
                leaders.append(entry)
        return leaders

    def _rank(self, entry: "_Entry", usage: Usage) -> Rank:
        spec, facts = entry.workload.spec, self._facts
        tier, priority, submitted_at, id = _place(entry.workload, facts)
        is_within = spec.queue not in facts.tree.overspent and any(
            is_within_nominal(request, usage) for request in entry.requests if request.opens_at <= facts.now
        )
        return tier, not is_within, self._share(spec.queue, usage, is_within=is_within), priority, submitted_at, id

    def _share(self, queue: str, usage: Usage, *, is_within: bool) -> tuple[DominantShare, ...]:
        """How much of its fair surplus the queue has, remembered while nothing changes."""
        if usage is not self._usage:
            self._usage, self._shares = usage, {}
        key = queue, is_within
        if key not in self._shares:
            is_known = queue in usage.tree.paths
            self._shares[key] = self._fair.of_queue(queue, usage, is_within=is_within) if is_known else ()
        return self._shares[key]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A workload in line, with what it asks for."""

    workload: Waiting
    requests: tuple[Request, ...]


def _is_strict(queue: str, facts: Facts) -> bool:
    return queue in facts.queues and facts.queues[queue].ordering is Ordering.STRICT_FIFO


def _place(workload: Waiting, facts: Facts) -> Place:
    return TIERS.index(facts.tree.tier(workload.spec)), -aged_priority(workload, facts), workload.submitted_at, workload.id


def aged_priority(workload: Waiting, facts: Facts) -> int:
    """The priority with what waiting has added to it, so that nobody waits for ever behind a stream of higher priority.

    It orders turns only. Who may be stopped for whom is decided by the priority itself: work that was stopped keeps its age,
    and would take its turn back at once.
    """
    step = facts.policy.rank.ageing_seconds_per_priority
    waited = max(timedelta(), facts.now - workload.submitted_at)
    return workload.spec.priority + (waited // timedelta(seconds=step) if step else 0)


def is_within_nominal(request: Request, usage: Usage) -> bool:
    """Whether the request's minimum would let its queue live on its own for one of the SKUs it accepts."""
    needed = request.gang.minimum_milli
    skus = request.target.skus or usage.tree.skus
    return not needed or any(usage.is_within_nominal(request.spec.queue, sku, needed) for sku in skus)
