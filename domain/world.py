"""The pool as the decisions of a round change it: an immutable what-if of room and quota use."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from operator import attrgetter
from typing import NamedTuple

from corral.api import WHOLE, CapacityType, Dataset, State, WorkloadSpec
from corral.policy import Policy
from domain.fleet import Amount, Health, Node, Placement, Room
from domain.law import Law
from domain.quota import QuotaTree, Usage
from domain.snapshot import Snapshot
from domain.workload import Active, Charge, charges_at, charges_of, length_of


class Supply(NamedTuple):
    """What a gang must sit within: one provider, region and SKU."""

    provider: str
    region: str
    sku: str

    def __str__(self) -> str:
        return "/".join(self)


@dataclass(frozen=True, slots=True, order=True)
class Traits:
    """All that a filter may look at: nodes with the same traits pass the same filters."""

    supply: Supply
    capacity_type: CapacityType
    taints: tuple[str, ...]
    health: Health


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
    order: tuple[int, int, Amount, int, int, str]

    @classmethod
    def of(cls, node: Node, room: Room) -> "NodeRoom":
        """The node with this much room."""
        whole, milli = room.whole_devices, room.milli
        broken = () if milli == whole * WHOLE else tuple(sorted(free for free in room.devices if 0 < free < WHOLE))
        return cls(node, room, whole, broken, milli, (node.price, whole, milli, room.cpu_milli, room.memory_mib, node.id))


Nodes = tuple[NodeRoom, ...]
"""Nodes in order: cheap ones first, the fullest first among equal prices."""


def in_order(nodes: Iterable[NodeRoom]) -> Nodes:
    """Sort nodes into the order in which replicas are offered them."""
    return tuple(sorted(nodes, key=attrgetter("order")))


def with_rooms(nodes: Nodes, rooms: Mapping[str, Room]) -> Nodes:
    """The same nodes in order, some of them with another room (by node id)."""
    return in_order(NodeRoom.of(entry.node, rooms[entry.node.id]) if entry.node.id in rooms else entry for entry in nodes)


@dataclass(frozen=True, slots=True)
class World:
    """What is free and who uses how much quota, after the decisions taken so far.

    `classes` holds the nodes by their traits, `homes` the traits of each node, `prices` what an accelerator of it costs.
    `coming` is room, by node, that becomes free when attempts with notice to leave have left, and that nobody was promised.
    `stopped` are attempts that were given notice in this round, to leave or to go on in another shape. `law`, `policy` and
    `datasets` (by name) are what hard constraints and soft goals are read from; no decision changes them.
    """

    classes: Mapping[Traits, Nodes]
    homes: Mapping[str, Traits]
    rooms: Mapping[str, Room]
    prices: Mapping[str, int]
    usage: Usage
    coming: Mapping[str, Room]
    stopped: frozenset[str] = frozenset()
    law: Law = field(default_factory=Law)
    policy: Policy = field(default_factory=Policy)
    datasets: Mapping[str, Dataset] = field(default_factory=dict)

    @classmethod
    def of(cls, snapshot: Snapshot, tree: QuotaTree) -> "World":
        """The world that the snapshot shows."""
        world = cls.idle(snapshot.nodes, tree, _free_rooms(snapshot), policy=snapshot.policy)
        usage = with_uses(world.usage, (active for active in snapshot.active if not active.preempted))
        datasets = {dataset.name: dataset for dataset in snapshot.datasets}
        return replace(world, usage=usage, coming=_coming(snapshot), datasets=datasets)

    @classmethod
    def idle(
        cls, nodes: Iterable[Node], tree: QuotaTree, rooms: Mapping[str, Room] | None = None, *, policy: Policy
    ) -> "World":
        """A world in which nothing has quota in use and nodes have the given room, or all of theirs."""
        by_traits: dict[Traits, list[NodeRoom]] = {}
        homes: dict[str, Traits] = {}
        prices: dict[str, int] = {}
        for node in nodes:
            prices[node.id] = node.price
            homes[node.id] = _traits(node)
            entry = NodeRoom.of(node, rooms[node.id] if rooms else _with_replicas(node.total, node.most_replicas))
            by_traits.setdefault(homes[node.id], []).append(entry)
        classes = {traits: in_order(by_traits[traits]) for traits in sorted(by_traits)}
        free = {entry.node.id: entry.room for entry in chain(*classes.values())}
        return cls(classes, homes, free, prices, Usage(tree), {}, law=Law.of(policy.constraints), policy=policy)

    def with_(self, spec: WorkloadSpec, placement: Placement, *, is_part: bool = False) -> "World":
        """The world after the workload has been given free capacity, or more of it beside what it has (a part)."""
        taken = {share.node_id: self.rooms[share.node_id] - share.room for share in placement.shares}
        cost = sum(share.room.milli * self.prices[share.node_id] for share in placement.shares)
        charges = charges_of(spec, placement, cost, length_of(spec), is_part=is_part)
        return replace(self._with_rooms(taken), usage=with_charges(self.usage, charges))

    def without(self, victims: Iterable[Active]) -> "World":
        """The world once these attempts have left: their room is free and their quota is not in use."""
        leaving = tuple(victims)
        return replace(self._with_rooms(freed_by(leaving, self.rooms)), usage=with_uses(self.usage, leaving, sign=-1))

    def promising(
        self, spec: WorkloadSpec, placement: Placement, victims: Iterable[Active], *, is_part: bool = False
    ) -> "World":
        """The world after capacity was promised that is free only when the victims, and all who have notice, have left.

        What is promised counts as not free at once, even where it will come from a victim; whatever the victims and the
        promise leave over beyond that is coming.
        """
        stopped = tuple(victims)
        later = self.when_all_have_left().without(stopped).with_(spec, placement, is_part=is_part)
        promised = {share.node_id: share.room for share in placement.shares}
        free = {node_id: _not_negative(self.rooms[node_id] - room) for node_id, room in promised.items()}
        left = {node_id for victim in stopped for node_id, _ in _rooms(victim, self.rooms)}
        coming = {
            node_id: later.rooms[node_id] - free.get(node_id, self.rooms[node_id])
            for node_id in sorted(self.coming.keys() | promised.keys() | left)
        }
        return replace(
            self._with_rooms(free),
            usage=later.usage,
            coming=coming,
            stopped=self.stopped | {victim.attempt_id for victim in stopped},
        )

    def setting_aside(self, spec: WorkloadSpec, amounts: Mapping[str, Amount], placement: Placement) -> "World":
        """The world in which nobody else may have this much quota, by SKU, nor as many devices of the placement's nodes.

        Devices are taken from the freest on; where there are too few, the shortage stays on those that are in use.
        """
        charges = (Charge(spec.queue, sku, spec.preemptible, milli) for sku, milli in amounts.items())
        kept = {share.node_id: _freest_taken(self.rooms[share.node_id], share.room) for share in placement.shares}
        return replace(self._with_rooms(kept), usage=with_charges(self.usage, charges))

    def leaving(self, actives: Iterable[Active], *, are_parts: bool = False) -> "World":
        """The world once these attempts, or these parts of attempts, have notice: their quota is free, their room is coming."""
        leaving = tuple(actives)
        freed = freed_by(leaving, self.rooms)
        more = {node_id: room - self.rooms[node_id] for node_id, room in freed.items()}
        coming = {node_id: self.coming[node_id] + room if node_id in self.coming else room for node_id, room in more.items()}
        charges = [charge for active in leaving for charge in charges_of(active.spec, active.placement, is_part=are_parts)]
        return replace(self, usage=with_charges(self.usage, charges, sign=-1), coming={**self.coming, **coming})

    def nodes(self, classes: Iterable[Traits]) -> Nodes:
        """The nodes with any of these traits, in order."""
        found = [self.classes[traits] for traits in classes]
        return found[0] if len(found) == 1 else in_order(chain(*found))

    def when_all_have_left(self) -> "World":
        """The world once every attempt with notice to leave has left; the world itself when none has notice."""
        if not self.coming:
            return self
        return self._with_rooms({node_id: self.rooms[node_id] + room for node_id, room in self.coming.items()})

    def _with_rooms(self, rooms: Mapping[str, Room]) -> "World":
        by_traits: dict[Traits, dict[str, Room]] = {}
        for node_id, room in rooms.items():
            by_traits.setdefault(self.homes[node_id], {})[node_id] = room
        changed = {traits: with_rooms(self.classes[traits], rooms) for traits, rooms in by_traits.items()}
        return replace(self, classes={**self.classes, **changed}, rooms={**self.rooms, **rooms})


def _traits(node: Node) -> Traits:
    supply = Supply(node.provider, node.region, node.sku)
    return Traits(supply, node.capacity_type, tuple(sorted(node.taints)), node.health)


def with_uses(usage: Usage, actives: Iterable[Active], sign: int = 1) -> Usage:
    """The usage with that of these attempts added, or taken away with a negative sign."""
    now = usage.tree.now
    charges = (charges_at(active, now) if now else charges_of(active.spec, active.placement) for active in actives)
    return with_charges(usage, chain.from_iterable(charges), sign)


def with_charges(usage: Usage, charges: Iterable[Charge], sign: int = 1) -> Usage:
    """The same where the charges are known; like ones are counted together."""
    totals: dict[tuple[str, str, bool, str | None], tuple[Amount, int]] = {}
    every = tuple(charges)
    for charge in every:
        key = charge.queue, charge.sku, charge.preemptible, charge.user
        before = totals.get(key, (0, 0))
        totals[key] = before[0] + charge.milli, before[1] + charge.workloads
    for (queue, sku, preemptible, user), (milli, workloads) in totals.items():
        usage = usage.plus(queue, sku, sign * milli, preemptible=preemptible, user=user, workloads=sign * workloads)
    return usage.committing(every, sign) if usage.tree.balances else usage


def freed_by(leaving: Iterable[Active], rooms: Mapping[str, Room]) -> dict[str, Room]:
    """The room that each of these nodes has once the attempts have left it; nodes that they do not touch are left out."""
    freed: dict[str, Room] = {}
    for active in leaving:
        for node_id, room in _rooms(active, rooms):
            freed[node_id] = freed.get(node_id, rooms[node_id]) + room
    return freed


def _rooms(active: Active, rooms: Mapping[str, Room]) -> Iterable[tuple[str, Room]]:
    """What the attempt has on nodes that still exist as it knew them: a node may come back with fewer devices."""
    return (
        (share.node_id, share.room)
        for share in active.placement.shares
        if share.node_id in rooms and len(rooms[share.node_id].devices) == len(share.room.devices)
    )


def _free_rooms(snapshot: Snapshot) -> dict[str, Room]:
    """What is free on each node, with the replicas that it still takes beside all that have a place on it."""
    placed: dict[str, int] = {}
    for active in snapshot.active:
        for share in active.placement.shares:
            placed[share.node_id] = placed.get(share.node_id, 0) + len(share.replicas)
    return {node.id: _with_replicas(node.free, max(0, node.most_replicas - placed.get(node.id, 0))) for node in snapshot.nodes}


def _with_replicas(room: Room, replicas: int) -> Room:
    return room if room.replicas == replicas else replace(room, replicas=replicas)


def _coming(snapshot: Snapshot) -> dict[str, Room]:
    """Room that attempts on their way out still have and that nobody was promised, by node."""
    free = _free_rooms(snapshot)
    totals = {node.id: _with_replicas(node.total, node.most_replicas) for node in snapshot.nodes}
    leaving: dict[str, Room] = {}
    unclaimed = {node_id: total - free[node_id] for node_id, total in totals.items()}
    for active in snapshot.active:
        is_leaving = active.preempted or active.state is State.STOPPING
        for node_id, room in _rooms(active, totals):
            if is_leaving:
                leaving[node_id] = leaving[node_id] + room if node_id in leaving else room
            else:
                unclaimed[node_id] -= room
    return {node_id: _not_negative(least(room, unclaimed[node_id])) for node_id, room in leaving.items()}


def least(one: Room, other: Room) -> Room:
    """What both have."""
    return Room(
        tuple(map(min, one.devices, other.devices)),
        min(one.cpu_milli, other.cpu_milli),
        min(one.memory_mib, other.memory_mib),
        min(one.replicas, other.replicas),
    )


def _freest_taken(room: Room, taken: Room) -> Room:
    """The room without as much on each of the freest devices as was taken of each device."""
    devices = list(room.devices)
    freest = sorted(range(len(devices)), key=lambda device: -devices[device])
    for device, milli in zip(freest, sorted(taken.devices, reverse=True), strict=True):
        devices[device] -= milli
    left = room - taken
    return replace(left, devices=tuple(devices))


def _not_negative(room: Room) -> Room:
    return Room(
        tuple(max(0, milli) for milli in room.devices),
        max(0, room.cpu_milli),
        max(0, room.memory_mib),
        max(0, room.replicas),
    )
