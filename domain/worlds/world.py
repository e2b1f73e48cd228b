"""The pool as the decisions of a round change it: an immutable what-if of room and quota use."""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple

from corral.api import CapacityType, Dataset, State, WorkloadTerms
from corral.policy import Policy, QuotaModel
from domain.pool.bookings import Engagement, Engagements, closed_to, engagements
from domain.pool.claimant import Claimant
from domain.pool.fleet import UNLIMITED_REPLICAS, Amount, Health, Node, Placement, Room
from domain.pool.stock import Atlas, NodeRoom, Stock, Stocks, in_order
from domain.pool.workload import Active, Charge, Waiting, charges_at, charges_of, length_of
from domain.quota.tree import QuotaTree
from domain.quota.usage import Usage
from domain.snapshot import Snapshot
from domain.worlds.dwindling import Stage
from domain.worlds.law import Law
from domain.worlds.outlook import OUTLOOK, Outlook


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
    engagements: tuple[Engagement, ...] = ()
    _hash: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.supply, self.capacity_type, self.taints, self.health, self.engagements)))

    def __hash__(self) -> int:
        return self._hash


NOT_ENGAGED: Engagements = MappingProxyType({})

MOST_REMEMBERED = 4_096
"""Answers; with more than that it is begun anew, so that a planner that runs for months does not grow."""

Nodes = Sequence[NodeRoom]
"""Nodes in order: cheap ones first, the fullest first among equal prices."""


def with_rooms(nodes: Nodes, rooms: Mapping[str, Room]) -> Nodes:
    """The same nodes in order, some of them with another room (by node id)."""
    return in_order(NodeRoom.of(entry.node, rooms[entry.node.id]) if entry.node.id in rooms else entry for entry in nodes)


class Rooms(Mapping[str, Room]):
    """The room of every node of a world, by node id."""

    __slots__ = ("_classes", "_homes")

    def __init__(self, classes: Mapping[Traits, Stock], homes: Mapping[str, Traits]) -> None:
        self._classes, self._homes = classes, homes

    def __getitem__(self, node_id: str) -> Room:
        return self._classes[self._homes[node_id]].entry(node_id).room

    def __contains__(self, node_id: object) -> bool:
        return node_id in self._homes

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)


@dataclass(frozen=True, slots=True)
class World:
    """What is free and who uses how much quota, after the decisions taken so far.

    `classes` holds the nodes by their traits, `homes` the traits of each node, `prices` what an accelerator of it costs.
    `coming` is room, by node, that becomes free when attempts with notice to leave have left, and that nobody was promised;
    `later` holds the nodes as they are then. `stopped` are attempts that were given notice in this round, to leave or to go on
    in another shape. `law`, `policy` and `datasets` (by name) are what hard constraints and soft goals are read from; no
    decision changes them.
    """

    classes: Mapping[Traits, Stock]
    later: Mapping[Traits, Stock]
    homes: Mapping[str, Traits]
    prices: Mapping[str, int]
    usage: Usage
    coming: Mapping[str, Room]
    stopped: frozenset[str] = frozenset()
    law: Law = field(default_factory=Law)
    policy: Policy = field(default_factory=Policy)
    datasets: Mapping[str, Dataset] = field(default_factory=dict)
    now: datetime | None = None
    """The time by which work may use nodes that are kept for others; none: whatever is kept."""
    wanted: frozenset[Engagement] = frozenset()
    """What nodes are kept for and lent to nobody else now, for somebody whom it is for wants it."""
    remembered: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)
    """Answers about what no decision changes, by question; shared by all worlds that come of one."""
    at_a_glance: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)
    """The same by which objects are asked about, which it keeps; for one round, for these are gone with their workloads."""
    room: Stage = field(default_factory=Stage, compare=False, repr=False)
    """What has no room on the nodes; worlds that come of this one by taking follow on the same course."""
    later_room: Stage = field(default_factory=Stage, compare=False, repr=False)
    """The same of the nodes as they are later."""

    @classmethod
    def of(cls, snapshot: Snapshot, tree: QuotaTree) -> "World":
        """The world that the snapshot shows."""
        atlas, nodes, tenants = Atlas(snapshot.nodes), {node.id: node for node in snapshot.nodes}, tenants_of(snapshot.active)
        if looks_ahead(snapshot.policy):
            everybody: Iterable[Active | Waiting] = chain(snapshot.active, snapshot.waiting, snapshot.bystanders)
            atlas.remembered[OUTLOOK] = Outlook.of(snapshot.nodes, everybody)
        free = {node.id: free_room(node, tenants) for node in snapshot.nodes}
        engaged = engagements(snapshot.bookings, snapshot.nodes)
        world = cls.idle(snapshot.nodes, tree, free, policy=snapshot.policy, atlas=atlas, engaged=engaged, now=tree.now)
        usage = with_uses(world.usage, (active for active in snapshot.active if not active.preempted))
        usage = with_lingering(usage, snapshot.active)
        datasets = {dataset.name: dataset for dataset in snapshot.datasets}
        return replace(world, usage=usage, datasets=datasets).expecting(coming(snapshot.active, nodes, free, tenants))

    @classmethod
    def idle(
        cls,
        nodes: Iterable[Node],
        tree: QuotaTree,
        rooms: Mapping[str, Room] | None = None,
        *,
        policy: Policy,
        atlas: Atlas | None = None,
        engaged: Engagements = NOT_ENGAGED,
        now: datetime | None = None,
    ) -> "World":
        """A world in which nothing has quota in use and nodes have the given room, or all of theirs."""
        every = tuple(nodes)
        atlas = atlas or Atlas(every)
        by_traits: dict[Traits, list[NodeRoom]] = {}
        homes: dict[str, Traits] = {}
        known: dict[object, Traits] = {}
        for node in every:
            its = engaged.get(node.id, ())
            key = node.provider, node.region, node.sku, node.capacity_type, node.taints, node.health, its
            traits = known.get(key) or known.setdefault(key, _traits(node, its))
            homes[node.id] = traits
            entry = NodeRoom.of(node, rooms[node.id] if rooms else _with_replicas(node.total, node.most_replicas))
            by_traits.setdefault(traits, []).append(entry)
        classes = {traits: Stock.of(by_traits[traits], atlas) for traits in sorted(by_traits)}
        prices = {node.id: node.price for node in every}
        return cls(classes, classes, homes, prices, Usage(tree), {}, law=Law.of(policy.constraints), policy=policy, now=now)

    def closed_to(self, claimant: Claimant) -> frozenset[Engagement]:
        """What nodes are kept for that keeps this workload from them now."""
        if (every := self.remembered.get("engagements")) is None:
            every = self.remembered["engagements"] = frozenset(chain.from_iterable(each.engagements for each in self.classes))
        if not every or self.now is None:
            return frozenset()
        return closed_to(claimant, every, self.usage.tree.paths, self.now, self.policy.limits, self.wanted)

    def wanting(self, wanted: frozenset[Engagement]) -> "World":
        """The same world where these engagements are wanted, apart from this one."""
        return self if wanted == self.wanted else replace(self.forked(), wanted=wanted, remembered={})

    @property
    def rooms(self) -> Rooms:
        """What is free on each node, by its id."""
        return Rooms(self.classes, self.homes)

    def with_(self, spec: WorkloadTerms, placement: Placement, *, is_part: bool = False) -> "World":
        """The world after the workload has been given free capacity, or more of it beside what it has (a part)."""
        rooms = self.rooms
        taken = {node_id: rooms[node_id] - room for node_id, room in _rooms(placement, rooms)}
        cost = sum(share.room.milli * self.prices.get(share.node_id, 0) for share in placement.shares)
        charges = charges_of(spec, placement, cost, length_of(spec), is_part=is_part)
        usage, room, later_room = with_charges(self.usage, charges), self.room.next(), self.later_room.next()
        return self._with_rooms(taken, usage=usage, room=room, later_room=later_room)

    def without(self, victims: Iterable[Active]) -> "World":
        """The world once these attempts have left: their room is free and their quota is not in use."""
        leaving = tuple(victims)
        return self._with_rooms(freed_by(leaving, self.rooms), usage=with_uses(self.usage, leaving, sign=-1))

    def promising(
        self, spec: WorkloadTerms, placement: Placement, victims: Iterable[Active], *, is_part: bool = False
    ) -> "World":
        """The world after capacity was promised that is free only when the victims, and all who have notice, have left.

        What is promised counts as not free at once, even where it will come from a victim; whatever the victims and the
        promise leave over beyond that is coming.
        """
        stopped = tuple(victims)
        later = self.when_all_have_left().without(stopped).with_(spec, placement, is_part=is_part)
        now, then = self.rooms, later.rooms
        promised = dict(_rooms(placement, now))
        free = {node_id: (now[node_id] - room).not_negative for node_id, room in promised.items()}
        left = {node_id for victim in stopped for node_id, _ in _rooms(victim.placement, now)}
        touched = sorted(promised.keys() | left)
        coming = {node_id: then[node_id] - free.get(node_id, now[node_id]) for node_id in touched}
        stopping = self.stopped | {victim.attempt_id for victim in stopped}
        usage = later.usage.with_lingering(charges_of_all(stopped), self.usage.lingering)
        return replace(self._with_rooms(free, coming, room=self.room.next()), usage=usage, stopped=stopping)

    def setting_aside(self, spec: WorkloadTerms, amounts: Mapping[str, Amount], placement: Placement) -> "World":
        """The world in which nobody else may have this much quota, by SKU, nor as many devices of the placement's nodes.

        Devices are taken from the freest on; where there are too few, the shortage stays on those that are in use.
        """
        charges = (Charge(spec.queue, sku, spec.preemptible, milli) for sku, milli in amounts.items())
        kept = {share.node_id: _freest_taken(self.rooms[share.node_id], share.room) for share in placement.shares}
        return self._with_rooms(kept, usage=with_charges(self.usage, charges))

    def with_free(self, rooms: Mapping[str, Room]) -> "World":
        """The world in which these nodes have this much free."""
        return self._with_rooms(rooms)

    def filled(self, rooms: Mapping[str, Room]) -> "World":
        """Another world with the same nodes, which have these rooms: it goes on apart from this one, and remembers nothing."""
        classes = {traits: stock.filled(rooms) for traits, stock in self.classes.items()}
        return replace(self, classes=classes, later=classes, remembered={}, at_a_glance={}, room=Stage(), later_room=Stage())

    def expecting(self, coming: Mapping[str, Room]) -> "World":
        """The world in which this much comes on these nodes."""
        return self._with_rooms({}, coming)

    def under(self, usage: Usage, policy: Policy, datasets: Mapping[str, Dataset]) -> "World":
        """The same nodes with this quota in use, under this policy; what is remembered is kept as far as it still holds."""
        is_same = policy == self.policy and datasets == self.datasets and usage.tree.paths == self.usage.tree.paths
        if is_same and len(self.remembered) < MOST_REMEMBERED:
            return replace(self, usage=usage, at_a_glance={})
        law = Law.of(policy.constraints)
        return replace(self, usage=usage, law=law, policy=policy, datasets=datasets, remembered={}, at_a_glance={})

    def leaving(self, actives: Iterable[Active], *, are_parts: bool = False) -> "World":
        """The world once these attempts, or these parts of attempts, have notice: their quota is free, their room is coming."""
        leaving = tuple(actives)
        rooms = self.rooms
        more = {node_id: room - rooms[node_id] for node_id, room in freed_by(leaving, rooms).items()}
        coming = {node_id: self.coming[node_id] + room if node_id in self.coming else room for node_id, room in more.items()}
        charges = [charge for active in leaving for charge in charges_of(active.spec, active.placement, is_part=are_parts)]
        usage = with_charges(self.usage, charges, sign=-1).with_lingering(charges, self.usage.lingering)
        return self._with_rooms({}, coming, usage=usage)

    def forked(self) -> "World":
        """The same world, apart from the worlds that come of this one: two that go on side by side do so at no cost."""
        classes = {traits: stock.forked() for traits, stock in self.classes.items()}
        later = {
            traits: classes[traits] if stock is self.classes[traits] else stock.forked() for traits, stock in self.later.items()
        }
        return replace(self, classes=classes, later=later, room=Stage(), later_room=Stage())

    def apart_from(self, other: "World", placement: Placement) -> "World":
        """The same world, for what happens to it alone on the nodes of the placement.

        Elsewhere it and the other one stay one for as long as the same happens to both.
        """
        parting = {self.homes[share.node_id] for share in placement.shares if share.node_id in self.homes}
        classes = _apart(self.classes, other.classes, parting)
        later = {traits: classes[traits] for traits in parting if self.later[traits] is self.classes[traits]}
        return replace(
            self,
            classes=classes,
            later=_apart({**self.later, **later}, other.later, parting),
            room=Stage() if self.room is other.room else self.room,
            later_room=Stage() if self.later_room is other.later_room else self.later_room,
        )

    def nodes(self, classes: Iterable[Traits]) -> Nodes:
        """The nodes with any of these traits, in order."""
        found = [self.classes[traits] for traits in classes]
        return found[0] if len(found) == 1 else Stocks(found)

    def when_all_have_left(self) -> "World":
        """The world once every attempt with notice to leave has left; the world itself when none has notice."""
        if not (self.coming or self.usage.lingering):
            return self
        usage = self.usage.when_all_have_left()
        return replace(self, classes=self.later, coming={}, usage=usage, room=self.later_room)

    def _with_rooms(
        self,
        rooms: Mapping[str, Room],
        coming: Mapping[str, Room] | None = None,
        *,
        usage: Usage | None = None,
        room: Stage | None = None,
        later_room: Stage | None = None,
    ) -> "World":
        """The world in which these nodes have these rooms, where this is what is coming on these, and this is the usage.

        A stage is given where there is no more room than before.
        """
        expected = {**self.coming, **coming} if coming else self.coming
        classes = later = self._changed(self.classes, rooms)
        if expected:
            after = Rooms(classes, self.homes)
            then = {
                node_id: after[node_id] + expected[node_id] if node_id in expected else after[node_id]
                for node_id in (*rooms, *(coming or ()))
            }
            later = self._changed(self._beside(then.keys() & expected.keys()), then)
        return replace(
            self,
            classes=classes,
            later=later,
            coming=expected,
            usage=usage or self.usage,
            room=room or Stage(),
            later_room=later_room or Stage(),
        )

    def _beside(self, parting: Iterable[str]) -> Mapping[Traits, Stock]:
        """The nodes as they are later, the classes of these apart from the nodes as they are now."""
        return _apart(self.later, self.classes, {self.homes[node_id] for node_id in parting})

    def _changed(self, classes: Mapping[Traits, Stock], rooms: Mapping[str, Room]) -> Mapping[Traits, Stock]:
        if not rooms:
            return classes
        by_traits: dict[Traits, list[tuple[str, Room]]] = {}
        for node_id, room in rooms.items():
            by_traits.setdefault(self.homes[node_id], []).append((node_id, room))
        return {**classes, **{traits: classes[traits].with_rooms(changed) for traits, changed in by_traits.items()}}


def _apart(these: Mapping[Traits, Stock], others: Mapping[Traits, Stock], parting: Iterable[Traits]) -> Mapping[Traits, Stock]:
    """The same stocks, those of these classes apart from the others."""
    joint = [traits for traits in parting if these[traits].shares_shelf_with(others[traits])]
    return {**these, **{traits: these[traits].forked() for traits in joint}} if joint else these


def looks_ahead(policy: Policy) -> bool:
    """Whether single replicas go where they cost the known demand least."""
    return policy.rank.quota_model is QuotaModel.RANKED and bool(policy.goals.fragmentation)


def _traits(node: Node, engaged: tuple[Engagement, ...]) -> Traits:
    supply = Supply(node.provider, node.region, node.sku)
    return Traits(supply, node.capacity_type, tuple(sorted(node.taints)), node.health, engaged)


def with_uses(usage: Usage, actives: Iterable[Active], sign: int = 1) -> Usage:
    """The usage with that of these attempts added, or taken away with a negative sign."""
    now = usage.tree.now if usage.tree.balances else None  # For how long it will run is asked by budgets alone.
    charges = [charges_at(active, now) if now else charges_of(active.spec, active.placement) for active in actives]
    return with_charges(usage, chain.from_iterable(charges), sign)


def with_lingering(usage: Usage, active: Iterable[Active]) -> Usage:
    """The usage where those of the attempts that have notice still have what they were told to leave, and nobody else does."""
    return usage.with_lingering(charges_of_all(each for each in active if each.preempted))


def charges_of_all(active: Iterable[Active]) -> list[Charge]:
    """What these attempts use of quota."""
    return [charge for each in active for charge in charges_of(each.spec, each.placement)]


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
        for node_id, room in _rooms(active.placement, rooms):
            freed[node_id] = freed.get(node_id, rooms[node_id]) + room
    return freed


def _rooms(placement: Placement, rooms: Mapping[str, Room]) -> Iterable[tuple[str, Room]]:
    """What is placed on nodes that still exist as they were known: a node may come back with fewer devices."""
    return (
        (share.node_id, share.room)
        for share in placement.shares
        if share.node_id in rooms and len(rooms[share.node_id].devices) == len(share.room.devices)
    )


Tenants = Mapping[str, Sequence[Active]]
"""Attempts with a place on a node, by node id."""


def tenants_of(active: Iterable[Active]) -> dict[str, list[Active]]:
    """Who has a place on which node."""
    tenants: dict[str, list[Active]] = {}
    for each in active:
        for share in each.placement.shares:
            tenants.setdefault(share.node_id, []).append(each)
    return tenants


def free_room(node: Node, tenants: Tenants) -> Room:
    """What is free on a node, with the replicas that it still takes beside all that have a place on it."""
    if node.maximum_replicas is None:
        return _with_replicas(node.free, UNLIMITED_REPLICAS)
    shares = (share for active in tenants.get(node.id, ()) for share in active.placement.shares if share.node_id == node.id)
    return _with_replicas(node.free, max(0, node.maximum_replicas - sum(len(share.replicas) for share in shares)))


def _with_replicas(room: Room, replicas: int) -> Room:
    return room if room.replicas == replicas else Room(room.devices, room.cpu_milli, room.memory_mib, replicas)


def coming(active: Iterable[Active], nodes: Mapping[str, Node], free: Mapping[str, Room], tenants: Tenants) -> dict[str, Room]:
    """Room that attempts on their way out still have and that nobody was promised, by node."""
    going = [each for each in active if _is_going(each)]
    touched = {share.node_id for each in going for share in each.placement.shares}
    totals = {id: _with_replicas(nodes[id].total, nodes[id].most_replicas) for id in touched if id in nodes}
    leaving: dict[str, Room] = {}
    for each in going:
        for node_id, room in _rooms(each.placement, totals):
            leaving[node_id] = leaving[node_id] + room if node_id in leaving else room
    return {node_id: least(room, _unclaimed(node_id, totals, free, tenants)).not_negative for node_id, room in leaving.items()}


def _is_going(active: Active) -> bool:
    return active.preempted or active.state is State.STOPPING


def _unclaimed(node_id: str, totals: Mapping[str, Room], free: Mapping[str, Room], tenants: Tenants) -> Room:
    """What is neither free nor anybody's who stays."""
    left = totals[node_id] - free[node_id]
    for active in tenants[node_id]:
        if not _is_going(active):
            for its, room in _rooms(active.placement, totals):
                left = left - room if its == node_id else left
    return left


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
