"""Accounting: what the ledger of intervals says about a promise. A pure fold; neither order nor repetition changes it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from fractions import Fraction

from corral.api import SlaTier
from domain.fleet import Amount

MILLISECOND = timedelta(milliseconds=1)
MILLISECONDS = 1_000
"""In one second."""


class IntervalKind(StrEnum):
    """What a workload did over an interval. Only a suspended one is not entitled to anything."""

    WAITING = "waiting"
    SUSPENDED = "suspended"
    STARTING = "starting"
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Interval:
    """One row of the ledger; without an end it lasts. Amounts are thousandths of an accelerator.

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


def gpu_fraction(intervals: Iterable[Interval], window_start: datetime, window_end: datetime) -> Fraction | None:
    """Useful entitled time over entitled time in the window (`semantics.md` 5); none when nothing was entitled.

    A loss counts in the window in which the forced stop falls; useful time is never negative in total.
    """
    entitled = useful = 0
    for interval in set(intervals):
        milliseconds = _overlap_milliseconds(interval, window_start, window_end)
        entitled += _entitled(interval) * milliseconds
        useful += _useful(interval) * milliseconds - _lost(interval, window_start, window_end)
    return Fraction(max(0, useful), entitled) if entitled else None


def by_tier(intervals: Iterable[Interval], window_start: datetime, window_end: datetime) -> Mapping[SlaTier, Fraction | None]:
    """The GPU fraction of each tier over the window."""
    ledger = set(intervals)
    return {tier: gpu_fraction((row for row in ledger if row.tier is tier), window_start, window_end) for tier in SlaTier}


def lost_work(started_at: datetime | None, checkpoint_at: datetime | None, stopped_at: datetime, milli: Amount) -> int:
    """Thousandths of an accelerator times seconds since the work was last saved, or since it started if it never was."""
    if started_at is None:
        return 0
    saved_at = max(started_at, checkpoint_at or started_at)
    return milli * max(0, (stopped_at - saved_at) // MILLISECOND) // MILLISECONDS


def _entitled(interval: Interval) -> Amount:
    return 0 if interval.kind is IntervalKind.SUSPENDED else interval.entitled_milli


def _useful(interval: Interval) -> Amount:
    """What it has beyond its entitlement keeps no promise."""
    return min(interval.allocated_milli, interval.entitled_milli) if interval.kind is IntervalKind.RUNNING else 0


def _lost(interval: Interval, window_start: datetime, window_end: datetime) -> int:
    is_inside = interval.ended_at is not None and window_start < interval.ended_at <= window_end
    return interval.lost_milli_seconds * MILLISECONDS if is_inside else 0


def _overlap_milliseconds(interval: Interval, window_start: datetime, window_end: datetime) -> int:
    began = max(interval.began_at, window_start)
    ended = min(interval.ended_at or window_end, window_end)
    return max(0, (ended - began) // MILLISECOND)
