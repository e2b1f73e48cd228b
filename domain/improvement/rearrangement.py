"""Rearrangement: starts of the round sit closer together on a shortlist of nodes, so that a gang fits which found no room."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from corral.api import WHOLE
from domain.improvement.bench import Bench, Numbers, Seat, Seated, exactly, is_plain
from domain.placement.feasibility import Offer
from domain.placement.layout import domains
from domain.placement.scoring import cost_on, millionths
from domain.placement.seating import Demand, Seating
from domain.pool.stock import NodeRoom, in_order
from domain.pool.workload import Waiting
from domain.quota_models.openings import open_ranks
from domain.solver import NoSolution, Programme, Solution, Variable, solve
from domain.worlds.request import NO_TOPOLOGY, Gang, Kind, Shape
from domain.worlds.world import Nodes, World

TRIES_AT_LEAST = 4
"""Into so many parts the work of a round is divided, of which one is the most for one workload."""

WORK_PER_VARIABLE = 1e-6
"""What building a programme counts, in the solver's deterministic seconds."""


@dataclass(slots=True)
class Work:
    """What may still be spent, in deterministic seconds, at most so much of it at once, and whether it ever was too little."""

    left: float
    at_once: float
    is_short: bool = False

    @classmethod
    def of_a_round(cls, amount: float) -> "Work":
        """All that one round may spend, so that no single workload takes it all."""
        return cls(amount, amount / TRIES_AT_LEAST)

    def spend(self, amount: float) -> None:
        """Count work that was done."""
        self.left -= amount


@dataclass(frozen=True, slots=True)
class Rearranged:
    """The bench with one more start; who moved for it."""

    bench: Bench
    moved: tuple[str, ...]


def could_fit(offer: Offer, bench: Bench, movable: Mapping[str, int]) -> bool:
    """Whether counts leave it open that the gang fits there; `movable` are the devices by node that starts could free."""
    gang, world = offer.request.gang.at_minimum(), bench.world
    if not is_plain(gang) or any(
        world.usage.allowed(offer.request.spec, sku) < needed for sku, needed in gang.least_by_sku(offer.supply.sku).items()
    ):
        return False
    nodes = world.nodes(offer.classes)
    if not any(entry.node.id in movable for entry in nodes):
        return False
    return any(_holds(gang, place, movable) for place in _places(gang, nodes))


def _places(gang: Gang, nodes: Nodes) -> Sequence[Nodes]:
    return domains(nodes, gang.topology.required) if gang.topology.required else (nodes,)


def _holds(gang: Gang, nodes: Nodes, movable: Mapping[str, int]) -> bool:
    cleared = [entry.whole + movable.get(entry.node.id, 0) for entry in nodes]
    return all(
        sum(whole // shape.devices for whole in cleared) >= shape.count for shape in gang.shapes if shape.devices
    ) and sum(cleared) >= sum(shape.devices * shape.count for shape in gang.shapes)


def rearranged(workload: Waiting, bench: Bench, movable: Mapping[str, int], work: Work) -> Rearranged | None:
    """Start the workload too, all others still started, at the least cost for them, or none where that is not found."""
    for rank in open_ranks(workload, bench.facts):
        for offer in sorted(bench.offers(workload, rank), key=lambda offer: _price(offer, bench)):
            if could_fit(offer, bench, movable):
                attempt = _Arrangement.of(workload, offer, bench, movable)
                if (found := attempt.solved(work)) is not None:
                    return found
    return None


def _price(offer: Offer, bench: Bench) -> tuple[int, str]:
    nodes = bench.world.nodes(offer.classes)
    return cost_on(offer.request.spec, nodes[0].node, bench.world) if nodes else 0, str(offer.supply)


def _shortlist(offer: Offer, bench: Bench, movable: Mapping[str, int]) -> frozenset[str]:
    """Nodes that are cheap to clear for the gang, up to half of all, and nodes with room for what must leave them.

    Where there are few of both, also nodes on which room can be made for what leaves these, and so on.
    """
    gang, most = offer.request.gang.at_minimum(), bench.facts.policy.goals.improvement.nodes
    size = max(shape.devices for shape in gang.shapes)

    def effort(entry: NodeRoom) -> tuple[Fraction, str]:
        moved = movable.get(entry.node.id, 0)
        holds = (entry.whole + moved) // size
        return Fraction(moved if entry.whole // size < holds else 0, holds), entry.node.id

    places = [place for place in _places(gang, bench.world.nodes(offer.classes)) if _holds(gang, place, movable)]
    cleared = [
        sorted((entry for entry in place if entry.whole + movable.get(entry.node.id, 0) >= size), key=effort)
        for place in places
    ]
    needed = sum(shape.count for shape in gang.shapes if shape.devices)
    cleared.sort(key=lambda place: [effort(entry) for entry in place[:needed]])
    targets = [entry.node.id for place in cleared for entry in place]
    chosen = targets[: most // 2]
    for more in (_hosts(chosen, bench, {}), targets):
        chosen += [node_id for node_id in more if node_id not in chosen][: most - len(chosen)]
    while len(chosen) < most and (further := [each for each in _hosts(chosen, bench, movable) if each not in chosen]):
        chosen += further[: most - len(chosen)]
    return frozenset(chosen)


def _hosts(targets: Collection[str], bench: Bench, movable: Mapping[str, int]) -> list[str]:
    """Nodes that somebody on these would accept, with whole devices free or to be freed (`movable`), the freest first."""
    near = set(targets)
    leaving = [each for each in bench.movers if any(share.node_id in near for share in each.start.placement.shares)]
    classes = {home for each in leaving for offer in bench.offers(each.workload, each.alike) for home in offer.classes}
    free = [
        entry for home in sorted(classes) for entry in bench.world.classes[home] if entry.whole or movable.get(entry.node.id)
    ]
    return [entry.node.id for entry in sorted(free, key=lambda entry: (-entry.whole, entry.node.id))]


@dataclass(slots=True)
class _Arrangement:
    """Everybody on the shortlist as a programme: the gang at its minimum, and all whose every node is on it."""

    workload: Waiting
    offer: Offer
    bench: Bench
    movers: list[Seated]
    base: World
    nodes: Nodes
    programme: Programme = field(default_factory=Programme)
    wanted: defaultdict[str, Demand] = field(default_factory=lambda: defaultdict(Demand))
    alike: dict[str, list[Seated]] = field(default_factory=dict)
    """Single replicas of one kind, by the name under which they are seated together."""
    choices: dict[str, dict[str, Offer]] = field(default_factory=dict)
    """What a gang may choose among, by its id and the name under which it is seated there."""
    costs: list[tuple[Variable, int]] = field(default_factory=list)
    aims: list[tuple[Variable, int]] = field(default_factory=list)
    seating: Seating = field(init=False)

    def __post_init__(self) -> None:
        self.seating = Seating(self.programme)

    @classmethod
    def of(cls, workload: Waiting, offer: Offer, bench: Bench, movable: Mapping[str, int]) -> "_Arrangement":
        """The programme for one gang on one supply."""
        near = _shortlist(offer, bench, movable)
        movers = [each for each in bench.movers if all(share.node_id in near for share in each.start.placement.shares)]
        base = bench.without(movers)
        nodes = in_order(NodeRoom.of(bench.nodes[node_id], base.rooms[node_id]) for node_id in near)
        plan = cls(workload, offer, bench, movers, base, nodes)
        plan._seat_the_gang()
        plan._seat_the_movers()
        for node_id, demand in plan.wanted.items():
            plan.seating.fit(demand, base.rooms[node_id], Demand())
        plan._limit_the_cost()
        return plan

    def _seat_the_gang(self) -> None:
        gang = self.offer.request.gang.at_minimum()
        self.seating.seat(self.workload.id, gang, self._inside([self.offer]), [], [self.wanted])
        self._weigh(self.workload, self.workload.id, gang, {}, counts=False)

    def _seat_the_movers(self) -> None:
        singles: defaultdict[tuple[Kind, int | None], list[Seated]] = defaultdict(list)
        for each in self.movers:
            if sum(each.numbers.values()) == 1:
                singles[self.bench.kind(each.workload), each.request.index].append(each)
            else:
                self._seat_one(each)
        for members in singles.values():
            self._seat_alike(f"alike/{len(self.alike)}", members)

    def _seat_alike(self, name: str, members: list[Seated]) -> None:
        """So many single replicas, wherever each may be."""
        self.alike[name] = members
        example = members[0]
        gang = example.again(example.request).gang
        level = gang.topology.required
        nodes = self._inside(self.bench.offers(example.workload, example.alike))
        inside = tuple(entry for entry in nodes if level is None or entry.node.domain(level) is not None)
        counts = {shape.name: shape.count * len(members) for shape in gang.shapes}
        many = exactly(Gang(gang.shapes, NO_TOPOLOGY), counts)
        self.seating.seat(name, many, inside, [], [self.wanted])
        now: dict[tuple[str, str], int] = {}
        for each in members:
            for place, number in each.numbers.items():
                now[place] = now.get(place, 0) + number
        self._weigh(example.workload, name, many, now)

    def _seat_one(self, each: Seated) -> None:
        """A gang, in one of the supplies that it may be in."""
        names: dict[str, Offer] = {}
        chosen: list[tuple[Variable, int]] = []
        for offer in self.bench.offers(each.workload, each.alike):
            name = f"one/{each.workload.id}/{len(names)}"
            nodes, gang = self._inside([offer]), each.again(offer.request).gang
            names[name] = offer
            choice = self.programme.variable()
            chosen.append((choice, 1))
            self.seating.seat(name, gang, nodes, [choice], [self.wanted])
            self._weigh(each.workload, name, gang, each.numbers)
        self.choices[each.workload.id] = names
        self.programme.require(chosen, least=1, most=1)

    def _inside(self, offers: Iterable[Offer]) -> Nodes:
        classes = {home for offer in offers for home in offer.classes}
        return tuple(entry for entry in self.nodes if self.bench.world.homes[entry.node.id] in classes)

    def _weigh(self, workload: Waiting, who: str, gang: Gang, now: Numbers, *, counts: bool = True) -> None:
        """What seats cost, and a little less where somebody can stay."""
        for shape, entry, number in self._seats(who, gang):
            cost = cost_on(workload.spec, entry.node, self.bench.world) * shape.devices
            self.aims.append((number, cost))
            if counts:
                self.costs.append((number, cost))
            if here := now.get((entry.node.id, shape.name), 0):
                stays = self.programme.variable(here)
                self.programme.require([(stays, 1), (number, -1)], most=0)
                self.aims.append((stays, -1))

    def _seats(self, who: str, gang: Gang) -> list[tuple[Shape, NodeRoom, Variable]]:
        by_group = self.seating.by_group
        return [
            (shape, entry, by_group[who, shape.name, entry.node.id])
            for shape in gang.shapes
            for entry in self.nodes
            if (who, shape.name, entry.node.id) in by_group
        ]

    def _limit_the_cost(self) -> None:
        """All who move may together become as much dearer as the policy lets what starts be worth."""
        worth = millionths(self.bench.facts.policy.goals.improvement.worth)
        devices = self.offer.request.gang.at_minimum().minimum_milli // WHOLE
        before = sum(self.bench.cost(each.workload, each.start.placement) for each in self.movers)
        if self.costs:
            self.programme.require(self.costs, most=before + worth * devices)
        self.programme.objectives = [tuple(self.aims)]

    def solved(self, work: Work) -> Rearranged | None:
        """The bench in which the gang has started."""
        work.spend(WORK_PER_VARIABLE * len(self.programme.upper))
        if work.left <= 0:
            work.is_short = True
            return None
        solution = solve(self.programme, min(work.left, work.at_once), {})
        work.spend(solution.work)
        if isinstance(solution, NoSolution):
            work.is_short = work.is_short or not solution.proven
            return None
        return self._carried_out(solution)

    def _carried_out(self, solution: Solution) -> Rearranged | None:
        seats = [*self._resettled(solution), self._beginning(solution)]
        moved = tuple(seat.workload.id for seat in seats[:-1])
        better = self.bench.seated(moved, seats)
        return None if better is None else Rearranged(better, moved)

    def _beginning(self, solution: Solution) -> Seat:
        request = self.offer.request
        numbers = self._numbers(solution, self.workload.id, request.gang)
        return Seat(self.workload, request.at_minimum(), self.offer.supply, self.offer.classes, numbers, request.gang)

    def _resettled(self, solution: Solution) -> list[Seat]:
        """The new seats of all that do not stay."""
        seats = [seat for name, members in self.alike.items() for seat in self._parted(solution, name, members)]
        for each in self.movers:
            for name, offer in self.choices.get(each.workload.id, {}).items():
                request = each.again(offer.request)
                numbers = self._numbers(solution, name, request.gang)
                if numbers and numbers != each.numbers:
                    seats.append(Seat(each.workload, request, offer.supply, offer.classes, numbers, offer.request.gang))
        order = {id: place for place, id in enumerate(self.bench.starts)}
        return sorted(seats, key=lambda seat: order[seat.workload.id])

    def _parted(self, solution: Solution, name: str, members: Sequence[Seated]) -> list[Seat]:
        """Who of those that are alike goes to which of their places: whoever can stays."""
        left = self._numbers(solution, name, members[0].request.gang)
        going = []
        for each in members:
            (place,) = each.numbers
            if left.get(place, 0):
                left[place] -= 1
            else:
                going.append(each)
        places = [place for place, number in sorted(left.items()) for _ in range(number)]
        return [self._moved(each, place) for each, place in zip(going, places, strict=True)]

    def _moved(self, each: Seated, place: tuple[str, str]) -> Seat:
        home = self.bench.world.homes[place[0]]
        offer = next(offer for offer in self.bench.offers(each.workload, each.alike) if home in offer.classes)
        return Seat(each.workload, each.again(offer.request), home.supply, offer.classes, {place: 1}, offer.request.gang)

    def _numbers(self, solution: Solution, who: str, gang: Gang) -> dict[tuple[str, str], int]:
        return {
            (entry.node.id, shape.name): solution.values[number]
            for shape, entry, number in self._seats(who, gang)
            if solution.values[number]
        }
