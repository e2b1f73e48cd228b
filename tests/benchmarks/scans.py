"""Full scans: where work would go if every node was looked at for every workload."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from corral.api import WHOLE, ReplicaGroup
from domain.placement.feasibility import Offer, offers, sift
from domain.placement.layout import Candidate, best_on
from domain.placement.scoring import choice, options
from domain.pool.fleet import Node
from domain.worlds.fragmentation import IMPOSSIBLE, NO_DEVICE, Integers, Mix, Need, Needs, Rooms, Truths, fits, fragmentation
from domain.worlds.request import Request
from domain.worlds.world import Nodes, World


def plain_candidate(ranks: Iterable[Sequence[Request]], world: World) -> Candidate | None:
    """What `best_candidate` answers, found by the rules of placement alone: they look at one node after the other."""
    for rank in ranks:
        candidates = [
            candidate
            for request in rank
            for offer in offers(request, sift(request, world))
            for candidate in options(request.spec, offer.request.gang, offer.classes, world, partial(_one_by_one, offer, world))
        ]
        if candidates:
            return min(candidates, key=lambda candidate: choice(candidate, world))
    return None


def _one_by_one(offer: Offer, world: World, nodes: Nodes) -> Candidate | None:
    return best_on(offer.request, offer.supply, tuple(nodes), world.usage, world.policy.goals.topology)


def need_of(group: ReplicaGroup) -> Need:
    """What one replica takes; SKUs are left out, which makes a mix of needs shorter and a scan faster."""
    return Need(group.milli, group.cpu_milli, group.memory_mib)


Rule = Callable[[Rooms, Need], tuple[int, int]]
"""Chooses among nodes that all have room: the row of one, and the device of it that a share goes to."""


def fgd(mix: Mix, skus: Sequence[str], rooms: Rooms, need: Need) -> tuple[int, int]:
    """Where fragmentation grows least ("Beware of Fragmentation", Weng et al., USENIX ATC 2023), the first of equal ones."""
    before = fragmentation(mix, rooms, skus)
    devices = range(rooms.devices.shape[1]) if need.milli % WHOLE else (NO_DEVICE,)
    tries = [_taken(rooms, need, device) for device in devices]
    growths = np.stack([fragmentation(mix, after, skus) - before for after in tries])
    growths[np.stack([(after.devices < 0).any(axis=1) for after in tries])] = np.inf
    place, row = np.unravel_index(growths.argmin(), growths.shape)
    return int(row), devices[int(place)]


def best_fit(rooms: Rooms, need: Need) -> tuple[int, int]:
    """The node on which least is left, cpu and accelerators each by the largest; there the fullest device with enough."""
    left = rooms.devices.sum(axis=1) / (WHOLE * rooms.devices.shape[1]) + rooms.cpu_milli / rooms.cpu_milli.max()
    row = int(left.argmin())
    free = rooms.devices[row]
    return row, int(np.where(free >= need.milli, free, IMPOSSIBLE).argmin()) if need.milli % WHOLE else NO_DEVICE


@dataclass(frozen=True, slots=True)
class Scan:
    """A fleet as whole arrays, all of which are looked at for every replica; they change as replicas are placed."""

    rooms: Rooms
    skus: tuple[str, ...]
    regions: tuple[str, ...]
    region: Integers
    """By node, the place of its region in `regions`."""

    @classmethod
    def of(cls, fleet: Sequence[Node], world: World) -> "Scan":
        """The nodes as they are in the world."""
        skus, regions = skus_of(fleet), tuple(sorted({node.region for node in fleet}))
        free = [world.rooms[node.id] for node in fleet]
        rooms = Rooms(
            np.array([room.devices for room in free], np.int64),
            np.array([room.cpu_milli for room in free], np.int64),
            np.array([room.memory_mib for room in free], np.int64),
            np.array([skus.index(node.sku) for node in fleet], np.int64),
        )
        return cls(rooms, skus, regions, np.array([regions.index(node.region) for node in fleet], np.int64))

    def place(self, asked: Sequence[Request], rule: Rule) -> bool:
        """Put the only replica of a request where the rule says, under any of its targets; gives whether it found room."""
        need = need_of(asked[0].spec.groups[0])
        accepted = np.flatnonzero(self._accepts(asked))
        able = accepted[fits(Needs.of((need,), self.skus), _rows(self.rooms, accepted))[0]]
        if not len(able):
            return False
        row, device = rule(_rows(self.rooms, able), need)
        node = able[row : row + 1]
        after = _taken(_rows(self.rooms, node), need, device)
        self.rooms.devices[node] = after.devices
        self.rooms.cpu_milli[node] = after.cpu_milli
        self.rooms.memory_mib[node] = after.memory_mib
        return True

    def _accepts(self, asked: Sequence[Request]) -> Truths:
        """Whether each node is of a SKU and in a region that some target names."""
        accepted = np.zeros(len(self.region), np.bool_)
        for request in asked:
            target = request.target
            skus = [place for place, sku in enumerate(self.skus) if not target.skus or sku in target.skus]
            regions = [place for place, name in enumerate(self.regions) if not target.regions or name in target.regions]
            accepted |= np.isin(self.rooms.skus, skus) & np.isin(self.region, regions)
        return accepted


def skus_of(fleet: Iterable[Node]) -> tuple[str, ...]:
    """The SKUs of a fleet in the order in which scans know them."""
    return tuple(sorted({node.sku for node in fleet}))


def _rows(rooms: Rooms, places: Integers) -> Rooms:
    return Rooms(rooms.devices[places], rooms.cpu_milli[places], rooms.memory_mib[places], rooms.skus[places])


def _taken(rooms: Rooms, need: Need, device: int) -> Rooms:
    """The rooms without a share of one device, or without the first whole ones; negative where the device has too little."""
    devices = rooms.devices.copy()
    if device != NO_DEVICE:
        devices[:, device] -= need.milli
    else:
        whole = devices == WHOLE
        devices[whole & (whole.cumsum(axis=1) <= need.devices)] = 0
    return Rooms(devices, rooms.cpu_milli - need.cpu_milli, rooms.memory_mib - need.memory_mib, rooms.skus)
