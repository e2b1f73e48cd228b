"""Pace: how much faster than the wall's the pool's time may run here, so that real delays stay small in it."""

from dataclasses import replace

from worker.demo.scenario import Scenario

TABLES_SECONDS = 1.1
"""What making the tables takes on two slow cores that have nothing else to do, for which the speeds of scenarios are meant."""

SLOWEST = 0.2
"""The least part of its own speed at which a scenario runs: on a machine that is busier still, a run would take too long."""


def paced(scenario: Scenario, tables_seconds: float) -> Scenario:
    """The scenario at its own speed, or slower where this machine took longer than meant to make the tables; a note says so.

    That is work such as decides and writes down rounds, on a machine as busy as it is just now, but of one process. What
    passes through several waits for a core in each: where the tables took 2.6 times as long, starts came 6 times as late.
    """
    share = max(SLOWEST, (TABLES_SECONDS / max(tables_seconds, TABLES_SECONDS)) ** 2)
    if share == 1:
        return scenario
    speed = max(1, round(scenario.clock_speed * share))
    note = (
        f"The pool's time runs {speed:g} times as fast as the wall's here, not {scenario.clock_speed:g} times: "
        f"this machine took {tables_seconds:.1f} s to make the tables, for which {TABLES_SECONDS:g} s are meant."
    )
    return replace(scenario, clock_speed=speed, notes=(*scenario.notes, note))
