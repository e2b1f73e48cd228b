"""The sieve: what is laid out on a few nodes that columns point out is what is laid out on all of them one by one."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.api import Topology
from corral.policy import TopologyProfile
from domain.placement import sieve
from domain.placement.layout import has_room, lay_out, why_no_room
from domain.pool.fleet import Room
from domain.pool.stock import Atlas, NodeRoom, Stock, Stocks
from domain.worlds.request import NO_TERMS, Gang, Shape, Terms
from tests.builders import a_node
from tests.properties.situations import STABLE

devices = st.lists(st.sampled_from((-500, 0, 250, 500, 1000, 1000)), min_size=4, max_size=4).map(tuple)


WISHES = (
    *[Topology()] * 2,
    *(Topology(required=level) for level in ("block", "rack", "node")),
    Topology(preferred="rack"),
)


@st.composite
def fleets(draw: st.DrawFn) -> list[NodeRoom]:
    """Up to a dozen nodes in a few racks, with any room."""
    entries = []
    for index in range(draw(st.integers(1, 12))):
        rack = draw(st.integers(0, 2))
        node = a_node(
            f"n{index:02}",
            gpus=4,
            price=draw(st.sampled_from((1, 2))),
            topology=(("block", f"b{rack // 2}"), ("rack", f"r{rack}")),
            labels={"disk": draw(st.sampled_from(("fast", "slow")))},
        )
        entries.append(NodeRoom.of(node, Room(draw(devices), draw(st.integers(0, 8)), draw(st.integers(0, 8)))))
    return entries


@st.composite
def gangs(draw: st.DrawFn) -> Gang:
    """One or two groups, with or without a topology."""
    shapes = []
    for name in draw(st.sampled_from((("a",), ("a",), ("a", "b")))):
        count = draw(st.integers(1, 6))
        terms = draw(st.sampled_from((NO_TERMS, NO_TERMS, Terms(nodes=(("disk", ("fast",)),)))))
        minimum, milli = draw(st.integers(0, count)), draw(st.sampled_from((0, 250, 500, 1000, 2000, 4000)))
        shapes.append(Shape(name, milli, draw(st.integers(0, 3)), draw(st.integers(0, 3)), minimum, count, terms))
    wish = draw(
        st.sampled_from(({}, {}, {"required": "rack"}, {"required": "block"}, {"preferred": "rack"}, {"required": "node"}))
    )
    return Gang(tuple(shapes), Topology(**wish))


@pytest.fixture(autouse=True)
def sift_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sieve, "WORTH_SIFTING", 0)


@STABLE
@given(fleets(), gangs(), st.sampled_from(tuple(TopologyProfile)), st.booleans())
def test_a_gang_lies_on_a_stock_as_it_lies_on_its_nodes(
    entries: list[NodeRoom], gang: Gang, profile: TopologyProfile, apart: bool
) -> None:
    atlas, half = Atlas(entry.node for entry in entries), len(entries) // 2
    parts = [Stock.of(some, atlas) for some in (entries[:half], entries[half:]) if some]
    stock = Stocks(parts) if apart else Stock.of(entries, atlas)
    one_by_one = lay_out(gang, tuple(Stock.of(entries, atlas)), profile)
    assert lay_out(gang, stock, profile) == one_by_one


@STABLE
@given(fleets(), st.lists(st.tuples(st.integers(0, 11), devices), min_size=1, max_size=12), st.randoms())
def test_every_version_of_a_stock_stays_what_it_was(
    entries: list[NodeRoom], changes: list[tuple[int, tuple[int, ...]]], order: Random
) -> None:
    stock = Stock.of(entries, Atlas(entry.node for entry in entries))
    versions = [(stock, {entry.node.id: entry.room for entry in entries})]
    for index, free in changes:
        before, rooms = order.choice(versions)
        node = entries[index % len(entries)].node
        room = replace(rooms[node.id], devices=free)
        after = before.with_rooms([(node.id, room)])
        assert after.whole_in_all == int(after.whole.sum())
        versions.append((after.forked() if order.random() < 0.2 else after, {**rooms, node.id: room}))
    order.shuffle(versions)
    for version, rooms in versions:
        assert {entry.node.id: entry.room for entry in version} == rooms
        assert version.whole.tolist() == [rooms[node.id].whole_devices for node in version.nodes]
        assert version.whole_in_all == sum(room.whole_devices for room in rooms.values())
        assert [version.entry(node_id).room for node_id in sorted(rooms)] == [rooms[node_id] for node_id in sorted(rooms)]


@settings(STABLE, max_examples=200)
@given(fleets(), gangs(), st.sampled_from(tuple(TopologyProfile)), st.booleans())
def test_a_gang_has_room_where_it_can_be_laid_out(
    entries: list[NodeRoom], gang: Gang, profile: TopologyProfile, apart: bool
) -> None:
    atlas, half = Atlas(entry.node for entry in entries), len(entries) // 2
    parts = [Stock.of(some, atlas) for some in (entries[:half], entries[half:]) if some]
    nodes = Stocks(parts) if apart else Stock.of(entries, atlas)
    expected = lay_out(gang, nodes, profile) is not None
    assert has_room(gang, nodes, profile) == expected
    assert has_room(gang, tuple(nodes), profile) == expected


@settings(STABLE, max_examples=200)
@given(fleets(), gangs(), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=4))
def test_who_needs_other_cpu_and_memory_is_told_what_is_short_for_it(
    entries: list[NodeRoom], gang: Gang, others: list[tuple[int, int]]
) -> None:
    stock = Stock.of(entries, Atlas(entry.node for entry in entries))
    for cpu, memory in others:
        other = replace(gang, shapes=tuple(replace(shape, cpu_milli=cpu, memory_mib=memory) for shape in gang.shapes))
        assert has_room(other, stock) == (lay_out(other, tuple(stock)) is not None)
        if not has_room(other, stock):
            assert why_no_room(other, stock) == why_no_room(other, tuple(stock))


@settings(STABLE, max_examples=200)
@given(fleets(), gangs(), st.lists(st.integers(0, 9), min_size=2, max_size=6))
def test_who_needs_other_memory_alone_has_room_where_it_can_be_laid_out(
    entries: list[NodeRoom], gang: Gang, others: list[int]
) -> None:
    stock = Stock.of(entries, Atlas(entry.node for entry in entries))
    for memory in others:
        other = replace(gang, shapes=tuple(replace(shape, memory_mib=memory) for shape in gang.shapes))
        assert has_room(other, stock) == (lay_out(other, tuple(stock)) is not None)
