"""Who may approve what, and until when."""

import pytest

from corral.api import EvacuationOrder, PlaceKind
from corral.policy import Approvals
from domain.operations.approval import why_evacuation, why_not, why_not_approved
from tests.builders import NOON, seconds


@pytest.mark.parametrize(
    ("who", "approvals", "left", "why"),
    [
        ("ben", Approvals(), 1, ""),
        (
            "ada",
            Approvals(),
            1,
            "approve: ada has ordered it; expected somebody else to approve it (--by; --principal where commands are signed)",
        ),
        ("ada", Approvals(by_another=False), 1, ""),
        ("ben", Approvals(), 0, "approve: it had to be approved until 2030-06-01T12:00:00+00:00; order it again"),
    ],
)
def test_somebody_else_has_to_approve_it_in_time(who: str, approvals: Approvals, left: int, why: str) -> None:
    assert why_not_approved({who}, {"ada"}, NOON + seconds(left), approvals, NOON) == why


@pytest.mark.parametrize(
    ("kind", "place", "why"),
    [
        (PlaceKind.REGION, "aws/eu", "emptying a region has to be approved"),
        (PlaceKind.CLUSTER, "aws/eu/eu-1", ""),
        (PlaceKind.NODE, "aws/n1", ""),
    ],
)
def test_the_policy_says_which_places_are_emptied_with_approval_alone(kind: PlaceKind, place: str, why: str) -> None:
    order = EvacuationOrder(id="heat", kind=kind, place=place, reason="hot", who="ada")
    assert why_evacuation(order, Approvals()) == why
    assert why_evacuation(order, Approvals(evacuations=())) == ""


@pytest.mark.parametrize(
    ("verb", "is_over", "awaits", "may_pause", "why"),
    [
        ("abort", True, False, True, "abort: it is so already; only one that is under way can be changed"),
        ("approve", False, False, True, "approve: it is so; only one that awaits approval can be approved or rejected"),
        ("reject", False, True, False, None),
        ("pause", False, True, False, "pause: it is so and cannot be paused; abort it, and order it again"),
        ("resume", False, False, True, None),
        ("abort", False, True, False, None),
    ],
)
def test_why_an_operation_cannot_be_steered_so(
    verb: str, is_over: bool, awaits: bool, may_pause: bool, why: str | None
) -> None:
    assert why_not(verb, "it", "so", is_over=is_over, awaits=awaits, may_pause=may_pause) == why
