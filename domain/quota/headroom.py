"""Headroom: what a promise leaves to take, and what a stop would cost it (`semantics.md` 5)."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from fractions import Fraction

from corral.policy import Rank
from domain.pool.fleet import Amount
from domain.pool.workload import Active
from domain.quota.accounting import MILLISECONDS, Interval, account, lost_work

CONTROL_WINDOW = timedelta(hours=1)
"""The time over which a promise is kept or broken, as far as decisions go."""

MilliSeconds = int
"""Thousandths of an accelerator times seconds."""


def headroom(intervals: Iterable[Interval], guarantee: float, now: datetime) -> MilliSeconds:
    """H = useful - guarantee * entitled over the control window; negative when the promise is not kept."""
    sums, promised = account(intervals, now - CONTROL_WINDOW, now), Fraction(str(guarantee))
    left = sums.useful * promised.denominator - promised.numerator * sums.entitled
    return left // (promised.denominator * MILLISECONDS)


def stop_cost(active: Active, rank: Rank, now: datetime) -> MilliSeconds:
    """C = n * (lost + grace + restart + expected requeue) of stopping the attempt now. Work that has not started loses none."""
    lost = lost_work(active.started_at, active.checkpoint_at, now, active.milli)
    return lost + active.milli * (active.spec.checkpoint.grace_seconds + rank.restart_seconds + rank.requeue_seconds)


def cost_per_usable(cost: MilliSeconds, usable: Amount) -> Fraction:
    """What each accelerator costs that its beneficiary can really use, in seconds."""
    return Fraction(cost, max(1, usable))
