"""The herd: of all work that runs on a SKU the part worth looking at, when some of it is to make room for other work.

A gang needs few nodes. On a large supply those are picked that look cheapest to clear, by whole columns: work counts by the
level at which it would lose, and by what that costs; the rules that spare it are asked later, and only about what is near.
Where even all of it would not be enough, nobody is asked. Small supplies are looked at whole.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from corral.api import WHOLE
from domain.disruption.means import Elastic, Means, elastic
from domain.disruption.protection import Protection, Stoppable
from domain.facts import Facts
from domain.pool.fleet import NODE_LEVEL, Amount
from domain.pool.standing import Standing, standing
from domain.pool.stock import Atlas, NodeRoom, Numbers, Places, Stock, in_order, parts_of
from domain.quota.usage import Usage
from domain.remembered.muster import BASIC, NOBODY, STRONGEST, Columns, Mask, are_stoppable, dearness, strengths, tiers_run_as
from domain.worlds.request import Gang, Request
from domain.worlds.world import Nodes, Supply, World

LARGE = 64
"""Nodes: a supply of no more is looked at whole."""

SPARE_NODES = 12
"""So many nodes are looked at beyond those that look cheapest to clear, and as many times what would be enough of quota."""

SPARE_DOMAINS = 3
"""In how many domains a gang that must sit in one is tried."""


@dataclass(frozen=True, slots=True, eq=False)
class Herd:
    """All work on one SKU that may be stopped or shrunk now, a row for each of its nodes; the lowest first."""

    columns: Columns
    protection: Protection
    numbers: Mapping[str, int]
    """The place of each attempt, by its id."""
    is_stoppable: Mask
    """By attempt."""
    is_there: Mask
    """By row, whether anything at all may be done to its owner now."""
    strength: Numbers
    """By row, its standing as one number."""
    shrunk: Numbers
    """By row, the standing of what it could do without; above all where it can do without nothing."""
    level: Numbers
    """By row, the standing at which it would lose."""
    dearness: Numbers
    """By row, what it costs to stop its owner, by accelerator."""
    queue: Numbers
    """By row, as the muster counts queues."""
    queues: Mapping[str, int]
    places: dict[tuple[int, ...], Places] = field(default_factory=dict)
    """By row, the place of its node in some stocks, remembered by the fleet that these are of; below zero elsewhere."""
    seen: dict[int, Stoppable] = field(default_factory=dict)
    """Attempts that somebody has looked at, by place."""

    @classmethod
    def of(cls, columns: Columns, queues: Mapping[str, int], protection: Protection) -> "Herd":
        """The herd of a SKU."""
        policy, now, owner = protection.policy, protection.now, columns.owner
        tier, priority, is_elastic = columns.field("tier"), columns.field("priority"), columns.field("elastic") > 0
        is_stoppable = are_stoppable(columns, policy, now)
        return cls(
            columns=columns,
            protection=protection,
            numbers={each.attempt_id: at for at, each in enumerate(columns.active)},
            is_stoppable=is_stoppable,
            is_there=(is_stoppable | is_elastic)[owner],
            strength=strengths(tier, priority)[owner],
            shrunk=np.where(is_elastic, strengths(np.full_like(tier, BASIC), priority), STRONGEST)[owner],
            level=strengths(tiers_run_as(columns, protection), priority)[owner],
            dearness=dearness(columns, policy, now)[owner],
            queue=columns.field("queue")[owner],
            queues=queues,
        )

    @property
    def owner(self) -> Places:
        """By row, whose it is."""
        return self.columns.owner

    @property
    def milli(self) -> Numbers:
        """By row."""
        return self.columns.milli

    def victim(self, at: int) -> Stoppable:
        """One of the attempts."""
        if at not in self.seen:
            self.seen[at] = Stoppable(self.columns.active[at], self.protection)
        return self.seen[at]

    def elastic(self, at: int) -> Elastic | None:
        """What one of the attempts could do without, if anything."""
        spare = self.columns.surplus[at]
        return None if spare is None else elastic(self.victim(at), spare)

    def rows_of(self, attempts: Iterable[str]) -> Mask:
        """Whether each row is of one of these attempts."""
        named = np.zeros(len(self.columns.active), np.bool_)
        named[[self.numbers[id] for id in attempts if id in self.numbers]] = True
        return named[self.owner]

    def places_in(self, parts: Sequence[Stock]) -> Places:
        """By row, where its node stands when these stocks stand side by side; below zero where it is in none of them."""
        key = tuple(id(part.nodes) for part in parts)
        if key not in self.places:
            places, first = np.full(len(parts[0].atlas.node_numbers) + 1, -1), 0
            for part in parts:
                places[part.node_numbers] = np.arange(first, first + len(part))
                first += len(part)
            self.places[key] = places[self.columns.node]
        return self.places[key]


def as_number(its: Standing) -> int:
    """A standing as one number, of which the higher ranks first."""
    return its[0] * 2**32 + its[1]


@dataclass(frozen=True, slots=True)
class Near:
    """Nodes on which room may be made for a request, and the work that may have to do with it."""

    nodes: Nodes
    stoppable: Sequence[Stoppable]
    elastic: Sequence[Elastic]


def near(request: Request, supply: Supply, nodes: Nodes, later: World, facts: Facts, *, own_first: bool = False) -> Near | None:
    """What of a supply is worth looking at for a request, or none where nothing that may be done would be enough.

    `nodes` are all that the request may use there, in the world in which all who have notice have left. With `own_first`
    borrowers count as those who may lose once all that may of the request's own queue has left.
    """
    parts = parts_of(nodes)
    if len(nodes) <= LARGE or not parts or request.gang.names_skus or later.usage.tree.kin(supply.sku):
        return Near(nodes, facts.stoppable.get(supply.sku, ()), facts.elastic.get(supply.sku, ()))
    herd = herd_of(supply.sku, parts[0].atlas, facts)
    sight = _Sight.of(request, supply, parts, herd, later, facts, own_first=own_first)
    if sight is None or (picked := sight.nodes()) is None or (of_quota := sight.for_quota()) is None:
        return None
    owners = sorted({*of_quota, *sight.owners_on(picked)})
    entries = _entries(parts, picked)
    return Near(
        in_order(entries),
        [herd.victim(at) for at in owners if herd.is_stoppable[at]],
        [each for at in owners if (each := herd.elastic(at)) is not None],
    )


def herd_of(sku: str, atlas: Atlas, facts: Facts) -> Herd:
    """The herd of a SKU on the fleet of an atlas, remembered for the round."""
    if (columns := facts.remembered.get("muster")) is None:
        columns = facts.remembered["muster"] = facts.muster.take(facts.active.values(), atlas)
    known = facts.remembered.get(("herd", sku))
    if not isinstance(known, Herd):
        known = Herd.of(columns.get(sku, NOBODY), facts.muster.queues, facts.protection)
        facts.remembered["herd", sku] = known
    return known


def _entries(parts: Sequence[Stock], places: Sequence[int]) -> list[NodeRoom]:
    """The entries in these places of stocks that stand side by side."""
    found, first = list[NodeRoom](), 0
    for part in parts:
        found += part.entries([place - first for place in places if first <= place < first + len(part)])
        first += len(part)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Sight:
    """What a request sees of a herd: the rows that may have to give way to it, by taking or (where no room lacks) by moving."""

    gang: Gang
    parts: Sequence[Stock]
    herd: Herd
    places: Places
    free: Numbers
    """By place."""
    takes: Mask
    rows: Mask
    short_of_quota: Amount
    level: Numbers
    """By row, at which level it would lose: what moves before what stops, the own queue last."""

    @classmethod
    def of(
        cls,
        request: Request,
        supply: Supply,
        parts: Sequence[Stock],
        herd: Herd,
        later: World,
        facts: Facts,
        *,
        own_first: bool,
    ) -> "_Sight | None":
        """What it sees, as `near` has it; none where the queue would not live on its own even if all it can take had left."""
        spec, gang, usage, may = request.spec, request.gang, later.usage, facts.policy.rank.disruption
        mine, own = as_number(standing(spec.tier, spec.priority)), herd.queues.get(spec.queue, -1)
        is_own = herd.queue == own
        yields = np.minimum(herd.strength, herd.shrunk) if may.stop else herd.shrunk
        gives = herd.is_there & is_own & (yields < mine)
        given = int(herd.milli[gives].sum()) if own_first else 0
        if own_first and not usage.is_within_nominal(spec.queue, supply.sku, gang.minimum_milli - given):
            return None
        lends = np.zeros(len(herd.queues) + 1, np.bool_)
        lends[[herd.queues[name] for name in _borrowers(request, supply.sku, usage, given) if name in herd.queues]] = True
        takes = gives | (herd.is_there & ~is_own & lends[herd.queue])
        free = np.concatenate([part.milli for part in parts])
        moves = np.zeros_like(takes)
        if may.migrate and gang.minimum_milli <= int(free.sum()):
            moves = herd.is_there & ~takes & (herd.strength <= mine)
        if later.stopped:
            gone = herd.rows_of(later.stopped)
            takes, moves = takes & ~gone, moves & ~gone
        level = herd.level * 2 + is_own + np.where(takes, int(Means.STOP), int(Means.MIGRATE)) * 2**38
        places, needed = herd.places_in(parts), gang.least_by_sku(supply.sku)[supply.sku]
        short = max(0, needed - usage.allowed(spec, supply.sku))
        return cls(gang, parts, herd, places, free, takes, (takes | moves) & (places >= 0), short, level)

    def for_quota(self) -> Sequence[int] | None:
        """Victims that give back the quota that is short, the lowest first, and some more; none where all have too little."""
        if not self.short_of_quota:
            return ()
        rows = np.flatnonzero(self.takes)
        given = self.herd.milli[rows]
        if int(given.sum()) < self.short_of_quota:
            return None
        order = np.lexsort((self.herd.dearness[rows], self.level[rows]))
        enough = int(np.searchsorted(np.cumsum(given[order]), self.short_of_quota)) + 1
        return _numbers(np.unique(self.herd.owner[rows[order[: enough + SPARE_NODES * 2]]]))

    def owners_on(self, picked: Sequence[int]) -> list[int]:
        """Whose rows these places hold."""
        chosen = np.zeros(len(self.free) + 1, np.bool_)
        chosen[list(picked)] = True
        return _numbers(np.unique(self.herd.owner[self.rows & chosen[self.places]]))

    def nodes(self) -> list[int] | None:
        """Places that look cheapest to clear and are more than enough; none where all of them together are too few."""
        largest, number = self.gang.largest, self.gang.minimum_replicas
        if not largest:
            return list(range(min(len(self.free), LARGE)))
        rows = np.flatnonzero(self.rows)
        given = np.bincount(self.places[rows], weights=self.herd.milli[rows], minlength=len(self.free)).astype(np.int64)
        room = np.minimum((self.free + given) // largest, number)
        if int(room.sum()) < number:
            return None
        level, cost = self._prices(rows, room * largest)
        able = np.flatnonzero(room)
        order = able[np.lexsort((-self.free[able], cost[able] // room[able], level[able]))]
        domain_level = self.gang.topology.required
        if domain_level is None or len(self.gang.units(each_alone=False)) > 1:
            enough = int(np.searchsorted(np.cumsum(room[order]), number)) + 1
            return _numbers(order[: enough + SPARE_NODES])
        return self._in_domains(domain_level, order, room, level, cost)

    def _prices(self, rows: Places, wanted: Numbers) -> tuple[Numbers, Numbers]:
        """By place, the harshest level and the cost of clearing so many thousandths there, the mildest first."""
        herd, level = self.herd, self.level[rows]
        order = np.lexsort((herd.dearness[rows], level, self.places[rows]))
        rows, level = rows[order], level[order]
        places, milli = self.places[rows], herd.milli[rows]
        before = np.cumsum(milli) - milli
        starts = np.searchsorted(places, places)
        needed = before - before[starts] < (wanted - self.free)[places] if len(rows) else np.zeros(0, np.bool_)
        harshest, cost = np.full(len(self.free), -STRONGEST), np.zeros(len(self.free), np.int64)
        np.maximum.at(harshest, places[needed], level[needed])
        np.add.at(cost, places[needed], herd.dearness[rows][needed] * milli[needed] // WHOLE)
        return harshest, cost

    def _in_domains(self, name: str, order: Places, room: Numbers, level: Numbers, cost: Numbers) -> list[int] | None:
        """The same within single domains of a level, of which those are tried that look cheapest; all of them where none is."""
        number = self.gang.minimum_replicas
        if any(part.levels is None or name not in (*part.levels, NODE_LEVEL) for part in self.parts):
            return _numbers(order[: 2 * LARGE])
        domains = np.concatenate([part.domains(name) for part in self.parts])[order]
        by_domain = np.argsort(domains, kind="stable")
        places, domains = order[by_domain], domains[by_domain]
        before = np.cumsum(room[places]) - room[places]
        needed = before - before[np.searchsorted(domains, domains)] < number
        size = self.parts[0].domain_count(name)
        total = np.bincount(domains, weights=room[places], minlength=size)
        harshest, costs = np.full(size, -STRONGEST), np.zeros(size, np.int64)
        np.maximum.at(harshest, domains[needed], level[places][needed])
        np.add.at(costs, domains[needed], cost[places][needed])
        able = np.flatnonzero(total >= number)
        if not len(able):
            return None
        best = able[np.lexsort((costs[able], harshest[able]))][:SPARE_DOMAINS]
        return _numbers(places[np.isin(domains, best)])


def _numbers(places: Places) -> list[int]:
    numbers: list[int] = places.tolist()
    return numbers


def _borrowers(request: Request, sku: str, usage: Usage, given: Amount) -> list[str]:
    """Queues that borrow of the SKU, if the request would leave its own, which gives so much, within what it owns."""
    queue = request.spec.queue
    if not usage.is_within_nominal(queue, sku, request.gang.minimum_milli - given):
        return []
    return sorted(usage.borrowers(usage.tree.root(queue), sku) - {queue})
