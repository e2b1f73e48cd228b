"""What is simulated: regions, clusters and their nodes, and the faults that befall them."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Annotated, Self

from pydantic import AwareDatetime, Field, StrictInt, model_validator

from activities.ports import NodeView
from corral.api import MAXIMUM_ACCELERATORS_PER_REPLICA, CapacityType, Identifier, Model, ShortName

Probability = Annotated[float, Field(ge=0, le=1)]
PoolSeconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
SECONDS_PER_HOUR = 3600
MILLION = 1_000_000
MOST_ALIKE = 100_000
"""Nodes of one shape in one cluster."""


class NodeShape(Model):
    """`count` identical nodes of a cluster; `name` tells two with one SKU apart. Price, end: see `domain.pool.fleet.Node`."""

    sku: Identifier
    count: Annotated[StrictInt, Field(ge=1, le=MOST_ALIKE)]
    accelerators: Annotated[StrictInt, Field(ge=0, le=MAXIMUM_ACCELERATORS_PER_REPLICA)] = 8
    cpu_milli: Annotated[StrictInt, Field(ge=0)] = 128_000
    memory_mib: Annotated[StrictInt, Field(ge=0)] = 1_048_576
    capacity_type: CapacityType = CapacityType.ON_DEMAND
    price: Annotated[StrictInt, Field(ge=0)] = 0
    interruptions_per_hour: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] | None = None
    taints: tuple[Identifier, ...] = ()
    labels: Mapping[ShortName, ShortName] = {}
    maximum_replicas: Annotated[StrictInt, Field(ge=0)] | None = None
    available_until: AwareDatetime | None = None
    nodes_per_rack: Annotated[StrictInt, Field(ge=1)] | None = None
    racks_per_block: Annotated[StrictInt, Field(ge=1)] | None = None
    name: Identifier | None = None

    @property
    def label(self) -> str:
        """The shape's name within its cluster."""
        return self.name or self.sku

    @model_validator(mode="after")
    def _blocks_are_made_of_racks(self) -> Self:
        if self.racks_per_block is not None and self.nodes_per_rack is None:
            raise ValueError("racks_per_block needs nodes_per_rack")
        return self

    def rack_of(self, index: int) -> tuple[tuple[str, str], ...]:
        """The (level, domain) pairs below the cluster, widest first, of the shape's `index`-th node."""
        if self.nodes_per_rack is None:
            return ()
        rack = index // self.nodes_per_rack
        level = (("rack", f"{self.label}-rack-{rack:03d}"),)
        if self.racks_per_block is None:
            return level
        return (("block", f"{self.label}-block-{rack // self.racks_per_block:03d}"), *level)


class SimulatedCluster(Model):
    """Nodes with one network. The name is unique in the fleet: the names of nodes begin with it."""

    name: Identifier
    nodes: Annotated[tuple[NodeShape, ...], Field(min_length=1)]
    zone: Identifier | None = None

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        labels = [shape.label for shape in self.nodes]
        if len(set(labels)) < len(labels):
            raise ValueError(f"cluster {self.name}: shapes with one SKU need names of their own")
        return self


class SimulatedRegion(Model):
    """Clusters in one place."""

    name: Identifier
    clusters: Annotated[tuple[SimulatedCluster, ...], Field(min_length=1)]


class SimulatedNodePool(Model):
    """Nodes that the provider can add in a region: `limit` of them, as it says; really only as many as are `available`."""

    name: Identifier
    region: Identifier
    cluster: Identifier
    zone: Identifier | None = None
    shape: NodeShape
    limit: Annotated[StrictInt, Field(ge=0, le=100_000)]
    available: Annotated[StrictInt, Field(ge=0)] | None = None
    lead_seconds: Annotated[StrictInt, Field(ge=0, le=86_400)] = 120

    @model_validator(mode="after")
    def _is_counted_once(self) -> Self:
        if self.shape.count != 1:
            raise ValueError("shape.count: expected 1; how many nodes there may be says limit")
        return self

    @property
    def most(self) -> int:
        """Nodes that there really are."""
        return self.limit if self.available is None else min(self.limit, self.available)

    def view(self, name: str, order: str | None = None) -> NodeView:
        """One of its nodes by that name."""
        region = SimulatedRegion(name=self.region, clusters=(cluster := self._cluster(),))
        node = replace(_node_view(region, cluster, self.shape, 0), name=name)
        return node if order is None else replace(node, node_pool=self.name, provisioning=order)

    def _cluster(self) -> SimulatedCluster:
        return SimulatedCluster(name=self.cluster, zone=self.zone, nodes=(self.shape,))


class SimulatedFleet(Model):
    """Everything that the simulated provider has. Topology levels: region, zone, cluster, block, rack, where given."""

    regions: Annotated[tuple[SimulatedRegion, ...], Field(min_length=1)]
    node_pools: tuple[SimulatedNodePool, ...] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [cluster.name for region in self.regions for cluster in region.clusters]
        if len(set(names)) < len(names):
            raise ValueError("each cluster of a fleet needs a name of its own")
        pools = [pool.name for pool in self.node_pools]
        if len(set(pools)) < len(pools):
            raise ValueError("each node pool of a fleet needs a name of its own")
        return self

    def node_views(self) -> tuple[NodeView, ...]:
        """All nodes, ready, in the order of the configuration; one is named `<cluster>-<shape>-<number>`."""
        return tuple(
            _node_view(region, cluster, shape, index)
            for region in self.regions
            for cluster in region.clusters
            for shape in cluster.nodes
            for index in range(shape.count)
        )


def _node_view(region: SimulatedRegion, cluster: SimulatedCluster, shape: NodeShape, index: int) -> NodeView:
    zone = (("zone", cluster.zone),) if cluster.zone is not None else ()
    return NodeView(
        name=f"{cluster.name}-{shape.label}-{index:04d}",
        region=region.name,
        cluster=cluster.name,
        sku=shape.sku,
        topology=(("region", region.name), *zone, ("cluster", cluster.name), *shape.rack_of(index)),
        accelerators=shape.accelerators,
        cpu_milli=shape.cpu_milli,
        memory_mib=shape.memory_mib,
        capacity_type=shape.capacity_type,
        price=shape.price,
        interruptions=None if shape.interruptions_per_hour is None else round(shape.interruptions_per_hour * MILLION),
        taints=shape.taints,
        labels=tuple(sorted(shape.labels.items())),
        maximum_replicas=shape.maximum_replicas,
        available_until=shape.available_until,
    )


class SimulatedFaults(Model):
    """What goes wrong, as a function of the seed and of the attempt or time alone, so that a run can be repeated.

    `lost_node` is the chance that a node is lost in an hour of the pool's time; it is back `recovery_seconds` later.
    After `lost_answer` the launch has taken effect, but its first call raises `UNAVAILABLE`. A `stubborn` attempt does not stop
    on notice, nor at the end of its grace, but when it is released; a `stuck` one not even then. Calls to give a `silent` one
    notice, to keep or to release it never take effect, and raise `UNAVAILABLE`.

    Of an order for nodes: a failed one brings none, a partial one half of them, a slow one comes late, and the first call for
    one with a `lost_answer` raises `UNAVAILABLE` though it has taken effect.
    """

    seed: int = 0
    slow_start: Probability = 0
    slow_start_seconds: PoolSeconds = 60
    failed_start: Probability = 0
    lost_answer: Probability = 0
    lost_node: Probability = 0
    recovery_seconds: PoolSeconds = 600
    stubborn: Probability = 0
    stuck: Probability = 0
    silent: Probability = 0
    failed_provisioning: Probability = 0
    partial_provisioning: Probability = 0
    slow_provisioning: Probability = 0
    slow_provisioning_seconds: PoolSeconds = 1_800

    def start_delay(self, attempt_id: str) -> float:
        """Seconds by which the attempt starts late."""
        return self.slow_start_seconds if self._strikes("slow_start", self.slow_start, attempt_id) else 0

    def fails_to_start(self, attempt_id: str) -> bool:
        """The attempt fails instead of running."""
        return self._strikes("failed_start", self.failed_start, attempt_id)

    def loses_answer(self, attempt_id: str) -> bool:
        """The first call that launches the attempt gets no answer."""
        return self._strikes("lost_answer", self.lost_answer, attempt_id)

    def is_stubborn(self, attempt_id: str) -> bool:
        """The attempt does not stop at the end of its grace."""
        return self._strikes("stubborn", self.stubborn, attempt_id) or self.is_stuck(attempt_id)

    def is_stuck(self, attempt_id: str) -> bool:
        """The attempt does not stop when it is released."""
        return self._strikes("stuck", self.stuck, attempt_id)

    def is_silent(self, attempt_id: str) -> bool:
        """No call that is to stop or to keep the attempt is answered."""
        return self._strikes("silent", self.silent, attempt_id)

    def delivered(self, order: str, nodes: int) -> int:
        """How many of the nodes that were ordered will come."""
        if self._strikes("failed_provisioning", self.failed_provisioning, order):
            return 0
        return nodes // 2 if self._strikes("partial_provisioning", self.partial_provisioning, order) else nodes

    def delivery_delay(self, order: str) -> float:
        """Seconds by which ordered nodes come late."""
        return self.slow_provisioning_seconds if self._strikes("slow_provisioning", self.slow_provisioning, order) else 0

    @property
    def outage_window_seconds(self) -> float:
        """The length of the windows, counted from 1970, in each of which a node is lost at most once."""
        return SECONDS_PER_HOUR + self.recovery_seconds

    def outages(self, window: int, nodes: int) -> list[tuple[int, float, float]]:
        """(index of the node, when it is lost, when it is back) in one window; all of them end within it."""
        if not self.lost_node:
            return []
        random = Random(f"{self.seed}/outages/{window}")
        chance = self.lost_node * self.outage_window_seconds / SECONDS_PER_HOUR
        begin = window * self.outage_window_seconds
        found = []
        for index in range(nodes):
            if random.random() < chance:
                lost_at = begin + random.random() * SECONDS_PER_HOUR
                found.append((index, lost_at, lost_at + self.recovery_seconds))
        return found

    def _strikes(self, fault: str, probability: float, attempt_id: str) -> bool:
        if not probability:
            return False
        digest = hashlib.blake2b(f"{self.seed}/{fault}/{attempt_id}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) < probability * 2**64
