"""Drafts: a layout in the making, replica by replica onto the devices of nodes."""

from collections.abc import Iterable, Sequence
from operator import itemgetter

from corral.api import WHOLE
from domain.pool.fleet import Amount, NodeShare, Replica, Room
from domain.pool.stock import NodeRoom
from domain.worlds.request import Shape
from domain.worlds.world import Nodes, with_rooms

UNBROKEN: Amount = WHOLE
"""More than a broken device has free."""


class Draft:
    """Lives inside one call: nodes, and the replicas that have been put on them so far."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._stale: set[str] = set()
        self._before: dict[str, NodeRoom] = {}
        self._rooms: dict[str, Room] = {}
        self._replicas: dict[str, list[Replica]] = {}
        self._placed: dict[str, int] = {}

    @property
    def nodes(self) -> Nodes:
        """The nodes with the room that the replicas so far leave, in order."""
        if self._stale:
            self._nodes = with_rooms(self._nodes, {node_id: self._rooms[node_id] for node_id in self._stale})
            self._stale = set()
        return self._nodes

    @property
    def replicas(self) -> int:
        """Replicas so far."""
        return sum(self._placed.values())

    def copy(self) -> "Draft":
        """Another draft that begins as this one is."""
        other = Draft(self.nodes)
        other._before, other._rooms, other._placed = dict(self._before), dict(self._rooms), dict(self._placed)
        other._replicas = {node_id: list(replicas) for node_id, replicas in self._replicas.items()}
        return other

    def add(self, shape: Shape, most: int, nodes: Nodes | None = None) -> int:
        """Place up to `most` further replicas, the fullest nodes (of the given ones) first; gives how many found room."""
        missing = most
        for entry in offered(shape, self.nodes if nodes is None else nodes):
            if missing == 0:
                break
            missing -= self.add_to(entry, shape, missing)
        return most - missing

    def add_to(self, entry: NodeRoom, shape: Shape, most: int, device: int | None = None) -> int:
        """Place up to `most` further replicas on one node (shares on one device, if it is given); gives how many found room."""
        node_id = entry.node.id
        room = self._rooms.get(node_id, entry.room)
        number = capacity(room, shape, most)
        if number == 0:
            return 0
        self._before.setdefault(node_id, entry)
        first = self._placed.get(shape.name, 0)
        left, replicas = assign(room, shape, range(first, first + number), device)
        self._placed[shape.name] = first + number
        self._rooms[node_id] = left
        self._stale.add(node_id)
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


def accepted(shape: Shape, nodes: Nodes) -> Nodes:
    """The nodes that the group may use, in their order."""
    if not shape.terms.is_choosy:
        return nodes
    return tuple([entry for entry in nodes if shape.terms.accept(entry.node)])


def offered(shape: Shape, nodes: Nodes) -> Iterable[NodeRoom]:
    """Nodes with devices for a replica, in the order in which it tries them.

    Whole devices come from the fullest node. A share of a device goes to the fullest broken device of any of the cheapest
    nodes, so that none is broken without need, and none dearer is taken for that.
    """
    nodes = accepted(shape, nodes)
    if shape.devices:
        return (entry for entry in nodes if entry.whole >= shape.devices)
    if not shape.milli:
        return nodes
    fits = [(entry.node.price, fullest_fit(entry, shape.milli), entry.order, entry) for entry in nodes]
    return [entry for _, fit, _, entry in sorted(fits, key=itemgetter(0, 1, 2)) if fit < UNBROKEN or entry.whole]


def fullest_fit(entry: NodeRoom, milli: Amount) -> Amount:
    """What is free of the fullest broken device that still has this much; more than any has where no broken one does."""
    return next((free for free in entry.broken if free >= milli), UNBROKEN)


def capacity(room: Room, shape: Shape, most: int) -> int:
    """How many replicas of the shape fit on one node's room, `most` at most."""
    number = min(most, room.replicas)
    if shape.milli >= WHOLE:
        number = min(number, room.whole_devices // shape.devices)
    elif shape.milli:
        number = min(number, room.shares(shape.milli))
    if shape.cpu_milli:
        number = min(number, room.cpu_milli // shape.cpu_milli)
    if shape.memory_mib:
        number = min(number, room.memory_mib // shape.memory_mib)
    return max(0, number)


def assign(room: Room, shape: Shape, indices: range, device: int | None = None) -> tuple[Room, list[Replica]]:
    """Give each replica its devices on one node, or its share of one; gives the room that is left. The replicas must fit."""
    free, milli = list(room.devices), min(shape.milli, WHOLE)
    replicas = []
    for index in indices:
        devices = _devices(free, shape) if device is None else (device,)
        for each in devices:
            free[each] -= milli
        replicas.append(Replica(shape.name, index, devices))
    number = len(indices)
    left = Room(
        tuple(free),
        room.cpu_milli - number * shape.cpu_milli,
        room.memory_mib - number * shape.memory_mib,
        room.replicas - number,
    )
    return left, replicas


def _devices(free: Sequence[Amount], shape: Shape) -> tuple[int, ...]:
    """Indices of the first wholly free devices, or of the fullest device with enough left for a share."""
    if shape.devices:
        return tuple([device for device, amount in enumerate(free) if amount == WHOLE][: shape.devices])
    if not shape.milli:
        return ()
    return (min((amount, device) for device, amount in enumerate(free) if amount >= shape.milli)[1],)
