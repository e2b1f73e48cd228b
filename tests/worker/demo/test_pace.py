"""The clock of a demonstration runs as fast as the machine allows, and the report says so."""

import pytest

from corral.api import QueueSpec, QueueTree
from worker.demo.pace import SLOWEST, TABLES_SECONDS, paced
from worker.demo.scenario import Scenario
from worker.fleet_file import DEFAULT_FLEET, read_fleet

QUEUES = QueueTree(queues=(QueueSpec(name="research"),))
SCENARIO = Scenario("a day", 45.0, read_fleet(DEFAULT_FLEET), QUEUES, (), notes=("it is short",))


@pytest.mark.parametrize("seconds", [0.0, 0.5, TABLES_SECONDS])
def test_a_machine_that_is_fast_enough_lets_it_run_as_meant(seconds: float) -> None:
    assert paced(SCENARIO, seconds, load=1) == SCENARIO


def test_a_machine_that_takes_half_as_long_again_lets_it_run_less_than_half_as_fast_and_that_is_noted() -> None:
    slowed = paced(SCENARIO, 1.5 * TABLES_SECONDS, load=0)
    assert slowed.clock_speed == 20
    assert slowed.notes[0] == "it is short"
    assert slowed.notes[1].startswith("The pool's time runs 20 times as fast as the wall's here, not 45 times")


def test_a_machine_that_has_much_else_to_do_lets_it_run_in_proportion_though_the_tables_came_at_once() -> None:
    slowed = paced(SCENARIO, 0.5, load=3)
    assert slowed.clock_speed == 15
    assert slowed.notes[1].endswith("and 3.0 processes wanted each core.")


def test_however_slow_a_machine_is_the_run_comes_to_its_end() -> None:
    assert paced(SCENARIO, 1_000.0, load=1_000).clock_speed == SLOWEST * SCENARIO.clock_speed


def test_the_pools_time_is_never_slower_than_the_walls() -> None:
    assert paced(Scenario("a slow one", 2.0, SCENARIO.fleet, QUEUES, ()), 1_000.0, load=1_000).clock_speed == 1
