"""Figures of the pool: they agree with what happened, whoever asks and however often."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from activities.answers import AttemptKey
from activities.ports import Phase
from activities.store import tables
from activities.store.figures import Figures
from activities.store.past import interval_of
from corral.api import SlaTier
from domain.quota.accounting import by_tier
from domain.quota.headroom import CONTROL_WINDOW
from tests.activities.store.pool import PROVIDER, Pool, a_spec, a_view
from tests.builders import a_cohort, a_queue

PRICE = 2_000_000
"""Two dollars an hour."""


async def a_preemption(pool: Pool) -> None:
    """Of two nodes one has `victim`, which leaves it to `urgent` after 100 seconds; `late` waits."""
    await pool.gets(a_view("n1", price=PRICE), a_view("n2", cluster="eu-2", ready=False))
    await pool.arrive(a_spec("victim"))
    await pool.runs("victim")
    pool.clock.move(100)
    await pool.arrive(a_spec("urgent", tier=SlaTier.PREMIUM))
    pool.clock.move(20)
    await pool.ends("victim", Phase.CANCELLED)
    await pool.runs("urgent")


async def test_what_stands_is_told_by_its_labels(pool: Pool) -> None:
    await a_preemption(pool)
    pool.clock.move(50)
    figures = await pool.store.figures()
    assert figures["workloads"] == {("research", "premium", "running"): 1, ("research", "standard", "waiting"): 1}
    assert figures["longest_wait_seconds"] == {("standard",): 170}
    assert figures["accelerators"] == {
        (PROVIDER, "eu", "eu-1", "h100", "ready"): 8,
        (PROVIDER, "eu", "eu-2", "h100", "suspect"): 8,
    }
    assert figures["used_accelerators"][PROVIDER, "eu", "eu-1", "h100"] == 8
    assert figures["spend_rate_dollars_per_hour"] == {("research",): 16}


async def test_what_waits_is_told_by_its_reason(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("runs"), a_spec("waits"))
    await pool.runs("runs")
    assert (await pool.store.figures())["waiting_workloads"] == {("standard", "NotEnoughFreeAccelerators"): 1}


async def test_holds_are_told_by_their_purpose(pool: Pool) -> None:
    await pool.gets(a_view("n1"), a_view("n2"))
    await pool.arrive(a_spec("victim"))
    await pool.runs("victim")
    await pool.arrive(a_spec("held", gpus=4, tier=SlaTier.PREMIUM))
    await pool.arrive(a_spec("urgent", tier=SlaTier.PREMIUM))
    assert (await pool.store.figures())["held_accelerators"] == {("start",): 4, ("victims-leave",): 8}


async def test_preemptions_and_what_they_lost_are_told_by_cause(pool: Pool) -> None:
    await a_preemption(pool)
    figures = await pool.store.figures()
    assert figures["preemptions"] == {("standard", "preempted"): 1}
    assert figures["lost_accelerator_seconds"] == {("standard", "preempted"): 8 * 120}
    assert figures["attempts_ended"] == {(PROVIDER, "standard", "preempted"): 1}


async def test_waits_are_counted_once_a_workload_from_submission_to_its_first_place(pool: Pool) -> None:
    await a_preemption(pool)
    await pool.ends("urgent")
    await pool.plan()
    await pool.runs("victim")
    figures = await pool.store.figures()
    assert figures["waits"] == {("standard", "0"): 1, ("premium", "3"): 1}
    assert figures["waited_seconds"] == {("standard",): 0, ("premium",): 20}


async def test_a_provider_without_room_is_counted(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("train"))
    await pool.binds("train")
    await pool.store.refuse_binding(AttemptKey("train", 1), "no stock", final=False)
    assert (await pool.store.figures())["provider_stockouts"] == {(PROVIDER,): 1}


async def test_rounds_are_told_by_what_they_decided(pool: Pool) -> None:
    await a_preemption(pool)
    figures = await pool.store.figures()
    assert figures["rounds"] == {("admission",): 2}
    decided = {kind: number for (kind,), number in figures["round_decisions"].items() if number}
    assert decided == {"considered": 2, "started": 1, "preempted": 1}
    assert figures["round_optimality_gap"] == {(): 0}


async def test_queues_tell_what_they_own_use_and_borrow(pool: Pool) -> None:
    tree = a_cohort(a_queue("guest", nominal=2), a_queue("host", nominal=14))
    await pool.gets(a_view("n1"), a_view("n2"), queues=tree)
    await pool.arrive(a_spec("borrows", queue="guest"))
    figures = await pool.store.figures()
    assert figures["queue_nominal_accelerators"]["guest", "h100"] == 2
    assert figures["queue_used_accelerators"]["guest", "h100"] == 8
    assert figures["queue_borrowed_accelerators"]["guest", "h100"] == 6
    assert figures["queue_used_accelerators"]["cohort", "h100"] == 8


async def test_a_view_ages_until_its_provider_tells_everything_again(pool: Pool) -> None:
    await pool.gets(a_view())
    pool.clock.move(30)
    assert (await pool.store.figures())["cluster_view_age_seconds"] == {(PROVIDER, "eu-1"): 30}
    await pool.store.write_nodes(PROVIDER, [a_view()], complete=False)
    assert (await pool.store.figures())["cluster_view_age_seconds"] == {(PROVIDER, "eu-1"): 30}
    await pool.store.write_nodes(PROVIDER, [a_view()], complete=True)
    assert (await pool.store.figures())["cluster_view_age_seconds"] == {(PROVIDER, "eu-1"): 0}


async def test_what_nobody_was_told_of_lags(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("runs"), a_spec("waits"))
    await pool.runs("runs")
    await pool.ends("runs")
    await pool.sql("UPDATE outbox SET written = written - interval '1 minute'")
    figures = await pool.store.figures()
    assert figures["outbox_undelivered"][()] == len(await pool.store.undelivered(0))
    assert figures["outbox_lag_seconds"][()] >= 60
    await pool.store.delivered(await pool.store.undelivered(0))
    assert (await pool.store.figures())["outbox_lag_seconds"] == {(): 0}


async def test_the_promise_of_a_tier_is_told_as_the_domain_reckons_it(pool: Pool) -> None:
    await a_preemption(pool)
    pool.clock.move(3_000)
    await pool.ends("urgent", Phase.LOST, checkpoint_at=pool.clock.now() - timedelta(seconds=100))
    pool.clock.move(400)
    now = pool.clock.now()
    async with pool.engine.connect() as connection:
        intervals = [interval_of(row) for row in await connection.execute(select(tables.ledger))]
    promised = by_tier(intervals, now - CONTROL_WINDOW, now)
    expected = {(tier,): float(part) for tier, part in promised.items() if part is not None}
    assert len(expected) == 2
    assert (await pool.store.figures())["sla_attainment_ratio"] == pytest.approx(expected)


async def test_whoever_asks_and_however_often_totals_are_the_same(pool: Pool) -> None:
    await pool.store.figures()
    await a_preemption(pool)
    often = [await pool.store.figures() for _ in range(3)]
    await pool.ends("urgent")
    await pool.plan()
    await pool.runs("victim")
    last, fresh = await pool.store.figures(), await pool.another_store().figures()
    assert without_age(often[0]) == without_age(often[1]) == without_age(often[2])
    assert without_age(last) == without_age(fresh)
    assert last["attempts_ended"] != often[0]["attempts_ended"]


async def test_what_was_under_way_while_others_were_counted_is_counted_later(pool: Pool) -> None:
    """A transaction that began early and ends late is not passed over by those who have counted in between."""
    await pool.gets(a_view("n1"), a_view("n2"))
    await pool.arrive(a_spec("slow"), a_spec("quick"))
    await pool.runs("slow", "quick")
    async with pool.session() as slow:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("UPDATE attempts SET ended_at = held_at, outcome = 'lost' WHERE workload_id = 'slow'")
        await pool.ends("quick")
        assert (await pool.store.figures())["attempts_ended"] == {(PROVIDER, "standard", "finished"): 1}
        await transaction.commit()
    counted = {(PROVIDER, "standard", "finished"): 1, (PROVIDER, "standard", "lost"): 1}
    assert (await pool.store.figures())["attempts_ended"] == counted
    assert (await pool.store.figures())["attempts_ended"] == counted


def without_age(figures: Figures) -> Figures:
    """Without what the wall's clock changes."""
    return {name: amounts for name, amounts in figures.items() if name != "outbox_lag_seconds"}
