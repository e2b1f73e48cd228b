"""The supply: nodes, what is free on them, and the part of a node that one attempt has."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from corral.api import WHOLE, CapacityType

Amount = int
"""Thousandths of an accelerator."""

UNLIMITED_REPLICAS = 10**9
"""More replicas than any node could be asked to take."""

NODE_LEVEL = "node"
"""The narrowest topology level, which every node has without saying so: the node itself."""


class Health(StrEnum):
    """Whether a node may be given work; only `ready` ones get any.

    Those that are `coming` have been asked for, and those that are `possible` could be: neither is there.
    """

    READY = "ready"
    CORDONED = "cordoned"
    DRAINING = "draining"
    SUSPECT = "suspect"
    LOST = "lost"
    COMING = "coming"
    POSSIBLE = "possible"

    @property
    def is_there(self) -> bool:
        """The node exists, in whatever state."""
        return self not in {Health.COMING, Health.POSSIBLE}


@dataclass(frozen=True, slots=True)
class Room:
    """Room on one node: thousandths per device (by index), cpu in thousandths of a core, memory in MiB, and replicas.

    What is free takes so many more `replicas`; what somebody has counts those in it.
    """

    devices: tuple[Amount, ...]
    cpu_milli: int
    memory_mib: int
    replicas: int = UNLIMITED_REPLICAS

    def __sub__(self, other: "Room") -> "Room":
        return Room(
            tuple([mine - its for mine, its in zip(self.devices, other.devices, strict=True)]),
            self.cpu_milli - other.cpu_milli,
            self.memory_mib - other.memory_mib,
            self.replicas - other.replicas,
        )

    def __add__(self, other: "Room") -> "Room":
        return Room(
            tuple([mine + its for mine, its in zip(self.devices, other.devices, strict=True)]),
            self.cpu_milli + other.cpu_milli,
            self.memory_mib + other.memory_mib,
            self.replicas + other.replicas,
        )

    @property
    def not_negative(self) -> "Room":
        """The same where nothing is less than none."""
        devices = tuple([max(0, milli) for milli in self.devices])
        return Room(devices, max(0, self.cpu_milli), max(0, self.memory_mib), max(0, self.replicas))

    @property
    def whole_devices(self) -> int:
        """Devices of which nothing is used."""
        return self.devices.count(WHOLE)

    @property
    def milli(self) -> Amount:
        """Thousandths over all devices."""
        return sum(self.devices)

    def shares(self, milli: Amount) -> int:
        """How many shares of this size fit, each on one device; one of which more is set aside than is free takes none."""
        return sum([free // milli for free in self.devices if free >= milli])


@dataclass(frozen=True, slots=True)
class Node:
    """One machine as last observed.

    `topology` is its place as (level, domain) pairs, widest first; `free` is what nobody uses and nobody was promised.
    `price` is in millionths of a dollar per accelerator and hour. How many more replicas it takes follows from
    `maximum_replicas` and from what runs there: the rooms of a node do not say it.
    """

    id: str
    provider: str
    region: str
    cluster: str
    sku: str
    topology: tuple[tuple[str, str], ...]
    total: Room
    free: Room
    health: Health = Health.READY
    capacity_type: CapacityType = CapacityType.ON_DEMAND
    price: int = 0
    taints: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    maximum_replicas: int | None = None
    """The most replicas that the node takes, whatever room it has; none does not limit."""
    interruptions: int | None = None
    """How often in a million hours its provider takes it back; none: as often as the policy says of its capacity type."""
    available_until: datetime | None = None
    """When its block ends, and its provider takes it back; none where it has no end."""
    node_pool: str | None = None
    """The node pool that it was provisioned from; none where it was not."""
    observed: Health = Health.READY
    """What was observed of it; what was ordered of it is told before that by its health."""
    levels: tuple[str, ...] = field(init=False, compare=False, repr=False)
    """The names of its topology levels, widest first."""
    path: tuple[str, ...] = field(init=False, compare=False, repr=False)
    """Its domain at each of these levels, and itself."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple([level for level, _ in self.topology]))
        object.__setattr__(self, "path", (*[domain for _, domain in self.topology], self.id))

    def domain(self, level: str) -> tuple[str, ...] | None:
        """The node's path down to a level, or none when the node has no such level."""
        if level in self.levels:
            return self.path[: self.levels.index(level) + 1]
        return self.path if level == NODE_LEVEL else None

    @property
    def most_replicas(self) -> int:
        """Replicas that the node takes when idle."""
        return UNLIMITED_REPLICAS if self.maximum_replicas is None else self.maximum_replicas


@dataclass(frozen=True, slots=True)
class Replica:
    """One placed copy: the `index`-th of its group, on these devices of its node."""

    group: str
    index: int
    devices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NodeShare:
    """What one attempt has on one node; its room counts as many replicas as it names."""

    node_id: str
    room: Room
    replicas: tuple[Replica, ...]
    sku: str = ""
    """The SKU of the node where the gang spans several; the placement's own where empty."""

    def __post_init__(self) -> None:
        number = len(self.replicas)
        if self.room.replicas != number:
            object.__setattr__(self, "room", replace(self.room, replicas=number))


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a gang goes: one provider, region and (but for gangs whose groups name others) SKU, its share of each node.

    `target` is the index in the spec's targets that it answers, or none where the spec names none.
    """

    provider: str
    region: str
    sku: str
    shares: tuple[NodeShare, ...]
    target: int | None = None
    milli: Amount = field(init=False, compare=False, repr=False)
    """Thousandths of an accelerator in all."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "milli", sum([share.room.milli for share in self.shares]))

    @property
    def by_sku(self) -> dict[str, Amount]:
        """Thousandths of an accelerator of each SKU."""
        if not any(share.sku for share in self.shares):
            return {self.sku: self.milli}
        amounts: dict[str, Amount] = {self.sku: 0}
        for share in self.shares:
            sku = share.sku or self.sku
            amounts[sku] = amounts.get(sku, 0) + share.room.milli
        return amounts

    @property
    def replicas(self) -> int:
        """Replicas in all."""
        return sum(len(share.replicas) for share in self.shares)


def taken(nodes: Iterable[Node], placements: Iterable[Placement]) -> tuple[Node, ...]:
    """The nodes without the room that these placements have; what is promised there may be more than is free by now."""
    rooms: dict[str, Room] = {}
    for placement in placements:
        for share in placement.shares:
            rooms[share.node_id] = rooms[share.node_id] + share.room if share.node_id in rooms else share.room
    return tuple(replace(node, free=(node.free - rooms[node.id]).not_negative) if node.id in rooms else node for node in nodes)
