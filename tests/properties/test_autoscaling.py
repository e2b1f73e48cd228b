"""Whatever the demand, the size wanted for it stays within bounds, steps and windows, and does not flap."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from corral.api import Autoscale
from domain.elasticity.autoscaling import Course, followed
from tests.builders import NOON

demands = st.floats(0, 200, allow_nan=False)
told = st.lists(st.tuples(st.integers(1, 400), demands), min_size=1, max_size=40)
"""Seconds since the demand before, and the demand."""


@st.composite
def rules(draw: st.DrawFn) -> Autoscale:
    minimum = draw(st.integers(0, 5))
    return Autoscale(
        target=draw(st.sampled_from([0.5, 1.0, 3.0, 10.0])),
        minimum=minimum,
        most=draw(st.integers(max(1, minimum), 20)),
        tolerance=draw(st.sampled_from([0.0, 0.1, 0.3])),
        up_window_seconds=draw(st.sampled_from([0, 60])),
        down_window_seconds=draw(st.sampled_from([0, 60, 300])),
        step_up=draw(st.integers(1, 5)),
        step_down=draw(st.integers(1, 5)),
        period_seconds=draw(st.sampled_from([0, 15, 100])),
    )


def courses(rules: Autoscale, told: Sequence[tuple[int, float]], begin: int | None = None) -> list[Course]:
    """Every course that follows from the demands, the one before them first."""
    at = NOON
    found = [Course.begin(rules.most if begin is None else begin, at, at)]
    for seconds, demand in told:
        at += timedelta(seconds=seconds)
        found.append(followed(found[-1], demand, at, rules))
    return found


@given(rules(), told)
def test_the_size_is_never_beyond_its_bounds(rules: Autoscale, told: list[tuple[int, float]]) -> None:
    assert all(rules.minimum <= course.wanted <= rules.most for course in courses(rules, told))


@given(rules(), told)
def test_every_step_is_bounded_and_none_follows_another_within_the_period(
    rules: Autoscale, told: list[tuple[int, float]]
) -> None:
    for before, after in pairwise(courses(rules, told)):
        assert -rules.step_down <= after.wanted - before.wanted <= max(before.wanted, rules.step_up)
        if after.wanted != before.wanted and before.wanted:
            assert after.as_of - before.changed_at >= timedelta(seconds=rules.period_seconds)


@given(rules(), told, demands, demands)
def test_more_demand_never_asks_for_less(rules: Autoscale, told: list[tuple[int, float]], one: float, other: float) -> None:
    course = courses(rules, told)[-1]
    at = course.as_of + timedelta(seconds=20)
    less, more = sorted((one, other))
    assert followed(course, less, at, rules).wanted <= followed(course, more, at, rules).wanted


@given(rules(), st.lists(st.tuples(st.integers(1, 400), st.floats(-0.99, 0.99)), max_size=40), st.integers(1, 20))
def test_demand_within_the_tolerance_changes_nothing(rules: Autoscale, told: list[tuple[int, float]], begin: int) -> None:
    begin = min(max(begin, rules.minimum), rules.most)
    near = [(seconds, begin * rules.target * (1 + share * rules.tolerance)) for seconds, share in told]
    if rules.tolerance:
        assert {course.wanted for course in courses(rules, near, begin)} == {begin}


@given(rules(), told)
def test_it_shrinks_only_to_what_was_enough_for_the_whole_window(rules: Autoscale, told: list[tuple[int, float]]) -> None:
    found, at = courses(rules, told), NOON
    recommended = [(course.as_of, course.recent[-1][1]) for course in found]
    for number, (before, after) in enumerate(pairwise(found), start=1):
        at = after.as_of
        window = [most for when, most in recommended[: number + 1] if at - when < timedelta(seconds=rules.down_window_seconds)]
        if after.wanted < before.wanted:
            assert after.wanted >= max(window, default=0)


@given(rules(), told, demands)
def test_steady_demand_comes_to_rest_where_it_is_served(rules: Autoscale, told: list[tuple[int, float]], demand: float) -> None:
    found = courses(rules, [*told, *[(400, demand)] * 60])
    *_, before, last = found
    assert before.wanted == last.wanted
    enough = last.wanted * rules.target * (1 + rules.tolerance) >= demand * (1 - 1e-9)
    assert enough or last.wanted == rules.most


@given(rules(), st.lists(demands, min_size=100, max_size=200))
def test_however_often_demand_is_told_little_is_kept(rules: Autoscale, told: list[float]) -> None:
    kept = courses(rules, [(1, demand) for demand in told])[-1].recent
    assert len(kept) <= 2 * (rules.most - rules.minimum) + 1
