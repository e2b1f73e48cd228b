"""What activities need from the world: a record, providers, a clock, and the workflows of the workloads."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Flag, StrEnum, auto
from types import MappingProxyType
from typing import Protocol, cast

from activities.answers import (
    Adjusted,
    Adjustment,
    AttemptKey,
    FleetStep,
    Judgement,
    Notice,
    OpenAttempt,
    ReservationChange,
    ReservationStanding,
    Standing,
    Unreleased,
)
from activities.metering import EndpointToAsk
from corral.api import (
    WHOLE,
    CapacityType,
    Catalogue,
    ClusterStatus,
    Cordon,
    DatasetStatus,
    EvacuationOrder,
    EvacuationStatus,
    FleetStatus,
    LostCluster,
    NodePoolStatus,
    NodeStatus,
    OperationChange,
    OperationStatus,
    OrderRecord,
    ProvisioningStatus,
    QueueStatus,
    QueueTree,
    RoundStatus,
    WorkloadEvent,
    WorkloadFilter,
    WorkloadSpec,
    WorkloadStatus,
)
from corral.policy import PolicyAnswer, PolicyOrder, PolicyRecord
from corral.reservation import ReservationSpec, ReservationStatus
from corral.rollout import Change, RolloutOrder, RolloutStatus, WhatIf
from corral.schedule import MandateStatus, Revocation, ScheduleSpec
from corral.wire import Steering
from domain.decision import Plan
from domain.fleet import Replica
from domain.leases import LeaseTerms
from domain.lifecycle import Leave
from domain.nodepools import Course
from domain.provisioning import FleetPlan
from domain.snapshot import Snapshot


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
class NodePoolView:
    """Like nodes that a provider can add: one as it would be, with the pool's name, and the most of them at once."""

    node: NodeView
    limit: int
    lead_seconds: int = 0


@dataclass(frozen=True, slots=True)
class ProvisionOrder:
    """So many nodes of a pool, by its name. The id is the order's for ever: whoever lost the answer finds the order by it."""

    id: str
    node_pool: str
    nodes: int


class Delivery(StrEnum):
    """How far a provider is with an order: `failed` when nothing more comes of it, though some may have come."""

    COMING = "coming"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ProvisioningView:
    """An order for nodes as its provider sees it."""

    id: str
    delivery: Delivery
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """An attempt as a provider sees it; `sequence` rises with each change of the attempt.

    Times are the pool's. `checkpoint_at` is when the work was last saved, if that is known. `resized` is the number of the last
    notice by which it got other replicas (`Provider.resize`), once it has exactly these.
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
        nothing of those that leave runs any more. Success as well when the attempt is gone or unknown.

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


class Provisioner(Provider, Protocol):
    """A provider that can add nodes and take them away: one with `Capability.PROVISION`."""

    async def node_pools(self) -> tuple[NodePoolView, ...]:
        """The kinds of nodes that it can add, with their prices and limits as they are now."""

    async def provision(self, order: ProvisionOrder) -> ProvisioningView:
        """Begin to add nodes; the same order again gives the same answer. They are there when they are seen.

        Raises:
            ProviderError: `CONFLICT` (same id, another order), `FENCED` (the order was abandoned), `NO_CAPACITY`,
                `INVALID_SPEC` (no such pool), `UNAVAILABLE` (unknown: ask again with the same order).
        """

    async def provisionings(self) -> tuple[ProvisioningView, ...]:
        """All orders that are not abandoned, those included that are done or have failed."""

    async def abandon(self, order: str) -> None:
        """Let nothing more come of an order, even if it arrives later; nodes that are there stay; idempotent."""

    async def deprovision(self, nodes: Collection[str]) -> None:
        """Take nodes away for good; success as well for those that are gone or unknown.

        Raises:
            ProviderError: `CONFLICT` (an attempt runs there, and nothing was taken away), `UNAVAILABLE`.
        """


def as_provisioner(provider: Provider) -> Provisioner | None:
    """The provider as one that can add nodes, if it says that it can."""
    return cast(Provisioner, provider) if Capability.PROVISION in provider.capabilities else None


class NotAllowed(Exception):
    """A workload's state does not allow a change; the message says which state does."""


Grow = Callable[[Snapshot, Mapping[str, Course], Collection[str], datetime], Awaitable[FleetPlan]]
"""Plans the fleet's growth from the courses of its node pools and the pools that are closed for now."""

Decide = Callable[[Snapshot, datetime], tuple[Plan, Mapping[str, float]]]
"""Decides one round, and tells the milliseconds of its steps."""


NO_TRACES: Mapping[str, str] = MappingProxyType({})


class Store(Protocol):
    """The record. Every method is one transaction, done whole or not at all, and safe to repeat.

    Methods that change workloads answer with the notices that their workflows are to be given; the same notices stand in
    the outbox until `delivered` is called for them.
    """

    async def round(
        self, specs: Sequence[WorkloadSpec], decide: Decide, trigger: str, traces: Mapping[str, str] = NO_TRACES
    ) -> tuple[Mapping[str, Standing], list[Notice]]:
        """Write new workloads and one round's plan; answers with the standings of the former.

        `traces` are those in which they were submitted, as W3C traceparents by workload, of those who were traced.

        A workload whose id is taken by another spec stands refused, for `Reason.ID_CONFLICT`.
        """

    async def look(self) -> tuple[Snapshot, datetime]:
        """The pool as a round would see it now, and the time."""

    async def has_work(self) -> bool:
        """Whether somebody waits that a round could decide about now, or an edit may bear on what runs."""

    async def standing(self, workload: str) -> Standing | None:
        """How a workload stands now, or none when there is none of that id."""

    async def begin_bindings(self, keys: Sequence[AttemptKey]) -> Sequence[LaunchSpec | None]:
        """Turn holds in force into launches; none where an epoch has no right to it any more."""

    async def stop_order(self, key: AttemptKey) -> StopOrder | None:
        """What an open attempt that may be at its provider is to know about leaving; none when there is no such attempt."""

    async def noticed(self, key: AttemptKey, notice: int) -> list[Notice]:
        """Note that the provider has given a notice: the grace runs."""

    async def start_anew(self, key: AttemptKey, notice: int, why: str) -> list[Notice]:
        """Note that an attempt cannot get another size as it runs: by a notice of its own, all of it is to leave."""

    async def kept(self, key: AttemptKey, notice: int) -> list[Notice]:
        """Note that the provider has taken a notice back."""

    async def settle(
        self, observations: Sequence[Observation], answered: frozenset[str] = frozenset()
    ) -> tuple[Mapping[str, Standing], list[Notice]]:
        """Believe what was observed; answers with the standings of the workloads that this changed.

        The workflows of `answered` attempts hear of it from the activity that observed it.
        """

    async def refuse_binding(self, key: AttemptKey, reason: str, *, final: bool) -> list[Notice]:
        """Take an attempt back that its provider will not run; `final` when no other place would do either."""

    async def orders(self, subject: str | None, limit: int) -> list[OrderRecord]:
        """The newest orders that were signed, of all or of one workflow by its id."""
        ...

    async def mandate(self, spec: ScheduleSpec, now: datetime) -> MandateStatus:
        """Write down what was signed for a schedule, once; `now` is by the clock of the wall.

        Raises:
            domain.mandates.BadMandate: the policy in force, or this pool, does not allow it; or nobody could tell its end.
            domain.cron.BadCron: nobody could tell its times.
            NotAllowed: it was revoked.
        """
        ...

    async def revoke(self, order: Revocation) -> list[MandateStatus]:
        """Take back a mandate, or those of a schedule, once; answers with those that it was about.

        Raises:
            LookupError: there is no such mandate.
        """
        ...

    async def mandates(self, limit: int) -> list[MandateStatus]:
        """The newest mandates of the pool."""
        ...

    async def adjust(self, verb: str, asked: Adjustment) -> tuple[Adjusted, list[Notice]]:
        """Do a change that somebody asked for, once.

        Raises:
            NotAllowed: the state does not allow it.
            LookupError: there is no such workload.
        """

    async def adjust_unasked(self, verb: str, asked: Adjustment) -> list[Notice]:
        """Do a change, once, that the workload's workflow did not ask for; answers with what it is to be told as well.

        Raises:
            NotAllowed: the state does not allow it.
            LookupError: there is no such workload.
        """

    async def endpoints_to_ask(self) -> list[EndpointToAsk]:
        """All live endpoints whose spec says where their demand can be asked for."""

    async def done(self, verb: str, workload: str, key: str) -> Adjusted | None:
        """What was done of a change that somebody asked for by that key, and how the workload stands now."""

    async def keep_house(self) -> list[Notice]:
        """End attempts whose hold expired, give notice to work on draining nodes, and urge on what leaves too slowly."""

    async def open_attempts_at(self, provider: str) -> list[OpenAttempt]:
        """Attempts that are open in the record and have been sent to a provider."""

    async def stops_due(self, provider: str, older_than_seconds: float) -> list[AttemptKey]:
        """Attempts at a provider that were to stop some (wall) time ago, and have not been observed gone."""

    async def untouched_workloads(self, before: datetime, after: str, limit: int) -> list[str]:
        """Live workloads that nothing happened to since a time, by id, from behind one on, so many at most."""

    async def delivered(self, notices: Sequence[Notice]) -> None:
        """Note that workflows have been told."""

    async def undelivered(self, older_than_seconds: float, limit: int = 500) -> list[Notice]:
        """What was to be told some (wall) time ago, and may not have been."""

    async def register_provider(self, name: str, kind: str) -> None:
        """Write a provider down."""

    async def write_nodes(self, provider: str, views: Sequence[NodeView], *, complete: bool) -> None:
        """Write what a provider reports of its nodes; of a complete report, missing nodes are not ready any more."""

    async def grant_leases(self, provider: str, terms: LeaseTerms) -> Mapping[str, datetime | None]:
        """Write down the leases that a provider's clusters are about to be sent, by `region/cluster`; none: it gets none.

        No cluster may be sent a later one than what is written.
        """

    async def judge_clusters(
        self, provider: str, terms: LeaseTerms, *, asked_at: datetime, answered: Collection[str]
    ) -> tuple[Judgement, list[Notice]]:
        """Believe which of a provider's clusters have answered what they were asked at a time, with all that follows."""

    async def declare_lost(self, order: LostCluster) -> None:
        """Believe a person that nothing runs in a suspect cluster: it is lost when it is judged next, unless it answers.

        Raises:
            LookupError: there is no such cluster.
            NotAllowed: it answers, or has never answered.
        """

    async def unreleased(self, provider: str) -> list[Unreleased]:
        """What was lost with a cluster of a provider, and has not been released since in those in which it ran."""

    async def note_released(self, provider: str, each: Unreleased) -> None:
        """Note that an attempt has been seen gone in a cluster where it was lost, and can never start there any more."""

    async def clusters(self) -> list[ClusterStatus]:
        """All clusters that have ever been asked whether they answer."""

    async def cordon(self, provider: str, order: Cordon, key: str) -> list[NodeStatus]:
        """Cordon, drain or uncordon nodes, once a key; answers with them as they are then.

        Raises:
            LookupError: names what the provider does not have; nothing was changed.
        """

    async def evacuate(self, order: EvacuationOrder) -> tuple[EvacuationStatus, list[Notice]]:
        """Take an evacuation as far as it may go now: cordon its place, tell who is to leave next, note what is left.

        Its steps are a transaction each; whichever has been done already changes nothing.

        Raises:
            NotAllowed: the id belongs to another operation.
            LookupError: nothing of that name is there.
        """

    async def steer_evacuation(self, id: str, verb: Steering, change: OperationChange, key: str) -> EvacuationStatus:
        """Pause, resume, abort, approve or reject an evacuation, once a key; to ask for what is so already changes nothing.

        Raises:
            NotAllowed: it is over, or its state or the person does not allow it.
            LookupError: there is no such evacuation.
        """

    async def evacuations(self, limit: int) -> list[EvacuationStatus]:
        """The newest evacuations, those under way first."""

    async def operations(self, id: str | None, limit: int) -> list[OperationStatus]:
        """The newest operations of all kinds, those under way first, or the one of that id."""

    async def remember_what_if(self, change: Change, found: WhatIf) -> None:
        """Keep what the token of a what-if stands for, for a day."""

    async def begin_rollout(self, order: RolloutOrder) -> RolloutStatus:
        """Write a roll-out down, and apply it if the pool is as its token has it and nobody has to approve it; once.

        Raises:
            NotAllowed: the id belongs to another operation, or the token to another change.
        """

    async def advance_rollout(self, id: str) -> RolloutStatus:
        """Do what is due of a roll-out: let it expire, look how it goes, take it back, or end it.

        Raises:
            LookupError: there is no such roll-out.
        """

    async def steer_rollout(self, id: str, verb: Steering, change: OperationChange, key: str) -> RolloutStatus:
        """Approve, reject or abort a roll-out, once a key; to ask for what is so already changes nothing.

        Raises:
            NotAllowed: it is over, or its state or the person does not allow it.
            LookupError: there is no such roll-out.
        """

    async def write_node_pools(self, provider: str, views: Sequence[NodePoolView]) -> None:
        """Write what a provider can add."""

    async def write_deliveries(self, provider: str, views: Sequence[ProvisioningView]) -> list[str]:
        """Believe how far a provider is with its orders; answers with those that are none of this record."""

    async def given_back_but_there(self, provider: str, names: Collection[str]) -> list[str]:
        """Those of the nodes that the provider has taken away, as it said."""

    async def grow(self, plan: Grow) -> list[FleetStep]:
        """Take the fleet's growth as far as it may go now; answers with what providers are to be asked for that."""

    async def order_to_ask(self, order: str) -> ProvisionOrder | None:
        """An order as its provider is to be asked for it; none when it is over."""

    async def order_taken(self, order: str) -> None:
        """Note that a provider has taken an order."""

    async def order_failed(self, order: str, reason: str) -> None:
        """Close an order that its provider refuses, and order nothing from the same pool for a while."""

    async def order_abandoned(self, order: str) -> None:
        """Note that nothing more can come of an order."""

    async def nodes_to_give_back(self, provider: str, names: Collection[str]) -> list[str]:
        """Those of the nodes that are still to leave, and have no work."""

    async def nodes_given_back(self, provider: str, names: Collection[str]) -> None:
        """Note that a provider has taken nodes away."""

    async def node_pools(self) -> list[NodePoolStatus]:
        """What providers can add, and how far each pool is from what is wanted of it."""

    async def provisionings(self, limit: int) -> list[ProvisioningStatus]:
        """The newest orders for nodes, those under way first."""

    async def apply_queues(self, tree: QueueTree) -> list[QueueStatus]:
        """Make the queues what the tree says.

        Raises:
            domain.quota.QuotaError: the tree contradicts itself or the policy in force; nothing was changed.
        """

    async def apply_datasets(self, catalogue: Catalogue) -> list[DatasetStatus]:
        """Make the datasets what the catalogue says."""

    async def datasets(self) -> list[DatasetStatus]:
        """All datasets, and the names that workloads read though no dataset has them."""

    async def reserve(self, spec: ReservationSpec) -> ReservationStanding:
        """Write a reservation, once; one whose windows are all over stands refused.

        Raises:
            domain.recurrence.BadRecurrence: its time zone or its recurrence cannot be read.
            NotAllowed: the id is taken by another one.
            LookupError: it names a queue, a node or a cluster that there is not.
        """

    async def advance_reservation(self, reservation: str) -> ReservationStanding:
        """Close the windows that are over, and begin the next; answers how it stands, and until when.

        Raises:
            LookupError: there is no such reservation.
        """

    async def extend_reservation(self, asked: ReservationChange) -> ReservationStanding:
        """Let the present or next window end later, once a key.

        Raises:
            LookupError: there is no such reservation.
            NotAllowed: it is over.
        """

    async def cancel_reservation(self, reservation: str) -> ReservationStanding:
        """Keep nothing for a reservation any more.

        Raises:
            LookupError: there is no such reservation.
        """

    async def reservations(self, reservation: str | None = None) -> list[ReservationStatus]:
        """All reservations, or the one of that id; those that are not over first."""

    async def apply_policy(self, order: PolicyOrder) -> PolicyAnswer:
        """Put a policy in force, unless something refuses it; one that is in force already is left as it is."""

    async def policies(self, limit: int) -> list[PolicyRecord]:
        """The policies of the pool, the one in force first."""

    async def status(self, workload: str) -> WorkloadStatus | None:
        """One workload, or none."""

    async def workloads(self, which: WorkloadFilter) -> list[WorkloadStatus]:
        """Workloads that match, newest first."""

    async def events(self, workload: str, after: int) -> list[WorkloadEvent]:
        """A workload's history after an event, oldest first."""

    async def queues(self) -> list[QueueStatus]:
        """All queues with their use."""

    async def fleet(self) -> list[FleetStatus]:
        """The supply by provider, region and SKU."""

    async def nodes(self) -> list[NodeStatus]:
        """All nodes as last observed."""

    async def rounds(self, limit: int) -> list[RoundStatus]:
        """The newest rounds that changed something, the last one first."""

    def wake_ups(self) -> AbstractAsyncContextManager[asyncio.Event]:
        """An event that is set whenever something changed that could let waiting work start."""


class Workloads(Protocol):
    """The workflows of the workloads."""

    async def tell(self, notice: Notice) -> None:
        """Tell a workload's workflow how it stands; success as well when that workflow has ended or never was."""

    async def have_ended(self, ids: Sequence[str]) -> list[str]:
        """Those of the workloads whose workflow has ended, or does not exist."""
