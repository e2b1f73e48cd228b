"""A workload that deciding fails about, by a defect of Corral, keeps nobody else from being decided about."""

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

import pytest

from activities.admission import Admission
from activities.advice import Advisor
from activities.answers import AdmissionOrder
from activities.deciding import AGAIN_AFTER, Decider
from corral.api import Reason, State
from domain import isolation
from domain.advice import question
from domain.advice.fixes import explained_now
from domain.decision import Plan
from domain.isolation import schedule_around
from domain.round import schedule, who_starts
from domain.snapshot import Snapshot
from tests.activities.fakes import Crew
from tests.activities.store.pool import Pool, a_spec, a_view
from tests.builders import NOON, a_node, a_queue, a_snapshot, a_workload, seconds, started, why

COUNTED: list[int] = []


def line(number: int = 20, gpus: int = 1) -> Snapshot:
    """A node for eight, and many who wait, `w0` first."""
    work = [a_workload(f"w{index}", gpus=gpus, submitted_at=NOON - seconds(1_000 - index)) for index in range(number)]
    return a_snapshot([a_node("n", gpus=8)], [a_queue("research", 8)], *work)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> set[frozenset[str]]:
    """Groups of workloads about which, when all of a group have their turns together, deciding fails."""
    groups: set[frozenset[str]] = set()
    COUNTED.clear()

    def check(snapshot: Snapshot) -> None:
        ids = {workload.id for workload in snapshot.waiting}
        if found := [group for group in groups if group <= ids]:
            raise IndexError(f"no such thing as {found}")

    def fragile(snapshot: Snapshot, now: datetime, **others: Any) -> Plan:
        COUNTED.append(len(snapshot.waiting))
        check(snapshot)
        return schedule(snapshot, now, **others)

    def as_fragile(snapshot: Snapshot, now: datetime) -> frozenset[str]:
        check(snapshot)
        return who_starts(snapshot, now)

    monkeypatch.setattr(isolation, "schedule", fragile)
    monkeypatch.setattr(question, "who_starts", as_fragile)
    return groups


def reasons(plan: Plan, ids: Collection[str]) -> set[Reason]:
    return {why(plan, id).reason for id in ids}


def test_whoever_a_round_fails_about_waits_with_a_reason_and_all_others_have_their_turns(broken: set[frozenset[str]]) -> None:
    broken.add(frozenset({"w3"}))
    plan, fault = schedule_around(line(), NOON)
    assert fault
    assert fault.workload_id == "w3"
    assert set(started(plan)) == {f"w{index}" for index in (0, 1, 2, 4, 5, 6, 7, 8)}
    assert why(plan, "w3").reason is Reason.INTERNAL_ERROR
    assert "no such thing" not in why(plan, "w3").message, "what was raised may name others"
    assert sorted(decision.workload_id for decision in plan.decisions) == sorted(work.id for work in line().waiting)


def test_the_search_takes_few_rounds(broken: set[frozenset[str]]) -> None:
    broken.add(frozenset({"w40"}))
    schedule_around(line(64), NOON)
    assert len(COUNTED) <= 1 + 6 + 1


def test_of_two_about_which_it_fails_together_the_later_is_set_aside(broken: set[frozenset[str]]) -> None:
    broken.add(frozenset({"w1", "w3"}))
    plan, fault = schedule_around(line(), NOON)
    assert fault
    assert fault.workload_id == "w3"
    assert "w1" in started(plan)


def test_a_round_sets_one_aside_and_leaves_those_behind_another_for_the_next(broken: set[frozenset[str]]) -> None:
    broken.update({frozenset({"w3"}), frozenset({"w5"})})
    decider = Decider()
    plan, _ = decider.decide(line(), NOON)
    assert set(started(plan)) == {"w0", "w1", "w2"}
    assert why(plan, "w3").reason is Reason.INTERNAL_ERROR
    assert reasons(plan, ("w4", "w5", "w6")) == {Reason.PENDING_EVALUATION}
    assert plan.unfinished
    plan, _ = decider.decide(line(), NOON)
    assert len(started(plan)) == 8
    assert reasons(plan, ("w3", "w5")) == {Reason.INTERNAL_ERROR}
    COUNTED.clear()
    decider.decide(line(), NOON)
    assert COUNTED == [18], "who is set aside is not sought again"


def test_who_was_set_aside_is_tried_again_after_a_while(broken: set[frozenset[str]]) -> None:
    broken.add(frozenset({"w3"}))
    decider = Decider()
    decider.decide(line(), NOON)
    broken.clear()
    assert "w3" not in started(decider.decide(line(), NOON + AGAIN_AFTER - timedelta(seconds=1))[0])
    assert "w3" in started(decider.decide(line(), NOON + AGAIN_AFTER)[0])


def test_where_deciding_fails_without_anybody_everybody_is_told(broken: set[frozenset[str]]) -> None:
    broken.add(frozenset())
    plan, fault = schedule_around(line(4), NOON)
    assert fault
    assert fault.workload_id is None
    assert reasons(plan, ("w0", "w1", "w2", "w3")) == {Reason.INTERNAL_ERROR}


def test_a_failure_is_logged_with_the_workload_and_the_error(
    broken: set[frozenset[str]], caplog: pytest.LogCaptureFixture
) -> None:
    broken.add(frozenset({"w3"}))
    Decider().decide(line(), NOON)
    assert "workload w3" in caplog.text
    assert "IndexError: no such thing" in caplog.text


def test_who_waits_beside_a_workload_that_is_set_aside_is_still_offered_fixes(broken: set[frozenset[str]]) -> None:
    broken.add(frozenset({"w0"}))
    full = line(3, gpus=8)
    told = explained_now("w2", full, NOON)
    assert told
    assert told.reason is Reason.WAITING_FOR_QUOTA
    assert told.fixes
    assert (aside := explained_now("w0", full, NOON))
    assert (aside.reason, aside.fixes) == (Reason.INTERNAL_ERROR, ())


async def test_an_arrival_that_deciding_fails_about_waits_and_those_that_came_with_it_start(
    pool: Pool, broken: set[frozenset[str]]
) -> None:
    broken.add(frozenset({"bad"}))
    await pool.gets(a_view())
    admission = Admission(pool.store, Crew(pool).courier)
    specs = [a_spec("bad", gpus=1), a_spec("good", gpus=1)]
    orders = [AdmissionOrder(spec.id, spec.model_dump(mode="json")) for spec in specs]
    bad, good = await asyncio.gather(*(admission.admit(order) for order in orders))
    assert (bad.state, bad.reason) == (State.WAITING, Reason.INTERNAL_ERROR)
    assert good.state is State.RESERVED


async def test_who_waits_beside_a_workload_that_is_set_aside_is_told_its_fixes_unasked(
    pool: Pool, broken: set[frozenset[str]]
) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("first"))
    await pool.runs("first")
    broken.add(frozenset({"bad"}))
    await pool.arrive(a_spec("bad"), a_spec("good"))
    advisor = Advisor(pool.store)
    await pool.store.round([], advisor.decide, "planner")
    await advisor.seek()
    _, notices = await pool.store.round([], advisor.decide, "planner")
    assert [(notice.standing.workload, bool(notice.standing.fixes)) for notice in notices] == [("good", True)]
