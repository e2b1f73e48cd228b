"""`python -m tests.benchmarks.backlog [NUMBER...]`: submits and rounds while very many workloads wait; JSON lines.

What changes is the same each time: one workload arrives, or one ends and another starts in its place. What grows is what does
not change, and each figure is told as a ratio to the first number as well. Milliseconds are CPU time of this process, so that
nobody else who keeps the machine busy counts; the database's own are not in them.
"""

import resource
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median

import uvloop
from sqlalchemy import text

from activities.deciding import Decider
from activities.ports import Decide, Phase
from activities.store.postgres import PostgresStore
from tests.benchmarks.figures import Figure, spread
from tests.benchmarks.rounds import Bench, Size, filled

NUMBERS = (10_000, 100_000, 1_000_000)
TIMES = 7
NODES = 1_250

_MORE = text("""
    INSERT INTO workloads (id, spec, digest, queue, tier, priority, state, version, submitted_at, since, explanation,
                           over_quota)
    SELECT id || '-' || copy, jsonb_set(spec, '{id}', to_jsonb(id || '-' || copy)), digest, queue, tier, priority, state,
           version, submitted_at, since, explanation, over_quota
    FROM (SELECT * FROM workloads WHERE state = 'waiting' AND ended_at IS NULL ORDER BY id LIMIT 1000) AS those,
         generate_series(1, :copies) AS copy""")


async def more_wait(bench: Bench, number: int) -> None:
    """Let as many wait in all, each like one of a thousand that were submitted and told why they wait."""
    await bench.arrive(bench.a_store(), Decider().decide, 0)
    async with bench.engine.begin() as connection:
        await connection.execute(_MORE, {"copies": number // 1_000 - 1})
    async with bench.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await connection.execute(text("VACUUM ANALYZE"))


@dataclass
class Changes:
    """The smallest changes, one at a time."""

    bench: Bench
    store: PostgresStore
    decide: Decide

    async def submit(self) -> None:
        """A workload arrives; it waits like the others."""
        await self.bench.arrive(self.store, self.decide, 1)

    async def end_and_start(self) -> None:
        """A workload ends, and the planner gives its node to one of those who wait."""
        key, *self.bench.running = self.bench.running
        await self.store.settle([self.bench.seen(key, Phase.SUCCEEDED)])
        await self.bench.arrive(self.store, self.decide, 0)

    async def nothing(self) -> None:
        """The planner looks, and nothing has changed."""
        await self.bench.arrive(self.store, self.decide, 0)


async def measured(change: Callable[[], Awaitable[None]], bench: Bench) -> list[float]:
    """CPU milliseconds of each of some changes; the first, which may find caches cold, is left out."""
    took = []
    for _ in range(TIMES + 1):
        bench.clock.move(1)
        began = time.process_time()
        await change()
        took.append((time.process_time() - began) * 1000)
    return took[1:]


async def measure(numbers: Sequence[int] = NUMBERS) -> AsyncIterator[Figure]:
    """For each number of waiting workloads what a change costs, and how many times that is of the first number's."""
    first: dict[str, list[float]] = {}
    for number in numbers:
        async with filled(Size(nodes=NODES, width=1, waiting=1_000)) as bench:
            await more_wait(bench, number)
            changes = Changes(bench, bench.a_store(), Decider().decide)
            began = time.process_time()
            await changes.nothing()
            yield Figure(f"{number:,} wait: first round of a process", "s", spread([time.process_time() - began]))
            for change in (changes.submit, changes.end_and_start, changes.nothing):
                took = await measured(change, bench)
                reference = first.setdefault(change.__name__, took)
                ratio = spread([median(took) / median(reference)])
                yield Figure(f"{number:,} wait: {change.__name__}", "ms", spread(took), spread(reference), ratio)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            yield Figure(f"{number:,} wait: peak memory of the process so far", "MiB", spread([memory]))


async def main() -> None:
    """Measure, and print each figure when it is there."""
    numbers = [int(each) for each in sys.argv[1:]] or NUMBERS
    async for figure in measure(numbers):
        print(figure.as_json(), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
