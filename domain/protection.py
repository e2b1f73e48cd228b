"""Protection: which running work may be stopped for other work at all."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from corral.api import QueueSpec, State
from domain.policy import Policy
from domain.workload import Active

STOPPABLE_STATES = frozenset({State.STARTING, State.RUNNING})
"""Work that only holds capacity is no victim: it is about to start, and stopping it would gain nothing sooner."""


def is_protected(active: Active, queue: QueueSpec | None, policy: Policy, now: datetime) -> bool:
    """Whether the workload has not yet run for the minimum that its queue or its tier promises, whichever is longer.

    Work that has not started yet is not protected: nothing is lost when it goes back in line.
    """
    if active.started_at is None:
        return False
    promised = (policy.tiers[active.spec.tier].minimum_runtime_seconds, queue.minimum_runtime_seconds if queue else 0)
    return now < active.started_at + timedelta(seconds=max(promised))


def is_stoppable(active: Active, queues: Mapping[str, QueueSpec], policy: Policy, now: datetime) -> bool:
    """Whether the workload may be a victim of anybody."""
    return (
        active.spec.preemptible
        and not active.preempted
        and active.state in STOPPABLE_STATES
        and active.preemptions < policy.maximum_preemptions
        and not is_protected(active, queues.get(active.spec.queue), policy, now)
    )
