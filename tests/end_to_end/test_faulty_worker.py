"""A test that names a step at which no worker can die is told so at once, not when its patience is over."""

import pytest

from tests.end_to_end.crash_points import POINTS, STORE, Point
from tests.end_to_end.faulty_worker import dying_after


def test_each_step_may_be_asked_for_and_has_one_name() -> None:
    steps = [point.step for point in POINTS]
    assert len(steps) == len(set(steps))
    assert dying_after("admit", "opened+taken")[2:] == ("admit", "opened+taken")


def test_a_step_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(LookupError, match=r"no worker can die after evacuate-cordn; the steps are admit, .*evacuate-cordon"):
        dying_after("admit", "opened+evacuate-cordn")


def test_a_step_of_a_method_that_is_not_there_any_more_is_refused() -> None:
    with pytest.raises(LookupError, match="step 'told': PostgresStore has no method 'tell'"):
        Point("told", STORE, "tell")
