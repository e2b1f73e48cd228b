"""Pace: how much faster than the wall's the pool's time may run here, so that real delays stay small in it."""

from dataclasses import replace

from worker.demo.scenario import Scenario

TABLES_SECONDS = 1.1
"""What making the tables takes on two slow cores that have nothing else to do, for which the speeds of scenarios are meant."""

SLOWEST = 0.2
"""The least part of its own speed at which a scenario runs: on a machine that is busier still, a run would take too long."""


def paced(scenario: Scenario, tables_seconds: float, load: float) -> Scenario:
    """The scenario at its own speed, or slower where this machine is slow or busy just now; a note says so.

    The tables are made by work such as decides and writes down rounds, but of one process. What passes through several waits
    for a core in each: where the tables took 2.6 times as long, starts came 6 times as late. `load` is how many processes want
    each core: a run needs all cores for long, and gets its part of them, while the tables alone may be made at once.
    """
    slow = (TABLES_SECONDS / max(tables_seconds, TABLES_SECONDS)) ** 2
    share = max(SLOWEST, min(slow, 1 / max(load, 1.0)))
    if share == 1:
        return scenario
    speed = max(1, round(scenario.clock_speed * share))
    note = (
        f"The pool's time runs {speed:g} times as fast as the wall's here, not {scenario.clock_speed:g} times: this machine "
        f"took {tables_seconds:.1f} s to make the tables ({TABLES_SECONDS:g} s are meant), "
        f"and {load:.1f} processes wanted each core."
    )
    return replace(scenario, clock_speed=speed, notes=(*scenario.notes, note))
