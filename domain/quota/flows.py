"""Flows: what ran and when, as changes of what is in use by hour; every sum over them is the same in whatever order."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from domain.pool.fleet import Amount
from domain.quota.accounting import MILLISECOND, MILLISECONDS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = 3_600 * MILLISECONDS
"""Milliseconds in an hour. Hours are numbered from the epoch."""

WEIGHT_OF_NOW = 2**32
HALVINGS = 16
"""What is older than so many half-lives weighs nothing any more."""


class Spell(NamedTuple):
    """What an interval of the ledger used of one SKU: thousandths of an accelerator, at a cost in nanodollars an hour."""

    queue: str
    sku: str
    milli: Amount
    hourly_cost: int
    began_at: datetime
    ended_at: datetime | None


class Flow(NamedTuple):
    """The changes of an amount in use within one hour: their sum, and the sum of each times its milliseconds into the hour."""

    hour: int
    change: int
    moment: int


class Flows(NamedTuple):
    """The flows of one queue and SKU: of accelerators in thousandths, and of what they cost in nanodollars an hour."""

    milli: tuple[Flow, ...] = ()
    cost: tuple[Flow, ...] = ()


def milliseconds(instant: datetime) -> int:
    """Milliseconds since the epoch."""
    return (instant - EPOCH) // MILLISECOND


def flows_of(spells: Iterable[Spell]) -> dict[tuple[str, str], Flows]:
    """The flows of each queue and SKU: a spell adds what it uses when it begins, and takes it away when it ends."""
    changes: dict[tuple[str, str], list[tuple[datetime, Amount, int]]] = {}
    for spell in spells:
        mine = changes.setdefault((spell.queue, spell.sku), [])
        mine.append((spell.began_at, spell.milli, spell.hourly_cost))
        if spell.ended_at is not None:
            mine.append((spell.ended_at, -spell.milli, -spell.hourly_cost))
    return {
        key: Flows(summed((at, milli) for at, milli, _ in mine), summed((at, cost) for at, _, cost in mine))
        for key, mine in changes.items()
    }


def summed(changes: Iterable[tuple[datetime, int]]) -> tuple[Flow, ...]:
    """Changes at certain times as flows by hour, the first hour first."""
    by_hour: dict[int, tuple[int, int]] = {}
    for at, change in changes:
        hour, into = divmod(milliseconds(at), HOUR)
        before = by_hour.get(hour, (0, 0))
        by_hour[hour] = before[0] + change, before[1] + change * into
    return tuple(Flow(hour, *by_hour[hour]) for hour in sorted(by_hour))


def merged(parts: Iterable[Sequence[Flow]]) -> tuple[Flow, ...]:
    """The flows of several queues or SKUs together, the first hour first."""
    by_hour: dict[int, tuple[int, int]] = {}
    for hour, change, moment in (flow for part in parts for flow in part):
        before = by_hour.get(hour, (0, 0))
        by_hour[hour] = before[0] + change, before[1] + moment
    return tuple(Flow(hour, *by_hour[hour]) for hour in sorted(by_hour))


def since(flows: Iterable[Flow], first: int) -> tuple[Flow, ...]:
    """The flows of an hour and later ones; what was in use before begins with that hour."""
    every = tuple(flows)
    before = sum(flow.change for flow in every if flow.hour < first)
    return merged([[Flow(first, before, 0)], [flow for flow in every if flow.hour >= first]])


def used_until(flows: Iterable[Flow], until: int) -> int:
    """All use up to a time (milliseconds since the epoch), as amounts times milliseconds."""
    return sum(change * (until - hour * HOUR) - moment for hour, change, moment in flows if hour * HOUR <= until)


def decayed(flows: Sequence[Flow], half_life_seconds: int, now: int) -> int:
    """All use up to now, that of each hour weighing half as much after every half-life; amounts times milliseconds."""
    return sum(use * weight for use, _, weight in _weighed(flows, half_life_seconds, now)) // WEIGHT_OF_NOW


def decayed_beyond(flows: Sequence[Flow], owned: Amount, half_life_seconds: int, now: int) -> int:
    """The same of what each hour's use was beyond an amount that is owned."""
    found = _weighed(flows, half_life_seconds, now)
    return sum(max(0, use - owned * duration) * weight for use, duration, weight in found) // WEIGHT_OF_NOW


def _weighed(flows: Sequence[Flow], half_life_seconds: int, now: int) -> Iterator[tuple[int, int, int]]:
    """The use of every hour so far, the milliseconds that it has had, and its weight now.

    Hours in which nothing changed are alike, and come together with the sum of their weights.
    """
    sums = _sums_of_weights(half_life_seconds)
    this_hour, elapsed = divmod(now, HOUR)

    def weight(first: int, end: int) -> int:
        oldest, newest = this_hour - first + 1, this_hour - end + 1
        return sums[min(oldest, len(sums) - 1)] - sums[min(newest, len(sums) - 1)]

    level, reached = 0, this_hour
    for hour, change, moment in flows:
        if hour > this_hour:
            break
        if level and hour > reached:
            yield level * HOUR, HOUR, weight(reached, hour)
        duration = HOUR if hour < this_hour else elapsed
        yield (level + change) * duration - moment, duration, weight(hour, hour + 1)
        level, reached = level + change, hour + 1
    if level and reached <= this_hour:
        yield level * HOUR, HOUR, weight(reached, this_hour)
        yield level * elapsed, elapsed, weight(this_hour, this_hour + 1)


@lru_cache
def _sums_of_weights(half_life_seconds: int) -> tuple[int, ...]:
    """How much the hours of age 0 up to each age weigh together; each weight is rounded by itself."""
    hours = -(-half_life_seconds * HALVINGS // 3_600)
    weights = (round(WEIGHT_OF_NOW * 0.5 ** (age * 3_600 / half_life_seconds)) for age in range(hours))
    return tuple(accumulate(weights, initial=0))
