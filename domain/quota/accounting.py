"""Accounting: what the ledger of intervals says about a promise. A pure fold; neither order nor repetition changes it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from fractions import Fraction

from corral.api import ReplicaGroup, SlaTier, WorkloadTerms
from domain.pool.fleet import Amount

MILLISECOND = timedelta(milliseconds=1)
MILLISECONDS = 1_000
"""In one second."""


class IntervalKind(StrEnum):
    """What a workload did over an interval. Suspended, or in a back-off of its own making, it is entitled to nothing."""

    WAITING = "waiting"
    SUSPENDED = "suspended"
    BACKING_OFF = "backing-off"
    STARTING = "starting"
    RUNNING = "running"


NOT_ENTITLED = frozenset({IntervalKind.SUSPENDED, IntervalKind.BACKING_OFF})


@dataclass(frozen=True, slots=True)
class Interval:
    """One row of the ledger; without an end it lasts. Amounts are thousandths of an accelerator.

    Over-quota time is an interval that is entitled to nothing (`domain.remembered.entitlement`).
    `lost_milli_seconds` (thousandths of an accelerator times seconds) is work since the last durable checkpoint, lost by the
    forced stop that ended the interval.
    """

    workload_id: str
    tier: SlaTier
    queue: str
    kind: IntervalKind
    entitled_milli: Amount
    allocated_milli: Amount
    began_at: datetime
    ended_at: datetime | None
    lost_milli_seconds: int = 0


@dataclass(frozen=True, slots=True)
class Account:
    """Entitled and useful time in a window, in thousandths of an accelerator times milliseconds."""

    useful: int = 0
    entitled: int = 0

    @property
    def fraction(self) -> Fraction | None:
        """The GPU fraction; none when nothing was entitled."""
        return Fraction(self.useful, self.entitled) if self.entitled else None


def account(intervals: Iterable[Interval], window_start: datetime, window_end: datetime) -> Account:
    """Useful and entitled time in the window (`semantics.md` 5), each interval once.

    A loss counts in the window in which the forced stop falls; useful time is never negative in total.
    """
    entitled = useful = 0
    for interval in set(intervals):
        milliseconds = _overlap_milliseconds(interval, window_start, window_end)
        entitled += _entitled(interval) * milliseconds
        useful += _useful(interval) * milliseconds - _lost(interval, window_start, window_end)
    return Account(max(0, useful), entitled)


def gpu_fraction(intervals: Iterable[Interval], window_start: datetime, window_end: datetime) -> Fraction | None:
    """Useful entitled time over entitled time in the window; none when nothing was entitled."""
    return account(intervals, window_start, window_end).fraction


def by_tier(intervals: Iterable[Interval], window_start: datetime, window_end: datetime) -> Mapping[SlaTier, Fraction | None]:
    """The GPU fraction of each tier over the window."""
    ledger = set(intervals)
    return {tier: gpu_fraction((row for row in ledger if row.tier is tier), window_start, window_end) for tier in SlaTier}


def entitled_milli(spec: WorkloadTerms) -> Amount:
    """What the promise of the tier covers: the size asked for, or the minimum of what is elastic."""
    return sum([replicas * group.milli for group, replicas in _promised(spec)])


def entitled_by_group(spec: WorkloadTerms) -> dict[str, Amount]:
    """The same by replica group."""
    return {group.name: replicas * group.milli for group, replicas in _promised(spec)}


def _promised(spec: WorkloadTerms) -> list[tuple[ReplicaGroup, int]]:
    """Replicas by group; what a gang needs beyond its groups' own minimums counts as its smallest replicas."""
    own = [(group, group.fewest) for group in spec.groups]
    missing = (spec.minimum_replicas or 0) - sum([fewest for _, fewest in own])
    if missing <= 0:
        return own
    promised = []
    for group, fewest in sorted(own, key=lambda each: each[0].milli):
        more = min(missing, group.count - fewest)
        missing -= more
        promised.append((group, fewest + more))
    return promised


def lost_work(started_at: datetime | None, checkpoint_at: datetime | None, stopped_at: datetime, milli: Amount) -> int:
    """Thousandths of an accelerator times seconds since the work was last saved, or since it started if it never was."""
    if started_at is None:
        return 0
    saved_at = max(started_at, checkpoint_at or started_at)
    return milli * max(0, (stopped_at - saved_at) // MILLISECOND) // MILLISECONDS


def _entitled(interval: Interval) -> Amount:
    return 0 if interval.kind in NOT_ENTITLED else interval.entitled_milli


def _useful(interval: Interval) -> Amount:
    """What it has beyond its entitlement keeps no promise."""
    return min(interval.allocated_milli, interval.entitled_milli) if interval.kind is IntervalKind.RUNNING else 0


def _lost(interval: Interval, window_start: datetime, window_end: datetime) -> int:
    """Of what was lost, the part that had counted as useful."""
    is_inside = interval.ended_at is not None and window_start < interval.ended_at <= window_end
    if not is_inside or not interval.allocated_milli:
        return 0
    return interval.lost_milli_seconds * MILLISECONDS * _useful(interval) // interval.allocated_milli


def _overlap_milliseconds(interval: Interval, window_start: datetime, window_end: datetime) -> int:
    began = max(interval.began_at, window_start)
    ended = min(interval.ended_at or window_end, window_end)
    return max(0, (ended - began) // MILLISECOND)
