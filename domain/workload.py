"""The demand: workloads that wait, and those that have capacity."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from corral.api import ReplicaGroup, State, WorkloadSpec
from domain.fleet import Amount, Placement


@dataclass(frozen=True, slots=True)
class Waiting:
    """A workload without capacity. `epoch` is the number of attempts so far; `tasks_done` counts an array's finished tasks.

    `submitted_at` decides age: it is kept over preemptions, so that nobody loses their place by being preempted. `since` is
    when it came (back) into line. `is_new` says that no round has considered it yet, `failed_in_a_row` how many of its last
    attempts failed by themselves, and `relieved_by` which workloads have been stopped for it, in whatever attempt.
    """

    id: str
    spec: WorkloadSpec
    submitted_at: datetime
    epoch: int = 0
    tasks_done: int = 0
    since: datetime | None = None
    is_new: bool = False
    failed_in_a_row: int = 0
    relieved_by: frozenset[str] = frozenset()

    def groups(self, count: int | None = None) -> tuple[ReplicaGroup, ...]:
        """The replica groups to place now; `count` is a target's own count for the first group.

        An array asks for all its unfinished tasks and is content with one.
        """
        first, *others = self.spec.groups
        if self.spec.tasks is not None:
            left = self.spec.tasks - self.tasks_done
            return (first.model_copy(update={"count": left, "minimum": min(first.fewest, left)}),)
        if count is not None:
            first = first.model_copy(update={"count": count, "minimum": count})
        return (first, *others)


@dataclass(frozen=True, slots=True)
class Active:
    """A workload with an open attempt: capacity promised, held, or in use.

    `started_at` is when it was observed running, else none; `checkpoint_at` when it last saved its work, if known.
    `preempted` says that it has had notice to leave for other work, `preemptions` how often its workload had in 24 hours.
    """

    id: str
    attempt_id: str
    epoch: int
    spec: WorkloadSpec
    state: State
    placement: Placement
    submitted_at: datetime
    held_at: datetime
    started_at: datetime | None = None
    checkpoint_at: datetime | None = None
    preempted: bool = False
    preemptions: int = 0

    @property
    def milli(self) -> Amount:
        """Thousandths of an accelerator that it has."""
        return self.placement.milli

    def stopping(self) -> "Active":
        """The same with notice to leave."""
        return replace(self, preempted=True, state=State.STOPPING)


class Charge(NamedTuple):
    """What a placement uses of its queue's quota for one SKU, and of its user's limits; one charge counts the workload."""

    queue: str
    sku: str
    preemptible: bool
    milli: Amount
    user: str | None = None
    workloads: int = 0


def charges_of(spec: WorkloadSpec, placement: Placement, *, is_part: bool = False) -> tuple[Charge, ...]:
    """What a workload in this place uses of its queue's quota, by SKU; a part of a placement is no workload of its own."""
    return tuple(
        Charge(spec.queue, sku, spec.preemptible, milli, spec.user, workloads=0 if index or is_part else 1)
        for index, (sku, milli) in enumerate(placement.by_sku.items())
    )
