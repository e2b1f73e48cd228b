"""How an operation begins: which workflow carries out what was ordered, and under which id."""

from dataclasses import dataclass

from corral import wire
from corral.api import EvacuationOrder
from corral.rollout import RolloutOrder


@dataclass(frozen=True, slots=True)
class Beginning:
    """What the workflow of an operation is started with, beside its order."""

    workflow: str
    id: str
    summary: str
    """At most 200 characters, as much as Temporal's pages show."""


def beginning(order: EvacuationOrder | RolloutOrder) -> Beginning:
    """How that order begins, whoever starts it."""
    if isinstance(order, EvacuationOrder):
        summary = f"empties {order.kind} {order.place}: {order.reason}"
        return Beginning(wire.EVACUATION, wire.evacuation_workflow_id(order.id), summary[:200])
    summary = f"rolls out {order.change.subject}: {order.reason}"
    return Beginning(wire.ROLLOUT, wire.rollout_workflow_id(order.id), summary[:200])
