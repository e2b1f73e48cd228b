"""Evacuations in the record: who is told to leave, what is cordoned, and what is undone."""

from itertools import count
from typing import Any

import pytest

from activities.ports import NotAllowed, NotFound, Phase
from corral import wire
from corral.api import EvacuationOrder, EvacuationState, EvacuationStatus, OperationChange, Outcome, PlaceKind, SlaTier, State
from corral.signing import begun
from corral.wire import Steering
from tests.activities.store.pool import Pool, a_spec, a_view, is_signed

HEAT = OperationChange(who="ben", reason="it is cooler now")

_requests = count(1)


def an_order(id: str = "heat", place: str = "aws/eu/eu-1", kind: PlaceKind = PlaceKind.CLUSTER, **more: Any) -> EvacuationOrder:
    return EvacuationOrder(id=id, kind=kind, place=place, reason="too hot", who="ada", **more)


async def steers(pool: Pool, id: str, verb: Steering, change: OperationChange, key: str = "") -> EvacuationStatus:
    """Asked by a request of its own, unless a key says which."""
    return await pool.store.steer_evacuation(id, verb, change, key or f"request-{next(_requests)}")


async def advances(pool: Pool, order: EvacuationOrder) -> EvacuationStatus:
    """A step of an evacuation, by a process that knows nothing of those before."""
    return (await pool.another_store().evacuate(order))[0]


async def health(pool: Pool) -> dict[str, str]:
    return {node.id.removeprefix("aws/"): node.health for node in await pool.store.nodes()}


async def three_run(pool: Pool) -> None:
    """Work of each tier on a node of its own in one cluster; there is another cluster, and nothing in it."""
    await pool.gets(*(a_view(f"n{number}") for number in (1, 2, 3)))
    await pool.arrive(*(a_spec(tier, tier=tier) for tier in SlaTier))
    await pool.runs(*SlaTier)
    await pool.gets(*(a_view(f"n{number}") for number in (1, 2, 3)), a_view("m1", cluster="eu-2"))


async def test_one_that_is_called_off_before_it_begins_never_does(pool: Pool) -> None:
    """A step of it that was on its way comes late."""
    await three_run(pool)
    order = an_order()
    status = await pool.store.steer_evacuation("heat", Steering.ABORT, HEAT, "once", order)
    assert (status.state, status.trail[-1].who, status.told) == (EvacuationState.ABORTED, "ben", 0)
    assert await advances(pool, order) == status
    assert set((await health(pool)).values()) == {"ready"}
    assert set(await pool.states(*SlaTier)) == {State.RUNNING}
    assert await pool.store.steer_evacuation("heat", Steering.ABORT, HEAT, "once", order) == status


async def test_one_that_has_begun_is_aborted_by_its_order_as_by_its_id(pool: Pool) -> None:
    await three_run(pool)
    await advances(pool, an_order())
    status = await pool.store.steer_evacuation("heat", Steering.ABORT, HEAT, "once", an_order())
    assert [note.state for note in status.trail] == [EvacuationState.MOVING, EvacuationState.ABORTED]
    with pytest.raises(NotAllowed, match="belongs to another operation"):
        await pool.store.steer_evacuation("heat", Steering.ABORT, HEAT, "again", an_order(place="aws/eu/eu-2"))


async def test_only_an_abort_calls_off_what_has_not_begun(pool: Pool) -> None:
    await three_run(pool)
    with pytest.raises(NotFound, match="there is no evacuation 'heat'"):
        await pool.store.steer_evacuation("heat", Steering.PAUSE, HEAT, "once", an_order())


async def test_the_lowest_tier_leaves_first_and_no_more_at_a_time_than_may(pool: Pool) -> None:
    await three_run(pool)
    status = await advances(pool, an_order(at_once=2))
    assert (status.state, status.told, status.left, status.leaving) == (EvacuationState.MOVING, 2, 3, 2)
    assert await pool.states("basic", "standard", "premium") == [State.STOPPING, State.STOPPING, State.RUNNING]
    await pool.ends("basic", Phase.CANCELLED)
    status = await advances(pool, an_order(at_once=2))
    assert (status.told, status.left, status.leaving) == (3, 2, 2)
    assert await pool.states("basic", "premium") == [State.WAITING, State.STOPPING]


async def test_those_who_leave_go_elsewhere_and_it_is_done_when_nothing_is_seen_there(pool: Pool) -> None:
    await three_run(pool)
    await advances(pool, an_order())
    await pool.plan()
    for tier in SlaTier:
        assert (await advances(pool, an_order())).state is EvacuationState.MOVING
        await pool.ends(tier, Phase.CANCELLED)
        assert await pool.outcomes(tier) == [Outcome.DRAINED]
    status = await advances(pool, an_order())
    assert (status.state, status.left, status.remaining) == (EvacuationState.DONE, 0, ())
    await pool.plan()
    assert list(await pool.phases("premium")) == ["m1"]
    assert await health(pool) == {"m1": "ready", "n1": "cordoned", "n2": "cordoned", "n3": "cordoned"}
    assert await pool.findings() == {}


async def test_a_step_that_is_done_again_changes_nothing(pool: Pool) -> None:
    await three_run(pool)
    status = await advances(pool, an_order(at_once=1))
    before = await pool.dump()
    assert await advances(pool, an_order(at_once=1)) == status
    assert await pool.dump() == before


async def test_what_has_not_begun_gives_its_place_back_at_once(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("early"))
    status = await advances(pool, an_order())
    assert (status.state, status.told) == (EvacuationState.DONE, 1)
    assert await pool.states("early") == [State.WAITING]


async def test_a_node_that_comes_later_is_cordoned_as_well(pool: Pool) -> None:
    await three_run(pool)
    await advances(pool, an_order())
    await pool.store.write_nodes("aws", [a_view("n4")], complete=False)
    assert (await advances(pool, an_order())).nodes == 4
    assert (await health(pool))["n4"] == "cordoned"


async def test_a_paused_one_tells_nobody_else(pool: Pool) -> None:
    await three_run(pool)
    await advances(pool, an_order(at_once=1))
    await steers(pool, "heat", Steering.PAUSE, HEAT)
    await pool.ends("basic", Phase.CANCELLED)
    assert (await advances(pool, an_order(at_once=1))).state is EvacuationState.PAUSED
    assert await pool.state("standard") is State.RUNNING
    await steers(pool, "heat", Steering.RESUME, HEAT)
    assert (await advances(pool, an_order(at_once=1))).told == 2
    assert await pool.state("standard") is State.STOPPING


async def test_a_pause_that_is_asked_again_after_it_went_on_does_not_pause_it_again(pool: Pool) -> None:
    await three_run(pool)
    await advances(pool, an_order(at_once=1))
    await steers(pool, "heat", Steering.PAUSE, HEAT, "request")
    status = await steers(pool, "heat", Steering.RESUME, HEAT)
    assert await steers(pool, "heat", Steering.PAUSE, HEAT, "request") == status
    assert status.state is EvacuationState.MOVING


async def test_aborted_it_gives_back_what_it_cordoned_and_nobody_else_did(pool: Pool) -> None:
    await three_run(pool)
    await pool.orders("cordon", "n1")
    await advances(pool, an_order(at_once=1))
    await pool.orders("drain", "n2")
    status = await steers(pool, "heat", Steering.ABORT, HEAT)
    assert status.state is EvacuationState.ABORTED
    assert await health(pool) == {"m1": "ready", "n1": "cordoned", "n2": "draining", "n3": "ready"}
    assert await advances(pool, an_order(at_once=1)) == status, "nothing more comes of it"
    assert (await health(pool))["n3"] == "ready"


async def test_what_another_evacuation_needs_stays_cordoned(pool: Pool) -> None:
    await three_run(pool)
    await advances(pool, an_order(at_once=1))
    await advances(pool, an_order("fire", "aws/n3", PlaceKind.NODE))
    await steers(pool, "heat", Steering.ABORT, HEAT)
    assert await health(pool) == {"m1": "ready", "n1": "ready", "n2": "ready", "n3": "cordoned"}
    await steers(pool, "fire", Steering.ABORT, HEAT)
    assert (await health(pool))["n3"] == "ready"


async def test_at_its_deadline_it_names_who_is_left_and_tells_them(pool: Pool) -> None:
    await three_run(pool)
    await advances(pool, an_order(at_once=1, deadline_seconds=600))
    pool.clock.move(600)
    status = await advances(pool, an_order(at_once=1, deadline_seconds=600))
    assert (status.state, status.left) == (EvacuationState.OVERDUE, 3)
    assert status.remaining == ("basic", "premium", "standard")
    events = await pool.store.events("premium", 0)
    assert events[-1].message == "still here at the deadline of evacuation heat: too hot"
    assert (await health(pool))["n1"] == "cordoned", "somebody has to decide what becomes of it"


async def test_the_trail_says_who_ordered_what_and_why(pool: Pool) -> None:
    await three_run(pool)
    await advances(pool, an_order())
    for verb in (Steering.PAUSE, Steering.PAUSE, Steering.RESUME, Steering.ABORT):
        await steers(pool, "heat", verb, HEAT)
    (status,) = await pool.store.evacuations(10)
    assert [(note.state, note.who) for note in status.trail] == [
        (EvacuationState.MOVING, "ada"),
        (EvacuationState.PAUSED, "ben"),
        (EvacuationState.MOVING, "ben"),
        (EvacuationState.ABORTED, "ben"),
    ]
    with pytest.raises(NotAllowed, match="pause: evacuation 'heat' is aborted already"):
        await steers(pool, "heat", Steering.PAUSE, HEAT)


async def test_an_id_is_of_one_evacuation(pool: Pool) -> None:
    await three_run(pool)
    await advances(pool, an_order())
    with pytest.raises(NotAllowed, match="'heat' belongs to another operation"):
        await advances(pool, an_order(place="aws/eu", kind=PlaceKind.REGION))


async def test_there_must_be_such_a_place(pool: Pool) -> None:
    await three_run(pool)
    with pytest.raises(NotFound, match="there is no region 'aws/eu-1'"):
        await advances(pool, an_order(place="aws/eu-1", kind=PlaceKind.REGION))
    with pytest.raises(NotFound, match="no evacuation 'cold'"):
        await steers(pool, "cold", Steering.PAUSE, HEAT)


# Approval

OF_EU = an_order(place="aws/eu", kind=PlaceKind.REGION)


async def awaits(pool: Pool) -> EvacuationStatus:
    """Emptying a region, which by the policy somebody has to approve."""
    await three_run(pool)
    return await advances(pool, OF_EU)


async def test_a_region_is_not_touched_before_somebody_else_has_approved_it(pool: Pool) -> None:
    status = await awaits(pool)
    assert (status.state, status.needs) == (EvacuationState.AWAITING, "emptying a region has to be approved")
    assert set((await health(pool)).values()) == {"ready"}
    with pytest.raises(NotAllowed, match="approve: ada has ordered it"):
        await steers(pool, "heat", Steering.APPROVE, HEAT.model_copy(update={"who": "ada"}))
    with pytest.raises(NotAllowed, match="pause: evacuation 'heat' is awaiting-approval"):
        await steers(pool, "heat", Steering.PAUSE, HEAT)

    pool.clock.move(3_600)
    status = await steers(pool, "heat", Steering.APPROVE, HEAT)
    assert (status.state, status.deadline) == (EvacuationState.MOVING, pool.clock.now() + OF_EU.deadline)
    status = await advances(pool, OF_EU)
    assert (status.told, set((await health(pool)).values())) == (3, {"cordoned"})
    assert await steers(pool, "heat", Steering.APPROVE, HEAT) == status


@pytest.mark.parametrize("verb", [Steering.REJECT, Steering.ABORT])
async def test_rejected_or_aborted_before_it_began_it_has_touched_nothing(pool: Pool, verb: Steering) -> None:
    await awaits(pool)
    status = await steers(pool, "heat", verb, HEAT)
    assert status.state.is_over
    assert await advances(pool, OF_EU) == status
    assert set((await health(pool)).values()) == {"ready"}


async def test_who_approves_is_whoever_signed_it_whatever_they_say_of_themselves(pool: Pool) -> None:
    await awaits(pool)
    await is_signed(pool, begun(wire.EVACUATION, "evacuation/heat", OF_EU.digest), HEAT)
    with pytest.raises(NotAllowed, match="ada has ordered it"):
        await steers(pool, "heat", Steering.APPROVE, HEAT, "by-ada")
    status = await steers(pool, "heat", Steering.APPROVE, HEAT.model_copy(update={"who": "ada"}), "by-ops")
    assert status.state is EvacuationState.MOVING, "another principal, of the same name"


async def test_what_nobody_approves_in_time_has_ended(pool: Pool) -> None:
    await awaits(pool)
    pool.clock.move(86_399)
    assert (await advances(pool, OF_EU)).state is EvacuationState.AWAITING
    pool.clock.move(1)
    status = await advances(pool, OF_EU)
    assert (status.state, status.trail[-1].reason) == (EvacuationState.EXPIRED, "nobody has approved it in time")
    assert set((await health(pool)).values()) == {"ready"}


async def test_an_evacuation_that_awaits_approval_keeps_no_node_of_another(pool: Pool) -> None:
    await awaits(pool)
    await advances(pool, an_order("fire"))
    await steers(pool, "fire", Steering.ABORT, HEAT)
    assert set((await health(pool)).values()) == {"ready"}


async def test_evacuations_are_operations_with_their_trail(pool: Pool) -> None:
    await three_run(pool)
    await advances(pool, an_order(at_once=1))
    (operation,) = await pool.store.operations(None, 10)
    assert (operation.subject, operation.state, operation.who) == ("cluster aws/eu/eu-1", "moving", "ada")
    assert operation.message == "3 nodes: 3 workloads are left, 1 of them leaving; 1 were told to"
