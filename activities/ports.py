"""What activities need from the world: a record, providers, a clock, and the workflows of the workloads."""

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Flag, StrEnum, auto
from typing import Protocol

from corral.api import WHOLE, CapacityType
from domain.fleet import Replica


class Clock(Protocol):
    """The pool's time, which may run faster than the wall's."""

    def now(self) -> datetime:
        """The pool's time, with time zone UTC."""

    def wall_seconds(self, pool_seconds: float) -> float:
        """How long a stretch of the pool's time lasts on the wall."""


class Capability(Flag):
    """What a provider can do; declared, never guessed."""

    GANG = auto()
    SIGNAL = auto()
    WATCH = auto()
    NATIVE_DEDUP = auto()


class Phase(StrEnum):
    """What a provider observed of an attempt. Unknown is a phase."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"
    UNKNOWN = "unknown"

    @property
    def is_over(self) -> bool:
        """The attempt is gone, and what it had is free."""
        return self in OVER


OVER = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED, Phase.LOST})


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node as a provider sees it. `name` is the provider's own, unique within it; see `domain.fleet.Node` for the rest."""

    name: str
    region: str
    cluster: str
    sku: str
    topology: tuple[tuple[str, str], ...]
    accelerators: int
    cpu_milli: int
    memory_mib: int
    ready: bool = True
    capacity_type: CapacityType = CapacityType.ON_DEMAND
    price: int = 0
    taints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Observation:
    """An attempt as a provider sees it; `sequence` rises with each change of the attempt.

    Times are the pool's. `checkpoint_at` is when the work was last saved, if that is known.
    """

    attempt_id: str
    epoch: int
    phase: Phase
    sequence: int
    at: datetime
    started_at: datetime | None = None
    exit_code: int | None = None
    reason: str = ""
    checkpoint_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ProviderSnapshot:
    """Everything a provider has; only a `complete` one may prove that something is gone."""

    nodes: tuple[NodeView, ...]
    attempts: tuple[Observation, ...]
    complete: bool
    taken_at: datetime


@dataclass(frozen=True, slots=True)
class Beat:
    """The provider is alive and has told everything up to now."""

    at: datetime


Event = Observation | NodeView | Beat


@dataclass(frozen=True, slots=True)
class ReplicaPlace:
    """One replica on a node, named as the provider names it; `milli` is what it has of each of its devices, in thousandths."""

    node: str
    replica: Replica
    milli: int = WHOLE


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """What a provider is to run. `digest` is the same for the same order: a repeat of it is not a conflict.

    Seconds are the pool's.
    """

    attempt_id: str
    workload_id: str
    epoch: int
    digest: str
    places: tuple[ReplicaPlace, ...]
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    signal: str = "SIGTERM"
    grace_seconds: int = 30
    expected_seconds: int | None = None


class ErrorClass(StrEnum):
    """Why a provider did not do what it was asked."""

    UNAVAILABLE = "unavailable"
    NO_CAPACITY = "no-capacity"
    INVALID_SPEC = "invalid-spec"
    CONFLICT = "conflict"
    FENCED = "fenced"


class ProviderError(Exception):
    """A provider's "no". After `UNAVAILABLE` the result of a change is unknown: ask again with the same attempt id."""

    def __init__(self, kind: ErrorClass, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Provider(Protocol):
    """A source of capacity. Every change carries attempt id and epoch; repeating it changes nothing.

    No call waits for completion; what came of it is told by `watch`, `status` and `snapshot`.
    """

    name: str
    capabilities: Capability

    async def snapshot(self) -> ProviderSnapshot:
        """All nodes and all attempts that are not yet forgotten, ended ones included."""

    def watch(self) -> AsyncIterator[Event]:
        """What changes from now on, with a `Beat` at least every few seconds; ends or raises when it cannot go on."""

    async def launch(self, order: LaunchSpec) -> Observation:
        """Start an attempt on exactly these nodes and devices; the same order again gives the same attempt.

        Raises:
            ProviderError: `CONFLICT` (same attempt, another order), `FENCED` (the attempt was released, or a later epoch of the
                workload is known), `NO_CAPACITY`, `INVALID_SPEC`, `UNAVAILABLE` (unknown: look before placing it elsewhere).
        """

    async def status(self, attempts: Collection[str]) -> Mapping[str, Observation]:
        """The attempts that the provider knows; one that is absent never started or is forgotten."""

    async def preempt(self, attempt_id: str, epoch: int, *, signal: str, grace_seconds: int) -> None:
        """Send the notice signal once, and stop the attempt when the grace is over; success when it is gone or unknown."""

    async def release(self, attempt_id: str, epoch: int) -> None:
        """Stop the attempt at once and never start it again, even if its launch arrives later; idempotent."""

    async def forget(self, attempts: Collection[str]) -> None:
        """Drop the record of ended attempts whose end has been written down; a later launch of one is still fenced."""

    async def aclose(self) -> None:
        """Let go of connections; what runs, runs on."""
