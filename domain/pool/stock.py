"""Stock: nodes of like traits with the room that they have in one world, as values whose next versions cost what changes.

All versions of one stock share a shelf, which holds the numbers of one of them at a time; a version that is asked moves the
shelf back or forth by the changes that lie between (persistent arrays by rerooting: Baker, "Shallow binding makes functional
arrays fast", 1991). So a version costs what it changes, and whoever works with the newest one never waits. Versions of one
stock belong to one thread at a time.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from corral.api import WHOLE
from domain.pool.fleet import NODE_LEVEL, Amount, Node, Room

Numbers = NDArray[np.int64]
"""One number for each node of a shelf, by its place there."""

Places = NDArray[np.intp]
"""Places on a shelf: nodes by their ids in order."""

Order = tuple[int, int, Amount, int, int, str]

MANY = 8
"""Changes: as many are brought up to date at once."""

ROUNDS_UNASKED = 4
"""For so many rounds a column is kept that nobody asks for: rounds in which little is to be had are followed by others."""


@dataclass(frozen=True, slots=True)
class NodeRoom:
    """A node with the room that it has in one world.

    `whole` counts its wholly free devices, `broken` has what is left of those in part use, the fullest first. `order` sorts
    cheap nodes first, and the fullest first among equal prices.
    """

    node: Node
    room: Room
    whole: int
    broken: tuple[Amount, ...]
    milli: Amount
    order: Order

    @classmethod
    def of(cls, node: Node, room: Room) -> "NodeRoom":
        """The node with this much room."""
        whole = room.whole_devices
        is_broken = whole + room.devices.count(0) < len(room.devices)
        broken = tuple(sorted(free for free in room.devices if 0 < free < WHOLE)) if is_broken else ()
        milli = whole * WHOLE + sum(broken)
        return cls(node, room, whole, broken, milli, (node.price, whole, milli, room.cpu_milli, room.memory_mib, node.id))


def in_order(nodes: Iterable[NodeRoom]) -> tuple[NodeRoom, ...]:
    """Sort nodes into the order in which replicas are offered them."""
    return tuple(sorted(nodes, key=attrgetter("order")))


class Atlas:
    """Numbers for the topology domains of a fleet, the same for all of its stocks; domains of a level sort as their paths."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._nodes = tuple(nodes)
        self.node_numbers: Mapping[str, int] = {node.id: number for number, node in enumerate(self._nodes)}
        """A number for each node, by its id."""
        self._numbers: dict[str, dict[tuple[str, ...], int]] = {}
        self.remembered: dict[Hashable, Any] = {}
        """What is known of the fleet besides, by name."""

    def numbers(self, level: str) -> Mapping[tuple[str, ...], int]:
        """The number of each domain of a level, by its path."""
        if level not in self._numbers:
            paths = {path for node in self._nodes if (path := node.domain(level)) is not None}
            self._numbers[level] = {path: number for number, path in enumerate(sorted(paths))}
        return self._numbers[level]


Compute = Callable[[NodeRoom], int]
"""What a column says of one node."""

ComputeRow = Callable[[NodeRoom], Numbers]
"""Several numbers of one node."""

ComputeAll = Callable[["Stock"], Numbers]
"""The same of all nodes at once: of several numbers by what they are and by place."""


class _Column:
    """A number for every node, kept up to date for as many changes as there were since it was last looked at."""

    def __init__(self, values: Numbers, compute: Compute, shelf: "_Shelf") -> None:
        self._values, self._compute, self._shelf = values, compute, shelf
        self._seen = shelf.changes
        self._is_shared = False
        self.unasked = 0
        """For how many rounds nobody has looked at it."""
        self._total: int | None = None

    def copied(self, shelf: "_Shelf") -> "_Column":
        """The same column on another shelf that holds the same; the numbers are shared until one of the two changes."""
        copy = _Column(self.values(), self._compute, shelf)
        copy._total = self._total
        self._is_shared = copy._is_shared = True
        return copy

    def values(self) -> Numbers:
        """The numbers, by place; they hold until the shelf moves to another version."""
        shelf = self._shelf
        if self._seen == shelf.changes:
            return self._values
        if self._is_shared:
            self._values, self._is_shared = self._values.copy(), False
        places = shelf.changed_since(self._seen)
        if len(places) < MANY:
            for place in places:
                number = self._compute(shelf.entries[place])
                if self._total is not None:
                    self._total += number - int(self._values[place])
                self._values[place] = number
        else:
            self._become([*places], [shelf.entries[place] for place in places])
        self._seen = shelf.changes
        return self._values

    def _become(self, places: list[int], entries: list[NodeRoom]) -> None:
        """The same in many places at once, of which each is named once."""
        numbers = np.fromiter(map(self._compute, entries), np.int64, len(entries))
        if self._total is not None:
            self._total += int(numbers.sum()) - int(self._values[places].sum())
        self._values[places] = numbers

    def total(self) -> int:
        """The sum of all numbers, kept up to date with them."""
        values = self.values()
        if self._total is None:
            self._total = int(values.sum())
        return self._total


class _Table:
    """The same with several numbers for every node."""

    def __init__(self, values: Numbers, compute: ComputeRow, shelf: "_Shelf") -> None:
        self._values, self._compute, self._shelf = values, compute, shelf
        self._seen = shelf.changes
        self._is_shared = False
        self.is_in_use = True

    def copied(self, shelf: "_Shelf") -> "_Table":
        """The same table on another shelf that holds the same; the numbers are shared until one of the two changes."""
        copy = _Table(self.values(), self._compute, shelf)
        self._is_shared = copy._is_shared = True
        return copy

    def values(self) -> Numbers:
        """The numbers, by what they are and by place."""
        shelf = self._shelf
        if self._seen == shelf.changes:
            return self._values
        if self._is_shared:
            self._values, self._is_shared = self._values.copy(), False
        for place in shelf.changed_since(self._seen):
            self._values[:, place] = self._compute(shelf.entries[place])
        self._seen = shelf.changes
        return self._values


class _Ground:
    """What is so of the nodes of a stock in every version."""

    def __init__(self, nodes: tuple[Node, ...], atlas: Atlas) -> None:
        self.nodes, self.atlas = nodes, atlas
        self.places = {node.id: place for place, node in enumerate(nodes)}
        self.numbers = np.array([atlas.node_numbers[node.id] for node in nodes], np.intp)
        levels = {node.levels for node in nodes}
        self.levels = levels.pop() if len(levels) == 1 else None
        self.devices = sum(len(node.total.devices) for node in nodes)
        self.prices = np.array([node.price for node in nodes], np.int64)
        self.cheapest = min((node.price for node in nodes), default=0)
        self.has_one_price = all(node.price == self.cheapest for node in nodes)
        self.limits_replicas = any(node.maximum_replicas is not None for node in nodes)
        self._domains: dict[str, Places] = {}

    def domains(self, level: str) -> Places:
        """The number of each node's domain at a level that all of them have."""
        if level not in self._domains:
            numbers = self.atlas.numbers(level)
            self._domains[level] = np.fromiter((numbers[_domain(node, level)] for node in self.nodes), np.intp, len(self.nodes))
        return self._domains[level]


class _Shelf:
    """The nodes of a stock, with the numbers of one of its versions."""

    def __init__(self, entries: list[NodeRoom], ground: "_Ground") -> None:
        self.entries, self.ground = entries, ground
        self.holder: Stock
        self.changes = 0
        """How often an entry changed, in whatever direction."""
        self._log: list[int] = []
        """The places of the last of these changes."""
        self._columns: dict[object, _Column] = {}
        self._tables: dict[object, _Table] = {}

    @classmethod
    def of(cls, entries: Iterable[NodeRoom], atlas: Atlas) -> "_Shelf":
        """A shelf of these nodes."""
        ordered = sorted(entries, key=lambda entry: entry.node.id)
        return cls(ordered, _Ground(tuple(entry.node for entry in ordered), atlas))

    def copied(self) -> "_Shelf":
        """Another shelf that holds the same."""
        other = _Shelf(list(self.entries), self.ground)
        other._columns = {key: column.copied(other) for key, column in self._columns.items()}
        other._tables = {key: table.copied(other) for key, table in self._tables.items()}
        return other

    def tidy(self) -> None:
        """Forget the columns that nobody has looked at for some rounds, and the tables that nobody has in the last one."""
        self._columns = {key: column for key, column in self._columns.items() if column.unasked < ROUNDS_UNASKED}
        self._tables = {key: table for key, table in self._tables.items() if table.is_in_use}
        for column in self._columns.values():
            column.unasked += 1
        for table in self._tables.values():
            table.is_in_use = False

    def change(self, place: int, entry: NodeRoom) -> NodeRoom:
        """Put another entry in a place; gives the one that was there."""
        before, self.entries[place] = self.entries[place], entry
        self.changes += 1
        self._log.append(place)
        if len(self._log) > 8 * len(self.entries) + 1024:
            self._log = self._log[len(self._log) // 2 :]
        return before

    def changed_since(self, seen: int) -> Collection[int]:
        """The places that changed since so many changes; all of them where that is too long ago to know.

        Where there are `MANY`, each is named once.
        """
        missed = self.changes - seen
        if not missed:
            return ()
        if missed > len(self._log) or missed >= len(self.entries):
            return range(len(self.entries))
        return self._log[-missed:] if missed < MANY else set(self._log[-missed:])

    def column(self, key: object, compute: Compute, compute_all: ComputeAll | None) -> _Column:
        """A column by its key, made when it is first asked for."""
        if (column := self._columns.get(key)) is None:
            if compute_all is None:
                values = np.fromiter(map(compute, self.entries), np.int64, len(self.entries))
            else:
                values = compute_all(self.holder)
            column = self._columns[key] = _Column(values, compute, self)
        column.unasked = 0
        return column

    def table(self, key: object, compute: ComputeRow, compute_all: ComputeAll) -> Numbers:
        """A table by its key, made when it is first asked for."""
        if (table := self._tables.get(key)) is None:
            table = self._tables[key] = _Table(compute_all(self.holder), compute, self)
        table.is_in_use = True
        return table.values()


Changes = tuple[tuple[str, Room], ...]
"""The rooms that nodes get, by their ids."""

SIDE_BY_SIDE = 2
"""So many versions are remembered to follow one: a step of a round makes one without what leaves, one with what is promised."""


def _free(entry: NodeRoom) -> int:
    """Wholly free devices and free thousandths as one number: nobody counts as many thousandths as one device is worth here."""
    return (entry.whole << 32) + entry.milli


def _domain(node: Node, level: str) -> tuple[str, ...]:
    return node.path if level == NODE_LEVEL else node.path[: node.levels.index(level) + 1]


class Stock(Sequence[NodeRoom]):
    """The nodes of one class in one world. As a sequence it is in order: cheap nodes first, the fullest among equal prices."""

    __slots__ = ("_after", "_in_order", "_newer", "_shelf", "_undo", "remembered")

    def __init__(self, shelf: _Shelf) -> None:
        self.remembered: dict[Hashable, Any] = {}
        """Answers about this version, by question."""
        self._shelf = shelf
        self._in_order: tuple[NodeRoom, ...] | None = None
        self._newer: Stock | None = None
        self._undo: tuple[tuple[int, NodeRoom], ...] = ()
        self._after: tuple[tuple[Changes, Stock], ...] = ()

    @classmethod
    def of(cls, entries: Iterable[NodeRoom], atlas: Atlas) -> "Stock":
        """The first version of a stock."""
        return cls._on(_Shelf.of(entries, atlas))

    @classmethod
    def _on(cls, shelf: _Shelf) -> "Stock":
        stock = cls(shelf)
        shelf.holder = stock
        return stock

    def forked(self) -> "Stock":
        """The same on a shelf of its own: for versions that go on beside those of this one."""
        return Stock._on(self._held().copied())

    def filled(self, rooms: Mapping[str, Room]) -> "Stock":
        """The first version of a stock of the same nodes with these rooms, by node id."""
        ground = self._shelf.ground
        return Stock._on(_Shelf([NodeRoom.of(node, rooms[node.id]) for node in ground.nodes], ground))

    def tidy(self) -> None:
        """Forget all answers, and of the columns those that nobody has asked for in some rounds: it outlives a round."""
        self.remembered.clear()
        self._after = ()
        self._held().tidy()

    def shares_shelf_with(self, other: "Stock") -> bool:
        """Whether the two are versions of one stock."""
        return self._shelf is other._shelf

    def with_rooms(self, rooms: Iterable[tuple[str, Room]]) -> "Stock":
        """The stock in which these nodes (by id) have these rooms: the same version where the last changes are asked for again.

        So worlds that go on side by side, and change alike on these nodes, have one version of them, and all that it knows.
        """
        changes = tuple(rooms)
        for known, version in self._after:
            if known == changes:
                return version
        shelf = self._held()
        after = Stock(shelf)
        places = [(shelf.ground.places[node_id], room) for node_id, room in changes]
        self._hand_over(after, [(place, NodeRoom.of(shelf.ground.nodes[place], room)) for place, room in places])
        self._after = (*self._after[1 - SIDE_BY_SIDE :], (changes, after))
        return after

    def _hand_over(self, to: "Stock", changes: Iterable[tuple[int, NodeRoom]]) -> None:
        """Let the shelf hold the other version, which differs by these changes; remember the way back."""
        shelf = self._shelf
        self._undo = tuple([(place, shelf.change(place, entry)) for place, entry in changes][::-1])
        self._newer, to._newer, to._undo = to, None, ()
        shelf.holder = to

    def _held(self) -> _Shelf:
        """The shelf, holding this version."""
        if self._newer is not None:
            way: list[Stock] = [self]
            while (newer := way[-1]._newer) is not None:
                way.append(newer)
            for older, newer in zip(way[-2::-1], way[:0:-1], strict=True):
                newer._hand_over(older, older._undo)
        return self._shelf

    # As a sequence

    def __len__(self) -> int:
        return len(self._shelf.ground.nodes)

    @overload
    def __getitem__(self, index: int) -> NodeRoom: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[NodeRoom, ...]: ...
    def __getitem__(self, index: int | slice) -> NodeRoom | tuple[NodeRoom, ...]:
        return self.in_order[index]

    def __iter__(self) -> Iterator[NodeRoom]:
        return iter(self.in_order)

    @property
    def in_order(self) -> tuple[NodeRoom, ...]:
        """All entries in order."""
        if self._in_order is None:
            self._in_order = in_order(self._held().entries)
        return self._in_order

    # By place

    @property
    def nodes(self) -> Sequence[Node]:
        """The nodes by place, in the order of their ids."""
        return self._shelf.ground.nodes

    @property
    def limits_replicas(self) -> bool:
        """Whether any of the nodes takes only so many replicas, whatever room it has."""
        return self._shelf.ground.limits_replicas

    @property
    def atlas(self) -> Atlas:
        """The atlas of the fleet."""
        return self._shelf.ground.atlas

    @property
    def levels(self) -> tuple[str, ...] | None:
        """The topology levels of all nodes, or none where they differ."""
        return self._shelf.ground.levels

    def has_level(self, level: str) -> bool:
        """Whether all nodes are known to have a topology level."""
        return level == NODE_LEVEL or (self.levels is not None and level in self.levels)

    def place(self, node_id: str) -> int | None:
        """Where a node stands, if it is here."""
        return self._shelf.ground.places.get(node_id)

    def entry(self, node_id: str) -> NodeRoom:
        """One node with its room."""
        shelf = self._held()
        return shelf.entries[shelf.ground.places[node_id]]

    def entries(self, places: Iterable[int]) -> list[NodeRoom]:
        """The entries in these places."""
        entries = self._held().entries
        return [entries[place] for place in places]

    def column(self, key: object, compute: Compute, compute_all: ComputeAll | None = None) -> Numbers:
        """A number of every node, by place; `key` stands for the functions. To be read at once and not to be changed."""
        return self._held().column(key, compute, compute_all).values()

    def total(self, key: object, compute: Compute, compute_all: ComputeAll | None = None) -> int:
        """The sum of a column over all nodes."""
        return self._held().column(key, compute, compute_all).total()

    def table(self, key: object, compute: ComputeRow, compute_all: ComputeAll) -> Numbers:
        """Several numbers of every node, by what they are and by place; otherwise the same as a column."""
        return self._held().table(key, compute, compute_all)

    @property
    def idle(self) -> Numbers:
        """1 for every node of which nothing is used, 0 for others; by place."""
        return self.column("idle", lambda entry: int(entry.room.devices == entry.node.total.devices))

    @property
    def whole(self) -> Numbers:
        """Wholly free devices of every node, by place."""
        return self.column("whole", attrgetter("whole"))

    @property
    def whole_in_all(self) -> int:
        """Wholly free devices on all nodes."""
        return self.total("whole", attrgetter("whole"))

    @property
    def free(self) -> Numbers:
        """What every node has free in the order of its wholly free devices and then of its thousandths, by place."""
        return self.column("free", _free)

    @property
    def milli(self) -> Numbers:
        """Free thousandths of every node, by place."""
        return self.column("milli", attrgetter("milli"))

    @property
    def milli_in_all(self) -> int:
        """Free thousandths on all nodes."""
        return self.total("milli", attrgetter("milli"))

    @property
    def devices_in_all(self) -> int:
        """Devices on all nodes, free or not."""
        return self._shelf.ground.devices

    @property
    def cpu_milli(self) -> Numbers:
        """Free thousandths of a core of every node, by place."""
        return self.column("cpu", attrgetter("room.cpu_milli"))

    @property
    def memory_mib(self) -> Numbers:
        """Free memory of every node, by place."""
        return self.column("memory", attrgetter("room.memory_mib"))

    @property
    def replicas(self) -> Numbers:
        """How many more replicas every node takes, by place."""
        return self.column("replicas", attrgetter("room.replicas"))

    @property
    def price(self) -> Numbers:
        """The price of every node, by place."""
        return self._shelf.ground.prices

    @property
    def cheapest(self) -> int:
        """The lowest price of any node."""
        return self._shelf.ground.cheapest

    @property
    def has_one_price(self) -> bool:
        """Whether all nodes cost the same."""
        return self._shelf.ground.has_one_price

    def domains(self, level: str) -> Places:
        """The number of each node's domain, by place, in the atlas of the fleet."""
        return self._shelf.ground.domains(level)

    @property
    def node_numbers(self) -> Places:
        """The number of each node, by place, in the atlas of the fleet."""
        return self._shelf.ground.numbers

    def domain_count(self, level: str) -> int:
        """How many domains of a level the fleet has."""
        return len(self._shelf.ground.atlas.numbers(level))


class Stocks(Sequence[NodeRoom]):
    """Several stocks as one; in order over all of them."""

    __slots__ = ("_in_order", "parts")

    def __init__(self, parts: Sequence[Stock]) -> None:
        self.parts = tuple(parts)
        self._in_order: tuple[NodeRoom, ...] | None = None

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @overload
    def __getitem__(self, index: int) -> NodeRoom: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[NodeRoom, ...]: ...
    def __getitem__(self, index: int | slice) -> NodeRoom | tuple[NodeRoom, ...]:
        return self._all()[index]

    def __iter__(self) -> Iterator[NodeRoom]:
        return iter(self._all())

    def _all(self) -> tuple[NodeRoom, ...]:
        if self._in_order is None:
            self._in_order = in_order(entry for part in self.parts for entry in part.in_order)
        return self._in_order


def parts_of(nodes: Sequence[NodeRoom]) -> tuple[Stock, ...]:
    """The stocks that nodes are, if they are any."""
    return (nodes,) if isinstance(nodes, Stock) else nodes.parts if isinstance(nodes, Stocks) else ()
