"""The fleet as operators speak of it: nodes, node pools, clusters, and orders about nodes."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AwareDatetime, Field, StringConstraints, model_validator

from corral.api.model import Model, ShortName, ShortText
from corral.api.workload import CapacityType


class PlaceKind(StrEnum):
    """What is evacuated, and so how it is named."""

    NODE = "node"
    """`PROVIDER/NODE`, which is the node's id."""
    CLUSTER = "cluster"
    """`PROVIDER/REGION/CLUSTER`."""
    REGION = "region"
    """`PROVIDER/REGION`."""


Place = Annotated[ShortName, StringConstraints(pattern=r"^[^/\x00]+(/[^/\x00]+){1,2}$")]
"""How a node, a cluster or a region is named: see `PlaceKind`."""


class NodeStatus(Model):
    """One machine as last observed: its accelerators, of which so many are `used`; `reason` says why it is not `ready`.

    Its `price` is in dollars per accelerator and hour.
    """

    id: str
    provider: str
    region: str
    cluster: str
    sku: str
    health: str
    accelerators: int
    used: float
    capacity_type: CapacityType
    price: float
    labels: Mapping[str, str] = {}
    interruptions_per_hour: float | None = None
    """What the provider says; none: as often as the policy says of the capacity type."""
    maximum_replicas: int | None = None
    available_until: datetime | None = None
    """When its block ends, and what runs there has left."""
    kept_for: tuple[str, ...] = ()
    """Reservations in whose present or next window it is kept."""
    node_pool: str | None = None
    reason: str = ""


class NodePoolStatus(Model):
    """Like nodes that a provider adds and takes away as work needs them.

    `needed` have work or would get some now; `desired` there shall be; there are `nodes`, of which work can use those that
    are `ready`, and `coming` are on their way, the first of them `since`. After a `failure` nothing is ordered before
    `paused_until`. Dollars are those of one node.
    """

    id: str
    region: str
    sku: str
    accelerators: int
    capacity_type: CapacityType
    dollars_per_hour: float
    lead_seconds: int
    minimum: int
    maximum: int
    needed: int
    desired: int
    nodes: int
    ready: int
    coming: int
    since: datetime | None = None
    why: str = ""
    paused_until: datetime | None = None
    failure: str = ""


class DeliveryState(StrEnum):
    """How an order for nodes stands: `failed` when its provider gives no more, `given-up` when it took too long."""

    COMING = "coming"
    ARRIVED = "arrived"
    FAILED = "failed"
    GIVEN_UP = "given-up"


class ProvisioningStatus(Model):
    """An order for nodes: for whom, and what came of it."""

    id: str
    node_pool: str
    nodes: int
    arrived: int
    state: DeliveryState
    ordered_at: datetime
    ended_at: datetime | None = None
    why: str = ""
    reason: str = ""


class LostCluster(Model):
    """Word of a person that nothing runs in a cluster any more, which does not answer: its work may be started elsewhere."""

    cluster: Annotated[str, StringConstraints(pattern=r"^[^/\x00]+(/[^/\x00]+){2}$", max_length=400)]
    """PROVIDER/REGION/CLUSTER."""
    reason: Annotated[ShortText, StringConstraints(min_length=1)]
    who: Annotated[ShortName, StringConstraints(min_length=1)]


class ClusterNote(Model):
    """A line of the trail of a cluster: what it became, and why."""

    at: AwareDatetime
    state: str
    reason: str = ""


class ClusterStatus(Model):
    """One cluster: whether it answers (`reachable`, `suspect`, `lost`, `returned`), since when, and why that is believed.

    `lost_at` is when a suspect one is lost, unless it answers before. `workloads` have a place there; `unreleased` attempts
    ran there when it was lost, and have not been seen gone there since. `losses` is how often it was lost.
    """

    id: str
    provider: str
    region: str
    cluster: str
    state: str
    since: AwareDatetime
    reason: str = ""
    heard_at: AwareDatetime | None = None
    leased_until: AwareDatetime | None = None
    lost_at: AwareDatetime | None = None
    nodes: int = 0
    accelerators: int = 0
    workloads: int = 0
    unreleased: int = 0
    losses: int = 0
    trail: tuple[ClusterNote, ...] = ()


class FleetStatus(Model):
    """The supply of one provider, region and SKU, in accelerators."""

    provider: str
    region: str
    sku: str
    nodes: int
    ready_nodes: int
    accelerators: int
    used: float


class Cordon(Model):
    """Nodes that shall accept nothing new (`cordon`), empty themselves (`drain`) or come back (`uncordon`).

    All nodes of a `place` can only come back: what empties one is an evacuation.
    """

    action: Annotated[str, StringConstraints(pattern=r"^(cordon|drain|uncordon)$")]
    nodes: Annotated[tuple[Annotated[ShortName, StringConstraints(min_length=1)], ...], Field(max_length=1_000)] = ()
    kind: PlaceKind | None = None
    place: Place | None = None
    reason: Annotated[ShortText, StringConstraints(min_length=1)]

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if (self.kind is None) != (self.place is None):
            raise ValueError("a place needs its kind, node, cluster or region, and a kind its place")
        if bool(self.nodes) == bool(self.place):
            raise ValueError("expected either nodes, or a place")
        if self.place and self.action != "uncordon":
            raise ValueError(f"{self.action}: a place can only be uncordoned as a whole; evacuate it instead")
        return self
