"""The bench: the starts of a round laid out to be placed anew, while nobody has been told of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from corral.api import WHOLE, State
from domain.decision import Start
from domain.facts import Facts
from domain.placement.feasibility import Offer, offers, sift
from domain.placement.layout import best_on
from domain.placement.scoring import Score, cost_on, weighed
from domain.pool.fleet import Node, Placement, Room
from domain.pool.stock import NodeRoom, in_order
from domain.pool.workload import Waiting, next_attempt
from domain.quota_models.openings import open_ranks
from domain.worlds.request import Gang, Kind, Request
from domain.worlds.world import Nodes, Supply, Traits, World

Numbers = Mapping[tuple[str, str], int]
"""Replicas by node id and group."""


@dataclass(frozen=True, slots=True)
class Seated:
    """A start of the round, the request that it answers, the others of the same rank of targets, and whether it may move.

    Only what asks for plain devices may: a preferred topology, slices and shares of devices stay as they were chosen.
    """

    workload: Waiting
    start: Start
    request: Request
    alike: Sequence[Request]
    may_move: bool

    @property
    def numbers(self) -> dict[tuple[str, str], int]:
        """Where its replicas are."""
        found: dict[tuple[str, str], int] = {}
        for share in self.start.placement.shares:
            for replica in share.replicas:
                found[share.node_id, replica.group] = found.get((share.node_id, replica.group), 0) + 1
        return found

    def again(self, request: Request) -> Request:
        """Another request of its rank for exactly the replicas that it has."""
        counts = {shape.name: 0 for shape in request.gang.shapes}
        for (_, group), number in self.numbers.items():
            counts[group] += number
        return replace(request, gang=exactly(request.gang, counts))


def undone(world: World, started: Iterable[tuple[Waiting, Start]], now: datetime) -> World:
    """The world as if these had not started."""
    prices = world.prices
    return world.without(next_attempt(each, State.RESERVED, start.placement, prices, now) for each, start in started)


def exactly(gang: Gang, counts: Mapping[str, int]) -> Gang:
    """The gang with so many replicas of each group, no fewer and no more."""
    shapes = (replace(shape, minimum=counts[shape.name], count=counts[shape.name]) for shape in gang.shapes)
    return replace(gang, shapes=tuple(shapes), fewest=0)


def is_plain(gang: Gang) -> bool:
    """Whether whole devices on nodes, in one domain at most, are all that the gang asks for."""
    return (
        all(shape.milli % WHOLE == 0 and shape.terms.topology is None and shape.terms.colocate is None for shape in gang.shapes)
        and any(shape.milli for shape in gang.shapes)
        and not gang.names_skus
        and gang.topology.slice_level is None
    )


@dataclass(frozen=True, slots=True)
class Seat:
    """Where somebody is to sit: a request on classes of a supply, or (where `numbers` are given) so many on each node."""

    workload: Waiting
    request: Request
    supply: Supply
    classes: Sequence[Traits]
    numbers: Numbers | None = None
    wanted: Gang | None = None
    """What it would have liked, where that is more than the request."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A world with the starts of the round in it, by workload id, in the order in which they were decided."""

    world: World
    facts: Facts
    starts: Mapping[str, Seated]
    nodes: Mapping[str, Node]
    known: dict[tuple[Kind, tuple[int | None, ...]], Sequence[Offer]]

    @classmethod
    def of(cls, world: World, facts: Facts, started: Iterable[tuple[Waiting, Start]]) -> "Bench":
        """The bench of a world in which these have started."""
        found = {workload.id: _seated(workload, start, facts) for workload, start in started}
        nodes = {entry.node.id: entry.node for entries in world.classes.values() for entry in entries}
        return cls(world, facts, found, nodes, {})

    def kind(self, workload: Waiting) -> Kind:
        """What decides about a workload."""
        return self.facts.kind(workload)

    def offers(self, workload: Waiting, requests: Sequence[Request]) -> Sequence[Offer]:
        """Where these requests of a workload may go."""
        key = self.kind(workload), tuple(request.index for request in requests)
        if key not in self.known:
            self.known[key] = [offer for request in requests for offer in offers(request, sift(request, self.world))]
        return self.known[key]

    @property
    def movers(self) -> list[Seated]:
        """The starts that may go elsewhere."""
        return [each for each in self.starts.values() if each.may_move]

    def without(self, leaving: Iterable[Seated]) -> World:
        """The world once these have no place any more."""
        return undone(self.world, [(each.workload, each.start) for each in leaving], self.facts.now)

    def cost(self, workload: Waiting, placement: Placement) -> Score:
        """What a placement costs by price and preferences, in millionths of a dollar an hour."""
        spec = workload.spec
        costs = (share.room.milli * cost_on(spec, self.nodes[share.node_id], self.world) for share in placement.shares)
        return sum(costs) // WHOLE

    def seated(self, moving: Iterable[str], seats: Iterable[Seat]) -> "Bench | None":
        """The bench with these starts in other places and with further ones, or none where a rule refuses one.

        Every one is placed by the rules of a turn, in the world that the others leave.
        """
        world = self.without(self.starts[id] for id in moving)
        starts = dict(self.starts)
        for seat in seats:
            if (start := self._placed(seat, world)) is None:
                return None
            world = world.with_(seat.workload.spec, start.placement)
            starts[seat.workload.id] = _seated(seat.workload, start, self.facts)
        return replace(self, world=world, starts=starts)

    def _placed(self, seat: Seat, world: World) -> Start | None:
        if seat.numbers is None:
            nodes: Nodes | None = world.nodes(seat.classes)
        else:
            nodes = self._cut(seat.request.gang, seat.numbers, world)
        profile = self.facts.policy.goals.topology
        candidate = nodes and best_on(seat.request, seat.supply, nodes, world.usage, profile)
        if not candidate:
            return None
        layout = candidate.layout
        left = tuple(NodeRoom.of(self.nodes[share.node_id], world.rooms[share.node_id] - share.room) for share in layout.shares)
        shown = replace(candidate, layout=replace(layout, left=left), wanted=seat.wanted or candidate.wanted)
        return Start(seat.workload.id, candidate.placement, weighed(shown, world))

    def _cut(self, gang: Gang, numbers: Numbers, world: World) -> Nodes | None:
        """The nodes with exactly the room for these replicas, or none where one has not so much."""
        cut: dict[str, Room] = {}
        for node_id in {node_id for node_id, _ in numbers}:
            room = world.rooms[node_id]
            placed = [(shape, numbers.get((node_id, shape.name), 0)) for shape in gang.shapes]
            needed = sum(shape.devices * number for shape, number in placed)
            if room.whole_devices < needed:
                return None
            free = [device for device, milli in enumerate(room.devices) if milli == WHOLE][:needed]
            cut[node_id] = Room(
                tuple(WHOLE if device in free else 0 for device in range(len(room.devices))),
                min(room.cpu_milli, sum(shape.cpu_milli * number for shape, number in placed)),
                min(room.memory_mib, sum(shape.memory_mib * number for shape, number in placed)),
                min(room.replicas, sum(number for _, number in placed)),
            )
        return in_order(NodeRoom.of(self.nodes[node_id], room) for node_id, room in cut.items())


def _seated(workload: Waiting, start: Start, facts: Facts) -> Seated:
    ranks = open_ranks(workload, facts)
    rank = next(rank for rank in ranks if any(request.index == start.placement.target for request in rank))
    request = next(request for request in rank if request.index == start.placement.target)
    may_move = is_plain(request.gang) and request.gang.topology.preferred is None
    return Seated(workload, start, request, rank, may_move)
