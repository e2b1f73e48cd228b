"""Recurrence: when windows begin by the clocks of a place, and what cannot be read."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from corral.reservation import ReservationSpec
from domain.calendar.recurrence import BadRecurrence, first_window, next_window

BERLIN = ZoneInfo("Europe/Berlin")


def a_spec(start: datetime, recurrence: str | None = None, **fields: Any) -> ReservationSpec:
    asked: dict[str, Any] = {"seconds": 3600, "accelerators": 8, "sku": "h100", "queues": ("research",)}
    return ReservationSpec(id="r", start=start, recurrence=recurrence, **(asked | fields))


def shown(spec: ReservationSpec, after: datetime, number: int) -> list[str]:
    """What clocks of the place show when the next windows begin."""
    found = []
    for _ in range(number):
        if (window := next_window(spec, after)) is None:
            break
        found.append(window.earliest.astimezone(ZoneInfo(spec.time_zone)).strftime("%a %d %b %H:%M"))
        after = window.closes_at
    return found


def test_the_time_of_day_stays_what_clocks_show_when_they_change() -> None:
    spec = a_spec(datetime(2027, 3, 26, 9), "FREQ=WEEKLY;BYDAY=FR,MO", time_zone="Europe/Berlin")
    begins = datetime(2027, 3, 26, tzinfo=UTC)
    assert shown(spec, begins, 3) == ["Fri 26 Mar 09:00", "Mon 29 Mar 09:00", "Fri 02 Apr 09:00"]


def test_a_time_that_clocks_leave_out_counts_from_before_the_change() -> None:
    spec = a_spec(datetime(2027, 3, 27, 2, 30), "FREQ=DAILY", time_zone="Europe/Berlin")
    begins = datetime(2027, 3, 27, tzinfo=UTC)
    assert shown(spec, begins, 3) == ["Sat 27 Mar 02:30", "Sun 28 Mar 03:30", "Mon 29 Mar 02:30"]


def test_of_a_time_that_comes_twice_the_first_is_meant_and_there_is_one_window() -> None:
    spec = a_spec(datetime(2027, 10, 30, 2, 30), "FREQ=DAILY", time_zone="Europe/Berlin")
    begins = datetime(2027, 10, 30, tzinfo=UTC)
    assert shown(spec, begins, 3) == ["Sat 30 Oct 02:30", "Sun 31 Oct 02:30", "Mon 01 Nov 02:30"]
    second = next_window(spec, datetime(2027, 10, 30, 12, tzinfo=UTC))
    assert second is not None
    assert second.earliest.astimezone(BERLIN).utcoffset() == timedelta(hours=2)


def test_a_start_with_an_offset_is_that_instant_and_recurs_by_the_clocks_of_the_zone() -> None:
    spec = a_spec(datetime(2027, 3, 26, 8, tzinfo=UTC), "FREQ=DAILY", time_zone="Europe/Berlin")
    assert shown(spec, datetime(2027, 3, 28, tzinfo=UTC), 1) == ["Sun 28 Mar 09:00"]


def test_the_last_window_is_the_one_on_the_day_until_which_it_recurs() -> None:
    spec = a_spec(datetime(2027, 1, 1, 9), "RRULE:FREQ=MONTHLY;BYMONTHDAY=-1;UNTIL=20270228")
    assert shown(spec, datetime(2027, 1, 1, tzinfo=UTC), 9) == ["Sun 31 Jan 09:00", "Sun 28 Feb 09:00"]


def test_a_window_under_way_is_the_first_one_and_one_that_is_over_is_none() -> None:
    start = datetime(2027, 1, 1, 9, tzinfo=UTC)
    under_way = first_window(a_spec(start), start + timedelta(seconds=3599))
    assert under_way is not None
    assert under_way.earliest == start
    assert first_window(a_spec(start), start + timedelta(seconds=3600)) is None


@pytest.mark.parametrize(("ordered_after", "opens_after"), [(0, 0), (300, 300), (5_000, 5_000), (7_200, 7_200), (9_000, 7_200)])
def test_a_flexible_window_ordered_after_its_start_opens_whole_while_it_may(ordered_after: int, opens_after: int) -> None:
    start = datetime(2027, 1, 1, 9, tzinfo=UTC)
    window = first_window(a_spec(start, flexible_seconds=7_200), start + timedelta(seconds=ordered_after))
    assert window is not None
    assert window.earliest - start == timedelta(seconds=opens_after)
    assert (window.latest - start, window.closes_at - window.earliest) == (timedelta(hours=2), timedelta(hours=1))


def test_a_flexible_window_is_over_when_the_last_that_could_be_had_is() -> None:
    start = datetime(2027, 1, 1, 9, tzinfo=UTC)
    assert first_window(a_spec(start, flexible_seconds=7_200), start + timedelta(seconds=3 * 3_600)) is None


def test_of_windows_that_recur_the_one_that_may_still_open_comes_before_the_next() -> None:
    start = datetime(2027, 1, 1, 9, tzinfo=UTC)
    daily = a_spec(start, "FREQ=DAILY", flexible_seconds=7_200)
    for hours, earliest in ((25.5, 25.5), (26, 26), (26.5, 26), (27, 48)):
        window = first_window(daily, start + timedelta(hours=hours))
        assert window is not None
        assert window.earliest - start == timedelta(hours=earliest)


def test_a_flexible_window_says_how_late_it_may_open() -> None:
    start = datetime(2027, 1, 1, 9, tzinfo=UTC)
    window = next_window(a_spec(start, flexible_seconds=600), start)
    assert window is not None
    assert (window.latest - window.earliest, window.closes_at - start) == (timedelta(minutes=10), timedelta(hours=1))


@pytest.mark.parametrize(
    ("recurrence", "said"),
    [
        ("FREQ=HOURLY", "needs FREQ, one of DAILY, WEEKLY, MONTHLY, YEARLY"),
        ("often", "needs FREQ"),
        ("FREQ=DAILY;COUNT=3", "has COUNT"),
        ("FREQ=DAILY;BYHOUR=9", "has BYHOUR"),
        ("FREQ=DAILY;INTERVAL=0", "INTERVAL=0 is not between 1 and 1000"),
        ("FREQ=DAILY;BYDAY=XX", "is not an RRULE: invalid 'BYDAY': XX"),
        ("FREQ=YEARLY;BYMONTH=13", "BYMONTH=13 is not between 1 and 12"),
        ("FREQ=DAILY;UNTIL=2027", "UNTIL=2027 is no local time"),
        ("FREQ=DAILY;UNTIL=20270101T000000Z", "is no local time"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_was_expected(recurrence: str, said: str) -> None:
    with pytest.raises(BadRecurrence, match=said):
        next_window(a_spec(datetime(2027, 1, 1, 9), recurrence), datetime(2027, 1, 1, tzinfo=UTC))


def test_a_time_that_never_comes_is_no_window() -> None:
    never = a_spec(datetime(2027, 1, 1, 9), "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30")
    assert next_window(never, datetime(2027, 1, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize("name", ["Mars/Olympus", "../etc/passwd", "", "Europe"])
def test_a_time_zone_is_a_known_name(name: str) -> None:
    with pytest.raises(BadRecurrence, match="time_zone:"):
        next_window(a_spec(datetime(2027, 1, 1, 9), time_zone=name), datetime(2027, 1, 1, tzinfo=UTC))
