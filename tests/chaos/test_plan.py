"""The plan is a function of seed and seconds, and has every fault."""

import pytest

from tests.chaos.deeds import DEEDS
from tests.chaos.faults import OF_LONG_RUNS, ORDERED, Fault
from tests.chaos.plan import KINDS, LONG_SECONDS, planned


def test_the_same_seed_gives_the_same_plan() -> None:
    assert planned(5, 60) == planned(5, 60)
    assert planned(5, 60) != planned(6, 60)


@pytest.mark.parametrize("seconds", [20, 60, 600])
def test_every_fault_and_every_kind_of_work_is_planned_within_the_time(seconds: float) -> None:
    plan = planned(1, seconds)
    assert plan.faults == set(Fault) - (OF_LONG_RUNS if seconds < LONG_SECONDS else set())
    assert max(strike.at for strike in plan.strikes) < seconds
    assert max(arrival.at for arrival in plan.arrivals) < seconds
    kinds = {kind.__name__ for kind, _ in KINDS}
    assert {arrival.spec.id.rpartition("-")[0] for arrival in plan.arrivals} == kinds


def test_somebody_brings_each_fault_about() -> None:
    assert DEEDS.keys() | ORDERED == set(Fault)
    assert DEEDS.keys() & ORDERED == set()
