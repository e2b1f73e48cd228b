"""Reservations in the record: windows one after the other, kept nodes, notices, misses, and what is asked twice."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from activities.answers import ReservationChange
from activities.deciding import Decider
from activities.ports import NotAllowed, NotFound, Phase
from corral.api import Checkpoint, Outcome, Reason, State
from corral.reservation import MissKind, Purpose, ReservationSpec, ReservationState, ReservationStatus
from domain.calendar.recurrence import BadRecurrence
from domain.decision import Plan
from domain.snapshot import Snapshot
from tests.activities.store.pool import Pool, a_spec, a_view, noon
from tests.builders import a_queue

HOUR = 3600
QUEUES = [a_queue("owner", 64), a_queue("guest", 64)]


def a_reservation(id: str = "night", *, opens_in: float = HOUR, hours: float = 1, **fields: Any) -> ReservationSpec:
    asked: dict[str, Any] = {"accelerators": 8, "sku": "h100", "queues": ("owner",)}
    return ReservationSpec(id=id, start=noon(opens_in), seconds=int(hours * HOUR), **(asked | fields))


def an_upkeep(node: str) -> ReservationSpec:
    return ReservationSpec(id="upkeep", start=noon(HOUR), seconds=HOUR, purpose=Purpose.MAINTENANCE, nodes=(node,))


async def known(pool: Pool, id: str = "night") -> ReservationStatus:
    (status,) = await pool.store.reservations(id)
    return status


async def test_capacity_opens_on_time_for_those_it_is_kept_for(pool: Pool) -> None:
    await pool.gets(a_view(), queues=QUEUES)
    await pool.arrive(a_spec("guest", queue="guest", checkpoint=Checkpoint(grace_seconds=30)))
    await pool.runs("guest")
    assert (await pool.store.reserve(a_reservation())).state is ReservationState.PLANNED
    await pool.plan()
    assert (await known(pool)).kept == {"aws/n1": 8}
    assert [node.kept_for for node in await pool.store.nodes()] == [("night",)]
    assert await pool.state("guest") is State.RUNNING, "until its notice is due, what is kept is lent"

    pool.clock.move(HOUR - 90)
    assert await pool.store.has_work(), "nothing has happened, but time"
    assert (await pool.plan())["guest"].state is State.STOPPING
    await pool.ends("guest", Phase.CANCELLED)
    assert await pool.outcomes("guest") == [Outcome.STOPPED]

    pool.clock.move(90)
    assert await pool.store.has_work()
    await pool.plan()
    assert (await pool.arrive(a_spec("own", queue="owner")))["own"].state is State.RESERVED
    night = await known(pool)
    assert (night.state, night.missing, night.misses) == (ReservationState.OPEN, 0, ())
    assert not await pool.findings()


async def test_a_flexible_window_that_is_ordered_late_opens_at_once_for_as_long_as_always(pool: Pool) -> None:
    await pool.gets(a_view(), queues=QUEUES)
    await pool.store.reserve(a_reservation(opens_in=-2 * HOUR, flexible_seconds=3 * HOUR))
    await pool.plan()
    night = await known(pool)
    assert (night.state, night.opens_at, night.closes_at) == (ReservationState.OPEN, noon(0), noon(HOUR))
    assert night.misses == ()


async def test_who_is_in_line_is_told_of_the_reservation_and_starts_when_it_is_over(pool: Pool) -> None:
    await pool.gets(a_view(), queues=QUEUES)
    await pool.store.reserve(a_reservation(opens_in=0))
    await pool.plan()
    standing = (await pool.arrive(a_spec("guest", queue="guest")))["guest"]
    assert standing.reason is Reason.KEPT_FOR_OTHERS
    pool.clock.move(HOUR)
    assert (await pool.store.advance_reservation("night")).state is ReservationState.ENDED
    assert (await pool.plan())["guest"].state is State.RESERVED
    assert not await pool.findings()


async def test_a_window_that_opens_without_its_capacity_is_a_miss_until_it_has_come(pool: Pool) -> None:
    await pool.gets(a_view("n1"), a_view("n2"), queues=QUEUES)
    await pool.arrive(a_spec("stays", queue="guest", preemptible=False))
    await pool.runs("stays")
    await pool.store.reserve(a_reservation(accelerators=16))
    await pool.plan()
    assert (await known(pool)).missing == 8, "that is known before"
    pool.clock.move(HOUR)
    await pool.plan()
    (miss,) = (await known(pool)).misses
    assert (miss.opens_at, miss.missing, miss.made_good_at) == (noon(HOUR), 8, None)
    assert "may not be stopped" in miss.cause
    pool.clock.move(600)
    await pool.ends("stays")
    await pool.plan()
    (miss,) = (await known(pool)).misses
    assert miss.made_good_at == noon(HOUR + 600)
    assert not await pool.findings()


async def test_a_window_that_nobody_planned_for_is_a_miss_too(pool: Pool) -> None:
    await pool.gets(a_view(), queues=QUEUES)
    await pool.store.reserve(a_reservation(recurrence="FREQ=DAILY"))
    pool.clock.move(2 * 24 * HOUR)
    standing = await pool.store.advance_reservation("night")
    assert (standing.state, standing.windows) == (ReservationState.PLANNED, 3)
    assert [miss.opens_at for miss in (await known(pool)).misses] == [noon(HOUR), noon(25 * HOUR)]


async def test_a_window_that_opens_late_because_nobody_planned_is_a_miss_until_then(pool: Pool) -> None:
    await pool.gets(a_view(), queues=QUEUES)
    await pool.store.reserve(a_reservation())
    await pool.plan()
    pool.clock.move(HOUR + 600)
    await pool.plan()
    (miss,) = (await known(pool)).misses
    assert (miss.kind, miss.missing, miss.at, miss.made_good_at) == (
        MissKind.NOT_PLANNED,
        8,
        noon(HOUR + 600),
        noon(HOUR + 600),
    )
    assert miss.cause == "no round was decided before 2030-06-01T13:10:00Z"
    pool.clock.move(60)
    await pool.plan()
    assert (await known(pool)).misses == (miss,)


async def test_a_window_that_is_late_and_short_has_one_miss_until_all_has_come(pool: Pool) -> None:
    await pool.gets(a_view(), queues=QUEUES)
    await pool.arrive(a_spec("stays", queue="guest", preemptible=False))
    await pool.runs("stays")
    await pool.store.reserve(a_reservation())
    pool.clock.move(HOUR + 600)
    await pool.plan()
    (miss,) = (await known(pool)).misses
    assert (miss.kind, miss.made_good_at) == (MissKind.NOT_PLANNED, None)
    pool.clock.move(60)
    await pool.ends("stays")
    await pool.plan()
    assert [miss.made_good_at for miss in (await known(pool)).misses] == [noon(HOUR + 660)]


@pytest.mark.parametrize("opens_in", [HOUR, -600])
async def test_a_window_that_opens_on_time_is_no_miss_nor_is_one_that_was_reserved_when_it_had_begun(
    pool: Pool, opens_in: float
) -> None:
    await pool.gets(a_view(), queues=QUEUES)
    await pool.store.reserve(a_reservation(opens_in=opens_in))
    await pool.plan()
    pool.clock.move(max(0, opens_in) + 5)
    await pool.plan()
    assert ((await known(pool)).state, (await known(pool)).misses) == (ReservationState.OPEN, ())


async def test_windows_follow_each_other_by_the_clocks_of_the_time_zone(pool: Pool) -> None:
    await pool.gets(a_view(), queues=QUEUES)
    pool.clock.time = datetime.fromisoformat("2031-03-29T00:00:00+00:00")
    spec = a_reservation(recurrence="FREQ=DAILY", time_zone="Europe/Berlin")
    spec = spec.model_copy(update={"start": datetime(2031, 3, 1, 9)})
    await pool.store.reserve(spec)
    opened = []
    for _ in range(3):
        status = await known(pool)
        assert status.opens_at is not None
        opened.append(status.opens_at.hour)
        pool.clock.time = status.opens_at + timedelta(hours=1)
        await pool.store.advance_reservation("night")
    assert opened == [8, 7, 7], "clocks go forward on the 30th"


async def test_reserving_twice_is_reserving_once_and_an_id_means_one_reservation(pool: Pool) -> None:
    await pool.gets(a_view(), queues=QUEUES)
    assert await pool.store.reserve(a_reservation()) == await pool.store.reserve(a_reservation())
    with pytest.raises(NotAllowed, match="id: 'night' belongs to another reservation"):
        await pool.store.reserve(a_reservation(accelerators=16))


async def test_what_makes_no_sense_is_refused_with_a_reason(pool: Pool) -> None:
    await pool.gets(a_view(), queues=QUEUES)
    over = await pool.store.reserve(a_reservation(opens_in=-2 * HOUR))
    assert over.state is ReservationState.REFUSED
    assert "start:" in over.message
    with pytest.raises(BadRecurrence, match="time_zone: 'Mars/Olympus'"):
        await pool.store.reserve(a_reservation("mars", time_zone="Mars/Olympus"))
    for spec, unknown in (
        (a_reservation("typo", queues=("onwer",)), "queues: 'onwer' is no queue"),
        (a_reservation("typo", clusters=("eu-9",)), "clusters: 'eu-9' is no cluster"),
        (an_upkeep("n1"), "nodes: 'n1' is no node; `corral fleet nodes` lists them by their ids"),
    ):
        with pytest.raises(NotFound, match=unknown):
            await pool.store.reserve(spec)
    assert not await pool.store.reservations()


async def test_a_window_is_extended_once_a_key_and_not_when_it_is_over(pool: Pool) -> None:
    await pool.gets(a_view(), queues=QUEUES)
    await pool.store.reserve(a_reservation())
    for _ in range(2):
        standing = await pool.store.extend_reservation(ReservationChange("night", "more", seconds=600))
        assert standing.closes_at == noon(2 * HOUR + 600)
    assert (await pool.store.cancel_reservation("night")).state is ReservationState.CANCELLED
    assert (await known(pool)).kept == {}
    with pytest.raises(NotAllowed, match="is cancelled; only one that is planned or open"):
        await pool.store.extend_reservation(ReservationChange("night", "again", seconds=600))


async def test_of_a_reservation_that_is_cancelled_nothing_is_missing(pool: Pool) -> None:
    await pool.gets(a_view(), queues=QUEUES)
    await pool.store.reserve(a_reservation(accelerators=800))
    await pool.plan()
    assert (await known(pool)).missing > 0
    standing = await pool.store.cancel_reservation("night")
    assert (standing.missing, standing.message) == (0, "")
    assert ((await known(pool)).missing, (await known(pool)).cause) == (0, "")


async def test_what_was_kept_is_free_for_all_when_the_reservation_is_cancelled(pool: Pool) -> None:
    await pool.gets(a_view(), queues=QUEUES)
    await pool.store.reserve(a_reservation(opens_in=0))
    await pool.plan()
    await pool.arrive(a_spec("guest", queue="guest"))
    await pool.store.cancel_reservation("night")
    assert (await pool.plan())["guest"].state is State.RESERVED


async def test_a_plan_made_without_knowing_what_is_kept_is_decided_again(pool: Pool) -> None:
    await pool.gets(a_view(), queues=QUEUES)
    await pool.store.reserve(a_reservation())
    kept: list[int] = []

    async def keep() -> None:
        other = Pool.at(pool.url)
        await other.plan()
        await other.engine.dispose()

    def decide(snapshot: Snapshot, now: datetime) -> tuple[Plan, Mapping[str, float]]:
        kept.append(len(snapshot.bookings[0].nodes))
        if len(kept) == 1:
            # Another planner keeps the node while this one is about to give it to work that may not be stopped.
            with ThreadPoolExecutor(1) as elsewhere:
                elsewhere.submit(asyncio.run, keep()).result()
            plan, laps = Decider().decide(replace(snapshot, bookings=()), now)
            assert plan.starts
            return plan, laps
        return Decider().decide(snapshot, now)

    spec = a_spec("stays", queue="guest", preemptible=False)
    standings, _ = await pool.store.round([spec], decide, "admission")
    assert standings["stays"].reason is Reason.KEPT_FOR_OTHERS
    assert kept == [0, 1]


async def test_work_leaves_before_a_block_ends(pool: Pool) -> None:
    await pool.gets(a_view(available_until=noon(HOUR)), a_view("n2"), queues=QUEUES)
    await pool.arrive(a_spec("long", queue="guest", gpus=8))
    await pool.runs("long")
    assert list(await pool.phases("long")) == ["n1"]
    await pool.plan()
    pool.clock.move(HOUR - 91)
    assert not await pool.store.has_work()
    pool.clock.move(1)
    assert await pool.store.has_work()
    assert (await pool.plan())["long"].state is State.STOPPING
    await pool.ends("long", Phase.CANCELLED)
    assert (await pool.plan())["long"].state is State.RESERVED
    assert list(await pool.phases("long")) == ["n2"]


async def test_maintenance_empties_its_nodes_and_gives_them_back(pool: Pool) -> None:
    await pool.gets(a_view(), queues=QUEUES)
    await pool.arrive(a_spec("long", queue="guest", preemptible=False))
    await pool.runs("long")
    await pool.store.reserve(an_upkeep("aws/n1"))
    await pool.plan()
    pool.clock.move(HOUR - 90)
    assert (await pool.plan())["long"].state is State.STOPPING
    await pool.ends("long", Phase.CANCELLED)
    pool.clock.move(90)
    await pool.plan()
    assert await pool.state("long") is State.WAITING
    assert not await pool.findings()
    pool.clock.move(HOUR)
    await pool.store.advance_reservation("upkeep")
    assert (await pool.plan())["long"].state is State.RESERVED
