"""`python -m tests.benchmarks.backlog [--reserved] [--policy POLICY] [NUMBER...]`: rounds while very many wait; JSON lines.

What changes is the same each time: one workload arrives, or one ends and another starts in its place. What grows is what does
not change, and each figure is told as a ratio to the first number as well. Milliseconds are CPU time, so that nobody else who
keeps the machine busy counts: of this process, and of what PostgreSQL does for it. Each number has a process of its own.
Where it is `--reserved`, a node is kept for a reservation that opens in a week. A policy is a YAML file, or the name of a
preset.
"""

import resource
import time
from argparse import ArgumentParser
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context
from statistics import median
from typing import NamedTuple

import uvloop
from sqlalchemy import text

from activities.deciding import Decider
from activities.ports import Decide, Phase
from activities.store.postgres import PostgresStore
from corral.cli.policies import read_policy
from corral.policy import Policy
from corral.reservation import ReservationSpec
from tests.benchmarks.figures import Figure, spread
from tests.benchmarks.rounds import DEVICES, QUEUE, SKU, Bench, Size, filled
from worker.collecting import collect_a_little
from worker.settings import LOOPBACK

NUMBERS = (10_000, 100_000, 1_000_000)
TIMES = 7
NODES = 1_250
EXAMPLES = 1_000
COPIES_AT_ONCE = 100

_EXAMPLES = "(SELECT * FROM workloads WHERE state = 'waiting' AND ended_at IS NULL ORDER BY id LIMIT :examples)"

_MORE_WORKLOADS = text(f"""
    INSERT INTO workloads (id, spec, digest, queue, tier, priority, state, version, submitted_at, since, explanation,
                           over_quota)
    SELECT name, jsonb_set(spec, '{{id}}', to_jsonb(name)), digest, queue, tier, priority, state, version, submitted_at, since,
           explanation, over_quota
    FROM (SELECT those.*, id || '-' || copy AS name
          FROM {_EXAMPLES} AS those, generate_series(CAST(:first AS int), CAST(:last AS int)) AS copy) AS more""")

_THEIR_INTERVALS = text(f"""
    INSERT INTO ledger (workload_id, queue, tier, kind, entitled_milli, allocated_milli, allocated_by_sku, cost_by_sku,
                        began_at)
    SELECT ledger.workload_id || '-' || copy, ledger.queue, ledger.tier, kind, entitled_milli, allocated_milli,
           allocated_by_sku, cost_by_sku, began_at
    FROM ledger JOIN {_EXAMPLES} AS those ON those.id = ledger.workload_id,
         generate_series(CAST(:first AS int), CAST(:last AS int)) AS copy
    WHERE ledger.ended_at IS NULL""")


async def more_wait(bench: Bench, number: int) -> None:
    """Let as many wait in all, each like one of a thousand that were submitted and told why they wait."""
    await bench.arrive(bench.a_store(), Decider().decide, 0)
    copies = number // EXAMPLES - 1
    for first in range(1, copies + 1, COPIES_AT_ONCE):
        which = {"examples": EXAMPLES, "first": first, "last": min(copies, first + COPIES_AT_ONCE - 1)}
        async with bench.engine.begin() as connection:
            await connection.execute(_MORE_WORKLOADS, which)
            await connection.execute(_THEIR_INTERVALS, which)
    async with bench.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await connection.execute(text("VACUUM ANALYZE"))


def in_a_week(bench: Bench) -> ReservationSpec:
    """A node is kept, for a window that does not open meanwhile."""
    start = bench.clock.now() + timedelta(days=7)
    return ReservationSpec(id="kept", queues=(QUEUE,), accelerators=DEVICES, sku=SKU, start=start, seconds=3_600)


def database_milliseconds(bench: Bench) -> float:
    """CPU time of the processes that PostgreSQL has for its clients, which is counted in hundredths of a second."""
    served = (each.cpu_times() for each in bench.server.children() if LOOPBACK in " ".join(each.cmdline()))
    return sum([float(times.user + times.system) for times in served]) * 1000


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


class Spent(NamedTuple):
    """CPU milliseconds of this process for each of some changes, and of PostgreSQL's for one of them on the average."""

    own: list[float]
    database: float


async def measured(change: Callable[[], Awaitable[None]], bench: Bench, times: int = 1) -> Spent:
    """What a change costs."""
    own, before = list[float](), database_milliseconds(bench)
    for _ in range(times):
        bench.clock.move(1)
        began = time.process_time()
        await change()
        own.append((time.process_time() - began) * 1000)
    return Spent(own, (database_milliseconds(bench) - before) / times)


class Measured(NamedTuple):
    """What the first round of a process and changes cost, by what they were, and the most MiB that the process had."""

    spent: dict[str, Spent]
    memory: int


async def measured_with(number: int, *, is_reserved: bool, policy: Policy) -> Measured:
    """What changes cost while so many wait; to be called in a process of its own."""
    collect_a_little()
    async with filled(Size(nodes=NODES, width=1, waiting=EXAMPLES), policy) as bench:
        await more_wait(bench, number)
        if is_reserved:
            await bench.a_store().reserve(in_a_week(bench))
        changes = Changes(bench, bench.a_store(), Decider().decide)
        took = {"first round of a process": await measured(changes.nothing, bench)}
        for change in (changes.submit, changes.end_and_start, changes.nothing):
            await change()  # which may find caches cold
            took[change.__name__] = await measured(change, bench, TIMES)
        return Measured(took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def measure(numbers: Sequence[int] = NUMBERS, *, is_reserved: bool = False, policy: Policy | None = None) -> Iterator[Figure]:
    """For each number of waiting workloads what a change costs, and how many times that is of the first number's."""
    first: Measured | None = None
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as processes:
        for number in numbers:
            found = processes.submit(_measured_with, number, is_reserved, policy or Policy()).result()
            yield from figures(number, found, first := first or found)


def _measured_with(number: int, is_reserved: bool, policy: Policy) -> Measured:
    return uvloop.run(measured_with(number, is_reserved=is_reserved, policy=policy))


def figures(number: int, found: Measured, first: Measured) -> Iterator[Figure]:
    """What was measured, beside what it was with the first number."""
    for what, spent in found.spent.items():
        yield beside(f"{number:,} wait: {what}", "ms", spent.own, first.spent[what].own)
        yield beside(f"{number:,} wait: {what}, PostgreSQL", "ms", [spent.database], [first.spent[what].database])
    yield beside(f"{number:,} wait: peak memory", "MiB", [found.memory], [first.memory])


def beside(name: str, unit: str, found: Sequence[float], reference: Sequence[float]) -> Figure:
    """A figure with its ratio to the reference, where that is not nothing."""
    ratio = spread([median(found) / median(reference)]) if median(reference) else None
    return Figure(name, unit, spread(found), spread(reference), ratio)


def main() -> None:
    """Measure, and print each figure when it is there."""
    parser = ArgumentParser(prog="python -m tests.benchmarks.backlog", description="Rounds while very many wait.")
    parser.add_argument("numbers", nargs="*", type=int, metavar="NUMBER", help="so many wait; by default three numbers")
    parser.add_argument("--reserved", action="store_true", help="a node is kept for a reservation that opens in a week")
    parser.add_argument("--policy", default="default", help="a YAML file, or the name of a preset")
    asked = parser.parse_args()
    policy = read_policy(asked.policy).content
    for figure in measure(asked.numbers or NUMBERS, is_reserved=asked.reserved, policy=policy):
        print(figure.as_json(), flush=True)


if __name__ == "__main__":
    main()
