"""Who leaves a place next, and what is foreseen of those who have to."""

import pytest

from corral.api import EvacuationForecast, EvacuationOrder, PlaceKind, SlaTier
from domain.operations.evacuation import Resident, foreseen, who_leaves_next
from domain.pool.workload import Active
from tests.builders import NOON, UNPROMISED, a_node, a_queue, a_snapshot, a_workload

OLD, NEW = a_node("aws/old"), a_node("aws/new", region="us-east")


def a_resident(
    id: str, tier: SlaTier = SlaTier.BASIC, priority: int = 0, *, bound: bool = True, leaving: bool = False
) -> Resident:
    return Resident(id, tier, priority, bound, leaving)


def test_the_lowest_tier_and_then_the_lowest_priority_goes_first() -> None:
    residents = [
        a_resident("a", SlaTier.PREMIUM),
        a_resident("b", priority=5),
        a_resident("c"),
        a_resident("d", SlaTier.STANDARD),
    ]
    assert who_leaves_next(residents, 3) == ("c", "b", "d")


def test_those_on_their_way_out_count_and_those_who_have_not_begun_do_not() -> None:
    residents = [a_resident("a", leaving=True), a_resident("b"), a_resident("c"), a_resident("d", bound=False)]
    assert who_leaves_next(residents, 2) == ("d", "b")
    assert who_leaves_next(residents, 1) == ("d",)


def a_forecast(place: str, kind: PlaceKind, *running: Active) -> EvacuationForecast | None:
    order = EvacuationOrder(id="heat", kind=kind, place=place, reason="too hot", who="ada")
    return foreseen(order, a_snapshot([OLD, NEW], [a_queue("research", 32)], *running, policy=UNPROMISED), NOON)


@pytest.mark.parametrize(
    ("kind", "place"),
    [(PlaceKind.NODE, "aws/old"), (PlaceKind.CLUSTER, "aws/eu-west/eu-west-1"), (PlaceKind.REGION, "aws/eu-west")],
)
def test_work_in_the_place_would_go_where_there_is_room(kind: PlaceKind, place: str) -> None:
    inside = a_workload("inside", gpus=8).on((OLD, 8))
    forecast = a_forecast(place, kind, inside)
    assert forecast is not None
    (move,) = forecast.moves
    assert (forecast.nodes, move.workload, move.accelerators, move.to) == (1, "inside", 8, "aws/us-east 8 h100")


def test_of_two_only_one_finds_room_and_the_other_is_told_why_it_waits() -> None:
    low, high = a_workload("low", gpus=4, tier=SlaTier.BASIC), a_workload("high", gpus=4, tier=SlaTier.PREMIUM)
    beside = a_workload("beside", gpus=4, tier=SlaTier.PREMIUM).on((NEW, 4))
    on_old = a_node("aws/old", used=4)
    forecast = a_forecast("aws/old", PlaceKind.NODE, low.on((OLD, 4)), high.on((on_old, 4)), beside)
    assert forecast is not None
    assert [(move.workload, bool(move.to), bool(move.message)) for move in forecast.moves] == [
        ("low", False, True),
        ("high", True, False),
    ]


def test_work_elsewhere_does_not_move() -> None:
    forecast = a_forecast("aws/old", PlaceKind.NODE, a_workload("beside", gpus=4).on((NEW, 4)))
    assert forecast == EvacuationForecast(nodes=1, moves=())


def test_nothing_is_foreseen_of_a_place_that_is_not_there() -> None:
    assert a_forecast("aws/eu-west/other", PlaceKind.CLUSTER) is None
