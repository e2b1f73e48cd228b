"""PostgreSQL's clock is set an hour ahead or back while work goes on: the record stays whole, and what it promises is kept."""

import pytest

from activities.ports import Phase
from corral.api import Checkpoint, Outcome, State
from tests.activities.store.pool import Pool, a_spec, a_view

HOUR = 3600
JUMPS = pytest.mark.parametrize("jump", [HOUR, -HOUR])


async def three_states(pool: Pool) -> None:
    """One runs, one has a hold, one waits; and some time has passed, so that there is something to be charged."""
    await pool.gets(a_view("n1"), a_view("n2"))
    await pool.arrive(a_spec("runs"))
    await pool.runs("runs")
    pool.clock.move(600)
    await pool.plan()
    await pool.arrive(a_spec("held"), a_spec("waits"))
    assert await pool.states("runs", "held", "waits") == [State.RUNNING, State.RESERVED, State.WAITING]


async def go_on(pool: Pool) -> None:
    for _ in range(3):
        pool.clock.move(60)
        await pool.store.keep_house()
        await pool.plan()


@JUMPS
async def test_what_runs_runs_on_and_ends_as_it_does(pool: Pool, jump: float) -> None:
    await three_states(pool)
    pool.clock.move(jump)
    await go_on(pool)
    assert await pool.state("runs") is State.RUNNING
    await pool.ends("runs")
    await go_on(pool)
    assert await pool.state("runs") is State.SUCCEEDED
    assert await pool.findings() == {}


@JUMPS
async def test_what_waits_starts_and_is_charged_for_no_time_that_was_not(pool: Pool, jump: float) -> None:
    await three_states(pool)
    pool.clock.move(jump)
    await pool.ends("runs")
    await go_on(pool)
    for workload in ("held", "waits"):
        assert await pool.state(workload) in {State.RESERVED, State.STARTING}
    await pool.runs("held", "waits")
    pool.clock.move(60)
    await pool.ends("held")
    await pool.ends("waits")
    assert await pool.states("held", "waits") == [State.SUCCEEDED, State.SUCCEEDED]
    assert await pool.findings() == {}
    for began, ended in [(began, ended) for id in ("runs", "held", "waits") for _, began, ended in await pool.intervals(id)]:
        assert ended is not None
        assert began <= ended


@JUMPS
async def test_who_has_notice_has_left_by_its_grace(pool: Pool, jump: float) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("runs", checkpoint=Checkpoint(grace_seconds=60)))
    await pool.runs("runs")
    await pool.orders("drain", "n1")
    await pool.store.keep_house()
    assert await pool.state("runs") is State.STOPPING
    pool.clock.move(jump)
    await go_on(pool)
    await pool.ends("runs", Phase.CANCELLED)
    assert await pool.outcomes("runs") == [Outcome.DRAINED]
    assert await pool.state("runs") is State.WAITING
    assert await pool.findings() == {}


@JUMPS
async def test_between_a_jump_and_the_jump_back(pool: Pool, jump: float) -> None:
    await three_states(pool)
    pool.clock.move(jump)
    await pool.store.keep_house()
    await pool.plan()
    await pool.ends("runs")
    await pool.plan()
    pool.clock.move(-jump)
    await go_on(pool)
    assert await pool.states("held", "waits") != [State.WAITING, State.WAITING]
    await pool.runs("held", "waits")
    await pool.ends("held")
    await pool.ends("waits")
    await go_on(pool)
    assert await pool.findings() == {}
