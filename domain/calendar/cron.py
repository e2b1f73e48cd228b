"""Cron expressions: at which times, by the clocks of a place, something is due; as Temporal's schedules read them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from zoneinfo import ZoneInfo

MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")

SHORTHANDS: Mapping[str, str] = MappingProxyType(
    {
        "@yearly": "0 0 1 1 *",
        "@annually": "0 0 1 1 *",
        "@monthly": "0 0 1 * *",
        "@weekly": "0 0 * * 0",
        "@daily": "0 0 * * *",
        "@midnight": "0 0 * * *",
        "@hourly": "0 * * * *",
    }
)


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an expression: its numbers, and the names that stand for them from the least on, by their first letters."""

    name: str
    least: int
    most: int
    names: tuple[str, ...] = ()
    letters: int = 0


FIELDS = (
    Field("second", 0, 59),
    Field("minute", 0, 59),
    Field("hour", 0, 23),
    Field("day of the month", 1, 31),
    Field("month", 1, 12, MONTHS, 3),
    Field("day of the week", 0, 7, DAYS, 2),
    Field("year", 2000, 2100),
)


class BadCron(ValueError):
    """An expression or a time zone that cannot be read; the message names the field, the value and what was expected."""


EVERY = "@every "
UNITS: Mapping[str, int] = MappingProxyType({"d": 86_400, "h": 3_600, "m": 60, "s": 1})
LONGEST_SECONDS = 100 * 366 * 86_400


@dataclass(frozen=True, slots=True)
class Interval:
    """Every so many seconds since 1970, and so many more: as Temporal counts them, whatever clocks show."""

    seconds: int
    phase: int = 0

    def is_time(self, shown: datetime) -> bool:
        """Whether it is due then."""
        return (int(shown.timestamp()) - self.phase) % self.seconds == 0


@dataclass(frozen=True, slots=True)
class Cron:
    """The numbers that each of `FIELDS` may have; a time is due when all of its own are among them, on Sunday 0 or 7."""

    numbers: tuple[frozenset[int], ...]

    def is_time(self, shown: datetime) -> bool:
        """Whether it is due when clocks show that."""
        weekday = shown.isoweekday()
        days = {weekday, weekday % len(DAYS)}
        its = (shown.second, shown.minute, shown.hour, shown.day, shown.month, None, shown.year)
        return all(
            days & allowed if value is None else value in allowed for value, allowed in zip(its, self.numbers, strict=True)
        )


def is_time_of(expression: str, time_zone: str, at: datetime) -> bool:
    """Whether a time, to the second, is one of those of an expression; an hour that comes twice counts both times.

    Raises:
        BadCron: the expression or the time zone cannot be read.
    """
    return not at.microsecond and read(expression).is_time(at.astimezone(zone_of(time_zone)))


def zone_of(name: str) -> ZoneInfo:
    """The time zone of that name.

    Raises:
        BadCron: there is none.
    """
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError) as error:
        raise BadCron(f"time_zone: {name!r} is not known; expected a name such as Europe/Berlin") from error


def read(expression: str) -> Cron | Interval:
    """An expression of five fields, or six with the year, or seven with the second as well, or a shorthand such as `@daily`.

    `@every 8h` is each time that a multiple of eight hours has passed since 1970, `@every 8h/30m` half an hour after these.

    Raises:
        BadCron: it is none.
    """
    if expression.startswith(EVERY):
        return _interval(expression)
    fields = SHORTHANDS.get(expression, expression).split()
    match len(fields):
        case 5:
            fields = ["0", *fields, "*"]
        case 6:
            fields = ["0", *fields]
        case 7:
            pass
        case _:
            raise BadCron(
                f"cron: {expression!r} has not five to seven fields; expected such as '0 20 * * 1-5', @daily or @every 8h"
            )
    return Cron(tuple(_numbers(field, text) for field, text in zip(FIELDS, fields, strict=True)))


def _interval(expression: str) -> Interval:
    length, has_phase, phase = expression.removeprefix(EVERY).partition("/")
    seconds = _seconds(expression, length)
    if not 0 < seconds <= LONGEST_SECONDS:
        raise BadCron(f"cron: {expression!r} is no interval; expected at least a second and at most a century")
    return Interval(seconds, _seconds(expression, phase) % seconds if has_phase else 0)


def _seconds(expression: str, length: str) -> int:
    found = re.findall(r"([0-9]{1,10})([dhms])", length)
    if not found or "".join(map("".join, found)) != length:
        raise BadCron(
            f"cron: {length!r} in {expression!r} is no length of time; expected whole numbers such as 90s, 1h30m or 7d"
        )
    return sum(int(number) * UNITS[unit] for number, unit in found)


def _numbers(field: Field, text: str) -> frozenset[int]:
    return frozenset(number for part in text.split(",") for number in _range(field, part))


def _range(field: Field, part: str) -> range:
    """The numbers of `*`, `a` or `a-b`, or of every n-th of them with `/n`, where `a/n` goes on to the field's last."""
    whole, has_step, step = part.partition("/")
    first, is_range, last = whole.partition("-")
    if whole == "*":
        least, most = field.least, field.most
    else:
        least = _number(field, first)
        most = _number(field, last) if is_range else field.most if has_step else least
    if least > most or (has_step and not (_is_digits(step) and int(step) > 0)):
        raise BadCron(f"cron: {part!r} is no {field.name}; expected such as *, */5, 1 or 1-5")
    return range(least, most + 1, int(step) if has_step else 1)


def _number(field: Field, text: str) -> int:
    if field.letters and len(text) >= field.letters:
        for number, name in enumerate(field.names, field.least):
            if name.startswith(text.lower()):
                return number
    if not _is_digits(text) or not field.least <= int(text) <= field.most:
        raise BadCron(f"cron: {text!r} is no {field.name}; expected {field.least} to {field.most}")
    return int(text)


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= len("2100")
