"""Why a workload waits, was refused or has failed, and what would start it."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StrictInt

from corral.api.demand import Autoscale
from corral.api.model import Identifier, Model
from corral.api.queue import UserLimit
from corral.api.workload import ReplicaGroup, SlaTier, Target, Topology


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
    LOAN_ENDS = "LoanEnds"
    NODE_CLOSES = "NodeCloses"
    # Why running work may have to.
    ON_LOAN = "OnLoan"
    # Why work that has to leave has not left, and what it has is free for nobody.
    PROVIDER_DOES_NOT_ANSWER = "ProviderDoesNotAnswer"
    DOES_NOT_STOP = "DoesNotStop"
    CLUSTER_DOES_NOT_ANSWER = "ClusterDoesNotAnswer"
    # Why running work is not stopped for other work.
    MINIMUM_RUNTIME = "MinimumRuntime"
    ALREADY_STOPPED_FOR_IT = "AlreadyStoppedForIt"
    WITHIN_ITS_QUOTA = "WithinItsQuota"
    PROMISE_WOULD_BREAK = "PromiseWouldBreak"


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
    RAISE_USER_LIMIT = "raise-user-limit"
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


class UserLimitChange(Model):
    """A limit that a queue sets its user from then on, in the place of the one that it has for the same user."""

    queue: Identifier
    limit: UserLimit


class FixSearch(StrEnum):
    """How a search for fixes ended."""

    COMPLETE = "complete"
    """Every kind of change was tried, until enough were found that help."""
    CUT_SHORT = "cut-short"
    """The trials or the time that a search may take ran out before."""


class Fix(Model):
    """A smallest change that would start a waiting workload now (or, when it waits, then); `cost` is in dollars.

    What is set is to be done, all of it: a target to add; a topology, replica groups, a fewest number of replicas or rules of
    an endpoint instead of the present ones; taints to tolerate, a protection to give up, a tier, a priority, seconds to wait;
    quota, budgets and limits of users to raise, queues to open, nodes to put back, workloads to stop.
    `victims` is left empty for whoever may not know them.
    """

    kind: FixKind
    message: str
    cost: float
    target: Target | None = None
    topology: Topology | None = None
    groups: tuple[ReplicaGroup, ...] = ()
    minimum_replicas: int | None = None
    autoscale: Autoscale | None = None
    tolerations: tuple[str, ...] = ()
    preemptible: bool | None = None
    tier: SlaTier | None = None
    priority: int | None = None
    wait_seconds: int | None = None
    quotas: tuple[QuotaChange, ...] = ()
    budgets: tuple[BudgetChange, ...] = ()
    user_limits: tuple[UserLimitChange, ...] = ()
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
    fix_search: FixSearch | None = None
    """How the search for them ended, where somebody asked for one; without fixes it says whether there may yet be any."""
    position: int | None = None
    """1 is next in the workload's queue; none when it does not wait."""
    round_id: int | None = None
    as_of: datetime | None = None
