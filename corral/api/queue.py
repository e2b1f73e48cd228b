"""Queues as capacity owners speak of them: quota, budgets, limits, who may stop whom, and how each stands."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StrictBool, StrictInt, StringConstraints, model_validator

from corral.api.model import HOUR_SECONDS, Identifier, Model, Seconds, Time


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
    valid_from: Time | None = None
    valid_until: Time | None = None

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
    since: Time = datetime(1970, 1, 1, tzinfo=UTC)
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
    created_at: Time | None = None
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
