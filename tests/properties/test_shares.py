"""Properties of the division into fair shares: it is exact, and nobody's order matters."""

from datetime import timedelta
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from corral.api import WHOLE
from domain.quota_models.deserved.shares import Claim, divide
from tests.builders import LONG_AGO

amounts = st.one_of(st.integers(0, 20).map(lambda number: number * WHOLE), st.integers(0, 20 * WHOLE))

claims = st.lists(
    st.builds(
        Claim,
        name=st.text("abcdef", min_size=1, max_size=3),
        demand=amounts,
        deserved=st.none() | amounts,
        limit=st.none() | amounts,
        weight=st.integers(0, 5),
        priority=st.integers(0, 2),
        created_at=st.none() | st.integers(0, 3).map(lambda days: LONG_AGO + timedelta(days=days)),
    ),
    max_size=6,
    unique_by=lambda claim: claim.name,
)


@given(amounts, claims)
def test_nobody_gets_more_than_they_want_nor_than_their_limit(total: int, asked: list[Claim]) -> None:
    shares = divide(total, asked).shares
    assert all(0 <= shares[claim.name] <= claim.wanted for claim in asked)


@given(amounts, claims)
def test_everybody_gets_what_they_deserve(total: int, asked: list[Claim]) -> None:
    shares = divide(total, asked).shares
    for claim in asked:
        assert shares[claim.name] >= min(total if claim.deserved is None else claim.deserved, claim.wanted)


@given(amounts, claims)
def test_shares_and_the_rest_are_the_total_unless_more_is_deserved_than_there_is(total: int, asked: list[Claim]) -> None:
    division = divide(total, asked)
    deserved = sum(min(total if claim.deserved is None else claim.deserved, claim.wanted) for claim in asked)
    assert sum(division.shares.values()) + division.left == max(total, deserved)


@given(amounts, claims)
def test_nothing_is_left_while_a_queue_with_weight_wants_a_whole_accelerator_more(total: int, asked: list[Claim]) -> None:
    division = divide(total, asked)
    if division.left:
        assert all(claim.wanted == division.shares[claim.name] for claim in asked if claim.weight)


@given(amounts, claims, st.randoms())
def test_the_order_of_queues_changes_nothing(total: int, asked: list[Claim], random: Random) -> None:
    shuffled = list(asked)
    random.shuffle(shuffled)
    assert divide(total, shuffled) == divide(total, asked)
