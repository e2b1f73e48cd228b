"""The sieve: of many nodes the few among which a gang's places will be, found with whole columns at once.

What it leaves out, the rules of `placement` would not have taken: laying a gang out on what is left gives the same layout.
Where it cannot be sure of that, it leaves out no more than nodes without room for a single replica, or nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from math import inf

import numpy as np
from numpy.typing import NDArray

from corral.api import WHOLE
from corral.policy import TopologyProfile
from domain.placement.draft import capacity, fullest_fit
from domain.placement.outline import Outline, outline
from domain.placement.topology import Ask, ask_for
from domain.pool.fleet import NODE_LEVEL, Amount
from domain.pool.stock import Compute, ComputeAll, NodeRoom, Numbers, Stock, in_order, parts_of
from domain.worlds.request import Gang, Shape, Unit, asks_for_something
from domain.worlds.world import Nodes

Mask = NDArray[np.bool_]

WORTH_SIFTING = 24
"""Fewer nodes are as soon looked at one by one."""


def narrowed(gang: Gang, nodes: Nodes, profile: TopologyProfile) -> Nodes | None:
    """The nodes among which the gang would be laid out, or none where it surely has no room; see the module."""
    parts = parts_of(nodes)
    if len(nodes) < WORTH_SIFTING or not parts:
        return nodes
    rooms = {shape: [capacities(shape, part) for part in parts] for shape in gang.shapes}
    if any(shape.minimum > _total(rooms[shape], shape.minimum) for shape in gang.shapes):
        return None
    units = gang.units(each_alone=profile.ranks_unconstrained)
    if len(units) > 1:
        return nodes
    if not asks_for_something(units[0].topology) and not profile.ranks_unconstrained:
        return _first_in_order(gang.shapes, parts, rooms) if _is_plain(gang.shapes) else nodes
    if len(gang.shapes) > 1 or profile in {TopologyProfile.PACKED, TopologyProfile.BALANCED}:
        return nodes
    return _in_domains(units[0], parts, rooms[gang.shapes[0]], profile)


def with_room(shapes: Sequence[Shape], nodes: Nodes) -> Nodes:
    """The nodes that take a replica of the only group, if there is but one; else all."""
    parts = parts_of(nodes)
    if len(shapes) > 1 or len(nodes) < WORTH_SIFTING or not (parts and _are_alike(parts)):
        return nodes
    kept = (part.entries(np.flatnonzero(takes_one(shapes[0], part)).tolist()) for part in parts)
    return in_order(chain.from_iterable(kept))


def whole_devices(nodes: Nodes) -> int:
    """Wholly free devices on all nodes."""
    parts = parts_of(nodes)
    return sum([part.whole_in_all for part in parts]) if parts else sum(entry.whole for entry in nodes)


def free_milli(nodes: Nodes) -> Amount:
    """Free thousandths on all nodes."""
    parts = parts_of(nodes)
    return sum(int(part.milli.sum()) for part in parts) if parts else sum(entry.milli for entry in nodes)


def surely_too_small(gang: Gang, nodes: Nodes) -> bool:
    """A cheap necessary condition, so that a full supply costs next to nothing; remembered by the nodes.

    Each group alone must have room for its minimum as far as devices and cpu go, over all nodes, and in some domain where
    the only group must sit in one; all groups together must have their whole devices.
    """
    least = outline(gang)
    if not (parts := parts_of(nodes)):
        return 0 < least.whole > whole_devices(nodes)
    return are_too_small(least, parts)


def are_too_small(least: Outline, parts: tuple[Stock, ...]) -> bool:
    """Whether these stocks together are surely too small for a gang with this outline; remembered by the first of them."""
    key = least if len(parts) == 1 else (least, parts[1:])
    if (known := parts[0].remembered.get(key)) is None:
        known = parts[0].remembered[key] = _is_too_small(least, parts)
    return bool(known)


def _is_too_small(least: Outline, parts: Sequence[Stock]) -> bool:
    if 0 < least.whole > sum([part.whole_in_all for part in parts]):
        return True
    for number, milli, cpu in least.sizes:
        if number > sum([_most(milli, cpu, part) for part in parts]):
            return True
    if least.level is None or len(parts) > 1 or not parts[0].has_level(least.level):
        return False
    number, milli, cpu = least.sizes[0]
    return number > _most_in_one(milli, cpu, least.level, parts[0])


def has_room(gang: Gang, nodes: Nodes, profile: TopologyProfile) -> bool | None:
    """Whether the gang has room, where sums of what nodes take are all that decides; none where it must be laid out.

    So it is with a single group, all of it or its minimum, that goes anywhere, into one domain or wherever it is nearest.
    """
    (shape, *others), level = gang.shapes, gang.topology.required
    is_simple = profile is TopologyProfile.BEST_FIT and 0 < shape.minimum >= gang.fewest and not others
    if not is_simple or shape.terms.topology is not None or gang.topology.slice_level or gang.topology.spread:
        return None
    if surely_too_small(gang, nodes):
        return False
    if (parts := parts_of(nodes)) and not _are_alike(parts):
        return None
    if not parts:
        return _has_room_one_by_one(shape, nodes, level)
    if level is not None and not parts[0].has_level(level):
        return None
    known = _memory_known(gang, parts)
    if known.most_that_fits < shape.memory_mib < known.least_that_does_not:
        known.note(shape.memory_mib, fits=_takes_all(shape, parts, level))
    return shape.memory_mib <= known.most_that_fits


def _takes_all(shape: Shape, parts: Sequence[Stock], level: str | None) -> bool:
    """Whether these stocks, or one domain of a level that all their nodes have, take the fewest replicas of a group."""
    rooms = [capacities(shape, part) for part in parts]
    if level is None:
        return shape.minimum <= _total(rooms, shape.minimum)
    domains = np.concatenate([part.domains(level) for part in parts])
    return shape.minimum <= int(np.bincount(domains, weights=np.concatenate(rooms)).max(initial=0))


@dataclass(slots=True)
class _MemoryKnown:
    """For how much memory a replica gangs that differ in nothing else have room: who needs less has room as well."""

    most_that_fits: float = -inf
    least_that_does_not: float = inf

    def note(self, memory_mib: int, *, fits: bool) -> None:
        """Know it of one of them."""
        if fits:
            self.most_that_fits = memory_mib
        else:
            self.least_that_does_not = memory_mib


def _memory_known(gang: Gang, parts: tuple[Stock, ...]) -> _MemoryKnown:
    """What is known of gangs with a single group like this one on these stocks; remembered by the first of them."""
    (shape,) = gang.shapes
    key = "memory", outline(gang), shape.terms if shape.terms.is_choosy else None, parts[1:]
    if (known := parts[0].remembered.get(key)) is None:
        known = parts[0].remembered[key] = _MemoryKnown()
    found: _MemoryKnown = known
    return found


def _are_alike(parts: Sequence[Stock]) -> bool:
    """Whether all nodes have the same topology levels."""
    return parts[0].levels is not None and all(part.levels == parts[0].levels for part in parts)


def _has_room_one_by_one(shape: Shape, nodes: Nodes, level: str | None) -> bool | None:
    if level is not None and len({entry.node.levels for entry in nodes}) > 1:
        return None
    inside: dict[tuple[str, ...] | None, int] = {}
    for entry in nodes:
        domain = () if level is None else entry.node.domain(level)
        if domain is not None and shape.terms.accept(entry.node):
            inside[domain] = inside.get(domain, 0) + capacity(entry.room, shape, shape.minimum)
            if inside[domain] >= shape.minimum:
                return True
    return False


def _most(milli: Amount, cpu_milli: int, stock: Stock) -> int:
    """How many replicas of a size all nodes would take as far as devices and cpu go."""
    return stock.total(*_devices_and_cpu(milli, cpu_milli))


def _most_in_one(milli: Amount, cpu_milli: int, level: str, stock: Stock) -> int:
    """The same of the domain of a level that takes most; all nodes have that level."""
    key = "most in one", level, milli, cpu_milli
    if (known := stock.remembered.get(key)) is None:
        numbers = _by_devices_and_cpu(milli, cpu_milli, stock)
        known = stock.remembered[key] = int(np.bincount(stock.domains(level), weights=numbers).max(initial=0))
    return known


def _is_plain(shapes: Sequence[Shape]) -> bool:
    """Whether the order in which groups are tried does not depend on how many nodes each accepts."""
    return len(shapes) == 1 or not any(shape.terms.is_choosy for shape in shapes)


def _total(rooms: Iterable[Numbers], most: int) -> int:
    """How many replicas fit in all, `most` of them counted on any node."""
    return sum(int(np.minimum(each, most).sum()) for each in rooms)


# How many replicas fit on each node


def capacities(shape: Shape, stock: Stock) -> Numbers:
    """How many replicas of a group each node has room for, by place; 0 where the group may not use it."""
    numbers = _by_devices_and_cpu(shape.milli, shape.cpu_milli, stock)
    if shape.memory_mib:
        numbers = np.minimum(numbers, np.maximum(stock.memory_mib // shape.memory_mib, 0))
    return np.where(accepts(shape, stock), numbers, 0) if shape.terms.is_choosy else numbers


def takes_one(shape: Shape, stock: Stock) -> Mask:
    """Whether each node has room for a replica of a group, by place."""
    takes: Mask = _by_devices_and_cpu(shape.milli, shape.cpu_milli, stock) > 0
    if shape.memory_mib:
        takes &= stock.memory_mib >= shape.memory_mib
    return takes & accepts(shape, stock) if shape.terms.is_choosy else takes


def accepts(shape: Shape, stock: Stock) -> Mask:
    """The nodes that a choosy group may use, by place."""
    key, terms = ("accepts", shape.terms.skus, shape.terms.nodes, shape.terms.tolerations), shape.terms
    return stock.column(key, lambda entry: int(terms.accept(entry.node))) > 0


def _by_devices_and_cpu(milli: Amount, cpu_milli: int, stock: Stock) -> Numbers:
    """The same as far as devices, cpu and the number of replicas go: kept, for few differ in these."""
    return stock.column(*_devices_and_cpu(milli, cpu_milli))


@lru_cache(maxsize=4096)
def _devices_and_cpu(milli: Amount, cpu_milli: int) -> tuple[object, Compute, ComputeAll]:
    """The column of that: its key, and how it is worked out."""
    bare = Shape("", milli, cpu_milli, 0, 0, 0)
    return ("capacity", milli, cpu_milli), partial(_capacity_of, bare), partial(_capacities_of, bare)


def _capacity_of(shape: Shape, entry: NodeRoom) -> int:
    number, milli = entry.room.replicas, shape.milli
    if milli >= WHOLE:
        number = min(number, entry.whole // shape.devices)
    elif milli:
        number = min(number, entry.room.shares(milli))
    if shape.cpu_milli:
        number = min(number, entry.room.cpu_milli // shape.cpu_milli)
    return max(number, 0)


def _capacities_of(shape: Shape, stock: Stock) -> Numbers:
    numbers = stock.replicas.copy()
    if shape.milli >= WHOLE:
        numbers = np.minimum(numbers, stock.whole // shape.devices)
    elif shape.milli:
        numbers = np.minimum(numbers, _shares(shape.milli, stock))
    if shape.cpu_milli:
        numbers = np.minimum(numbers, stock.cpu_milli // shape.cpu_milli)
    return np.maximum(numbers, 0)


def _shares(milli: Amount, stock: Stock) -> Numbers:
    """How many shares of devices each node has free."""
    shares = stock.whole * (WHOLE // milli)
    broken = np.flatnonzero(stock.milli != stock.whole * WHOLE)
    of_broken = [sum([free // milli for free in entry.broken]) for entry in stock.entries(broken.tolist())]
    shares[broken] += np.array(of_broken, np.int64)
    return shares


# Where no topology is asked for


Key = Callable[[Stock], Numbers]

ORDER: tuple[Key, ...] = (
    lambda stock: stock.free,
    lambda stock: stock.cpu_milli,
    lambda stock: stock.memory_mib,
)
"""What nodes of one price are in order by; among equals by their ids, which is by place."""


def _first_in_order(shapes: Sequence[Shape], parts: Sequence[Stock], rooms: dict[Shape, list[Numbers]]) -> Nodes:
    """As many nodes in order as the gang can need.

    Of several groups each may find the nodes that it would have begun with taken by those before it.
    """
    most = sum(shape.count for shape in shapes)
    return in_order(
        {
            entry.node.id: entry
            for shape in shapes
            for part, numbers in zip(parts, rooms[shape], strict=True)
            for entry in _first_of(shape, part, numbers, most)
        }.values()
    )


def _first_of(shape: Shape, stock: Stock, numbers: Numbers, most: int) -> Iterable[NodeRoom]:
    """The first nodes of one stock that a group would take."""
    return stock.entries(first(stock, numbers > 0, order_for(shape), most))


def order_for(shape: Shape) -> tuple[Key, ...]:
    """What nodes of one price are in order by for a group; for shares, those with broken devices that fit come first."""
    return _order_of_shares(shape.milli) if 0 < shape.milli < WHOLE else ORDER


@lru_cache(maxsize=WHOLE)
def _order_of_shares(milli: Amount) -> tuple[Key, ...]:
    key, compute = ("fit", milli), partial(_fullest_fit, milli)
    return lambda stock: stock.column(key, compute), *ORDER


def _price(stock: Stock) -> Numbers:
    return stock.price


def _fullest_fit(milli: int, entry: NodeRoom) -> int:
    return fullest_fit(entry, milli)


def first(stock: Stock, among: Mask, keys: Sequence[Key], most: int = 1) -> list[int]:
    """The first `most` of these places by price and then by the keys in turn, in no particular order."""
    found: list[int] = []
    (places,) = among.nonzero()
    for key in keys if stock.has_one_price else (_price, *keys):
        if len(places) <= most:
            break
        values = key(stock)[places]
        if most == 1:
            places = places[values == values.min()]
            continue
        last = np.partition(values, most - 1)[most - 1]
        before = places[values < last]
        found += before.tolist()
        most -= len(before)
        places = places[values == last]
    return [*found, *places[:most].tolist()]


# Where a topology is asked for


def _in_domains(unit: Unit, parts: Sequence[Stock], rooms: Sequence[Numbers], profile: TopologyProfile) -> Nodes:
    """The domain that takes all replicas, or else all nodes with room for any."""
    shape = unit.shapes[0]
    levels = parts[0].levels
    if levels is None or any(part.levels != levels for part in parts):
        return in_order(chain.from_iterable(part.in_order for part in parts))
    named = (*levels, NODE_LEVEL)
    ask = ask_for(shape, None, unit.topology, named, profile)
    kept = [numbers > 0 for numbers in rooms]
    if ask is not None and not (ask.sliced or ask.least_free or ask.is_spread):
        kept = _tightest(ask, named, parts, rooms) or kept
    return in_order(
        chain.from_iterable(part.entries(np.flatnonzero(keeps).tolist()) for part, keeps in zip(parts, kept, strict=True))
    )


def _tightest(ask: Ask, levels: Sequence[str], parts: Sequence[Stock], rooms: Sequence[Numbers]) -> list[Mask] | None:
    """Masks of the nodes in the domain with least room of those that take the whole group, at the narrowest level with any.

    Among equal nodes the cheapest is taken, so that all of these are kept.
    """
    count = ask.shape.count
    for level in range(ask.first, ask.widest - 1, -1):
        domains = [part.domains(levels[level]) for part in parts]
        size = parts[0].domain_count(levels[level])
        inside = sum(
            (np.bincount(each, weights=numbers, minlength=size) for each, numbers in zip(domains, rooms, strict=True)),
            np.zeros(size),
        )
        fitting = np.flatnonzero(inside >= count)
        if len(fitting):
            tight = fitting[inside[fitting] == inside[fitting].min()]
            chosen = tight if level == len(levels) - 1 else tight[:1]
            return [np.isin(each, chosen) & (numbers > 0) for each, numbers in zip(domains, rooms, strict=True)]
    return None
