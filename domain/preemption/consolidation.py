"""Consolidation: work moves elsewhere, nobody loses anything but the time of a restart, and other work fits."""

from domain.disruption.means import Steps
from domain.placement.layout import domains
from domain.preemption.bid import Bid, Settlement
from domain.preemption.choices import Choices
from domain.worlds.world import Nodes

DOMAINS_TRIED = 16
"""Of the domains that could be cleared, the ones with least to move."""


def by_moving(bid: Bid, allowed: Choices) -> Settlement | None:
    """The cheapest set of moves found, or none. Moves make no room in all, so that the pool must have enough of it."""
    if bid.missing or not bid.has_quota or not allowed.moves:
        return None
    found = []
    for nodes in _places(bid, allowed)[:DOMAINS_TRIED]:
        part = bid.among(nodes)
        if (settlement := _cleared(part, allowed.moves)) is not None:
            found.append(settlement)
    return min(found, key=lambda settlement: settlement.cost, default=None)


def _places(bid: Bid, allowed: Choices) -> list[Nodes]:
    """Where the whole gang could go, the one with least to move first: single nodes, or domains that it must sit within."""
    gang = bid.request.gang
    level = gang.topology.required
    places = [(entry,) for entry in bid.nodes] if gang.is_single else list(domains(bid.nodes, level)) if level else [bid.nodes]
    movable: dict[str, int] = {}
    for step in allowed.moves:
        for share in step.victim.active.placement.shares:
            movable[share.node_id] = movable.get(share.node_id, 0) + share.room.milli
    roomy = [
        nodes for nodes in places if gang.minimum_milli <= sum(entry.milli + movable.get(entry.node.id, 0) for entry in nodes)
    ]
    return sorted(roomy, key=lambda nodes: (gang.minimum_milli - sum(entry.milli for entry in nodes), nodes[0].node.id))


def _cleared(bid: Bid, moves: Steps) -> Settlement | None:
    """Move what is in the way, and then no more than is needed."""
    near = tuple(step for step in moves if step.nodes & bid.rooms.keys())
    able = tuple(step for step in near if bid.has_home(step.victim.active))
    if not bid.fits(able):  # what it would take besides has nowhere to go
        return None
    for spared in reversed(near):
        fewer = tuple(step for step in near if step is not spared)
        if bid.fits(fewer):
            near = fewer
    return bid.settle(near)
