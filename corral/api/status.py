"""What a service hears of its workloads: how they stand, what happened to them, how they ended."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StrictInt

from corral.api.demand import Following
from corral.api.explanation import Explanation
from corral.api.model import Identifier, Model
from corral.api.workload import SlaTier


class State(StrEnum):
    """Where a workload stands in its life. `domain.pool.lifecycle` holds the table of transitions."""

    SUBMITTED = "submitted"
    WAITING = "waiting"
    SUSPENDED = "suspended"
    RESERVING = "reserving"
    RESERVED = "reserved"
    STARTING = "starting"
    RUNNING = "running"
    RESIZING = "resizing"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REFUSED = "refused"

    @property
    def is_terminal(self) -> bool:
        """Nothing happens to the workload any more."""
        return self in TERMINAL


TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.REFUSED})


class Outcome(StrEnum):
    """How one attempt to run a workload ended."""

    FINISHED = "finished"
    FAILED = "failed"
    PREEMPTED = "preempted"
    STOPPED = "stopped"
    RESIZED = "resized"
    MIGRATED = "migrated"
    CANCELLED = "cancelled"
    SUSPENDED = "suspended"
    DRAINED = "drained"
    OUT_OF_TIME = "out-of-time"
    LOST = "lost"
    REFUSED_BY_PROVIDER = "refused-by-provider"
    EXPIRED = "expired"


class Where(Model):
    """Where an attempt runs: one provider and region, the accelerators of each SKU, the nodes with the replicas on each.

    `sku` is the first group's.
    """

    provider: str
    region: str
    cluster: str
    sku: str
    accelerators: float
    by_sku: Mapping[str, float]
    nodes: Mapping[str, int]


class Fallen(Model):
    """What a priority counts as, once the work has run for a step of the policy's `attained_service` or longer.

    `since` is when it had run for that long, unless that was in an attempt that is over.
    """

    counts_as: int
    after_seconds: int
    since: datetime | None = None


class WorkloadStatus(Model):
    """What is so. `epoch` counts attempts and only rises; `since` is when the state was entered."""

    id: str
    queue: str
    tier: SlaTier
    priority: int
    """As it was set."""
    fallen: Fallen | None = None
    """What it counts as, where it has fallen."""
    state: State
    epoch: int
    submitted_at: datetime
    since: datetime
    where: Where | None = None
    next_where: Where | None = None
    """Where it goes on with its work once it has left `where`."""
    remnants: Mapping[str, int] = {}
    """Of an endpoint, by node, how many replicas it has no more and were stopped by force, but do not leave."""
    explanation: Explanation | None = None
    following: Following | None = None
    """Of an endpoint, once demand has been told or asked for."""
    outcome: Outcome | None = None
    """How the last attempt ended; none while another one has a place."""
    exit_code: int | None = None
    """Of that attempt, where its provider told one."""
    preemptions: int = 0
    """How often it had to leave for others."""
    tasks_done: int | None = None
    ended_at: datetime | None = None


class WorkloadEvent(Model):
    """One line of a workload's history; `id` only rises."""

    id: int
    workload: str
    at: datetime
    kind: str
    message: str


class WakeUp(Model):
    """When a workload's workflow next does something by itself, and what; it hears of changes at any time besides."""

    at: datetime
    why: str


class Moment(Model):
    """A change of a workload's state, as its workflow heard of it."""

    at: datetime
    state: State
    message: str = ""


class WorkloadFilter(Model):
    """Which workloads to list, newest first."""

    queue: Identifier | None = None
    state: State | None = None
    tier: SlaTier | None = None
    active_only: bool = False
    limit: Annotated[StrictInt, Field(ge=1, le=10_000)] = 100


class WorkloadResult(Model):
    """What the workflow of a workload returns."""

    id: str
    state: State
    exit_code: int | None = None
    message: str = ""
