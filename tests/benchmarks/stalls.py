"""`python -m tests.benchmarks.stalls`: how long a worker's event loop stands still while a round is decided; JSON lines.

Everything else in a worker (heartbeats, signals, calls of providers) waits for as long. Each way to decide has a process of
its own, with the garbage collector and the interpreter's switch interval of a worker, unless the way says another one.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from random import Random

import uvloop

from activities.deciding import Decider
from activities.thinking import Thinker
from domain.decision import Plan
from domain.snapshot import Snapshot
from tests.benchmarks.figures import Figure, spread
from tests.benchmarks.planning import SMALL
from tests.benchmarks.pools import Size, a_pool
from tests.benchmarks.scale import in_a_child
from tests.benchmarks.turnover import a_little_later, carried_out
from tests.builders import NOON
from worker.__main__ import SWITCH_SECONDS
from worker.collecting import collect_a_little

BEAT_SECONDS = 0.002
CHANGES = 3


@dataclass(frozen=True, slots=True)
class Way:
    """How a round is decided: on the loop or beside it, and how soon the interpreter lets another thread on."""

    name: str
    is_beside: bool
    switch_seconds: float


WAYS = (
    Way("on the loop", is_beside=False, switch_seconds=SWITCH_SECONDS),
    Way("in a thread that lets others on after 5 ms", is_beside=True, switch_seconds=0.005),
    Way(f"in a thread that lets others on after {SWITCH_SECONDS * 1000:g} ms", is_beside=True, switch_seconds=SWITCH_SECONDS),
)


@dataclass(frozen=True, slots=True)
class Stalls:
    """Of one round: its seconds, and by how many of them beats of the loop came late."""

    seconds: float
    late: Sequence[float]

    @property
    def worst(self) -> float:
        """The longest stall."""
        return max(self.late)

    @property
    def seldom(self) -> float:
        """What one beat in a hundred is later than."""
        return sorted(self.late)[99 * len(self.late) // 100]


class Deciding:
    """Decides rounds in one way."""

    def __init__(self, way: Way) -> None:
        self._is_beside = way.is_beside
        self._decider, self._thinker = Decider(), Thinker()

    async def __call__(self, snapshot: Snapshot, now: datetime) -> tuple[Plan, Mapping[str, float]]:
        if self._is_beside:
            return await self._thinker.think(self._decider.decide, snapshot, now)
        return self._decider.decide(snapshot, now)


async def stalls_of(decide: Deciding, snapshot: Snapshot, now: datetime) -> tuple[Plan, Stalls]:
    """One round, and how late the loop's beats came meanwhile."""
    late: list[float] = []
    beating = asyncio.create_task(_beat(late))
    await asyncio.sleep(10 * BEAT_SECONDS)
    late.clear()
    began = time.perf_counter()
    plan, _ = await decide(snapshot, now)
    seconds = time.perf_counter() - began
    await asyncio.sleep(2 * BEAT_SECONDS)
    beating.cancel()
    return plan, Stalls(seconds, tuple(late))


async def _beat(late: list[float]) -> None:
    while True:
        due = time.perf_counter() + BEAT_SECONDS
        await asyncio.sleep(BEAT_SECONDS)
        late.append(max(0.0, time.perf_counter() - due))


async def over_one_pool(size: Size, way: Way) -> list[Stalls]:
    """The first round over a pool, and rounds after a hundredth of it has changed."""
    sys.setswitchinterval(way.switch_seconds)
    decide, random, found = Deciding(way), Random(0), list[Stalls]()
    await Deciding(way)(a_pool(SMALL), NOON)
    pool, now = a_pool(size), NOON
    collect_a_little()
    for number in range(1 + CHANGES):
        plan, stalls = await stalls_of(decide, pool, now)
        found.append(stalls)
        now += timedelta(seconds=1)
        pool = a_little_later(carried_out(pool, plan, now), now, random, f"n{number}")
    return found


def in_one_process(size: Size, way: Way) -> list[Stalls]:
    """The same; to be called in a process of its own."""
    return uvloop.run(over_one_pool(size, way))


def measure(size: Size) -> Iterator[Figure]:
    """Each way after the other."""
    for way in WAYS:
        first, *later = in_a_child(partial(in_one_process, size, way))
        for name, rounds in (("first round", [first]), ("1 % changed", later)):
            said = f"{size.accelerators:,} accelerators, {size.waiting:,} waiting, decided {way.name}; {name}"
            yield Figure(f"{said}: round", "s", spread([each.seconds for each in rounds]))
            yield Figure(f"{said}: longest stall of the loop", "ms", spread([each.worst * 1000 for each in rounds]))
            yield Figure(
                f"{said}: 99th percentile of how late beats come", "ms", spread([each.seldom * 1000 for each in rounds])
            )
            over = [sum(late >= 0.1 for late in each.late) for each in rounds]
            yield Figure(f"{said}: stalls of 100 ms or more", "stalls", spread(over))


def main() -> None:
    """Measure, and print each figure when it is there."""
    parser = argparse.ArgumentParser(description="How long the event loop stands still while a round is decided.")
    parser.add_argument("--accelerators", type=int, default=100_000)
    parser.add_argument("--waiting", type=int, default=10_000)
    given = parser.parse_args()
    for figure in measure(Size(given.accelerators, waiting=given.waiting)):
        print(figure.as_json(), flush=True)


if __name__ == "__main__":
    main()
