"""The faults by name, and the orders by which a test's driver has the workers' connections misbehave."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Fault(StrEnum):
    """Everything that may strike. What a worker brings about itself is `ORDERED`; the driver does the rest."""

    # Processes
    WORKER_KILLED = "worker-killed"
    ALL_WORKERS_KILLED = "all-workers-killed"
    WORKER_STOPPED = "worker-stopped"
    WORKER_FROZEN = "worker-frozen"
    ALL_KILLED = "all-killed"
    TEMPORAL_KILLED = "temporal-killed"
    TEMPORAL_KILLED_IN_UPDATE = "temporal-killed-in-update"
    TEMPORAL_FROZEN = "temporal-frozen"
    TEMPORAL_FROZEN_FOR_LONG = "temporal-frozen-for-long"
    CLOCK_AHEAD = "clock-ahead"
    CLOCK_BEHIND = "clock-behind"
    POSTGRES_KILLED = "postgres-killed"
    POSTGRES_KILLED_IN_COMMIT = "postgres-killed-in-commit"
    POSTGRES_FROZEN = "postgres-frozen"
    POSTGRES_READ_ONLY = "postgres-read-only"
    SESSIONS_ENDED = "sessions-ended"
    TABLE_LOCKED = "table-locked"
    # The way from one of the workers to a server
    WORKER_CUT_FROM_POSTGRES = "worker-cut-from-postgres"
    WORKER_CUT_FROM_TEMPORAL = "worker-cut-from-temporal"
    # A worker dies between a commit and whatever should follow it
    DEATH_AFTER_ADMISSION = "death-after-admission"
    DEATH_AFTER_ROUND = "death-after-round"
    DEATH_AFTER_BEGIN = "death-after-begin"
    DEATH_AFTER_LAUNCH = "death-after-launch"
    DEATH_AFTER_SETTLEMENT = "death-after-settlement"
    DEATH_AFTER_NOTICE = "death-after-notice"
    DEATH_AFTER_RESIZE = "death-after-resize"
    DEATH_AFTER_RESIZED = "death-after-resized"
    # The connection to the provider
    PROVIDER_CUT = "provider-cut"
    PROVIDER_SLOW = "provider-slow"
    RENEWAL_UNANSWERED = "renewal-unanswered"
    RENEWAL_LATE = "renewal-late"
    LAUNCH_UNANSWERED = "launch-unanswered"
    LAUNCH_REPEATED = "launch-repeated"
    LAUNCH_LATE = "launch-late"
    LAUNCH_REFUSED = "launch-refused"
    LAUNCH_GARBLED = "launch-garbled"
    SNAPSHOT_LATE = "snapshot-late"
    SNAPSHOT_PARTIAL = "snapshot-partial"
    SNAPSHOT_GARBLED = "snapshot-garbled"
    STATUS_LATE = "status-late"
    NOTICE_REPEATED = "notice-repeated"
    RESIZE_REPEATED = "resize-repeated"
    RESIZE_UNANSWERED = "resize-unanswered"
    EVENT_REPEATED = "event-repeated"
    EVENT_LATE = "event-late"
    EVENT_OF_A_STRANGER = "event-of-a-stranger"
    # What Temporal delivers
    SIGNAL_REPEATED = "signal-repeated"
    SIGNAL_LATE = "signal-late"
    SIGNAL_UNANSWERED = "signal-unanswered"
    SIGNAL_UNSENT = "signal-unsent"
    ADMISSION_AGAIN = "admission-again"
    BINDING_AGAIN = "binding-again"
    STOPPING_AGAIN = "stopping-again"
    CHANGE_AGAIN = "change-again"
    # The supply
    NODE_LOST = "node-lost"
    NODE_LOST_IN_RESIZE = "node-lost-in-resize"
    CLUSTER_LOST = "cluster-lost"
    CLUSTER_CUT_BRIEFLY = "cluster-cut-briefly"
    CLUSTER_CUT = "cluster-cut"
    NODE_DRAINED = "node-drained"
    # People
    WORKLOAD_CANCELLED = "workload-cancelled"
    WORKLOAD_HELD = "workload-held"
    WORKLOAD_REPRIORITIZED = "workload-reprioritized"
    WORKLOAD_SUBMITTED_AGAIN = "workload-submitted-again"
    WORKFLOW_CANCELLED = "workflow-cancelled"
    WORKFLOW_TERMINATED = "workflow-terminated"
    OPERATION_TERMINATED = "operation-terminated"
    RESERVATION_TERMINATED = "reservation-terminated"
    PLANNER_TERMINATED = "planner-terminated"
    QUOTA_CHANGED = "quota-changed"
    QUEUE_DRAINED = "queue-drained"
    POLICY_CHANGED = "policy-changed"
    POLICY_ROLLED_BACK = "policy-rolled-back"
    DEMAND_CHANGED = "demand-changed"
    SIZE_CHOSEN = "size-chosen"
    CAPACITY_RESERVED = "capacity-reserved"
    NODE_MAINTAINED = "node-maintained"
    CLUSTER_EVACUATED = "cluster-evacuated"
    SCHEDULE_DUE_IN_OUTAGE = "schedule-due-in-outage"


OF_RESIZES = frozenset(
    {
        *(Fault.DEATH_AFTER_RESIZE, Fault.DEATH_AFTER_RESIZED, Fault.RESIZE_REPEATED, Fault.RESIZE_UNANSWERED),
        Fault.NODE_LOST_IN_RESIZE,
    }
)
"""Those that strike when an endpoint next changes its size as it runs; somebody has one do so where they are ordered."""

OF_LONG_RUNS = frozenset(
    {
        *(Fault.ALL_KILLED, Fault.POSTGRES_FROZEN, Fault.TEMPORAL_FROZEN_FOR_LONG, Fault.WORKER_STOPPED),
        *(Fault.WORKER_CUT_FROM_POSTGRES, Fault.WORKER_CUT_FROM_TEMPORAL, Fault.POSTGRES_READ_ONLY, Fault.TABLE_LOCKED),
    }
)
"""Those by which much stands still for seconds: in a short run they would leave little time in which anything goes on."""

ORDERED = frozenset(
    {
        *(Fault.DEATH_AFTER_ADMISSION, Fault.DEATH_AFTER_ROUND, Fault.DEATH_AFTER_BEGIN, Fault.DEATH_AFTER_LAUNCH),
        *(Fault.DEATH_AFTER_SETTLEMENT, Fault.DEATH_AFTER_NOTICE),
        *OF_RESIZES,
        *(Fault.CLOCK_AHEAD, Fault.CLOCK_BEHIND),
        Fault.POSTGRES_KILLED_IN_COMMIT,
        *(Fault.PROVIDER_CUT, Fault.PROVIDER_SLOW, Fault.LAUNCH_UNANSWERED, Fault.LAUNCH_REPEATED, Fault.LAUNCH_LATE),
        *(Fault.LAUNCH_REFUSED, Fault.LAUNCH_GARBLED, Fault.STATUS_LATE),
        *(Fault.SNAPSHOT_LATE, Fault.SNAPSHOT_PARTIAL, Fault.SNAPSHOT_GARBLED),
        *(Fault.RENEWAL_UNANSWERED, Fault.RENEWAL_LATE),
        *(Fault.NOTICE_REPEATED, Fault.EVENT_REPEATED, Fault.EVENT_LATE, Fault.EVENT_OF_A_STRANGER),
        *(Fault.SIGNAL_REPEATED, Fault.SIGNAL_LATE, Fault.SIGNAL_UNANSWERED, Fault.SIGNAL_UNSENT),
        *(Fault.ADMISSION_AGAIN, Fault.BINDING_AGAIN, Fault.STOPPING_AGAIN, Fault.CHANGE_AGAIN),
    }
)


@dataclass(frozen=True, slots=True)
class Orders:
    """Faults that the next worker to come by is to bring about, once each, as files of a directory."""

    directory: Path

    def give(self, fault: Fault) -> None:
        """Order one more fault of that kind."""
        self._open.mkdir(parents=True, exist_ok=True)
        self._taken.mkdir(parents=True, exist_ok=True)
        number = sum(1 for folder in (self._open, self._taken) for _ in folder.glob(f"{fault}.*"))
        (self._open / f"{fault}.{number}").touch()

    def take(self, fault: Fault) -> bool:
        """Whether the fault is to strike here and now; of several processes that ask, one is told so."""
        for order in sorted(self._open.glob(f"{fault}.*")):
            try:
                order.rename(self._taken / order.name)
            except FileNotFoundError:
                continue
            return True
        return False

    def withdraw(self) -> Counter[Fault]:
        """Take back what nobody came by for; answers with how many of each that were."""
        left = Counter(Fault(order.stem) for order in self._open.glob("*"))
        for order in self._open.glob("*"):
            order.unlink(missing_ok=True)
        return left

    def open(self) -> Counter[Fault]:
        """Ordered faults that have not struck yet."""
        return Counter(Fault(order.stem) for order in self._open.glob("*"))

    def taken(self) -> Counter[Fault]:
        """Ordered faults that have struck."""
        return Counter(Fault(order.stem) for order in self._taken.glob("*"))

    @property
    def _open(self) -> Path:
        return self.directory / "open"

    @property
    def _taken(self) -> Path:
        return self.directory / "taken"
