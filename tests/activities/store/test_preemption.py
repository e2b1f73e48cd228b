"""Preemption in the record: who leaves gets notice, and what they free belongs to whom they leave for."""

import asyncio
from dataclasses import replace
from datetime import datetime

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.deciding import Decider
from activities.ports import Observation, Phase
from activities.store import attempts, housekeeping
from activities.store.policies import PolicyReader
from activities.store.rows import Journal
from corral.api import Cordon, Outcome, QueueTree, Reason, SlaTier, State, StopPolicy, WorkloadSpec
from corral.policy import Limits, Policy
from tests.activities.store.pool import POOL, PROVIDER, Pool, a_spec, a_view, by_workload
from tests.builders import UNPROMISED, a_queue


def an_important(id: str, *, gpus: int = 8, **fields: object) -> WorkloadSpec:
    return a_spec(id, gpus=gpus, tier=SlaTier.PREMIUM, **fields)


async def a_victim_leaving(pool: Pool) -> None:
    """`victim` runs on the only node and has notice to leave it to `urgent`."""
    await pool.gets(a_view())
    await pool.arrive(a_spec("victim"))
    await pool.runs("victim")
    pool.clock.move(100)
    await pool.arrive(an_important("urgent"))


async def test_a_victim_gets_notice_and_its_capacity_is_promised(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("victim"))
    await pool.runs("victim")
    standings, notices = await pool.store.round([an_important("urgent")], Decider().decide, "admission")
    assert (standings["urgent"].state, standings["urgent"].reason) == (State.RESERVING, Reason.WAITING_FOR_VICTIMS)
    assert by_workload(notices)["victim"].state is State.STOPPING
    assert await pool.phases("urgent") == {"n1": "promised"}
    assert await pool.used() == 8_000
    assert await pool.findings() == {}


async def test_a_promise_is_claimed_when_the_victim_is_observed_gone(pool: Pool) -> None:
    await a_victim_leaving(pool)
    assert await pool.phases("urgent") == {"n1": "promised"}
    told = await pool.ends("victim", Phase.CANCELLED)
    assert (told["victim"].state, told["urgent"].state) == (State.WAITING, State.RESERVED)
    assert await pool.phases("urgent") == {"n1": "claimed"}
    assert await pool.outcomes("victim") == [Outcome.PREEMPTED]
    assert await pool.findings() == {}


async def test_nobody_takes_what_is_promised(pool: Pool) -> None:
    await a_victim_leaving(pool)
    assert (await pool.arrive(a_spec("third", gpus=1)))["third"].state is State.WAITING
    await pool.ends("victim", Phase.CANCELLED)
    await pool.plan()
    assert await pool.states("victim", "urgent", "third") == [State.WAITING, State.RESERVED, State.WAITING]
    await pool.runs("urgent")
    assert await pool.findings() == {}


async def test_a_promise_waits_for_the_last_of_its_victims(pool: Pool) -> None:
    await pool.gets(a_view("n1"), a_view("n2"))
    await pool.arrive(a_spec("one"), a_spec("two"))
    await pool.runs("one", "two")
    await pool.arrive(an_important("urgent", count=2))
    assert await pool.states("one", "two", "urgent") == [State.STOPPING, State.STOPPING, State.RESERVING]
    assert "urgent" not in await pool.ends("one", Phase.CANCELLED)
    assert sorted((await pool.phases("urgent")).values()) == ["claimed", "promised"]
    assert (await pool.arrive(a_spec("third", gpus=1)))["third"].state is State.WAITING
    told = await pool.ends("two", Phase.CANCELLED)
    assert told["urgent"].state is State.RESERVED
    assert await pool.findings() == {}


async def test_who_needs_only_the_quota_of_its_victims_starts_when_they_are_gone(pool: Pool) -> None:
    await pool.gets(a_view("n1"), a_view("n2"), a_view("n3"), queues=[a_queue("research", 16)])
    await pool.arrive(a_spec("one"), a_spec("two"))
    await pool.runs("one", "two")
    await pool.arrive(an_important("urgent", count=2))
    assert await pool.states("one", "two", "urgent") == [State.STOPPING, State.STOPPING, State.RESERVING]
    await pool.ends("one", Phase.CANCELLED)
    assert await pool.states("urgent") == [State.RESERVING]
    told = await pool.ends("two", Phase.CANCELLED)
    assert told["urgent"].state is State.RESERVED
    assert await pool.findings() == {}


async def test_who_has_nodes_and_needs_quota_is_not_left_reserving(pool: Pool) -> None:
    await pool.gets(a_view("n1"), a_view("n2"), queues=[a_queue("research", 8)])
    await pool.arrive(a_spec("one"))
    await pool.runs("one")
    await pool.arrive(an_important("urgent"))
    assert await pool.states("one", "urgent") == [State.STOPPING, State.RESERVING]
    told = await pool.ends("one", Phase.CANCELLED)
    assert told["urgent"].state is State.RESERVED
    assert await pool.findings() == {}


async def test_victims_of_one_node_are_all_waited_for(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("one", gpus=4), a_spec("two", gpus=4))
    await pool.runs("one", "two")
    await pool.arrive(an_important("urgent"))
    await pool.ends("one", Phase.CANCELLED)
    assert await pool.state("urgent") is State.RESERVING
    assert await pool.phases("urgent") == {"n1": "promised"}
    await pool.ends("two", Phase.CANCELLED)
    assert await pool.phases("urgent") == {"n1": "claimed"}


async def test_a_cancelled_beneficiary_gives_its_promise_back(pool: Pool) -> None:
    await a_victim_leaving(pool)
    await pool.adjusts("cancel", "urgent")
    assert await pool.phases("urgent") == {"n1": "released"}
    await pool.ends("victim", Phase.CANCELLED)
    assert await pool.used() == 0
    await pool.plan()
    assert await pool.states("victim", "urgent") == [State.RESERVED, State.CANCELLED]
    assert await pool.findings() == {}


async def test_a_victim_that_finishes_by_itself_has_succeeded(pool: Pool) -> None:
    await a_victim_leaving(pool)
    told = await pool.ends("victim", Phase.SUCCEEDED, exit_code=0)
    assert (told["victim"].state, told["urgent"].state) == (State.SUCCEEDED, State.RESERVED)
    assert await pool.outcomes("victim") == [Outcome.FINISHED]


async def test_a_victim_that_fails_while_it_stops_was_preempted(pool: Pool) -> None:
    await a_victim_leaving(pool)
    await pool.ends("victim", Phase.FAILED, exit_code=143)
    assert await pool.outcomes("victim") == [Outcome.PREEMPTED]
    assert await pool.state("victim") is State.WAITING


async def test_a_victim_that_is_cancelled_while_it_stops_ends_cancelled(pool: Pool) -> None:
    await a_victim_leaving(pool)
    assert (await pool.adjusts("cancel", "victim")).standing.state is State.STOPPING
    told = await pool.ends("victim", Phase.CANCELLED)
    assert (told["victim"].state, told["urgent"].state) == (State.CANCELLED, State.RESERVED)


async def test_a_hold_on_a_victim_outlasts_its_preemption(pool: Pool) -> None:
    await a_victim_leaving(pool)
    await pool.adjusts("hold", "victim")
    await pool.ends("victim", Phase.CANCELLED)
    await pool.plan()
    assert await pool.states("victim", "urgent") == [State.SUSPENDED, State.RESERVED]


async def test_a_victim_keeps_its_age_and_comes_back_with_a_higher_epoch(pool: Pool) -> None:
    await a_victim_leaving(pool)
    submitted = (await pool.store.status("victim")).submitted_at  # type: ignore[union-attr]
    await pool.ends("victim", Phase.CANCELLED)
    await pool.runs("urgent")
    await pool.ends("urgent")
    await pool.plan()
    status = await pool.store.status("victim")
    assert status is not None
    assert (status.state, status.epoch, status.preemptions) == (State.RESERVED, 2, 1)
    assert status.submitted_at == submitted


async def test_how_an_attempt_ended_is_told_until_the_next_one_is_open(pool: Pool) -> None:
    await a_victim_leaving(pool)
    await pool.ends("victim", Phase.CANCELLED, exit_code=143)
    assert await ended(pool) == (State.WAITING, Outcome.PREEMPTED, 143)
    await pool.runs("urgent")
    await pool.ends("urgent")
    await pool.plan()
    await pool.runs("victim")
    assert await ended(pool) == (State.RUNNING, None, None)
    await pool.adjusts("cancel", "victim")
    assert await ended(pool) == (State.STOPPING, None, None)
    await pool.ends("victim", Phase.CANCELLED)
    assert await ended(pool) == (State.CANCELLED, Outcome.CANCELLED, None)


async def ended(pool: Pool) -> tuple[State, Outcome | None, int | None]:
    """As status and workflow are told alike."""
    status, standing = await pool.store.status("victim"), await pool.standing("victim")
    assert status is not None
    assert (status.outcome, status.exit_code) == (standing.outcome, standing.exit_code)
    return status.state, status.outcome, status.exit_code


async def test_work_since_the_last_checkpoint_is_lost_by_a_preemption(pool: Pool) -> None:
    await a_victim_leaving(pool)
    saved = pool.clock.now()
    pool.clock.move(20)
    await pool.ends("victim", Phase.CANCELLED, checkpoint_at=saved)
    rows = await pool.sql("SELECT kind, lost_milli_seconds FROM ledger WHERE workload_id = 'victim' ORDER BY id")
    assert [tuple(row.values()) for row in rows if row["lost_milli_seconds"]] == [("running", 8_000 * 20)]


async def test_who_was_preempted_often_enough_is_no_victim_any_more(pool: Pool) -> None:
    pool.policy = UNPROMISED.model_copy(update={"limits": Limits(maximum_preemptions=1)})
    pool.store = pool.another_store()
    await a_victim_leaving(pool)
    await pool.ends("victim", Phase.CANCELLED)
    await pool.runs("urgent")
    await pool.ends("urgent")
    await pool.plan()
    await pool.runs("victim")
    pool.clock.move(100)
    assert (await pool.arrive(an_important("another")))["another"].state is State.WAITING
    assert await pool.state("victim") is State.RUNNING


# Holds and drains


async def test_a_hold_that_nobody_binds_expires_and_its_workload_waits_again(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("slow"))
    pool.clock.move(Policy().hold_seconds - 1)
    assert await pool.store.keep_house() == []
    pool.clock.move(2)
    notices = by_workload(await pool.store.keep_house())
    assert notices["slow"].state is State.WAITING
    assert await pool.outcomes("slow") == [Outcome.EXPIRED]
    assert await pool.used() == 0
    assert await pool.store.keep_house() == []
    assert await pool.findings() == {}


async def test_a_promise_that_is_not_kept_in_time_expires(pool: Pool) -> None:
    await a_victim_leaving(pool)
    pool.clock.move(30 + Policy().hold_seconds + 1)
    notices = by_workload(await pool.store.keep_house())
    assert notices["urgent"].state is State.WAITING
    assert await pool.phases("urgent") == {"n1": "released"}
    assert await pool.findings() == {}


async def test_a_kept_promise_has_its_full_time_to_be_bound(pool: Pool) -> None:
    await a_victim_leaving(pool)
    pool.clock.move(Policy().hold_seconds - 1)
    await pool.ends("victim", Phase.CANCELLED)
    pool.clock.move(100)
    assert await pool.store.keep_house() == []
    assert await pool.state("urgent") is State.RESERVED


@pytest.mark.parametrize(
    ("turn", "why"),
    [
        ("cordon", "expired: its place was held on {n1}, which is cordoned: new firmware"),
        ("unready", "expired: its place was held on {n1}, which is not ready"),
        ("gone", "expired: its place was held on {n1}, which is not ready"),
    ],
)
async def test_a_promise_on_a_node_that_takes_nothing_new_is_given_back_for_a_place_elsewhere(
    pool: Pool, turn: str, why: str
) -> None:
    await a_victim_leaving(pool)
    await turns(pool, turn)
    notices = by_workload(await pool.store.keep_house())
    assert notices["urgent"].state is State.WAITING
    assert (await pool.store.events("urgent", 0))[-1].message == why.format(n1=f"{PROVIDER}/n1")
    assert await pool.phases("urgent") == {"n1": "released"}
    assert await pool.state("victim") is State.STOPPING, "whether somebody else needs it to go is for the next round to say"
    assert await pool.store.keep_house() == []
    await pool.gets(a_view("n2"))
    await pool.plan()
    assert (await pool.state("urgent"), await pool.state("victim")) == (State.RESERVED, State.RUNNING)
    assert await pool.findings() == {}


async def turns(pool: Pool, turn: str) -> None:
    """The only node takes nothing new from now on."""
    if turn == "cordon":
        await pool.store.cordon(PROVIDER, Cordon(action="cordon", nodes=("n1",), reason="new firmware"), key="firmware")
    else:
        views = [] if turn == "gone" else [replace(a_view(), ready=False)]
        await pool.store.write_nodes(PROVIDER, views, complete=True)


async def test_a_gang_gives_back_all_of_a_place_of_which_a_part_takes_nothing_new(pool: Pool) -> None:
    await pool.gets(a_view("n1"), a_view("n2"))
    await pool.arrive(a_spec("gang", count=2))
    assert await pool.state("gang") is State.RESERVED
    await turns(pool, "cordon")
    assert by_workload(await pool.store.keep_house())["gang"].state is State.WAITING
    assert await pool.phases("gang") == {"n1": "released", "n2": "released"}
    assert await pool.findings() == {}


@pytest.mark.parametrize("turn", ["cordon", "unready"])
async def test_what_is_bound_runs_on_where_nothing_new_goes(pool: Pool, turn: str) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("train"))
    await pool.binds("train")
    await turns(pool, turn)
    assert await pool.store.keep_house() == []
    assert await pool.state("train") is State.STARTING


async def test_a_bound_hold_does_not_expire(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("train"))
    await pool.binds("train")
    pool.clock.move(Policy().hold_seconds * 2)
    assert await pool.store.keep_house() == []


async def test_housekeeping_spares_who_is_bound_in_the_meantime(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def due_until_somebody_binds(connection: AsyncConnection, now: datetime) -> dict[str, housekeeping.Departure]:
        due = await housekeeping.housekeeping_due(connection, now)
        await pool.binds(*due)
        return due

    await pool.gets(a_view())
    await pool.arrive(a_spec("train"))
    pool.clock.move(Policy().hold_seconds + 1)
    monkeypatch.setattr("activities.store.parts.attempts.housekeeping_due", due_until_somebody_binds)
    await pool.store.keep_house()
    assert await pool.state("train") is State.STARTING


async def test_work_on_a_draining_node_gets_notice_once(pool: Pool) -> None:
    await pool.gets(a_view("n1"), a_view("n2"))
    await pool.arrive(a_spec("runs"), a_spec("stays"))
    await pool.runs("runs", "stays")
    (drained,) = await pool.phases("runs")
    await pool.orders("drain", drained)
    assert by_workload(await pool.store.keep_house())["runs"].state is State.STOPPING
    assert await pool.store.keep_house() == []
    await pool.ends("runs", Phase.CANCELLED)
    await pool.plan()
    assert await pool.outcomes("runs") == [Outcome.DRAINED]
    assert await pool.states("runs", "stays") == [State.WAITING, State.RUNNING]


async def test_a_hold_on_a_draining_node_is_taken_back_at_once(pool: Pool) -> None:
    await pool.gets(a_view("n1"), a_view("n2", gpus=4))
    await pool.arrive(a_spec("held"))
    await pool.orders("drain", "n1")
    assert by_workload(await pool.store.keep_house())["held"].state is State.WAITING
    assert await pool.used() == 0


async def test_a_queue_that_drains_gives_notice_to_all_work_below_it_and_starts_none(pool: Pool) -> None:
    tree = [a_queue("company", 8), a_queue("research", 8, parent="company"), a_queue("sales", 8)]
    await pool.gets(a_view("n1"), a_view("n2"), a_view("n3"), queues=tree)
    await pool.arrive(a_spec("runs"), a_spec("stays", queue="sales"))
    await pool.runs("runs", "stays")
    await pool.arrive(a_spec("held"))
    await pool.store.apply_queues(QueueTree(queues=(tree[0].model_copy(update={"stop": StopPolicy.HOLD_AND_DRAIN}),)))
    notices = by_workload(await pool.store.keep_house())
    assert {id: notice.state for id, notice in notices.items()} == {"runs": State.STOPPING, "held": State.WAITING}
    assert await pool.store.keep_house() == []
    await pool.ends("runs", Phase.CANCELLED)
    await pool.plan()
    assert await pool.outcomes("runs") == [Outcome.DRAINED]
    assert await pool.states("runs", "held", "stays") == [State.WAITING, State.WAITING, State.RUNNING]
    assert (await pool.standing("runs")).reason is Reason.QUEUE_STOPPED
    assert await pool.findings() == {}


async def test_a_queue_on_hold_keeps_what_runs(pool: Pool) -> None:
    await pool.gets(a_view(), queues=[a_queue("research", 8)])
    await pool.arrive(a_spec("runs"))
    await pool.runs("runs")
    held = a_queue("research", 8).model_copy(update={"stop": StopPolicy.HOLD})
    await pool.store.apply_queues(QueueTree(queues=(held,)))
    assert await pool.store.keep_house() == []
    assert await pool.state("runs") is State.RUNNING


async def test_an_uncordoned_node_is_used_again(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.orders("cordon", "n1")
    assert (await pool.arrive(a_spec("train")))["train"].state is State.WAITING
    await pool.orders("uncordon", "n1")
    assert (await pool.plan())["train"].state is State.RESERVED


# Two processes


async def test_victims_that_leave_at_once_in_two_processes_both_count(pool: Pool) -> None:
    await pool.gets(a_view("n1"), a_view("n2"))
    await pool.arrive(a_spec("one"), a_spec("two"))
    await pool.runs("one", "two")
    await pool.arrive(an_important("urgent", count=2))
    first, second = [await pool.observation(id, Phase.CANCELLED) for id in ("one", "two")]
    here = pool.engine
    async with here.connect() as connection:
        await _settle(pool, connection, first)
        there = asyncio.create_task(pool.store.settle([second]))
        await _until_done_or_locked_out(pool, there)
        await connection.commit()
    await there
    assert await pool.state("urgent") is State.RESERVED
    assert await pool.findings() == {}


async def _settle(pool: Pool, connection: object, observation: Observation) -> None:
    journal = Journal(pool.clock, PolicyReader(POOL, UNPROMISED), pool.clock.now())
    await attempts.settle(connection, journal, [observation], frozenset())  # type: ignore[arg-type]
    await journal.write(connection)  # type: ignore[arg-type]


async def _until_done_or_locked_out(pool: Pool, task: "asyncio.Task[object]") -> None:
    """Until the other transaction has committed, or waits for a lock that this one has."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while not task.done() and not await pool.sql(waiting):  # noqa: ASYNC110  the database sets no event
        await asyncio.sleep(0.02)


async def test_two_processes_may_preempt_settle_and_adjust_at_once(pool: Pool) -> None:
    await pool.gets(*(a_view(f"n{number}") for number in range(4)))
    low = [a_spec(f"low{number}", gpus=4) for number in range(8)]
    await pool.arrive(*low)
    await pool.runs(*(spec.id for spec in low))
    other = pool.another_store()

    async def plan() -> None:
        for number in range(6):
            await pool.store.round([an_important(f"high{number}", gpus=4)], Decider().decide, "admission")

    async def watch() -> None:
        for spec in low:
            await other.settle([await pool.observation(spec.id, Phase.CANCELLED)])
            await other.keep_house()

    async def meddle() -> None:
        for spec in reversed(low):
            await pool.adjusts("reprioritize", spec.id, priority=1)

    await asyncio.gather(plan(), watch(), meddle())
    await other.round([], Decider().decide, "planner")
    assert await pool.findings() == {}
