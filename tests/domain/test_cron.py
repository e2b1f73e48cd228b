"""Cron expressions as Temporal's schedules read them: which times are theirs, and what cannot be read."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from domain.calendar.cron import BadCron, is_time_of, read, zone_of

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("expression", "yes", "no"),
    [
        ("0 20 * * 1-5", "2026-11-27T20:00:00", "2026-11-28T20:00:00"),
        ("0 20 * * mon-Friday", "2026-11-27T20:00:00", "2026-11-28T20:00:00"),
        ("0 20 * * 0", "2026-11-29T20:00:00", "2026-11-28T20:00:00"),
        ("0 20 * * 7", "2026-11-29T20:00:00", "2026-11-28T20:00:00"),
        ("0 20 * * 6-7", "2026-11-29T20:00:00", "2026-11-27T20:00:00"),
        ("0 0 13 * 5", "2026-11-13T00:00:00", "2026-11-27T00:00:00"),  # both the day of the month and that of the week
        ("*/15 * * * *", "2026-11-27T20:45:00", "2026-11-27T20:50:00"),
        ("5/20 * * * *", "2026-11-27T20:45:00", "2026-11-27T20:40:00"),
        ("0-30/10,59 * * * *", "2026-11-27T20:59:00", "2026-11-27T20:40:00"),
        ("0 0 1 feb,Sept *", "2026-09-01T00:00:00", "2026-11-01T00:00:00"),
        ("0 0 * * * 2027", "2027-01-01T00:00:00", "2026-12-31T00:00:00"),
        ("30 0 0 * * * *", "2026-11-27T00:00:30", "2026-11-27T00:00:00"),
        ("@daily", "2026-11-27T00:00:00", "2026-11-27T01:00:00"),
        ("@hourly", "2026-11-27T01:00:00", "2026-11-27T01:00:01"),
        ("@every 8h", "2026-11-27T01:00:00", "2026-11-27T08:00:00"),  # multiples since 1970, which began by UTC
        ("@every 1h30m", "2026-11-27T02:30:00", "2026-11-27T02:00:00"),
        ("@every 8h/90m", "2026-11-27T02:30:00", "2026-11-27T01:00:00"),
        ("@every 1d/25h", "2026-11-27T02:00:00", "2026-11-27T01:00:00"),
    ],
)
def test_a_time_is_due_when_clocks_of_the_place_show_it(expression: str, yes: str, no: str) -> None:
    assert is_time_of(expression, "Europe/Berlin", datetime.fromisoformat(yes).replace(tzinfo=BERLIN))
    assert not is_time_of(expression, "Europe/Berlin", datetime.fromisoformat(no).replace(tzinfo=BERLIN))


def test_it_is_the_clock_of_the_place_that_counts_and_an_hour_that_comes_twice_is_due_twice() -> None:
    assert is_time_of("0 20 * * *", "Europe/Berlin", datetime.fromisoformat("2026-07-01T18:00:00Z"))
    assert is_time_of("0 20 * * *", "Europe/Berlin", datetime.fromisoformat("2026-12-01T19:00:00Z"))
    for time in ("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"):
        assert is_time_of("30 2 * * *", "Europe/Berlin", datetime.fromisoformat(time))
    assert not is_time_of("* * * * *", "UTC", datetime.fromisoformat("2026-12-01T19:00:00.5Z"))


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("at dusk", "has not five to seven fields"),
        ("@every 1h 30m", "'1h 30m' in '@every 1h 30m' is no length of time; expected whole numbers such as 90s, 1h30m or 7d"),
        ("@every 1.5h", "is no length of time"),
        ("@every 8h/", "'' in '@every 8h/' is no length of time"),
        ("@every -1h", "is no length of time"),
        ("@every 0s", "expected at least a second and at most a century"),
        ("@every 9999999999d", "expected at least a second and at most a century"),
        ("@every", "has not five to seven fields"),
        ("60 * * * *", "'60' is no minute; expected 0 to 59"),
        ("* * 0 * *", "'0' is no day of the month; expected 1 to 31"),
        ("* * * foo *", "'foo' is no month; expected 1 to 12"),
        ("* * * * 5-1", "'5-1' is no day of the week"),
        ("*/0 * * * *", "'*/0' is no minute"),
        ("1,,2 * * * *", "'' is no minute"),
        ("TZ=UTC 0 0 * * *", "'TZ=UTC' is no minute"),
        ("² * * * *", "is no minute"),
    ],
)
def test_what_cannot_be_read_is_told_by_field_and_value(expression: str, problem: str) -> None:
    with pytest.raises(BadCron) as refused:
        read(expression)
    assert problem in str(refused.value)


def test_a_time_zone_has_to_be_known() -> None:
    with pytest.raises(BadCron, match="time_zone: 'Mars/Olympus' is not known"):
        zone_of("Mars/Olympus")
