"""Loans in the record: who is told to leave and for whom, what is counted, and what comes of changes meanwhile."""

from datetime import datetime
from typing import Any

from activities.answers import ReservationChange
from activities.inquiry import Inquiry
from activities.ports import Phase
from corral.api import Autoscale, Checkpoint, Outcome, Reason, State
from corral.policy import DisruptionBudget, Limits, Policy, PolicyOrder
from corral.reservation import Lending, MissKind, ReservationSpec, ReservationState, ReservationStatus
from tests.activities.store.pool import Pool, a_spec, a_view, noon
from tests.builders import a_queue

HOUR = 3600
QUEUES = [a_queue("owner", 64), a_queue("guest", 64)]


def a_reservation(**fields: Any) -> ReservationSpec:
    asked: dict[str, Any] = {"accelerators": 8, "sku": "h100", "queues": ("owner",), "lent": Lending.UNTIL_WANTED}
    return ReservationSpec(id="night", **({"start": noon(0), "seconds": 2 * HOUR} | asked | fields))


async def known(pool: Pool) -> ReservationStatus:
    (status,) = await pool.store.reservations("night")
    return status


async def lends(pool: Pool, *views: Any, **fields: Any) -> None:
    """The window is open, and `guest` runs on what is kept."""
    await pool.gets(*(views or (a_view(),)), queues=QUEUES)
    await pool.store.reserve(a_reservation(**fields))
    await pool.plan()
    guest = a_spec("guest", queue="guest", checkpoint=Checkpoint(grace_seconds=30))
    assert (await pool.arrive(guest))["guest"].state is State.RESERVED
    await pool.runs("guest")
    await pool.plan()


async def test_what_is_lent_in_an_open_window_is_given_back_to_who_comes_for_it(pool: Pool) -> None:
    await lends(pool)
    assert ((await known(pool)).lent, (await known(pool)).missing) == (8, 0)
    pool.clock.move(100)
    assert (await pool.arrive(a_spec("own", queue="owner")))["own"].state is State.RESERVING
    assert await pool.state("guest") is State.STOPPING
    pool.clock.move(50)
    await pool.ends("guest", Phase.CANCELLED)
    assert await pool.state("own") is State.RESERVED
    await pool.plan()
    night = await known(pool)
    assert (night.lent, night.lent_accelerator_seconds, night.misses) == (0, 8 * 150, ())
    figures = await pool.store.figures()
    assert figures["reservation_lent_accelerator_seconds"] == {(): 8 * 150}
    assert figures["reservation_misses"] == {}
    assert await pool.outcomes("guest") == [Outcome.STOPPED]
    assert await pool.state("guest") is State.WAITING
    assert not await pool.findings()


async def test_who_runs_on_a_loan_is_told_so_and_that_it_may_have_to_leave(pool: Pool) -> None:
    await lends(pool)
    told = (await Inquiry(pool.store).explain("guest", False)).explanation
    assert told is not None
    assert (told.reason, told.message) == (
        Reason.ON_LOAN,
        "8 of its accelerators are kept for reservation night from 2030-06-01 12:00 UTC until 2030-06-01 14:00 UTC and lent to "
        "it while nobody whom that is for wants them; it has notice 90 s before they are to be free",
    )
    await pool.store.cancel_reservation("night")
    assert (await Inquiry(pool.store).explain("guest", False)).explanation is None


async def test_a_loan_that_comes_back_late_is_a_miss_with_its_kind(pool: Pool) -> None:
    await lends(pool)
    await pool.arrive(a_spec("own", queue="owner"))
    pool.clock.move(89)
    await pool.plan()
    assert (await known(pool)).misses == ()
    pool.clock.move(1)
    assert await pool.store.has_work(), "nothing has happened, but time"
    await pool.plan()
    (miss,) = (await known(pool)).misses
    assert (miss.missing, miss.kind, miss.made_good_at) == (8, MissKind.LOAN_IS_LATE, None)
    assert (await pool.store.figures())["reservation_misses"] == {("loan-is-late",): 1}
    pool.clock.move(10)
    await pool.ends("guest", Phase.CANCELLED)
    await pool.plan()
    (miss,) = (await known(pool)).misses
    assert miss.made_good_at == noon(100)
    assert not await pool.findings()


async def test_a_guest_stays_when_who_came_goes_away_again(pool: Pool) -> None:
    await lends(pool)
    await pool.arrive(a_spec("own", queue="owner"))
    await pool.adjusts("cancel", "own")
    assert await pool.store.has_work()
    await pool.plan()
    assert await pool.state("guest") is State.RUNNING
    assert (await known(pool)).misses == ()
    assert not await pool.findings()


async def test_the_end_of_a_loan_is_no_preemption(pool: Pool) -> None:
    budget = DisruptionBudget(stops=0)
    await pool.store.apply_policy(PolicyOrder(policy=Policy(limits=Limits(disruption_budgets=(budget,)))))
    await lends(pool)
    assert (await pool.arrive(a_spec("own", queue="owner")))["own"].state is State.RESERVING
    await pool.ends("guest", Phase.CANCELLED)
    assert (await pool.snapshot()).stops == ()
    assert [row["preemptions"] for row in await pool.sql("SELECT preemptions FROM workloads WHERE id = 'guest'")] == [0]


async def lends_to_an_elastic_guest(pool: Pool, **fields: Any) -> None:
    """The window is open, and `guest` runs on what is kept with eight replicas, of which it needs two."""
    await pool.gets(a_view(), queues=QUEUES)
    await pool.store.reserve(a_reservation())
    await pool.plan()
    grace = Checkpoint(grace_seconds=30)
    await pool.arrive(a_spec("guest", queue="guest", gpus=1, count=8, minimum=2, checkpoint=grace, **fields))
    await pool.runs("guest")
    await pool.plan()


async def test_an_endpoint_gives_back_a_part_as_it_runs_to_who_comes_for_it(pool: Pool) -> None:
    await lends_to_an_elastic_guest(pool, autoscale=Autoscale(target=10, minimum=2, most=8))
    pool.clock.move(100)
    assert (await pool.arrive(a_spec("own", gpus=5, queue="owner")))["own"].state is State.RESERVING
    assert await pool.state("guest") is State.RESIZING
    assert "kept for reservation night" in next(
        event.message for event in await pool.store.events("guest", 0) if event.kind == "shrink"
    )
    told = await pool.store.stop_order(await pool.key("guest"))
    assert told is not None
    assert told.resized is not None
    assert len(told.resized.places) == 3
    await pool.seen(await pool.observation("guest", Phase.RUNNING, resized=told.notice))
    assert await pool.states("guest", "own") == [State.RUNNING, State.RESERVED]
    assert ((await pool.key("guest")).epoch, (await pool.snapshot()).stops) == (1, ())
    await pool.plan()
    assert ((await known(pool)).lent, (await known(pool)).misses) == (3, ())
    await pool.ends("guest", Phase.FAILED)
    (ended,) = await pool.sql("SELECT reason FROM attempts WHERE id = 'guest.1'")
    assert ended["reason"] == ""
    assert not await pool.findings()


async def test_elastic_training_goes_on_smaller_where_it_gives_back_a_part_and_no_budget_counts_that(pool: Pool) -> None:
    budget = DisruptionBudget(stops=0)
    await pool.store.apply_policy(PolicyOrder(policy=Policy(limits=Limits(disruption_budgets=(budget,)))))
    await lends_to_an_elastic_guest(pool)
    await pool.arrive(a_spec("own", gpus=5, queue="owner"))
    assert await pool.states("guest", "own") == [State.STOPPING, State.RESERVING]
    await pool.ends("guest", Phase.CANCELLED)
    assert await pool.states("guest", "own") == [State.RESERVED, State.RESERVED]
    assert (await pool.outcomes("guest"), await pool.used(), (await pool.snapshot()).stops) == ([Outcome.RESIZED], 8_000, ())
    assert not await pool.findings()


async def test_an_elastic_guest_keeps_all_when_who_came_goes_away_again(pool: Pool) -> None:
    await lends_to_an_elastic_guest(pool)
    await pool.arrive(a_spec("own", gpus=5, queue="owner"))
    await pool.adjusts("cancel", "own")
    await pool.plan()
    assert (await pool.state("guest"), await pool.used()) == (State.RUNNING, 8_000)
    assert not await pool.findings()


async def test_when_a_reservation_is_cancelled_its_guest_runs_on_and_nothing_more_is_counted(pool: Pool) -> None:
    await lends(pool)
    pool.clock.move(100)
    await pool.store.cancel_reservation("night")
    pool.clock.move(100)
    await pool.plan()
    night = await known(pool)
    assert (night.state, night.lent, night.lent_accelerator_seconds) == (ReservationState.CANCELLED, 0, 800)
    assert (await pool.arrive(a_spec("own", queue="owner")))["own"].reason is Reason.NOT_ENOUGH_FREE_ACCELERATORS
    assert await pool.state("guest") is State.RUNNING


async def test_cancelled_while_a_guest_leaves_what_was_promised_stays_promised(pool: Pool) -> None:
    await lends(pool)
    await pool.arrive(a_spec("own", queue="owner"))
    await pool.store.cancel_reservation("night")
    await pool.plan()
    await pool.ends("guest", Phase.CANCELLED)
    assert await pool.state("own") is State.RESERVED
    assert not await pool.findings()


async def test_a_window_that_is_extended_while_it_is_lent_is_lent_on_and_wanted_later(pool: Pool) -> None:
    await lends(pool)
    await pool.store.extend_reservation(ReservationChange("night", "more", seconds=HOUR))
    pool.clock.move(2.5 * HOUR)
    assert (await pool.store.advance_reservation("night")).state is ReservationState.OPEN
    await pool.plan()
    assert (await known(pool)).lent_accelerator_seconds == 8 * 2.5 * HOUR
    assert (await pool.arrive(a_spec("own", queue="owner")))["own"].state is State.RESERVING


async def test_the_next_window_begins_to_count_anew_and_adds_up(pool: Pool) -> None:
    await lends(pool, recurrence="FREQ=DAILY")
    pool.clock.move(3 * HOUR)
    standing = await pool.store.advance_reservation("night")
    assert (standing.state, standing.windows) == (ReservationState.PLANNED, 2)
    await pool.plan()
    night = await known(pool)
    assert (night.lent, night.lent_accelerator_seconds) == (0, 8 * 2 * HOUR)
    assert await pool.state("guest") is State.RUNNING
    pool.clock.move(21 * HOUR)
    await pool.plan()
    night = await known(pool)
    assert (night.state, night.lent, night.misses) == (ReservationState.OPEN, 8, ()), "the guest stays until it is wanted"


async def test_when_a_node_is_lost_while_it_is_lent_another_is_kept_and_lent(pool: Pool) -> None:
    await lends(pool)
    await pool.gets(a_view("n1", ready=False), a_view("n2"), queues=QUEUES)
    await pool.plan()
    night = await known(pool)
    assert (night.kept, night.lent, night.missing, night.misses) == ({"aws/n2": 8}, 0, 0, ())
    await pool.arrive(a_spec("more", queue="guest"))
    await pool.runs("more")
    await pool.plan()
    assert (await known(pool)).lent == 8


async def test_a_window_during_which_clocks_change_is_lent_for_as_long_as_always(pool: Pool) -> None:
    pool.clock.time = datetime.fromisoformat("2031-03-29T23:30:00+00:00")
    half_past_midnight = datetime(2031, 3, 30, 0, 30)
    at_night: dict[str, Any] = {"start": half_past_midnight, "seconds": 3 * HOUR, "time_zone": "Europe/Berlin"}
    await lends(pool, **at_night, recurrence="FREQ=DAILY")
    night = await known(pool)
    assert night.closes_at == datetime.fromisoformat("2031-03-30T02:30:00+00:00"), "half past four there, for clocks go forward"
    pool.clock.move(4 * HOUR)
    await pool.store.advance_reservation("night")
    night = await known(pool)
    assert (night.lent_accelerator_seconds, night.misses) == (8 * 3 * HOUR, ())
    assert night.opens_at == datetime.fromisoformat("2031-03-30T22:30:00+00:00"), "half past midnight again"


async def test_a_window_that_is_extended_over_the_next_one_goes_on_lending_and_the_next_is_passed_over(pool: Pool) -> None:
    await lends(pool, recurrence="FREQ=DAILY")
    await pool.store.extend_reservation(ReservationChange("night", "more", seconds=24 * HOUR))
    pool.clock.move(25 * HOUR)
    assert (await pool.store.advance_reservation("night")).windows == 1
    await pool.plan()
    assert (await known(pool)).lent_accelerator_seconds == 8 * 25 * HOUR
    pool.clock.move(2 * HOUR)
    standing = await pool.store.advance_reservation("night")
    assert (standing.windows, standing.opens_at) == (2, noon(48 * HOUR))
    assert (await known(pool)).misses == ()
