"""Loans: what is lent within an open window, who is told to leave when it is wanted, and what is late."""

from dataclasses import replace
from typing import Any

import pytest

from corral.api import WHOLE, Checkpoint, FixKind, Ordering, Reason, ReplicaGroup, StopPolicy
from corral.policy import Limits, QuotaModel
from corral.reservation import Lending, MissKind, Purpose
from domain.advice.fixes import explained_now
from domain.decision import Change, Plan, StartAfter
from domain.pool.bookings import Booking
from domain.pool.fleet import Health, Node
from domain.pool.workload import Active
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.builders import (
    NOON,
    a_booking,
    a_node,
    a_queue,
    a_snapshot,
    by_model,
    nodes,
    nodes_of,
    seconds,
    started,
    why,
)
from tests.domain.owners_and_guests import HOUR, QUEUES, a_guest, an_owner, every_model, on
from tests.properties.situations import carried_out


def night(*its_nodes: str, id: str = "night", accelerators: int = 8, opens_in: float = -60, **fields: Any) -> Booking:
    """An open window of which what is kept is lent until it is wanted."""
    booking = a_booking(id, accelerators=accelerators, opens_in=opens_in, lent=Lending.UNTIL_WANTED, **fields)
    return on(booking, *its_nodes, is_open=opens_in <= 0)


def told(plan: Plan) -> dict[str, tuple[Reason, str | None]]:
    return {stop.attempt_id: (stop.reason, stop.beneficiary) for stop in plan.stops}


def promised(plan: Plan) -> dict[str, StartAfter]:
    return {each.workload_id: each for each in plan.decisions if isinstance(each, StartAfter)}


def booking_of(plan: Plan) -> Booking:
    (booking,) = plan.bookings
    return booking


@every_model
def test_what_nobody_uses_in_an_open_window_is_lent_to_what_may_be_preempted(policy: Any) -> None:
    for guest, lent in ((a_guest(), True), (a_guest(preemptible=False), False)):
        plan = schedule(a_snapshot(nodes(1), QUEUES, guest, policy=policy, bookings=[night("n0")]), NOON)
        assert bool(started(plan)) is lent


@every_model
def test_it_is_lent_to_those_only_whose_notice_is_as_short_as_the_reservation_says(policy: Any) -> None:
    booking = night("n0", notice_seconds=120)
    for grace, lent in ((60, True), (61, False)):
        guest = a_guest(checkpoint=Checkpoint(grace_seconds=grace))
        plan = schedule(a_snapshot(nodes(1), QUEUES, guest, policy=policy, bookings=[booking]), NOON)
        assert bool(started(plan)) is lent


def test_who_needs_longer_leaves_before_the_window_opens_as_ever() -> None:
    booking = night("n0", opens_in=HOUR, notice_seconds=120)
    guest = a_guest(checkpoint=Checkpoint(grace_seconds=300)).on((a_node("n0"), 8))
    plan = schedule(a_snapshot(nodes(1), QUEUES, guest, bookings=[booking]), NOON + seconds(HOUR - 360))
    assert told(plan) == {"guest.1": (Reason.RESERVATION_OPENS, None)}


def test_how_much_is_lent_is_looked_at_every_minute_though_nothing_happens() -> None:
    snapshot = a_snapshot(nodes(1), QUEUES, a_guest().on((a_node("n0"), 8)), bookings=[night("n0")])
    plan = schedule(snapshot, NOON)
    assert (booking_of(plan).lent, plan.look_at) == (8 * WHOLE, NOON + seconds(60))


@every_model
def test_whom_it_is_for_comes_before_guests_of_higher_rank(policy: Any) -> None:
    guest, owner = a_guest(priority=5, submitted_at=NOON - seconds(HOUR)), an_owner(submitted_at=NOON)
    plan = schedule(a_snapshot(nodes(1), QUEUES, guest, owner, policy=policy, bookings=[night("n0")]), NOON)
    assert list(started(plan)) == ["own"]


@every_model
def test_a_guest_leaves_as_soon_as_somebody_has_come_whom_it_is_kept_for(policy: Any) -> None:
    guest = a_guest().on((a_node("n0"), 8))
    idle = a_snapshot(nodes(1), QUEUES, guest, policy=policy, bookings=[replace(night("n0"), lent=8 * WHOLE)])
    plan = schedule(idle, NOON)
    assert (told(plan), plan.bookings) == ({}, ()), "nobody wants it"
    plan = schedule(replace(idle, waiting=(an_owner().waiting(),)), NOON)
    assert told(plan) == {"guest.1": (Reason.LOAN_ENDS, "own")}
    assert nodes_of(promised(plan)["own"].placement) == {"n0": 1}


@every_model
def test_nobody_leaves_where_there_is_other_room_or_quota_is_what_is_missing(policy: Any) -> None:
    guest = a_guest().on((a_node("n0"), 8))
    roomy = schedule(a_snapshot(nodes(2), QUEUES, guest, an_owner(), policy=policy, bookings=[night("n0")]), NOON)
    assert (told(roomy), list(started(roomy))) == ({}, ["own"])
    poor = [a_queue("owner", nominal=4, cap=4), a_queue("guest", nominal=64)]
    plan = schedule(a_snapshot(nodes(1), poor, guest, an_owner(), policy=policy, bookings=[night("n0")]), NOON)
    assert told(plan) == {}


@every_model
def test_of_many_guests_only_those_leave_who_are_in_the_way_and_lose_least(policy: Any) -> None:
    fleet = nodes(3)
    guests = [
        a_guest("high", priority=9).on((fleet[0], 8)),
        a_guest("low").on((fleet[1], 8)),
        a_guest("middle", priority=5).on((fleet[2], 8)),
    ]
    booking = night("n0", "n1", "n2", accelerators=24)
    plan = schedule(a_snapshot(fleet, QUEUES, *guests, an_owner(), policy=policy, bookings=[booking]), NOON)
    assert told(plan) == {"low.1": (Reason.LOAN_ENDS, "own")}
    gang = an_owner("gang", gpus=8, count=2)
    plan = schedule(a_snapshot(fleet, QUEUES, *guests, gang, policy=policy, bookings=[booking]), NOON)
    assert set(told(plan)) == {"low.1", "middle.1"}


def an_elastic_guest(*places: tuple[Node, int], id: str = "guest", **fields: Any) -> Active:
    """So many replicas on each node, of one accelerator each; it runs with two."""
    group = ReplicaGroup(count=sum(count for _, count in places), minimum=2)
    return a_guest(id, gpus=1, groups=[group], **fields).on(*places)


def kept(plan: Plan) -> dict[str, dict[str, int]]:
    """What guests go on with who give back only a part, by node; all of it for whom they do."""
    assert all((each.change, each.beneficiary, each.reason) == SHRINKS_FOR_ITS_OWNER for each in plan.reshapes)
    return {each.attempt_id: nodes_of(each.placement) for each in plan.reshapes}


SHRINKS_FOR_ITS_OWNER = (Change.SHRINK, "own", Reason.LOAN_ENDS)


@every_model
def test_an_elastic_guest_gives_back_as_little_as_is_enough_and_runs_on(policy: Any) -> None:
    fleet, booking = nodes(1), night("n0")
    guest = an_elastic_guest((fleet[0], 8))
    plan = schedule(a_snapshot(fleet, QUEUES, guest, an_owner(gpus=5), policy=policy, bookings=[booking]), NOON)
    assert (told(plan), kept(plan)) == ({}, {"guest.1": {"n0": 3}})
    assert nodes_of(promised(plan)["own"].placement) == {"n0": 1}
    (shrunk,) = plan.reshapes
    its = {device for share in shrunk.placement.shares for replica in share.replicas for device in replica.devices}
    (owners,) = promised(plan)["own"].placement.shares
    assert its.isdisjoint(owners.replicas[0].devices)


@every_model
def test_an_elastic_guest_that_would_have_to_give_back_more_than_its_surplus_leaves(policy: Any) -> None:
    fleet, booking = nodes(1), night("n0")
    guest = an_elastic_guest((fleet[0], 8))
    plan = schedule(a_snapshot(fleet, QUEUES, guest, an_owner(gpus=7), policy=policy, bookings=[booking]), NOON)
    assert (told(plan), kept(plan)) == ({"guest.1": (Reason.LOAN_ENDS, "own")}, {})


@every_model
def test_an_elastic_guest_gives_back_what_it_has_where_somebody_comes(policy: Any) -> None:
    fleet = nodes(2)
    guest = an_elastic_guest((fleet[0], 2), (fleet[1], 8))
    plan = schedule(a_snapshot(fleet, QUEUES, guest, an_owner(), policy=policy, bookings=[night("n1")]), NOON)
    assert (told(plan), kept(plan)) == ({}, {"guest.1": {"n0": 2}})


@every_model
def test_a_guest_keeps_what_it_has_on_a_node_that_the_pool_has_no_more(policy: Any) -> None:
    fleet = nodes(2)
    guest = an_elastic_guest((fleet[0], 2), (fleet[1], 8))
    before = a_snapshot(fleet, QUEUES, guest, an_owner(), policy=policy, bookings=[night("n1")])
    plan = schedule(replace(before, nodes=before.nodes[1:]), NOON)
    assert (told(plan), kept(plan)) == ({}, {"guest.1": {"n0": 2}})


@every_model
def test_of_several_guests_each_gives_back_a_part_or_leaves(policy: Any) -> None:
    fleet, booking = nodes(2), night("n0", "n1", accelerators=16)
    elastic, firm = an_elastic_guest((fleet[0], 8), id="elastic", priority=5), a_guest("firm").on((fleet[1], 8))
    owner = an_owner("own", gpus=6, count=2, minimum=2)
    plan = schedule(a_snapshot(fleet, QUEUES, elastic, firm, owner, policy=policy, bookings=[booking]), NOON)
    assert (told(plan), kept(plan)) == ({"firm.1": (Reason.LOAN_ENDS, "own")}, {"elastic.1": {"n0": 2}})


@every_model
def test_what_is_left_over_is_lent_on_in_the_same_round(policy: Any) -> None:
    fleet = nodes(2)
    guest, more = a_guest().on((fleet[0], 8)), a_guest("more", gpus=4)
    booking = night("n0", "n1", accelerators=16)
    owner = an_owner(gpus=8, count=2, minimum=2)
    plan = schedule(a_snapshot(fleet, QUEUES, guest, more, owner, policy=policy, bookings=[booking]), NOON)
    assert (set(told(plan)), list(started(plan))) == ({"guest.1"}, []), "both nodes are promised"
    one = schedule(a_snapshot(fleet, QUEUES, guest, more, an_owner(gpus=4), policy=policy, bookings=[booking]), NOON)
    assert (told(one), set(started(one))) == ({}, {"own"})
    assert one.unfinished, "the rest is lent when it is known who wants none of it"
    after = schedule(carried_out(a_snapshot(fleet, QUEUES, guest, more, an_owner(gpus=4), bookings=[booking]), one), NOON)
    assert set(started(after)) == {"more"}


def test_own_work_of_lower_rank_is_not_stopped_while_there_are_guests() -> None:
    fleet = nodes(2)
    own, guest = an_owner("low", priority=-5).on((fleet[0], 8)), a_guest(priority=9).on((fleet[1], 8))
    booking = night("n0", "n1", accelerators=16)
    plan = schedule(a_snapshot(fleet, QUEUES, own, guest, an_owner(priority=9), bookings=[booking]), NOON)
    assert set(told(plan)) == {"guest.1"}
    assert plan.preempts == ()


@pytest.mark.parametrize("model", [QuotaModel.RANKED, QuotaModel.COHORTS])
@pytest.mark.parametrize(("ordering", "is_told"), [(Ordering.STRICT_FIFO, False), (Ordering.BEST_EFFORT_FIFO, True)])
def test_a_strict_line_has_nobody_leave_for_whom_it_is_not_the_turn(
    model: QuotaModel, ordering: Ordering, is_told: bool
) -> None:
    queues = [a_queue("owner", nominal=64, ordering=ordering), a_queue("guest", nominal=64)]
    fleet = nodes(2)
    guest, firm = a_guest().on((fleet[0], 8)), a_guest("firm", preemptible=False).on((fleet[1], 8))
    first = an_owner("first", count=2, submitted_at=NOON - seconds(HOUR))
    work = guest, firm, first, an_owner(submitted_at=NOON)
    plan = schedule(a_snapshot(fleet, queues, *work, policy=by_model(model), bookings=[night("n0")]), NOON)
    assert bool(told(plan)) is is_told


def test_who_arrives_is_lent_nothing_that_somebody_in_line_wants_whose_turn_is_another_time() -> None:
    snapshot = a_snapshot(nodes(1), QUEUES, a_guest(), bookings=[night("n0")])
    assert started(schedule(snapshot, NOON))
    behind = replace(snapshot, bystanders=(an_owner().waiting(),))
    assert not started(schedule(behind, NOON))


@pytest.mark.parametrize("model", [QuotaModel.RANKED, QuotaModel.COHORTS])
def test_who_is_promised_what_was_lent_counts_among_the_starts_of_the_round(model: QuotaModel) -> None:
    fleet = nodes(2)
    policy = by_model(model).model_copy(update={"limits": Limits(starts_per_round=1)})
    guest, small = a_guest("guest", 8).on((fleet[0], 8)), a_guest("small", 4)
    busy = a_guest("busy", 4, preemptible=False).on((fleet[1], 4))
    snapshot = a_snapshot(fleet, QUEUES, guest, busy, small, an_owner(), policy=policy, bookings=[night("n0")])
    plan = schedule(snapshot, NOON)
    assert (set(promised(plan)), set(started(plan)), plan.unfinished) == ({"own"}, set(), True)


def test_a_queue_that_is_stopped_wants_nothing_back() -> None:
    held = [a_queue("owner", nominal=64).model_copy(update={"stop": StopPolicy.HOLD}), a_queue("guest", nominal=64)]
    guest = a_guest("guest", gpus=4).on((a_node("n0"), 4))
    plan = schedule(a_snapshot(nodes(1), held, guest, an_owner(), a_guest("more", 4), bookings=[night("n0")]), NOON)
    assert (told(plan), set(started(plan))) == ({}, {"more"})


def test_nobody_is_told_twice_and_the_promise_stands() -> None:
    snapshot = a_snapshot(nodes(1), QUEUES, a_guest().on((a_node("n0"), 8)), an_owner(), bookings=[night("n0")])
    after = noticed(snapshot, schedule(snapshot, NOON))
    more = replace(after, waiting=(a_guest("more").waiting(),))
    plan = schedule(more, NOON + seconds(1))
    assert (told(plan), started(plan)) == ({}, {})


def test_before_it_opens_guests_are_told_in_time_if_somebody_waits_and_stay_otherwise() -> None:
    guest = a_guest(checkpoint=Checkpoint(grace_seconds=300)).on((a_node("n0"), 8))
    booking = night("n0", opens_in=HOUR)
    waits = a_snapshot(nodes(1), QUEUES, guest, an_owner(), bookings=[booking])
    early = schedule(waits, NOON + seconds(HOUR - 361))
    assert (told(early), early.look_at) == ({}, NOON + seconds(HOUR - 360))
    assert set(told(schedule(waits, NOON + seconds(HOUR - 360)))) == {"guest.1"}
    alone = a_snapshot(nodes(1), QUEUES, guest, bookings=[booking])
    opening = schedule(alone, NOON + seconds(HOUR))
    assert told(opening) == {}
    assert (booking_of(opening).is_open, booking_of(opening).missing, booking_of(opening).lent) == (True, 0, 8 * WHOLE)


def test_what_is_lent_is_missing_only_when_it_is_wanted_and_late() -> None:
    snapshot = a_snapshot(nodes(1), QUEUES, a_guest().on((a_node("n0"), 8)), an_owner(), bookings=[night("n0")])
    after = noticed(snapshot, schedule(snapshot, NOON))
    in_time = schedule(after, NOON + seconds(89))
    assert in_time.look_at == NOON + seconds(90), "its grace, and until it is seen gone"
    assert not any(booking.missing for booking in in_time.bookings)
    late = booking_of(schedule(after, NOON + seconds(90)))
    assert (late.missing, late.kind) == (8 * WHOLE, MissKind.LOAN_IS_LATE)
    assert late.cause == "work to which n0 was lent has not left in the time of its notice"


def test_who_may_not_be_preempted_is_missing_at_the_opening_as_ever() -> None:
    stays = a_guest(preemptible=False).on((a_node("n0"), 8))
    plan = schedule(a_snapshot(nodes(1), QUEUES, stays, bookings=[night("n0", opens_in=0)]), NOON)
    assert (booking_of(plan).missing, booking_of(plan).kind) == (8 * WHOLE, MissKind.WORK_STAYS)


def test_when_the_window_is_over_guests_stay() -> None:
    guest = a_guest().on((a_node("n0"), 8))
    plan = schedule(a_snapshot(nodes(1), QUEUES, guest, an_owner(), bookings=[night("n0", opens_in=-2 * HOUR, hours=1)]), NOON)
    assert (told(plan), promised(plan)) == ({}, {})


def test_to_be_preemptible_is_a_fix_within_the_window_too() -> None:
    snapshot = a_snapshot(nodes(1), QUEUES, a_guest(preemptible=False), bookings=[night("n0")])
    explanation = explained_now("guest", snapshot, NOON)
    assert explanation is not None
    assert explanation.reason is Reason.KEPT_FOR_OTHERS
    assert FixKind.BE_PREEMPTIBLE in {fix.kind for fix in explanation.fixes}
    message = why(schedule(snapshot, NOON), "guest").message
    lent = ", lent while it is not wanted to work that may be preempted and leaves within 600 s (h100 in aws"
    assert lent in message


def noticed(snapshot: Snapshot, plan: Plan) -> Snapshot:
    """The world once the plan is committed and nobody has left yet."""
    after = carried_out(snapshot, plan)
    known = {booking.id: booking for booking in after.bookings} | {booking.id: booking for booking in plan.bookings}
    beneficiaries = {stop.attempt_id: f"{stop.beneficiary}.1" for stop in plan.stops}

    def told_now(active: Active) -> Active:
        beneficiary = beneficiaries.get(active.attempt_id)
        return replace(active.stopping(), beneficiary=beneficiary, noticed_at=NOON) if beneficiary else active

    return replace(after, active=tuple(map(told_now, after.active)), bookings=tuple(known.values()))


def test_a_guest_stays_when_who_wanted_its_place_is_gone_before_it_has_left() -> None:
    snapshot = a_snapshot(nodes(1), QUEUES, a_guest().on((a_node("n0"), 8)), an_owner(), bookings=[night("n0")])
    after = noticed(snapshot, schedule(snapshot, NOON))
    gone = replace(after, active=tuple(each for each in after.active if each.id != "own"))
    plan = schedule(gone, NOON + seconds(1))
    assert [keep.attempt_id for keep in plan.keeps] == ["guest.1"]
    assert told(plan) == {}


def test_a_loan_is_called_back_again_by_who_had_called_it_back_before() -> None:
    guest = a_guest().on((a_node("n0"), 8))
    owner = replace(an_owner().waiting(), epoch=1, relieved_by=frozenset({"guest"}))
    snapshot = replace(a_snapshot(nodes(1), QUEUES, guest, bookings=[night("n0")]), waiting=(owner,))
    assert set(told(schedule(snapshot, NOON))) == {"guest.1"}


def test_a_gang_calls_back_what_several_reservations_of_its_queue_lend() -> None:
    fleet = nodes(2)
    guests = [a_guest(f"guest-{index}").on((fleet[index], 8)) for index in range(2)]
    bookings = [night("n0"), replace(night("n1", id="day"), booked_at=NOON)]
    gang = an_owner("gang", count=2)
    plan = schedule(a_snapshot(fleet, QUEUES, *guests, gang, bookings=bookings), NOON)
    assert set(told(plan)) == {"guest-0.1", "guest-1.1"}


def test_what_one_reservation_wants_back_keeps_no_other_from_lending() -> None:
    fleet = nodes(2)
    guest = a_guest().on((fleet[0], 8))
    queues = [*QUEUES, a_queue("third", nominal=64)]
    bookings = [night("n0"), replace(night("n1", id="day", queues=("third",)), booked_at=NOON)]
    snapshot = a_snapshot(fleet, queues, guest, an_owner(priority=-9), a_guest("more"), bookings=bookings)
    plan = schedule(snapshot, NOON)
    assert (set(told(plan)), nodes_of(started(plan)["more"])) == ({"guest.1"}, {"n1": 1})


def test_two_reservations_that_exceed_the_cluster_lend_what_there_is_and_the_later_one_misses_the_rest() -> None:
    fleet = nodes(2)
    first = night("n0", "n1", accelerators=16)
    second = replace(night(id="second", accelerators=16, opens_in=0, queues=("guest",)), booked_at=NOON)
    guest = a_guest().on((fleet[0], 8))
    plan = schedule(a_snapshot(fleet, QUEUES, guest, an_owner(), bookings=[first, second]), NOON)
    after = {booking.id: booking for booking in plan.bookings}
    assert (after["second"].missing, after["second"].kind) == (16 * WHOLE, MissKind.TOO_FEW_NODES)
    assert (told(plan), list(started(plan))) == ({}, ["own"])


def test_maintenance_of_a_node_that_is_lent_moves_the_reservation_and_tells_guests_and_owners() -> None:
    fleet = nodes(3)
    upkeep = a_booking("upkeep", opens_in=60, purpose=Purpose.MAINTENANCE, nodes=("n0", "n1"), booked_at=NOON)
    guest, owner = a_guest().on((fleet[0], 8)), an_owner().on((fleet[1], 8))
    booking = night("n0", "n1", accelerators=16)
    plan = schedule(a_snapshot(fleet, QUEUES, guest, owner, bookings=[booking, upkeep]), NOON)
    assert {attempt: reason for attempt, (reason, _) in told(plan).items()} == {
        "guest.1": Reason.NODE_CLOSES,
        "own.1": Reason.NODE_CLOSES,
    }
    after = {booking.id: booking for booking in plan.bookings}
    assert (after["night"].nodes, after["night"].kind) == (("n2",), MissKind.TOO_FEW_NODES)


def test_a_node_that_fails_while_its_guest_leaves_is_replaced_by_another() -> None:
    snapshot = a_snapshot(nodes(2), QUEUES, a_guest().on((a_node("n0"), 8)), an_owner(), bookings=[night("n0")])
    busy = a_guest("busy", priority=9).on((a_node("n1"), 8))
    full = a_snapshot(nodes(2), QUEUES, a_guest().on((a_node("n0"), 8)), busy, an_owner(), bookings=[night("n0")])
    after = noticed(full, schedule(full, NOON))
    failed = replace(after, nodes=(replace(after.nodes[0], health=Health.SUSPECT), after.nodes[1]))
    plan = schedule(failed, NOON + seconds(1))
    assert (booking_of(plan).nodes, booking_of(plan).missing, booking_of(plan).lent) == (("n1",), 0, 8 * WHOLE)
    back = replace(failed, bookings=plan.bookings, waiting=(an_owner("next").waiting(),))
    assert set(told(schedule(back, NOON + seconds(2)))) == {"busy.1"}
    assert not told(schedule(snapshot, NOON)), "with a node to spare nobody would have had to leave"


@every_model
def test_who_leaves_for_one_may_make_room_for_another_so_that_nobody_leaves_for_that_one(policy: Any) -> None:
    fleet = nodes(1)
    low, high = a_guest("low", gpus=2, priority=1).on((fleet[0], 2)), a_guest("high", gpus=6, priority=2)
    guests = [low, high.on((replace(fleet[0], free=a_node("n0", used=2).free), 6))]
    first, second = an_owner("first", gpus=2), an_owner("second", gpus=4, submitted_at=NOON)
    snapshot = a_snapshot(fleet, QUEUES, *guests, first, second, policy=policy, bookings=[night("n0")])
    plan = schedule(snapshot, NOON)
    assert told(plan) == {"high.1": (Reason.LOAN_ENDS, "second")}
    assert set(promised(plan)) == {"first", "second"}
