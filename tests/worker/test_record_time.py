"""A worker goes by PostgreSQL's clock, whatever is done to that of its machine, and knows it as well as it can be known."""

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from tests.activities.store.pool import Pool
from worker import record_time
from worker.record_time import DRIFT, RecordTime, kept

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@dataclass
class World:
    """A steady clock, and PostgreSQL's, which may be set; a question is half of its time on its way there."""

    steady: float = 1_000.0
    postgres: datetime = NOON

    def passes(self, seconds: float, *, drift: float = 0.0) -> None:
        self.steady += seconds
        self.postgres += timedelta(seconds=seconds * (1 + drift))

    async def looked(self, record: RecordTime, *, there: float = 0.001, back: float = 0.001) -> float:
        """A look whose question takes so long to get there, and whose answer so long to come back."""

        async def ask() -> datetime:
            self.passes(there)
            shown = self.postgres
            self.passes(back)
            return shown

        return await record.look(ask)

    def error(self, record: RecordTime) -> float:
        """By how many seconds the record's time is ahead of PostgreSQL's."""
        return (record.now() - self.postgres).total_seconds()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def record(world: World) -> RecordTime:
    record = RecordTime(lambda: world.steady)
    await world.looked(record)
    return record


async def test_it_is_known_to_the_time_that_a_look_takes(world: World, record: RecordTime) -> None:
    assert abs(world.error(record)) <= 0.001
    world.passes(4)
    assert abs(world.error(record)) <= 0.001


@pytest.mark.parametrize(("there", "back"), [(9.0, 0.0), (0.0, 9.0)])
async def test_a_look_that_took_long_takes_nothing_away(world: World, record: RecordTime, there: float, back: float) -> None:
    """As where the worker was frozen meanwhile."""
    await world.looked(record, there=there, back=back)
    assert abs(world.error(record)) <= 0.001 + DRIFT * 9


async def test_looks_that_are_late_in_different_ways_tell_more_than_each(world: World) -> None:
    record = RecordTime(lambda: world.steady)
    await world.looked(record, there=0.0, back=2.0)
    assert abs(world.error(record)) > 0.9
    await world.looked(record, there=2.0, back=0.0)
    assert abs(world.error(record)) <= DRIFT * 2


@pytest.mark.parametrize("drift", [DRIFT / 2, -DRIFT / 2])
async def test_clocks_that_differ_in_pace_do_not_come_apart(world: World, record: RecordTime, drift: float) -> None:
    for _ in range(1_000):
        world.passes(5, drift=drift)
        assert abs(await world.looked(record)) < 0.01, "this is no jump"
    assert abs(world.error(record)) <= 0.002 + DRIFT * 5


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
async def test_when_postgresql_s_clock_jumps_the_time_does_at_the_next_look(
    world: World, record: RecordTime, jump: timedelta
) -> None:
    world.postgres += jump
    assert await world.looked(record) == pytest.approx(jump.total_seconds(), abs=0.01)
    assert abs(world.error(record)) <= 0.001


# With a real server, and with a machine whose own clock is off


async def test_it_is_postgresql_s_own_clock(pool: Pool) -> None:
    record = RecordTime()
    async with kept(record, pool.store.wall, 10):
        before = await pool.store.wall()
        shown = record.now()
        after = await pool.store.wall()
    a_little = timedelta(seconds=0.5)
    assert before - a_little < shown < after + a_little


@pytest.mark.parametrize("off", [HOUR, -HOUR])
async def test_a_machine_whose_clock_is_off_is_told_of_once_and_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, off: timedelta
) -> None:
    monkeypatch.setattr(record_time, "this_machines_wall", lambda: NOON + off)
    monkeypatch.setattr(record_time, "LOOK_SECONDS", 0.0)
    world, looks, enough = World(), 0, asyncio.Event()
    record = RecordTime(lambda: world.steady)

    async def ask() -> datetime:
        nonlocal looks
        looks += 1
        if looks > 20:
            enough.set()
        await asyncio.sleep(0)
        return world.postgres

    with caplog.at_level(logging.WARNING):
        async with kept(record, ask, 10):
            await enough.wait()
            assert record.now() == NOON
    assert [line.getMessage() for line in caplog.records] == [
        f"this machine's clock is {off.total_seconds():+.1f} s ahead of PostgreSQL's, by which the pool goes; set it"
    ]


async def test_while_postgresql_is_away_the_time_goes_on_and_a_jump_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(record_time, "this_machines_wall", lambda: NOON)
    monkeypatch.setattr(record_time, "LOOK_SECONDS", 0.0)
    world, looks, enough = World(), 0, asyncio.Event()
    record = RecordTime(lambda: world.steady)

    async def ask() -> datetime:
        nonlocal looks
        looks += 1
        await asyncio.sleep(0)
        if 10 < looks <= 20:
            raise ConnectionError("away")
        if looks > 30:
            enough.set()
        return world.postgres if looks <= 20 else world.postgres + HOUR

    with caplog.at_level(logging.ERROR):
        async with kept(record, ask, 10):
            await enough.wait()
            assert record.now() == NOON + HOUR
    assert "PostgreSQL's clock has jumped by +3600.0 s" in caplog.text
