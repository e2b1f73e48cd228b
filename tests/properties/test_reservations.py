"""Whatever is reserved: only who may uses what is kept, nobody leaves without cause, and rounds are settled at once."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.policy import QuotaModel
from corral.reservation import Lending, Purpose
from domain.calendar.reservations import settled
from domain.decision import Plan, Start, StartAfter
from domain.pool.bookings import Booking, Engagement, engagements
from domain.pool.claimant import Claimant
from domain.pool.fleet import Placement
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.builders import LONG_AGO, NOON, a_booking, by_model, seconds
from tests.properties.situations import QUEUES, SKUS, STABLE, carried_out, check_room, worlds

MINUTES = (-30, -1, 0, 1, 5, 30, 600)
models = st.sampled_from(list(QuotaModel))


@st.composite
def bookings(draw: st.DrawFn, name: str) -> Booking:
    purpose = draw(st.sampled_from((Purpose.CAPACITY, Purpose.CAPACITY, Purpose.CAPACITY, Purpose.MAINTENANCE)))
    asked: dict[str, Any] = (
        {
            "sku": draw(st.sampled_from(SKUS)),
            "queues": draw(st.sampled_from(((QUEUES[0],), QUEUES[:2], ("cohort",)))),
            "lent": draw(st.sampled_from(Lending)),
        }
        if purpose is Purpose.CAPACITY
        else {"nodes": draw(st.sampled_from((("n0",), ("n1", "n2"))))}
    )
    return a_booking(
        name,
        draw(st.integers(1, 8)),
        purpose=purpose,
        opens_in=60 * draw(st.sampled_from(MINUTES)),
        flexible=60 * draw(st.sampled_from((0, 0, 10))),
        booked_at=LONG_AGO + seconds(draw(st.integers(0, 2))),
        **asked,
    )


@st.composite
def reserved(draw: st.DrawFn) -> Snapshot:
    """A world in which some capacity is reserved, under any model, and some blocks end."""
    world = draw(worlds)
    rank = by_model(draw(models)).rank.quota_model
    policy = world.policy.model_copy(update={"rank": world.policy.rank.model_copy(update={"quota_model": rank})})
    ends = [draw(st.sampled_from((None, None, NOON + seconds(100), NOON + seconds(9_000)))) for _ in world.nodes]
    nodes = tuple(replace(node, available_until=end) for node, end in zip(world.nodes, ends, strict=True))
    booked = tuple(draw(bookings(f"b{number}")) for number in range(draw(st.integers(1, 3))))
    return replace(world, policy=policy, nodes=nodes, bookings=booked)


def after_round(snapshot: Snapshot, plan: Plan) -> Snapshot:
    """The world right after the plan was committed, with what it keeps and whom it told."""
    told = {stop.attempt_id for stop in plan.stops}
    kept = {booking.id: booking for booking in (*snapshot.bookings, *plan.bookings)}
    after = carried_out(snapshot, plan)
    active = tuple(each.stopping() if each.attempt_id in told else each for each in after.active)
    return replace(after, active=active, bookings=tuple(kept.values()))


def paths(snapshot: Snapshot) -> dict[str, tuple[str, ...]]:
    return {queue.name: (queue.name, queue.parent or queue.name) for queue in snapshot.queues}


def new_places(snapshot: Snapshot, plan: Plan) -> Iterable[tuple[Claimant, Placement, frozenset[str]]]:
    """Workloads with the places that they get, and the nodes that they had before."""
    waiting = {workload.id: workload for workload in snapshot.waiting}
    running = {active.attempt_id: active for active in snapshot.active}
    for decision in plan.decisions:
        if isinstance(decision, Start | StartAfter):
            yield waiting[decision.workload_id], decision.placement, frozenset()
    for reshape in plan.reshapes:
        active = running[reshape.attempt_id]
        yield active, reshape.placement, frozenset(share.node_id for share in active.placement.shares)


@STABLE
@given(reserved())
def test_nobody_starts_where_capacity_is_kept_for_others(snapshot: Snapshot) -> None:
    plan = schedule(snapshot, NOON)
    after = after_round(snapshot, plan)
    check_room(after)
    engaged, limits = engagements(after.bookings, after.nodes), snapshot.policy.limits
    for workload, placement, had in new_places(snapshot, plan):
        for share in placement.shares:
            if share.node_id not in had:
                closed = [each for each in engaged.get(share.node_id, ()) if each.closes_at > NOON]
                assert all(each.admits(workload, paths(snapshot), NOON, limits) for each in closed)


@STABLE
@given(reserved())
def test_who_leaves_is_on_nodes_kept_for_others_and_may_be_told(snapshot: Snapshot) -> None:
    found = settled(snapshot, NOON)
    engaged = engagements(found.snapshot.bookings, snapshot.nodes)
    active = {each.attempt_id: each for each in snapshot.active}
    for stop in found.stops:
        victim = active[stop.attempt_id]
        its = [each for share in victim.placement.shares for each in engaged.get(share.node_id, ())]
        assert any(_drives_out(each, victim, snapshot) for each in its)


@STABLE
@given(reserved())
def test_a_loan_is_called_back_from_who_is_in_the_way_of_whom_it_is_promised_to(snapshot: Snapshot) -> None:
    plan = schedule(snapshot, NOON)
    engaged, limits = engagements(after_round(snapshot, plan).bookings, snapshot.nodes), snapshot.policy.limits
    active = {each.attempt_id: each for each in snapshot.active}
    promised = {each.workload_id: each.placement for each in plan.decisions if isinstance(each, StartAfter)}
    owners = {each.id: each for each in snapshot.waiting}
    called = [stop for stop in plan.stops if stop.beneficiary is not None]
    assert len({stop.attempt_id for stop in called}) == len(called)
    for stop in called:
        guest, place = active[stop.attempt_id], promised[stop.beneficiary or ""]
        shared = {share.node_id for share in guest.placement.shares} & {share.node_id for share in place.shares}
        its = [each for share in guest.placement.shares for each in engaged.get(share.node_id, ())]
        lent = [each for each in its if each.is_lent_to(guest, paths(snapshot), NOON, limits)]
        assert shared
        assert any(each.is_for(owners[stop.beneficiary or ""], paths(snapshot)) for each in lent)


@STABLE
@given(reserved())
def test_nothing_that_is_lent_is_kept_back_without_need(snapshot: Snapshot) -> None:
    """Round after round ends where somebody may be lent what nobody wants: none is unfinished for ever."""
    for _ in range(len(snapshot.waiting) + 2):
        plan = schedule(snapshot, NOON)
        if not plan.unfinished:
            return
        snapshot = after_round(snapshot, plan)
    raise AssertionError("the planner would go round and round")


def _drives_out(engagement: Engagement, victim: Any, snapshot: Snapshot) -> bool:
    is_due = engagement.notice_at(victim.spec, snapshot.policy.limits) <= NOON
    may_be_told = victim.spec.preemptible or engagement.evacuates
    return is_due and may_be_told and not engagement.is_for(victim, paths(snapshot))


@STABLE
@given(reserved())
def test_no_node_is_kept_for_two_at_once_and_what_is_missing_has_a_cause(snapshot: Snapshot) -> None:
    kept = [each for each in settled(snapshot, NOON).snapshot.bookings if each.spec.purpose is Purpose.CAPACITY]
    for number, one in enumerate(kept):
        for other in kept[number + 1 :]:
            assert not (one.overlaps(other.opens_at, other.closes_at) and set(one.nodes) & set(other.nodes))
    assert all(bool(each.missing) is bool(each.cause) for each in kept)
    regions = {node.id: (node.provider, node.region, node.sku) for node in snapshot.nodes}
    assert all(len({regions[node] for node in each.nodes}) <= 1 for each in kept)


@STABLE
@given(reserved(), st.randoms(use_true_random=False))
def test_the_order_of_rows_means_nothing(snapshot: Snapshot, random: Any) -> None:
    def shuffled(rows: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(random.sample(rows, len(rows)))

    other = replace(
        snapshot,
        nodes=shuffled(snapshot.nodes),
        active=shuffled(snapshot.active),
        bookings=shuffled(snapshot.bookings),
        waiting=shuffled(snapshot.waiting),
    )
    one, same = settled(snapshot, NOON), settled(other, NOON)
    assert (one.bookings, one.stops, one.look_at) == (same.bookings, same.stops, same.look_at)


@STABLE
@given(reserved())
def test_a_second_look_changes_nothing(snapshot: Snapshot) -> None:
    after = after_round(snapshot, schedule(snapshot, NOON))
    again = settled(after, NOON)
    assert again.bookings == ()
    assert again.stops == ()


@pytest.mark.parametrize("model", QuotaModel)
def test_without_reservations_a_round_is_what_it_was(model: QuotaModel) -> None:
    @STABLE
    @given(worlds)
    def check(world: Snapshot) -> None:
        rank = world.policy.rank.model_copy(update={"quota_model": model})
        snapshot = replace(world, policy=world.policy.model_copy(update={"rank": rank}))
        over = replace(snapshot, bookings=(a_booking(opens_in=-9_000, hours=1),))
        assert schedule(over, NOON) == schedule(snapshot, NOON)

    check()
