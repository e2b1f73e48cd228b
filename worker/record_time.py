"""The time by which a worker goes: PostgreSQL's, whatever is done to the clock of the machine that it works on."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from worker.clock import this_machines_wall

FIRST_LOOKS = 5
LOOK_SECONDS = 5.0
DRIFT = 0.0005
"""By how much of the time that passes two clocks that nobody sets may come to differ: more than any oscillator does."""

STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

log = logging.getLogger(__name__)


def steady_seconds() -> float:
    """Seconds by a clock of this machine that nobody can set, and that goes on while the machine sleeps where there is one."""
    return time.clock_gettime(STEADY)


@dataclass(frozen=True, slots=True)
class Offset:
    """By how many seconds PostgreSQL's clock (since 1970) is ahead of the steady one: as known `at` a time, between these."""

    least: float
    most: float
    at: float

    @property
    def middle(self) -> float:
        """The best guess."""
        return (self.least + self.most) / 2

    def narrowed(self, other: "Offset") -> "Offset":
        """What both say, the first having become less certain with time; the second alone, where they contradict each other."""
        aged = DRIFT * max(0.0, other.at - self.at)
        least, most = max(self.least - aged, other.least), min(self.most + aged, other.most)
        return Offset(least, most, other.at) if least <= most else other


class RecordTime:
    """PostgreSQL's time, carried on by this machine's steady clock from one look at it to the next.

    Each look is a question that takes its time: the answer is of some moment meanwhile. What they say together is known to a
    fraction of the fastest one. An answer that contradicts those before means that PostgreSQL's clock was set, or that it is
    another machine's now, and is believed: all workers go by the same clock, also by one that jumps.
    """

    def __init__(self, steady: Callable[[], float] = steady_seconds) -> None:
        self._steady = steady
        self._offset: Offset | None = None

    def now(self) -> datetime:
        """The time, with time zone UTC."""
        assert self._offset is not None, "somebody has looked at PostgreSQL's clock before"
        return datetime.fromtimestamp(self._offset.middle + self._steady(), UTC)

    async def look(self, ask: Callable[[], Awaitable[datetime]]) -> float:
        """Ask for PostgreSQL's time once; answers with the seconds by which the time jumps, if that clock has."""
        asked = self._steady()
        shown = (await ask()).timestamp()
        answered = self._steady()
        seen, known = Offset(shown - answered, shown - asked, answered), self._offset
        self._offset = known.narrowed(seen) if known else seen
        return self._offset.middle - known.middle if known else 0.0


@asynccontextmanager
async def kept(record: RecordTime, ask: Callable[[], Awaitable[datetime]], skew_seconds: float) -> AsyncIterator[None]:
    """Let a record's time be known, and be looked at again and again until the context is left.

    Whoever looks after this machine is told when its own clock comes to be off by more than the skew.
    """
    for _ in range(FIRST_LOOKS):
        await record.look(ask)
    keeping = asyncio.create_task(_keep(record, ask, skew_seconds))
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def _keep(record: RecordTime, ask: Callable[[], Awaitable[datetime]], skew_seconds: float) -> None:
    was_off = False
    while True:
        is_off = _tell_if_off(record, skew_seconds, was_off=was_off)
        was_off = is_off
        await asyncio.sleep(LOOK_SECONDS)
        try:
            jump = await record.look(ask)
        except Exception as error:  # any of those with which a database is away: nothing is written meanwhile either
            log.info("could not look at PostgreSQL's clock: %s", error or type(error).__name__)
            continue
        if abs(jump) > skew_seconds:
            log.error("PostgreSQL's clock has jumped by %+.1f s, and the pool's time with it; see docs/operations.md", jump)


def _tell_if_off(record: RecordTime, skew_seconds: float, *, was_off: bool) -> bool:
    ahead = (this_machines_wall() - record.now()).total_seconds()
    is_off = abs(ahead) > skew_seconds
    if is_off and not was_off:
        log.warning("this machine's clock is %+.1f s ahead of PostgreSQL's, by which the pool goes; set it", ahead)
    return is_off
