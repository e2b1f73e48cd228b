"""What the ledger says about a promise."""

from datetime import datetime
from fractions import Fraction

from corral.api import SlaTier
from domain.quota.accounting import Interval, IntervalKind, by_tier, gpu_fraction, lost_work
from tests.builders import NOON, seconds

HOUR = NOON + seconds(3600)


def an_interval(
    kind: IntervalKind,
    began: float,
    ended: float | None,
    *,
    entitled: int = 8000,
    allocated: int = 0,
    lost: int = 0,
    tier: SlaTier = SlaTier.STANDARD,
    id: str = "w",
) -> Interval:
    end = None if ended is None else NOON + seconds(ended)
    return Interval(id, tier, "research", kind, entitled, allocated, NOON + seconds(began), end, lost)


def fraction(*intervals: Interval, start: datetime = NOON, end: datetime = HOUR) -> Fraction | None:
    return gpu_fraction(intervals, start, end)


WAITED = an_interval(IntervalKind.WAITING, 0, 900)
RAN = an_interval(IntervalKind.RUNNING, 900, 3600, allocated=8000)


def test_waiting_and_starting_are_entitled_but_not_useful() -> None:
    assert fraction(WAITED, RAN) == Fraction(3, 4)
    starting = an_interval(IntervalKind.STARTING, 900, 1800, allocated=8000)
    assert fraction(WAITED, starting, an_interval(IntervalKind.RUNNING, 1800, None, allocated=8000)) == Fraction(1, 2)


def test_suspended_time_is_not_entitled() -> None:
    assert fraction(an_interval(IntervalKind.SUSPENDED, 0, 900), RAN) == 1


def test_over_quota_time_is_not_entitled() -> None:
    assert fraction(an_interval(IntervalKind.RUNNING, 0, 3600, entitled=0, allocated=8000)) is None


def test_more_than_entitled_keeps_no_more_of_the_promise() -> None:
    assert fraction(WAITED, an_interval(IntervalKind.RUNNING, 900, 3600, allocated=64_000)) == Fraction(3, 4)


def test_work_lost_at_a_forced_stop_was_not_useful() -> None:
    stopped = an_interval(IntervalKind.RUNNING, 0, 1800, allocated=8000, lost=900 * 8000)
    assert fraction(stopped, an_interval(IntervalKind.WAITING, 1800, 3600)) == Fraction(1, 4)


def test_a_loss_never_makes_the_total_negative() -> None:
    assert fraction(an_interval(IntervalKind.RUNNING, 0, 10, allocated=8000, lost=10**9)) == 0


def test_only_the_window_counts() -> None:
    ran = an_interval(IntervalKind.RUNNING, -7200, 0, allocated=8000, lost=10**9)
    assert fraction(ran, WAITED, RAN) == fraction(WAITED, RAN)
    assert fraction(RAN, end=NOON) is None


def test_neither_order_nor_repetition_matters() -> None:
    assert fraction(RAN, WAITED, RAN, WAITED) == fraction(WAITED, RAN)


def test_each_tier_has_its_own_fraction() -> None:
    premium = an_interval(IntervalKind.RUNNING, 0, 3600, allocated=8000, tier=SlaTier.PREMIUM, id="p")
    assert by_tier([WAITED, RAN, premium], NOON, HOUR) == {
        SlaTier.PREMIUM: 1,
        SlaTier.STANDARD: Fraction(3, 4),
        SlaTier.BASIC: None,
    }


def test_lost_work_is_what_was_done_since_it_was_last_saved() -> None:
    started, saved, stopped = NOON, NOON + seconds(100), NOON + seconds(130.5)
    assert lost_work(started, saved, stopped, 8000) == 244_000
    assert lost_work(started, None, stopped, 8000) == 1_044_000
    assert lost_work(saved, started, stopped, 1000) == 30_500
    assert lost_work(None, None, stopped, 8000) == 0
