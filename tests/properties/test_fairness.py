"""What holds of fair shares, whatever is divided and whoever wants it."""

from fractions import Fraction
from itertools import product
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from domain.quota.fairness import Claim, FairShares, fill, worn
from domain.quota.tree import QuotaTree
from tests.builders import NOON, a_cohort, a_queue
from tests.properties.situations import STABLE

NAMES = ("a", "b", "c")

claims = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), min_size=1, max_size=3).map(
    lambda rows: [Claim(name, Fraction(weight), wants) for name, (weight, wants) in zip(NAMES, rows, strict=False)]
)
surpluses = st.integers(0, 12).map(Fraction)


@STABLE
@given(surpluses, claims)
def test_all_is_divided_that_anybody_wants(surplus: Fraction, wanting: list[Claim]) -> None:
    shares = fill(surplus, wanting)
    assert sum(shares.values()) == min(surplus, sum(claim.wants for claim in wanting))
    assert all(0 <= shares[claim.name] <= claim.wants for claim in wanting)


@STABLE
@given(surpluses, claims, st.randoms(use_true_random=False))
def test_the_order_of_claims_changes_nothing(surplus: Fraction, wanting: list[Claim], random: Random) -> None:
    assert fill(surplus, random.sample(wanting, len(wanting))) == fill(surplus, wanting)


@STABLE
@given(st.integers(0, 8), claims)
def test_no_other_division_is_fairer(surplus: int, wanting: list[Claim]) -> None:
    """Max-min by brute force: of all divisions in whole parts, none gives the worse off more."""
    weighty = [claim for claim in wanting if claim.weight]
    shares = fill(Fraction(surplus), weighty)
    mine = sorted(shares[claim.name] / claim.weight for claim in weighty)
    for parts in product(*(range(claim.wants + 1) for claim in weighty)):
        if sum(parts) <= surplus:
            assert sorted(part / claim.weight for part, claim in zip(parts, weighty, strict=True)) <= mine


@STABLE
@given(surpluses, claims, st.integers(1, 3))
def test_more_weight_never_means_less(surplus: Fraction, wanting: list[Claim], more: int) -> None:
    first, *others = wanting
    heavier = first._replace(weight=first.weight + more)
    assert fill(surplus, [heavier, *others])[first.name] >= fill(surplus, wanting)[first.name]


@STABLE
@given(st.lists(st.integers(0, 5), min_size=3, max_size=3), st.lists(st.integers(0, 4), min_size=3, max_size=3))
def test_more_past_use_never_means_more_weight(weights: list[int], quarters: list[int]) -> None:
    known = dict(zip(NAMES, weights, strict=True))
    past = {name: Fraction(used, 4) for name, used in zip(NAMES, quarters, strict=True)}
    fresh, used = worn(known, {}, Fraction(1)), worn(known, past, Fraction(1))
    assert all(0 <= used[name] <= fresh[name] for name in NAMES)
    assert worn(known, past, Fraction(0)) == {
        name: Fraction(weight, sum(weights)) if sum(weights) else 0 for name, weight in known.items()
    }


@STABLE
@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 12), st.integers(0, 3)), min_size=3, max_size=3),
    st.lists(st.integers(0, 4), min_size=3, max_size=3),
)
def test_history_never_touches_what_is_owned(rows: list[tuple[int, int, int]], quarters: list[int]) -> None:
    queues = a_cohort(
        *(a_queue(name, nominal, weight=weight) for name, (nominal, _, weight) in zip(NAMES, rows, strict=True)), nominal=4
    )
    tree = QuotaTree.at(queues, NOON)
    demand = {name: wants * 1_000 for name, (_, wants, _) in zip(NAMES, rows, strict=True)}
    past = {name: Fraction(used, 4) for name, used in zip(NAMES, quarters, strict=True)}
    surplus = FairShares.of(tree, demand, past).surplus
    owned = {name: min(demand[name], nominal * 1_000) for name, (nominal, _, _) in zip(NAMES, rows, strict=True)}
    pool = 4_000 + sum(nominal * 1_000 for nominal, _, _ in rows)
    assert sum(owned.values()) + sum(surplus[name] for name in NAMES) == min(pool, sum(demand.values()))
    assert all(0 <= surplus[name] <= demand[name] - owned[name] for name in NAMES)
