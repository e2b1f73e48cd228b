"""The plans of a bid as an integer programme: which steps are taken, and where everybody sits once they are."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from corral.api import WHOLE, Spread
from domain.bid import Bid, Seats
from domain.choices import Choices
from domain.disruption import Level, Means, Step, Steps, as_it_is, remainders, running_request
from domain.draft import accepted
from domain.fleet import Room
from domain.request import Gang, Shape
from domain.solver import Programme, Variable
from domain.topology import spread_of
from domain.world import Nodes

Sum = list[tuple[Variable, int]]


@dataclass(slots=True)
class _Demand:
    """What is wanted of one node, and what may become free on it: sums over variables."""

    devices: defaultdict[int, Sum] = field(default_factory=lambda: defaultdict(list))
    """Shares of each device."""
    whole: Sum = field(default_factory=list)
    """Whole devices, whichever they are."""
    cpu_milli: Sum = field(default_factory=list)
    memory_mib: Sum = field(default_factory=list)
    replicas: Sum = field(default_factory=list)


@dataclass(slots=True)
class PlanProgramme:
    """Every plan that the bid may carry out satisfies the programme; rules that it does not know are checked afterwards.

    It knows devices, cpu and memory, the domain that a gang must sit within, the surplus of gangs, what borrowers owe, and
    how much quota is short. `taken` is the variable of each step, `seats` has those of each tenant's replicas by node.
    """

    steps: Steps
    programme: Programme = field(default_factory=Programme)
    taken: list[Variable] = field(default_factory=list)
    seats: dict[str, dict[str, list[Variable]]] = field(default_factory=dict)
    levels: list[Level] = field(default_factory=list)

    @classmethod
    def of(cls, bid: Bid, allowed: Choices, nodes: Nodes, ceiling: Level | None) -> "PlanProgramme":
        """The programme on these nodes, without steps of a level above the ceiling: nothing at such a level could be better."""
        near = {entry.node.id for entry in nodes}
        every = chain(allowed.shrinks, allowed.moves, allowed.stops)
        steps = tuple(
            step
            for step in every
            if (ceiling is None or step.level <= ceiling) and (not bid.has_quota or not step.nodes.isdisjoint(near))
        )
        plan = cls(steps)
        plan.taken = [plan.programme.variable() for _ in steps]
        plan._limit_each_attempt(allowed)
        plan._stay_within_budgets(allowed)
        plan._leave_nominal_alone(bid, allowed)
        plan._give_back_quota(bid)
        plan._seat_everybody(bid, nodes)
        plan._aim_low()
        return plan

    # What may be taken

    def _limit_each_attempt(self, allowed: Choices) -> None:
        """An attempt is stopped, or moved, or shrinks by no more than its surplus."""
        whole: defaultdict[str, Sum] = defaultdict(list)
        replicas: defaultdict[str, defaultdict[str, Sum]] = defaultdict(lambda: defaultdict(list))
        for step, variable in zip(self.steps, self.taken, strict=True):
            if step.replica is None:
                whole[step.attempt_id].append((variable, 1))
            else:
                replicas[step.attempt_id][step.replica.group].append((variable, 1))
        for terms in whole.values():
            self.programme.require(terms, most=1)
        for attempt, groups in replicas.items():
            spare = allowed.surpluses[attempt]
            for group, terms in groups.items():
                self._at_most_unless(terms, spare.by_group[group], whole[attempt])
            self._at_most_unless(list(chain(*groups.values())), spare.in_all, whole[attempt])

    def _at_most_unless(self, terms: Sum, most: int, otherwise: Sum) -> None:
        """So many, and none where the other thing happens."""
        self.programme.require([*terms, *((variable, most) for variable, _ in otherwise)], most=most)

    def _stay_within_budgets(self, allowed: Choices) -> None:
        for ids, left in allowed.budgets:
            pairs = zip(self.steps, self.taken, strict=True)
            stops = [(variable, 1) for step, variable in pairs if step.means is Means.STOP and step.attempt_id in ids]
            self.programme.require(stops, most=max(0, left))

    def _leave_nominal_alone(self, bid: Bid, allowed: Choices) -> None:
        """Whoever is taken last from a borrower is taken while it still borrows: all others are less than what it borrows."""
        by_queue: defaultdict[str, list[tuple[Variable, int]]] = defaultdict(list)
        for step, variable in self._takings():
            if step.victim.queue != bid.request.spec.queue:
                by_queue[step.victim.queue].append((variable, step.milli))
        for queue, terms in by_queue.items():
            last = [(self.programme.variable(), milli) for _, milli in terms]
            for (one, _), (variable, _) in zip(last, terms, strict=True):
                self.programme.require([(one, 1), (variable, -1)], most=0)
            self.programme.require([(one, 1) for one, _ in last], most=1)
            others = [*terms, *((one, -milli) for one, milli in last)]
            self.programme.require(others, most=allowed.borrowed[queue] - 1)

    def _give_back_quota(self, bid: Bid) -> None:
        """At least what the request lacks; what exactly each step frees in the tree is checked afterwards."""
        spec = bid.request.spec
        room = bid.usage.room(spec.queue, bid.supply.sku, preemptible=spec.preemptible)
        if (short := bid.request.gang.minimum_milli - room) > 0:
            self.programme.require([(variable, step.milli) for step, variable in self._takings()], least=short)

    def _takings(self) -> Iterable[tuple[Step, Variable]]:
        pairs = zip(self.steps, self.taken, strict=True)
        return ((step, variable) for step, variable in pairs if step.means is not Means.MIGRATE)

    # Who sits where

    def _seat_everybody(self, bid: Bid, nodes: Nodes) -> None:
        """The request on its nodes, and what moves in room that is free now; together within all that becomes free."""
        wanted: defaultdict[str, _Demand] = defaultdict(_Demand)
        at_once: defaultdict[str, _Demand] = defaultdict(_Demand)
        gang, later = bid.request.gang, bid.later.rooms
        self._seat(bid.request.spec.id, gang, nodes, [], [wanted])
        for step, variable in zip(self.steps, self.taken, strict=True):
            if step.means is Means.MIGRATE:
                request = running_request(step.victim.active)
                moving = replace(request, gang=as_it_is(request.gang))
                self._seat(step.attempt_id, moving.gang, bid.homes(moving), [variable], [wanted, at_once])
        freed = self._freed(wanted)
        for node_id, demand in wanted.items():
            self._fit(demand, bid.rooms[node_id] if node_id in bid.rooms else later[node_id], freed[node_id])
        for node_id, demand in at_once.items():
            self._fit(demand, bid.now.rooms[node_id], _Demand())

    def _seat(
        self, who: str, gang: Gang, nodes: Nodes, only_if: Sequence[Variable], demands: Sequence[Mapping[str, _Demand]]
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

    def _demand(self, shape: Shape, number: Variable, total: Room, demands: Sequence[_Demand]) -> None:
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

    def _freed(self, wanted: Iterable[str]) -> defaultdict[str, _Demand]:
        """What the steps free on nodes that somebody may want."""
        freed: defaultdict[str, _Demand] = defaultdict(_Demand)
        near = set(wanted)
        for step, variable in zip(self.steps, self.taken, strict=True):
            for share in chain.from_iterable(left.leaves.placement.shares for left in remainders((step,))):
                if share.node_id in near:
                    on_node = freed[share.node_id]
                    on_node.cpu_milli.append((variable, share.room.cpu_milli))
                    on_node.memory_mib.append((variable, share.room.memory_mib))
                    on_node.replicas.append((variable, share.room.replicas))
                    for device, milli in enumerate(share.room.devices):
                        if milli:
                            on_node.devices[device].append((variable, milli))
        return freed

    def _fit(self, demand: _Demand, room: Room, freed: _Demand) -> None:
        """What is wanted is at most what there is and what is freed; a device that is wanted whole must be free as a whole."""
        self._within(demand.cpu_milli, room.cpu_milli, freed.cpu_milli)
        self._within(demand.memory_mib, room.memory_mib, freed.memory_mib)
        self._within(demand.replicas, room.replicas, freed.replicas)
        free: Sum = []
        for device, milli in enumerate(room.devices):
            shares = demand.devices[device]
            if demand.whole and milli + sum(amount for _, amount in freed.devices[device]) >= WHOLE:
                free.append((self.programme.variable(), 1))
                shares = [*shares, (free[-1][0], WHOLE)]
            self._within(shares, milli, freed.devices[device])
        self._within(demand.whole, 0, free)

    def _within(self, wanted: Sum, there: int, freed: Sum) -> None:
        if wanted:
            self.programme.require([*wanted, *((variable, -amount) for variable, amount in freed)], most=there)

    # What is best, and what the answer means

    def _aim_low(self) -> None:
        self.levels = sorted({step.level for step in self.steps}, reverse=True)
        costs: defaultdict[Level, Sum] = defaultdict(list)
        smaller: dict[str, Variable] = {}
        for step, variable in zip(self.steps, self.taken, strict=True):
            costs[step.level].append((variable, step.cost))
            if step.means is Means.SHRINK:
                if step.attempt_id not in smaller:
                    smaller[step.attempt_id] = self.programme.variable()
                    costs[step.level].append((smaller[step.attempt_id], step.once))
                self.programme.require([(variable, 1), (smaller[step.attempt_id], -1)], most=0)
        self.programme.objectives = [tuple(costs[level]) for level in self.levels]

    def hint(self, steps: Iterable[Step]) -> dict[Variable, int]:
        """Values that say that these steps are taken and no others."""
        wanted = {id(step) for step in steps}
        return {variable: int(id(step) in wanted) for step, variable in zip(self.steps, self.taken, strict=True)}

    def chosen(self, values: Sequence[int]) -> Steps:
        """The steps that a solution takes."""
        return tuple(step for step, variable in zip(self.steps, self.taken, strict=True) if values[variable])

    def seated(self, values: Sequence[int]) -> Seats:
        """The nodes on which a solution puts everybody."""
        return {
            who: {node_id for node_id, variables in seats.items() if any(values[variable] for variable in variables)}
            for who, seats in self.seats.items()
        }

    def require_one_of(self, steps: Iterable[Step]) -> None:
        """At least one of these must be taken."""
        self.programme.require([(self.taken[at], 1) for at in self._at(steps)], least=1)

    def forbid(self, steps: Iterable[Step]) -> None:
        """Not exactly these."""
        taken = set(self._at(steps))
        terms = [(variable, -1 if at in taken else 1) for at, variable in enumerate(self.taken)]
        self.programme.require(terms, least=1 - len(taken))

    def _at(self, steps: Iterable[Step]) -> list[int]:
        wanted = {id(step) for step in steps}
        return [at for at, step in enumerate(self.steps) if id(step) in wanted]


def _most_on(total: Room, shape: Shape) -> int:
    """How many replicas an empty node could take."""
    bounds = [shape.count]
    if shape.devices:
        bounds.append(len(total.devices) // shape.devices)
    elif shape.milli:
        bounds.append(len(total.devices) * (WHOLE // shape.milli))
    return min(bounds)
