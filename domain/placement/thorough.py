"""Thorough: a gang on a few nodes, found by trying one way after the other where the quick rules found none.

Groups that share nodes, slices of which the last is smaller, and replicas that keep apart may be refused by the quick rules of
`placement` though they fit. How much is tried is bounded in steps, so that the answer depends on nothing else.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from corral.api import WHOLE, Topology
from domain.placement.draft import Draft, accepted, assign, capacity
from domain.placement.topology import spread_of
from domain.pool.fleet import Room
from domain.pool.stock import NodeRoom
from domain.worlds.request import Shape, Unit
from domain.worlds.world import Nodes

MOST_STEPS = 1_000
"""How often a number of replicas is put somewhere before the search is given up."""

MOST_SPOTS = 256
"""Nodes (for a share: their devices) over all groups: with more of them the quick rules have the last word."""

Domains = Callable[[Topology, Nodes], Iterator[Nodes]]
"""Where a unit with this topology may sit, the best first: all of it among the nodes of one of these."""

Path = tuple[str, ...]


def tried(units: Sequence[Unit], nodes: Nodes, domains: Domains) -> Draft | None:
    """Every group at its count, or none where no way was found."""
    shapes = [shape for unit in units for shape in unit.shapes]
    if not _may_be_overlooked(units) or _is_too_much(shapes, nodes):
        return None
    tasks = [(at, unit, shape) for at, unit in enumerate(units) for shape in unit.shapes if shape.count]
    if sum(len(_devices(shape, entry.room)) for shape in shapes for entry in nodes) > MOST_SPOTS:
        return None
    search = _Search(nodes, tasks, domains)
    return search.draft() if search.goes_on(0) else None


def _may_be_overlooked(units: Sequence[Unit]) -> bool:
    """Whether the quick rules may refuse what fits."""
    several = sum(len(unit.shapes) for unit in units) > 1
    return several or any(unit.topology.slice_level or unit.topology.spread for unit in units)


def _is_too_much(shapes: Sequence[Shape], nodes: Nodes) -> bool:
    """Whether all groups together exceed all nodes, or one of them what has room for it alone."""
    rooms = [entry.room.not_negative for entry in nodes]
    return (
        sum(shape.count * shape.milli for shape in shapes) > sum(room.milli for room in rooms)
        or sum(shape.count * shape.cpu_milli for shape in shapes) > sum(room.cpu_milli for room in rooms)
        or sum(shape.count * shape.memory_mib for shape in shapes) > sum(room.memory_mib for room in rooms)
        or any(
            shape.count > sum(capacity(each.room, shape, shape.count) for each in accepted(shape, nodes)) for shape in shapes
        )
    )


def _devices(shape: Shape, room: Room) -> Sequence[int | None]:
    """For a share the devices of which it may be one, the fullest first; whole ones are all alike."""
    if not 0 < shape.milli < WHOLE:
        return (None,)
    return sorted(range(len(room.devices)), key=room.devices.__getitem__)


@dataclass(frozen=True, slots=True)
class _Spot:
    """A node, or for a share one of its devices; and the domains that count there for slices and for the spread."""

    entry: NodeRoom
    device: int | None
    slice: Path
    apart: Path

    def takes(self, room: Room, shape: Shape, most: int) -> int:
        """How many replicas of a group, where the node has this room."""
        number = capacity(room, shape, most)
        return number if self.device is None else min(number, max(0, room.devices[self.device]) // shape.milli)


@dataclass(frozen=True, slots=True)
class _Filling:
    """One group on the way: where it may go, and what slices and spread ask; `beyond` is what the spots from each on take."""

    at: int
    shape: Shape
    size: int
    most_apart: int
    spots: Sequence[_Spot]
    beyond: Sequence[int]


@dataclass(slots=True)
class _Search:
    """Lives inside one call: what goes where so far, and the room that it leaves."""

    nodes: Nodes
    tasks: Sequence[tuple[int, Unit, Shape]]
    domains: Domains
    steps: int = MOST_STEPS
    rooms: dict[str, Room] = field(default_factory=dict)
    inside: dict[int, Nodes] = field(default_factory=dict)
    taken: list[tuple[int, _Spot, int]] = field(default_factory=list)

    def goes_on(self, at: int) -> bool:
        """Whether the groups from this one on have room beside those before them."""
        if at == len(self.tasks):
            return True
        number, unit, shape = self.tasks[at]
        if number in self.inside:
            return self._has_room(at, shape, unit.topology, self.inside[number])
        for nodes in self.domains(unit.topology, self.nodes):
            self.inside[number] = nodes
            if self._has_room(at, shape, unit.topology, nodes):
                return True
        self.inside.pop(number, None)
        return False

    def _has_room(self, at: int, shape: Shape, asked: Topology, nodes: Nodes) -> bool:
        topology = shape.terms.topology or asked
        spread, size = spread_of(topology, shape), topology.slice_size or 1
        spots = list(self._spots(shape, topology, nodes))
        numbers = [spot.takes(self._room(spot.entry), shape, shape.count) for spot in reversed(spots)]
        beyond = list(accumulate(numbers, initial=0))[::-1]
        filling = _Filling(at, shape, size, spread.maximum if spread else shape.count, spots, beyond)
        return self._fills(filling, 0, shape.count, 0, shape.count % size, Counter())

    def _spots(self, shape: Shape, topology: Topology, nodes: Nodes) -> Iterable[_Spot]:
        """Where the group may go, one domain of slices after the other; there the cheapest and fullest nodes first."""
        spread, found = spread_of(topology, shape), list[_Spot]()
        for entry in accepted(shape, nodes):
            slices = entry.node.domain(topology.slice_level) if topology.slice_level else ()
            apart = entry.node.domain(spread.level) if spread else ()
            if slices is not None and apart is not None:
                found += [_Spot(entry, device, slices, apart) for device in _devices(shape, self._room(entry))]
        return sorted(found, key=lambda spot: spot.slice)

    def _fills(self, filling: _Filling, place: int, left: int, inside: int, rest: int, apart: Counter[Path]) -> bool:
        """Whether so many more replicas have room from a spot on, and the groups after them then.

        `inside` of them are in the domain of slices so far. One domain may have `rest` beyond whole slices.
        """
        if left == 0:
            return inside % filling.size in {0, rest} and self.goes_on(filling.at + 1)
        if filling.beyond[place] < left:
            return False
        spot = filling.spots[place]
        if place and spot.slice != filling.spots[place - 1].slice:
            if inside % filling.size not in {0, rest}:
                return False
            inside, rest = 0, 0 if inside % filling.size else rest
        room = self._room(spot.entry)
        most = min(spot.takes(room, filling.shape, left), filling.most_apart - apart[spot.apart])
        for number in range(most, -1, -1):
            self.steps -= 1
            if self.steps < 0:
                return False
            self._put(filling, spot, room, number)
            apart[spot.apart] += number
            if self._fills(filling, place + 1, left - number, inside + number, rest, apart):
                return True
            apart[spot.apart] -= number
            self.taken.pop()
        self.rooms[spot.entry.node.id] = room
        return False

    def _put(self, filling: _Filling, spot: _Spot, room: Room, number: int) -> None:
        self.rooms[spot.entry.node.id] = assign(room, filling.shape, range(number), spot.device)[0]
        self.taken.append((filling.at, spot, number))

    def _room(self, entry: NodeRoom) -> Room:
        return self.rooms.get(entry.node.id, entry.room)

    def draft(self) -> Draft:
        """What was found: replicas by their slices, of which the one that is smaller comes last."""
        found = Draft(self.nodes)
        for at, (_, unit, shape) in enumerate(self.tasks):
            own = [(spot, number) for task, spot, number in self.taken if task == at and number]
            in_slices = Counter[Path]()
            for spot, number in own:
                in_slices[spot.slice] += number
            size = (shape.terms.topology or unit.topology).slice_size or 1
            for spot, number in sorted(own, key=lambda each: in_slices[each[0].slice] % size):
                found.add_to(spot.entry, shape, number, spot.device)
        return found
