"""What is read of a pool in which a change is in force, and which condition is breached."""

from dataclasses import replace

import pytest

from corral.api import QueueTree, SlaTier
from corral.policy import Policy
from corral.rollout import Change, Conditions, Readings, RolloutState
from domain.operations.watching import Blame, Reign, breach, excused, objection, readings
from domain.quota.accounting import Interval, IntervalKind
from domain.quota.disruption_budgets import ForcedStop
from tests.builders import LONG_AGO, NOON, UNPROMISED, a_node, a_queue, a_snapshot, a_workload, seconds

NODE = a_node("aws/a")


def test_readings_count_the_line_the_stops_since_and_broken_promises() -> None:
    short = Interval("short", SlaTier.PREMIUM, "research", IntervalKind.WAITING, 8_000, 0, LONG_AGO, None)
    stops = [ForcedStop(f"v.{age}", "v", "research", SlaTier.BASIC, NOON - seconds(age)) for age in (10, 500, 5_000)]
    runs, waits = a_workload("runs", gpus=4).on((NODE, 4)), a_workload("short", gpus=8, tier=SlaTier.PREMIUM)
    snapshot = a_snapshot([NODE], [a_queue("research", 8)], runs, waits, ledger={"short": (short,)}, stops=stops)
    own = Reign("own", NOON - seconds(600))
    refused = {("research", own.since): 2, ("none", own.since): 1}
    found = readings(snapshot, own, Blame([own], snapshot.queues), NOON, refused=refused, undecided={"research": 1})
    assert found == Readings(live=2, waiting=1, refused=3, stops=2, promises_missed=1, undecided=1)
    longer = Reign("own", NOON - seconds(9_000))
    found = readings(snapshot, longer, Blame([longer], snapshot.queues), NOON, refused={}, undecided={})
    assert found.stops == 2, "of the last hour alone"


# To which roll-out harm is put down


QUEUES = [a_queue("cohort"), a_queue("team", 8, parent="cohort"), a_queue("guests", parent="cohort"), a_queue("others", 8)]
POLICY = Reign("policy", NOON)
OF_TEAM = Reign("of-team", NOON + seconds(100), names=frozenset({"team"}))
OF_OTHERS = Reign("of-others", NOON + seconds(200), until=NOON + seconds(300), names=frozenset({"others"}))
BLAME = Blame([POLICY, OF_TEAM, OF_OTHERS], QUEUES)


@pytest.mark.parametrize(
    ("queue", "after", "on"),
    [
        ("team", -1, None),
        ("team", 0, POLICY),
        ("team", 100, OF_TEAM),
        ("guests", 250, OF_TEAM),
        ("others", 150, POLICY),
        ("others", 200, OF_OTHERS),
        ("others", 300, POLICY),
    ],
)
def test_harm_is_put_down_to_the_last_that_is_about_its_queues(queue: str, after: int, on: Reign | None) -> None:
    assert BLAME.on(queue, NOON + seconds(after)) == on


def test_harm_that_none_is_about_is_put_down_to_the_last_of_all() -> None:
    assert Blame([OF_TEAM, OF_OTHERS], QUEUES).on("unknown", NOON + seconds(250)) == OF_OTHERS


@pytest.mark.parametrize(
    ("own", "after", "is_hidden"),
    [(POLICY, 250, False), (OF_TEAM, 250, False), (OF_OTHERS, 250, False)],
)
def test_one_is_not_hidden_by_others_that_leave_it_anything(own: Reign, after: int, is_hidden: bool) -> None:
    assert BLAME.is_hidden(own, NOON + seconds(after)) is is_hidden


def test_one_is_hidden_while_others_are_about_all_that_it_is_about() -> None:
    later = Reign("later", NOON + seconds(400), until=NOON + seconds(500))
    wide = Reign("wide", NOON + seconds(600), names=frozenset({"guests", "others"}))
    blame = Blame([POLICY, OF_TEAM, later, wide], QUEUES)
    hidden = {
        at: [own.id for own in (POLICY, OF_TEAM) if blame.is_hidden(own, NOON + seconds(at))] for at in (399, 400, 500, 600)
    }
    assert hidden == {399: [], 400: ["policy", "of-team"], 500: [], 600: ["of-team"]}


def test_who_began_to_wait_under_another_is_not_held_against_the_one_below() -> None:
    over = Reign("over", NOON - seconds(100), until=NOON - seconds(10))
    below = Reign("below", NOON - seconds(200))
    waits = [replace(a_workload(f"w{ago}", gpus=8).waiting(), since=NOON - seconds(ago)) for ago in (500, 150, 50, 5)]
    snapshot = replace(a_snapshot([NODE], [a_queue("research", 8)]), waiting=tuple(waits))
    blame = Blame([over, below], snapshot.queues)
    assert readings(snapshot, below, blame, NOON, refused={}, undecided={}).waiting == 3


def test_what_one_has_brought_that_has_ended_is_not_held_against_the_one_below() -> None:
    below, over = Readings(promises_missed=2, undecided=1), Readings(promises_missed=3, undecided=4)
    brought = Readings(promises_missed=8, undecided=3)
    assert excused(below, brought, over) == Readings(promises_missed=7, undecided=1)


# Conditions


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
