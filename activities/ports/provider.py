"""A provider: what it is asked, and what it observes."""

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Flag, StrEnum, auto
from typing import Protocol

from corral.api import WHOLE, CapacityType
from domain.pool.fleet import Replica
from domain.pool.lifecycle import Leave


class Capability(Flag):
    """What a provider can do; declared, never guessed."""

    GANG = auto()
    SIGNAL = auto()
    WATCH = auto()
    NATIVE_DEDUP = auto()
    PROVISION = auto()


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
    """A node as a provider sees it. `name` is the provider's own and unique; see `domain.pool.fleet.Node` for the rest."""

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
    labels: tuple[tuple[str, str], ...] = ()
    maximum_replicas: int | None = None
    interruptions: int | None = None
    available_until: datetime | None = None
    node_pool: str | None = None
    """The provider's name of the node pool that it was added from."""
    provisioning: str | None = None
    """The order by which it was added."""

    @property
    def place(self) -> str:
        """The cluster in which it is, unique within the provider."""
        return f"{self.region}/{self.cluster}"


@dataclass(frozen=True, slots=True)
class Observation:
    """An attempt as a provider sees it; `sequence` rises with each change of the attempt.

    Times are the pool's. `checkpoint_at` is when the work was last saved, if that is known. `resized` is the number of the last
    notice by which it got other replicas (`Provider.resize`), once it has these and nothing runs any more of those that left by
    it; `remains` are the numbers of notices before that one of which something still does.
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
    resized: int = 0
    remains: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class ProviderSnapshot:
    """Everything a provider has; only a `complete` one may prove that something is gone.

    Of `silent` clusters (`region/cluster`), which do not answer their provider, nodes are as last seen and attempts unknown.
    """

    nodes: tuple[NodeView, ...]
    attempts: tuple[Observation, ...]
    complete: bool
    taken_at: datetime
    silent: frozenset[str] = frozenset()


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
    provider: str = ""

    def of(self, attempt_id: str, epoch: int) -> "LaunchSpec":
        """The same for another attempt of the workload."""
        return replace(self, attempt_id=attempt_id, epoch=epoch)


@dataclass(frozen=True, slots=True)
class StopOrder:
    """What an attempt at its provider is to know about leaving: the last notice by its number, and how far it has come.

    Without a step to `leave` the notice is taken back. With `resized`, the attempt is to go on with the replicas that stand
    there; or it was to, and cannot, `why_anew` says why. Seconds are the pool's.
    """

    attempt_id: str
    epoch: int
    provider: str
    notice: int
    leave: Leave | None
    signal: str
    grace_seconds: int
    resized: LaunchSpec | None = None
    why_anew: str = ""


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

    **Leases.** From its first lease on, a cluster runs work only as long as it has one by its own clock. When that is over, all
    that runs there stops by itself, whether or not anybody can be reached, and ends as `LOST`: an attempt with a part in such a
    cluster as a whole. What has stopped so is never brought back by a later lease, and nothing is launched without one.
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
                workload is known), `NO_CAPACITY`, `INVALID_SPEC`, `UNAVAILABLE` (unknown: look before placing it elsewhere;
                also where a cluster has no lease in force, or does not answer).
        """

    async def renew(self, leases: Mapping[str, datetime | None]) -> frozenset[str]:
        """Let clusters (`region/cluster`) run what they run until these times; answers with those that have heard it.

        A time that is not later than the one that a cluster knows changes nothing. Where none is given, the cluster is only
        asked whether it answers.

        Raises:
            ProviderError: `UNAVAILABLE`: no cluster has answered, though some may have heard it.
        """

    async def status(self, attempts: Collection[str]) -> Mapping[str, Observation]:
        """The attempts that the provider knows; one that is absent never started or is forgotten.

        One in a cluster that does not answer is `UNKNOWN`.
        """

    async def preempt(self, attempt_id: str, epoch: int, *, notice: int, signal: str, grace_seconds: int) -> None:
        """Send the signal once a notice, and stop the attempt when the grace is over; success when it is gone or unknown.

        Notices are numbered from 1. One that is not later than the last that was given or taken back changes nothing.
        """

    async def resize(self, order: LaunchSpec, *, notice: int, at_once: bool = False) -> None:
        """Let a running attempt go on with exactly these replicas, which are more than it has, or some of them.

        Those that it has run on untouched. New ones are started; the others get the order's signal, and are stopped when its
        grace is over: an end of theirs is none of the attempt's. Notices are numbered as those of `preempt`, and one that is
        not later than the last changes nothing; a later `preempt` is for all replicas. Told `at_once`, also by the same
        number again, it stops those that leave by force. It is done when an observation says so (`resized`), which is when
        nothing of those that leave runs any more; those that do not leave by an earlier notice hold up no later one, and still
        have their devices (`remains`). Success as well when the attempt is gone or unknown.

        Raises:
            ProviderError: `NO_CAPACITY`, `INVALID_SPEC`: nothing has changed; `UNAVAILABLE` (unknown: ask again).
        """

    async def keep(self, attempt_id: str, epoch: int, *, notice: int) -> None:
        """Take that notice back, and all before it, even if it arrives later: what has not stopped runs on.

        If it was for another size, the attempt gets the replicas again that it had before. Success as well when the attempt is
        gone or unknown, or a later notice was given: then that one counts.
        """

    async def release(self, attempt_id: str, epoch: int) -> None:
        """Stop the attempt at once and never start it again, even if its launch arrives later; idempotent."""

    async def forget(self, attempts: Collection[str]) -> None:
        """Drop the record of ended attempts whose end has been written down; a later launch of one is still fenced."""

    async def aclose(self) -> None:
        """Let go of connections; what runs, runs on."""
