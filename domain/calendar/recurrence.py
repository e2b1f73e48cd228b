"""Recurrence: the windows of a reservation, by the clocks of its time zone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from zoneinfo import ZoneInfo

from dateutil.rrule import rrule, rrulestr

from corral.reservation import ReservationSpec

HORIZON = timedelta(days=3_000)
"""No further ahead is a next window looked for: beyond the eight years between two leap days."""

UNTIL_FORMS: Mapping[int, str] = MappingProxyType({8: "%Y%m%d", 15: "%Y%m%dT%H%M%S"})
_BY_DAYS = frozenset({"FREQ", "INTERVAL", "WKST", "UNTIL", "BYDAY", "BYMONTH"})
_BY_MONTHS = _BY_DAYS | {"BYMONTHDAY", "BYSETPOS"}
PARTS: Mapping[str, frozenset[str]] = MappingProxyType(
    {"DAILY": _BY_DAYS, "WEEKLY": _BY_DAYS, "MONTHLY": _BY_MONTHS, "YEARLY": _BY_MONTHS}
)
"""What a rule may say, by its frequency: enough for people, and nothing of which it takes long to find that it never comes."""

MOST_INTERVALS = 1_000
MONTHS = frozenset(map(str, range(1, 13)))
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Window:
    """When a window opens at the earliest and at the latest; it lasts as long in any case."""

    earliest: datetime
    latest: datetime
    length: timedelta

    @property
    def closes_at(self) -> datetime:
        """When it ends if it opens at the earliest."""
        return self.earliest + self.length


class BadRecurrence(ValueError):
    """A time zone or a recurrence that cannot be read; the message names the field, the value and what was expected."""


def next_window(spec: ReservationSpec, after: datetime) -> Window | None:
    """The first window that begins at that time or later; none where there is no further one.

    Raises:
        BadRecurrence: the spec's time zone or recurrence cannot be read.
    """
    zone = zone_of(spec)
    length, flexible = timedelta(seconds=spec.seconds), timedelta(seconds=spec.flexible_seconds)
    first = _instant(spec.start, zone)
    if spec.recurrence is None:
        return Window(first, first + flexible, length) if first >= after else None
    start = first.astimezone(zone).replace(tzinfo=None) if spec.start.tzinfo else spec.start
    local = max(after, EARLIEST).astimezone(zone).replace(tzinfo=None)
    rule = _rule(spec.recurrence, start, max(local, start) + HORIZON)
    # A day earlier, as clocks that are set back show times that are over once more.
    found: datetime | None = rule.after(max(local, start) - timedelta(days=1), inc=True)
    while found is not None and _instant(found, zone) < after:
        found = rule.after(found)
    if found is None:
        return None
    opens_at = _instant(found, zone)
    return Window(opens_at, opens_at + flexible, length)


def first_window(spec: ReservationSpec, now: datetime) -> Window | None:
    """The window that can still be had of those that were to begin, or that is under way; else the next.

    One that is flexible opens whole, from now on, as long as it may; later it has been under way since it was to open at the
    latest.

    Raises:
        BadRecurrence: the spec's time zone or recurrence cannot be read.
    """
    begun_since = now - timedelta(seconds=spec.flexible_seconds + spec.seconds) + timedelta(seconds=1)
    window = next_window(spec, begun_since)
    return window and replace(window, earliest=max(window.earliest, min(now, window.latest)))


def zone_of(spec: ReservationSpec) -> ZoneInfo:
    """The time zone by whose clocks the reservation goes.

    Raises:
        BadRecurrence: there is none of that name.
    """
    try:
        return ZoneInfo(spec.time_zone)
    except (OSError, ValueError, LookupError) as error:
        raise BadRecurrence(f"time_zone: {spec.time_zone!r} is not known; expected a name such as Europe/Berlin") from error


def _instant(shown: datetime, zone: ZoneInfo) -> datetime:
    """When clocks show that; a time that is left out counts from before the change, of one that comes twice the first is meant.

    As RFC 5545 (3.3.5) has it.
    """
    return (shown if shown.tzinfo else shown.replace(tzinfo=zone)).astimezone(UTC)


def _rule(text: str, start: datetime, horizon: datetime) -> rrule:
    """The rule, which ends at the horizon at the latest, so that one without any time is soon found to have none."""
    parts = dict(part.partition("=")[::2] for part in text.upper().removeprefix("RRULE:").split(";"))
    if (takes := PARTS.get(parts.get("FREQ", ""))) is None:
        raise BadRecurrence(f"recurrence: {text!r} needs FREQ, one of {', '.join(PARTS)}")
    if unknown := sorted(parts.keys() - takes):
        raise BadRecurrence(f"recurrence: {text!r} has {unknown[0]}; with that FREQ expected are {', '.join(sorted(takes))}")
    interval = parts.get("INTERVAL", "1")
    if not (interval.isdecimal() and 1 <= int(interval) <= MOST_INTERVALS):
        raise BadRecurrence(f"recurrence: INTERVAL={interval} is not between 1 and {MOST_INTERVALS}")
    if months := [month for month in parts.get("BYMONTH", "1").split(",") if month not in MONTHS]:
        raise BadRecurrence(f"recurrence: BYMONTH={months[0]} is not between 1 and 12")
    until = horizon if (told := parts.pop("UNTIL", None)) is None else min(horizon, _until(told))
    try:
        rule = rrulestr(";".join(f"{name}={value}" for name, value in parts.items()), dtstart=start)
    except (ValueError, TypeError, AttributeError) as error:
        raise BadRecurrence(f"recurrence: {text!r} is not an RRULE: {error}; expected such as FREQ=WEEKLY;BYDAY=MO") from error
    if not isinstance(rule, rrule):
        raise BadRecurrence(f"recurrence: {text!r} is more than one RRULE; expected one")
    return rule.replace(until=until)


def _until(told: str) -> datetime:
    try:
        until = datetime.strptime(told, UNTIL_FORMS[len(told)])
    except (KeyError, ValueError) as error:
        raise BadRecurrence(
            f"recurrence: UNTIL={told} is no local time; expected such as 20301231 or 20301231T235959"
        ) from error
    return until if "T" in told else until + timedelta(days=1) - timedelta(seconds=1)
