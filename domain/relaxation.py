"""The relaxed pool: demand in lots over classes of like nodes, as a linear programme that every plan satisfies.

It counts accelerators and the replicas of each size that nodes have room for, and knows quota, caps and borrowing limits. It
forgets which node has cpu and memory left, topology, that gangs are whole, and the limits of users and budgets.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from datetime import timedelta
from itertools import chain
from typing import NamedTuple

from corral.api import WHOLE, StopPolicy
from domain.facts import Facts
from domain.feasibility import sift
from domain.fleet import Amount, Health
from domain.quota import Usage
from domain.request import requests
from domain.solver import Programme, Variable, least_possible
from domain.workload import Waiting
from domain.world import Traits, World

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


def demand(waiting: Iterable[Waiting], world: World, facts: Facts) -> Demand:
    """Everything that may start at all by now, every group with as many replicas as it could have."""
    found: Counter[Lot] = Counter()
    known: dict[Hashable, tuple[Homes, ...]] = {}
    for workload in waiting:
        spec = workload.spec
        if not may_start(workload, facts):
            continue
        mark = _mark(workload, world, facts)
        if mark not in known:
            known[mark] = _homes(workload, world, facts)
        for group, homes in zip(spec.groups, known[mark], strict=True):
            if group.milli and homes:
                found[Lot(spec.queue, spec.preemptible, group.milli, homes)] += group.count
        if spec.tasks is not None or any(target.count is not None for target in spec.targets):
            _resize(found, workload, known[mark])
    return dict(sorted(found.items()))


def merged(one: Demand, other: Demand) -> Demand:
    """Both together."""
    return {lot: one.get(lot, 0) + other.get(lot, 0) for lot in sorted(one.keys() | other.keys())}


def may_start(workload: Waiting, facts: Facts) -> bool:
    """Whether no gate keeps the workload from being considered (`domain.openings.why_not_yet`)."""
    spec, now = workload.spec, facts.now
    if any(facts.queues[queue].stop is not StopPolicy.OPEN for queue in facts.tree.paths[spec.queue]):
        return False
    waited = (now - workload.submitted_at) // SECOND
    is_open = not spec.targets or any(target.after_seconds <= waited for target in spec.targets)
    return is_open and (spec.earliest_start is None or spec.earliest_start <= now)


SECOND = timedelta(seconds=1)


def _mark(workload: Waiting, world: World, facts: Facts) -> Hashable:
    """Workloads with the same mark accept the same homes."""
    spec, now = workload.spec, facts.now
    whose = (spec.tenant, spec.queue) if world.law.articles else ()
    groups = tuple([(group.skus, group.tolerations) for group in spec.groups])
    late = [target.after_seconds for target in spec.targets if target.after_seconds]
    opened = (now - workload.submitted_at) // SECOND if late else 0
    return spec.targets, sum(after <= opened for after in late), spec.tolerations, groups, whose


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
    nodes = world.classes[traits]
    return nodes[0].node.price if nodes else 0, traits


def _resize(found: Counter[Lot], workload: Waiting, homes: tuple[Homes, ...]) -> None:
    """Count the first group as the largest that a target or the tasks that are left make it."""
    spec = workload.spec
    first = spec.groups[0]
    counts = [workload.groups(target.count)[0].count for target in spec.targets] or [workload.groups()[0].count]
    if first.milli and homes[0]:
        found[Lot(spec.queue, spec.preemptible, first.milli, homes[0])] += max(counts) - first.count


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
        programme.require(((variable, lot.milli) for lot, variable in guests), most=sum(entry.milli for entry in nodes))
        _hold(programme, [(lot.milli // WHOLE, variable) for lot, variable in guests], Counter(entry.whole for entry in nodes))


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
            total = sum(len(entry.node.total.devices) for entry in nodes) * WHOLE
            supply[traits.supply.region] += total
            used[traits.supply.region] += total - sum(entry.milli for entry in nodes)
    return dict(supply), dict(used)


def at_home(wanted: Demand, in_use: Mapping[str, Amount]) -> dict[str, Amount]:
    """The same with every lot where it would go alone."""
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
