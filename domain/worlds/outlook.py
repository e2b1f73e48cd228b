"""The outlook: what every node is worth to the demand that is known, and so where one more replica costs that demand least."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from corral.api import WorkloadTerms
from domain.pool.claimant import by_terms
from domain.pool.fleet import Amount, Node, Room
from domain.pool.stock import NodeRoom, Numbers, Stock
from domain.pool.workload import Active, Waiting
from domain.worlds.fragmentation import IMPOSSIBLE, Demand, Integers, Losses, Mix, Need, Needs, Rooms, losses

OUTLOOK = "outlook"
"""Under this name the atlas of a fleet has its outlook, where there is one."""

Size = tuple[Amount, int, int]
"""Thousandths of an accelerator, of a core, and MiB of one replica."""

State = tuple[str, tuple[Amount, ...], int, int]
"""SKU and free room, with memory where the demand counts it: nodes in one state are worth the same."""

MOST_STATES = 65_536
"""Of nodes, that are numbered; with more than that it is begun anew, so that a planner that runs for months does not grow."""


class States:
    """Numbers for the states that nodes of a fleet have been in, whatever the demand; a stock keeps that of each node."""

    def __init__(self, *, with_memory: bool) -> None:
        self._with_memory = with_memory
        self._numbers: dict[State, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def of(self, entry: NodeRoom) -> int:
        """The number of the state that a node is in."""
        room = entry.room
        memory = room.memory_mib if self._with_memory else min(0, room.memory_mib)
        return self._numbers.setdefault((entry.node.sku, room.devices, room.cpu_milli, memory), len(self._numbers))

    def of_all(self, stock: Stock) -> Numbers:
        """The same of all nodes of a stock, by place."""
        return stock.column(("state", self), self.of)


@dataclass(frozen=True, slots=True, eq=False)
class IdleFleet:
    """The nodes of a fleet when nothing runs: their rooms, how many nodes have each, and the numbers of SKUs in these."""

    skus: Mapping[str, int]
    width: int
    """Devices of the largest node."""
    rooms: Rooms
    numbers: Integers
    _states: dict[bool, States] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, nodes: Sequence[Node]) -> "IdleFleet":
        """The fleet of these nodes, as far as they are there."""
        nodes = [node for node in nodes if node.health.is_there]
        skus = {sku: place for place, sku in enumerate(sorted({node.sku for node in nodes}))}
        width = max((len(node.total.devices) for node in nodes), default=0)
        alike = Counter((node.sku, node.total) for node in nodes)
        return cls(skus, width, rooms_of(alike, skus, width), np.array(list(alike.values()), np.int64))

    def states(self, *, with_memory: bool) -> States:
        """The states that its nodes have been in, told apart by their memory or not."""
        known = self._states.get(with_memory)
        if known is None or len(known) > MOST_STATES:
            known = self._states[with_memory] = States(with_memory=with_memory)
        return known


class Outlook:
    """The known demand against the idle fleet. It remembers what replicas cost on nodes in every state that it has seen."""

    def __init__(self, demand: Demand, sizes: Iterable[Size], fleet: "IdleFleet") -> None:
        self._demand, self._skus, self._width = demand, fleet.skus, fleet.width
        self._sees_memory = bool(demand.needs.memory_mib.any())
        self._places = {size: place for place, size in enumerate(sorted({self._seen(size) for size in sizes}))}
        self._wanted = Needs.of([Need(*size) for size in self._places], tuple(fleet.skus))
        self._states = fleet.states(with_memory=self._sees_memory)
        self._known: dict[int, Losses] = {}

    @classmethod
    def of(cls, fleet: Iterable[Node], work: Iterable[Active | Waiting]) -> "Outlook | None":
        """The outlook of a fleet for all work that runs and waits; none where there is nothing to look at."""
        return cls.for_needs(IdleFleet.of(tuple(fleet)), replicas_known(work))

    @classmethod
    def for_needs(cls, fleet: "IdleFleet", known: Mapping[Need, int]) -> "Outlook | None":
        """The same where it is known how many replicas there are of each need."""
        if not fleet.numbers.size or not known:
            return None
        return cls.prepared(fleet, Mix.of(known), [(need.milli, need.cpu_milli, need.memory_mib) for need in known])

    @classmethod
    def prepared(cls, fleet: "IdleFleet", mix: Mix, sizes: Iterable[Size]) -> "Outlook":
        """The outlook for a mix that is known, on which work of these sizes is to be placed."""
        return cls(Demand.of(mix, fleet.rooms, tuple(fleet.skus), fleet.numbers), sizes, fleet)

    def knows(self, size: Size) -> bool:
        """Whether work of this size is part of what is known."""
        return self._seen(size) in self._places

    def losses(self, size: Size, stock: Stock) -> Numbers:
        """What one replica of a size that is known costs the demand on each node of a stock, by place, in levels.

        `IMPOSSIBLE` where it has no room.
        """
        losses: Numbers = stock.table(("losses", self), self._costs, self._costs_of_all)[self._places[self._seen(size)]]
        return losses if self._sees_memory else np.where(stock.memory_mib >= size[2], losses, IMPOSSIBLE)

    def device(self, size: Size, entry: NodeRoom) -> int:
        """The device of a node to which a share of one goes."""
        return int(self._of(entry).devices[self._places[self._seen(size)], 0])

    def _seen(self, size: Size) -> Size:
        """What of a size matters to what it costs. A demand that counts no memory loses the same with any."""
        return size if self._sees_memory else (*size[:2], 0)

    def _costs(self, entry: NodeRoom) -> Numbers:
        return self._of(entry).costs[:, 0]

    def _costs_of_all(self, stock: Stock) -> Numbers:
        """The same of many nodes, by size and by node: each state is looked up once, however many nodes are in it."""
        states, first, which = np.unique(self._states.of_all(stock), return_index=True, return_inverse=True)
        new = [at for at, state in enumerate(states.tolist()) if state not in self._known]
        self._look_at(states[new].tolist(), stock.entries(first[new].tolist()))
        costs: Numbers = np.stack([self._known[state].costs[:, 0] for state in states.tolist()], axis=1)
        return np.ascontiguousarray(costs[:, which])

    def _of(self, entry: NodeRoom) -> Losses:
        if (state := self._states.of(entry)) not in self._known:
            self._look_at([state], [entry])
        return self._known[state]

    def _look_at(self, states: Sequence[int], examples: Sequence[NodeRoom]) -> None:
        """Work out what replicas cost on nodes in these states, all at once; there is a node in each."""
        if states:
            here = rooms_of([(entry.node.sku, entry.room) for entry in examples], self._skus, self._width)
            found = losses(self._demand, self._wanted, here)
            for at, state in enumerate(states):
                self._known[state] = Losses(found.costs[:, at : at + 1], found.devices[:, at : at + 1])


def outlook_of(stock: Stock) -> Outlook | None:
    """The outlook of the fleet that a stock is of, if it has one."""
    found = stock.atlas.remembered.get(OUTLOOK)
    return found if isinstance(found, Outlook) else None


def replicas_known(work: Iterable[Active | Waiting]) -> Counter[Need]:
    """How many replicas of each need there are."""
    found: Counter[Need] = Counter()
    for terms, number in by_terms(work):
        for need, count in needs_of(terms):
            found[need] += number * count
    return found


def needs_of(terms: WorkloadTerms) -> list[tuple[Need, int]]:
    """What the replicas of a workload with these terms take, and how many there are."""
    skus = tuple(sorted({sku for target in terms.targets for sku in target.skus}))
    return [(Need(each.milli, each.cpu_milli, each.memory_mib, each.skus or skus), each.count) for each in terms.groups]


def rooms_of(rooms: Iterable[tuple[str, Room]], skus: Mapping[str, int], width: int) -> Rooms:
    """Rooms as arrays, each with the SKU of its node; so many devices wide."""
    rows = tuple(rooms)
    devices = np.zeros((len(rows), width), np.int64)
    for at, (_, room) in enumerate(rows):
        devices[at, : len(room.devices)] = room.devices
    rest: Integers = np.array([(room.cpu_milli, room.memory_mib, skus[sku]) for sku, room in rows], np.int64).reshape(-1, 3)
    return Rooms(devices, rest[:, 0], rest[:, 1], rest[:, 2])
