"""Whoever waits is told what would start it."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import datetime
from itertools import count

import pytest
from temporalio.testing import ActivityEnvironment

from activities import advice
from activities.advice import FRESH_FOR, Advisor
from activities.inquiry import Inquiry
from activities.rounds import Rounds
from corral.api import FixKind, FixSearch
from domain.advice.fixes import Found
from domain.advice.question import GoOn
from domain.snapshot import Snapshot
from tests.activities.fakes import Crew
from tests.activities.store.pool import Pool, a_spec, a_view
from tests.patience import PATIENCE_SECONDS


async def test_fixes_are_found_beside_the_rounds_and_told_once(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("first"), a_spec("second"))
    await pool.runs("first")
    advisor = Advisor(pool.store)
    await pool.store.round([], advisor.decide, "planner")
    await advisor.seek()
    _, notices = await pool.store.round([], advisor.decide, "planner")
    assert [(notice.standing.workload, bool(notice.standing.fixes)) for notice in notices] == [("second", True)]
    assert await pool.store.round([], advisor.decide, "planner") == ({}, [])


async def test_who_has_no_fix_is_told_whether_nothing_helps_or_not_everything_was_tried(
    pool: Pool, searches: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await with_one_that_waits(pool)
    monkeypatch.setattr(advice, "SEARCH_SECONDS", 0.0)
    advisor = Advisor(pool.store)
    await pool.store.round([], advisor.decide, "planner")
    await advisor.seek()
    assert searches == ["second"]
    _, notices = await pool.store.round([], advisor.decide, "planner")
    assert [(notice.standing.fixes, notice.standing.fix_search) for notice in notices] == [((), FixSearch.CUT_SHORT)]
    assert (status := await pool.store.status("second"))
    assert status.explanation
    assert status.explanation.fix_search is FixSearch.CUT_SHORT
    assert await pool.store.round([], advisor.decide, "planner") == ({}, [])


async def test_what_is_told_unasked_names_nobody(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("first"), a_spec("second"))
    await pool.runs("first")
    advisor = Advisor(pool.store)
    await pool.store.round([], advisor.decide, "planner")
    await advisor.seek()
    _, notices = await pool.store.round([], advisor.decide, "planner")
    fixes = notices[0].standing.fixes
    assert FixKind.STOP_OTHERS in {fix.kind for fix in fixes}
    assert not any(fix.victims or "workload first" in fix.message for fix in fixes)


async def test_an_explanation_is_found_out_when_it_is_asked_for(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("first"), a_spec("second"))
    await pool.runs("first")
    inquiry = Inquiry(pool.store)
    for names, victims in ((False, ()), (True, ("first",))):
        explanation = (await inquiry.explain("second", names)).explanation
        assert explanation
        assert explanation.position == 1
        stop = next(fix for fix in explanation.fixes if fix.kind is FixKind.STOP_OTHERS)
        assert stop.victims == victims


async def test_what_runs_has_nothing_to_explain(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("first"))
    await pool.runs("first")
    assert (await Inquiry(pool.store).explain("first", False)).explanation is None


async def test_only_operators_are_told_which_queues_have_names_like_an_unknown_one(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("typo", queue="reserch"), a_spec("odd", queue="xyz"))
    inquiry = Inquiry(pool.store)
    assert (told := (await inquiry.explain("typo", False)).explanation)
    assert "research" not in told.message
    assert (told := (await inquiry.explain("typo", True)).explanation)
    assert told.message.endswith("its name is most like those of research")
    assert (told := (await inquiry.explain("odd", True)).explanation)
    assert "has a name like it" in told.message


# Searches that take long


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every search goes on until it is told to stop, and finds nothing; the workloads of those that began."""
    began: list[str] = []
    over = threading.Event()

    def endless(workload: str, snapshot: Snapshot, now: datetime, *, go_on: GoOn) -> Found:
        began.append(workload)
        while go_on() and not over.wait(0.005):
            pass
        return Found((), FixSearch.CUT_SHORT)

    monkeypatch.setattr(advice, "search", endless)
    monkeypatch.setattr(advice, "PAUSE_SECONDS", 0.0)
    yield began
    over.set()


async def with_one_that_waits(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("first"), a_spec("second"))
    await pool.runs("first")


async def test_the_planner_keeps_house_and_decides_while_a_search_goes_on(pool: Pool, searches: list[str]) -> None:
    await with_one_that_waits(pool)
    crew = Crew(pool)
    rounds = Rounds(
        pool.store, crew.courier, crew.workloads, pool.clock, crew.pulling, tick_seconds=0.05, reconcile_seconds=0.05
    )
    environment, decide = ActivityEnvironment(), rounds._decide
    begun = count(1)

    async def decides_three_times() -> int:
        if next(begun) == 3:
            environment.worker_shutdown()
        return await decide()

    rounds._decide = decides_three_times  # type: ignore[method-assign]
    done = await environment.run(rounds.keep_deciding, PATIENCE_SECONDS)
    assert searches == ["second"], "one at a time"
    assert done.rounds == 3


async def test_a_search_ends_after_its_time_and_is_not_repeated(
    pool: Pool, searches: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await with_one_that_waits(pool)
    monkeypatch.setattr(advice, "SEARCH_SECONDS", 0.05)
    advisor = Advisor(pool.store)
    await pool.store.round([], advisor.decide, "planner")
    await asyncio.wait_for(advisor.seek(), PATIENCE_SECONDS)
    await advisor.seek()
    assert searches == ["second"]
    pool.clock.move(FRESH_FOR.total_seconds() + 1)
    await advisor.seek()
    assert searches == ["second", "second"]


async def test_a_search_that_nobody_waits_for_any_more_ends_and_counts_as_done(pool: Pool, searches: list[str]) -> None:
    await with_one_that_waits(pool)
    advisor = Advisor(pool.store)
    await pool.store.round([], advisor.decide, "planner")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(advisor.seek(), 0.1)
    await advisor.seek()
    assert searches == ["second"]


async def test_a_search_that_fails_is_not_repeated_and_stops_no_planner(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    await with_one_that_waits(pool)
    failed: list[str] = []

    def failing(workload: str, snapshot: Snapshot, now: datetime, *, go_on: GoOn) -> Found:
        failed.append(workload)
        raise IndexError("a defect")

    monkeypatch.setattr(advice, "search", failing)
    advisor = Advisor(pool.store)
    await pool.store.round([], advisor.decide, "planner")
    await advisor.seek()
    await advisor.seek()
    assert failed == ["second"]
