"""Endpoints: demand is told, the record holds the size that is wanted, rounds bring it about."""

from datetime import timedelta

import pytest

from activities.ports import NotAllowed, Phase
from corral.api import State
from corral.policy import DisruptionBudget, Limits
from tests.activities.store.endpoints import RULES, becomes, is_resized, order, replicas, runs_as_endpoint, tells
from tests.activities.store.pool import Pool


async def test_it_grows_to_its_demand_and_what_it_has_runs_on(pool: Pool) -> None:
    await runs_as_endpoint(pool)
    assert await tells(pool, 30, after=20) == "3 replicas wanted for a demand of 30"
    await pool.plan()
    before, told = await pool.key("w"), await order(pool)
    assert told.resized is not None
    assert (told.resized.attempt_id, len(told.resized.places)) == ("w.1", 3)
    await is_resized(pool, told.notice)
    assert (await pool.state("w"), await replicas(pool), await pool.key("w")) == (State.RUNNING, 3, before)
    assert await pool.outcomes("w") == []
    assert await pool.findings() == {}


async def test_it_shrinks_and_what_leaves_is_free_when_it_was_seen_to_have_left(pool: Pool) -> None:
    await runs_as_endpoint(pool)
    await becomes(pool, 3)
    before = (await order(pool)).notice
    await is_resized(pool)
    await becomes(pool, 1, after=400)
    told = await order(pool)
    assert told.resized is not None
    assert (told.notice > before, len(told.resized.places)) == (True, 1)
    assert await replicas(pool) == 3, "until they are gone"
    await is_resized(pool, before)
    assert await replicas(pool) == 3, "that was the size before"
    await is_resized(pool)
    assert (await pool.state("w"), await replicas(pool)) == (State.RUNNING, 1)
    assert await pool.findings() == {}


async def test_what_it_had_and_has_is_accounted_from_the_moment_of_the_change(pool: Pool) -> None:
    await runs_as_endpoint(pool)
    await becomes(pool, 3)
    await is_resized(pool)
    pool.clock.time += timedelta(seconds=100)
    await pool.ends("w", Phase.SUCCEEDED)
    rows = await pool.sql("SELECT allocated_milli, lost_milli_seconds FROM ledger WHERE kind = 'running' ORDER BY began_at")
    assert [(row["allocated_milli"], row["lost_milli_seconds"]) for row in rows] == [(1_000, 0), (3_000, 0)]


async def test_a_change_of_size_in_place_is_no_disruption(pool: Pool) -> None:
    pool.policy = pool.policy.model_copy(update={"limits": Limits(disruption_budgets=(DisruptionBudget(stops=1),))})
    pool.store = pool.another_store()
    await runs_as_endpoint(pool)
    for size in (3, 5, 6):
        await becomes(pool, size, after=60)
        await is_resized(pool)
        assert (await pool.state("w"), await replicas(pool)) == (State.RUNNING, size)
    snapshot = await pool.snapshot()
    assert (snapshot.stops, [active.preemptions for active in snapshot.active]) == ((), [0])


@pytest.mark.parametrize(("size", "then", "keeps"), [(1, 3, 3), (3, 1, 3)])
async def test_who_cancels_it_while_it_changes_has_all_of_it_stopped(pool: Pool, size: int, then: int, keeps: int) -> None:
    await runs_as_endpoint(pool)
    if size > 1:
        await becomes(pool, size)
        await is_resized(pool)
    await becomes(pool, then, after=400)
    before = (await order(pool)).notice
    await pool.adjusts("cancel", "w")
    told = await order(pool)
    assert (told.resized, told.notice) == (None, before + 1)
    assert await replicas(pool) == keeps, "replicas that come may be there already, and those that go still be"
    await is_resized(pool, before)
    assert await pool.state("w") is State.STOPPING
    assert await pool.findings() == {}
    await pool.ends("w", Phase.CANCELLED)
    assert (await pool.state("w"), await replicas(pool)) == (State.CANCELLED, 0)


async def test_people_choose_its_size_as_it_runs_until_demand_says_otherwise(pool: Pool) -> None:
    await runs_as_endpoint(pool)
    await pool.adjusts("resize", "w", count=4)
    await pool.plan()
    await is_resized(pool)
    assert (await pool.state("w"), await replicas(pool)) == (State.RUNNING, 4)
    assert await tells(pool, 60, after=20) == "6 replicas wanted for a demand of 60"
    with pytest.raises(NotAllowed, match="allows from 0 to 6"):
        await pool.adjusts("resize", "w", "too many", count=7)


async def test_other_work_is_resized_before_it_starts_and_not_as_it_runs(pool: Pool) -> None:
    await runs_as_endpoint(pool, rules=None)
    with pytest.raises(NotAllowed, match="expected an endpoint"):
        await pool.adjusts("resize", "w", count=2)


async def test_an_error_budget_that_burns_lets_it_want_more(pool: Pool) -> None:
    await runs_as_endpoint(pool, RULES.model_copy(update={"objective": 0.99, "step_up": 2}))
    pool.clock.time += timedelta(seconds=400)
    told = {"demand": 10.0, "at": pool.clock.time, "requests": 100, "bad": 20}
    done = await pool.adjusts("demand", "w", "burning", **told)
    said = "3 replicas wanted for a demand of 10, and an error budget that is used up 20.0 times as fast as it may be"
    assert done.message == said


async def test_older_demand_changes_nothing(pool: Pool) -> None:
    await runs_as_endpoint(pool)
    await tells(pool, 30, after=20)
    before = pool.clock.time - timedelta(seconds=10)
    done = await pool.adjusts("demand", "w", "late", demand=60.0, at=before)
    assert done.message == "3 replicas wanted: newer demand is known"


async def test_without_demand_it_leaves_the_line_and_is_put_back_when_there_is_some(pool: Pool) -> None:
    await runs_as_endpoint(pool)
    await tells(pool, 0, after=20)
    assert await pool.state("w") is State.RUNNING
    assert await tells(pool, 0, after=300) == "0 replicas wanted for a demand of 0"
    assert await pool.state("w") is State.STOPPING
    await pool.ends("w", Phase.CANCELLED)
    assert (await pool.state("w"), await replicas(pool)) == (State.SUSPENDED, 0)
    assert await tells(pool, 12, after=1) == "2 replicas wanted for a demand of 12"
    await pool.plan()
    assert (await pool.state("w"), await replicas(pool)) == (State.RESERVED, 2)
    assert await pool.findings() == {}


async def test_demand_does_not_wake_what_somebody_holds(pool: Pool) -> None:
    await runs_as_endpoint(pool)
    await pool.adjusts("hold", "w")
    await pool.ends("w", Phase.CANCELLED)
    assert await tells(pool, 30, after=20) == "3 replicas wanted for a demand of 30"
    assert await pool.state("w") is State.SUSPENDED


async def test_what_was_asleep_and_is_released_is_held_again_by_nobody_but_people(pool: Pool) -> None:
    await runs_as_endpoint(pool)
    await tells(pool, 0, after=20)
    await tells(pool, 0, after=300)
    await pool.ends("w", Phase.CANCELLED)
    await pool.adjusts("release", "w")
    await pool.adjusts("hold", "w")
    await tells(pool, 30, after=20)
    assert await pool.state("w") is State.SUSPENDED


async def test_only_endpoints_are_told_their_demand(pool: Pool) -> None:
    await runs_as_endpoint(pool, rules=None)
    with pytest.raises(NotAllowed, match="workload 'w' does not follow demand; expected a spec with autoscale"):
        await tells(pool, 1)
