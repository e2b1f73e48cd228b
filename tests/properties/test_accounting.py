"""What holds of every ledger."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from corral.api import SlaTier
from domain.quota.accounting import Interval, IntervalKind, by_tier, gpu_fraction
from tests.builders import NOON, seconds
from tests.properties.situations import STABLE

moments = st.integers(-100, 200).map(lambda after: NOON + seconds(after))
intervals = st.builds(
    Interval,
    workload_id=st.sampled_from("ab"),
    tier=st.sampled_from(SlaTier),
    queue=st.just("research"),
    kind=st.sampled_from(IntervalKind),
    entitled_milli=st.integers(0, 8000),
    allocated_milli=st.integers(0, 9000),
    began_at=moments,
    ended_at=st.none() | moments,
    lost_milli_seconds=st.integers(0, 10**5),
)
WINDOW = NOON, NOON + seconds(100)


@STABLE
@given(st.lists(intervals, min_size=1), st.randoms(use_true_random=False))
def test_the_fraction_does_not_change_with_order_or_repetition(ledger: list[Interval], random: Random) -> None:
    repeated = [*ledger, *random.choices(ledger, k=len(ledger))]
    random.shuffle(repeated)
    assert gpu_fraction(repeated, *WINDOW) == gpu_fraction(ledger, *WINDOW)
    assert by_tier(repeated, *WINDOW) == by_tier(ledger, *WINDOW)


@STABLE
@given(st.lists(intervals))
def test_the_fraction_is_one_at_most_and_never_negative(ledger: list[Interval]) -> None:
    fraction = gpu_fraction(ledger, *WINDOW)
    assert fraction is None or 0 <= fraction <= 1
