"""The relaxed pool: demand in lots over classes of like nodes, as a linear programme that every plan satisfies.

It counts accelerators and the replicas of each size that nodes have room for, and knows quota, caps and borrowing limits. It
forgets which node has cpu and memory left, topology and whole gangs (but for what fits nowhere even alone), users and budgets.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import NamedTuple

import numpy as np

from corral.api import WHOLE, ReplicaGroup, StopPolicy
from domain.facts import Facts
from domain.placement.feasibility import sift
from domain.placement.layout import domains
from domain.pool.fleet import Amount, Health
from domain.pool.stock import Stock
from domain.pool.workload import Waiting, open_from
from domain.quota.usage import Usage
from domain.solver import Programme, Variable, least_possible
from domain.worlds.request import Kind, requests
from domain.worlds.world import Supply, Traits, World

Homes = tuple[Traits, ...]
"""Classes of like nodes that somebody accepts, in order; of those that a workload names first, the cheapest leads."""


Whole = Mapping[int, int]
"""How many nodes have how many whole devices."""


class Lot(NamedTuple):
    """Replicas of one size that one queue wants on the same classes of nodes; `milli` is what each needs."""

    queue: str
    preemptible: bool
    milli: Amount
    homes: Homes


Demand = Mapping[Lot, int]
"""Replicas by lot."""


Tally = Sequence[tuple[Waiting, int]]
"""Examples of workloads that ask for the same, and how many there are of each."""


def tally(waiting: Collection[Waiting], facts: Facts) -> Tally:
    """Everybody who may start at all by now, the like counted together."""
    stopped = {
        name
        for name, path in facts.tree.paths.items()
        if any(facts.queues[queue].stop is not StopPolicy.OPEN for queue in path)
    }
    found: dict[Hashable, tuple[Waiting, int]] = {}
    for workload, alike in _of_each_kind(waiting, facts):
        spec = workload.spec
        is_late = spec.earliest_start is not None and facts.now < spec.earliest_start
        if not is_late and spec.queue not in stopped and (opened := _opened(workload, facts.now)):
            left = None if spec.tasks is None else spec.tasks - workload.tasks_done
            asks = (spec.queue, spec.tenant, spec.preemptible, spec.targets, spec.tolerations)
            key = (*asks, tuple(map(_replicas, spec.groups)), spec.topology, left, opened)
            example, number = found.get(key, (workload, 0))
            found[key] = example, number + alike
    return tuple(found.values())


def _of_each_kind(waiting: Collection[Waiting], facts: Facts) -> Tally:
    """The first of every kind, and how many there are of it."""
    examples: dict[Kind, Waiting] = {}
    numbers: Counter[Kind] = Counter()
    backlog = facts.backlog(waiting)
    for lane in backlog.lanes:
        alike = facts.kind(example := backlog.first(lane))
        examples.setdefault(alike, example)
        numbers[alike] += backlog.number(lane)
    return [(workload, numbers[alike]) for alike, workload in examples.items()]


def _replicas(group: ReplicaGroup) -> Hashable:
    """What counts of a group here."""
    return group.milli, group.count, group.minimum, group.skus, group.tolerations, group.topology, group.colocate


def _opened(workload: Waiting, now: datetime) -> int:
    """How many targets are open; a spec that names none has one."""
    came = workload.submitted_at
    delays = [target.after_seconds for target in workload.spec.targets] or [0]
    return sum(open_from(came, delay) <= now for delay in delays)


def demand(counted: Tally, world: World, facts: Facts, rooms: "Rooms | None" = None, alone: "Rooms | None" = None) -> Demand:
    """What all of these want, every group with as many replicas as it could have.

    Where `rooms` are given, without work that would find no room in them even alone. Where it is said what there is for each
    `alone`, the classes that would have room for it are in front of those that would not.
    """
    found: Counter[Lot] = Counter()
    for workload, number in counted:
        homes = _homes(workload, world, facts)
        if alone is not None:
            homes = alone.roomy_first(workload, homes)
        if rooms is None or rooms.hold(workload, homes):
            for group, accepted, count in zip(workload.spec.groups, homes, _most_replicas(workload), strict=True):
                if group.milli and accepted:
                    found[Lot(workload.spec.queue, workload.spec.preemptible, group.milli, accepted)] += count * number
    return dict(sorted(found.items()))


def _most_replicas(workload: Waiting) -> list[int]:
    """Of each group: of the first as many as the largest target, or the tasks that are left, make of it."""
    counts = {target.count for target in workload.spec.targets} or {None}
    first = max(workload.groups(count)[0].count for count in counts)
    return [first, *(group.count for group in workload.spec.groups[1:])]


@dataclass(slots=True)
class Rooms:
    """How many replicas of a size fit in one topology domain of a class of nodes; remembered while a demand is counted."""

    world: World
    _most: dict[tuple[Traits, str | None, int], int] = field(default_factory=dict)

    def hold(self, workload: Waiting, homes: Sequence[Homes]) -> bool:
        """Whether the fewest replicas of each group fit somewhere by themselves."""
        return all(self._by_group(workload, homes))

    def roomy_first(self, workload: Waiting, homes: Sequence[Homes]) -> tuple[Homes, ...]:
        """The same homes, in front those of providers' regions in which the fewest replicas of each group fit by themselves."""
        sites = [{supply[:2] for supply in supplies} for supplies in self._by_group(workload, homes)]
        roomy = set.intersection(*sites) if sites else set()
        return tuple(tuple(sorted(accepted, key=lambda home: home.supply[:2] not in roomy)) for accepted in homes)

    def _by_group(self, workload: Waiting, homes: Sequence[Homes]) -> Iterator[set[Supply]]:
        """The supplies in which the fewest replicas fit, for each group that needs whole devices."""
        spec = workload.spec
        smallest = min((target.count for target in spec.targets if target.count is not None), default=None)
        for group, accepted in zip(spec.groups, homes, strict=True):
            is_plain = group.topology is None and group.colocate is None
            level = spec.topology.required if is_plain else None
            fewest = group.fewest if smallest is None else min(group.fewest, smallest)
            if (size := group.milli // WHOLE) and fewest:
                by_supply: Counter[Supply] = Counter()
                for home in accepted:
                    by_supply[home.supply] += self._most_in_one(home, level, size)
                yield {supply for supply, most in by_supply.items() if most >= fewest}

    def _most_in_one(self, home: Traits, level: str | None, size: int) -> int:
        if (home, level, size) not in self._most:
            self._most[home, level, size] = _most_slots(self.world.classes[home], level, size)
        return self._most[home, level, size]


def _most_slots(nodes: Stock, level: str | None, size: int) -> int:
    """How many replicas of so many devices nodes take: all of them, or those of one domain of a level."""
    slots = nodes.whole // size
    if level is None:
        return int(slots.sum())
    if nodes.has_level(level):
        return int(np.bincount(nodes.domains(level), weights=slots).max(initial=0))
    return max((sum(entry.whole // size for entry in place) for place in domains(nodes, level)), default=0)


def merged(one: Demand, other: Demand) -> Demand:
    """Both together."""
    return {lot: one.get(lot, 0) + other.get(lot, 0) for lot in sorted(one.keys() | other.keys())}


def _homes(workload: Waiting, world: World, facts: Facts) -> tuple[Homes, ...]:
    """What each group accepts under any target that is open, the cheapest class of the first such target in front."""
    found: list[dict[Traits, None]] = [{} for _ in workload.spec.groups]
    for request in requests(workload):
        if request.opens_at <= facts.now:
            every = sorted(chain(*sift(request, world).classes.values()), key=lambda traits: _price(traits, world))
            for homes, group in zip(found, workload.spec.groups, strict=True):
                homes.update(dict.fromkeys(traits for traits in every if not group.skus or traits.supply.sku in group.skus))
    return tuple(tuple(homes) for homes in found)


def _price(traits: Traits, world: World) -> tuple[int, Traits]:
    return world.classes[traits].cheapest, traits


def most_milli(wanted: Demand, world: World) -> Amount | None:
    """The most thousandths of the demand that could start in this world, or none where nothing was proven."""
    programme = Programme()
    seats = {(lot, home): programme.variable(number) for lot, number in wanted.items() for home in lot.homes if number > 0}
    by_lot: defaultdict[Lot, list[tuple[Variable, int]]] = defaultdict(list)
    for (lot, _), variable in seats.items():
        by_lot[lot].append((variable, 1))
    for lot, terms in by_lot.items():
        programme.require(terms, most=wanted[lot])
    _fit(programme, seats, world)
    _stay_within_quota(programme, seats, world.usage)
    programme.objectives = [tuple((variable, -lot.milli) for (lot, _), variable in seats.items())]
    least = least_possible(programme) if seats else 0
    return None if least is None else -least


Seats = Mapping[tuple[Lot, Traits], Variable]
"""How many replicas of a lot are on a class of nodes."""


def _fit(programme: Programme, seats: Seats, world: World) -> None:
    """No class gives more than it has, nor holds more replicas of any size, a large one counting as often as it contains it."""
    by_home: defaultdict[Traits, list[tuple[Lot, Variable]]] = defaultdict(list)
    for (lot, home), variable in seats.items():
        by_home[home].append((lot, variable))
    for home, guests in by_home.items():
        nodes = world.classes[home]
        programme.require(((variable, lot.milli) for lot, variable in guests), most=nodes.milli_in_all)
        _hold(programme, [(lot.milli // WHOLE, variable) for lot, variable in guests], Counter(nodes.whole.tolist()))


def _hold(programme: Programme, guests: Iterable[tuple[int, Variable]], whole: Whole) -> None:
    """For each size: nodes of which so many have so many whole devices, and replicas of so many devices each."""
    large = [(size, variable) for size, variable in guests if size]
    for least in sorted({size for size, _ in large}):
        holds = sum(number * (devices // least) for devices, number in whole.items())
        programme.require([(variable, size // least) for size, variable in large if size >= least], most=holds)


def all_fit(wanted: Mapping[tuple[int, Homes], int], whole: Mapping[Traits, Whole]) -> bool:
    """Whether counts leave it open that all of these replicas sit somewhere; by devices of each and the homes it accepts."""
    programme, guests = Programme(), defaultdict[Traits, list[tuple[int, Variable]]](list)
    for (size, homes), number in wanted.items():
        variables = {home: programme.variable(number) for home in homes}
        programme.require(((variable, 1) for variable in variables.values()), least=number, most=number)
        for home, variable in variables.items():
            guests[home].append((size, variable))
    for home, those in guests.items():
        _hold(programme, those, whole.get(home, {}))
    programme.objectives = [()]
    return least_possible(programme) is not None


def _stay_within_quota(programme: Programme, seats: Seats, usage: Usage) -> None:
    """What each queue may add by itself, and what all queues below a node of the tree may add together."""
    tree = usage.tree
    own: defaultdict[tuple[str, str, bool], list[tuple[Variable, int]]] = defaultdict(list)
    shared: defaultdict[tuple[str, str], list[tuple[Variable, int]]] = defaultdict(list)
    for (lot, home), variable in seats.items():
        sku, term = home.supply.sku, (variable, lot.milli)
        for preemptible in {True, lot.preemptible}:
            own[lot.queue, sku, preemptible].append(term)
        for place in [(node, name) for node in tree.paths[lot.queue][1:] for name in tree.names(sku)]:
            shared[place].append(term)
    for (queue, sku, preemptible), terms in own.items():
        programme.require(terms, most=usage.room(queue, sku, preemptible=preemptible))
    for (node, name), terms in shared.items():
        if (most := min(_limits(node, name, usage), default=None)) is not None:
            programme.require(terms, most=max(0, most))


def _limits(node: str, name: str, usage: Usage) -> Iterator[Amount]:
    """What the subtree may still add: up to its cap, up to what it owns and may borrow, and as a root what it owns."""
    if (standing := usage.tree.standings.get((node, name))) is None:
        return
    quota, total = standing.quota, usage.use(node, name).total
    if quota.cap is not None:
        yield quota.cap - total
    if usage.tree.common:
        return
    if usage.tree.paths[node][1:]:
        if quota.borrowing_limit is not None:
            yield standing.nominal_below + quota.borrowing_limit - total
    else:
        yield standing.nominal_below - total


# Regions


def worst_region(in_use: Mapping[str, Amount], supply: Mapping[str, Amount]) -> float:
    """The largest part of its supply that a region is asked for."""
    return max((in_use.get(region, 0) / owned for region, owned in supply.items() if owned), default=0.0)


def region_supply(world: World) -> tuple[dict[str, Amount], dict[str, Amount]]:
    """What ready nodes have, and what of it is not free, by region."""
    supply: Counter[str] = Counter()
    used: Counter[str] = Counter()
    for traits, nodes in world.classes.items():
        if traits.health is Health.READY:
            total = nodes.devices_in_all * WHOLE
            supply[traits.supply.region] += total
            used[traits.supply.region] += total - nodes.milli_in_all
    return dict(supply), dict(used)


def at_home(wanted: Demand, in_use: Mapping[str, Amount]) -> dict[str, Amount]:
    """The same with every lot where it would go alone: its first home."""
    meant = Counter(in_use)
    for lot, number in wanted.items():
        meant[lot.homes[0].supply.region] += number * lot.milli
    return dict(meant)


def levelled(wanted: Demand, in_use: Mapping[str, Amount], supply: Mapping[str, Amount]) -> dict[str, Amount]:
    """The same with every lot in the regions that it accepts, the least choosy last, so that the worst of them is low."""
    meant = Counter(in_use)
    by_regions: Counter[tuple[str, ...]] = Counter()
    for lot, number in wanted.items():
        by_regions[tuple(sorted({home.supply.region for home in lot.homes}))] += number * lot.milli
    for regions in sorted(by_regions, key=lambda regions: (len(regions), regions)):
        _pour(by_regions[regions], regions, meant, supply)
    return dict(meant)


def _pour(amount: Amount, regions: Iterable[str], meant: Counter[str], supply: Mapping[str, Amount]) -> None:
    """Fill the emptiest regions up to one level, as if demand were water."""
    order = sorted((region for region in regions if supply.get(region)), key=lambda region: meant[region] / supply[region])
    for lowest in range(len(order), 0, -1):
        filled = order[:lowest]
        owned = sum(supply[region] for region in filled)
        level = (amount + sum(meant[region] for region in filled)) / owned
        if level >= meant[filled[-1]] / supply[filled[-1]]:
            break
    else:
        return
    for region in filled:
        meant[region] = max(meant[region], round(level * supply[region]))
