"""Places: which SKUs a replica group accepts, and where a gang goes once each group has its SKU."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from domain.placement.draft import assign, capacity
from domain.placement.feasibility import sift
from domain.placement.layout import Candidate, Layout, lay_out
from domain.placement.scoring import choice, options, variants
from domain.pool.fleet import NodeShare, Placement, Replica
from domain.pool.stock import NodeRoom
from domain.quota_models.cohorts.setting import Setting
from domain.worlds.request import Gang, Request, Shape
from domain.worlds.world import Nodes, Supply, Traits, World

Site = tuple[str, str]
"""Provider and region: what a gang must sit within."""

Offer = Mapping[Supply, Sequence[Traits]]
"""The kinds of nodes that a request may use, by supply."""


def accepted_skus(request: Request, setting: Setting) -> dict[str, list[str]]:
    """The SKUs that each group accepts, that its queue has quota for and the fleet has, as its queue tries them."""
    spec, facts = request.spec, setting.facts
    named = dict.fromkeys((*facts.queues[spec.queue].sku_order, *facts.tree.skus))
    offer = sift(request, facts.idle).classes
    return {
        shape.name: [sku for sku in named if facts.tree.has_quota(spec.queue, sku) and _accepts(shape, sku, offer, facts.idle)]
        for shape in request.gang.shapes
    }


def _accepts(shape: Shape, sku: str, offer: Offer, idle: World) -> bool:
    """Whether the group may use any node of the SKU."""
    nodes = (entry.node for supply, classes in offer.items() if supply.sku == sku for entry in idle.nodes(classes))
    return any(shape.terms.accept(node) for node in nodes)


def place(request: Request, skus: Mapping[str, str], world: World) -> Candidate | None:
    """The best place for a gang whose groups have these SKUs; quota is not looked at."""
    by_site: dict[Site, dict[Supply, Sequence[Traits]]] = {}
    for supply, classes in sift(request, world).classes.items():
        by_site.setdefault((supply.provider, supply.region), {})[supply] = classes
    found = (
        _on_site(variant, site, skus, offer, world)
        for site, offer in sorted(by_site.items())
        for variant in variants(request, world)
    )
    return min((each for each in found if each is not None), key=lambda each: choice(each, world), default=None)


def _on_site(request: Request, site: Site, skus: Mapping[str, str], offer: Offer, world: World) -> Candidate | None:
    """The best place in one region, if it offers all of the SKUs. Groups without one go with the first."""
    first = next((skus[shape.name] for shape in request.gang.shapes if shape.name in skus), min(offer).sku)
    wanted = {sku: Supply(*site, sku) for sku in (first, *skus.values())}
    if any(supply not in offer for supply in wanted.values()):
        return None
    gang = request.gang
    if len(wanted) > 1:
        gang = gang.pinned({shape.name: skus.get(shape.name, first) for shape in gang.shapes})
    classes = [traits for supply in wanted.values() for traits in offer[supply]]

    def on(nodes: Nodes) -> Candidate | None:
        layout = lay_out(gang, nodes, world.policy.goals.topology)
        return None if layout is None else _candidate(request, wanted[first], layout)

    found = options(request.spec, gang, classes, world, on)
    return min(found, key=lambda candidate: choice(candidate, world), default=None)


def _candidate(request: Request, first: Supply, layout: Layout) -> Candidate:
    homes = zip(layout.shares, layout.left, strict=True)
    shares = tuple(replace(share, sku=entry.node.sku) if entry.node.sku != first.sku else share for share, entry in homes)
    return Candidate(Placement(*first, shares, request.index), layout, request.gang, request.spec)


def short_of_room(request: Request, skus: Mapping[str, str], world: World) -> frozenset[str]:
    """The SKUs whose part of the gang has no room anywhere; all of them where it is only together that they have none."""
    parts = {sku: {name: each for name, each in skus.items() if each == sku} for sku in set(skus.values())}
    short = {sku for sku, part in parts.items() if place(_only(request, part), part, world) is None}
    return frozenset(short or parts)


def _only(request: Request, names: Iterable[str]) -> Request:
    kept = frozenset(names)
    shapes = tuple(shape for shape in request.gang.shapes if shape.name in kept)
    return replace(request, gang=replace(request.gang, shapes=shapes))


def seated_again(candidate: Candidate, world: World) -> Candidate | None:
    """The same replicas on the same nodes, on devices that are free in this world; none where there are too few."""
    seats = [_seat(share, candidate.wanted, world) for share in candidate.placement.shares]
    taken = [seat for seat in seats if seat is not None]
    if len(taken) < len(seats):
        return None
    layout = replace(candidate.layout, shares=tuple(share for share, _ in taken), left=tuple(entry for _, entry in taken))
    return replace(candidate, placement=replace(candidate.placement, shares=layout.shares), layout=layout)


def _seat(share: NodeShare, gang: Gang, world: World) -> tuple[NodeShare, NodeRoom] | None:
    before = room = world.rooms[share.node_id]
    seated: list[Replica] = []
    for shape in sorted(gang.shapes, key=lambda shape: -shape.milli):
        indices = [replica.index for replica in share.replicas if replica.group == shape.name]
        if capacity(room, shape, len(indices)) < len(indices):
            return None
        first = min(indices, default=0)
        room, replicas = assign(room, shape, range(first, first + len(indices)))
        seated += replicas
    node = world.classes[world.homes[share.node_id]].entry(share.node_id).node
    return replace(share, room=before - room, replicas=tuple(seated)), NodeRoom.of(node, room)
