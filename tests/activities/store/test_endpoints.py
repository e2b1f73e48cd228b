"""Endpoints: demand is told, the record holds the size that is wanted, rounds bring it about."""

from datetime import timedelta

import pytest

from activities.ports import NotAllowed, Phase
from corral.api import Autoscale, State
from corral.policy import DisruptionBudget, Limits
from tests.activities.store.pool import Pool, a_spec, a_view

RULES = Autoscale(target=10, minimum=0, most=6, step_down=6)


async def runs_as_endpoint(pool: Pool, rules: Autoscale | None = RULES) -> None:
    """An endpoint `w` of one accelerator a replica that runs with one replica."""
    await pool.gets(a_view())
    await pool.arrive(a_spec("w", gpus=1, minimum=0, autoscale=rules))
    await pool.runs("w")


async def tells(pool: Pool, demand: float, *, after: float = 0) -> str:
    """Tell the endpoint its demand so many seconds later; answers what was said to that."""
    pool.clock.time += timedelta(seconds=after)
    done = await pool.adjusts("demand", "w", str(pool.clock.time), demand=demand, at=pool.clock.time)
    return str(done.message)


async def replicas(pool: Pool) -> int:
    """What it has, in whole accelerators."""
    return await pool.used() // 1000


async def test_the_next_round_lets_it_grow_to_its_demand(pool: Pool) -> None:
    await runs_as_endpoint(pool)
    assert await tells(pool, 30, after=20) == "3 replicas wanted for a demand of 30"
    await pool.plan()
    assert await pool.state("w") is State.STOPPING
    await pool.ends("w", Phase.CANCELLED)
    assert await replicas(pool) == 3
    assert await pool.findings() == {}


async def test_its_changes_of_size_count_in_disruption_budgets_and_not_as_preemptions(pool: Pool) -> None:
    pool.policy = pool.policy.model_copy(update={"limits": Limits(disruption_budgets=(DisruptionBudget(stops=1),))})
    pool.store = pool.another_store()
    await runs_as_endpoint(pool)
    await tells(pool, 30, after=20)
    await pool.plan()
    await pool.ends("w", Phase.CANCELLED)
    await pool.runs("w")
    snapshot = await pool.snapshot()
    assert [(stop.workload_id, stop.for_itself) for stop in snapshot.stops] == [("w", True)]
    assert [active.preemptions for active in snapshot.active] == [0]
    await tells(pool, 50, after=60)
    await pool.plan()
    assert (await pool.state("w"), await replicas(pool)) == (State.RUNNING, 3)
    await tells(pool, 50, after=3_600)
    await pool.plan()
    assert await pool.state("w") is State.STOPPING


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
