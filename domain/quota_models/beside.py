"""Beside: which nodes may take more replicas of work that keeps those it has, and the best place for them."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from corral.api import Spread, Topology
from domain.placement.feasibility import offers, sift
from domain.placement.layout import Candidate, best_within
from domain.placement.scoring import choice, options
from domain.placement.topology import spread_of
from domain.pool.fleet import Node, Placement
from domain.pool.parts import counts_of
from domain.pool.workload import Active
from domain.worlds.request import Gang, Request, Shape, Unit, demanded
from domain.worlds.world import Nodes, Supply, World


def near(nodes: Nodes, asked: Gang, whole: Gang, beside: Placement | None, known: Mapping[str, Node]) -> Nodes:
    """The nodes on which the part of a whole gang that is asked for may join the rest of it.

    They are in the domains that those sit in with whom it must share one, where it goes on with a slice that is not yet full
    in that of the slice, and no domain gets more of a group than the spread leaves.
    """
    if beside is None:
        return nodes
    homes = _homes(beside, known)
    numbers = {shape.name: shape.count for shape in asked.shapes}
    for unit in whole.units(each_alone=False):
        mates = [home for shape in unit.shapes for home in homes[shape.name]]
        for shape in unit.shapes:
            if shape.name in numbers:
                own, mine = _own(shape, unit), homes[shape.name]
                nodes = _in_domain(nodes, unit.topology.required, mates)
                nodes = _in_domain(nodes, own.slice_level, _unfinished(own, mine))
                nodes = _apart(nodes, spread_of(own, shape), numbers[shape.name], mine)
    return nodes


def finishing(asked: Gang, whole: Gang, beside: Placement | None) -> Gang:
    """What is asked for, where it goes on with slices that are not yet full: `near` knows in which domain, and nothing else of
    a slice is left to ask for."""
    placed = counts_of(beside) if beside is not None else {}
    settled = {
        shape.name: demanded(own.model_copy(update={"slice_level": None, "slice_size": None}))
        for unit in whole.units(each_alone=False)
        for shape in unit.shapes
        if (own := _own(shape, unit)).slice_size and placed.get(shape.name, 0) % own.slice_size
    }
    if settled.keys().isdisjoint(shape.name for shape in asked.shapes):
        return asked
    shapes = (
        replace(shape, terms=replace(shape.terms, topology=settled[shape.name])) if shape.name in settled else shape
        for shape in asked.shapes
    )
    return replace(asked, shapes=tuple(shapes))


def _homes(beside: Placement, known: Mapping[str, Node]) -> Mapping[str, Sequence[Node]]:
    """The nodes of each group's replicas, by index."""
    homes = defaultdict[str, list[Node]](list)
    seats = ((replica.index, replica.group, share.node_id) for share in beside.shares for replica in share.replicas)
    for _, group, node_id in sorted(seats):
        if node_id in known:
            homes[group].append(known[node_id])
    return homes


def _own(shape: Shape, unit: Unit) -> Topology:
    """What a group asks for within the domain of its unit."""
    return unit.topology if shape.terms.topology is None else shape.terms.topology


def _unfinished(own: Topology, homes: Sequence[Node]) -> Sequence[Node]:
    """Where the last slice is, if it is not yet full."""
    number = len(homes) % own.slice_size if own.slice_size else 0
    return homes[len(homes) - number :]


def _in_domain(nodes: Nodes, level: str | None, others: Sequence[Node]) -> Nodes:
    """The nodes in the domain of a level that others are in; all where no level counts, or nobody is anywhere yet."""
    if level is None or not others:
        return nodes
    domain = others[0].domain(level)
    return tuple(entry for entry in nodes if entry.node.domain(level) == domain)


def _apart(nodes: Nodes, spread: Spread | None, number: int, homes: Sequence[Node]) -> Nodes:
    """The nodes in domains where so many replicas more may join those of their group that sit there already."""
    if spread is None:
        return nodes
    seated = Counter(home.domain(spread.level) for home in homes)
    domains = ((entry, entry.node.domain(spread.level)) for entry in nodes)
    return tuple(entry for entry, domain in domains if domain is not None and seated[domain] <= spread.maximum - number)


def more_beside(active: Active, request: Request, world: World, known: Mapping[str, Node]) -> Placement | None:
    """The best place for as many more replicas of the first group as there is room and quota for, where the attempt is.

    None where it has all, or there is not room for one.
    """
    shape = request.gang.shapes[0]
    placed = counts_of(active.placement)[shape.name]
    if placed >= shape.count:
        return None
    most = _at_once(shape.terms.topology or request.gang.topology, placed, shape.count - placed)
    asked = replace(request.gang, shapes=(replace(shape, minimum=1, count=most),), fewest=0)
    found = _candidates(
        replace(request, gang=finishing(asked, request.gang, active.placement)), request.gang, active, world, known
    )
    best = min(found, key=lambda candidate: choice(candidate, world), default=None)
    return best.placement if best else None


def _at_once(own: Topology, placed: int, missing: int) -> int:
    """How many of those that are missing look for a place together."""
    if own.spread:
        return 1  # each has to find its own domain
    return min(missing, own.slice_size - placed % own.slice_size) if own.slice_size else missing


def _candidates(request: Request, whole: Gang, active: Active, world: World, known: Mapping[str, Node]) -> Iterator[Candidate]:
    has, usage, profile = active.placement, world.usage, world.policy.goals.topology
    alone = world.without([active]).usage
    for offer in offers(request, sift(request, world)):
        if offer.supply != Supply(has.provider, has.region, has.sku):
            continue
        needs = offer.request.gang.least_by_sku(has.sku)
        quota = {sku: alone.allowed(request.spec, sku) - has.by_sku.get(sku, 0) for sku in needs}
        if any(quota[sku] < needed for sku, needed in needs.items()):
            continue

        def place(nodes: Nodes, offered: Request = offer.request, supply: Supply = offer.supply) -> Candidate | None:
            there = near(nodes, offered.gang, whole, has, known)
            return best_within(quota, offered, supply, there, usage, profile)  # noqa: B023 - used at once

        yield from options(request.spec, offer.request.gang, offer.classes, world, place)
