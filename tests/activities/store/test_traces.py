"""Traces in the record: who was submitted in one is told in it, and rounds know whom they concerned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from activities.answers import Notice
from activities.deciding import Decider
from activities.store.steps import RoundTimes
from tests.activities.store.pool import Pool, a_spec, a_view

FIRST, SECOND, ROUND = "00-first-01", "00-second-01", "00-round-01"


@dataclass
class RoundsSeen:
    """Remembers whom rounds concerned; the span of each is the same."""

    concerned: list[Sequence[str]] = field(default_factory=list)

    def __call__(self, times: RoundTimes, traces: Sequence[str]) -> str:
        assert times.tries == 1
        assert times.seconds > 0
        self.concerned.append(traces)
        return ROUND


@pytest.fixture
async def seen(pool: Pool) -> RoundsSeen:
    """A pool with one node, whose rounds are recorded."""
    await pool.gets(a_view())
    pool.store.trace_round = seen = RoundsSeen()
    return seen


async def submits(pool: Pool, traces: Mapping[str, str | None], gpus: float = 8) -> list[Notice]:
    """Workloads arrive together, of which some are traced."""
    kept = {id: trace for id, trace in traces.items() if trace is not None}
    _, notices = await pool.store.round([a_spec(id, gpus=gpus) for id in traces], Decider().decide, "admission", kept)
    return notices


async def plans(pool: Pool) -> list[Notice]:
    return (await pool.store.round([], Decider().decide, "planner"))[1]


async def test_a_round_concerns_those_who_arrive_in_it(pool: Pool, seen: RoundsSeen) -> None:
    await submits(pool, {"first": FIRST, "second": SECOND, "untraced": None})
    assert [sorted(each) for each in seen.concerned] == [[FIRST, SECOND]]


async def test_news_bear_the_workloads_trace_and_the_round_that_decided(pool: Pool, seen: RoundsSeen) -> None:
    await submits(pool, {"first": FIRST})
    await submits(pool, {"waits": SECOND})
    await pool.adjusts("cancel", "first")

    (notice,) = await plans(pool)

    assert (notice.standing.workload, notice.trace, notice.round) == ("waits", SECOND, ROUND)
    assert seen.concerned == [[FIRST], [SECOND], [SECOND]]


async def test_a_planner_that_reads_the_record_anew_knows_the_traces(pool: Pool) -> None:
    await pool.gets(a_view())
    await submits(pool, {"first": FIRST})
    await submits(pool, {"waits": SECOND})
    await pool.adjusts("cancel", "first")
    _, (notice,) = await pool.another_store().round([], Decider().decide, "planner")
    assert (notice.trace, notice.round) == (SECOND, None)


async def test_what_was_not_delivered_is_told_in_the_trace_as_well(pool: Pool, seen: RoundsSeen) -> None:
    await submits(pool, {"first": FIRST, "untraced": None}, gpus=4)
    await pool.runs("first", "untraced")
    notices = await pool.store.undelivered(0)
    assert {notice.standing.workload: notice.trace for notice in notices} == {"first": FIRST, "untraced": None}
    assert {notice.round for notice in notices} == {None}


async def test_submitted_again_a_workload_keeps_its_first_trace_and_concerns_no_round(pool: Pool, seen: RoundsSeen) -> None:
    await submits(pool, {"first": FIRST})
    await submits(pool, {"first": SECOND})
    assert seen.concerned == [[FIRST]]
    assert [row["trace"] for row in await pool.sql("SELECT trace FROM workloads")] == [FIRST]


async def test_rounds_about_work_that_is_not_traced_are_not_recorded(pool: Pool, seen: RoundsSeen) -> None:
    await submits(pool, {"first": None})
    await submits(pool, {"waits": None})
    await pool.adjusts("cancel", "first")
    (notice,) = await plans(pool)
    assert (notice.trace, notice.round) == (None, None)
    assert seen.concerned == []
