"""Bids: one request on one supply, tried with this or that done to the work that runs there."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from domain.decision import Change, Proof, Reshape
from domain.disruption.means import Cost, Elastic, Means, Remainder, Step, Steps, as_it_is, cost_of, remainders, running_request
from domain.disruption.protection import Stoppable
from domain.facts import Facts
from domain.placement.feasibility import sift
from domain.placement.layout import Candidate, best_on, fits_on, has_room, lay_out
from domain.placement.sieve import free_milli, surely_too_small, with_room
from domain.pool.fleet import Amount, Placement, Room
from domain.pool.stock import NodeRoom, in_order
from domain.pool.workload import Active
from domain.preemption.herd import near
from domain.quota.usage import Usage
from domain.worlds.request import Request
from domain.worlds.world import Nodes, Supply, Traits, World, freed_by, least, with_charges, with_rooms

Seats = Mapping[str, Collection[str]]
"""Node ids to which somebody is confined: the beneficiary under its workload's id, work that moves under its attempt's."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """Once these steps have been taken, the candidate fits; `moves` are the new places of work that migrates."""

    candidate: Candidate
    steps: Steps
    remainders: tuple[Remainder, ...]
    proof: Proof | None = None

    @property
    def cost(self) -> Cost:
        """What it costs."""
        return cost_of(self.steps)

    @property
    def stopped(self) -> tuple[str, ...]:
        """Attempts that must leave."""
        return tuple(each.active.attempt_id for each in self.remainders if each.means is Means.STOP)

    def reshapes(self, beneficiary: str) -> tuple[Reshape, ...]:
        """Attempts that run on with fewer replicas or elsewhere."""
        return tuple(
            Reshape(each.active.attempt_id, CHANGES[each.means], each.placement, beneficiary)
            for each in self.remainders
            if each.placement is not None
        )


CHANGES = {Means.SHRINK: Change.SHRINK, Means.MIGRATE: Change.MIGRATE}


@dataclass(frozen=True, slots=True)
class Bid:
    """One request on the nodes of one supply, in the world in which all who have notice have left.

    `rooms` is what its nodes have then, by id; `now` is the world as it is, for work that moves goes to room that is free
    at once. `missing` is what must be given back at the very least; 0 when it is not for accelerators that the request waits.
    `stoppable` and `elastic` are the work that may matter.
    """

    request: Request
    supply: Supply
    nodes: Nodes
    rooms: Mapping[str, Room]
    usage: Usage
    now: World
    later: World
    missing: Amount
    stoppable: Sequence[Stoppable]
    elastic: Sequence[Elastic]

    @classmethod
    def of(
        cls,
        request: Request,
        supply: Supply,
        classes: Iterable[Traits],
        now: World,
        later: World,
        facts: Facts,
        *,
        own_first: bool = False,
    ) -> "Bid | None":
        """The request on the nodes of these classes that are worth looking at, or none where nothing would be enough.

        With `own_first` borrowers count for whom it has a right once lower work of its own queue has left.
        """
        nodes = later.nodes(classes)
        seen = near(request, supply, nodes, later, facts, own_first=own_first)
        if seen is None:
            return None
        rooms = {entry.node.id: entry.room for entry in seen.nodes}
        missing = max(0, request.gang.minimum_milli - free_milli(nodes))
        return cls(request, supply, seen.nodes, rooms, later.usage, now, later, missing, seen.stoppable, seen.elastic)

    def among(self, nodes: Nodes) -> "Bid":
        """The same on some of its nodes."""
        missing = max(0, self.request.gang.minimum_milli - sum(entry.milli for entry in nodes))
        return replace(self, nodes=nodes, rooms={entry.node.id: entry.room for entry in nodes}, missing=missing)

    @property
    def has_quota(self) -> bool:
        """Whether the request's minimum is within its quota as it is."""
        needs = self.request.gang.least_by_sku(self.supply.sku)
        return all(needed <= self.usage.allowed(self.request.spec, sku) for sku, needed in needs.items())

    def lives_on_its_own(self, steps: Iterable[Step]) -> bool:
        """Whether the queue lives on what it owns with the request's minimum, once the steps have been taken."""
        usage, gang = self._usage_after(tuple(remainders(steps))), self.request.gang
        return usage.is_within_nominal(self.request.spec.queue, self.supply.sku, gang.minimum_milli)

    def candidate(self, steps: Iterable[Step], seats: Seats | None = None) -> Candidate | None:
        """Where the request fits once the steps have been taken, wherever work that moves may go."""
        return self._candidate(tuple(remainders(steps)), seats)

    def fits(self, steps: Iterable[Step]) -> bool:
        """Whether there is a `candidate` once the steps have been taken; what is given back takes no quota away."""
        left, profile = tuple(remainders(steps)), self.later.policy.goals.topology
        if self.has_quota and not self.usage.tree.balances:
            return has_room(self.request.gang, self._nodes_after(left), profile)
        return fits_on(self.request, self.supply, self._nodes_after(left), self._usage_after(left), profile)

    def settle(self, steps: Steps, seats: Seats | None = None) -> Settlement | None:
        """The candidate with a place for all that moves, or none where either is not to be had."""
        left = tuple(remainders(steps))
        if (candidate := self._candidate(left, seats)) is None:
            return None
        settled = self._resettled(left, candidate.placement, seats)
        return None if settled is None else Settlement(candidate, steps, settled)

    def _candidate(self, left: tuple[Remainder, ...], seats: Seats | None) -> Candidate | None:
        nodes, profile = _seated(self._nodes_after(left), self.request.id, seats), self.later.policy.goals.topology
        return best_on(self.request, self.supply, nodes, self._usage_after(left), profile)

    def _nodes_after(self, left: Iterable[Remainder]) -> Nodes:
        """The nodes once this is what is left of those to whom something is done."""
        return with_rooms(self.nodes, freed_by((each.leaves for each in left), self.rooms))

    def _usage_after(self, left: Iterable[Remainder]) -> Usage:
        """The usage then."""
        return with_charges(self.usage, (charge for each in left for charge in each.given_back), sign=-1)

    def _resettled(self, left: tuple[Remainder, ...], promised: Placement, seats: Seats | None) -> tuple[Remainder, ...] | None:
        """The same with a new place for all that moves, the largest first, in room that is free now and that nobody gets."""
        settled: dict[str, Remainder] = {}
        moving = sorted(
            (each for each in left if each.means is Means.MIGRATE),
            key=lambda each: (-each.active.milli, each.active.attempt_id),
        )
        rooms = self._free_at_once(left, promised) if moving else {}
        for each in moving:
            if (placement := self._place(each.active, rooms, seats)) is None:
                return None
            settled[each.active.attempt_id] = replace(each, placement=placement)
            rooms |= {share.node_id: self._at_once(share.node_id, rooms) - share.room for share in placement.shares}
        return tuple(settled.get(each.active.attempt_id, each) for each in left)

    def _free_at_once(self, left: tuple[Remainder, ...], promised: Placement) -> dict[str, Room]:
        """By node that this changes, what is free now and stays free once the request has what it was promised."""
        now, later = self.now.rooms, self.later.rooms
        rooms = freed_by((each.leaves for each in left), later)
        for share in promised.shares:
            rooms[share.node_id] = rooms.get(share.node_id, later[share.node_id]) - share.room
        return {node_id: least(room, now[node_id]) for node_id, room in rooms.items()}

    def _place(self, active: Active, rooms: Mapping[str, Room], seats: Seats | None) -> Placement | None:
        """A place for the attempt as it is, on the supply that it is on."""
        request = running_request(active)
        gang = as_it_is(request.gang)
        homes = self.homes(replace(request, gang=gang))
        nodes = in_order(_with_room(entry, self._at_once(entry.node.id, rooms)) for entry in homes)
        layout = lay_out(gang, _seated(nodes, active.attempt_id, seats), self.later.policy.goals.topology)
        return None if layout is None else replace(active.placement, shares=layout.shares)

    def _at_once(self, node_id: str, rooms: Mapping[str, Room]) -> Room:
        """What a node has for work that moves, where these rooms have changed."""
        if (known := rooms.get(node_id)) is not None:
            return known
        later, now = self.later.rooms[node_id], self.now.rooms[node_id]
        return now if later == now else least(later, now)

    def has_home(self, active: Active) -> bool:
        """Whether it is left open that the attempt, as it is, has a place to move to in room that is free now."""
        request = running_request(active)
        nodes = self.now.nodes(sift(request, self.now).classes.get(self.supply, ()))
        return not surely_too_small(as_it_is(request.gang), nodes)

    def homes(self, request: Request) -> Nodes:
        """Nodes of the bid's supply that another request may be on, if room that is free now is enough for any of it."""
        return with_room(request.gang.shapes, self.now.nodes(sift(request, self.now).classes.get(self.supply, ())))


def _with_room(entry: NodeRoom, room: Room) -> NodeRoom:
    return entry if entry.room is room else NodeRoom.of(entry.node, room)


def _seated(nodes: Nodes, who: str, seats: Seats | None) -> Nodes:
    if seats is None or who not in seats:
        return nodes
    return tuple(entry for entry in nodes if entry.node.id in seats[who])
