"""Who has notice to leave and may stay, because the beneficiary is gone and nobody else needs it to go."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from corral.api import SlaTier, State
from corral.reservation import Purpose
from domain.decision import Keep
from domain.pool.workload import Active
from domain.round import schedule
from domain.snapshot import Snapshot
from domain.steps.reprieve import reprieved
from tests.builders import NOON, a_booking, a_node, a_queue, a_snapshot, a_workload

NODE = a_node("a")
EARLIER = NOON - timedelta(seconds=60)


def leaving(id: str, gpus: int, beneficiary: str | None = "gone.1", **fields: Any) -> Active:
    """Work that has notice to leave the first devices of the node."""
    active = a_workload(id, gpus=gpus, **fields).on((NODE, gpus), state=State.STOPPING)
    return replace(active, preempted=True, beneficiary=beneficiary, noticed_at=EARLIER)


def promised(id: str, gpus: int, taken: Active | None = None, **fields: Any) -> Active:
    """Work that was promised the first devices, or those after what somebody has."""
    node = NODE if taken is None else replace(NODE, free=NODE.free - taken.placement.shares[0].room)
    return a_workload(id, gpus=gpus, **fields).on((node, gpus), state=State.RESERVING, started_at=None, held_at=EARLIER)


def kept(*active: Active, queues: Any = None) -> list[str]:
    snapshot = a_snapshot([NODE], queues or [a_queue("research", 100)], *active)
    return [keep.attempt_id for keep in reprieved(snapshot, NOON)[1]]


def test_whoever_leaves_for_nobody_stays() -> None:
    snapshot = a_snapshot([NODE], [a_queue("research", 100)], leaving("v", 8))
    after, keeps = reprieved(snapshot, NOON)
    assert keeps == (Keep("v.1", "gone.1"),)
    (active,) = after.active
    assert (active.state, active.preempted, active.beneficiary) == (State.RUNNING, False, None)


def test_whoever_leaves_for_somebody_leaves() -> None:
    assert kept(leaving("v", 8, "w.1"), promised("w", 4)) == []


def test_whoever_leaves_for_nobody_in_particular_leaves() -> None:
    assert kept(leaving("v", 8, None)) == []


def test_room_that_somebody_else_was_promised_is_not_kept() -> None:
    assert kept(leaving("v", 8), promised("w", 4)) == []


def test_of_two_one_may_stay_the_higher_in_rank() -> None:
    low, high = leaving("a", 4, tier=SlaTier.BASIC), leaving("b", 4, tier=SlaTier.STANDARD)
    assert kept(low, high) == ["b.1"]


def test_quota_that_somebody_has_taken_since_is_not_kept() -> None:
    narrow = [a_queue("research", 8)]
    victim, since = leaving("v", 4), replace(leaving("x", 4, None), preempted=False, state=State.RUNNING)
    elsewhere = replace(since, held_at=EARLIER, placement=a_workload("x", gpus=8).on((a_node("b"), 8)).placement)
    assert kept(victim, elsewhere, queues=narrow) == []
    assert kept(victim, replace(elsewhere, held_at=EARLIER - timedelta(seconds=1)), queues=narrow) == ["v.1"]


def test_work_that_was_to_go_on_elsewhere_stays_and_gives_its_other_place_up() -> None:
    victim = leaving("v", 4)
    follower = replace(victim, attempt_id="v.2", epoch=2, state=State.RESERVING, preempted=False, beneficiary=None)
    snapshot = a_snapshot([NODE], [a_queue("research", 100)], victim, follower)
    after, keeps = reprieved(snapshot, NOON)
    assert [keep.attempt_id for keep in keeps] == ["v.1"]
    assert [active.attempt_id for active in after.active] == ["v.1"]


def test_a_round_keeps_and_asks_for_another_one() -> None:
    plan = schedule(a_snapshot([NODE], [a_queue("research", 100)], leaving("v", 8)), NOON)
    assert plan.keeps == (Keep("v.1", "gone.1"),)
    assert plan.unfinished


@st.composite
def situations(draw: st.DrawFn) -> Snapshot:
    """One node on which some leave for nobody, and others were promised room that overlaps with theirs."""
    victims, room = [], NODE
    for number, gpus in enumerate(draw(st.lists(st.integers(1, 4), max_size=4))):
        if room.free.whole_devices < gpus:
            break
        active = a_workload(f"v{number}", gpus=gpus).on((room, gpus), state=State.STOPPING)
        room = replace(room, free=room.free - active.placement.shares[0].room)
        victims.append(replace(active, preempted=True, beneficiary="gone.1", noticed_at=EARLIER))
    wanted = draw(st.integers(0, 8))
    others = [promised("w", wanted)] if wanted else []
    return a_snapshot([NODE], [a_queue("research", draw(st.integers(0, 8)))], *victims, *others)


@given(situations())
def test_all_who_stay_fit_beside_all_that_is_promised(snapshot: Snapshot) -> None:
    after, keeps = reprieved(snapshot, NOON)
    stays = [active for active in after.active if active.state is not State.STOPPING]
    used = [sum(active.placement.shares[0].room.devices[device] for active in stays) for device in range(8)]
    assert max(used) <= 1_000
    assert {keep.attempt_id for keep in keeps} == {active.attempt_id for active in stays if active.id != "w"}
    assert reprieved(after, NOON)[1] == ()


@given(situations())
def test_whoever_could_stay_beside_them_does(snapshot: Snapshot) -> None:
    """Where quota does not bind, nobody leaves for nothing."""
    wide = replace(snapshot, queues=(a_queue("research", 100),))
    after, _ = reprieved(wide, NOON)
    stays = [active for active in after.active if active.state is not State.STOPPING]
    for gone in (active for active in after.active if active.state is State.STOPPING):
        mine = gone.placement.shares[0].room.devices
        assert any(
            mine[device] + sum(active.placement.shares[0].room.devices[device] for active in stays) > 1_000
            for device in range(8)
        )


def test_a_node_that_closes_before_it_could_be_told_anew_keeps_nobody() -> None:
    for opens_in, stays in ((15, []), (7200, ["v.1"])):
        closing = a_booking(purpose=Purpose.MAINTENANCE, nodes=("a",), opens_in=opens_in)
        snapshot = replace(a_snapshot([NODE], [a_queue("research", 100)], leaving("v", 8)), bookings=(closing,))
        assert [keep.attempt_id for keep in reprieved(snapshot, NOON)[1]] == stays
        assert not schedule(snapshot, NOON).stops, "its notice stands, and nobody is told twice"
