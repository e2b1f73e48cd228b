"""Endpoints that grow where others have yet to leave: what runs goes on as it is, and is told of more once there is room."""

import pytest

from activities.ports import Phase
from corral.api import Outcome, Reason, ReplicaGroup, State
from corral.policy import QuotaModel
from domain.pool.lifecycle import Leave
from tests.activities.store.endpoints import (
    GRACE,
    QUEUES,
    RULES,
    STEP,
    answers_again,
    becomes,
    falls_silent,
    is_resized,
    is_to_grow_at_others_expense,
    order,
    passes,
)
from tests.activities.store.pool import Pool, a_spec, a_view


@pytest.fixture
async def grows(pool: Pool) -> Pool:
    await is_to_grow_at_others_expense(pool)
    return pool


async def test_it_runs_on_and_its_provider_is_told_nothing_before_there_is_room(grows: Pool) -> None:
    standing = await grows.standing("w")
    assert (standing.epoch, standing.leave, standing.reason) == (1, Leave.WAITING, Reason.WAITING_FOR_VICTIMS)
    assert await grows.store.stop_order(await grows.key("w")) is None
    await passes(grows, 20)
    assert (await grows.standing("w")).leave is Leave.WAITING, "nobody is late"
    assert await grows.findings() == {}


async def test_once_they_have_left_it_is_told_and_keeps_what_it_has_under_the_same_epoch(grows: Pool) -> None:
    told = await grows.ends("guest", Phase.CANCELLED)
    assert (told["w"].leave, told["w"].reason) == (Leave.ORDERED, None)
    ordered = await order(grows)
    assert ordered.resized is not None
    assert (ordered.resized.attempt_id, ordered.notice, len(ordered.resized.places)) == ("w.1", 1, 3)
    await is_resized(grows)
    assert (await grows.state("w"), await grows.used(), (await grows.key("w")).epoch) == (State.RUNNING, 3_000, 1)
    assert await grows.outcomes("w") == []
    assert await grows.outcomes("guest") == [Outcome.PREEMPTED]
    assert await grows.findings() == {}


async def test_it_is_told_when_the_last_of_them_has_left(pool: Pool) -> None:
    pool.decide_by(QuotaModel.DESERVED)
    await pool.gets(a_view(gpus=4), queues=QUEUES)
    await pool.arrive(a_spec("w", groups=(ReplicaGroup(count=1, minimum=0, accelerators=2),), autoscale=RULES, queue="owners"))
    await pool.runs("w")
    await pool.arrive(a_spec("guest-1", gpus=1, queue="guests"), a_spec("guest-2", gpus=1, queue="guests"))
    await pool.runs("guest-1", "guest-2")
    pool.clock.move(1_000)
    await becomes(pool, 2)
    assert await pool.states("w", "guest-1", "guest-2") == [State.RESIZING, State.STOPPING, State.STOPPING]
    await pool.ends("guest-1", Phase.CANCELLED)
    assert (await pool.standing("w")).leave is Leave.WAITING
    await pool.ends("guest-2", Phase.CANCELLED)
    assert ((await pool.standing("w")).leave, (await order(pool)).resized is None) == (Leave.ORDERED, False)
    assert await pool.findings() == {}


async def test_where_its_cluster_does_not_answer_it_stays_as_it_is_and_grows_when_it_answers_again(grows: Pool) -> None:
    await falls_silent(grows)
    standing = await grows.standing("w")
    assert (standing.state, standing.leave, standing.epoch) == (State.RUNNING, None, 1)
    await answers_again(grows)
    await grows.plan()
    assert (await grows.standing("w")).leave is Leave.WAITING
    await grows.ends("guest", Phase.CANCELLED)
    await is_resized(grows)
    assert (await grows.state("w"), await grows.used()) == (State.RUNNING, 3_000)
    assert await grows.findings() == {}


async def test_whoever_was_to_leave_stays_when_it_ends_before(grows: Pool) -> None:
    await grows.ends("w", Phase.FAILED)
    assert await grows.outcomes("w") == [Outcome.FAILED]
    await grows.plan()
    assert await grows.states("w", "guest") == [State.FAILED, State.RUNNING]
    assert await grows.findings() == {}


@pytest.mark.parametrize(("verb", "outcome"), [("cancel", Outcome.CANCELLED), ("hold", Outcome.SUSPENDED)])
async def test_whoever_was_to_leave_stays_when_it_is_to_end_before(grows: Pool, verb: str, outcome: Outcome) -> None:
    await grows.adjusts(verb, "w")
    told = await order(grows)
    assert (await grows.state("w"), told.leave, told.notice, told.resized) == (State.STOPPING, Leave.ORDERED, 1, None)
    assert await grows.used() == 7_000, "nothing of what it was to have"
    await grows.plan()
    assert await grows.state("guest") is State.RUNNING
    assert await grows.findings() == {}
    await grows.ends("w", Phase.CANCELLED)
    assert await grows.outcomes("w") == [outcome]
    assert await grows.findings() == {}


async def test_it_does_not_wait_for_what_does_not_leave(grows: Pool) -> None:
    await grows.store.noticed(await grows.key("guest"), (await grows.standing("guest")).notice)
    await passes(grows, GRACE + STEP + 1)
    await passes(grows, STEP + 1)
    standing = await grows.standing("w")
    assert (standing.state, standing.leave, standing.epoch, standing.notice) == (State.RUNNING, None, 1, 0)
    assert await grows.findings() == {}
    await grows.ends("guest", Phase.CANCELLED)
    await grows.plan()
    await is_resized(grows)
    assert (await grows.state("w"), await grows.used()) == (State.RUNNING, 3_000)
    assert await grows.findings() == {}


async def test_it_is_no_disruption_of_its_own_and_one_of_theirs(grows: Pool) -> None:
    assert [(stop.workload_id, stop.for_itself) for stop in (await grows.snapshot()).stops] == [("guest", False)]
