"""Places: which SKUs a replica group accepts, and where a gang goes once each group has its SKU."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from domain.cohorts.setting import Setting
from domain.draft import assign, capacity
from domain.feasibility import sift
from domain.fleet import NodeShare, Placement, Replica
from domain.placement import Candidate, Layout, lay_out
from domain.request import Gang, Request
from domain.scoring import choice, options
from domain.world import NodeRoom, Supply, Traits, World

Site = tuple[str, str]
"""Provider and region: what a gang must sit within."""


def accepted_skus(request: Request, setting: Setting) -> dict[str, list[str]]:
    """The SKUs that each group accepts, that its queue has quota for and the fleet has, as its queue tries them."""
    spec, facts = request.spec, setting.facts
    queue = facts.queues[spec.queue]
    known = [sku for sku in (*queue.sku_order, *facts.tree.skus) if facts.tree.has_quota(spec.queue, sku)]
    offered = {supply.sku for supply in sift(request, facts.idle).classes}
    in_order = [sku for sku in dict.fromkeys(known) if sku in offered]
    return {group.name: [sku for sku in in_order if not group.skus or sku in group.skus] for group in spec.groups}


def place(request: Request, skus: Mapping[str, str], world: World) -> Candidate | None:
    """The best place for a gang whose groups have these SKUs; quota is not looked at."""
    offered = _offered(request, world)
    found = (_on_site(request, site, skus, offer, world) for site, offer in sorted(offered.items()))
    fitting = (candidate for candidate in found if candidate is not None)
    return min(fitting, key=lambda candidate: choice(candidate, world), default=None)


def short_of_room(request: Request, skus: Mapping[str, str], world: World) -> frozenset[str]:
    """The SKUs whose part of the gang has no room anywhere; all of them where it is only together that they have none."""
    alone = {sku: {name: each for name, each in skus.items() if each == sku} for sku in set(skus.values())}
    short = {sku for sku, part in alone.items() if place(_only(request, part), part, world) is None}
    return frozenset(short or alone)


def _only(request: Request, names: Iterable[str]) -> Request:
    kept = frozenset(names)
    shapes = tuple(shape for shape in request.gang.shapes if shape.name in kept)
    return replace(request, gang=replace(request.gang, shapes=shapes))


Offer = Mapping[Supply, Sequence[Traits]]


def _offered(request: Request, world: World) -> dict[Site, dict[Supply, Sequence[Traits]]]:
    offered: dict[Site, dict[Supply, Sequence[Traits]]] = {}
    for supply, classes in sift(request, world).classes.items():
        offered.setdefault((supply.provider, supply.region), {})[supply] = classes
    return offered


def _on_site(request: Request, site: Site, skus: Mapping[str, str], offer: Offer, world: World) -> Candidate | None:
    """Each SKU's part of the gang on the nodes of that SKU, if all of them find room. Groups without one go with the first."""
    first = next((skus[shape.name] for shape in request.gang.shapes if shape.name in skus), min(offer).sku)
    names: dict[str, set[str]] = {}
    for shape in request.gang.shapes:
        names.setdefault(skus.get(shape.name, first), set()).add(shape.name)
    parts = [_part_on(Supply(*site, sku), _only(request, group), offer, world) for sku, group in names.items()]
    found = [part for part in parts if part is not None]
    return _joined(request, found) if len(found) == len(parts) else None


def _part_on(supply: Supply, part: Request, offer: Offer, world: World) -> Candidate | None:
    """The best place for the part on nodes of one supply: all that it offers, or those alone that a preference favours."""
    offered = {supply: offer[supply]} if supply in offer else {}
    profile = world.policy.goals.topology
    layouts = (lay_out(part.gang, world.nodes(classes), profile) for _, classes in options(part.spec, offered, world))
    candidates = (_candidate(part, supply, layout) for layout in layouts if layout is not None)
    return min(candidates, key=lambda candidate: choice(candidate, world), default=None)


def _candidate(part: Request, supply: Supply, layout: Layout) -> Candidate:
    shares = tuple(replace(share, sku=supply.sku) for share in layout.shares)
    placement = Placement(supply.provider, supply.region, supply.sku, shares, part.index)
    return Candidate(placement, replace(layout, shares=shares), part.gang, part.spec)


def _joined(request: Request, parts: Sequence[Candidate]) -> Candidate:
    """The parts as one, the first group's SKU before the others'."""
    if len(parts) == 1:
        return parts[0]
    shares = sorted((share for part in parts for share in part.placement.shares), key=lambda share: share.node_id)
    left = sorted((entry for part in parts for entry in part.layout.left), key=lambda entry: entry.node.id)
    layout = Layout(tuple(shares), True, tuple(left))
    return Candidate(replace(parts[0].placement, shares=layout.shares), layout, request.gang, request.spec)


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
        number = sum(replica.group == shape.name for replica in share.replicas)
        if capacity(room, shape, number) < number:
            return None
        first = min((replica.index for replica in share.replicas if replica.group == shape.name), default=0)
        room, replicas = assign(room, shape, range(first, first + number))
        seated += replicas
    entry = next(entry for entry in world.classes[world.homes[share.node_id]] if entry.node.id == share.node_id)
    return replace(share, room=before - room, replicas=tuple(seated)), NodeRoom.of(entry.node, room)
