"""Placement: which nodes and devices a gang gets, whole or not at all."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from operator import itemgetter

from corral.api import WHOLE, Reason, Topology, WorkloadSpec
from domain.decision import Rejection
from domain.fleet import Amount, NodeShare, Placement, Replica, Room
from domain.quota import Usage
from domain.request import Gang, Request, Shape
from domain.world import NodeRoom, Nodes, Supply, with_rooms


@dataclass(frozen=True, slots=True)
class Layout:
    """A gang on nodes: its share of each, whether every replica that was wanted found room, and the nodes afterwards."""

    shares: tuple[NodeShare, ...]
    is_whole: bool
    left: tuple[NodeRoom, ...]

    @property
    def milli(self) -> Amount:
        """Thousandths in all."""
        return sum(share.room.milli for share in self.shares)

    @property
    def replicas(self) -> int:
        """Replicas in all."""
        return sum(len(share.replicas) for share in self.shares)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A placement that is possible, how it lies on its nodes, the gang that was wanted, and by whom."""

    placement: Placement
    layout: Layout
    wanted: Gang
    spec: WorkloadSpec


def best_on(request: Request, supply: Supply, nodes: Nodes, usage: Usage) -> Candidate | None:
    """Place a request on the nodes of one supply within its quota, or none when either is short."""
    spec, gang = request.spec, request.gang
    quota = usage.allowed(spec, supply.sku)
    if quota < gang.minimum_milli:
        return None
    layout = lay_out(gang.within(quota), nodes)
    if layout is None:
        return None
    return Candidate(Placement(supply.provider, supply.region, supply.sku, layout.shares, request.index), layout, gang, spec)


def why_not_on(request: Request, supply: Supply, nodes: Nodes, usage: Usage) -> Rejection:
    """Why `best_on` found nothing: the quota, or else the room."""
    spec, needed = request.spec, request.gang.minimum_milli
    no_quota = usage.refusal(spec, supply.sku, needed)
    return no_quota or why_no_room(request.gang, nodes)


def lay_out(gang: Gang, nodes: Nodes) -> Layout | None:
    """Lay the gang out on nodes of one provider, region and SKU, or none when there is no room.

    The preferred topology is tried first, then the required one, then (where none is required) all nodes together.
    """
    if _surely_too_small(gang, nodes):
        return None
    layouts = (_in_one_domain(gang, domains(nodes, levels)) for levels in _levels(gang.topology))
    return next((layout for layout in layouts if layout is not None), None)


def _levels(topology: Topology) -> Iterator[tuple[str, ...]]:
    required = (topology.required,) if topology.required else ()
    if topology.preferred:
        yield (*required, topology.preferred)
    yield required


def domains(nodes: Nodes, levels: tuple[str, ...]) -> tuple[Nodes, ...]:
    """The nodes by the topology domain of the given levels that they share; nodes without such a level are left out."""
    if not levels:
        return (nodes,)
    by_path: dict[tuple[tuple[str, ...], ...], list[NodeRoom]] = {}
    for entry in nodes:
        path = tuple(domain for level in levels if (domain := entry.node.domain(level)) is not None)
        if len(path) == len(levels):
            by_path.setdefault(path, []).append(entry)
    return tuple(tuple(by_path[path]) for path in sorted(by_path))


def _in_one_domain(gang: Gang, candidates: Sequence[Nodes]) -> Layout | None:
    """The domain with least room of those that take the whole gang, else the one in which it can grow most."""
    best: Layout | None = None
    for nodes in sorted(candidates, key=_free_milli) if len(candidates) > 1 else candidates:
        layout = fill(gang, nodes)
        if layout is not None and layout.is_whole:
            return layout
        if layout is not None and (best is None or layout.replicas > best.replicas):
            best = layout
    return best


def _free_milli(nodes: Nodes) -> Amount:
    return sum(entry.milli for entry in nodes)


def fill(gang: Gang, nodes: Nodes) -> Layout | None:
    """Place every group's minimum or nothing, then let each group grow toward its count while there is room."""
    draft = _Draft(nodes)
    if _surely_too_small(gang, nodes):
        return None
    for shape in sorted(gang.shapes, key=lambda shape: (-shape.milli, -shape.cpu_milli, -shape.memory_mib, shape.name)):
        if draft.add(shape, shape.minimum) < shape.minimum:
            return None
    wished = [(shape, shape.count - shape.minimum) for shape in gang.shapes if shape.count > shape.minimum]
    grown = sum(draft.add(shape, extra) for shape, extra in wished)
    return Layout(draft.shares(), grown == sum(extra for _, extra in wished), draft.left())


def _surely_too_small(gang: Gang, nodes: Nodes) -> bool:
    """A cheap necessary condition, so that a full domain costs next to nothing."""
    whole = sum(shape.minimum * shape.devices for shape in gang.shapes)
    return whole > 0 and sum(entry.whole for entry in nodes) < whole


class _Draft:
    """A layout in the making; it lives inside one call."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._before: dict[str, NodeRoom] = {}
        self._rooms: dict[str, Room] = {}
        self._replicas: dict[str, list[Replica]] = {}
        self._placed: dict[str, int] = {}

    def add(self, shape: Shape, most: int) -> int:
        """Place up to `most` further replicas, the fullest nodes first; gives how many found room."""
        if self._rooms:
            self._nodes = with_rooms(self._nodes, self._rooms)
        missing = most
        for entry in offered(shape, self._nodes):
            if missing == 0:
                break
            missing -= self._add_to(entry, shape, missing)
        return most - missing

    def _add_to(self, entry: NodeRoom, shape: Shape, most: int) -> int:
        node_id = entry.node.id
        number = min(most, capacity(entry.room, shape))
        if number == 0:
            return 0
        self._before.setdefault(node_id, entry)
        first = self._placed.get(shape.name, 0)
        room, replicas = assign(entry.room, shape, range(first, first + number))
        self._placed[shape.name] = first + number
        self._rooms[node_id] = room
        self._replicas.setdefault(node_id, []).extend(replicas)
        return number

    def shares(self) -> tuple[NodeShare, ...]:
        """What the gang has on each node, by node id."""
        return tuple(
            NodeShare(node_id, self._before[node_id].room - self._rooms[node_id], tuple(self._replicas[node_id]))
            for node_id in sorted(self._rooms)
        )

    def left(self) -> tuple[NodeRoom, ...]:
        """The nodes that the gang sits on, with the room that it leaves."""
        return tuple(NodeRoom.of(self._before[node_id].node, self._rooms[node_id]) for node_id in sorted(self._rooms))


def offered(shape: Shape, nodes: Nodes) -> Iterable[NodeRoom]:
    """Nodes with devices for a replica, in the order in which it tries them.

    Whole devices come from the fullest node. A share of a device goes to the fullest broken device anywhere, so that none is
    broken without need.
    """
    if shape.devices:
        return (entry for entry in nodes if entry.whole >= shape.devices)
    if not shape.milli:
        return nodes
    fits = [(fit, entry.order, entry) for entry in nodes if (fit := _fullest_fit(entry, shape.milli)) is not None]
    broken = [entry for *_, entry in sorted(fits, key=itemgetter(0, 1))]
    named = {entry.node.id for entry in broken}
    return chain(broken, (entry for entry in nodes if entry.whole and entry.node.id not in named))


def _fullest_fit(entry: NodeRoom, milli: Amount) -> Amount | None:
    """What is left of the fullest broken device that still has this much."""
    return next((free for free in entry.broken if free >= milli), None)


def capacity(room: Room, shape: Shape) -> int:
    """How many replicas of the shape fit on one node's room, `count` at most."""
    bounds = [shape.count]
    if shape.devices:
        bounds.append(room.whole_devices // shape.devices)
    elif shape.milli:
        bounds.append(sum(free // shape.milli for free in room.devices))
    if shape.cpu_milli:
        bounds.append(room.cpu_milli // shape.cpu_milli)
    if shape.memory_mib:
        bounds.append(room.memory_mib // shape.memory_mib)
    return max(0, min(bounds))


def assign(room: Room, shape: Shape, indices: range) -> tuple[Room, list[Replica]]:
    """Give each replica its devices on one node; gives the room that is left. The replicas must fit."""
    free = list(room.devices)
    replicas = []
    for index in indices:
        devices = _devices(free, shape)
        for device in devices:
            free[device] -= min(shape.milli, WHOLE)
        replicas.append(Replica(shape.name, index, devices))
    number = len(indices)
    left = Room(tuple(free), room.cpu_milli - number * shape.cpu_milli, room.memory_mib - number * shape.memory_mib)
    return left, replicas


def _devices(free: Sequence[Amount], shape: Shape) -> tuple[int, ...]:
    """Indices of the first wholly free devices, or of the fullest device with enough left for a share."""
    if shape.devices:
        return tuple([device for device, amount in enumerate(free) if amount == WHOLE][: shape.devices])
    if not shape.milli:
        return ()
    return (min((amount, device) for device, amount in enumerate(free) if amount >= shape.milli)[1],)


def why_no_room(gang: Gang, nodes: Nodes) -> Rejection:
    """The first thing that is short for the gang's minimum: devices, then cpu and memory, then room in one topology domain.

    Needs and has are thousandths of an accelerator (for a gang of one replica: on one node), or replicas for cpu and memory.
    """
    least = replace(gang.at_minimum(), topology=Topology())
    bare = replace(least, shapes=tuple(replace(shape, cpu_milli=0, memory_mib=0) for shape in least.shapes))
    milli, replicas = gang.minimum_milli, gang.minimum_replicas
    if fill(bare, nodes) is None:
        has = most_on_one(nodes) if gang.is_single else _most_milli(bare, [nodes])
        return Rejection("", Reason.NOT_ENOUGH_FREE_ACCELERATORS, milli, has)
    if fill(least, nodes) is None:
        return Rejection("", Reason.NOT_ENOUGH_FREE_CPU_OR_MEMORY, replicas, _most_replicas(least, nodes))
    level = gang.topology.required or ""
    return Rejection(level, Reason.TOPOLOGY_DOMAIN_TOO_SMALL, milli, _most_milli(least, domains(nodes, (level,))))


def most_on_one(nodes: Nodes) -> Amount:
    """The most thousandths in whole devices that one of the nodes has free."""
    return max((entry.whole for entry in nodes), default=0) * WHOLE


def _most_milli(gang: Gang, candidates: Iterable[Nodes]) -> Amount:
    """The most thousandths of the gang's minimum for which one of the domains has room."""
    most = 0
    for nodes in sorted(candidates, key=_free_milli, reverse=True):
        if _free_milli(nodes) <= most:
            break
        most = max(most, sum(number * shape.milli for shape, number in _partly(gang, nodes)))
    return most


def _most_replicas(gang: Gang, nodes: Nodes) -> int:
    return sum(number for _, number in _partly(gang, nodes))


def _partly(gang: Gang, nodes: Nodes) -> list[tuple[Shape, int]]:
    """How many of each group's fewest replicas find room when the gang need not be whole."""
    draft = _Draft(nodes)
    return [(shape, draft.add(shape, shape.minimum)) for shape in sorted(gang.shapes, key=lambda shape: -shape.milli)]
