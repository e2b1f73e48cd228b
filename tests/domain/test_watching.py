"""What is read of a pool in which a change is in force, and which condition is breached."""

import pytest

from corral.api import SlaTier
from corral.policy import Policy
from corral.queue import QueueTree
from corral.rollout import Change, Conditions, Readings, RolloutState
from domain.accounting import Interval, IntervalKind
from domain.disruption_budgets import ForcedStop
from domain.watching import Applied, breach, comes_back, in_force, objection, readings
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


def test_what_is_in_force_of_queues_is_that_of_the_named_ones_alone() -> None:
    team, others = a_queue("team", 8), a_queue("others", 8)
    change = Change(queues=QueueTree(queues=(a_queue("team", 4),)))
    known = in_force(change, Policy(), [team, others])
    assert in_force(change, UNPROMISED, [team, a_queue("others", 1)]) == known
    assert in_force(change, Policy(), [a_queue("team", 4), others]) != known
    assert in_force(change, Policy(), [others]) == ""


def applied(change: Change, before: Change) -> Applied:
    return Applied(change, change.digest, before)


FIRST, A, B, C = (Change(policy=UNPROMISED.model_copy(update={"name": name})) for name in ("first", "a", "b", "c"))


@pytest.mark.parametrize(
    ("over", "returns"),
    [
        ((applied(B, A),), True),
        ((applied(C, B), applied(B, A)), True),
        ((applied(C, B),), False),
        ((applied(C, FIRST),), False),
        ((), False),
    ],
)
def test_a_change_comes_back_when_all_that_lies_over_it_goes_back_to_it(over: tuple[Applied, ...], returns: bool) -> None:
    newest = over[0].change.policy if over else B.policy
    assert newest is not None
    assert comes_back(applied(A, FIRST), over, a_snapshot([NODE], [a_queue("team", 8)], policy=newest)) is returns


def test_queues_come_back_when_all_of_them_do() -> None:
    team, more, less = a_queue("team", 8), a_queue("team", 16), a_queue("team", 4)
    edit, onto = Change(queues=QueueTree(queues=(more,))), Change(queues=QueueTree(queues=(less,)))
    under, over = applied(edit, Change(queues=QueueTree(queues=(team,)))), applied(onto, edit)
    assert comes_back(under, [over], a_snapshot([NODE], [less]))
    assert not comes_back(under, [over], a_snapshot([NODE], [a_queue("team", 5)])), "somebody has edited it by hand"


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


def test_what_is_in_force_is_the_same_in_the_words_of_a_newer_corral() -> None:
    for change in (Change(policy=UNPROMISED), Change(queues=QueueTree(queues=(a_queue("team", 8),)))):
        newer = NewerChange.model_validate(change.model_dump())
        assert newer.digest == change.digest
        assert newer.model_copy(update={"knob": 2}).digest != change.digest
    assert Change(policy=UNPROMISED).digest != Change(policy=Policy()).digest
