"""Rank: whose turn it is, lexicographic and not scriptable."""

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush
from operator import is_

from corral.api import Ordering
from domain.facts import Facts
from domain.quota import ShareKey, Usage, Use
from domain.request import Request, requests
from domain.standing import TIERS
from domain.workload import Waiting

Rank = tuple[int, bool, tuple[ShareKey, ...], int, datetime, str]
"""The order of `semantics.md` 1: tier, quota band, fair share, priority (aged), age, id. The least goes first."""

Uses = tuple[Use | None, ...]
"""What the nodes from a queue to below its root use of everything."""

Place = tuple[int, int, datetime, str]
"""The order inside a queue that starts its work strictly in turn: tier, priority (aged), age, id."""


class Line:
    """Everybody who waits, always led by whose turn it is in the world as it has become; it lives inside one pass.

    Workloads of one kind stand in one lane, the oldest in front, and only the first of a lane is ranked. A start makes a
    queue's rank worse and never better, so that only whoever leads needs to be looked at again.
    """

    def __init__(self, waiting: Iterable[Waiting], usage: Usage, facts: Facts) -> None:
        self._facts, self._fair = facts, facts.fair
        self._seen, self._shares = _Seen(facts), dict[tuple[str, bool], tuple[Uses, tuple[ShareKey, ...]]]()
        self._strict: dict[str, _Lane] = {}
        self._led: dict[str, _Lane] = {}
        self._heap = [(self._rank(lane, usage), lane) for lane in self._lanes(waiting)]
        heapify(self._heap)

    def next(self, usage: Usage) -> Waiting | None:
        """Whose turn it is now, or none when nobody is left. Of a strict queue the next one only follows after `step`."""
        while self._heap:
            rank, lane = heappop(self._heap)
            if not lane.members:
                continue
            if (now := self._rank(lane, usage)) <= rank:
                workload = lane.members.popleft()
                self._led[workload.id] = lane
                if lane.members and not lane.is_strict:
                    heappush(self._heap, (self._rank(lane, usage), lane))
                return workload
            heappush(self._heap, (now, lane))
        return None

    def step(self, queue: str, usage: Usage) -> None:
        """Let the next of a strict queue come forward."""
        lane = self._strict.get(queue)
        if lane is not None and lane.members:
            heappush(self._heap, (self._rank(lane, usage), lane))

    def pass_over(self, workload: Waiting) -> list[Waiting]:
        """All who are like one that had its turn; they get none. In a strict queue nobody is passed over."""
        lane = self._led[workload.id]
        if lane.is_strict:
            return []
        members, lane.members = list(lane.members), deque()
        return members

    def again(self, usage: Usage) -> None:
        """Rank everybody anew: somebody gave quota back."""
        self._heap = [(self._rank(lane, usage), lane) for _, lane in self._heap if lane.members]
        heapify(self._heap)

    def left(self) -> list[Waiting]:
        """Those who had no turn."""
        lanes = {id(lane): lane for lane in (*(lane for _, lane in self._heap), *self._strict.values())}
        return [workload for lane in lanes.values() for workload in lane.members]

    def _lanes(self, waiting: Iterable[Waiting]) -> Iterable["_Lane"]:
        members: dict[Hashable, list[Waiting]] = {}
        for workload in waiting:
            queue = workload.spec.queue
            alike = ("strict", queue) if _is_strict(queue, self._facts) else self._facts.turn_kind(workload)
            members.setdefault(alike, []).append(workload)
        for found in members.values():
            queue = found[0].spec.queue
            lane = _Lane(deque(sorted(found, key=lambda each: _place(each, self._facts))), _is_strict(queue, self._facts))
            if lane.is_strict:
                self._strict[queue] = lane
            yield lane

    def _rank(self, lane: "_Lane", usage: Usage) -> Rank:
        """The rank of a lane's first workload, remembered while neither that nor what its queue uses changes."""
        first, uses = lane.members[0], self._seen.uses(lane.members[0].spec.queue, usage)
        if lane.ranked is None or lane.ranked[0] is not first or lane.ranked[1] is not uses:
            lane.ranked = first, uses, self._ranked(lane, usage)
        return lane.ranked[2]

    def _ranked(self, lane: "_Lane", usage: Usage) -> Rank:
        workload, facts = lane.members[0], self._facts
        spec = workload.spec
        tier, priority, submitted_at, id = _place(workload, facts)
        is_within = spec.queue not in facts.tree.overspent and any(
            is_within_nominal(request, usage) for request in lane.requests if request.opens_at <= facts.now
        )
        return tier, not is_within, self._share(spec.queue, usage, is_within=is_within), priority, submitted_at, id

    def _share(self, queue: str, usage: Usage, *, is_within: bool) -> tuple[ShareKey, ...]:
        """How much of its fair surplus the queue has, remembered while it uses the same."""
        if queue not in usage.tree.paths:
            return ()
        uses, known = self._seen.uses(queue, usage), self._shares.get((queue, is_within))
        if known is None or known[0] is not uses:
            shares = self._fair.of_queue(queue, usage, is_within=is_within)
            known = self._shares[queue, is_within] = uses, tuple(share.key for share in shares)
        return known[1]


class _Seen:
    """What each queue was last seen to use: the same object for as long as that is so."""

    def __init__(self, facts: Facts) -> None:
        tree = facts.tree
        names = sorted({name for _, name in tree.standings})
        self._keys = {
            queue: [(node, name) for node in (path[:-1] or path) for name in names if (node, name) in tree.standings]
            for queue, path in tree.paths.items()
        }
        self._usage: Usage | None = None
        self._now: dict[str, Uses] = {}
        self._last: dict[str, Uses] = {}

    def uses(self, queue: str, usage: Usage) -> Uses:
        """What the queue, and those above it but its root, use now."""
        if usage is not self._usage:
            self._usage, self._now = usage, {}
        if (known := self._now.get(queue)) is None:
            get, last = usage.uses.get, self._last.get(queue)
            known = tuple([get(key) for key in self._keys.get(queue, ())])
            if last is not None and all(map(is_, known, last)):
                known = last
            self._now[queue] = self._last[queue] = known
        return known


@dataclass(slots=True, eq=False)
class _Lane:
    """Workloads that have their turns one after the other; of a strict queue all that wait in it, whatever they ask for."""

    members: deque[Waiting]
    is_strict: bool
    ranked: tuple[Waiting, Uses, Rank] | None = None
    _asked: tuple[Waiting, tuple[Request, ...]] | None = None

    @property
    def requests(self) -> tuple[Request, ...]:
        """What its first workload asks for, as to when and what; of a kind all ask for the same."""
        first = self.members[0]
        if self._asked is None or (self.is_strict and self._asked[0] is not first):
            self._asked = first, requests(first)
        return self._asked[1]

    def __lt__(self, other: "_Lane") -> bool:
        """Ranks are never equal, for they end with an id."""
        return self.members[0].id < other.members[0].id


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
