"""Entitlement: which work of a queue its nominal quota covers; the rest is over quota, entitled to nothing."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import heappop, heappush
from itertools import chain, repeat
from typing import NamedTuple

from domain.accounting import entitled_milli
from domain.fleet import Amount
from domain.quota import QuotaTree
from domain.request import form
from domain.roll import Roll
from domain.snapshot import Snapshot
from domain.standing import Standing, standing
from domain.workload import Active, Waiting

Demand = Waiting | Active

Precedence = tuple[Standing, float, str, bool]

Taken = Sequence[tuple[str, Amount]]
"""By SKU."""


class Entitlement:
    """Thousandths that the nominal quota of its queue covers, by workload; see docs/decisions/over-quota.md.

    Nominal goes to the work of a queue by tier, priority and age, whether it runs or waits: what waits is promised as much
    as what runs. A gang is covered with its minimum or not at all, and what it has beyond its minimum as far as that goes.
    Nothing is covered of a queue that is beyond a soft budget.

    It remembers the queues between rounds: one of which neither the work nor the rows have changed is not looked at again.
    """

    def __init__(self) -> None:
        self._roll = Roll[Demand]()
        self._lines: dict[str, _Line] = {}
        self._covered: dict[str, Amount] = {}

    def within_quota(self, snapshot: Snapshot, tree: QuotaTree, now: datetime) -> dict[str, Amount]:
        """What is covered now, by workload id; work of queues of which nothing is covered is left out."""
        turnover = self._roll.take(chain(_latest(snapshot.active), snapshot.waiting, snapshot.bystanders))
        for demand in turnover.gone:
            self._lines[demand.spec.queue].leave(demand)
            self._covered.pop(demand.id, None)
        for demand in turnover.come:
            self._lines.setdefault(demand.spec.queue, _Line()).join(demand)
        for queue, line in self._lines.items():
            for workload, milli in line.news(_Own.of(queue, tree), now).items():
                if milli is None:
                    self._covered.pop(workload, None)
                else:
                    self._covered[workload] = milli
        return dict(self._covered)


def within_quota(snapshot: Snapshot, tree: QuotaTree, now: datetime) -> dict[str, Amount]:
    """The same for one round alone."""
    return Entitlement().within_quota(snapshot, tree, now)


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
    """What an attempt has, by SKU, and how much of that must be covered for any of it to be."""

    id: str
    has: tuple[tuple[str, Amount], ...]
    enough: Amount

    def taken(self, left: "_Left", now: datetime) -> Taken:
        """What is covered of it; nothing is where too little is left."""
        taken = [(sku, min(milli, left.of(sku))) for sku, milli in self.has]
        return taken if sum([milli for _, milli in taken]) >= self.enough else []


class _Wanting(NamedTuple):
    """What waiting work may have, at the very least: under each target from when on, which SKUs (none: any), and how much."""

    id: str
    wants: tuple[tuple[datetime, tuple[str, ...], Amount], ...]

    def taken(self, left: "_Left", now: datetime) -> Taken:
        """The minimum of the first target that is open and for which there is enough."""
        for opens_at, skus, least in self.wants:
            if opens_at <= now:
                for sku in skus or left.rows:
                    if 0 < least <= left.of(sku):
                        return [(sku, least)]
        return []


def _ask(demand: Demand) -> _Holding | _Wanting:
    if isinstance(demand, Active):
        return _Holding(demand.id, tuple(demand.placement.by_sku.items()), min(demand.milli, entitled_milli(demand.spec)))
    asked, came = form(demand), demand.submitted_at
    opening = [came + timedelta(seconds=delay) for delay in asked.delays] if asked.delays else repeat(came)
    skus = [wish.target.skus for wish in asked.wishes]
    return _Wanting(demand.id, tuple(zip(opening, skus, asked.minimums, strict=False)))


class _Left:
    """What is left of what a queue owns, by the names of its rows."""

    def __init__(self, own: _Own) -> None:
        self.rows, self._left = own.rows, dict(own.nominal)
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


class _Line:
    """The work of one queue, in the order in which nominal goes to it."""

    def __init__(self) -> None:
        self._order: list[Precedence] = []
        self._asks: list[_Holding | _Wanting] = []
        self._openings: list[datetime] = []
        """When some of it may ask for more than it did; the next one first."""
        self._is_changed = True
        self._own: _Own | None = None

    def join(self, demand: Demand) -> None:
        """One more."""
        place = bisect_left(self._order, key := _precedence(demand))
        self._order.insert(place, key)
        self._asks.insert(place, ask := _ask(demand))
        if isinstance(ask, _Wanting):
            for opens_at, _, _ in ask.wants:
                heappush(self._openings, opens_at)
        self._is_changed = True

    def leave(self, demand: Demand) -> None:
        """One less."""
        place = bisect_left(self._order, _precedence(demand))
        del self._order[place], self._asks[place]
        self._is_changed = True

    def news(self, own: _Own | None, now: datetime) -> Mapping[str, Amount | None]:
        """What is covered of each, where that may have changed; none where nothing is owned."""
        while self._openings and self._openings[0] <= now:
            heappop(self._openings)
            self._is_changed = True
        if not self._is_changed and own == self._own:
            return {}
        self._is_changed, self._own = False, own
        return dict.fromkeys([ask.id for ask in self._asks]) if own is None else self._covered(own, now)

    def _covered(self, own: _Own, now: datetime) -> dict[str, Amount | None]:
        left, covered = _Left(own), dict[str, Amount | None]()
        for place, ask in enumerate(self._asks):
            if left.is_used_up:
                return covered | dict.fromkeys([ask.id for ask in self._asks[place:]], 0)
            covered[ask.id] = left.take(ask.taken(left, now))
        return covered


def _precedence(demand: Demand) -> Precedence:
    tier, priority = standing(demand.spec.tier, demand.spec.priority)
    return (-tier, -priority), demand.submitted_at.timestamp(), demand.id, isinstance(demand, Active)


def _latest(active: Sequence[Active]) -> Iterable[Active]:
    """Of work that goes on in another shape, what it will have counts."""
    latest = {each.id: each for each in active}
    if len(latest) < len(active):
        latest = {each.id: each for each in sorted(active, key=lambda each: each.epoch)}
    return latest.values()
