"""Names on the wire: workflow types and ids, task queues, message names and search attributes."""

from enum import StrEnum

from temporalio.common import Priority, SearchAttributeKey

LIFECYCLE = "WorkloadLifecycle"
ROUNDS = "SchedulingRounds"
PROVIDER = "ProviderReconcile"
RESERVATION = "ReservationLifecycle"
EVACUATION = "Evacuation"
ROLLOUT = "Rollout"
RECURRING = "Recurring"

GROWTH = "FleetGrowth"

DEFAULT_POOL = "main"

QUEUE = SearchAttributeKey.for_keyword("Queue")
TIER = SearchAttributeKey.for_keyword("Tier")
STATE = SearchAttributeKey.for_keyword("State")
REGION = SearchAttributeKey.for_keyword("Region")
SKU = SearchAttributeKey.for_keyword("Sku")
PRIORITY = SearchAttributeKey.for_int("Priority")
DUE_AT = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")
"""Temporal's own: the time of the schedule at which a workflow that it starts was due."""
SEARCH_ATTRIBUTES = (QUEUE, TIER, STATE, REGION, SKU, PRIORITY)

DIGEST_MEMO = "digest"

STEERS = Priority(priority_key=1)
"""What keeps a pool going, its planner and reconcilers, waits behind no workload."""

ASKS = Priority(priority_key=2)
"""Nor do questions of services and people, which are answered while they wait."""

FAIRNESS_KEY_BYTES = 64


def lives(tenant: str) -> Priority:
    """Workloads, and all that is done for them, take turns by tenant: a burst of one delays itself, and no other."""
    return Priority(priority_key=3, fairness_key=tenant.encode()[:FAIRNESS_KEY_BYTES].decode(errors="ignore"))


def workload_workflow_id(workload: str) -> str:
    """The workflow that drives a workload."""
    return f"workload/{workload}"


def reservation_workflow_id(reservation: str) -> str:
    """The workflow that keeps the time for a reservation."""
    return f"reservation/{reservation}"


def rounds_workflow_id(pool: str) -> str:
    """The planner of a pool."""
    return f"rounds/{pool}"


def provider_workflow_id(provider: str) -> str:
    """The reconciler of a provider."""
    return f"provider/{provider}"


def evacuation_workflow_id(evacuation: str) -> str:
    """The workflow that empties a node, a cluster or a region."""
    return f"evacuation/{evacuation}"


def rollout_workflow_id(rollout: str) -> str:
    """The workflow that rolls out a policy or queues."""
    return f"rollout/{rollout}"


def schedule_id(schedule: str) -> str:
    """The schedule, as Temporal knows it, of an operation that is ordered again and again."""
    return f"schedule/{schedule}"


def growth_workflow_id(pool: str) -> str:
    """The workflow by which the fleet of a pool grows and shrinks."""
    return f"growth/{pool}"


def pool_task_queue(pool: str) -> str:
    """Where workloads and planner of a pool run."""
    return f"pool-{pool}"


def provider_task_queue(provider: str) -> str:
    """Where calls to a provider run."""
    return f"provider-{provider}"


class Update(StrEnum):
    """Changes that a workload's workflow answers. All take a `Change`, and answer with an `Acknowledgement`."""

    CANCEL = "cancel"
    HOLD = "hold"
    RELEASE = "release"
    RESIZE = "resize"
    DEMAND = "demand"
    REPRIORITIZE = "reprioritize"
    RETARGET = "retarget"
    EXTEND = "extend"
    CHECKPOINTED = "checkpointed"


class Telling(StrEnum):
    """Signals for services that do not wait for an answer: demand (`ToldDemand`), a saved state (`Told`), and to look again."""

    DEMAND = "tell-demand"
    CHECKPOINTED = "tell-checkpointed"
    WAKE = "wake"


class ReservationUpdate(StrEnum):
    """What a reservation's workflow answers; all answers are a `ReservationAnswer`."""

    CONFIRM = "confirm"
    EXTEND = "extend"
    CANCEL = "cancel"


class Query(StrEnum):
    """What a workload's workflow tells without asking anybody else, as far as it knows.

    `HISTORY` are its last changes of state (`Moment`s, oldest first); `NEXT_WAKE_UP` is a `WakeUp`, or none.
    """

    STATUS = "status"
    EXPLANATION = "explanation"
    HISTORY = "history"
    NEXT_WAKE_UP = "next-wake-up"


class Steering(StrEnum):
    """Updates by which operations are steered. All take an `OperationChange`, and answer with the operation's status."""

    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    APPROVE = "approve"
    REJECT = "reject"


OPERATION_STATUS = "status"
"""The query by which the workflow of an operation tells how it stands, as far as it knows."""


class Inquiry(StrEnum):
    """Questions that the record answers: activities that services run by themselves."""

    STATUS = "inquiry.status"
    EXPLAIN = "inquiry.explain"
    WORKLOADS = "inquiry.workloads"
    EVENTS = "inquiry.events"
    CHANGE = "inquiry.change"
    QUEUES = "inquiry.queues"
    FLEET = "inquiry.fleet"
    NODES = "inquiry.nodes"
    CLUSTERS = "inquiry.clusters"
    DECLARE_LOST = "inquiry.declare-lost"

    NODE_POOLS = "inquiry.node-pools"
    PROVISIONINGS = "inquiry.provisionings"
    ROUNDS = "inquiry.rounds"
    APPLY_QUEUES = "inquiry.apply-queues"
    DATASETS = "inquiry.datasets"
    APPLY_DATASETS = "inquiry.apply-datasets"
    RESERVATIONS = "inquiry.reservations"
    POLICIES = "inquiry.policies"
    APPLY_POLICY = "inquiry.apply-policy"
    EVACUATIONS = "inquiry.evacuations"
    ORDERS = "inquiry.orders"
    FORESEE_EVACUATION = "inquiry.foresee-evacuation"
    WHAT_IF = "inquiry.what-if"
    OPERATIONS = "inquiry.operations"
    MANDATE = "inquiry.mandate"
    MANDATES = "inquiry.mandates"
    REVOKE_MANDATE = "inquiry.revoke-mandate"


CORDON = "cordon"
"""The update by which a provider's workflow cordons, drains and uncordons nodes."""


class Failure(StrEnum):
    """Types of the failures that services are told of."""

    NOT_FOUND = "NotFound"
    INVALID = "Invalid"
    NOT_ALLOWED = "NotAllowed"
    FORBIDDEN = "Forbidden"
    UNAVAILABLE = "Unavailable"
