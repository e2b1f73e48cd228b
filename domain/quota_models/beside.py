"""Beside: which nodes may take more replicas of work that keeps those it has, and the best place for them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

from domain.placement.feasibility import offers, sift
from domain.placement.layout import Candidate, best_within
from domain.placement.scoring import choice, options
from domain.pool.fleet import Node, Placement
from domain.pool.parts import counts_of
from domain.pool.workload import Active
from domain.worlds.request import Request
from domain.worlds.world import Nodes, Supply, World


def near(nodes: Nodes, request: Request, beside: Placement | None, known: Mapping[str, Node]) -> Nodes:
    """The nodes in the required domain that the rest of the gang sits in already, as far as the rest leaves them to it."""
    if beside is not None:
        nodes = _apart(nodes, request, beside, known)
    levels = ((shape.terms.topology or request.gang.topology).required for shape in request.gang.shapes)
    level = next((level for level in levels if level is not None), None)
    if beside is None or level is None:
        return nodes
    domain = known[beside.shares[0].node_id].domain(level)
    return tuple(entry for entry in nodes if entry.node.domain(level) == domain)


def _apart(nodes: Nodes, request: Request, beside: Placement, known: Mapping[str, Node]) -> Nodes:
    """The nodes in domains where all replicas asked for may join those of their group that sit there already."""
    for shape in request.gang.shapes:
        spread = (shape.terms.topology or request.gang.topology).spread
        if spread is not None:
            level, most = spread.level, spread.maximum - shape.count
            seated = Counter(
                known[share.node_id].domain(level)
                for share in beside.shares
                for replica in share.replicas
                if replica.group == shape.name
            )
            domains = ((entry, entry.node.domain(level)) for entry in nodes)
            nodes = tuple(entry for entry, domain in domains if domain is not None and seated[domain] <= most)
    return nodes


def more_beside(active: Active, request: Request, world: World, known: Mapping[str, Node]) -> Placement | None:
    """The best place for as many more replicas of the first group as there is room and quota for, where the attempt is.

    None where it has all, or there is not room for one.
    """
    shape = request.gang.shapes[0]
    missing = shape.count - counts_of(active.placement)[shape.name]
    if missing <= 0:
        return None
    # Where replicas may only be spread so far, each has to find its own domain.
    most = 1 if (shape.terms.topology or request.gang.topology).spread else missing
    asked = replace(request.gang, shapes=(replace(shape, minimum=1, count=most),), fewest=0)
    found = _candidates(replace(request, gang=asked), active, world, known)
    best = min(found, key=lambda candidate: choice(candidate, world), default=None)
    return best.placement if best else None


def _candidates(request: Request, active: Active, world: World, known: Mapping[str, Node]) -> Iterator[Candidate]:
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
            return best_within(quota, offered, supply, near(nodes, offered, has, known), usage, profile)  # noqa: B023 - used at once

        yield from options(request.spec, offer.request.gang, offer.classes, world, place)
