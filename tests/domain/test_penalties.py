"""What gangs are charged when they start, when that is settled, and what it does to fair shares."""

from dataclasses import replace
from datetime import timedelta
from fractions import Fraction

import pytest

from domain.quota.penalties import charged_beyond, charges, is_shown, outstanding, settlement
from domain.quota.tree import QuotaTree
from domain.round import schedule
from tests.builders import NOON, a_cohort, a_node, a_queue, a_snapshot, a_workload, started

SECONDS = 300


def test_a_gang_is_charged_what_it_would_use_of_each_sku() -> None:
    assert outstanding(charges("w", 1, "research", {"h100": 8_000, "a100": 500}, SECONDS)) == {
        ("research", "a100"): 150_000,
        ("research", "h100"): 2_400_000,
    }
    assert charges("w", 1, "research", {"h100": 8_000}, 0) == []


def test_a_settled_charge_counts_no_more() -> None:
    (first,), (second,) = (charges(id, 1, "research", {"h100": 1_000}, SECONDS) for id in ("first", "second"))
    assert outstanding([first, second, settlement(first)]) == {("research", "h100"): 300_000}
    assert outstanding([first, second, settlement(first), settlement(second)]) == {}


@pytest.mark.parametrize(("seconds", "shows"), [(0, False), (299, False), (300, True), (900, True)])
def test_real_use_shows_when_it_is_as_much_as_was_charged(seconds: int, shows: bool) -> None:
    (charge,) = charges("w", 1, "research", {"h100": 8_000}, SECONDS)
    assert is_shown(charge, 8_000, NOON, NOON + timedelta(seconds=seconds)) is shows
    assert not is_shown(charge, 8_000, None, NOON + timedelta(seconds=seconds))


@pytest.mark.parametrize(("held", "fresh", "beyond"), [(4, 4, 0), (6, 4, 2), (12, 4, 4), (12, 12, 8)])
def test_only_what_is_beyond_nominal_counts_and_the_newest_is_beyond_it_first(held: int, fresh: int, beyond: int) -> None:
    tree = QuotaTree.at(a_cohort(a_queue("guest", 4), nominal=12), NOON)
    charged = outstanding(charges("w", 1, "guest", {"h100": fresh * 1_000}, SECONDS))
    found = charged_beyond(tree, charged, {("guest", "h100"): held * 1_000}, SECONDS)
    assert found == ({"guest": beyond * 1_000 * SECONDS} if beyond else {})


def test_a_cohort_is_charged_for_what_its_queues_have_together_beyond_what_it_owns() -> None:
    tree = QuotaTree.at(a_cohort(a_queue("one", 2), a_queue("other", 2)), NOON)
    charged = outstanding([entry for queue in ("one", "other") for entry in charges(queue, 1, queue, {"h100": 3_000}, 1)])
    held = {("one", "h100"): 3_000, ("other", "h100"): 3_000}
    assert charged_beyond(tree, charged, held, 1) == {"one": 1_000, "other": 1_000, "cohort": 2_000}


def test_what_a_queue_no_longer_has_is_not_charged() -> None:
    tree = QuotaTree.at([a_queue("here", 0)], NOON)
    assert charged_beyond(tree, {("gone", "h100"): 1_000}, {}, SECONDS) == {}


def test_among_equals_who_has_not_just_started_something_is_first() -> None:
    cohort = a_cohort(a_queue("burst", 0), a_queue("modest", 0), nominal=10)
    fleet = {"burst": a_node("n0", gpus=4), "modest": a_node("n1", gpus=4)}
    running = [a_workload(f"{queue}-runs", queue=queue, gpus=4).on((node, 4)) for queue, node in fleet.items()]
    waiting = [a_workload(f"{queue}-{index}", queue=queue, gpus=2) for queue in ("burst", "modest") for index in range(4)]
    snapshot = a_snapshot([*fleet.values(), a_node("free", gpus=2)], cohort, *running, *waiting)
    assert set(started(schedule(snapshot, NOON))) == {"burst-0"}
    charged = outstanding(charges("burst-runs", 1, "burst", {"h100": 4_000}, SECONDS))
    beyond = charged_beyond(QuotaTree.at(cohort, NOON), charged, {("burst", "h100"): 4_000}, SECONDS)
    all_of_an_hour = 10_000 * 3_600
    past = {node: Fraction(amount, all_of_an_hour) for node, amount in beyond.items()}
    assert past == {"burst": Fraction(1, 30)}
    assert set(started(schedule(replace(snapshot, past_use=past), NOON))) == {"modest-0"}
