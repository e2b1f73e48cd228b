"""Liking: a gang on the nodes that its replica groups would rather have."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from domain.placement.layout import Candidate
from domain.pool.fleet import Node
from domain.pool.stock import NodeRoom, in_order
from domain.worlds.request import Gang
from domain.worlds.world import Nodes, World

Place = Callable[[Nodes], Candidate | None]
"""Places one and the same request on some nodes of its supply, or finds that it has no room there."""


def on_the_liked(gang: Gang, nodes: Nodes, replicas: int, world: World, place: Place) -> Iterator[Candidate]:
    """The gang on the fewest nodes that hold so many replicas, if nodes come in the order of what they are worth to it.

    It sees every node at its price less what it would pay for it, so that it fills first what it likes most. All nodes together
    hold that many. Nothing where no group likes one node more than another.
    """
    worth = {entry.node.id: _worth(gang, entry.node, world) for entry in nodes}
    if len(set(worth.values())) < 2:
        return
    seen = in_order(_seen(entry, worth[entry.node.id]) for entry in nodes)
    ordered = sorted(seen, key=lambda entry: (entry.node.price, entry.node.id))
    found = place(in_order(ordered[: _fewest_that_hold(replicas, ordered, place)]))
    if found is not None:
        candidate = _at_its_price(found, nodes)
        if world.usage.pays_for(candidate.spec, candidate.layout.milli, candidate.layout.hourly_cost):
            yield candidate


def _worth(gang: Gang, node: Node, world: World) -> int:
    """What the groups that may use a node would pay for it, in millionths of a dollar per accelerator of the gang and hour."""
    shapes = [shape for shape in gang.shapes if shape.terms.accept(node)]
    milli = sum(shape.count * shape.milli for shape in shapes)
    liked = sum(shape.count * shape.milli * shape.terms.worth(node) for shape in shapes)
    return int(liked * Fraction(world.policy.goals.affinity.weight) / milli) if milli else 0


def _seen(entry: NodeRoom, worth: int) -> NodeRoom:
    return NodeRoom.of(replace(entry.node, price=entry.node.price - worth), entry.room)


def _fewest_that_hold(replicas: int, ordered: Sequence[NodeRoom], place: Place) -> int:
    def holds(number: int) -> bool:
        found = place(in_order(ordered[:number]))
        return found is not None and found.layout.replicas >= replicas

    return bisect_left(range(len(ordered)), True, lo=1, key=holds)


def _at_its_price(candidate: Candidate, nodes: Nodes) -> Candidate:
    """The candidate on the nodes as they are."""
    real = {entry.node.id: entry.node for entry in nodes}
    left = tuple(NodeRoom.of(real[entry.node.id], entry.room) for entry in candidate.layout.left)
    return replace(candidate, layout=replace(candidate.layout, left=left))
