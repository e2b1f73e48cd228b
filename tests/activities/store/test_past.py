"""What a snapshot knows of the past: the control window, over-quota time, back-offs, and stops of late."""

from datetime import datetime
from typing import Any

from activities.ports import Phase
from corral.api import SlaTier, State
from domain.decision import Plan
from domain.quota.accounting import account, gpu_fraction
from domain.quota.headroom import CONTROL_WINDOW
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.activities.store.pool import Pool, a_spec, a_view
from tests.builders import a_queue, seconds

PREMIUM, BASIC = SlaTier.PREMIUM, SlaTier.BASIC


async def seen(pool: Pool) -> Snapshot:
    """What a round about everybody reads now."""
    found: list[Snapshot] = []

    def remember(snapshot: Snapshot, now: datetime) -> tuple[Plan, dict[str, float]]:
        found.append(snapshot)
        return schedule(snapshot, now), {}

    await pool.store.round([], remember, "test")
    return found[0]


async def entitled(pool: Pool, workload: str) -> list[tuple[str, int]]:
    rows = await pool.sql("SELECT kind, entitled_milli FROM ledger WHERE workload_id = $1 ORDER BY id", workload)
    return [(row["kind"], row["entitled_milli"]) for row in rows]


async def test_the_ledger_of_live_workloads_is_that_of_the_control_window(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("first"), a_spec("second"))
    await pool.runs("first")
    pool.clock.move(2 * 3600)
    snapshot = await seen(pool)
    now = pool.clock.now()
    assert [interval.kind for interval in snapshot.ledger["first"]] == ["running"]
    (waited,) = snapshot.ledger["second"]
    assert account(snapshot.ledger["first"], now - CONTROL_WINDOW, now).fraction == 1
    assert gpu_fraction([waited], now - CONTROL_WINDOW, now) == 0


async def test_what_happened_since_is_read_again(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("train"))
    await pool.runs("train")
    await seen(pool)
    pool.clock.move(100)
    await pool.ends("train", Phase.LOST)
    kinds = [interval.kind for interval in (await seen(pool)).ledger["train"]]
    assert kinds[-2:] == ["running", "waiting"]


# Over quota


COHORT = [a_queue("all"), a_queue("mine", 8, parent="all"), a_queue("idle", 8, parent="all")]


async def test_time_over_quota_is_entitled_to_nothing(pool: Pool) -> None:
    await pool.gets(a_view("n1"), a_view("n2"), queues=COHORT)
    await pool.arrive(a_spec("a-first", queue="mine"), a_spec("b-then", queue="mine"))
    await pool.runs("a-first", "b-then")
    sums = {id: [milli for _, milli in await entitled(pool, id)] for id in ("a-first", "b-then")}
    assert sums == {"a-first": [8_000, 8_000, 8_000], "b-then": [0, 0, 0]}
    assert await pool.findings() == {}


async def test_an_interval_ends_where_quota_begins_to_cover_the_work(pool: Pool) -> None:
    await pool.gets(a_view("n1"), a_view("n2"), queues=COHORT)
    await pool.arrive(a_spec("older", queue="mine"))
    pool.clock.move(10)
    await pool.arrive(a_spec("newer", queue="mine"))
    await pool.runs("older", "newer")
    pool.clock.move(50)
    await pool.ends("older")
    await pool.arrive(a_spec("waits", queue="mine", gpus=16))
    await seen(pool)
    pool.clock.move(40)
    assert (await entitled(pool, "newer"))[-2:] == [("running", 0), ("running", 8_000)]
    assert (await pool.intervals("newer"))[-2:] == [("running", 10, 60), ("running", 60, None)]
    assert gpu_fraction((await seen(pool)).ledger["newer"], pool.clock.now() - seconds(90), pool.clock.now()) == 1
    assert await pool.findings() == {}


async def test_a_back_off_of_its_own_making_is_not_entitled(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("crashes", retries=5))
    await pool.runs("crashes")
    pool.clock.move(10)
    await pool.ends("crashes", Phase.FAILED, exit_code=1)
    await seen(pool)
    assert (await pool.intervals("crashes"))[-1] == ("backing-off", 10, None)
    pool.clock.move(60)
    await seen(pool)
    assert (await pool.intervals("crashes"))[-2:] == [("backing-off", 10, 30), ("waiting", 30, None)]
    assert await pool.findings() == {}


# Stops


async def a_stop(pool: Pool, **fields: Any) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("victim", tier=BASIC, **fields))
    await pool.runs("victim")
    pool.clock.move(1_000)
    await pool.arrive(a_spec("urgent", tier=PREMIUM, retries=10))


async def test_a_stop_that_was_taken_back_is_none_even_for_a_planner_that_remembers_it(pool: Pool) -> None:
    await a_stop(pool)
    assert len((await seen(pool)).stops) == 1
    await pool.adjusts("cancel", "urgent")
    await pool.plan()
    assert await pool.state("victim") is State.RUNNING
    assert (await seen(pool)).stops == ()


async def test_stops_of_late_are_known_and_counted_for_a_day(pool: Pool) -> None:
    await a_stop(pool)
    await pool.ends("victim", Phase.CANCELLED)
    snapshot = await seen(pool)
    assert [(stop.workload_id, stop.queue, stop.tier) for stop in snapshot.stops] == [("victim", "research", BASIC)]
    again = pool.another_store()
    pool.store, before = again, pool.store
    assert (await seen(pool)).stops == snapshot.stops
    pool.store = before
    await pool.runs("urgent")
    await pool.ends("urgent")
    await seen(pool)
    await pool.runs("victim")
    await pool.arrive(a_spec("waits", tier=BASIC))
    assert [active.preemptions for active in (await seen(pool)).active if active.id == "victim"] == [1]
    pool.clock.move(24 * 3600)
    snapshot = await seen(pool)
    assert ([active.preemptions for active in snapshot.active if active.id == "victim"], snapshot.stops) == ([0], ())


async def test_nobody_is_stopped_for_the_same_workload_in_its_next_attempt(pool: Pool) -> None:
    await a_stop(pool)
    await pool.ends("victim", Phase.CANCELLED)
    await pool.runs("urgent")
    await pool.ends("urgent", Phase.FAILED, exit_code=1)
    await seen(pool)
    await pool.runs("victim")
    pool.clock.move(1_000)
    (waits,) = (await seen(pool)).waiting
    assert (waits.id, waits.relieved_by, waits.failed_in_a_row, waits.is_new) == ("urgent", frozenset({"victim"}), 1, False)
    assert await pool.states("victim", "urgent") == [State.RUNNING, State.WAITING]


async def test_failures_count_in_a_row(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("flaky", retries=10))
    for phase in (Phase.FAILED, Phase.LOST, Phase.FAILED, Phase.FAILED):
        await pool.runs("flaky")
        await pool.ends("flaky", phase)
        pool.clock.move(3_600)
        (waits,) = (await seen(pool)).waiting
    assert waits.failed_in_a_row == 2
