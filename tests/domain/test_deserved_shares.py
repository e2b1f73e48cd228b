"""Fair shares of the quota model `deserved`: what each queue may expect of one SKU."""

from datetime import timedelta
from typing import Any

from corral.api import WHOLE
from domain.quota_models.deserved.shares import Claim, divide, divide_tree
from tests.builders import LONG_AGO


def a_claim(name: str, *, wants: float, deserves: float | None = 0, limit: float | None = None, **fields: Any) -> Claim:
    """A queue's claim, in accelerators."""
    return Claim(
        name,
        demand=round(wants * WHOLE),
        deserved=None if deserves is None else round(deserves * WHOLE),
        limit=None if limit is None else round(limit * WHOLE),
        **fields,
    )


def shares(total: float, *claims: Claim) -> dict[str, float]:
    return {name: milli / WHOLE for name, milli in divide(round(total * WHOLE), claims).shares.items()}


def test_everybody_gets_what_they_deserve_and_want_even_beyond_the_fleet() -> None:
    rich, modest = a_claim("rich", wants=8, deserves=6), a_claim("modest", wants=1, deserves=6)
    assert shares(4, rich, modest) == {"rich": 6, "modest": 1}


def test_a_queue_that_deserves_without_bound_takes_the_fleet_and_no_more() -> None:
    assert shares(4, a_claim("everything", wants=9, deserves=None)) == {"everything": 4}


def test_a_limit_caps_the_share_and_the_rest_is_left() -> None:
    division = divide(3 * WHOLE, [a_claim("capped", wants=5, deserves=3, limit=2)])
    assert (division.shares["capped"], division.left) == (2 * WHOLE, 1 * WHOLE)


def test_surplus_goes_by_weight() -> None:
    light, heavy = a_claim("light", wants=6, deserves=2, weight=1), a_claim("heavy", wants=6, deserves=2, weight=3)
    assert shares(8, light, heavy) == {"light": 3, "heavy": 5}


def test_surplus_goes_to_the_queue_of_higher_priority_first_whatever_its_weight() -> None:
    first, second = a_claim("first", wants=6, priority=2, weight=1), a_claim("second", wants=6, priority=1, weight=9)
    assert shares(8, first, second) == {"first": 6, "second": 2}


def test_a_queue_of_weight_zero_gets_no_surplus() -> None:
    assert shares(8, a_claim("owner", wants=8, deserves=3, weight=0)) == {"owner": 3}


def test_what_a_satisfied_queue_leaves_is_divided_again() -> None:
    small, one, other = a_claim("small", wants=1), a_claim("one", wants=9), a_claim("other", wants=9)
    assert shares(9, small, one, other) == {"small": 1, "one": 4, "other": 4}


def test_a_share_below_the_demand_is_a_whole_number_and_the_largest_remainder_rounds_up() -> None:
    light, heavy = a_claim("light", wants=10, deserves=2, weight=1), a_claim("heavy", wants=10, deserves=2, weight=4)
    assert shares(11, light, heavy) == {"light": 3, "heavy": 8}


def test_of_equal_remainders_the_older_queue_has_the_first() -> None:
    younger = a_claim("a", wants=6, created_at=LONG_AGO + timedelta(days=1))
    older = a_claim("b", wants=6, created_at=LONG_AGO)
    assert shares(7, younger, older) == {"a": 3, "b": 4}


def test_queues_divide_what_their_department_is_given() -> None:
    departments = [a_claim("rich", wants=6, deserves=4, weight=0), a_claim("poor", wants=6, deserves=2, weight=0)]
    queues = {"rich": [a_claim("one", wants=3), a_claim("two", wants=3)], "poor": [a_claim("three", wants=6)]}
    divided = divide_tree(6 * WHOLE, departments, lambda name: queues.get(name, []))
    assert divided == {"rich": 4_000, "poor": 2_000, "one": 2_000, "two": 2_000, "three": 2_000}
