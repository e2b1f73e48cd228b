"""Spots: where columns say that a single replica goes is where the rules come to that look at one node after the other."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from corral.api import WHOLE
from domain.placement.layout import lay_out
from domain.pool.fleet import UNLIMITED_REPLICAS, Room
from domain.pool.stock import Atlas, NodeRoom, Stock, Stocks
from domain.worlds.fragmentation import IMPOSSIBLE, NOTHING_LOST, Need
from domain.worlds.outlook import OUTLOOK, IdleFleet, Outlook, Size
from domain.worlds.request import NO_TERMS, NO_TOPOLOGY, Gang, Shape, Terms
from tests.builders import a_node

DEVICES, IDLE = 3, (WHOLE,) * 3
WORLDS = 250
"""Worlds of each seed."""


def a_room(random: Random) -> Room:
    devices = IDLE if random.random() < 0.3 else tuple(random.choice((0, 250, 300, 500, 800, 1000)) for _ in range(DEVICES))
    replicas = random.choice((*[UNLIMITED_REPLICAS] * 4, 0, 1))
    return Room(devices, random.choice((-1, 1, 2, 2, 3)), random.choice((-1, 1, 2, 2, 3)), replicas)


def some_nodes(random: Random) -> list[NodeRoom]:
    """Nodes of which many differ in little, or in their ids alone."""
    few = [a_room(random) for _ in range(3)]
    entries = []
    for index in range(random.randint(1, 8)):
        disk = random.choice(("fast", "fast", "slow"))
        node = a_node(f"n{index}", gpus=DEVICES, price=random.choice((1, 1, 2)), labels={"disk": disk})
        room = random.choice((*few, a_room(random)))
        limited = None if room.replicas == UNLIMITED_REPLICAS else 1
        entries.append(NodeRoom.of(replace(node, maximum_replicas=limited), room))
    return entries


def a_single(random: Random) -> Shape:
    terms = random.choice((NO_TERMS, NO_TERMS, Terms(nodes=(("disk", ("fast",)),))))
    milli = random.choice((0, 0, 200, 300, 500, 1000, 2000, 3000))
    return Shape("main", milli, random.randint(0, 2), random.randint(0, 3), minimum=1, count=1, terms=terms)


def stocked(random: Random, entries: list[NodeRoom], atlas: Atlas) -> Stock | Stocks:
    """The nodes as one stock, or those with fast disks apart from the others."""
    if random.random() < 0.5:
        return Stock.of(entries, atlas)
    kinds = [[each for each in entries if ("disk", disk) in each.node.labels] for disk in ("fast", "slow")]
    return Stocks([Stock.of(kind, atlas) for kind in kinds if kind])


def a_little_later(random: Random, nodes: Stock | Stocks) -> Stock | Stocks:
    """The same nodes, some of which have other rooms."""
    if isinstance(nodes, Stocks):
        return Stocks([_changed(random, part) for part in nodes.parts])
    return _changed(random, nodes)


def _changed(random: Random, stock: Stock) -> Stock:
    for node in random.choices(stock.nodes, k=random.randint(0, 3)):
        room = a_room(random)
        limited = UNLIMITED_REPLICAS if node.maximum_replicas is None else min(room.replicas, 1)
        stock = stock.with_rooms([(node.id, replace(room, replicas=limited))])
    return stock


@pytest.mark.parametrize("seed", range(4))
def test_it_is_where_one_node_after_the_other_is_offered_it(seed: int) -> None:
    random = Random(seed)
    for _ in range(WORLDS):
        entries, gang = some_nodes(random), Gang((a_single(random),), NO_TOPOLOGY)
        nodes = stocked(random, entries, Atlas(entry.node for entry in entries))
        for _ in range(3):  # the columns are there by the second time, and follow
            assert lay_out(gang, nodes) == lay_out(gang, tuple(nodes))
            nodes = a_little_later(random, nodes)


def least_loss(nodes: Stock | Stocks, shape: Shape, outlook: Outlook, atlas: Atlas) -> tuple[str, int] | None:
    """The node that comes first by price, by what the demand loses, by whether all of it is free and by id; and the loss."""
    found = []
    for entry in nodes:
        (loss,) = outlook.losses(size_of(shape), Stock.of([entry], atlas)).tolist()
        if loss < IMPOSSIBLE and entry.room.replicas > 0 and shape.terms.accept(entry.node):
            found.append((entry.node.price, loss, entry.room.devices == IDLE, entry.node.id))
    if not found:
        return None
    _, loss, _, id = min(found)
    return id, loss - NOTHING_LOST


def size_of(shape: Shape) -> Size:
    return shape.milli, shape.cpu_milli, shape.memory_mib


@pytest.mark.parametrize("seed", range(4))
def test_it_is_where_the_known_demand_loses_least_of_the_cheapest_nodes(seed: int) -> None:
    random = Random(seed)
    for _ in range(WORLDS // 2):
        entries, shape = some_nodes(random), a_single(random)
        sizes = [size_of(a_single(random)) for _ in range(random.randint(0, 3))]
        known = Counter({Need(*size): random.randint(1, 5) for size in (size_of(shape), *sizes)})
        atlas = Atlas(entry.node for entry in entries)
        atlas.remembered[OUTLOOK] = outlook = Outlook.for_needs(IdleFleet.of([entry.node for entry in entries]), known)
        assert outlook is not None
        nodes = stocked(random, entries, atlas)
        for _ in range(3):
            layout = lay_out(Gang((shape,), NO_TOPOLOGY), nodes)
            assert (layout and (layout.left[0].node.id, layout.loss)) == least_loss(nodes, shape, outlook, atlas)
            if layout is not None and 0 < shape.milli < WHOLE:
                (entry,) = [each for each in nodes if each.node.id == layout.left[0].node.id]
                assert layout.shares[0].replicas[0].devices == (outlook.device(size_of(shape), entry),)
            nodes = a_little_later(random, nodes)
