"""Whoever waits is told what would start it."""

from activities.advice import Advisor
from activities.inquiry import Inquiry
from corral.api import FixKind
from tests.activities.store.pool import Pool, a_spec, a_view


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
