"""What is read of a pool in which a change is in force, and which condition is breached."""

import pytest

from corral.api import SlaTier
from corral.policy import Policy
from corral.queue import QueueTree
from corral.rollout import Change, Conditions, Readings, RolloutState
from domain.accounting import Interval, IntervalKind
from domain.disruption_budgets import ForcedStop
from domain.watching import breach, objection, readings
from tests.builders import LONG_AGO, NOON, UNPROMISED, a_node, a_queue, a_snapshot, a_workload, seconds

NODE = a_node("aws/a")


def test_readings_count_the_line_the_stops_since_and_broken_promises() -> None:
    short = Interval("short", SlaTier.PREMIUM, "research", IntervalKind.WAITING, 8_000, 0, LONG_AGO, None)
    stops = [ForcedStop(f"v.{age}", "v", "research", SlaTier.BASIC, NOON - seconds(age)) for age in (10, 500, 5_000)]
    runs, waits = a_workload("runs", gpus=4).on((NODE, 4)), a_workload("short", gpus=8, tier=SlaTier.PREMIUM)
    snapshot = a_snapshot([NODE], [a_queue("research", 8)], runs, waits, ledger={"short": (short,)}, stops=stops)
    found = readings(snapshot, NOON - seconds(600), NOON, refused=3, undecided=1)
    assert found == Readings(live=2, waiting=1, refused=3, stops=2, promises_missed=1, undecided=1)
    assert readings(snapshot, NOON - seconds(9_000), NOON, refused=0, undecided=0).stops == 2, "of the last hour alone"


AT_FIRST = Readings(live=10, waiting=2, promises_missed=2, undecided=1)


@pytest.mark.parametrize(
    ("conditions", "now", "cause"),
    [
        (Conditions(), Readings(live=4, waiting=4, refused=9, stops=99, promises_missed=9), ""),
        (Conditions(), Readings(undecided=1), ""),
        (Conditions(), Readings(undecided=2), "1 more workloads cannot be decided about, and at most 0 may"),
        (Conditions(waiting_share=0.5), Readings(live=4, waiting=3), "3 of 4 workloads wait (75%), and at most 50% may"),
        (Conditions(waiting_share=0.5), Readings(live=4, waiting=2), ""),
        (Conditions(waiting_share=0.5), Readings(), ""),
        (Conditions(refused=0), Readings(refused=1), "1 workloads were refused, and at most 0 may"),
        (
            Conditions(stops_per_hour=5),
            Readings(stops=6),
            "6 workloads had to leave or move for others within an hour, and at most 5 may",
        ),
        (Conditions(promises_missed=0), Readings(promises_missed=2), ""),
        (
            Conditions(promises_missed=0),
            Readings(promises_missed=3),
            "1 more workloads fall short of their promise, and at most 0 may",
        ),
    ],
)
def test_a_breach_says_how_much_it_is_and_how_much_may_be(conditions: Conditions, now: Readings, cause: str) -> None:
    assert breach(conditions, AT_FIRST, now) == cause


@pytest.mark.parametrize(
    ("verb", "state", "why"),
    [
        ("abort", RolloutState.WATCHING, None),
        ("abort", RolloutState.AWAITING, None),
        ("approve", RolloutState.AWAITING, None),
        ("approve", RolloutState.WATCHING, "only one that awaits approval can be approved or rejected"),
        ("pause", RolloutState.WATCHING, "cannot be paused"),
        ("abort", RolloutState.DONE, "is done already"),
    ],
)
def test_how_a_roll_out_may_be_steered_depends_on_its_state(verb: str, state: RolloutState, why: str | None) -> None:
    problem = objection(verb, "r", state)
    assert problem is None if why is None else problem is not None and why in problem


class NewerChange(Change):
    """As a later Corral may have it."""

    knob: int = 1


def test_a_change_is_the_same_in_the_words_of_a_newer_corral() -> None:
    for change in (Change(policy=UNPROMISED), Change(queues=QueueTree(queues=(a_queue("team", 8),)))):
        newer = NewerChange.model_validate(change.model_dump())
        assert newer.digest == change.digest
        assert newer.model_copy(update={"knob": 2}).digest != change.digest
    assert Change(policy=UNPROMISED).digest != Change(policy=Policy()).digest
