"""Observations: what is believed of them, and what becomes of workloads and their ledgers."""

from dataclasses import replace
from fractions import Fraction

import pytest

from activities.answers import AttemptKey
from activities.ports import Phase
from corral.api import Outcome, Reason, SlaTier, State
from domain.decision import Plan
from domain.pool.lifecycle import Leave
from domain.quota.accounting import Interval, IntervalKind, gpu_fraction
from tests.activities.store.pool import Pool, a_spec, a_view, noon


@pytest.fixture
async def bound(pool: Pool) -> Pool:
    """`train` was bound at noon on the only node."""
    await pool.gets(a_view())
    await pool.arrive(a_spec("train"))
    await pool.binds("train")
    return pool


async def test_a_binding_is_the_same_however_often_it_is_asked_for(bound: Pool) -> None:
    before = await bound.dump()
    first = await bound.binds("train")
    key = await bound.key("train")
    assert await bound.store.begin_bindings([key, key]) == [first["train"], first["train"]]
    assert await bound.dump() == before


async def test_a_binding_that_is_asked_for_twice_at_once_happens_once(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("train"))
    key = await pool.key("train")
    first, second = await pool.store.begin_bindings([key, key])
    assert first == second
    assert await pool.intervals("train") == [("waiting", 0, 0), ("starting", 0, None)]


async def test_a_launch_names_its_nodes_as_the_provider_does(bound: Pool) -> None:
    order = (await bound.binds("train"))["train"]
    assert order is not None
    assert (order.attempt_id, order.epoch, order.provider) == ("train.1", 1, "aws")
    assert [(place.node, place.replica.devices) for place in order.places] == [("n1", tuple(range(8)))]


async def test_other_epochs_have_no_right_to_launch(bound: Pool) -> None:
    keys = [AttemptKey("train", 0), AttemptKey("train", 2), AttemptKey("nobody", 1)]
    assert await bound.store.begin_bindings(keys) == [None] * 3


async def test_who_is_to_stop_has_no_right_to_launch(bound: Pool) -> None:
    await bound.adjusts("cancel", "train")
    assert await bound.binds("train") == {"train": None}
    order = await bound.store.stop_order(await bound.key("train"))
    assert order is not None
    assert (order.attempt_id, order.notice, order.leave) == ("train.1", 1, Leave.ORDERED)


async def test_who_is_observed_running_runs(bound: Pool) -> None:
    bound.clock.move(5)
    told = await bound.seen(await bound.observation("train", Phase.RUNNING))
    assert told["train"].state is State.RUNNING
    assert await bound.intervals("train") == [("waiting", 0, 0), ("starting", 0, 5), ("running", 5, None)]


async def test_a_repeated_observation_changes_nothing(bound: Pool) -> None:
    seen = await bound.observation("train", Phase.RUNNING)
    await bound.seen(seen)
    before = await bound.dump()
    assert await bound.seen(seen) == {}
    assert await bound.seen(seen, seen) == {}
    assert await bound.dump() == before


async def test_who_asked_is_not_told_that_the_attempt_runs_but_that_it_ended(bound: Pool) -> None:
    seen = await bound.observation("train", Phase.RUNNING)
    assert await bound.seen(seen, answered={"train.1"}) == {}
    assert await bound.state("train") is State.RUNNING
    ended = await bound.observation("train", Phase.SUCCEEDED)
    assert (await bound.seen(ended, answered={"train.1"}))["train"].state is State.SUCCEEDED


async def test_an_observation_of_an_older_epoch_changes_nothing(bound: Pool) -> None:
    await bound.runs("train")
    await bound.ends("train", Phase.LOST)
    await bound.plan()
    await bound.runs("train")
    before = await bound.dump()
    assert await bound.ends("train", Phase.SUCCEEDED, epoch=1) == {}
    assert await bound.dump() == before
    assert (await bound.standing("train")).epoch == 2


async def test_nothing_is_observed_of_what_has_ended(bound: Pool) -> None:
    await bound.runs("train")
    await bound.ends("train", exit_code=0)
    before = await bound.dump()
    for phase in Phase:
        assert await bound.ends("train", phase, epoch=1) == {}
    assert await bound.dump() == before


async def test_an_observation_of_an_unknown_attempt_changes_nothing(bound: Pool) -> None:
    stranger = replace(await bound.observation("train", Phase.SUCCEEDED), attempt_id="stranger.1")
    before = await bound.dump()
    assert await bound.seen(stranger) == {}
    assert await bound.dump() == before


async def test_what_was_never_launched_is_not_believed_to_run(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("held"))
    assert await pool.ends("held", Phase.SUCCEEDED) == {}
    assert await pool.ends("held", Phase.RUNNING) == {}
    assert await pool.state("held") is State.RESERVED


async def test_a_start_and_an_end_that_are_told_together_both_count(bound: Pool) -> None:
    bound.clock.move(60)
    started = await bound.observation("train", Phase.RUNNING, started=noon(10))
    ended = await bound.observation("train", Phase.SUCCEEDED, started=noon(10), at=noon(50), exit_code=0)
    told = await bound.seen(ended, started)
    assert (told["train"].state, told["train"].exit_code) == (State.SUCCEEDED, 0)
    assert await bound.intervals("train") == [("waiting", 0, 0), ("starting", 0, 10), ("running", 10, 50)]
    assert await bound.findings() == {}


@pytest.mark.parametrize("skew", [-3, 3])
async def test_intervals_follow_each_other_whatever_the_clock_of_the_provider_shows(bound: Pool, skew: int) -> None:
    bound.clock.move(1)
    await bound.seen(await bound.observation("train", Phase.RUNNING, started=noon(1 + skew)))
    await bound.ends("train", Phase.LOST, at=noon(1 + skew))
    await bound.plan()
    await bound.binds("train")
    await bound.seen(await bound.observation("train", Phase.RUNNING, started=noon(1 - skew)))
    await bound.adjusts("cancel", "train")
    await bound.ends("train", Phase.CANCELLED, at=noon(0))
    assert await bound.findings() == {}


async def test_a_failure_is_repeated_after_a_back_off_that_grows(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("flaky", retries=2))
    for back_off in (20, 40):
        await pool.runs("flaky")
        told = await pool.ends("flaky", Phase.FAILED, exit_code=1)
        assert (told["flaky"].state, told["flaky"].exit_code) == (State.WAITING, 1)
        pool.clock.move(back_off - 1)
        assert not await pool.store.has_work()
        assert await pool.plan() == {}
        pool.clock.move(1)
        assert await pool.store.has_work()
        assert (await pool.plan())["flaky"].state is State.RESERVED
    await pool.runs("flaky")
    told = await pool.ends("flaky", Phase.FAILED, exit_code=3)
    assert (told["flaky"].state, told["flaky"].outcome, told["flaky"].exit_code) == (State.FAILED, Outcome.FAILED, 3)
    assert (told["flaky"].reason, told["flaky"].message) == (Reason.FAILED, "failed: exit code 3")
    assert await pool.outcomes("flaky") == [Outcome.FAILED] * 3
    assert await pool.findings() == {}


async def test_what_is_lost_waits_again_at_once_and_keeps_its_age(bound: Pool) -> None:
    await bound.runs("train")
    bound.clock.move(100)
    await bound.arrive(a_spec("younger"))
    told = await bound.ends("train", Phase.LOST)
    assert told["train"].state is State.WAITING
    assert (await bound.plan())["train"].state is State.RESERVED
    assert await bound.states("train", "younger") == [State.RESERVED, State.WAITING]
    assert await bound.outcomes("train") == [Outcome.LOST]


async def test_an_array_is_done_when_all_waves_of_its_tasks_are(pool: Pool) -> None:
    await pool.gets(a_view(gpus=4))
    await pool.arrive(a_spec("sweep", gpus=1, tasks=10))
    for done, left in ((4, 6), (8, 2)):
        await pool.runs("sweep")
        assert (await pool.ends("sweep"))["sweep"].state is State.WAITING
        status = await pool.store.status("sweep")
        assert status is not None
        assert status.tasks_done == done
        await pool.plan()
        assert await pool.used() == min(left, 4) * 1000
        assert await pool.findings() == {}
    await pool.runs("sweep")
    assert (await pool.ends("sweep"))["sweep"].state is State.SUCCEEDED


async def test_time_that_was_run_counts_over_all_attempts(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("limited", maximum_runtime_seconds=100))
    await pool.binds("limited")
    assert (await pool.standing("limited")).runtime_left == 100
    await pool.runs("limited")
    pool.clock.move(30)
    assert (await pool.standing("limited")).runtime_left == 70
    await pool.ends("limited", Phase.LOST)
    assert (await pool.standing("limited")).runtime_left is None
    pool.clock.move(1_000)
    await pool.plan()
    await pool.runs("limited")
    assert (await pool.standing("limited")).runtime_left == 70
    pool.clock.move(80)
    assert (await pool.standing("limited")).runtime_left == 0
    await pool.adjusts("expire", "limited")
    told = await pool.ends("limited", Phase.CANCELLED)
    assert (told["limited"].state, told["limited"].message) == (State.FAILED, "out-of-time")
    assert await pool.outcomes("limited") == [Outcome.LOST, Outcome.OUT_OF_TIME]


async def test_a_refusal_that_others_need_not_share_puts_the_workload_back_in_line(bound: Pool) -> None:
    notices = await bound.store.refuse_binding(await bound.key("train"), "no room on n1", final=False)
    assert [notice.standing.state for notice in notices] == [State.WAITING]
    assert await bound.outcomes("train") == [Outcome.REFUSED_BY_PROVIDER]
    assert await bound.plan() == {}
    bound.clock.move(10)
    assert (await bound.plan())["train"].epoch == 2
    assert await bound.findings() == {}


async def test_a_refusal_that_all_would_share_is_the_end(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("train", retries=5))
    await pool.binds("train")
    await pool.store.refuse_binding(await pool.key("train"), "no such image", final=True)
    assert await pool.state("train") is State.FAILED
    events = await pool.store.events("train", 0)
    assert events[-1].message == "failed: no such image"
    assert (await pool.standing("train")).message == "failed: no such image"
    assert await pool.used() == 0
    assert await pool.findings() == {}


async def test_a_refusal_of_an_older_epoch_changes_nothing(bound: Pool) -> None:
    before = await bound.dump(without=["pools"])
    assert await bound.store.refuse_binding(AttemptKey("train", 0), "late", final=True) == []
    assert await bound.dump(without=["pools"]) == before


async def test_a_refusal_of_what_was_cancelled_meanwhile_ends_it_cancelled(bound: Pool) -> None:
    await bound.adjusts("cancel", "train")
    await bound.store.refuse_binding(await bound.key("train"), "released before it began", final=False)
    assert await bound.state("train") is State.CANCELLED


async def test_a_provider_is_asked_about_what_was_sent_there_only(pool: Pool) -> None:
    await pool.gets(a_view("n1", gpus=1), a_view("n2", gpus=1), a_view("n3", gpus=1))
    await pool.arrive(a_spec("held", gpus=1), a_spec("starts", gpus=1), a_spec("runs", gpus=1))
    await pool.binds("starts")
    await pool.runs("runs")
    open_now = await pool.store.open_attempts_at("aws")
    assert {attempt.id: attempt.has_run for attempt in open_now} == {"starts.1": False, "runs.1": True}
    await pool.adjusts("cancel", "runs")
    pool.clock.move(10)
    assert await pool.store.stops_due("aws", 15) == []
    pool.clock.move(10)
    assert await pool.store.stops_due("aws", 15) == [AttemptKey("runs", 1)]


# The ledger


async def test_the_ledger_gives_the_share_of_time_that_was_really_computed(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("first"))
    await pool.runs("first")
    pool.clock.move(10)
    await pool.arrive(a_spec("second"))
    pool.clock.move(30)
    await pool.ends("first")
    await pool.plan()
    await pool.binds("second")
    pool.clock.move(10)
    await pool.runs("second")
    pool.clock.move(40)
    await pool.ends("second", Phase.LOST, checkpoint_at=noon(70))
    pool.clock.move(10)
    assert await pool.intervals("second") == [
        ("waiting", 10, 40),
        ("starting", 40, 50),
        ("running", 50, 90),
        ("waiting", 90, None),
    ]
    assert gpu_fraction(await _ledger(pool, "second"), noon(0), noon(100)) == Fraction(40 - 20, 90)
    assert gpu_fraction(await _ledger(pool, "first"), noon(0), noon(100)) == 1


async def test_time_in_which_a_workload_is_held_is_not_entitled(pool: Pool) -> None:
    await pool.gets(a_view(gpus=4))
    await pool.arrive(a_spec("first", gpus=4))
    await pool.arrive(a_spec("second", gpus=4))
    pool.clock.move(10)
    await pool.adjusts("hold", "second")
    pool.clock.move(50)
    await pool.adjusts("release", "second")
    pool.clock.move(10)
    rows = await _ledger(pool, "second")
    assert [(row.kind, row.entitled_milli) for row in rows] == [
        (IntervalKind.WAITING, 4_000),
        (IntervalKind.SUSPENDED, 0),
        (IntervalKind.WAITING, 4_000),
    ]
    assert gpu_fraction(rows, noon(0), noon(100)) == 0
    assert gpu_fraction(rows, noon(10), noon(60)) is None


async def _ledger(pool: Pool, workload: str) -> list[Interval]:
    rows = await pool.sql("SELECT * FROM ledger WHERE workload_id = $1 ORDER BY id", workload)
    return [
        Interval(
            row["workload_id"],
            SlaTier(row["tier"]),
            row["queue"],
            IntervalKind(row["kind"]),
            row["entitled_milli"],
            row["allocated_milli"],
            row["began_at"],
            row["ended_at"],
            row["lost_milli_seconds"],
        )
        for row in rows
    ]


@pytest.mark.parametrize("is_start_seen", [True, False])
async def test_an_attempt_whose_end_is_seen_late_is_not_charged_for_what_began_since(bound: Pool, is_start_seen: bool) -> None:
    if is_start_seen:
        await bound.seen(await bound.observation("train", Phase.RUNNING, at=noon(5), started=noon(5)))
    beyond, within = Plan((), over_quota=frozenset({"train"})), Plan(())
    for plan, at in ((beyond, 30), (within, 40)):
        bound.clock.time = noon(at)
        await bound.store.round([], lambda _, __, plan=plan: (plan, {}), "planner")  # type: ignore[misc]
    bound.clock.time = noon(60)

    await bound.ends("train", Phase.LOST, at=noon(20), started=noon(5))

    rows = await bound.sql("SELECT allocated_milli > 0 AS had, began_at, ended_at FROM ledger ORDER BY id")
    had = [(row["ended_at"] - row["began_at"]).total_seconds() for row in rows if row["had"]]
    assert (len(had), sum(had)) == (4, 20), "bound at noon, gone 20 seconds later, through four intervals"
    assert (await bound.intervals("train"))[-1] == ("waiting", 20, None)
    flowed = "SELECT -sum(milli_moment + milli::numeric * hour * 3600000) AS used FROM flows WHERE queue = 'research'"
    assert [int(row["used"]) for row in await bound.sql(flowed)] == [20_000 * 8_000]
