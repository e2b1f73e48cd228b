"""Reservations: what is kept for whom, what is lent before, who has to leave, and what is missed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from corral.api import WHOLE, Checkpoint, FixKind, Reason, State
from corral.reservation import Purpose
from domain.advice.fixes import explained_now
from domain.decision import Plan
from domain.pool.bookings import Booking
from domain.pool.fleet import Health
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.builders import (
    NOON,
    a_booking,
    a_node,
    a_queue,
    a_snapshot,
    a_workload,
    nodes,
    seconds,
    started,
    why,
)
from tests.domain.owners_and_guests import HOUR, QUEUES, a_guest, an_owner, every_model, on, opened


def settled_bookings(plan: Plan) -> dict[str, Booking]:
    return {booking.id: booking for booking in plan.bookings}


def told(plan: Plan) -> dict[str, Reason]:
    return {stop.attempt_id: stop.reason for stop in plan.stops}


@every_model
def test_what_is_kept_in_an_open_window_is_used_by_those_it_is_for_alone(policy: Any) -> None:
    night = opened(a_booking(opens_in=-60), "n0")
    guest, owner = a_guest(), an_owner()
    plan = schedule(a_snapshot(nodes(1), QUEUES, guest, owner, policy=policy, bookings=[night]), NOON)
    assert list(started(plan)) == ["own"]
    alone = schedule(a_snapshot(nodes(1), QUEUES, guest, policy=policy, bookings=[night]), NOON)
    assert not started(alone)


def test_who_waits_because_of_a_reservation_is_told_of_it_and_when_it_ends() -> None:
    plan = schedule(a_snapshot(nodes(1), QUEUES, a_guest(), bookings=[opened(a_booking(opens_in=-60), "n0")]), NOON)
    explanation = why(plan, "guest")
    assert explanation.reason is Reason.KEPT_FOR_OTHERS
    window = "reservation night from 2030-06-01 11:59 UTC until 2030-06-01 12:59 UTC"
    assert explanation.message == f"1 node is kept for {window} (h100 in aws eu-west)"


def test_who_could_not_leave_in_time_is_told_to_whom_nodes_are_lent() -> None:
    plan = schedule(a_snapshot(nodes(2), QUEUES, a_guest(preemptible=False), bookings=[a_booking(accelerators=16)]), NOON)
    message = why(plan, "guest").message
    assert message.startswith("2 nodes are kept for reservation night from 2030-06-01 13:00 UTC")
    assert message.endswith("until then lent to work that ends before, or that may be preempted and has some time left")


def test_to_wait_until_the_window_is_over_and_to_be_preemptible_are_offered_as_fixes() -> None:
    snapshot = a_snapshot(nodes(1), QUEUES, a_guest(preemptible=False), bookings=[a_booking()])
    explanation = explained_now("guest", snapshot, NOON)
    assert explanation is not None
    fixes = {fix.kind: fix for fix in explanation.fixes}
    assert fixes[FixKind.WAIT].wait_seconds == 2 * HOUR
    assert fixes[FixKind.BE_PREEMPTIBLE].preemptible


@every_model
@pytest.mark.parametrize(
    ("lent", "fields"),
    [
        (True, {}),
        (False, {"preemptible": False}),
        (True, {"preemptible": False, "maximum_runtime_seconds": HOUR - 60 - 30}),
        (False, {"preemptible": False, "maximum_runtime_seconds": HOUR - 60 - 29}),
        (False, {"checkpoint": Checkpoint(grace_seconds=HOUR - 60 - 599)}),
    ],
    ids=["may be preempted", "may not", "ends in time", "ends too late", "could stay for less than ten minutes"],
)
def test_before_it_opens_capacity_is_lent_to_what_is_gone_in_time(policy: Any, lent: bool, fields: dict[str, Any]) -> None:
    plan = schedule(a_snapshot(nodes(1), QUEUES, a_guest(**fields), policy=policy, bookings=[a_booking()]), NOON)
    assert bool(started(plan)) is lent
    assert settled_bookings(plan)["night"].nodes == ("n0",)


@every_model
def test_what_is_lent_is_taken_back_by_notice_its_grace_before_the_opening(policy: Any) -> None:
    guest = a_guest(checkpoint=Checkpoint(grace_seconds=300)).on((a_node("n0"), 8))
    snapshot = a_snapshot(nodes(1), QUEUES, guest, policy=policy, bookings=[on(a_booking(), "n0")])
    early = schedule(snapshot, NOON + seconds(HOUR - 361))
    assert not told(early)
    assert early.look_at == NOON + seconds(HOUR - 360), "then there is something to do, though nothing else happens"
    assert told(schedule(snapshot, NOON + seconds(HOUR - 360))) == {"guest.1": Reason.RESERVATION_OPENS}


def test_what_is_over_in_time_is_not_told_to_leave() -> None:
    guest = a_guest(maximum_runtime_seconds=2 * HOUR).on((a_node("n0"), 8), started_at=NOON - seconds(2 * HOUR - 60))
    booking = on(a_booking(opens_in=200), "n0")
    assert not told(schedule(a_snapshot(nodes(1), QUEUES, guest, bookings=[booking]), NOON))


def test_who_it_is_for_stays_on_its_nodes() -> None:
    below = [*QUEUES, a_queue("team", nominal=8, parent="owner")]
    own = a_workload("own", queue="team", gpus=8).on((a_node("n0"), 8))
    plan = schedule(a_snapshot(nodes(1), below, own, bookings=[opened(a_booking(opens_in=-60), "n0")]), NOON)
    assert not told(plan)
    assert "night" not in settled_bookings(plan), "all is as it was"


def test_tenants_and_named_workloads_may_be_meant_too() -> None:
    for booking in (
        a_booking(opens_in=-60, queues=(), tenants=("acme",)),
        a_booking(opens_in=-60, queues=(), workloads=("guest",)),
    ):
        snapshot = a_snapshot(nodes(1), QUEUES, a_guest(tenant="acme"), bookings=[opened(booking, "n0")])
        assert started(schedule(snapshot, NOON))


def test_nodes_are_chosen_where_least_has_to_leave_and_in_one_region() -> None:
    fleet = [
        *(a_node(f"a{index}", region="eu") for index in range(2)),
        *(a_node(f"b{index}", region="us") for index in range(3)),
    ]
    busy = a_guest("busy", count=2).on((fleet[2], 8), (fleet[3], 8))
    plan = schedule(a_snapshot(fleet, QUEUES, busy, bookings=[a_booking(accelerators=16)]), NOON)
    assert settled_bookings(plan)["night"].nodes == ("a0", "a1")
    wide = schedule(a_snapshot(fleet, QUEUES, busy, bookings=[a_booking(accelerators=24)]), NOON)
    assert settled_bookings(wide)["night"].nodes == ("b0", "b1", "b2"), "in one region, though two have work that must leave"


def test_no_node_is_kept_that_a_reservation_can_do_without() -> None:
    fleet = [a_node("n0", gpus=2), a_node("n1", gpus=8)]
    large, small = a_booking("large", 8), a_booking("small", 2, booked_at=NOON)
    kept = settled_bookings(schedule(a_snapshot(fleet, QUEUES, bookings=[large, small]), NOON))
    assert (kept["large"].nodes, kept["small"].nodes, kept["small"].missing) == (("n1",), ("n0",), 0)


def test_what_was_chosen_stays_chosen_until_somebody_would_have_to_leave() -> None:
    guest = a_guest().on((a_node("n1"), 8))
    booking = on(a_booking(), "n1")
    snapshot = a_snapshot(nodes(2), QUEUES, guest, bookings=[booking])
    assert "night" not in settled_bookings(schedule(snapshot, NOON))
    late = schedule(snapshot, NOON + seconds(HOUR - 90))
    assert settled_bookings(late)["night"].nodes == ("n0",)
    assert not told(late), "another node is idle"


def test_a_node_that_fails_is_replaced() -> None:
    fleet = [a_node("n0", health=Health.SUSPECT), a_node("n1")]
    plan = schedule(a_snapshot(fleet, QUEUES, bookings=[opened(a_booking(opens_in=-60), "n0")]), NOON)
    night = settled_bookings(plan)["night"]
    assert (night.nodes, night.missing) == (("n1",), 0)


def test_a_later_reservation_takes_nothing_from_an_earlier_one() -> None:
    first = on(a_booking("first"), "n0")
    second = a_booking("second", opens_in=1800, booked_at=NOON)
    after = settled_bookings(schedule(a_snapshot(nodes(1), QUEUES, bookings=[second, first]), NOON))
    assert "first" not in after
    assert after["second"].missing == 8 * WHOLE
    assert "kept for nobody else" in after["second"].cause


def test_windows_that_follow_each_other_share_a_node() -> None:
    first, second = a_booking("first"), a_booking("second", opens_in=2 * HOUR, booked_at=NOON)
    after = settled_bookings(schedule(a_snapshot(nodes(1), QUEUES, bookings=[first, second]), NOON))
    assert {booking.nodes for booking in after.values()} == {("n0",)}
    assert not any(booking.missing for booking in after.values())


def test_capacity_that_is_not_there_at_the_opening_is_a_miss_with_its_cause() -> None:
    stays = a_guest(preemptible=False).on((a_node("n0"), 8))
    plan = schedule(a_snapshot(nodes(2), QUEUES, stays, bookings=[a_booking(accelerators=16)]), NOON + seconds(HOUR))
    night = settled_bookings(plan)["night"]
    assert (night.is_open, night.missing) == (True, 8 * WHOLE)
    assert "on n0" in night.cause
    assert not told(plan), "it may not be preempted"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"sku": "b900"}, "no node of the pool is of SKU b900; there are a100, h100"),
        ({"regions": ("moon", "mars")}, "no node of the pool is of region moon or mars; there are eu-west"),
        ({"providers": ("acme",)}, "no node of the pool is of provider acme; there are aws"),
    ],
)
def test_a_reservation_of_what_nobody_has_says_so_and_what_there_is(asked: Any, said: str) -> None:
    fleet = [*nodes(1), a_node("a", sku="a100")]
    night = settled_bookings(schedule(a_snapshot(fleet, QUEUES, bookings=[a_booking(**asked)]), NOON))["night"]
    assert (night.missing, night.cause) == (8 * WHOLE, said)


def test_work_that_has_notice_and_has_not_left_is_missing_too() -> None:
    leaving = a_guest().on((a_node("n0"), 8), preempted=True, state=State.STOPPING)
    booking = on(a_booking(), "n0")
    snapshot = a_snapshot(nodes(1), QUEUES, leaving, bookings=[booking])
    assert settled_bookings(schedule(snapshot, NOON + seconds(HOUR)))["night"].missing == 8 * WHOLE
    gone = a_snapshot(nodes(1), QUEUES, bookings=[booking])
    assert settled_bookings(schedule(gone, NOON + seconds(HOUR)))["night"].missing == 0


def test_a_flexible_window_opens_as_soon_as_its_capacity_is_there() -> None:
    stays = a_guest(preemptible=False, maximum_runtime_seconds=2 * HOUR).on((a_node("n0"), 8), started_at=NOON)
    booking = a_booking(opens_in=0, flexible=6 * HOUR)
    night = settled_bookings(schedule(a_snapshot(nodes(1), QUEUES, stays, bookings=[booking]), NOON))["night"]
    assert night.opens_at == NOON + seconds(2 * HOUR + 60 + 30), "its runtime, its grace, and until it is seen gone"
    assert night.closes_at - night.opens_at == seconds(HOUR)
    assert (night.is_open, night.missing) == (False, 0)


def test_a_flexible_window_opens_at_the_latest_when_it_said_it_would() -> None:
    stays = a_guest(preemptible=False).on((a_node("n0"), 8))
    booking = a_booking(opens_in=0, flexible=2 * HOUR)
    snapshot = a_snapshot(nodes(1), QUEUES, stays, bookings=[booking])
    plan = schedule(snapshot, NOON)
    assert not settled_bookings(plan)["night"].is_open
    late = settled_bookings(schedule(carried_out(snapshot, plan.bookings), NOON + seconds(2 * HOUR)))["night"]
    assert (late.is_open, late.opens_at, late.missing) == (True, NOON + seconds(2 * HOUR), 8 * WHOLE)


def test_a_flexible_window_that_loses_its_capacity_is_put_off_again_as_far_as_it_may() -> None:
    short = a_guest(preemptible=False, maximum_runtime_seconds=2 * HOUR).on((a_node("n1"), 8), started_at=NOON)
    booking = a_booking(opens_in=0, flexible=6 * HOUR)
    snapshot = a_snapshot(nodes(2), QUEUES, short, bookings=[booking])
    chosen = schedule(snapshot, NOON - seconds(60))
    assert settled_bookings(chosen)["night"].nodes == ("n0",)
    assert settled_bookings(chosen)["night"].opens_at == NOON
    lost = replace(
        carried_out(snapshot, chosen.bookings),
        nodes=tuple(replace(node, health=Health.LOST) if node.id == "n0" else node for node in snapshot.nodes),
    )
    again = settled_bookings(schedule(lost, NOON - seconds(30)))["night"]
    assert (again.nodes, again.missing) == (("n1",), 0)
    assert again.opens_at == NOON + seconds(2 * HOUR + 60 + 30)
    nowhere = replace(lost, nodes=tuple(replace(node, health=Health.LOST) for node in lost.nodes))
    never = settled_bookings(schedule(nowhere, NOON - seconds(30)))["night"]
    assert (never.opens_at, never.missing, never.is_open) == (NOON + seconds(6 * HOUR), 8 * WHOLE, False)


@pytest.mark.parametrize("preemptible", [True, False])
def test_work_is_evacuated_before_maintenance_and_before_a_block_ends(preemptible: bool) -> None:
    upkeep = a_booking("upkeep", opens_in=60, purpose=Purpose.MAINTENANCE, nodes=("n0",))
    ending = [a_node("n0", available_until=NOON + seconds(60))]
    guest = a_guest(preemptible=preemptible).on((a_node("n0"), 8))
    by_window = a_snapshot(nodes(1), QUEUES, guest, bookings=[upkeep])
    by_block = a_snapshot(ending, QUEUES, guest)
    for snapshot in (by_window, by_block):
        assert told(schedule(snapshot, NOON)) == {"guest.1": Reason.NODE_CLOSES}


def test_a_block_that_ends_takes_only_what_is_over_before() -> None:
    ending = [a_node("n0", available_until=NOON + seconds(HOUR))]
    assert started(schedule(a_snapshot(ending, QUEUES, a_guest(maximum_runtime_seconds=1800)), NOON))
    refused = schedule(a_snapshot(ending, QUEUES, a_guest(preemptible=False)), NOON)
    assert why(refused, "guest").reason is Reason.KEPT_FOR_OTHERS
    assert "the end of its block" in why(refused, "guest").message


def test_a_reservation_avoids_nodes_whose_block_ends_within_its_window_and_nodes_in_maintenance() -> None:
    fleet = [a_node("n0", available_until=NOON + seconds(1.5 * HOUR)), a_node("n1"), a_node("n2")]
    upkeep = a_booking("upkeep", hours=2, purpose=Purpose.MAINTENANCE, nodes=("n1",), booked_at=NOON)
    after = settled_bookings(schedule(a_snapshot(fleet, QUEUES, bookings=[a_booking(), upkeep]), NOON))
    assert after["night"].nodes == ("n2",)


@every_model
def test_two_rounds_without_events_change_nothing(policy: Any) -> None:
    guest = a_guest().on((a_node("n0"), 8))
    bookings = [a_booking(), a_booking("other", opens_in=1800, flexible=HOUR, booked_at=NOON)]
    before = a_snapshot(nodes(2), QUEUES, guest, policy=policy, bookings=bookings)
    plan = schedule(before, NOON)
    assert plan.bookings
    assert not schedule(carried_out(before, plan.bookings), NOON).bookings


def carried_out(snapshot: Snapshot, changed: Sequence[Booking]) -> Snapshot:
    known = {booking.id: booking for booking in snapshot.bookings} | {booking.id: booking for booking in changed}
    return replace(snapshot, bookings=tuple(known.values()))
