"""What activities need from the world: a record, providers, a clock, and the workflows of the workloads."""

from activities.ports.clock import Clock
from activities.ports.growing import Grow
from activities.ports.provider import (
    OVER,
    Beat,
    Capability,
    ErrorClass,
    Event,
    LaunchSpec,
    NodeView,
    Observation,
    Phase,
    Provider,
    ProviderError,
    ProviderSnapshot,
    ReplicaPlace,
    StopOrder,
)
from activities.ports.provisioner import Delivery, NodePoolView, Provisioner, ProvisioningView, ProvisionOrder, as_provisioner
from activities.ports.rounds import NO_TRACES, Decide
from activities.ports.store import NotAllowed, NotFound, Store
from activities.ports.workloads import Workloads

__all__ = [
    "NO_TRACES",
    "OVER",
    "Beat",
    "Capability",
    "Clock",
    "Decide",
    "Delivery",
    "ErrorClass",
    "Event",
    "Grow",
    "LaunchSpec",
    "NodePoolView",
    "NodeView",
    "NotAllowed",
    "NotFound",
    "Observation",
    "Phase",
    "Provider",
    "ProviderError",
    "ProviderSnapshot",
    "ProvisionOrder",
    "Provisioner",
    "ProvisioningView",
    "ReplicaPlace",
    "StopOrder",
    "Store",
    "Workloads",
    "as_provisioner",
]
