"""Gangs of several groups on a few nodes are placed exactly when there is a way: an oracle tries them all."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from corral.api import WHOLE, ReplicaGroup, Spread, Topology
from corral.policy import TopologyProfile
from domain.placement.layout import lay_out
from domain.pool.fleet import Node
from domain.worlds.request import Gang
from tests.builders import a_node
from tests.properties.situations import STABLE
from tests.properties.test_topology import nodes_of

MANY = settings(STABLE, max_examples=100)

LEVELS = ("zone", "block", "rack", "node")


@st.composite
def fleets(draw: st.DrawFn) -> list[Node]:
    """Nodes with devices in part use, of which some lack one level or another."""
    fleet = []
    for index in range(draw(st.integers(1, 4))):
        said = {level: draw(st.sampled_from((f"{level}0", f"{level}1", f"{level}1", None))) for level in LEVELS[:-1]}
        fleet.append(
            a_node(
                f"n{index}",
                free=draw(st.lists(st.sampled_from((0, 300, 500, 1000, 1000)), min_size=1, max_size=3)),
                topology=[(level, domain) for level, domain in said.items() if domain],
                cpu_milli=draw(st.integers(1, 6)),
                labels={"disk": draw(st.sampled_from(("fast", "slow")))},
                maximum_replicas=draw(st.sampled_from((None, None, 2))),
            )
        )
    return fleet


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """What a domain must hold is not wider than the domain."""
    required = draw(st.none() | st.integers(0, 3))
    widest, size = required or 0, draw(st.sampled_from((None, None, 2)))
    apart = LEVELS[0 if required is None else required + 1 :]
    return Topology(
        required=None if required is None else LEVELS[required],
        preferred=draw(st.sampled_from((None, *LEVELS))),
        slice_level=draw(st.sampled_from(LEVELS[widest:])) if size else None,
        slice_size=size,
        spread=draw(st.none() | st.builds(Spread, level=st.sampled_from(apart), maximum=st.integers(1, 2))) if apart else None,
    )


@st.composite
def gangs(draw: st.DrawFn) -> tuple[ReplicaGroup, ...]:
    """Groups that each ask for something of their own, in one region."""
    return tuple(
        ReplicaGroup(
            name=f"g{index}",
            count=draw(st.integers(1, 3)),
            accelerators=draw(st.sampled_from((0, 0.3, 0.5, 1, 1, 2))),
            cpu_milli=draw(st.integers(0, 3)),
            nodes=draw(st.sampled_from(({}, {}, {"disk": ("fast",)}))),
            topology=draw(topologies()),
        )
        for index in range(draw(st.integers(1, 3)))
    )


@dataclass
class Trial:
    """Replicas on nodes so far, and what they leave."""

    fleet: Sequence[Node]
    devices: dict[str, list[int]] = field(default_factory=dict)
    cpu: dict[str, int] = field(default_factory=dict)
    replicas: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for node in self.fleet:
            self.devices[node.id], self.cpu[node.id] = list(node.free.devices), node.free.cpu_milli
            self.replicas[node.id] = node.most_replicas

    def fit(self, replicas: Sequence[ReplicaGroup], homes: list[Node]) -> bool:
        """Whether the rest of the replicas have room too; `homes` are those of the same group so far."""
        if not replicas:
            return True
        group, rest = replicas[0], replicas[1:]
        for node in self.fleet:
            if not may_join(group, node, homes):
                continue
            for devices in self._choices(group, node):
                self._take(group, node, devices, 1)
                if self.fit(rest, [*homes, node] if rest and rest[0] is group else []):
                    return True
                self._take(group, node, devices, -1)
        return False

    def _choices(self, group: ReplicaGroup, node: Node) -> Iterator[list[int]]:
        free = self.devices[node.id]
        if self.cpu[node.id] < group.cpu_milli or self.replicas[node.id] < 1:
            return
        if group.milli in range(1, WHOLE):
            yield from ([device] for device, milli in enumerate(free) if milli >= group.milli)
            return
        whole = [device for device, milli in enumerate(free) if milli == WHOLE]
        if len(whole) >= group.milli // WHOLE:
            yield whole[: group.milli // WHOLE]

    def _take(self, group: ReplicaGroup, node: Node, devices: Sequence[int], sign: int) -> None:
        for device in devices:
            self.devices[node.id][device] -= sign * min(group.milli, WHOLE)
        self.cpu[node.id] -= sign * group.cpu_milli
        self.replicas[node.id] -= sign


def may_join(group: ReplicaGroup, node: Node, homes: Sequence[Node]) -> bool:
    """Whether a replica may be on a node beside those of its group that are on others."""
    asked = group.topology or Topology()
    if group.nodes and ("disk", "fast") not in node.labels:
        return False
    if asked.required and not in_one_domain([*homes, node], asked.required):
        return False
    if asked.slice_level and asked.slice_size:
        mates = homes[len(homes) // asked.slice_size * asked.slice_size :]
        if not in_one_domain([*mates, node], asked.slice_level):
            return False
    if asked.spread and group.count > asked.spread.maximum:
        domain, level = node.domain(asked.spread.level), asked.spread.level
        return domain is not None and Counter(home.domain(level) for home in homes)[domain] < asked.spread.maximum
    return True


def in_one_domain(nodes: Sequence[Node], level: str) -> bool:
    domains = {node.domain(level) for node in nodes}
    return len(domains) == 1 and None not in domains


@MANY
@given(fleets(), gangs(), st.sampled_from((TopologyProfile.BEST_FIT, TopologyProfile.MIXED)))
def test_a_gang_is_placed_exactly_when_there_is_a_way(
    fleet: list[Node], groups: tuple[ReplicaGroup, ...], profile: TopologyProfile
) -> None:
    layout = lay_out(Gang.of(groups, Topology()), nodes_of(fleet), profile)
    every = [group for group in groups for _ in range(group.count)]
    assert (layout is not None) == Trial(fleet).fit(every, [])


@MANY
@given(fleets(), gangs())
def test_what_is_placed_keeps_every_rule(fleet: list[Node], groups: tuple[ReplicaGroup, ...]) -> None:
    layout = lay_out(Gang.of(groups, Topology()), nodes_of(fleet))
    by_id = {node.id: node for node in fleet}
    shares = layout.shares if layout else ()
    for group in groups if layout else ():
        placed = {r.index: by_id[share.node_id] for share in shares for r in share.replicas if r.group == group.name}
        homes = [placed[index] for index in range(group.count)]
        assert all(may_join(group, node, homes[:index]) for index, node in enumerate(homes))
