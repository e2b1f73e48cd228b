"""The shortlist: the nodes that look cheapest to clear, on which plans are compared exactly."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from domain.disruption.means import Cost, Step, cost_of
from domain.placement.layout import domains
from domain.pool.stock import NodeRoom
from domain.preemption.bid import Bid, Settlement
from domain.preemption.choices import Choices
from domain.worlds.world import Nodes


def shortlist(bid: Bid, allowed: Choices, greedy: Settlement | None, most: int) -> Nodes:
    """Up to `most` nodes, and all that the greedy plan touches: domains in the order of what clearing them costs."""
    if len(bid.nodes) <= most:
        return bid.nodes
    prices = _prices(bid, allowed)
    chosen = set() if greedy is None else _touched(greedy)
    for nodes in sorted(_places(bid), key=lambda nodes: _price_of(nodes, bid, prices)):
        for entry in sorted(nodes, key=lambda entry: (prices[entry.node.id], entry.node.id)):
            if len(chosen) < most:
                chosen.add(entry.node.id)
    return tuple(entry for entry in bid.nodes if entry.node.id in chosen)


def _touched(greedy: Settlement) -> set[str]:
    placed = {share.node_id for share in greedy.candidate.placement.shares}
    return placed.union(*(step.nodes for step in greedy.steps))


def _places(bid: Bid) -> Sequence[Nodes]:
    level = bid.request.gang.topology.required
    return domains(bid.nodes, level) if level else (bid.nodes,)


def _prices(bid: Bid, allowed: Choices) -> dict[str, Cost]:
    """What it costs, by node, to make room for the largest replica; nodes that cannot have it cost all that is on them."""
    by_node: defaultdict[str, list[Step]] = defaultdict(list)
    for step in sorted((*allowed.shrinks, *allowed.moves, *allowed.stops), key=lambda step: (step.level, step.cost)):
        for node_id in sorted(step.nodes):
            by_node[node_id].append(step)
    return {entry.node.id: _price(entry, by_node[entry.node.id], bid.request.gang.largest) for entry in bid.nodes}


def _price(entry: NodeRoom, steps: Sequence[Step], needed: int) -> Cost:
    taken, free = [], entry.milli
    for step in steps:
        if free >= needed:
            break
        taken.append(step)
        free += sum(share.room.milli for share in step.victim.active.placement.shares if share.node_id == entry.node.id)
    return cost_of(taken)


def _price_of(nodes: Nodes, bid: Bid, prices: Mapping[str, Cost]) -> tuple[list[Cost], str]:
    """The prices of the cheapest nodes that together have what the gang needs, the highest first."""
    needed, taken = bid.request.gang.minimum_milli, []
    for entry in sorted(nodes, key=lambda entry: (prices[entry.node.id], entry.node.id)):
        if needed <= 0:
            break
        taken.append(prices[entry.node.id])
        needed -= entry.node.total.milli
    return sorted(taken, reverse=True), nodes[0].node.id
