"""Disruption: what can be done to running work for the sake of other work, and what that costs."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple

from corral.api import Topology
from domain.disruption.protection import STOPPABLE_STATES, Protection, Stoppable
from domain.pool.fleet import Amount, Placement, Replica
from domain.pool.parts import ReplicaKey, less, only
from domain.pool.workload import Active, Charge, charges_of
from domain.worlds.request import Gang, Request, Shape, requests


class Means(IntEnum):
    """What may be done to running work, the mildest first; to keep it as it is costs nothing."""

    SHRINK = 0
    MIGRATE = 1
    STOP = 2


class Level(NamedTuple):
    """Whom a step hits and how: no saving at a lower level makes up for a cost at a higher one.

    `tier` and `priority` are those of the standing, higher for the stronger. Borrowers lose before the beneficiary's own
    queue does.
    """

    means: Means
    tier: int
    is_own: bool
    priority: int


Cost = tuple[tuple[Level, int], ...]
"""Thousandths of an accelerator times seconds by level, the highest first: of two costs the smaller tuple is less."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing done to one running attempt: all of it leaves its nodes, or (when it shrinks) one replica does.

    `milli` and `nodes` are what it frees, and where; `once` is what an attempt costs besides, however many replicas leave.
    """

    means: Means
    victim: Stoppable
    level: Level
    cost: int
    milli: Amount
    nodes: frozenset[str]
    replica: Replica | None = None
    once: int = 0

    @property
    def attempt_id(self) -> str:
        """Whom it happens to."""
        return self.victim.active.attempt_id


Steps = tuple[Step, ...]


def cost_of(steps: Iterable[Step]) -> Cost:
    """What the steps cost together; a replica of work that is stopped must be left out. Work that shrinks restarts once."""
    totals: defaultdict[Level, int] = defaultdict(int)
    shrunk: dict[str, Step] = {}
    for step in steps:
        totals[step.level] += step.cost
        if step.means is Means.SHRINK:
            shrunk[step.attempt_id] = step
    for step in shrunk.values():
        totals[step.level] += step.once
    return tuple(sorted(totals.items(), reverse=True))


# What is left


@dataclass(frozen=True, slots=True)
class Remainder:
    """An attempt after all that is done to it: the part of it that leaves its nodes, and its placement from then on.

    Work that is stopped has none; for work that moves it is still to be found, and until then the old one. `given_back` is
    quota that it no longer uses; work that moves gives back no more than replicas that are said to leave.
    """

    means: Means
    active: Active
    leaves: Active
    placement: Placement | None
    given_back: tuple[Charge, ...]


def remainders(steps: Iterable[Step]) -> Iterator[Remainder]:
    """What becomes of each attempt: the harshest of its steps counts, and replicas that leave leave together."""
    by_attempt: dict[str, list[Step]] = {}
    for step in steps:
        by_attempt.setdefault(step.attempt_id, []).append(step)
    for own in by_attempt.values():
        yield _remainder(max(step.means for step in own), own)


def _remainder(means: Means, own: list[Step]) -> Remainder:
    active = own[0].victim.active
    if means is Means.STOP:
        return Remainder(means, active, active, None, own[0].victim.charges)
    gone = {(step.replica.group, step.replica.index) for step in own if step.replica is not None}
    part = only(active.placement, active.spec, gone)
    given_back = charges_of(active.spec, part, is_part=True)
    if means is Means.MIGRATE:
        return Remainder(means, active, active, active.placement, given_back)
    return Remainder(means, active, replace(active, placement=part), less(active.placement, active.spec, gone), given_back)


def running_request(active: Active) -> Request:
    """What the attempt's placement answers, each group with the replicas that it has now."""
    request = requests(active.back_in_line())[active.placement.target or 0]
    placed = Counter(replica.group for share in active.placement.shares for replica in share.replicas)
    shapes = tuple(replace(shape, count=placed[shape.name]) for shape in request.gang.shapes)
    return replace(request, gang=replace(request.gang, shapes=shapes))


def as_it_is(gang: Gang) -> Gang:
    """The gang with no fewer replicas than it has."""
    return replace(gang, shapes=tuple(replace(shape, minimum=shape.count) for shape in gang.shapes if shape.count))


@dataclass(frozen=True, slots=True)
class Surplus:
    """Replicas that an attempt has beyond its minimum: so many of each group, and so many in all, may leave."""

    by_group: Mapping[str, int]
    in_all: int


def surplus(active: Active) -> Surplus:
    """What the attempt may lose and still run. Tasks of an array come and go by themselves, and slices are whole."""
    gang = running_request(active).gang
    if active.spec.tasks is not None or any(topology_of(shape, gang).slice_size for shape in gang.shapes):
        return Surplus({}, 0)
    kept = {group.name for group in active.spec.groups if not group.preemptible}
    by_group = {shape.name: max(0, shape.count - shape.minimum) for shape in gang.shapes if shape.name not in kept}
    spare = sum(shape.count for shape in gang.shapes) - gang.fewest
    return Surplus(by_group, max(0, min(spare, sum(by_group.values()))))


def topology_of(shape: Shape, gang: Gang) -> Topology:
    """The topology that one group of the gang asks for."""
    return gang.topology if shape.terms.topology is None else shape.terms.topology


def is_movable(active: Active) -> bool:
    """Whether another place of the same supply could take the attempt as it is."""
    return active.spec.tasks is None and len(active.placement.by_sku) == 1


@dataclass(frozen=True, slots=True)
class Elastic:
    """Work with a surplus, the shapes of its groups, and replicas (with their nodes) that may leave, the last first."""

    victim: Stoppable
    surplus: Surplus
    shapes: Mapping[str, Shape]
    replicas: tuple[tuple[str, Replica], ...]


def elastic_by_sku(protection: Protection) -> dict[str, tuple[Elastic, ...]]:
    """All work that may shrink, by SKU and attempt.

    Neither a minimum runtime nor the promise not to be preempted protects more than the minimum.
    """
    by_sku: dict[str, list[Elastic]] = {}
    for _, active in sorted(protection.active.items()):
        if active.preempted or active.state not in STOPPABLE_STATES:
            continue
        if (spare := surplus_if_any(active)) is not None:
            for sku in active.placement.by_sku:
                by_sku.setdefault(sku, []).append(elastic(Stoppable(active, protection), spare))
    return {sku: tuple(found) for sku, found in by_sku.items()}


def surplus_if_any(active: Active) -> Surplus | None:
    """What the attempt may lose and still run, or none where that is nothing; hardly any work is elastic."""
    if all(group.fewest >= group.count for group in active.spec.groups):
        return None
    spare = surplus(active)
    return spare if spare.in_all else None


def smaller(active: Active, among: Collection[str] | None = None) -> list[Placement]:
    """What it may keep instead of all, the most first; of its replicas (on these nodes) the last go before the first."""
    if (spare := surplus_if_any(active)) is None:
        return []
    there = [share for share in active.placement.shares if among is None or share.node_id in among]
    going, of_group = list[ReplicaKey](), Counter[str]()
    for index, group in sorted(((each.index, each.group) for share in there for each in share.replicas), reverse=True):
        if of_group[group] < spare.by_group.get(group, 0) and len(going) < spare.in_all:
            of_group[group] += 1
            going.append((group, index))
    sizes = (less(active.placement, active.spec, going[:number]) for number in range(1, len(going) + 1))
    return [size for size in sizes if size is not None]


def elastic(victim: Stoppable, spare: Surplus) -> Elastic:
    """The work with what it may lose."""
    placed = ((share.node_id, replica) for share in victim.active.placement.shares for replica in share.replicas)
    spared = [(node_id, replica) for node_id, replica in placed if spare.by_group.get(replica.group)]
    last_first = tuple(sorted(spared, key=lambda each: (-each[1].index, each[1].group)))
    shapes = {shape.name: shape for shape in running_request(victim.active).gang.shapes}
    return Elastic(victim, spare, shapes, last_first)
