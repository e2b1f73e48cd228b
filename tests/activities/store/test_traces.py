"""Traces in the record: who was submitted in one is told in it, and rounds know whom they concerned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from activities.answers import Notice
from activities.deciding import Decider
from activities.store.steps import RoundSpan, RoundTimes
from tests.activities.store.pool import Pool, a_spec, a_view

FIRST, SECOND = "00-first-01", "00-second-01"


@dataclass
class RoundsSeen:
    """Remembers whom rounds concerned; their spans are numbered from 1."""

    concerned: list[Sequence[str]] = field(default_factory=list)
    begun: int = 0

    def __call__(self, trigger: str) -> RoundSpan:
        self.begun += 1
        return RoundSeen(self, f"00-round-{self.begun}")


@dataclass
class RoundSeen(RoundSpan):
    rounds: RoundsSeen
    place: str | None

    def end(self, times: RoundTimes, concerned: Sequence[str]) -> None:
        assert times.tries == 1
        assert times.seconds > 0
        self.rounds.concerned.append(concerned)


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

    assert (notice.standing.workload, notice.trace, notice.round) == ("waits", SECOND, "00-round-3")
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
    assert {notice.round for notice in notices} == {None}, "no round decided that they run"


async def test_what_a_round_decided_is_told_again_with_the_same_link_by_whichever_worker(pool: Pool, seen: RoundsSeen) -> None:
    await submits(pool, {"first": FIRST})
    await submits(pool, {"waits": SECOND, "untraced": None}, gpus=4)
    await pool.adjusts("cancel", "first")
    told = await plans(pool)

    again = {notice.id: notice for notice in await pool.another_store().undelivered(0)}

    assert [again[notice.id] for notice in told] == told
    assert {notice.standing.workload: (notice.trace, notice.round) for notice in told} == {
        "waits": (SECOND, "00-round-3"),
        "untraced": (None, None),
    }


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
