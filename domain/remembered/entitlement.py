"""Entitlement: which work of a queue its nominal quota covers; the rest is over quota, entitled to nothing."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from heapq import heappop, heappush
from itertools import chain
from operator import attrgetter, itemgetter
from typing import NamedTuple

from corral.api import WorkloadTerms
from domain.pool.fleet import Amount
from domain.pool.roll import Turnover
from domain.pool.standing import Standing, standing
from domain.pool.versions import Versions
from domain.pool.workload import Active, Waiting, open_from
from domain.quota.accounting import entitled_milli
from domain.quota.tree import QuotaTree
from domain.snapshot import Snapshot
from domain.worlds.request import Form, Wish, form

Demand = Waiting | Active

Precedence = tuple[Standing, datetime, str, bool]

Taken = Sequence[tuple[str, Amount]]
"""By SKU."""

BLOCK = 64
"""Of a queue's line, which is looked at anew where something changes; more than twice as many are parted."""


class Coverage(NamedTuple):
    """What nominal quota covers, by workload id: thousandths, where it is any, and of whom nothing is covered.

    Work of queues of which nothing can be covered is in neither. `misjudged` are those of whom the record says the other,
    and `turned` those of whom this is not what it was.
    """

    covered: Mapping[str, Amount]
    over: Versions[bool]
    misjudged: frozenset[str]
    turned: frozenset[str]


class Entitlement:
    """Thousandths that the nominal quota of its queue covers, by workload; see docs/decisions/over-quota.md.

    Nominal goes to the work of a queue by tier, priority and age, whether it runs or waits: what waits is promised as much
    as what runs. A gang is covered with its minimum or not at all, and what it has beyond its minimum as far as that goes.
    Nothing is covered of a queue that is beyond a soft budget.

    It remembers the queues between rounds, and looks again at where the work or the rows of one have changed, and no further
    than that makes a difference.
    """

    def __init__(self) -> None:
        self._attempts: dict[str, list[Active]] = {}
        """By workload: one that goes on in another shape has two."""
        self._lines: dict[str, _Line] = {}
        self._covered: dict[str, Amount] = {}
        self._over = Versions[bool]()
        self._record = Versions[bool]()
        self._misjudged: set[str] = set()

    def take(
        self, active: Turnover[Active], waiting: Turnover[Waiting], record: Versions[bool], tree: QuotaTree, now: datetime
    ) -> Coverage:
        """What is covered now that these have come and gone; `record` says of whom nothing was covered by what it knows."""
        news: dict[str, Amount | None] = {}
        attempts = self._counted(active)
        for demand in chain[Demand](attempts.gone, waiting.gone):
            self._lines[demand.spec.queue].leave(demand)
            news[demand.id] = None
        for queue, come in _by_queue(chain[Demand](attempts.come, waiting.come)).items():
            self._lines.setdefault(queue, _Line()).join(come, now)
        for queue, line in self._lines.items():
            news.update(line.news(_Own.of(queue, tree), now))
        for workload, milli in news.items():
            if milli:
                self._covered[workload] = milli
            else:
                self._covered.pop(workload, None)
        over = self._over.with_({workload: True if milli == 0 else None for workload, milli in news.items()})
        self._compare(over, record)
        return Coverage(dict(self._covered), over, frozenset(self._misjudged), frozenset(news))

    def _counted(self, moved: Turnover[Active]) -> Turnover[Active]:
        """The same of the attempts that count: of work that goes on in another shape, what it will have."""
        touched = dict.fromkeys(each.id for each in chain(moved.gone, moved.come))
        before = {id: max(those, key=_epoch) for id in touched if (those := self._attempts.get(id))}
        for each in moved.gone:
            self._attempts[each.id] = [other for other in self._attempts[each.id] if other is not each]
        for each in moved.come:
            self._attempts.setdefault(each.id, []).append(each)
        after = {id: max(those, key=_epoch) for id in touched if (those := self._attempts[id])}
        for id in touched.keys() - after.keys():
            del self._attempts[id]
        gone = [each for id, each in before.items() if after.get(id) is not each]
        return Turnover(gone, [each for id, each in after.items() if before.get(id) is not each])

    def _compare(self, over: Versions[bool], record: Versions[bool]) -> None:
        """Know of whom the record says the other; only looks at what is different there or here."""
        if (there := record.since(self._record)) is None or (here := over.since(self._over)) is None:
            self._misjudged = set(over) ^ set(record)
        else:
            for workload in there.keys() | here.keys():
                if (workload in over) != (workload in record):
                    self._misjudged.add(workload)
                else:
                    self._misjudged.discard(workload)
        self._over, self._record = over, record


def within_quota(snapshot: Snapshot, tree: QuotaTree, now: datetime) -> dict[str, Amount]:
    """What is covered, by workload id, for one round alone; work of queues of which nothing is covered is left out."""
    active, waiting = Turnover([], [*snapshot.active]), Turnover([], [*snapshot.waiting, *snapshot.bystanders])
    coverage = Entitlement().take(active, waiting, snapshot.over_quota, tree, now)
    return {**dict.fromkeys(coverage.over, 0), **coverage.covered}


@dataclass(frozen=True, slots=True)
class _Own:
    """What a queue owns: the names of its rows that bound each SKU, and the nominal under every name."""

    rows: Mapping[str, Sequence[str]]
    nominal: Mapping[str, Amount]

    @classmethod
    def of(cls, queue: str, tree: QuotaTree) -> "_Own | None":
        """What is worth asking for; none for a queue that is unknown, or beyond a soft budget."""
        if queue not in tree.paths or queue in tree.overspent:
            return None
        rows = {sku: tree.rows(queue, sku) for sku in tree.skus}
        return cls(rows, {name: tree.standings[queue, name].quota.nominal for names in rows.values() for name in names})


class _Holding(NamedTuple):
    """What an attempt has, by SKU, and in what terms it asked for it."""

    id: str
    has: list[tuple[str, Amount]]
    spec: WorkloadTerms
    openings: Sequence[datetime] = ()

    def taken(self, left: "_Left", now: datetime) -> Taken:
        """What is covered of it; nothing is where less is left than it is entitled to and has."""
        taken = [(sku, min(milli, left.of(sku))) for sku, milli in self.has]
        if taken == self.has:
            return taken
        covered = _in_all(taken)
        return taken if covered and covered >= min(_in_all(self.has), entitled_milli(self.spec)) else []


class _Wanting(NamedTuple):
    """What waiting work may have, and since when it waits."""

    id: str
    asked: Form
    came: datetime

    @property
    def openings(self) -> list[datetime]:
        """When its targets open; none where all of them always are."""
        return [open_from(self.came, delay) for delay in self.asked.delays]

    def taken(self, left: "_Left", now: datetime) -> Taken:
        """The minimum of the first target that is open and for which there is enough."""
        for wish in self._opened(now):
            for sku in wish.target.skus or left.rows:
                taken = wish.least_on(sku)
                if taken and all(milli <= left.of(name) for name, milli in taken):
                    return taken
        return []

    def _opened(self, now: datetime) -> Iterable[Wish]:
        if not self.asked.delays:
            return self.asked.wishes
        return [wish for wish, opens_at in zip(self.asked.wishes, self.openings, strict=True) if opens_at <= now]


def _ask(demand: Demand) -> _Holding | _Wanting:
    if isinstance(demand, Active):
        return _Holding(demand.id, list(demand.placement.by_sku.items()), demand.spec)
    return _Wanting(demand.id, form(demand), demand.submitted_at)


def _in_all(amounts: Taken) -> Amount:
    return sum([milli for _, milli in amounts])


class _Left:
    """What is left of what a queue owns, by the names of its rows."""

    def __init__(self, own: _Own) -> None:
        self.rows, self._left = own.rows, dict(own.nominal)
        self.is_used_up = not any(self._left.values())

    @property
    def amounts(self) -> Mapping[str, Amount]:
        """As it is now."""
        return dict(self._left)

    def become(self, amounts: Mapping[str, Amount]) -> None:
        """Be what was once left."""
        self._left = dict(amounts)
        self.is_used_up = not any(self._left.values())

    def of(self, sku: str) -> Amount:
        """How much of a SKU."""
        rows = self.rows.get(sku, ())
        return self._left[rows[0]] if len(rows) == 1 else min([self._left[name] for name in rows], default=0)

    def take(self, taken: Taken) -> Amount:
        """Take this away; tells how much it is."""
        total = 0
        for sku, milli in taken:
            total += milli
            for name in self.rows.get(sku, ()):
                self._left[name] -= milli
        if total:
            self.is_used_up = not any(self._left.values())
        return total


@dataclass(slots=True)
class _Block:
    """Some of a line that follow each other, with what was covered of each, and with what was left before and after them."""

    order: list[Precedence]
    asks: list[_Holding | _Wanting]
    covered: list[Amount | None]
    before: Mapping[str, Amount] | None = None
    """None where it has to be looked at anew."""
    after: Mapping[str, Amount] = field(default_factory=dict)

    def insert(self, come: Sequence[tuple[Precedence, _Holding | _Wanting]]) -> None:
        """Some more."""
        here = zip(self.order, self.asks, self.covered, strict=True)
        every = sorted(chain(here, ((key, ask, None) for key, ask in come)), key=itemgetter(0))
        self.order, self.asks = [key for key, _, _ in every], [ask for _, ask, _ in every]
        self.covered = [milli for _, _, milli in every]

    def remove(self, key: Precedence) -> None:
        """One less."""
        place = bisect_left(self.order, key)
        del self.order[place], self.asks[place], self.covered[place]

    def parted(self) -> "list[_Block]":
        """Give what is too much for one to others, which follow it."""
        if len(self.order) <= 2 * BLOCK:
            return []
        cuts = [slice(at, at + BLOCK) for at in range(BLOCK, len(self.order), BLOCK)]
        others = [_Block(self.order[cut], self.asks[cut], self.covered[cut]) for cut in cuts]
        del self.order[BLOCK:], self.asks[BLOCK:], self.covered[BLOCK:]
        return others

    def cover(self, left: _Left, now: datetime) -> Iterator[tuple[str, Amount]]:
        """Give them of what is left; tells of whom it is not what it was."""
        self.before = left.amounts
        for place, ask in enumerate(self.asks):
            milli = 0 if left.is_used_up else left.take(ask.taken(left, now))
            if milli != self.covered[place]:
                self.covered[place] = milli
                yield ask.id, milli
        self.after = left.amounts


class _Line:
    """The work of one queue, in the order in which nominal goes to it."""

    def __init__(self) -> None:
        self._blocks = [_Block([], [], [])]
        self._stale: dict[int, _Block] = {}
        """Those that have to be looked at anew, by object."""
        self._openings: list[tuple[datetime, Precedence]] = []
        """When some of it may ask for more than it did, and which; the next one first."""
        self._own: _Own | None = None

    def join(self, demands: Iterable[Demand], now: datetime) -> None:
        """Some more; what they may ask for by now is looked at all the same."""
        come: dict[int, list[tuple[Precedence, _Holding | _Wanting]]] = {}
        for demand in demands:
            key, ask = _precedence(demand), _ask(demand)
            come.setdefault(self._place(key), []).append((key, ask))
            for opens_at in ask.openings:
                if opens_at > now:
                    heappush(self._openings, (opens_at, key))
        for place, those in sorted(come.items(), reverse=True):
            block = self._look_again(place)
            block.insert(those)
            others = block.parted()
            self._blocks[place + 1 : place + 1] = others
            self._stale.update((id(other), other) for other in others)

    def leave(self, demand: Demand) -> None:
        """One less."""
        block = self._look_again(place := self._place(key := _precedence(demand)))
        block.remove(key)
        if not block.order and len(self._blocks) > 1:
            del self._blocks[place], self._stale[id(block)]
            if place < len(self._blocks):
                self._look_again(place)

    def news(self, own: _Own | None, now: datetime) -> Mapping[str, Amount | None]:
        """What is covered of each, where that is another amount than it was; none where nothing is owned."""
        while self._openings and self._openings[0][0] <= now:
            self._look_again(self._place(heappop(self._openings)[1]))
        before, self._own = self._own, own
        if own is None:
            return {} if before is None else self._uncovered()
        if own != before:
            for place in range(len(self._blocks)):
                self._look_again(place)
        return self._covered_anew(own, now)

    def _covered_anew(self, own: _Own, now: datetime) -> Mapping[str, Amount | None]:
        """Look at every stale block, and at those behind it for as long as another amount is left than was."""
        news, left, next_place = dict[str, Amount | None](), _Left(own), 0
        for place in sorted(self._place_of(block) for block in self._stale.values()):
            if place >= next_place:
                left.become(self._blocks[place - 1].after if place else own.nominal)
                for next_place in range(place, len(self._blocks)):
                    if self._blocks[next_place].before == left.amounts:
                        break
                    news.update(self._blocks[next_place].cover(left, now))
        self._stale = {}
        return news

    def _uncovered(self) -> Mapping[str, None]:
        for block in self._blocks:
            block.covered, block.before = [None] * len(block.asks), None
        return dict.fromkeys(ask.id for block in self._blocks for ask in block.asks)

    def _look_again(self, place: int) -> _Block:
        block = self._blocks[place]
        block.before = None
        self._stale[id(block)] = block
        return block

    def _place_of(self, block: _Block) -> int:
        return self._place(block.order[0]) if block.order else 0

    def _place(self, key: Precedence) -> int:
        """Of the block to which one belongs."""
        if len(self._blocks) == 1:
            return 0
        return max(0, bisect_right(self._blocks, key, key=lambda block: block.order[0]) - 1)


def _precedence(demand: Demand) -> Precedence:
    tier, priority = standing(demand.spec.tier, demand.spec.priority)
    return (-tier, -priority), demand.submitted_at, demand.id, isinstance(demand, Active)


def _by_queue(demands: Iterable[Demand]) -> Mapping[str, Sequence[Demand]]:
    found: dict[str, list[Demand]] = {}
    for demand in demands:
        found.setdefault(demand.spec.queue, []).append(demand)
    return found


_epoch = attrgetter("epoch")
