"""Rebalancing: single replicas of one size go where others leave them room, as a flow of least cost over classes of like nodes.

Who accepts several regions leaves the room of one to those who accept no other.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from corral.api import WHOLE
from domain.improvement.bench import Bench, Seat, Seated, is_plain
from domain.placement.scoring import cost_on, millionths
from domain.pool.fleet import NodeShare, Placement, Room
from domain.pool.workload import Waiting, charges_of
from domain.quota_models.openings import open_ranks
from domain.solver import Arc, cheapest_flow
from domain.worlds.request import Kind, Request, asks_for_something
from domain.worlds.world import Traits, with_charges

LONGEST_RUN = 512
"""The most workloads that one flow decides about."""

UNIT = 1_000
"""Costs of a flow are whole thousandths of a dollar: millionths divided by this."""


def is_fungible(request: Request) -> bool:
    """Whether any whole devices of a node will do: one replica, without a topology or nodes of its own."""
    gang = request.gang
    (shape, *others) = gang.shapes
    is_single = not others and shape.count == 1 and is_plain(gang)
    return is_single and not asks_for_something(gang.topology) and not shape.terms.is_choosy


class Way(NamedTuple):
    """A request on a class of nodes that it accepts."""

    request: Request
    home: Traits


@dataclass(frozen=True, slots=True)
class Rebalanced:
    """The bench with further starts; who moved for them."""

    bench: Bench
    started: tuple[str, ...]
    moved: tuple[str, ...]


def rebalanced(run: Sequence[Waiting], bench: Bench) -> Rebalanced | None:
    """Start as many of these as there is room for, whoever comes first before all others, or none where nothing is gained.

    They are fungible and of one size. None as well where it would cost those that move more than the policy allows.
    """
    wanted = _within_quota(run, bench)
    if not wanted:
        return None
    flow = _Flow(bench, open_ranks(wanted[0][0], bench.facts)[0][0].gang.largest // WHOLE)
    for workload, ways in wanted:
        flow.may_start(workload, ways)
    flow.may_move()
    seats = flow.solved(len(wanted))
    started = [seat.workload.id for seat in seats if seat.workload.id not in bench.starts]
    moved = [seat.workload.id for seat in seats if seat.workload.id in bench.starts]
    if not started or (better := bench.seated(moved, seats)) is None:
        return None
    dearer = sum(
        bench.cost(bench.starts[id].workload, better.starts[id].start.placement)
        - bench.cost(bench.starts[id].workload, bench.starts[id].start.placement)
        for id in moved
    )
    worth = millionths(bench.facts.policy.goals.improvement.worth) * flow.devices * len(started)
    return Rebalanced(better, tuple(started), tuple(moved)) if dearer <= worth else None


def _within_quota(run: Iterable[Waiting], bench: Bench) -> list[tuple[Waiting, list[Way]]]:
    """Those that quota, limits and budgets allow together, each on the first SKU of which it may have as much."""
    usage, found = bench.world.usage, []
    for workload in run:
        spec, ways = workload.spec, _ways(workload, bench)
        milli = ways[0].request.gang.minimum_milli if ways else 0
        sku = next((way.home.supply.sku for way in ways if usage.allowed(spec, way.home.supply.sku) >= milli), None)
        if sku is not None:
            found.append((workload, _first_of_each_home(way for way in ways if way.home.supply.sku == sku)))
            usage = with_charges(usage, charges_of(spec, Placement("", "", sku, (_no_node(milli, sku),))))
    return found


def _first_of_each_home(ways: Iterable[Way]) -> list[Way]:
    found: dict[Traits, Way] = {}
    for way in ways:
        found.setdefault(way.home, way)
    return list(found.values())


def _no_node(milli: int, sku: str) -> NodeShare:
    return NodeShare("", Room((milli,), 0, 0), (), sku)


def _ways(workload: Waiting, bench: Bench) -> list[Way]:
    """Where it may go, what it names first in front."""
    return [
        Way(offer.request, home)
        for rank in open_ranks(workload, bench.facts)
        for offer in bench.offers(workload, rank)
        for home in offer.classes
    ]


@dataclass(slots=True)
class _Flow:
    """From everybody over the class of nodes that takes them to the sink, which is vertex 0."""

    bench: Bench
    devices: int
    """That each replica takes."""
    arcs: list[Arc] = field(default_factory=list)
    offered: dict[int, int] = field(default_factory=dict)
    homes: dict[Traits, int] = field(default_factory=dict)
    ends: list[tuple[Sequence[Waiting], Way]] = field(default_factory=list)
    """For each arc to a class of nodes those who may take it, the last of whom goes first."""
    here: Counter[Traits] = field(default_factory=Counter)
    """Starts of the size, where they are now."""
    waiting: list[tuple[int, Waiting, Sequence[Way]]] = field(default_factory=list)

    def _vertex(self, units: int) -> int:
        vertex = len(self.offered) + 1
        self.offered[vertex] = units
        return vertex

    def _home(self, home: Traits) -> int:
        if home not in self.homes:
            self.homes[home] = self._vertex(0)
        return self.homes[home]

    def may_start(self, workload: Waiting, ways: Sequence[Way]) -> None:
        """Somebody who waits."""
        self.waiting.append((self._vertex(1), workload, ways))

    def may_move(self) -> None:
        """All starts of the size, where they are or where it costs hardly more."""
        groups: defaultdict[tuple[Kind, int | None, Traits], list[Seated]] = defaultdict(list)
        for each in self.bench.movers:
            if is_fungible(each.request) and each.request.gang.largest == self.devices * WHOLE:
                home = self.bench.world.homes[each.start.placement.shares[0].node_id]
                groups[self.bench.kind(each.workload), each.request.index, home].append(each)
        for (_, _, now), members in groups.items():
            self._group(now, members)

    def _group(self, now: Traits, members: Sequence[Seated]) -> None:
        vertex, example = self._vertex(len(members)), members[0]
        self.here[now] += len(members)
        workloads = [each.workload for each in members]
        here, worth = self._cost(example, now), millionths(self.bench.facts.policy.goals.improvement.worth)
        self._to(vertex, Way(example.request, now), len(members), 0, ())
        for offer in self.bench.offers(example.workload, example.alike):
            for home in offer.classes:
                dearer = self._cost(example, home) - here
                if home != now and self.bench.world.classes[home] and dearer <= worth:
                    cost = max(0, dearer) // UNIT * self.devices + 1
                    self._to(vertex, Way(offer.request, home), len(members), cost, workloads)

    def _cost(self, seated: Seated, home: Traits) -> int:
        nodes = self.bench.world.classes[home]
        return cost_on(seated.workload.spec, nodes[0].node, self.bench.world) if nodes else 0

    def _to(self, vertex: int, way: Way, most: int, cost: int, who: Sequence[Waiting]) -> None:
        self.arcs.append(Arc(vertex, self._home(way.home), most, cost))
        self.ends.append((who, way))

    def solved(self, number: int) -> list[Seat]:
        """Everybody who starts or moves with the place for it, those who have started first."""
        kept = len(self.arcs)
        for vertex, workload, ways in self.waiting:
            for place, way in enumerate(ways):
                self._to(vertex, way, 1, place, (workload,))
        # Whoever comes first is worth more than all that moves and all who come later together cost each other.
        step = (1 + max(arc.cost for arc in self.arcs)) * (2 + len(self.homes))
        ends = len(self.arcs)
        for place, (vertex, _, _) in enumerate(self.waiting):
            self.arcs.append(Arc(vertex, 0, 1, step * (number - place)))
        for home, vertex in self.homes.items():
            self.arcs.append(Arc(vertex, 0, self._slots(home), 0))
        self.offered[0] = -sum(self.offered.values())
        units = cheapest_flow(self.arcs, self.offered)
        return [] if units is None else [*self._seats(units[:kept], 0), *self._seats(units[kept:ends], kept)]

    def _slots(self, home: Traits) -> int:
        """Replicas that the class has room for, with those of the size that it has now."""
        return self.here[home] + sum(entry.whole // self.devices for entry in self.bench.world.classes[home])

    def _seats(self, units: Sequence[int], first: int) -> list[Seat]:
        left: dict[int, list[Waiting]] = {}
        seats = []
        for number, at in zip(units, range(first, first + len(units)), strict=True):
            who, way = self.ends[at]
            going = left.setdefault(self.arcs[at].tail, list(who)) if who else []
            moving = [going.pop() for _ in range(number if who else 0)]
            seats += [Seat(workload, way.request, way.home.supply, (way.home,)) for workload in moving]
        return seats
