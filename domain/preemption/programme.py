"""The plans of a bid as an integer programme: which steps are taken, and where everybody sits once they are."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from domain.disruption.means import Level, Means, Step, Steps, as_it_is, remainders, running_request
from domain.placement.seating import Demand, Seating, Sum
from domain.preemption.bid import Bid, Seats
from domain.preemption.choices import Choices
from domain.solver import Programme, Variable
from domain.worlds.world import Nodes


@dataclass(slots=True)
class PlanProgramme:
    """Every plan that the bid may carry out satisfies the programme; rules that it does not know are checked afterwards.

    It knows devices, cpu and memory, the domain that a gang must sit within, the surplus of gangs, what borrowers owe, and
    how much quota is short. `taken` is the variable of each step, `seating` has those of each tenant's replicas.
    """

    steps: Steps
    programme: Programme = field(default_factory=Programme)
    taken: list[Variable] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)
    seating: Seating = field(init=False)

    def __post_init__(self) -> None:
        self.seating = Seating(self.programme)

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
        wanted: defaultdict[str, Demand] = defaultdict(Demand)
        at_once: defaultdict[str, Demand] = defaultdict(Demand)
        gang, later = bid.request.gang, bid.later.rooms
        self.seating.seat(bid.request.id, gang, nodes, [], [wanted])
        for step, variable in zip(self.steps, self.taken, strict=True):
            if step.means is Means.MIGRATE:
                request = running_request(step.victim.active)
                moving = replace(request, gang=as_it_is(request.gang))
                self.seating.seat(step.attempt_id, moving.gang, bid.homes(moving), [variable], [wanted, at_once])
        freed = self._freed(wanted)
        for node_id, demand in wanted.items():
            self.seating.fit(demand, bid.rooms[node_id] if node_id in bid.rooms else later[node_id], freed[node_id])
        for node_id, demand in at_once.items():
            self.seating.fit(demand, bid.now.rooms[node_id], Demand())

    def _freed(self, wanted: Iterable[str]) -> defaultdict[str, Demand]:
        """What the steps free on nodes that somebody may want."""
        freed: defaultdict[str, Demand] = defaultdict(Demand)
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
            for who, seats in self.seating.seats.items()
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
