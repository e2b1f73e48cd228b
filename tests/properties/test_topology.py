"""What holds of every layout, whatever the nodes, the groups and the profile."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from corral.api import ReplicaGroup, Spread, Topology
from corral.policy import TopologyProfile
from domain.placement.layout import Layout, lay_out
from domain.placement.topology import spread_of
from domain.pool.fleet import Node, Room
from domain.quota.tree import QuotaTree
from domain.worlds.request import Gang
from domain.worlds.world import Nodes, World
from tests.builders import NOON, a_node, a_queue, a_snapshot
from tests.properties.situations import STABLE, is_within

MANY = settings(STABLE, max_examples=150)

QUEUES = [a_queue("research", 100)]
LEVELS = ("block", "rack", "node")
profiles = st.sampled_from(TopologyProfile)


@st.composite
def fleets(draw: st.DrawFn, most: int = 6) -> list[Node]:
    """Nodes of a few racks in two blocks; some do not say their rack."""
    fleet = []
    for index in range(draw(st.integers(1, most))):
        block, rack = draw(st.sampled_from(("b1", "b2"))), draw(st.sampled_from(("r1", "r2", None)))
        gpus = draw(st.integers(1, 4))
        fleet.append(
            a_node(
                f"n{index}",
                gpus=gpus,
                used=draw(st.integers(0, gpus)),
                sku=draw(st.sampled_from(("h100", "h100", "a100"))),
                topology=(("block", block), ("rack", rack)) if rack else (("block", block),),
                cpu_milli=draw(st.integers(0, 4)),
                memory_mib=draw(st.integers(0, 4)),
                labels={"disk": draw(st.sampled_from(("fast", "slow")))},
                maximum_replicas=draw(st.none() | st.integers(0, 3)),
            )
        )
    return fleet


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    sliced = draw(st.booleans())
    return Topology(
        required=draw(st.sampled_from((None, *LEVELS))),
        preferred=draw(st.sampled_from((None, *LEVELS))),
        slice_level=draw(st.sampled_from(LEVELS)) if sliced else None,
        slice_size=draw(st.integers(1, 3)) if sliced else None,
        spread=draw(st.none() | st.none() | st.builds(Spread, level=st.sampled_from(LEVELS), maximum=st.integers(1, 3))),
    )


@st.composite
def groups(draw: st.DrawFn, name: str) -> ReplicaGroup:
    count = draw(st.integers(1, 4))
    return ReplicaGroup(
        name=name,
        count=count,
        minimum=draw(st.none() | st.integers(0, count)),
        accelerators=draw(st.sampled_from((0, 1, 1, 2))),
        cpu_milli=draw(st.integers(0, 2)),
        memory_mib=draw(st.integers(0, 2)),
        skus=draw(st.sampled_from(((), (), ("h100",), ("a100",)))),
        nodes=draw(st.sampled_from(({}, {}, {"disk": ("fast",)}, {"rack": ("r1", "r2")}))),
        topology=draw(st.none() | topologies()),
        colocate=draw(st.sampled_from((None, None, "pair"))),
    )


gangs = st.builds(
    lambda asked, topology, fewest: Gang.of(asked, topology, fewest=fewest),
    st.integers(1, 3).flatmap(lambda number: st.tuples(*(groups(f"g{index}") for index in range(number)))),
    topologies() | st.just(Topology()),
    st.sampled_from((0, 0, 3)),
)


def nodes_of(fleet: Sequence[Node]) -> Nodes:
    world = World.of(a_snapshot(fleet, QUEUES), QuotaTree.at(QUEUES, NOON))
    return world.nodes(world.classes)


def homes(layout: Layout, fleet: Sequence[Node], group: str) -> list[Node]:
    """The nodes of a group's replicas, by index."""
    by_id = {node.id: node for node in fleet}
    found = {
        replica.index: by_id[share.node_id] for share in layout.shares for replica in share.replicas if replica.group == group
    }
    assert sorted(found) == list(range(len(found)))
    return [found[index] for index in range(len(found))]


@MANY
@given(fleets(), gangs, profiles)
def test_no_node_gets_more_than_it_has(fleet: list[Node], gang: Gang, profile: TopologyProfile) -> None:
    layout = lay_out(gang, nodes_of(fleet), profile)
    by_id = {node.id: node for node in fleet}
    shapes = {shape.name: shape for shape in gang.shapes}
    for share in layout.shares if layout else ():
        node = by_id[share.node_id]
        left = replace(node.free, replicas=node.most_replicas) - share.room
        assert is_within(left)
        assert left.replicas >= 0
        used = [0] * len(node.free.devices)
        for replica in share.replicas:
            assert len(replica.devices) == shapes[replica.group].devices
            for device in replica.devices:
                used[device] += 1000
        own = [shapes[replica.group] for replica in share.replicas]
        cpu, memory = sum(shape.cpu_milli for shape in own), sum(shape.memory_mib for shape in own)
        assert share.room == Room(tuple(used), cpu, memory, len(own))


@MANY
@given(fleets(), gangs, profiles)
def test_gangs_are_whole_and_use_nodes_that_they_accept(fleet: list[Node], gang: Gang, profile: TopologyProfile) -> None:
    layout = lay_out(gang, nodes_of(fleet), profile)
    if layout is None:
        return
    assert layout.replicas >= gang.fewest
    for shape in gang.shapes:
        found = homes(layout, fleet, shape.name)
        assert shape.minimum <= len(found) <= shape.count
        assert all(not shape.terms.skus or node.sku in shape.terms.skus for node in found)
        for name, values in shape.terms.nodes:
            assert all(dict((*node.topology, *node.labels)).get(name) in values for node in found)
    if layout.is_whole:
        assert layout.replicas == sum(shape.count for shape in gang.shapes)


@MANY
@given(fleets(), gangs, profiles)
def test_units_sit_in_one_domain_and_their_slices_too(fleet: list[Node], gang: Gang, profile: TopologyProfile) -> None:
    layout = lay_out(gang, nodes_of(fleet), profile)
    if layout is None:
        return
    for unit in gang.units(each_alone=profile.ranks_unconstrained):
        together = [node for shape in unit.shapes for node in homes(layout, fleet, shape.name)]
        if level := unit.topology.required:
            assert all(node.domain(level) for node in together)
            assert len({node.domain(level) for node in together}) <= 1
        if len(unit.shapes) == 1 and unit.topology.slice_level and unit.topology.slice_size:
            check_slices(together, unit.topology.slice_level, unit.topology.slice_size)


@MANY
@given(fleets(), gangs, profiles)
def test_no_domain_has_more_of_a_group_than_the_spread_allows(fleet: list[Node], gang: Gang, profile: TopologyProfile) -> None:
    layout = lay_out(gang, nodes_of(fleet), profile)
    for unit in gang.units(each_alone=profile.ranks_unconstrained) if layout else ():
        for shape in unit.shapes:
            asked = spread_of(unit.topology if len(unit.shapes) == 1 else shape.terms.topology or unit.topology, shape)
            found = homes(layout, fleet, shape.name) if layout else []
            if asked is not None and len(found) > asked.maximum:
                assert all(node.domain(asked.level) for node in found)
                assert max(Counter(node.domain(asked.level) for node in found).values()) <= asked.maximum


def check_slices(found: Sequence[Node], level: str, size: int) -> None:
    for first in range(0, len(found), size):
        domains = {node.domain(level) for node in found[first : first + size]}
        assert len(domains) == 1
        assert None not in domains


@MANY
@given(fleets(), gangs, profiles, st.randoms(use_true_random=False))
def test_the_order_of_nodes_never_matters(fleet: list[Node], gang: Gang, profile: TopologyProfile, random: Random) -> None:
    mixed = random.sample(fleet, len(fleet))
    assert lay_out(gang, nodes_of(mixed), profile) == lay_out(gang, nodes_of(fleet), profile)


# An oracle for tiny instances: try everything


def fits_somehow(fleet: Sequence[Node], asked: Sequence[ReplicaGroup], topology: Topology) -> bool:
    """Whether the replicas, each on any node, can be within every room, in one domain and in whole slices."""
    required = topology.required
    domains = {node.domain(required) for node in fleet} - {None} if required else {None}
    return any(
        next(_assignments([node for node in fleet if not required or node.domain(required) == domain], asked, topology), None)
        is not None
        for domain in domains
    )


def _assignments(fleet: Sequence[Node], asked: Sequence[ReplicaGroup], topology: Topology) -> Iterator[list[Node]]:
    """Every way to put the replicas, the last group's being sliced, on these nodes."""
    left = {node.id: [node.free.whole_devices, node.free.cpu_milli, node.free.memory_mib, node.most_replicas] for node in fleet}
    replicas = [(group, index) for group in asked for index in range(group.count)]
    chosen: list[Node] = []

    def place(at: int) -> Iterator[list[Node]]:
        if at == len(replicas):
            yield chosen
            return
        group, index = replicas[at]
        needs = (group.milli // 1000, group.cpu_milli, group.memory_mib, 1)
        for node in fleet:
            level, size = topology.slice_level, topology.slice_size
            if group is asked[-1] and level and size:
                if node.domain(level) is None:
                    continue
                if index % size and chosen[-1].domain(level) != node.domain(level):
                    continue
            if all(has >= need for has, need in zip(left[node.id], needs, strict=True)):
                left[node.id] = [has - need for has, need in zip(left[node.id], needs, strict=True)]
                chosen.append(node)
                yield from place(at + 1)
                chosen.pop()
                left[node.id] = [has + need for has, need in zip(left[node.id], needs, strict=True)]

    return place(0)


@st.composite
def whole_slices(draw: st.DrawFn) -> tuple[int, Topology]:
    """A count, and a topology whose slices it is a multiple of; what it requires is no narrower than a slice."""
    size = draw(st.sampled_from((None, 1, 2)))
    required = draw(st.integers(0, 2) | st.none())
    level = LEVELS[draw(st.integers(required or 0, 2))] if size else None
    topology = Topology(
        required=None if required is None else LEVELS[required],
        preferred=draw(st.sampled_from((None, *LEVELS))),
        slice_level=level,
        slice_size=size,
    )
    return (size or 1) * draw(st.integers(1, 2)), topology


@MANY
@given(fleets(4), whole_slices(), st.integers(0, 2), st.integers(0, 2), profiles)
def test_a_group_is_placed_exactly_when_it_fits_somehow(
    fleet: list[Node], sliced: tuple[int, Topology], gpus: int, cpu: int, profile: TopologyProfile
) -> None:
    count, topology = sliced
    group = ReplicaGroup(count=count, accelerators=gpus, cpu_milli=cpu, topology=topology)
    layout = lay_out(Gang.of((group,), Topology()), nodes_of(fleet), profile)
    assert (layout is not None) == fits_somehow(fleet, [group], topology)


@MANY
@given(fleets(4), whole_slices(), st.integers(0, 2), st.integers(0, 2), profiles)
def test_a_leader_and_its_workers_are_placed_exactly_when_they_fit_somehow(
    fleet: list[Node], sliced: tuple[int, Topology], gpus: int, led: int, profile: TopologyProfile
) -> None:
    count, topology = sliced
    leader = ReplicaGroup(name="leader", accelerators=led, topology=topology, colocate="pair")
    workers = ReplicaGroup(name="workers", count=max(2, count), accelerators=gpus, topology=topology, colocate="pair")
    layout = lay_out(Gang.of((leader, workers), Topology()), nodes_of(fleet), profile)
    assert (layout is not None) == fits_somehow(fleet, [leader, workers], topology)
