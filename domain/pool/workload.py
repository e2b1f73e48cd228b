"""The demand: workloads that wait, and those that have capacity."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from corral.api import ReplicaGroup, State, WorkloadTerms
from domain.pool.fleet import Amount, Placement

SECOND = timedelta(seconds=1)
ALWAYS = datetime.min.replace(tzinfo=UTC)


def open_from(submitted_at: datetime, after_seconds: float) -> datetime:
    """From when on a target is open to a workload; one without a delay always is, whatever clock was set back since it came."""
    return submitted_at + timedelta(seconds=after_seconds) if after_seconds else ALWAYS


@dataclass(frozen=True, slots=True)
class Waiting:
    """A workload without capacity. `epoch` is the number of attempts so far; `tasks_done` counts an array's finished tasks.

    `submitted_at` decides age: it is kept over preemptions, so that nobody loses their place by being preempted. `since` is
    when it came (back) into line. `is_new` says that no round has considered it yet, `failed_in_a_row` how many of its last
    attempts failed by themselves, and `relieved_by` which workloads have been stopped for it, in whatever attempt.
    `ran_seconds` is for how long it has run in all attempts, and `fallen` by how much its priority has been lowered for that.
    """

    id: str
    spec: WorkloadTerms
    submitted_at: datetime
    epoch: int = 0
    tasks_done: int = 0
    since: datetime | None = None
    is_new: bool = False
    failed_in_a_row: int = 0
    relieved_by: frozenset[str] = frozenset()
    ran_seconds: int = 0
    fallen: int = 0
    form: object = field(default=None, init=False, compare=False, repr=False)
    """What it asks for (`domain.worlds.request.form`), once somebody has looked."""

    def groups(self, count: int | None = None) -> tuple[ReplicaGroup, ...]:
        """The replica groups to place now; `count` is a target's own count for the first group.

        An array asks for all its unfinished tasks and is content with one. Where no minimum is asked for at all, the first
        group has one of 1: what starts has something to run.
        """
        first, *others = self.spec.groups
        if self.spec.tasks is not None:
            left = self.spec.tasks - self.tasks_done
            return (first.model_copy(update={"count": left, "minimum": min(max(1, first.fewest), left)}),)
        if count is not None:
            first = first.model_copy(update={"count": count, "minimum": count})
        elif not (self.spec.minimum_replicas or any(group.fewest for group in self.spec.groups)):
            first = first.model_copy(update={"minimum": 1})
        return (first, *others)


@dataclass(frozen=True, slots=True)
class Active:
    """A workload with an open attempt: capacity promised, held, or in use.

    `started_at` is when it was observed running, else none; `checkpoint_at` when it last saved its work, if known.
    `preempted` says that it has had notice to leave or move, `preemptions` how often its workload had in 24 hours. One that
    could still be told to stay has a `beneficiary`, the attempt for whose sake it is to leave, and was told so at `noticed_at`.
    `ran_seconds` is for how long its workload ran in attempts that are over; where another one is open that has started, whose
    place it is to take, that was at `follows_since`. `fallen` is by how much the priority has been lowered for all of that.
    """

    id: str
    attempt_id: str
    epoch: int
    spec: WorkloadTerms
    state: State
    placement: Placement
    submitted_at: datetime
    held_at: datetime
    started_at: datetime | None = None
    checkpoint_at: datetime | None = None
    preempted: bool = False
    preemptions: int = 0
    beneficiary: str | None = None
    noticed_at: datetime | None = None
    hourly_cost: int = 0
    """Nanodollars an hour (thousandths of accelerators times the prices of their nodes)."""
    remnants: frozenset[tuple[str, int]] = frozenset()
    """Replicas, by group and index, that it has no more and that do not leave: nobody else is called as they are."""
    ran_seconds: int = 0
    follows_since: datetime | None = None
    fallen: int = 0

    def has_run_for(self, seconds: int) -> datetime | None:
        """From when on its workload has run for so long, as it runs now; none where it does not run and has not."""
        return has_run_for(seconds, self.ran_seconds, self.started_at or self.follows_since)

    def seconds_left(self, now: datetime) -> int | None:
        """For how long it will still run at most, as far as it says; work beyond that is as good as over."""
        if (length := length_of(self.spec)) is None:
            return None
        ran = (now - self.started_at) // SECOND if self.started_at else 0
        return min(length, max(0, length - ran))

    @property
    def milli(self) -> Amount:
        """Thousandths of an accelerator that it has."""
        return self.placement.milli

    def back_in_line(self) -> Waiting:
        """The workload as it waits where it has lost its place."""
        ran, fallen = self.ran_seconds, self.fallen
        return Waiting(self.id, self.spec, self.submitted_at, self.epoch, ran_seconds=ran, fallen=fallen)

    def stopping(self) -> "Active":
        """The same with notice to leave."""
        return replace(self, preempted=True, state=State.STOPPING)

    def staying(self) -> "Active":
        """The same with its notice taken back."""
        state = State.RUNNING if self.started_at else State.STARTING
        return replace(self, preempted=False, state=state, beneficiary=None, noticed_at=None)


def has_run_for(seconds: int, ran_seconds: int, began: datetime | None) -> datetime | None:
    """From when on work has run for so long that ran for `ran_seconds` and runs again since it `began`, if it does."""
    if ran_seconds >= seconds:
        return ALWAYS
    return began + timedelta(seconds=seconds - ran_seconds) if began else None


def next_attempt(workload: Waiting, state: State, placement: Placement, prices: Mapping[str, int], now: datetime) -> Active:
    """The attempt that a workload has from now on; `prices` are those of an accelerator of each node, by its id.

    On a node that the pool has no more it costs nothing.
    """
    epoch = workload.epoch + 1
    return Active(
        id=workload.id,
        attempt_id=f"{workload.id}.{epoch}",
        epoch=epoch,
        spec=workload.spec,
        state=state,
        placement=placement,
        submitted_at=workload.submitted_at,
        held_at=now,
        hourly_cost=sum(share.room.milli * prices.get(share.node_id, 0) for share in placement.shares),
        ran_seconds=workload.ran_seconds,
        fallen=workload.fallen,
    )


def length_of(spec: WorkloadTerms) -> int | None:
    """For how many seconds a workload runs at most, as far as it says."""
    said = [seconds for seconds in (spec.expected_seconds, spec.maximum_runtime_seconds) if seconds is not None]
    return min(said, default=None)


class Charge(NamedTuple):
    """What a placement uses of its queue's quota for one SKU, of its user's limits and of budgets.

    One charge of a workload counts the workload, and has all that it costs in nanodollars an hour; `seconds` is for how long
    it will run from now on, as far as that is known.
    """

    queue: str
    sku: str
    preemptible: bool
    milli: Amount
    user: str | None = None
    workloads: int = 0
    hourly_cost: int = 0
    seconds: int | None = None


def charges_of(
    spec: WorkloadTerms, placement: Placement, hourly_cost: int = 0, seconds: int | None = None, *, is_part: bool = False
) -> tuple[Charge, ...]:
    """What a workload in this place uses of its queue's quota, by SKU; a part of a placement is no workload of its own."""
    first, *others = placement.by_sku.items()
    return (
        Charge(spec.queue, first[0], spec.preemptible, first[1], spec.user, 0 if is_part else 1, hourly_cost, seconds),
        *[Charge(spec.queue, sku, spec.preemptible, milli, spec.user, seconds=seconds) for sku, milli in others],
    )


def charges_at(active: Active, now: datetime) -> tuple[Charge, ...]:
    """The same of an attempt that is open now."""
    return charges_of(active.spec, active.placement, active.hourly_cost, active.seconds_left(now))
