"""Fragments: where like nodes have room that the known demand cannot use, and what a change of them would make of that.

Fragmentation of like nodes is the free capacity that the known demand cannot use: F = sum over m of p_m (I - U_m). I is
all that is idle, p_m how frequent the need m is, and U_m what as many replicas of m use as have room, but no more than all
known replicas of m would. Moves leave I as it is, so that they lower F by what U gains.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corral.api import WHOLE
from domain.improvement.demand_mix import Known
from domain.placement.draft import capacity
from domain.placement.sieve import capacities
from domain.pool.fleet import UNLIMITED_REPLICAS, Health
from domain.pool.stock import NodeRoom, Numbers, Places, Stock
from domain.pool.workload import Active
from domain.worlds.request import Shape
from domain.worlds.world import Traits, World

Mask = NDArray[np.bool_]
"""Whether something is so, by place."""


@dataclass(frozen=True, slots=True)
class Area:
    """Like nodes with fragments, and the work on each of them (by node id) that might move; `movable` is how much, by place."""

    movers: Mapping[str, Sequence[Active]]
    movable: Numbers


def areas_of(world: World, movable: Iterable[Active]) -> dict[Traits, Area]:
    """The ready classes with several nodes in part use, and with movable work on these."""
    fragments: dict[str, Traits] = {}
    for traits, nodes in world.classes.items():
        if traits.health is Health.READY:
            places = np.flatnonzero(in_part_use(nodes)).tolist()
            if len(places) > 1:
                fragments |= {nodes.nodes[place].id: traits for place in places}
    found: dict[Traits, dict[str, list[Active]]] = {}
    for active in movable if fragments else ():
        for share in active.placement.shares:
            if (home := fragments.get(share.node_id)) is not None:
                found.setdefault(home, {}).setdefault(share.node_id, []).append(active)
    return {traits: _area(world.classes[traits], found[traits]) for traits in sorted(found)}


def _area(nodes: Stock, movers: Mapping[str, Sequence[Active]]) -> Area:
    movable = np.zeros(len(nodes), np.int64)
    for node_id, actives in movers.items():
        shares = (share for active in actives for share in active.placement.shares if share.node_id == node_id)
        movable[nodes.place(node_id)] = sum(share.room.milli for share in shares)
    return Area(movers, movable)


def in_part_use(nodes: Stock) -> Mask:
    """Whether every node has both free room and work, by place."""
    mask: Mask = (nodes.milli > 0) & (nodes.milli < total(nodes))
    return mask


def total(nodes: Stock) -> Numbers:
    """Thousandths of every node when it is idle, by place."""
    return nodes.column("total", lambda entry: WHOLE * len(entry.node.total.devices))


def slots_on(shape: Shape, entry: NodeRoom) -> int:
    """How many replicas of this size one node has room for."""
    return capacity(entry.room, shape, UNLIMITED_REPLICAS)


@dataclass(frozen=True, slots=True)
class Gauge:
    """What is known of the demand, with the room for it on like nodes as they are now."""

    known: Known
    room: tuple[int, ...]
    """Replicas of each need that have room."""
    total: int
    """Replicas in the mix."""

    @classmethod
    def of(cls, known: Known, nodes: Stock) -> "Gauge":
        """What is known of the demand, beside these nodes."""
        return cls(known, tuple(int(capacities(shape, nodes).sum()) for shape in known.shapes), max(1, sum(known.counts)))

    def _used(self, at: int, number: int) -> int:
        """What so many replicas of a need would use, and no more than all known ones would; weighted by how many these are."""
        count = self.known.counts[at]
        return count * self.known.shapes[at].milli * min(count, number)

    def gain(self, nodes: Stock, rooms: Mapping[str, NodeRoom]) -> int:
        """By how much fragmentation falls when these nodes become so, times the replicas in the mix."""
        gained = 0
        for at, shape in enumerate(self.known.shapes):
            more = sum(slots_on(shape, after) - slots_on(shape, nodes.entry(id)) for id, after in rooms.items())
            gained += self._used(at, self.room[at] + more) - self._used(at, self.room[at])
        return gained

    def most(self, nodes: Stock, places: Places, cleared: Numbers) -> Numbers:
        """The same at most, for every place alone, if it had so many thousandths free and nothing were lost elsewhere."""
        gained = np.zeros(len(places), np.int64)
        for at, shape in enumerate(self.known.shapes):
            count = self.known.counts[at]
            more = np.minimum(cleared // shape.milli - capacities(shape, nodes)[places], max(0, count - self.room[at]))
            gained += count * shape.milli * np.maximum(more, 0)
        return gained

    def takes_from_who_waits(self, nodes: Stock, rooms: Mapping[str, NodeRoom]) -> bool:
        """Whether somebody who waits may miss what is taken now, before anything is given back."""
        for shape, wanted in self.known.waiting:
            lost = sum(slots_on(shape, nodes.entry(id)) - slots_on(shape, after) for id, after in rooms.items())
            if lost > 0 and (wanted is None or int(capacities(shape, nodes).sum()) - lost < wanted):
                return True
        return False
