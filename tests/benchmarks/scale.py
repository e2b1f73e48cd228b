"""`python -m tests.benchmarks.scale`: placements and whole rounds as fleets grow, in CPU time and memory; JSON lines."""

import argparse
import multiprocessing
import resource
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from tests.benchmarks import planning, streams
from tests.benchmarks.figures import Figure, spread
from tests.benchmarks.pools import Size
from tests.benchmarks.streams import KINDS, Stream

SIZES = (1_000, 10_000, 100_000)
"""Accelerators."""

MILLION = 1_000_000

ROUNDS = 5
"""Streams and pools of each size, from as many seeds."""

MOST_WAITING, WAITING_PER_ACCELERATOR = 10_000, 0.1

PARTS = ("placements", "rounds", "memory")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """What is measured, and how often."""

    sizes: Sequence[int] = SIZES
    rounds: int = ROUNDS
    changes: int = planning.CHANGES
    scanned: int = streams.SCANNED
    parts: Sequence[str] = PARTS


QUICK = Options(sizes=(256, 512), rounds=1, changes=1, scanned=1)
"""Enough to see that all of it runs."""


def in_a_child(work: Callable[[], T]) -> T:
    """The same in a process of its own, whose memory is its own too."""
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawning, max_tasks_per_child=1) as processes:
        return processes.submit(work).result()


def measure(options: Options = Options()) -> Iterator[Figure]:
    """Streams, rounds and memory, one after the other."""
    if "placements" in options.parts:
        for kind in KINDS:
            yield from in_a_child(partial(placements, kind, options))
    if "rounds" in options.parts:
        for distinct in (False, True):
            for size in options.sizes:
                yield from rounds(size, options, distinct=distinct)
    if "memory" in options.parts:
        for size in options.sizes:
            peaks = [in_a_child(partial(peak_memory_mib, size, streamed)) for streamed in (False, True)]
            for name, peak in zip(("idle", "filled with single replicas"), peaks, strict=True):
                yield Figure(f"{size:,} accelerators, {name}; peak memory", "MiB", spread([peak]))


def placements(kind: str, options: Options) -> list[Figure]:
    """Streams of one kind on all sizes."""
    return list(streams.measure(kind, options.sizes, options.rounds, options.scanned))


def rounds(accelerators: int, options: Options, *, distinct: bool) -> Iterator[Figure]:
    """Whole rounds over pools of one size, each in a process of its own."""
    waiting = min(MOST_WAITING, round(accelerators * WAITING_PER_ACCELERATOR))
    size = Size(accelerators, waiting=waiting)
    over_pools = partial(planning.over_one_pool, size, distinct=distinct, changes=options.changes)
    found = [in_a_child(partial(over_pools, seed)) for seed in range(options.rounds)]
    alike = "all different" if distinct else "many alike"
    return planning.figures(f"{accelerators:,} accelerators, {waiting:,} waiting, {alike}", found)


def peak_memory_mib(accelerators: int, streamed: bool) -> float:
    """The most memory that a process has which knows a fleet, and has filled it or not."""
    stream = Stream(accelerators, "single replicas")
    for _ in stream.stretches(scanned=0) if streamed else ():
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def options_of(arguments: Sequence[str] | None = None) -> Options:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description="Placements and whole rounds as fleets grow, in CPU time and memory.")
    parser.add_argument("--sizes", help="accelerators, with commas between; the least first")
    parser.add_argument("--million", action="store_true", help=f"{MILLION:,} accelerators as well")
    parser.add_argument("--rounds", type=int, help="streams and pools of each size")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that all of it runs")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    given = parser.parse_args(arguments)
    base = QUICK if given.quick else Options()
    sizes = tuple(int(size) for size in given.sizes.split(",")) if given.sizes else tuple(base.sizes)
    return Options(
        sizes=(*sizes, MILLION) if given.million else sizes,
        rounds=given.rounds or base.rounds,
        changes=base.changes,
        scanned=base.scanned,
        parts=tuple(given.parts),
    )


def main() -> None:
    """Measure, and print each figure when it is there."""
    for figure in measure(options_of()):
        print(figure.as_json(), flush=True)


if __name__ == "__main__":
    main()
