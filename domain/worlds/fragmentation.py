"""Fragmentation: what free room is worth to the demand that is known, and what a replica takes away from that."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import fsum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from corral.api import WHOLE
from domain.pool.fleet import Amount

Integers = NDArray[np.int64]
Reals = NDArray[np.float64]
Truths = NDArray[np.bool_]

IMPOSSIBLE = np.iinfo(np.int64).max
"""The cost of a replica on a node that has no room for it, or a SKU that it does not accept."""

NO_DEVICE = -1
"""The device of a replica that takes whole ones (the first that are free), or none."""

MOST_COUNTED = 0.17
"""How far room counts in replicas, and not in idle thousandths that one replica could use, where devices alone bound it."""

_SCALE = 2**20
"""Parts of a thousandth in which losses are summed, so that they are whole and their sums the same in any order."""

_PARTS = np.arange(99, 0, -1) / 100
LEVELS: Integers = np.rint(WHOLE * np.log(1 / _PARTS - 1)).astype(np.int64)
"""Growths of fragmentation, in thousandths, up to which 1 / (1 + exp(growth / 1000)) is 99, 98, ... 1 per cent.

Growths between the same two are one cost: what is finer than that tells less than the order of nodes.
"""


NOTHING_LOST = int(np.searchsorted(LEVELS, 0))
"""The cost of a replica by which nothing is lost; less is a gain."""


class Need(NamedTuple):
    """What one replica takes of a node: whole devices, a share of one, or none; and the SKUs that it accepts (none: all)."""

    milli: Amount
    cpu_milli: int
    memory_mib: int
    skus: tuple[str, ...] = ()

    @property
    def devices(self) -> int:
        """Whole devices; 0 for a share of one, or for none."""
        return self.milli // WHOLE


@dataclass(frozen=True, slots=True)
class Mix:
    """The demand that is known: what its replicas need, the most frequent first, and how many of them need it."""

    needs: tuple[Need, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, counts: Mapping[Need, int], percent: int = 95) -> "Mix":
        """The most frequent needs that together are this much of all replicas, in per cent; equally frequent ones by size.

        Memory is left out, as it hardly ever runs short first: needs that differ in nothing else are one.
        """
        merged: dict[Need, int] = {}
        for need, count in counts.items():
            bare = need._replace(memory_mib=0)
            merged[bare] = merged.get(bare, 0) + count
        total = sum(merged.values())
        ordered = sorted(merged, key=lambda need: (merged[need], need.cpu_milli, need), reverse=True)
        before = accumulate((merged[need] for need in ordered), initial=0)
        kept = [need for need, so_far in zip(ordered, before, strict=False) if 100 * so_far < percent * total]
        return cls(tuple(kept), tuple(merged[need] for need in kept))


@dataclass(frozen=True, slots=True)
class Rooms:
    """What is free on nodes, one row for each.

    `devices` are thousandths per device, with 0 where a node has fewer; `skus` are places in the sequence of names that the
    needs were prepared with.
    """

    devices: Integers
    cpu_milli: Integers
    memory_mib: Integers
    skus: Integers

    def row(self, index: int) -> "Rooms":
        """One node alone; looks at the same arrays."""
        at = slice(index, index + 1)
        return Rooms(self.devices[at], self.cpu_milli[at], self.memory_mib[at], self.skus[at])


@dataclass(frozen=True, slots=True)
class Needs:
    """Needs as arrays, one row for each; `accepted` says by SKU and need whether it goes there."""

    milli: Integers
    devices: Integers
    cpu_milli: Integers
    memory_mib: Integers
    accepted: Truths

    @classmethod
    def of(cls, needs: Iterable[Need], skus: Sequence[str]) -> "Needs":
        """The needs in the given order, where SKUs are known by their places in `skus`."""
        rows = tuple(needs)
        amounts = np.array([(n.milli, n.devices, n.cpu_milli, n.memory_mib) for n in rows], np.int64).reshape(-1, 4)
        accepted = np.array([[not need.skus or sku in need.skus for need in rows] for sku in skus], np.bool_)
        milli, devices, cpu_milli, memory_mib = np.ascontiguousarray(amounts.T)
        return cls(milli, devices, cpu_milli, memory_mib, accepted.reshape(len(skus), len(rows)))

    @property
    def of_one_device(self) -> Integers:
        """Thousandths of each device that a replica takes."""
        return np.minimum(self.milli, WHOLE)

    def rows(self, chosen: Truths) -> "Needs":
        """Some of the needs."""
        return Needs(
            self.milli[chosen],
            self.devices[chosen],
            self.cpu_milli[chosen],
            self.memory_mib[chosen],
            self.accepted[:, chosen],
        )


@dataclass(frozen=True, slots=True)
class Counted:
    """What devices count for, by need in the last axis: replicas that they take, and idle thousandths that one could use.

    Only the devices are looked at here. Of needs for several devices, `replicas` counts devices.
    """

    replicas: Integers
    usable: Integers

    @classmethod
    def by_milli(cls, needs: Needs) -> "Counted":
        """One device, by its free thousandths."""
        free = np.arange(WHOLE + 1)[:, None]
        each = needs.of_one_device
        is_enough = (free >= each) & (each > 0)
        return cls(np.where(is_enough, free // np.maximum(each, 1), 0), np.where(is_enough, free, 0))

    def of(self, devices: Integers) -> "Counted":
        """Devices by their free thousandths."""
        return Counted(self.replicas[devices], self.usable[devices])

    def sum(self, axis: int) -> "Counted":
        """All devices of an axis together."""
        return Counted(self.replicas.sum(axis=axis), self.usable.sum(axis=axis))

    def __add__(self, other: "Counted") -> "Counted":
        return Counted(self.replicas + other.replicas, self.usable + other.usable)

    def __sub__(self, other: "Counted") -> "Counted":
        return Counted(self.replicas - other.replicas, self.usable - other.usable)


def fits(needs: Needs, rooms: Rooms) -> Truths:
    """Whether one replica of each need has room on each node, which is of a SKU that it accepts; by need and node."""
    enough = (rooms.devices[:, :, None] >= needs.of_one_device).sum(axis=1)
    has_devices = (enough >= np.maximum(needs.devices, 1)) | (needs.milli == 0)
    has_rest = (rooms.cpu_milli[:, None] >= needs.cpu_milli) & (rooms.memory_mib[:, None] >= needs.memory_mib)
    found: Truths = (has_devices & has_rest & needs.accepted[rooms.skus]).T
    return found


def capacities(needs: Needs, rooms: Rooms) -> Integers:
    """Replicas of each need alone that each node has room for, by node and need; 0 of needs without devices."""
    devices = Counted.by_milli(needs).of(rooms.devices).sum(axis=1)
    return _replicas(needs, devices, rooms.cpu_milli, rooms.memory_mib, needs.accepted[rooms.skus])


def usable(needs: Needs, rooms: Rooms) -> Integers:
    """Idle thousandths on devices that a replica of each need could use, by node and need; 0 where none can run."""
    devices = rooms.devices[:, :, None]
    milli = (devices * (devices >= needs.of_one_device)).sum(axis=1)
    return np.where(fits(needs, rooms).T & (needs.milli > 0), milli, 0)


def _replicas(needs: Needs, devices: Counted, cpu_milli: Integers, memory_mib: Integers, accepted: Truths) -> Integers:
    """Replicas for which devices, cpu and memory suffice; needs are the last axis of what comes and goes."""
    numbers = devices.replicas // np.maximum(needs.devices, 1)
    numbers = np.where(needs.cpu_milli, np.minimum(numbers, cpu_milli[..., None] // np.maximum(needs.cpu_milli, 1)), numbers)
    if needs.memory_mib.any():
        by_memory = memory_mib[..., None] // np.maximum(needs.memory_mib, 1)
        numbers = np.where(needs.memory_mib, np.minimum(numbers, by_memory), numbers)
    return np.where(accepted, numbers, 0)


def fragmentation(mix: Mix, rooms: Rooms, skus: Sequence[str]) -> Reals:
    """Idle thousandths of each node that are of no use to the mix, each need counted by its frequency.

    F_n = sum over m of p_m F_n(m); F_n(m) is all that is idle on n where m cannot run or takes no device, and else what is
    idle on devices with less than m needs of one (Weng et al., "Beware of Fragmentation", USENIX ATC 2023; memory counts too).
    """
    needs = Needs.of(mix.needs, skus)
    idle = rooms.devices.sum(axis=1)
    weights = np.array(mix.counts, np.int64)
    unused = idle * weights.sum() - usable(needs, rooms) @ weights
    parts: Reals = unused / max(1, int(weights.sum()))
    return parts


@dataclass(frozen=True, slots=True)
class Demand:
    """The mix against one idle fleet: what room for each of its needs is worth.

    `prices` has, by need, what an idle thousandth that it could use is worth, and then what one replica more is; all are
    whole, so that sums are the same in any order.
    """

    needs: Needs
    devices: Counted
    prices: Reals

    @classmethod
    def of(cls, mix: Mix, idle: Rooms, skus: Sequence[str], numbers: Integers | None = None) -> "Demand":
        """Weigh each need by its frequency and by how scarce room for it is on these nodes when they are idle.

        `numbers` says how many nodes are like each of these; one each where it is absent.
        """
        each = np.ones(len(idle.skus), np.int64) if numbers is None else numbers
        needs = Needs.of(mix.needs, skus)
        milli = needs.milli.astype(np.float64)
        frequency = np.array(mix.counts, np.float64) / max(1, sum(mix.counts))
        by_milli, by_replicas = each @ usable(needs, idle), (each @ capacities(needs, idle)) * milli
        filled = by_replicas / np.maximum(by_milli, 1)
        in_all = fsum(frequency * by_replicas) / max(fsum(frequency * by_milli), 1.0)
        by_devices = in_all * filled
        counted = MOST_COUNTED * by_devices * np.sqrt(by_devices)
        room = np.concatenate((by_milli, by_replicas))
        weights = np.where(room > 0, np.concatenate((frequency * (1 - counted), frequency * counted)), 0.0)
        scarce = 1 / np.sqrt(np.maximum(room, 1.0))
        scale = fsum(weights * room) / max(fsum(weights * room * scarce), 1e-9)
        prices = weights * scale * scarce * np.concatenate((np.ones_like(milli), milli))
        return cls(needs, Counted.by_milli(needs), np.rint(prices * _SCALE))

    def worth(self, devices: Counted, cpu_milli: Integers, memory_mib: Integers, accepted: Truths) -> Reals:
        """What rooms are worth whose devices were counted; needs are the last axis of these."""
        replicas = _replicas(self.needs, devices, cpu_milli, memory_mib, accepted)
        parts = np.concatenate((np.where(replicas > 0, devices.usable, 0), replicas), axis=-1)
        total: Reals = parts.astype(np.float64) @ self.prices
        return total


@dataclass(frozen=True, slots=True)
class Losses:
    """What one replica of each need costs on each node, and the device that a share of one goes to; by need and node."""

    costs: Integers
    devices: Integers


def losses(demand: Demand, wanted: Needs, rooms: Rooms) -> Losses:
    """How much fragmentation grows when one replica is put on a node, in levels, for every wanted need and node.

    The value of a node is V(n) = sum over m of p_m s_m ((1 - k_m) U_m(n) + k_m C_m(n)). U_m are the idle thousandths on
    devices that m could use (all idle ones less F_n(m), as in `fragmentation`), C_m the thousandths that as many replicas of
    m use as the node has room for, cpu counted. s_m is 1 / sqrt(room for m on the idle fleet), scaled so that the idle fleet
    is worth the same without it: half way between all room counting alike and all demand counting alike. k_m = 0.17
    (f f_m)^1.5, where f_m is the part of the idle fleet's U_m that is C_m as well, and f that of all needs together. What a
    replica costs is the level of V(n) - V(n with it) less what it takes; less is better.

    Without s_m and C_m this is FGD (USENIX ATC 2023), which has the same levels. C_m keeps cpu beside idle devices, as far as
    there is enough cpu to keep; s_m keeps the SKUs without which some of the demand cannot do; equal costs, decided by the
    order of nodes, keep whole nodes whole.
    A share goes to the device at the least cost, of equal ones to the fullest, and then to the first.
    """
    possible = fits(wanted, rooms)
    costs = np.full(possible.shape, IMPOSSIBLE)
    chosen = np.full(possible.shape, NO_DEVICE)
    node = _Nodes.of(demand, rooms)
    is_share = (wanted.devices == 0) & (wanted.milli > 0)
    if (~is_share).any():
        costs[~is_share] = node.taking_whole(wanted.rows(~is_share))
    if is_share.any():
        costs[is_share], chosen[is_share] = node.taking_shares(wanted.rows(is_share))
    return Losses(np.where(possible, costs, IMPOSSIBLE), np.where(possible, chosen, NO_DEVICE))


@dataclass(frozen=True, slots=True)
class _Nodes:
    """Nodes as the demand sees them: their devices counted for it, and what they are worth."""

    demand: Demand
    rooms: Rooms
    devices: Counted
    accepted: Truths
    worth: Reals

    @classmethod
    def of(cls, demand: Demand, rooms: Rooms) -> "_Nodes":
        devices = demand.devices.of(rooms.devices).sum(axis=1)
        accepted = demand.needs.accepted[rooms.skus]
        worth = demand.worth(devices, rooms.cpu_milli, rooms.memory_mib, accepted)
        return cls(demand, rooms, devices, accepted, worth)

    def taking_whole(self, wanted: Needs) -> Integers:
        """Costs of replicas that take whole devices, or none; by need and node."""
        whole = self.demand.devices.of(np.full((len(wanted.milli), 1), WHOLE))
        number = wanted.devices[:, None, None]
        left = self.devices - Counted(whole.replicas * number, whole.usable * number)
        return self._costs(wanted, left, wanted.milli[:, None])

    def taking_shares(self, wanted: Needs) -> tuple[Integers, Integers]:
        """Costs of shares on the best device of each node, and which that is; by need and node."""
        order = np.argsort(self.rooms.devices, axis=1, kind="stable")
        free = np.take_along_axis(self.rooms.devices, order, axis=1)
        if len(free) == 1:
            free, first = np.unique(free, axis=1, return_index=True)
            order = order[:, first]
        costs = np.stack([self._on(wanted, free[:, place]) for place in range(free.shape[1])])
        best = costs.argmin(axis=0)
        return costs.min(axis=0), order[np.arange(len(free)), best]

    def _on(self, wanted: Needs, free: Integers) -> Integers:
        """Costs of shares of a device of each node that has so much free; impossible ones where that is too little."""
        after = free - wanted.milli[:, None]
        left = self.devices - self.demand.devices.of(free) + self.demand.devices.of(np.maximum(after, 0))
        return np.where(after >= 0, self._costs(wanted, left, wanted.milli[:, None]), IMPOSSIBLE)

    def _costs(self, wanted: Needs, left: Counted, milli: Integers) -> Integers:
        cpu_milli = self.rooms.cpu_milli - wanted.cpu_milli[:, None]
        memory_mib = self.rooms.memory_mib - wanted.memory_mib[:, None]
        lost = self.worth - self.demand.worth(left, cpu_milli, memory_mib, self.accepted)
        return np.searchsorted(LEVELS * _SCALE, lost.astype(np.int64) - milli * _SCALE)
