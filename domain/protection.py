"""Protection: which running work may be stopped for other work at all, and who would go first."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from corral.api import QueueSpec, State
from corral.policy import Policy
from domain.fleet import Amount
from domain.standing import Standing, standing
from domain.workload import Active, Charge, charges_of

STOPPABLE_STATES = frozenset({State.STARTING, State.RUNNING})
"""Work that only holds capacity is no victim: it is about to start, and stopping it would gain nothing sooner."""


def is_protected(active: Active, queue: QueueSpec | None, policy: Policy, now: datetime) -> bool:
    """Whether the workload has not yet run for the minimum that its queue or its tier promises, whichever is longer.

    Work that has not started yet is not protected: nothing is lost when it goes back in line.
    """
    if active.started_at is None:
        return False
    promised = (policy.rank.tiers[active.spec.tier].minimum_runtime_seconds, queue.minimum_runtime_seconds if queue else 0)
    return now < active.started_at + timedelta(seconds=max(promised))


def is_stoppable(active: Active, queue: QueueSpec | None, policy: Policy, now: datetime) -> bool:
    """Whether the workload may be a victim of anybody."""
    return (
        active.spec.preemptible
        and not active.preempted
        and active.state in STOPPABLE_STATES
        and active.preemptions < policy.limits.maximum_preemptions
        and not is_protected(active, queue, policy, now)
    )


@dataclass(frozen=True, slots=True)
class Stoppable:
    """Work that may be stopped, with what a choice among such work looks at."""

    active: Active
    queue: str
    standing: Standing
    milli: Amount
    charges: tuple[Charge, ...]
    nodes: frozenset[str]


def stoppable_by_sku(
    actives: Iterable[Active], queues: Mapping[str, QueueSpec], policy: Policy, now: datetime
) -> dict[str, tuple[Stoppable, ...]]:
    """All work that may be stopped, by SKU: the lowest first, and among equals whoever loses least."""
    by_sku: dict[str, list[Active]] = {}
    for active in actives:
        if is_stoppable(active, queues.get(active.spec.queue), policy, now):
            for sku in active.placement.by_sku:
                by_sku.setdefault(sku, []).append(active)
    return {sku: tuple(map(_stoppable, sorted(found, key=hardship))) for sku, found in by_sku.items()}


def _stoppable(active: Active) -> Stoppable:
    spec = active.spec
    nodes = frozenset(share.node_id for share in active.placement.shares)
    charges = charges_of(spec, active.placement)
    return Stoppable(active, spec.queue, standing(spec.tier, spec.priority), active.milli, charges, nodes)


def hardship(active: Active) -> tuple[Standing, float, float, str]:
    """Lowest tier and priority, then least work lost per accelerator, then newest, then id.

    What is lost per accelerator is the time since the last checkpoint or the start; work that has not started loses nothing.
    """
    began = active.started_at or active.held_at
    saved = max(began, active.checkpoint_at or began).timestamp() if active.started_at else float("inf")
    return standing(active.spec.tier, active.spec.priority), -saved, -began.timestamp(), active.attempt_id
