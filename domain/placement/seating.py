"""Seating: who sits on which nodes, as variables and conditions of an integer programme."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from corral.api import WHOLE, Spread
from domain.placement.draft import accepted
from domain.placement.topology import spread_of
from domain.pool.fleet import Room
from domain.solver import Programme, Variable
from domain.worlds.request import Gang, Shape
from domain.worlds.world import Nodes

Sum = list[tuple[Variable, int]]


@dataclass(slots=True)
class Demand:
    """What is wanted of one node, and what may become free on it: sums over variables."""

    devices: defaultdict[int, Sum] = field(default_factory=lambda: defaultdict(list))
    """Shares of each device."""
    whole: Sum = field(default_factory=list)
    """Whole devices, whichever they are."""
    cpu_milli: Sum = field(default_factory=list)
    memory_mib: Sum = field(default_factory=list)
    replicas: Sum = field(default_factory=list)


@dataclass(slots=True)
class Seating:
    """Seats of gangs on nodes. `seats` has the variables of each tenant's replicas by node, `by_group` by group and node."""

    programme: Programme
    seats: dict[str, dict[str, list[Variable]]] = field(default_factory=dict)
    by_group: dict[tuple[str, str, str], Variable] = field(default_factory=dict)

    def seat(
        self, who: str, gang: Gang, nodes: Nodes, only_if: Sequence[Variable], demands: Sequence[Mapping[str, Demand]]
    ) -> None:
        """Variables for the replicas of a gang on each node; as many as it needs, in one domain where it must."""
        seats: defaultdict[str, list[Variable]] = defaultdict(list)
        everybody: Sum = []
        for unit in gang.units(each_alone=False):
            by_node: defaultdict[str, list[Variable]] = defaultdict(list)
            for shape in unit.shapes:
                placed: Sum = []
                of_shape: dict[str, Variable] = {}
                for entry in accepted(shape, nodes):
                    if most := _most_on(entry.node.total, shape):
                        number = of_shape[entry.node.id] = self.programme.variable(most)
                        by_node[entry.node.id].append(number)
                        self.by_group[who, shape.name, entry.node.id] = number
                        placed.append((number, 1))
                        self._demand(shape, number, entry.node.total, [demand[entry.node.id] for demand in demands])
                self._at_least(shape.minimum, placed, only_if)
                self._at_most(shape.count, placed, only_if)
                own = unit.topology if len(unit.shapes) == 1 else shape.terms.topology or unit.topology
                if (spread := spread_of(own, shape)) is not None:
                    self._apart(spread, nodes, of_shape)
                everybody += placed
            if level := unit.topology.required:
                self._in_one_domain(level, sum(shape.count for shape in unit.shapes), nodes, by_node)
            for node_id, variables in by_node.items():
                seats[node_id] += variables
        self._at_least(gang.fewest, everybody, only_if)
        self.seats[who] = dict(seats)

    def _at_least(self, number: int, placed: Sum, only_if: Sequence[Variable]) -> None:
        if number:
            self.programme.require([*placed, *((variable, -number) for variable in only_if)], least=0 if only_if else number)

    def _at_most(self, number: int, placed: Sum, only_if: Sequence[Variable]) -> None:
        if placed:
            self.programme.require([*placed, *((variable, -number) for variable in only_if)], most=0 if only_if else number)

    def _demand(self, shape: Shape, number: Variable, total: Room, demands: Sequence[Demand]) -> None:
        for demand in demands:
            demand.cpu_milli.append((number, shape.cpu_milli))
            demand.memory_mib.append((number, shape.memory_mib))
            demand.replicas.append((number, 1))
            if shape.devices:
                demand.whole.append((number, shape.devices))
        if shape.milli and not shape.devices:
            shares = [(device, self.programme.variable(WHOLE // shape.milli)) for device in range(len(total.devices))]
            self.programme.require([(number, -1), *((share, 1) for _, share in shares)], least=0, most=0)
            for demand in demands:
                for device, share in shares:
                    demand.devices[device].append((share, shape.milli))

    def _apart(self, spread: Spread, nodes: Nodes, of_shape: Mapping[str, Variable]) -> None:
        """No domain of the level has more of the group than the spread allows, and a node without one has none."""
        by_domain: defaultdict[tuple[str, ...] | None, Sum] = defaultdict(list)
        for entry in nodes:
            if (number := of_shape.get(entry.node.id)) is not None:
                by_domain[entry.node.domain(spread.level)].append((number, 1))
        for domain, numbers in by_domain.items():
            self.programme.require(numbers, most=0 if domain is None else spread.maximum)

    def _in_one_domain(self, level: str, most: int, nodes: Nodes, by_node: Mapping[str, list[Variable]]) -> None:
        """At most one domain of the level has any of up to `most` replicas, and a node without one has none."""
        by_domain: defaultdict[tuple[str, ...] | None, list[Variable]] = defaultdict(list)
        for entry in nodes:
            by_domain[entry.node.domain(level)] += by_node.get(entry.node.id, ())
        chosen = {domain: self.programme.variable(0 if domain is None else 1) for domain in by_domain}
        self.programme.require([(one, 1) for one in chosen.values()], most=1)
        for domain, variables in by_domain.items():
            self.programme.require([*((variable, 1) for variable in variables), (chosen[domain], -most)], most=0)

    def fit(self, demand: Demand, room: Room, freed: Demand) -> None:
        """What is wanted is at most what there is and what is freed; a device that is wanted whole must be free as a whole."""
        self._within(demand.cpu_milli, room.cpu_milli, freed.cpu_milli)
        self._within(demand.memory_mib, room.memory_mib, freed.memory_mib)
        self._within(demand.replicas, room.replicas, freed.replicas)
        if not demand.devices and not any(freed.devices.values()):
            self._within(demand.whole, room.whole_devices, ())
            return
        free: Sum = []
        for device, milli in enumerate(room.devices):
            shares = demand.devices[device]
            if demand.whole and milli + sum(amount for _, amount in freed.devices[device]) >= WHOLE:
                free.append((self.programme.variable(), 1))
                shares = [*shares, (free[-1][0], WHOLE)]
            self._within(shares, milli, freed.devices[device])
        self._within(demand.whole, 0, free)

    def _within(self, wanted: Sum, there: int, freed: Sequence[tuple[Variable, int]]) -> None:
        if wanted:
            self.programme.require([*wanted, *((variable, -amount) for variable, amount in freed)], most=there)


def _most_on(total: Room, shape: Shape) -> int:
    """How many replicas an empty node could take."""
    bounds = [shape.count]
    if shape.devices:
        bounds.append(len(total.devices) // shape.devices)
    elif shape.milli:
        bounds.append(len(total.devices) * (WHOLE // shape.milli))
    return min(bounds)
