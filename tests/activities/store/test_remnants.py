"""Replicas that do not leave an endpoint, not even by force: it goes on without them, and what they have stays taken."""

from datetime import timedelta

import pytest

from activities.ports import Observation, Phase
from corral.api import EvacuationOrder, Outcome, PlaceKind, Reason, State
from domain.pool.lifecycle import Leave
from tests.activities.store.endpoints import (
    GRACE,
    RULES,
    STEP,
    becomes,
    health,
    is_forced,
    is_resized,
    is_stuck,
    order,
    passes,
    replicas,
)
from tests.activities.store.pool import PROVIDER, Pool, a_spec, a_view


async def is_stuck_beside_room(pool: Pool) -> int:
    """`w` goes on with one replica on `n1`, two more do not leave it, and `n2` is idle; answers with the notice's number."""
    await is_forced(pool)
    notice = (await order(pool)).notice
    await pool.store.write_nodes(PROVIDER, [a_view("n2")], complete=False)
    await passes(pool, STEP + 1)
    assert await pool.state("w") is State.RUNNING
    return notice


async def sees(pool: Pool, resized: int, *remains: int, phase: Phase = Phase.RUNNING) -> Observation:
    """What its provider says of sizes is believed."""
    seen = await pool.observation("w", phase, resized=resized, remains=frozenset(remains))
    await pool.seen(seen)
    return seen


async def left_behind(pool: Pool) -> dict[str, int]:
    status = await pool.store.status("w")
    assert status is not None
    return dict(status.remnants)


async def test_it_goes_on_in_its_new_size_under_the_same_epoch_and_what_they_have_is_nobodys(pool: Pool) -> None:
    await is_stuck(pool)
    standing, status = await pool.standing("w"), await pool.store.status("w")
    assert (standing.state, standing.leave, standing.epoch, standing.notice) == (State.RUNNING, None, 1, 0)
    assert status is not None
    assert status.where is not None
    assert (status.where.accelerators, status.remnants, await replicas(pool)) == (1, {"aws/n1": 2}, 3)
    kind, why = await health(pool)
    assert (kind, why.startswith("attempt w.1 does not leave")) == ("suspect", True)
    assert [event.kind for event in await pool.store.events("w", 0)][-3:] == ["forced", "stuck", "running"]
    assert await pool.findings() == {}
    await passes(pool, 10_000)
    assert (await pool.state("w"), await replicas(pool)) == (State.RUNNING, 3), "however long"


async def test_people_are_told_where_they_are(pool: Pool) -> None:
    await is_stuck(pool)
    told = await pool.standing("w")
    assert told.reason is Reason.DOES_NOT_STOP
    assert told.message.startswith("2 replicas that it is not to have any more were stopped by force and are still there")
    assert "aws/n1" in told.message


async def test_what_they_have_is_not_accounted_to_it(pool: Pool) -> None:
    await is_stuck(pool)
    (row,) = await pool.sql("SELECT allocated_milli FROM ledger WHERE workload_id = 'w' AND ended_at IS NULL")
    assert row["allocated_milli"] == 1_000
    (has,) = (await pool.snapshot()).active
    assert (has.milli, has.remnants) == (1_000, frozenset({("main", 1), ("main", 2)}))


async def test_it_grows_elsewhere_and_nobody_is_called_as_those_who_are_left(pool: Pool) -> None:
    stuck = await is_stuck_beside_room(pool)
    await becomes(pool, 3)
    told = await order(pool)
    assert told.resized is not None
    names = {(place.node, place.replica.index) for place in told.resized.places}
    assert names == {("n1", 0), ("n2", 3), ("n2", 4)}
    await sees(pool, told.notice, stuck)
    standing = await pool.standing("w")
    assert (standing.state, standing.epoch, standing.reason) == (State.RUNNING, 1, Reason.DOES_NOT_STOP)
    assert (await pool.used("n2"), await left_behind(pool)) == (2_000, {"aws/n1": 2})
    assert await pool.findings() == {}


async def test_it_shrinks_again_and_the_next_who_do_not_leave_are_left_as_well(pool: Pool) -> None:
    first = await is_stuck_beside_room(pool)
    await becomes(pool, 3)
    await sees(pool, (await order(pool)).notice, first)
    await becomes(pool, 1, after=400)
    second = (await order(pool)).notice
    await pool.store.noticed(await pool.key("w"), second)
    await passes(pool, GRACE + STEP + 1)
    await passes(pool, STEP + 1)
    assert await pool.state("w") is State.RUNNING
    assert (await left_behind(pool), (await health(pool, "n2"))[0]) == ({"aws/n1": 2, "aws/n2": 2}, "suspect")
    await sees(pool, second, first)
    assert (await left_behind(pool), (await health(pool, "n2"))[0]) == ({"aws/n1": 2}, "ready")
    assert await pool.findings() == {}


async def test_when_they_are_seen_gone_their_room_is_free_and_nothing_is_suspect(pool: Pool) -> None:
    notice = await is_stuck_beside_room(pool)
    await sees(pool, notice)
    assert (await replicas(pool), await left_behind(pool), (await health(pool))[0]) == (1, {}, "ready")
    standing = await pool.standing("w")
    assert (standing.state, standing.reason) == (State.RUNNING, None)
    assert [event.kind for event in await pool.store.events("w", 0)][-1] == "left"
    before = await pool.dump()
    await sees(pool, notice)
    assert await pool.dump() == before, "once"
    assert await pool.findings() == {}


async def test_who_waits_is_let_where_they_have_left(pool: Pool) -> None:
    await is_stuck(pool)
    await pool.arrive(a_spec("next", gpus=7))
    assert await pool.state("next") is State.WAITING
    (row,) = await pool.sql("SELECT max(notice) AS notice FROM remnants")
    await sees(pool, row["notice"])
    await pool.plan()
    assert await pool.state("next") is State.RESERVED


async def test_what_was_seen_before_they_were_to_leave_says_nothing_of_them(pool: Pool) -> None:
    notice = await is_stuck_beside_room(pool)
    await sees(pool, notice - 2)
    assert await left_behind(pool) == {"aws/n1": 2}


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.LOST])
async def test_with_its_end_they_are_gone_too(pool: Pool, phase: Phase) -> None:
    await is_stuck_beside_room(pool)
    await pool.ends("w", phase)
    assert (await replicas(pool), (await health(pool))[0], await pool.findings()) == (0, "ready", {})


@pytest.mark.parametrize(("verb", "outcome"), [("cancel", Outcome.CANCELLED), ("hold", Outcome.SUSPENDED)])
async def test_told_to_end_it_leaves_as_a_whole_and_has_left_when_they_have(pool: Pool, verb: str, outcome: Outcome) -> None:
    await is_stuck(pool)
    await pool.adjusts(verb, "w")
    told = await order(pool)
    assert (await pool.state("w"), told.leave, told.resized) == (State.STOPPING, Leave.ORDERED, None)
    assert (await replicas(pool), await pool.findings()) == (3, {})
    await pool.ends("w", Phase.CANCELLED)
    assert (await pool.outcomes("w"), await replicas(pool), (await health(pool))[0]) == ([outcome], 0, "ready")
    assert await pool.findings() == {}


async def test_whoever_empties_their_node_waits_for_them_and_does_not_stop_the_endpoint_for_them(pool: Pool) -> None:
    await pool.gets(*(a_view(node, gpus=1) for node in ("n1", "n2", "n3")))
    await pool.arrive(a_spec("w", gpus=1, minimum=0, autoscale=RULES))
    await pool.runs("w")
    await becomes(pool, 3)
    await is_resized(pool)
    await becomes(pool, 1, after=400)
    await pool.store.noticed(await pool.key("w"), (await order(pool)).notice)
    await passes(pool, GRACE + STEP + 1)
    await passes(pool, STEP + 1)
    node = min(await left_behind(pool))
    await pool.orders("drain", node.removeprefix("aws/"))
    await pool.store.keep_house()
    evacuation = EvacuationOrder(id="empty", kind=PlaceKind.NODE, place=node, reason="too hot", who="ada")
    status, _ = await pool.store.evacuate(evacuation)
    assert (status.left, status.leaving, status.told) == (1, 1, 0)
    assert (await pool.state("w"), await pool.findings()) == (State.RUNNING, {})


async def test_the_provider_is_told_again_to_stop_them_as_long_as_they_are_there(pool: Pool) -> None:
    notice = await is_stuck_beside_room(pool)
    assert await pool.store.remnants_due(PROVIDER, 15) == []
    pool.clock.time += timedelta(seconds=16)
    (told,) = await pool.store.remnants_due(PROVIDER, 15)
    assert told.resized is not None
    assert (told.attempt_id, told.notice, len(told.resized.places)) == ("w.1", notice, 1)
    await sees(pool, notice)
    assert await pool.store.remnants_due(PROVIDER, 15) == []
