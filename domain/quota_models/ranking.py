"""Rank: whose turn it is, lexicographic and not scriptable."""

from collections.abc import Collection, Container, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush, heapreplace, merge
from operator import is_
from typing import NamedTuple

from corral.api import Ordering, SlaTier
from domain.facts import Facts
from domain.pool.fleet import Amount
from domain.pool.standing import TIERS
from domain.pool.workload import Waiting, open_from
from domain.quota.usage import ShareKey, Usage, Use
from domain.remembered.lanes import Backlog, Lane, age
from domain.worlds.request import form

Rank = tuple[int, bool, tuple[ShareKey, ...], int, datetime, str]
"""The order of `semantics.md` 1: tier, quota band, fair share, priority (aged), age, id. The least goes first."""

Uses = tuple[Use | None, ...]
"""What the nodes from a queue to below its root use of everything."""

Place = tuple[int, int, datetime, str]
"""The order inside a queue that starts its work strictly in turn: tier, priority (aged), age, id."""


class Line:
    """Everybody who waits, always led by whose turn it is in the world as it has become; it lives inside one pass.

    Workloads of one kind stand in one lane, the oldest in front, and only the first of a lane is ranked. Lanes of one queue
    and tier stand at one desk, where ranks differ in nothing that usage changes but in who is within nominal, so that only
    desks are ranked again. A start makes a queue's rank worse and never better, so that only the desk that leads needs to be
    looked at.
    """

    def __init__(self, waiting: Collection[Waiting], usage: Usage, facts: Facts) -> None:
        self._facts, self._seen = facts, _Seen(facts)
        self._strict: dict[str, _Desk] = {}
        self._led: dict[str, tuple[_Lane, _Desk]] = {}
        self._backlog = facts.backlog(waiting)
        self._heap = [(leads[0], desk) for desk in self._desks() if (leads := self._leader(desk, usage)) is not None]
        heapify(self._heap)

    def next(self, usage: Usage) -> Waiting | None:
        """Whose turn it is now, or none when nobody is left. Of a strict queue the next one only follows after `step`."""
        while self._heap:
            rank, desk = self._heap[0]
            if (leads := self._leader(desk, usage)) is None:
                heappop(self._heap)
            elif leads[0] > rank:
                heapreplace(self._heap, (leads[0], desk))
            else:
                if desk.is_strict:
                    heappop(self._heap)
                lane = leads[1]
                workload = lane.step()  # whoever follows in the lane ranks no better, and is ranked when that would lead
                self._led[workload.id] = lane, desk
                return workload
        return None

    def step(self, queue: str, usage: Usage) -> None:
        """Let the next of a strict queue come forward."""
        desk = self._strict.get(queue)
        if desk is not None and (leads := self._leader(desk, usage)) is not None:
            heappush(self._heap, (leads[0], desk))

    def pass_over(self, workload: Waiting) -> None:
        """Let nobody have a turn who is like one that had its own. In a strict queue nobody is passed over."""
        lane, desk = self._led[workload.id]
        if not desk.is_strict:
            lane.end()

    def is_strict(self, workload: Waiting) -> bool:
        """Whether its queue starts its work strictly in turn."""
        return self._led[workload.id][1].is_strict

    def again(self, gave_back: Iterable[str], usage: Usage) -> None:
        """Rank those anew whose rank may be better now: these queues gave quota back, or may have."""
        eased = self._seen.near(gave_back)
        heap = list[tuple[Rank, _Desk]]()
        for rank, desk in self._heap:
            if desk.queue not in eased:
                heap.append((rank, desk))
            elif (leads := self._leader(desk, usage)) is not None:
                heap.append((leads[0], desk))
        self._heap = heap
        heapify(self._heap)

    def left(self) -> list[Waiting]:
        """The first of every kind of those who had no turn, queue by queue in their order: all are in strict ones."""
        return [first for desk in self._strict.values() for lane in desk.lanes for first in lane.first_of_kinds(self._led)]

    def _leader(self, desk: "_Desk", usage: Usage) -> "tuple[Rank, _Lane] | None":
        """The best rank at a desk, and whose it is."""
        return desk.leader(self._seen.standing(desk.queue, usage), usage)

    def _desks(self) -> Iterable["_Desk"]:
        """Lanes by queue and tier; a strict queue is one lane, of all tiers."""
        facts, backlog = self._facts, self._backlog
        strict: dict[str, list[Lane]] = {}
        others: dict[tuple[str, SlaTier], list[_Lane]] = {}
        for lane in backlog.lanes:
            spec = lane.members[0].spec
            if _is_strict(spec.queue, facts):
                strict.setdefault(spec.queue, []).append(lane)
            else:
                others.setdefault((spec.queue, spec.tier), []).append(_Lane([lane], backlog, facts))
        for (queue, _), lanes in others.items():
            yield _Desk(queue, lanes, facts)
        for queue in sorted(strict, key=lambda queue: min(age(backlog.first(lane)) for lane in strict[queue])):
            lane_of_all = _Lane(strict[queue], backlog, facts, is_strict=True)
            self._strict[queue] = _Desk(queue, [lane_of_all], facts, is_strict=True)
            yield self._strict[queue]


@dataclass(slots=True, eq=False)
class _Standing:
    """How a queue stands while it, and those above it but its root, use the same; what follows from that is worked out once."""

    queue: str
    uses: Uses
    facts: Facts
    keys: dict[tuple[bool, float], ShareKey]
    """One key for all that are equal, by what mostly decides: the same object is told to be equal at a glance."""
    _borrowed: dict[str, Amount] = field(default_factory=dict)
    _shares: dict[bool, tuple[ShareKey, ...]] = field(default_factory=dict)

    def is_within(self, wishes: Iterable["_Wish"], usage: Usage) -> bool:
        """Whether any of the wishes would let the queue live on its own for one of the SKUs."""
        for skus, milli in wishes:
            if not milli:
                return True
            for sku in skus:
                if self._has_borrowed(sku, usage) + milli <= 0:
                    return True
        return False

    def _has_borrowed(self, sku: str, usage: Usage) -> Amount:
        if (known := self._borrowed.get(sku)) is None:
            known = self._borrowed[sku] = usage.borrowed(self.queue, sku)
        return known

    def share(self, usage: Usage, *, is_within: bool) -> tuple[ShareKey, ...]:
        """How much of its fair surplus the queue has."""
        if (known := self._shares.get(is_within)) is None:
            known = self._shares[is_within] = self._share(usage, is_within=is_within)
        return known

    def _share(self, usage: Usage, *, is_within: bool) -> tuple[ShareKey, ...]:
        if self.queue not in usage.tree.paths:
            return ()
        keys = [share.key for share in self.facts.fair.of_queue(self.queue, usage, is_within=is_within)]
        alike = [self.keys.setdefault(key[:2], key) for key in keys]
        return tuple([known if known == key else key for key, known in zip(keys, alike, strict=True)])


class _Seen:
    """How each queue was last seen to stand: the same object for as long as that is so."""

    def __init__(self, facts: Facts) -> None:
        self._facts, tree = facts, facts.tree
        names = sorted({name for _, name in tree.standings})
        self._counted = {queue: path[:-1] or path for queue, path in tree.paths.items()}
        """The nodes of which the use counts for a queue's rank."""
        self._keys = {
            queue: [(node, name) for node in nodes for name in names if (node, name) in tree.standings]
            for queue, nodes in self._counted.items()
        }
        self._usage: Usage | None = None
        self._now: dict[str, _Standing] = {}
        self._last: dict[str, _Standing] = {}
        self._keys_of_shares: dict[tuple[bool, float], ShareKey] = {}

    def standing(self, queue: str, usage: Usage) -> _Standing:
        """How the queue stands now."""
        if usage is not self._usage:
            self._usage, self._now = usage, {}
        if (known := self._now.get(queue)) is None:
            get, last = usage.uses.get, self._last.get(queue)
            uses = tuple([get(key) for key in self._keys.get(queue, ())])
            is_same = last is not None and all(map(is_, uses, last.uses))
            known = last if last is not None and is_same else _Standing(queue, uses, self._facts, self._keys_of_shares)
            self._now[queue] = self._last[queue] = known
        return known

    def near(self, queues: Iterable[str]) -> set[str]:
        """All queues for whose rank it counts what these use."""
        nodes = {node for queue in queues for node in self._counted.get(queue, ())}
        return {queue for queue, counted in self._counted.items() if not nodes.isdisjoint(counted)}


class _Wish(NamedTuple):
    """What a request that is open needs at least, in thousandths, and on which SKUs."""

    skus: tuple[str, ...]
    milli: Amount


class _Desk:
    """Lanes of one queue and one tier, those first whose first workload is within what the queue owns; of a strict queue one.

    Among those who are, and among those who are not, none ranks otherwise than by its place, whatever the queue uses.
    """

    def __init__(self, queue: str, lanes: list["_Lane"], facts: Facts, *, is_strict: bool = False) -> None:
        self.queue, self.lanes, self.is_strict = queue, lanes, is_strict
        self._may_be_within = queue not in facts.tree.overspent
        self._asked: dict[tuple[_Wish, ...], list[_Lane]] = {}
        """Lanes by what they ask for."""
        self._standing: _Standing | None = None
        """How the queue stood when they were parted."""
        self._are_within: list[bool] | None = None
        """The same by what is asked for."""
        self._within: list[tuple[Place, _Lane]] = []
        self._beyond: list[tuple[Place, _Lane]] = []

    def leader(self, standing: "_Standing", usage: Usage) -> "tuple[Rank, _Lane] | None":
        """The best rank where the queue stands so, and the lane whose first workload has it; none where nobody is left."""
        if standing is not self._standing or self.is_strict:
            self._part(standing, usage)
        is_within = (lane := _first_of(self._within)) is not None
        if lane is None and (lane := _first_of(self._beyond)) is None:
            return None
        tier, priority, submitted_at, id = lane.place
        return (tier, not is_within, standing.share(usage, is_within=is_within), priority, submitted_at, id), lane

    def _part(self, standing: "_Standing", usage: Usage) -> None:
        if not self._asked or self.is_strict:
            self._asked = {}
            for lane in self.lanes:
                if lane.first is not None:
                    self._asked.setdefault(lane.wishes, []).append(lane)
        are_within = [self._may_be_within and standing.is_within(wishes, usage) for wishes in self._asked]
        if are_within != self._are_within or self.is_strict:
            self._within, self._beyond = [], []
            for is_within, lanes in zip(are_within, self._asked.values(), strict=True):
                (self._within if is_within else self._beyond).extend(
                    (lane.place, lane) for lane in lanes if lane.first is not None
                )
            heapify(self._within)
            heapify(self._beyond)
        self._standing, self._are_within = standing, are_within

    def __lt__(self, other: "_Desk") -> bool:
        """Ranks are never equal, for they end with an id."""
        return self.queue < other.queue


def _first_of(heap: list[tuple[Place, "_Lane"]]) -> "_Lane | None":
    """The lane whose first has the best place, where lanes have stepped or come to their end since they were put in."""
    while heap:
        place, lane = heap[0]
        if lane.first is None:
            heappop(heap)
        elif lane.place is not place:
            heapreplace(heap, (lane.place, lane))
        else:
            return lane
    return None


class _Lane:
    """Workloads that have their turns one after the other; of a strict queue all that wait in it, whatever they ask for.

    Of a kind all have one tier and one priority, so that they go by age, whatever waiting adds to that.
    """

    def __init__(self, lanes: list[Lane], backlog: Backlog, facts: Facts, *, is_strict: bool = False) -> None:
        self._lanes, self._backlog, self._facts = lanes, backlog, facts
        every = map(backlog.of, lanes)
        self._line = merge(*every, key=self._key) if is_strict else backlog.of(lanes[0])
        self.first: Waiting | None = next(self._line, None)
        self._placed: tuple[Waiting, Place] | None = None

    @property
    def head(self) -> Waiting:
        """The first, where there is one."""
        assert self.first is not None
        return self.first

    @property
    def place(self) -> Place:
        """The place of the first, whatever its queue uses: the same object while it is the first."""
        if self._placed is None or self._placed[0] is not self.first:
            self._placed = self.head, self._key(self.head)
        return self._placed[1]

    def step(self) -> Waiting:
        """Let the first go; tells who it was."""
        first, self.first = self.head, next(self._line, None)
        return first

    def end(self) -> None:
        """Let everybody go."""
        self._line, self.first = iter(()), None

    def first_of_kinds(self, but: Container[str]) -> list[Waiting]:
        """The first of every kind but for these workloads."""
        every = ((workload for workload in self._backlog.of(lane) if workload.id not in but) for lane in self._lanes)
        return sorted((first for each in every if (first := next(each, None)) is not None), key=self._key)

    @property
    def wishes(self) -> tuple["_Wish", ...]:
        """What its first workload may have by now; of a kind all ask for the same, and it opens to them at once."""
        asked, came, skus, now = form(self.head), self.head.submitted_at, self._facts.tree.skus, self._facts.now
        return tuple(
            [
                _Wish(wish.target.skus or skus, wish.least)
                for wish in asked.wishes
                if not asked.delays or open_from(came, wish.target.after_seconds) <= now
            ]
        )

    def __lt__(self, other: "_Lane") -> bool:
        """Places are never equal, for they end with an id."""
        return self.head.id < other.head.id

    def _key(self, workload: Waiting) -> Place:
        return _place(workload, self._facts)


def _is_strict(queue: str, facts: Facts) -> bool:
    return queue in facts.queues and facts.queues[queue].ordering is Ordering.STRICT_FIFO


def _place(workload: Waiting, facts: Facts) -> Place:
    return TIERS.index(facts.tree.tier(workload.spec)), -aged_priority(workload, facts), workload.submitted_at, workload.id


def rank_of_more(workload: Waiting, sku: str, milli: Amount, usage: Usage, facts: Facts) -> Rank:
    """The rank of a workload that runs and wants so many thousandths more; nothing has aged, for it does not wait."""
    spec = workload.spec
    standing = _Standing(spec.queue, (), facts, {})
    is_within = spec.queue not in facts.tree.overspent and standing.is_within([_Wish((sku,), milli)], usage)
    share, tier = standing.share(usage, is_within=is_within), TIERS.index(facts.tree.tier(spec))
    return tier, not is_within, share, -spec.priority, workload.submitted_at, workload.id


def aged_priority(workload: Waiting, facts: Facts) -> int:
    """The priority with what waiting has added to it, so that nobody waits for ever behind a stream of higher priority.

    It orders turns only. Who may be stopped for whom is decided by the priority itself: work that was stopped keeps its age,
    and would take its turn back at once.
    """
    step = facts.policy.rank.ageing_seconds_per_priority
    waited = max(timedelta(), facts.now - workload.submitted_at)
    return workload.spec.priority + (waited // timedelta(seconds=step) if step else 0)
