from datetime import UTC, datetime, timedelta, timezone

import pytest

from worker.clock import PoolClock

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_at_speed_one_pool_and_wall_agree() -> None:
    assert PoolClock(NOON).at(NOON + timedelta(microseconds=1)) == NOON + timedelta(microseconds=1)


@pytest.mark.parametrize(("speed", "pool_seconds"), [(60, 600), (0.5, 5)])
def test_pool_time_runs_from_its_origin(speed: float, pool_seconds: float) -> None:
    clock = PoolClock(NOON, speed)
    assert clock.at(NOON) == NOON
    assert clock.at(NOON + timedelta(seconds=10)) == NOON + timedelta(seconds=pool_seconds)
    assert clock.wall_seconds(pool_seconds) == 10


def test_two_processes_with_the_same_settings_agree() -> None:
    elsewhere = NOON.astimezone(timezone(timedelta(hours=9)))
    wall = NOON + timedelta(days=3)
    assert PoolClock(NOON, 100).at(wall) == PoolClock(elsewhere, 100).at(wall)


def test_pool_time_is_told_in_utc() -> None:
    assert PoolClock().now().tzinfo is UTC
    assert PoolClock(NOON, 60).now().tzinfo is UTC


def test_an_origin_without_a_time_zone_or_a_speed_that_is_no_speed_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        PoolClock(NOON.replace(tzinfo=None))
    for speed in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="not above 0"):
            PoolClock(NOON, speed)
