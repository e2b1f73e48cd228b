"""Mandates: what may be signed for a schedule, and what may be ordered by it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from corral.api import PlaceKind
from corral.schedule import MOST_CHARACTERS, RecurringEvacuation, Revocation, ScheduleSpec
from domain.calendar.cron import BadCron
from domain.operations.mandates import BadMandate, Mandate, require_signable, why_not_due

NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
LONGEST = 90 * DAY


def a_schedule(**more: Any) -> ScheduleSpec:
    place = RecurringEvacuation(kind=PlaceKind.CLUSTER, place="sim/eu/eu-1")
    said = {"cron": "0 * * * *", "until": NOW + 30 * DAY, "pool": "main", "reason": "patches", "who": "ada"}
    return ScheduleSpec(**({"id": "patches", "evacuate": place} | said | more))


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"until": None}, "until: what is signed for a schedule ends some time; say until when"),
        ({"until": NOW}, "until: 2030-06-01T12:00:00\\+00:00 is over"),
        ({"until": NOW + 91 * DAY}, "is too far away; the policy in force allows 2030-08-30T12:00:00"),
        ({"pool": "other"}, "pool: 'other' is not this pool; expected 'main'"),
        ({"pool": None}, "pool: None is not this pool"),
    ],
)
def test_what_has_no_end_or_is_for_another_pool_cannot_be_signed(more: dict[str, Any], problem: str) -> None:
    require_signable(a_schedule(), "main", LONGEST, NOW)
    with pytest.raises(BadMandate, match=problem):
        require_signable(a_schedule(**more), "main", LONGEST, NOW)


@pytest.mark.parametrize("more", [{"cron": "@every hour"}, {"time_zone": "Mars/Olympus"}])
def test_times_that_nobody_can_tell_cannot_be_signed(more: dict[str, Any]) -> None:
    with pytest.raises(BadCron):
        require_signable(a_schedule(**more), "main", LONGEST, NOW)


def why(due_at: datetime, *, now: datetime = NOW, **more: Any) -> str:
    mandate: dict[str, Any] = {"spec": a_schedule(), "signed_at": NOW - DAY, "longest": LONGEST}
    return why_not_due(Mandate(**(mandate | more)), due_at, now, late=HOUR)


def test_it_may_be_ordered_at_a_time_of_its_schedule_and_soon_after() -> None:
    assert why(NOW) == ""
    assert why(NOW, now=NOW + HOUR) == ""
    assert why(NOW, now=NOW - timedelta(seconds=59)) == "", "clocks differ"


def test_an_interval_has_times_as_well() -> None:
    every = a_schedule(cron="@every 6h")
    require_signable(every, "main", LONGEST, NOW)
    assert why(NOW, spec=every) == ""
    assert "is no time of its schedule (@every 6h UTC)" in why(NOW - HOUR, spec=every)
    assert "is yet to come" in why(NOW + 6 * HOUR, spec=every)


def test_out_of_turn_it_says_how_to_order_it_all_the_same() -> None:
    for refused in (why(NOW - timedelta(seconds=1)), why(NOW - 2 * HOUR)):
        assert refused.endswith("; whoever wants it now signs for that: corral schedule trigger patches")


def test_what_is_ordered_out_of_turn_is_of_no_time_of_its_schedule_and_in_the_name_of_whoever_orders_it() -> None:
    spec = a_schedule(id="p" * MOST_CHARACTERS)
    order = spec.order_now(NOW, who="ben", reason="a leak")
    assert order.id == f"{spec.id}-now-20300601-120000"
    assert spec.due_at(order.id) is None
    assert (order.who, order.reason) == ("ben", "a leak")
    assert order.model_copy(update={"id": "x", "who": "ada", "reason": "patches"}) == spec.order("x")
    assert spec.order_now(NOW, who="ben").reason == "patches"
    assert type(order).model_validate(order.model_dump()) == order


@pytest.mark.parametrize(
    ("problem", "due_at", "more"),
    [
        ("is no time of its schedule", NOW - timedelta(minutes=1), {}),
        ("is yet to come", NOW + HOUR, {}),
        ("was more than 3600 s ago", NOW - 2 * HOUR, {}),
        ("after the time that this is for", NOW, {"signed_at": NOW + timedelta(seconds=1)}),
        ("it has ended at 2030-07-01T12:00:00", NOW + 31 * DAY, {"now": NOW + 31 * DAY}),
        ("it has ended at 2030-06-01T11:00:00", NOW, {"longest": 23 * HOUR}),
        ("revoked, as ben left", NOW, {"revoked": "revoked, as ben left"}),
    ],
)
def test_it_may_not_be_ordered_outside_of_its_schedule(problem: str, due_at: datetime, more: dict[str, Any]) -> None:
    assert problem in why(due_at, **more)


def test_an_order_says_in_its_id_for_which_time_it_is() -> None:
    spec = a_schedule()
    order = spec.order_at(NOW)
    assert order.id == "patches-20300601-120000"
    assert spec.due_at(order.id) == NOW
    assert spec.due_at("patches-today") is None


def test_whatever_is_signed_has_a_mandate_of_its_own() -> None:
    spec = a_schedule()
    assert spec.mandate == a_schedule().mandate
    others = [a_schedule(**more) for more in ({"until": NOW + DAY}, {"pool": "other"}, {"cron": "@daily"}, {"reason": "x"})]
    assert len({each.mandate for each in (spec, *others)}) == 5


def test_a_revocation_is_of_one_mandate_or_of_a_schedule() -> None:
    for wrong in ({}, {"mandate": "m", "schedule": "s"}):
        with pytest.raises(ValueError, match="expected either mandate or schedule"):
            Revocation(reason="x", **wrong)
