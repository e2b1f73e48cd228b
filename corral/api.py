"""The language services speak: frozen models for everything a service says to Corral or hears from it."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    model_validator,
)

WHOLE = 1000
"""Thousandths in one whole accelerator: the unit of every amount of accelerators."""

MAXIMUM_REPLICAS = 10_000
MAXIMUM_ACCELERATORS_PER_REPLICA = 1_024
MAXIMUM_SECONDS = 366 * 24 * 3600
HOUR_SECONDS = 3_600

Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")]
"""1 to 100 lower-case letters, digits, dots, dashes and underscores, beginning with a letter or a digit."""

NO_ZERO_BYTE = r"^[^\x00]*$"
"""Neither a process nor a database takes one."""

ShortText = Annotated[str, StringConstraints(max_length=1_000, pattern=NO_ZERO_BYTE)]
ShortName = Annotated[str, StringConstraints(max_length=200, pattern=NO_ZERO_BYTE)]
Seconds = Annotated[StrictInt, Field(ge=0, le=MAXIMUM_SECONDS)]
Milli = Annotated[StrictInt, Field(ge=0, le=10**12)]
"""Thousandths of an accelerator."""


def _in_thousandths(accelerators: int | float) -> int | float:
    milli = accelerators * WHOLE
    if abs(milli - round(milli)) > 1e-6:
        raise ValueError("a share of an accelerator is a whole number of thousandths, such as 0.25")
    if accelerators > 1 and milli % WHOLE:
        raise ValueError("more than one accelerator is a whole number of them")
    return accelerators


Accelerators = Annotated[
    StrictInt | Annotated[float, Field(strict=True, allow_inf_nan=False)],
    Field(ge=0, le=MAXIMUM_ACCELERATORS_PER_REPLICA),
    AfterValidator(_in_thousandths),
]
"""Accelerators of one replica: a share of one device below 1 (in thousandths), else a whole number."""

Worth = Annotated[float, Field(ge=-1_000, le=1_000, allow_inf_nan=False)]
"""Dollars per accelerator and hour that a workload would pay for a wish of its own."""


class Model(BaseModel):
    """Frozen, and closed: a field that is not known is refused rather than ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class SlaTier(StrEnum):
    """What is promised: the share of its entitled time that a workload really computes."""

    PREMIUM = "premium"
    STANDARD = "standard"
    BASIC = "basic"


class CapacityType(StrEnum):
    """How capacity is bought."""

    RESERVED = "reserved"
    ON_DEMAND = "on-demand"
    SPOT = "spot"


class State(StrEnum):
    """Where a workload stands in its life. `domain.lifecycle` holds the table of transitions."""

    SUBMITTED = "submitted"
    WAITING = "waiting"
    SUSPENDED = "suspended"
    RESERVING = "reserving"
    RESERVED = "reserved"
    STARTING = "starting"
    RUNNING = "running"
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


class Reason(StrEnum):
    """The closed list of reasons for a "no", whether it waits, is refused for good or has failed."""

    # The workload may never run as it stands.
    INVALID_SPEC = "InvalidSpec"
    ID_CONFLICT = "IdConflict"
    NOT_PERMITTED = "NotPermitted"
    UNKNOWN_QUEUE = "UnknownQueue"
    NO_MATCHING_CAPACITY = "NoMatchingCapacity"
    NEVER_WITHIN_QUOTA = "NeverWithinQuota"
    GUARANTEE_CANNOT_BE_KEPT = "GuaranteeCannotBeKept"
    # It waits for something that it or its owner controls.
    SUSPENDED = "Suspended"
    QUEUE_STOPPED = "QueueStopped"
    NOT_YET_EARLIEST_START = "NotYetEarliestStart"
    WAITING_FOR_RELAXATION = "WaitingForRelaxation"
    # It waits for quota or for capacity.
    WAITING_FOR_QUOTA = "WaitingForQuota"
    BORROWING_LIMIT_REACHED = "BorrowingLimitReached"
    QUEUE_CAP_REACHED = "QueueCapReached"
    USER_LIMIT_REACHED = "UserLimitReached"
    USER_RUNNING_LIMIT_REACHED = "UserRunningLimitReached"
    BUDGET_EXHAUSTED = "BudgetExhausted"
    NO_READY_CAPACITY = "NoReadyCapacity"
    NOT_ENOUGH_FREE_ACCELERATORS = "NotEnoughFreeAccelerators"
    NOT_ENOUGH_FREE_CPU_OR_MEMORY = "NotEnoughFreeCpuOrMemory"
    NODES_TAKE_NO_MORE_REPLICAS = "NodesTakeNoMoreReplicas"
    TOPOLOGY_DOMAIN_TOO_SMALL = "TopologyDomainTooSmall"
    TOO_FEW_DOMAINS = "TooFewDomains"
    WAITING_FOR_VICTIMS = "WaitingForVictims"
    NODES_ON_THEIR_WAY = "NodesOnTheirWay"
    DISRUPTION_BUDGET_SPENT = "DisruptionBudgetSpent"
    PREEMPTION_DELAYED = "PreemptionDelayed"
    CRASH_LOOPING = "CrashLooping"
    BEHIND_OTHERS_IN_QUEUE = "BehindOthersInQueue"
    ROUND_LIMIT_REACHED = "RoundLimitReached"
    PENDING_EVALUATION = "PendingEvaluation"
    # It ended without success.
    FAILED = "Failed"
    # A defect of Corral keeps it from being decided about.
    INTERNAL_ERROR = "InternalError"
    # Why one node, domain or target was passed over.
    SKU_NOT_ACCEPTED = "SkuNotAccepted"
    REGION_NOT_ACCEPTED = "RegionNotAccepted"
    PROVIDER_NOT_ACCEPTED = "ProviderNotAccepted"
    CAPACITY_TYPE_NOT_ACCEPTED = "CapacityTypeNotAccepted"
    TAINT_NOT_TOLERATED = "TaintNotTolerated"
    FORBIDDEN_BY_POLICY = "ForbiddenByPolicy"
    NODE_NOT_READY = "NodeNotReady"
    NODE_NOT_THERE = "NodeNotThere"
    KEPT_FOR_OTHERS = "KeptForOthers"
    NODE_NOT_SELECTED = "NodeNotSelected"
    NODE_TOO_SMALL = "NodeTooSmall"
    # Why running work must leave though no workload takes its place.
    PREEMPTED = "Preempted"
    RESERVATION_OPENS = "ReservationOpens"
    NODE_CLOSES = "NodeCloses"
    # Why work that has to leave has not left, and what it has is free for nobody.
    PROVIDER_DOES_NOT_ANSWER = "ProviderDoesNotAnswer"
    DOES_NOT_STOP = "DoesNotStop"
    CLUSTER_DOES_NOT_ANSWER = "ClusterDoesNotAnswer"
    # Why running work is not stopped for other work.
    MINIMUM_RUNTIME = "MinimumRuntime"
    ALREADY_STOPPED_FOR_IT = "AlreadyStoppedForIt"
    WITHIN_ITS_QUOTA = "WithinItsQuota"
    PROMISE_WOULD_BREAK = "PromiseWouldBreak"


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


class Spread(Model):
    """At most `maximum` replicas of a group in one domain of a level of the node path, or on one `node`.

    With `worth` it is a wish and no condition: the work is as well off so as if each accelerator of the replicas that are
    beyond the maximum in their domain cost so many dollars an hour less.
    """

    level: Identifier
    maximum: Annotated[StrictInt, Field(ge=1, le=MAXIMUM_REPLICAS)]
    worth: Annotated[Worth, Field(gt=0)] | None = None


class Topology(Model):
    """Levels of the node path, such as `rack` or, last of all, `node`: the gang must / should fit in one domain of that level.

    With slices, each `slice_size` consecutive replicas must fit in one domain of `slice_level`; `spread` keeps replicas of a
    group apart.
    """

    required: Identifier | None = None
    preferred: Identifier | None = None
    slice_level: Identifier | None = None
    slice_size: Annotated[StrictInt, Field(ge=1, le=MAXIMUM_REPLICAS)] | None = None
    spread: Spread | None = None

    @model_validator(mode="after")
    def _slices_are_whole(self) -> Self:
        if (self.slice_level is None) != (self.slice_size is None):
            raise ValueError("slice_level and slice_size go together: so many consecutive replicas in one domain of that level")
        return self


class Affinity(Model):
    """Replicas are as well off on nodes with one of these domains at each named level or label as if they cost `worth` less.

    In dollars per accelerator and hour; below zero, such nodes are disliked.
    """

    nodes: Annotated[Mapping[ShortName, tuple[ShortName, ...]], Field(min_length=1, max_length=16)]
    worth: Worth

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.worth:
            raise ValueError("worth 0 says nothing; expected dollars per accelerator and hour, below zero for nodes to avoid")
        return self


class ReplicaGroup(Model):
    """`count` identical replicas; at least `minimum` of them start together or none does.

    `skus` narrows what the targets accept for this group alone, `topology` replaces the workload's, `nodes` asks for nodes
    with one of the given domains at each named level or label, `affinities` say which of these it likes, and how much. Groups
    with the same `colocate` share the domain of their topology. Replicas of a group that is not `preemptible` are never taken
    from a workload that is.
    """

    name: Identifier = "main"
    count: Annotated[StrictInt, Field(ge=1, le=MAXIMUM_REPLICAS)] = 1
    minimum: Annotated[StrictInt, Field(ge=0, le=MAXIMUM_REPLICAS)] | None = None
    accelerators: Accelerators = 1
    cpu_milli: Annotated[StrictInt, Field(ge=0, le=10**7)] = 0
    memory_mib: Annotated[StrictInt, Field(ge=0, le=10**9)] = 0
    skus: Annotated[tuple[Identifier, ...], Field(max_length=32)] = ()
    topology: Topology | None = None
    colocate: Identifier | None = None
    nodes: Annotated[Mapping[ShortName, tuple[ShortName, ...]], Field(max_length=16)] = {}
    affinities: Annotated[tuple[Affinity, ...], Field(max_length=16)] = ()
    tolerations: Annotated[tuple[Identifier, ...], Field(max_length=32)] = ()
    preemptible: bool = True

    @property
    def fewest(self) -> int:
        """The fewest replicas with which the group may run."""
        return self.count if self.minimum is None else self.minimum

    @property
    def milli(self) -> int:
        """Thousandths of an accelerator that one replica needs."""
        return round(self.accelerators * WHOLE)

    @model_validator(mode="after")
    def _minimum_within_count(self) -> Self:
        if self.minimum is not None and self.minimum > self.count:
            raise ValueError(f"minimum {self.minimum} exceeds count {self.count}")
        return self


class Target(Model):
    """One acceptable answer to "where and on what"; an empty list accepts anything.

    `count` replaces the count (and the minimum) of the first replica group, so that 16 of one SKU can stand beside 32 of
    another. `after_seconds` makes the target acceptable only when the workload has waited that long: a relaxation schedule.
    """

    skus: tuple[Identifier, ...] = ()
    regions: tuple[Identifier, ...] = ()
    providers: tuple[Identifier, ...] = ()
    capacity_types: tuple[CapacityType, ...] = ()
    count: Annotated[StrictInt, Field(ge=1, le=MAXIMUM_REPLICAS)] | None = None
    after_seconds: Seconds = 0


class Selection(StrEnum):
    """Which of several targets that fit is taken."""

    ORDERED = "ordered"
    PRICED = "priced"


class Checkpoint(Model):
    """How the workload saves its work: the notice signal, and the seconds it needs before it is stopped."""

    signal: Annotated[str, StringConstraints(pattern=r"^SIG[A-Z0-9]{1,9}$")] = "SIGTERM"
    grace_seconds: Annotated[StrictInt, Field(ge=0, le=86_400)] = 30


def _plain_address(url: str) -> str:
    expected = "expected the address of a Prometheus such as http://prometheus:9090"
    if not url.isprintable() or any(each in url for each in " \\?#"):
        raise ValueError(f"{expected}, without spaces, parameters or fragment")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{error}; {expected}") from None
    if parts.scheme not in {"http", "https"} or not host:
        raise ValueError(f"{expected}, by http or https")
    if "@" in parts.netloc:
        raise ValueError(f"{expected}, without user and password: workers have a token for it (CORRAL_DEMAND_TOKEN)")
    return url


class DemandSource(Model):
    """Where demand can be asked for: what the Prometheus at `url` answers `query` with, one number, every so many seconds."""

    url: Annotated[ShortText, AfterValidator(_plain_address)]
    """Up to where `/api/v1/query` follows. Workers ask only the hosts that their settings allow."""
    query: Annotated[ShortText, StringConstraints(min_length=1)]
    every_seconds: Annotated[Seconds, Field(ge=5, le=3_600)] = 60


class Autoscale(Model):
    """How many replicas of the first group are wanted follows demand: one for each `target` of it, `minimum` to `most`.

    Demand is whatever replicas share, such as requests at once or the length of a queue. While it is within `tolerance` of
    what the present replicas are for, nothing changes. They become fewer when fewer would have done for all of
    `down_window_seconds`, at most `step_down` at once; more when more were needed for all of `up_window_seconds`, at most to
    the double or by `step_up` at once, whichever is more. Between two changes are `period_seconds`.
    """

    target: Annotated[float, Field(gt=0, le=10**9, allow_inf_nan=False)]
    demand_from: DemandSource | None = None
    """Where Corral asks for demand; without it, somebody tells it."""
    minimum: Annotated[StrictInt, Field(ge=0, le=MAXIMUM_REPLICAS)] = 1
    """With 0 it has nothing while there is no demand, and is put back in line as soon as there is some."""
    most: Annotated[StrictInt, Field(ge=1, le=MAXIMUM_REPLICAS)]
    tolerance: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.1
    up_window_seconds: Annotated[Seconds, Field(le=3_600)] = 0
    down_window_seconds: Annotated[Seconds, Field(le=3_600)] = 300
    step_up: Annotated[StrictInt, Field(ge=1, le=MAXIMUM_REPLICAS)] = 4
    step_down: Annotated[StrictInt, Field(ge=1, le=MAXIMUM_REPLICAS)] = 1
    period_seconds: Annotated[Seconds, Field(le=3_600)] = 15
    objective: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] | None = None
    """The share of requests that is to be served well. The others are its error budget: see `docs/endpoints.md`."""
    burn_rate: Annotated[float, Field(gt=0, le=1_000, allow_inf_nan=False)] = 14.4
    """More replicas are wanted when the budget is used up so many times as fast as the objective allows, in both windows."""
    burn_window_seconds: Annotated[Seconds, Field(ge=60, le=86_400)] = 3_600
    burn_check_seconds: Annotated[Seconds, Field(ge=10, le=3_600)] = 300
    """The short window: it says that the budget is still burning, and how long a step is given to show its effect."""

    @model_validator(mode="after")
    def _minimum_within_most(self) -> Self:
        if self.minimum > self.most:
            raise ValueError(f"minimum {self.minimum} exceeds most {self.most}")
        return self


class _Named(Model):
    """Whatever has an id of its own, which comes first."""

    id: Identifier


class WorkloadTerms(Model):
    """What is asked for, by whichever workload: those that ask for the same share one.

    Times are seconds; `accelerators` are devices (below one: a share of one device). With `tasks`, the single group is an
    array of that many identical, independent tasks, of which as many run at once as fit (`minimum` then counts tasks).
    """

    queue: Identifier
    tenant: Identifier | None = None
    tier: SlaTier = SlaTier.STANDARD
    priority: Annotated[StrictInt, Field(ge=-1_000, le=1_000)] = 0
    groups: Annotated[tuple[ReplicaGroup, ...], Field(min_length=1, max_length=16)] = (ReplicaGroup(),)
    tasks: Annotated[StrictInt, Field(ge=1, le=MAXIMUM_REPLICAS)] | None = None
    autoscale: Autoscale | None = None
    """An endpoint: its size follows the demand that it is told of."""
    targets: Annotated[tuple[Target, ...], Field(max_length=32)] = ()
    selection: Selection = Selection.ORDERED
    topology: Topology = Topology()
    tolerations: Annotated[tuple[Identifier, ...], Field(max_length=32)] = ()
    command: Annotated[tuple[ShortText, ...], Field(max_length=64)] = ()
    environment: Annotated[Mapping[ShortName, ShortText], Field(max_length=64)] = {}
    parameters: Annotated[Mapping[ShortName, ShortText], Field(max_length=32)] = {}
    checkpoint: Checkpoint = Checkpoint()
    preemptible: bool = True
    preemption_delay_seconds: Seconds = 0
    """It has waited that long before anything is stopped for it."""
    minimum_replicas: Annotated[StrictInt, Field(ge=1, le=MAXIMUM_REPLICAS)] | None = None
    """The fewest replicas of all groups together that start, beside each group's own minimum."""
    user: Identifier | None = None
    """Who submitted it, for limits per user inside a queue."""
    expected_seconds: Seconds | None = None
    maximum_runtime_seconds: Annotated[Seconds, Field(ge=1)] | None = None
    datasets: Annotated[tuple[Identifier, ...], Field(max_length=32)] = ()
    """What it reads, by the names in the pool's catalogue of data: being near to it saves egress and time."""
    earliest_start: AwareDatetime | None = None
    retries: Annotated[StrictInt, Field(ge=0, le=100)] = 0
    """Further attempts after the workload itself failed; lost and preempted attempts are always repeated."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [group.name for group in self.groups]
        if len(set(names)) < len(names):
            raise ValueError("each replica group needs a name of its own")
        if self.tasks is not None and (len(self.groups) > 1 or self.groups[0].count > 1):
            raise ValueError("an array (tasks) has one replica group with count 1")
        most = sum(group.count for group in self.groups) * (self.tasks or 1)
        if self.minimum_replicas is not None and self.minimum_replicas > most:
            raise ValueError(f"minimum_replicas {self.minimum_replicas} exceeds the {most} replicas of all groups together")
        if self.tasks is not None and any(target.count is not None for target in self.targets):
            raise ValueError("an array (tasks) takes no count in its targets")
        if self.autoscale is not None:
            self._may_follow_demand(self.autoscale)
        if len(set(self.datasets)) < len(self.datasets):
            raise ValueError("datasets: one is named twice; expected each once, as each is fetched once")
        return self

    def _may_follow_demand(self, rules: Autoscale) -> None:
        first = self.groups[0]
        if self.tasks is not None or any(target.count is not None for target in self.targets):
            raise ValueError("autoscale: what follows demand is no array (tasks), and takes no count in its targets")
        if first.minimum != rules.minimum or first.count > rules.most:
            raise ValueError(
                f"autoscale: the first group has minimum {first.minimum} and count {first.count}; expected minimum "
                f"{rules.minimum} (that of autoscale), and a count to begin with of at most {rules.most}"
            )


class WorkloadSpec(WorkloadTerms, _Named):
    """What a service asks for. The `id` is the service's own key: submitting it twice is submitting it once."""

    @property
    def digest(self) -> str:
        """SHA-256 of the spec in canonical JSON, in hexadecimal: two specs are the same when their digests are.

        What is left at its default is left out, so that a field that a later version adds changes no digest.
        """
        return hashlib.sha256(self.model_dump_json(exclude_defaults=True).encode()).hexdigest()

    @property
    def summary(self) -> str:
        """One line by which an operator recognises the workload."""
        replicas = sum(group.count for group in self.groups) * (self.tasks or 1)
        milli = sum(group.count * group.milli for group in self.groups) * (self.tasks or 1)
        return f"{self.id}: {milli / WHOLE:g} accelerators in {replicas} replicas, {self.tier}, queue {self.queue}"


class Evidence(Model):
    """How often a rule said no while the answer was sought, and an example in words."""

    reason: Reason
    count: int
    example: str = ""


class FixKind(StrEnum):
    """The closed list of changes that may start a waiting workload."""

    ADD_TARGET = "add-target"
    ASK_FOR_LESS = "ask-for-less"
    WIDEN_TOPOLOGY = "widen-topology"
    TOLERATE = "tolerate"
    BE_PREEMPTIBLE = "be-preemptible"
    GO_FIRST = "go-first"
    WAIT = "wait"
    RAISE_QUOTA = "raise-quota"
    RAISE_BUDGET = "raise-budget"
    OPEN_QUEUE = "open-queue"
    UNCORDON = "uncordon"
    STOP_OTHERS = "stop-others"
    SEVERAL = "several"


class QuotaChange(Model):
    """So many accelerators more of nominal and of cap, in every row of a queue for a SKU; a row where it has none."""

    queue: Identifier
    sku: Identifier
    nominal: Annotated[StrictInt, Field(ge=0)] = 0
    cap: Annotated[StrictInt, Field(ge=0)] = 0


class BudgetChange(Model):
    """So much more, in its unit, of the budget at this place (from 0) among those of a queue."""

    queue: Identifier
    place: Annotated[StrictInt, Field(ge=0)]
    amount: Annotated[StrictInt, Field(ge=1)]


class Fix(Model):
    """A smallest change that would start a waiting workload now (or, when it waits, then); `cost` is in dollars.

    What is set is to be done, all of it: a target to add, a topology instead of the present one, taints to tolerate, a
    protection to give up, a tier, a priority, seconds to wait, quota and budgets to raise, queues to open, nodes to put back,
    workloads to stop.
    `victims` is left empty for whoever may not know them.
    """

    kind: FixKind
    message: str
    cost: float
    target: Target | None = None
    topology: Topology | None = None
    tolerations: tuple[str, ...] = ()
    preemptible: bool | None = None
    tier: SlaTier | None = None
    priority: int | None = None
    wait_seconds: int | None = None
    quotas: tuple[QuotaChange, ...] = ()
    budgets: tuple[BudgetChange, ...] = ()
    queues: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    victims: tuple[str, ...] = ()


class Explanation(Model):
    """Why a workload waits or was refused: one dominant reason, the evidence, and when that was computed.

    `fixes` are the cheapest changes that would start it, the cheapest first.
    """

    reason: Reason
    message: str
    evidence: tuple[Evidence, ...] = ()
    fixes: tuple[Fix, ...] = ()
    position: int | None = None
    """1 is next in the workload's queue; none when it does not wait."""
    round_id: int | None = None
    as_of: datetime | None = None


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


class Following(Model):
    """How an endpoint follows demand: the replicas that are wanted, since when demand is known no more, and why not."""

    wanted: int
    stale_since: datetime | None = None
    """While it is set the size stays as it is."""
    problem: str = ""


class WorkloadStatus(Model):
    """What is so. `epoch` counts attempts and only rises; `since` is when the state was entered."""

    id: str
    queue: str
    tier: SlaTier
    priority: int
    state: State
    epoch: int
    submitted_at: datetime
    since: datetime
    where: Where | None = None
    next_where: Where | None = None
    """Where it goes on with its work once it has left `where`."""
    explanation: Explanation | None = None
    following: Following | None = None
    """Of an endpoint, once demand has been told or asked for."""
    outcome: Outcome | None = None
    exit_code: int | None = None
    preemptions: int = 0
    tasks_done: int | None = None
    ended_at: datetime | None = None


class WorkloadEvent(Model):
    """One line of a workload's history; `id` only rises."""

    id: int
    workload: str
    at: datetime
    kind: str
    message: str


class StopPolicy(StrEnum):
    """Whether a queue starts new work, and keeps what runs."""

    OPEN = "open"
    HOLD = "hold"
    HOLD_AND_DRAIN = "hold-and-drain"


class QuotaSpec(Model):
    """Quota of one queue or cohort for one SKU, in accelerators: floor <= nominal <= cap; absent limits do not limit."""

    sku: Identifier
    nominal: Annotated[StrictInt, Field(ge=0, le=10**9)]
    floor: Annotated[StrictInt, Field(ge=0, le=10**9)] = 0
    cap: Annotated[StrictInt, Field(ge=0, le=10**9)] | None = None
    borrowing_limit: Annotated[StrictInt, Field(ge=0, le=10**9)] | None = None
    lending_limit: Annotated[StrictInt, Field(ge=0, le=10**9)] | None = None
    over_quota_weight: Annotated[StrictInt, Field(ge=0, le=10**9)] | None = None
    """Share of what is left once every queue has its nominal; the queue's weight where absent (quota model `deserved`)."""
    valid_from: AwareDatetime | None = None
    valid_until: AwareDatetime | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.floor > self.nominal:
            raise ValueError(f"floor {self.floor} exceeds nominal {self.nominal}")
        if self.cap is not None and self.cap < self.nominal:
            raise ValueError(f"cap {self.cap} is below nominal {self.nominal}")
        if self.valid_from and self.valid_until and self.valid_from >= self.valid_until:
            raise ValueError("valid_until must be later than valid_from")
        return self


class UserLimit(Model):
    """What one user may have at once in a queue and below it: accelerators, and running workloads; absent ones do not limit.

    Without `user` it is the limit of everybody who has none by name; workloads that name no user count as one user's.
    """

    user: Identifier | None = None
    accelerators: Annotated[StrictInt, Field(ge=0, le=10**9)] | None = None
    running: Annotated[StrictInt, Field(ge=0, le=10**6)] | None = None

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.accelerators is None and self.running is None:
            raise ValueError("a limit per user names accelerators, running (workloads), or both")
        return self


class BudgetUnit(StrEnum):
    """What a budget counts: accelerators times hours, or what these cost by the prices of the nodes."""

    ACCELERATOR_HOURS = "accelerator-hours"
    DOLLARS = "dollars"


class BudgetSpec(Model):
    """What a queue, with all queues below it, may use up: `amount` in every period, or replenishing, or once.

    With `period_seconds` the amount is there anew in every period, the first of which began at `since`. With
    `half_life_seconds` what was used counts half as much after that time. With neither it is a grant, used up once, that
    counts what ran from `since` on. A hard budget starts nothing that would exceed it; work of a queue beyond a soft one
    ranks as over quota and as basic.
    """

    unit: BudgetUnit
    amount: Annotated[StrictInt, Field(ge=0, le=10**9)]
    period_seconds: Annotated[Seconds, Field(ge=HOUR_SECONDS, multiple_of=HOUR_SECONDS)] | None = None
    half_life_seconds: Annotated[Seconds, Field(ge=HOUR_SECONDS)] | None = None
    since: AwareDatetime = datetime(1970, 1, 1, tzinfo=UTC)
    hard: StrictBool = True

    @model_validator(mode="after")
    def _one_way_to_count(self) -> Self:
        if self.period_seconds is not None and self.half_life_seconds is not None:
            raise ValueError("a budget has period_seconds or half_life_seconds (or neither: a grant), not both")
        if self.since.timestamp() % HOUR_SECONDS:
            raise ValueError(f"since {self.since.isoformat()} is not a whole hour (UTC): what is used is counted by the hour")
        return self


class WithinQueue(StrEnum):
    """Which work of its own queue a workload may stop."""

    NEVER = "never"
    LOWER_PRIORITY = "lower-priority"
    LOWER_OR_NEWER_EQUAL_PRIORITY = "lower-or-newer-equal-priority"


class Reclaim(StrEnum):
    """Which work of queues that borrow a workload within its queue's nominal may stop."""

    NEVER = "never"
    LOWER_PRIORITY = "lower-priority"
    ANY = "any"


class BorrowWithinCohort(Model):
    """Whether a workload that borrows may stop lower work of other queues that borrow too, of at most `maximum_priority`."""

    policy: Annotated[str, StringConstraints(pattern=r"^(never|lower-priority)$")] = "never"
    maximum_priority: Annotated[StrictInt, Field(ge=-(10**9), le=10**9)] | None = None


class QueuePreemption(Model):
    """Whom the workloads of a queue may have stopped (quota model `cohorts`; Kueue's terms)."""

    within_queue: WithinQueue = WithinQueue.NEVER
    reclaim_within_cohort: Reclaim = Reclaim.NEVER
    borrow_within_cohort: BorrowWithinCohort = BorrowWithinCohort()


class Search(StrEnum):
    """What the search through a queue's SKUs does at one that fits only so."""

    STOP = "stop"
    TRY_NEXT = "try-next"


class FungibilityPreference(StrEnum):
    """Which comes first where a SKU is found by neither alone."""

    BORROWING_OVER_PREEMPTION = "borrowing-over-preemption"
    PREEMPTION_OVER_BORROWING = "preemption-over-borrowing"


class Fungibility(Model):
    """How a queue's SKUs stand in for each other (quota model `cohorts`; Kueue's terms)."""

    when_can_borrow: Search = Search.STOP
    when_can_preempt: Search = Search.TRY_NEXT
    preference: FungibilityPreference | None = None


class Ordering(StrEnum):
    """Whether the first of a queue that does not fit blocks those behind it."""

    BEST_EFFORT_FIFO = "best-effort-fifo"
    STRICT_FIFO = "strict-fifo"


class QueueSpec(Model):
    """A queue, or a cohort when others name it as their parent. Weight divides surplus; 0 never borrows first."""

    name: Identifier
    parent: Identifier | None = None
    weight: Annotated[StrictInt, Field(ge=0, le=10**6)] = 1
    stop: StopPolicy = StopPolicy.OPEN
    minimum_runtime_seconds: Seconds = 0
    """A workload of this queue is not preempted before it has run that long."""
    reclaim_minimum_runtime_seconds: Seconds | None = None
    """The same where another queue takes its nominal back; as `minimum_runtime_seconds` where absent."""
    ordering: Ordering = Ordering.BEST_EFFORT_FIFO
    sku_order: Annotated[tuple[Identifier, ...], Field(max_length=64)] = ()
    """The order in which a workload of the queue that accepts several SKUs tries them; others follow by name."""
    preemption: QueuePreemption | None = None
    fungibility: Fungibility | None = None
    priority: Annotated[StrictInt, Field(ge=-(10**6), le=10**6)] = 0
    """Which queue is given surplus first (quota model `deserved`)."""
    created_at: AwareDatetime | None = None
    """Decides between queues that are otherwise equal: the older one first (quota model `deserved`)."""
    quotas: Annotated[tuple[QuotaSpec, ...], Field(max_length=256)] = ()
    user_limits: Annotated[tuple[UserLimit, ...], Field(max_length=1_000)] = ()
    budgets: Annotated[tuple[BudgetSpec, ...], Field(max_length=16)] = ()

    @model_validator(mode="after")
    def _one_limit_a_user(self) -> Self:
        users = [limit.user for limit in self.user_limits]
        if twice := [user or "everybody" for user in dict.fromkeys(users) if users.count(user) > 1]:
            raise ValueError(f"user_limits: {', '.join(twice)} is given twice; each user has one limit")
        return self


class QueueTree(Model):
    """All queues and cohorts at once; applied whole or not at all. From a queue to its root there are at most 64 levels."""

    queues: Annotated[tuple[QueueSpec, ...], Field(min_length=1, max_length=10_000)]


class QueueUsage(Model):
    """One queue and SKU, in accelerators: what it owns and uses, and how much of that it borrows."""

    sku: str
    nominal: float
    used: float
    borrowed: float
    cap: float | None = None


class BudgetStatus(Model):
    """A budget, and what is spent of it: in accelerator-hours or dollars, of this period or as it has decayed by now."""

    budget: BudgetSpec
    spent: float


class QueueStatus(Model):
    """A queue as it was applied, with its use and its line."""

    name: str
    parent: str | None
    stop: StopPolicy
    spec: QueueSpec
    waiting: int
    running: int
    usage: tuple[QueueUsage, ...]
    warnings: tuple[str, ...] = ()
    """What the tree promises here and cannot keep."""
    budgets: tuple[BudgetStatus, ...] = ()


class Dataset(Model):
    """Data that workloads read: its size, and the regions with a whole replica; where nobody has one, it counts nothing."""

    name: Identifier
    size_gib: Annotated[float, Field(gt=0, le=10**9, allow_inf_nan=False)]
    regions: Annotated[tuple[Identifier, ...], Field(max_length=256)]

    @model_validator(mode="after")
    def _one_replica_a_region(self) -> Self:
        if len(set(self.regions)) < len(self.regions):
            raise ValueError("regions: one is named twice; expected each region that has a replica once")
        return self


class Catalogue(Model):
    """Datasets; applied whole or not at all."""

    datasets: Annotated[tuple[Dataset, ...], Field(min_length=1, max_length=10_000)]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        seen: dict[str, int] = {}
        for at, dataset in enumerate(self.datasets):
            if (first := seen.setdefault(dataset.name, at)) != at:
                raise ValueError(f"datasets[{at}].name: {dataset.name} is datasets[{first}] already; each has one entry")
        return self


class DatasetStatus(Model):
    """A dataset, and how many workloads that have not ended read it; without size and regions it is not in the catalogue."""

    name: str
    size_gib: float | None
    regions: tuple[str, ...]
    readers: int
    warnings: tuple[str, ...] = ()
    """What makes it count nothing, or less than its owner may think."""


class NodeStatus(Model):
    """One machine as last observed; accelerators in devices."""

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


class RoundStatus(Model):
    """One round as it was recorded; amounts are accelerators.

    `started_accelerators` began on free capacity, of the `bound` that any plan could have started at most; `gap` is the part of
    the bound that was not reached. `improved` workloads start beyond what turns alone would have given, `moved` ones start
    elsewhere for them, by `method`; a `fallback` says why a better plan was not looked for to the end. A region's balance is
    the demand that is meant for it over its supply, in the worst region, before and after. Rounds of older versions have no
    figures. Milliseconds are by step.
    """

    id: int
    at: datetime
    trigger: str
    considered: int
    started: int
    preempted: int
    refused: int
    started_accelerators: float | None = None
    bound: float | None = None
    gap: float | None = None
    method: str | None = None
    improved: int = 0
    moved: int = 0
    fallback: str | None = None
    worst_region_before: float | None = None
    worst_region_after: float | None = None
    milliseconds: dict[str, float] = {}


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


class EvacuationOrder(Model):
    """Empty a node, a cluster or a region of a provider: nothing new goes there, and what is there moves elsewhere.

    Work of the lowest tier goes first, and at most `at_once` workloads are on their way out at a time. The deadline is in
    seconds of the pool from the beginning.
    """

    id: Identifier
    kind: PlaceKind
    place: Place
    reason: Annotated[ShortText, StringConstraints(min_length=1)]
    who: Annotated[ShortName, StringConstraints(min_length=1)]
    deadline_seconds: Annotated[StrictInt, Field(ge=1, le=MAXIMUM_SECONDS)] = 4 * HOUR_SECONDS
    at_once: Annotated[StrictInt, Field(ge=1, le=1_000)] = 10

    @property
    def deadline(self) -> timedelta:
        """How long it may take."""
        return timedelta(seconds=self.deadline_seconds)

    @property
    def digest(self) -> str:
        """The same for the same order."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class EvacuationState(StrEnum):
    """How far an evacuation is."""

    AWAITING = "awaiting-approval"
    """Somebody has to approve it first; nothing is changed before."""
    MOVING = "moving"
    PAUSED = "paused"
    """Nobody else is told to leave; nothing new goes there all the same."""
    DONE = "done"
    """Nothing is there any more, as observed."""
    OVERDUE = "overdue"
    """Its deadline came while something was still there."""
    ABORTED = "aborted"
    REJECTED = "rejected"
    EXPIRED = "expired"
    """Nobody has approved it in time."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of it."""
        return self not in {EvacuationState.AWAITING, EvacuationState.MOVING, EvacuationState.PAUSED}


class OperationChange(Model):
    """Steer an operation: who asks for it, and why."""

    who: Annotated[ShortName, StringConstraints(min_length=1)]
    reason: Annotated[ShortText, StringConstraints(min_length=1)]


class OperationNote(Model):
    """A line of the trail of an operation: the state it came to, by whose order, and why. Without `who` it came by itself."""

    at: AwareDatetime
    state: str
    who: str = ""
    reason: str = ""


class EvacuationStatus(Model):
    """How an evacuation stands; a higher version is newer.

    `left` workloads are still there, of which `leaving` have notice; `told` were told to leave so far. `remaining` names the
    first of those that are left. One that has to be approved says in `needs` why, and has its `deadline` for that first.
    """

    order: EvacuationOrder
    state: EvacuationState
    version: int
    began_at: AwareDatetime
    deadline: AwareDatetime
    ended_at: AwareDatetime | None = None
    nodes: int
    told: int
    left: int
    leaving: int
    remaining: tuple[str, ...] = ()
    needs: str = ""
    trail: tuple[OperationNote, ...] = ()


class EvacuationMove(Model):
    """A workload that would have to leave, and what would become of it: where it would start, or why it would wait."""

    workload: str
    queue: str
    tier: SlaTier
    accelerators: float
    to: str = ""
    stops: int = 0
    """How many other workloads would have to leave for it."""
    reason: Reason | None = None
    message: str = ""


class EvacuationForecast(Model):
    """What an evacuation would do to the pool as it is now."""

    nodes: int
    moves: tuple[EvacuationMove, ...]


class OperationKind(StrEnum):
    """What operators order that takes its time."""

    EVACUATION = "evacuation"
    POLICY = "policy-roll-out"
    QUEUES = "queue-edit"


class OperationStatus(Model):
    """An operation of any kind as the record keeps it: by whom and why, how far it is in words, and all that happened.

    Until `due_at` it has to be approved, or has time, or is watched.
    """

    id: str
    kind: OperationKind
    subject: str
    state: str
    version: int
    who: str
    reason: str
    began_at: AwareDatetime
    due_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    message: str = ""
    trail: tuple[OperationNote, ...] = ()


class Resize(Model):
    """Change the count (and, if given, the minimum) of a replica group of a workload that does not run, or of an endpoint.

    One that has a hold gives it back, and waits again.
    """

    count: Annotated[StrictInt, Field(ge=1, le=MAXIMUM_REPLICAS)]
    minimum: Annotated[StrictInt, Field(ge=1, le=MAXIMUM_REPLICAS)] | None = None
    group: Identifier | None = None


class Retarget(Model):
    """Accept these targets from now on, in place of all that were accepted before; none accepts anything.

    What has capacity that one of them accepts keeps it. What runs elsewhere is only taken from there with `move`: it has
    notice, stops, and waits in line by its age until one of the new targets has room.
    """

    targets: Annotated[tuple[Target, ...], Field(max_length=32)]
    move: StrictBool = False


class ExtendRuntime(Model):
    """Let a workload with a maximum runtime run so many seconds longer, over all of its attempts."""

    seconds: Annotated[Seconds, Field(ge=1)]


class Demand(Model):
    """What an endpoint is to serve now, in the unit of its `autoscale.target`: requests at once, or the length of a queue.

    `at` is when that was measured, now where absent; what is not newer than what is known already changes nothing.
    """

    value: Annotated[float, Field(ge=0, le=10**12, allow_inf_nan=False)]
    at: AwareDatetime | None = None
    requests: Annotated[StrictInt, Field(ge=0, le=10**12)] = 0
    """Requests that have ended since this was told last, and of these the ones that were not served well."""
    bad: Annotated[StrictInt, Field(ge=0, le=10**12)] = 0

    @model_validator(mode="after")
    def _bad_are_some_of_them(self) -> Self:
        if self.bad > self.requests:
            raise ValueError(f"bad {self.bad} exceeds requests {self.requests}")
        return self


class Reprioritize(Model):
    """Change the order inside the workload's tier and queue."""

    priority: Annotated[StrictInt, Field(ge=-1_000, le=1_000)]


class Cancel(Model):
    """End the workload, whatever it is doing; the reason is kept in its history."""

    reason: ShortText = ""


class Hold(Model):
    """Take the workload out of the line, stopping it with notice if it runs, until it is released."""

    reason: ShortText = ""


class Release(Model):
    """Put a held workload back in line."""


class Checkpointed(Model):
    """The work of the workload is saved up to now; one that has notice to leave is stopped without waiting for its grace."""


class Told(Model):
    """What is told to a workload without waiting for an answer; with the same key it counts once."""

    key: Annotated[ShortName, StringConstraints(min_length=1)]


class ToldDemand(Told):
    """The demand of an endpoint, told so."""

    demand: Demand


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


class Acknowledgement(Model):
    """The answer to a change: the state after it, and what was done in words."""

    state: State
    message: str


class OrderRecord(Model):
    """Who ordered what and when, by a signature that was verified; the subject is a workflow's id, or the pool."""

    at: datetime
    principal: str
    command: str
    subject: str
    request: str


class WorkloadResult(Model):
    """What the workflow of a workload returns."""

    id: str
    state: State
    exit_code: int | None = None
    message: str = ""
