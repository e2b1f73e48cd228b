"""Whole rounds of the planner alone: the first one, one on its outcome, and ones after a hundredth has changed.

Time is CPU time of the process (all of its threads), with the garbage collector as a worker sets it, which also has its own
figure; garbage is collected before each round. Each pool is decided about in a process of its own, which has seen no other,
by a planner that remembers its rounds as one at work does, and has loaded what a worker loads when it starts.
"""

import gc
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random

from domain import solver
from domain.decision import Plan, Refuse, StartAfter, Wait
from domain.pool.workload import Waiting
from domain.remembered.memory import Memory
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.benchmarks.figures import Figure, Spread, spread
from tests.benchmarks.pools import Size, a_pool, a_spec
from tests.benchmarks.streams import Collecting
from tests.benchmarks.turnover import a_little_later, as_stored, carried_out
from tests.builders import NOON
from worker.collecting import collect_a_little

CHANGES = 3
"""Rounds after a change, one on the outcome of the other."""

GOAL_SECONDS = 1.0

SMALL = Size(128, waiting=8)
"""A pool that is decided about before the clock starts, so that all is imported."""


@dataclass(frozen=True, slots=True)
class Round:
    """One round: CPU seconds in all, by step and for collecting garbage, and what was decided."""

    seconds: float
    steps: Mapping[str, float]
    collecting: float
    decided: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Measured:
    """Rounds over one pool one after the other, and the most memory that its process had."""

    first: Round
    unchanged: Round
    changed: tuple[Round, ...]
    peak_memory_mib: float


def decide(snapshot: Snapshot, now: datetime, memory: Memory) -> tuple[Plan, Round]:
    """One round, timed."""
    steps: dict[str, float] = {}
    gc.collect()
    with Collecting() as collecting:
        since = began = time.process_time()

        def lap(step: str) -> None:
            nonlocal since
            steps[step], since = time.process_time() - since, time.process_time()

        plan = schedule(snapshot, now, lap=lap, memory=memory)
        seconds = time.process_time() - began
    return plan, Round(seconds, steps, collecting.seconds, _decided(snapshot, plan))


def _decided(snapshot: Snapshot, plan: Plan) -> dict[str, int]:
    return {
        "considered": len(snapshot.waiting),
        "started": len(plan.starts),
        "promised what others leave": sum(isinstance(each, StartAfter) for each in plan.decisions),
        "told to leave": len(plan.preempts),
        "told to change": len(plan.reshapes),
        "left waiting": sum(isinstance(each, Wait) for each in plan.decisions) + plan.as_before,
        "refused": sum(isinstance(each, Refuse) for each in plan.decisions),
    }


def all_different(snapshot: Snapshot, random: Random) -> Snapshot:
    """The same pool, where no two who wait ask for the same."""
    return replace(snapshot, waiting=tuple(_unlike(each, place, random) for place, each in enumerate(snapshot.waiting)))


def _unlike(workload: Waiting, place: int, random: Random) -> Waiting:
    spec = a_spec(random, workload.id)
    groups = tuple(group.model_copy(update={"memory_mib": group.memory_mib - place}) for group in spec.groups)
    return replace(workload, spec=spec.model_copy(update={"groups": groups}))


def over_one_pool(size: Size, seed: int, *, distinct: bool = False, changes: int = CHANGES) -> Measured:
    """The rounds over a pool of this size; to be called in a process of its own."""
    solver.load()
    schedule(a_pool(SMALL), NOON)
    random = Random(seed)
    pool = a_pool(size, seed)
    pool = as_stored(all_different(pool, random) if distinct else pool)
    memory = Memory()
    collect_a_little()
    plan, first = decide(pool, NOON, memory)
    pool = carried_out(pool, plan, NOON)
    plan, unchanged = decide(pool, NOON + timedelta(seconds=1), memory)
    changed = []
    for number in range(changes):
        now = NOON + timedelta(seconds=2 + number)
        pool = a_little_later(carried_out(pool, plan, now), now, random, f"n{number}")
        plan, measured = decide(pool, now, memory)
        changed.append(measured)
    return Measured(first, unchanged, tuple(changed), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


# What they come to


def figures(name: str, found: Sequence[Measured]) -> Iterator[Figure]:
    """What several pools of one size come to; rounds are compared with the first one over the same pool."""
    first = [each.first for each in found]
    yield from _of_rounds(f"{name}; first round", first)
    yield from _of_rounds(f"{name}; on its outcome", [each.unchanged for each in found], first)
    changed = [(after, each.first) for each in found for after in each.changed]
    yield from _of_rounds(f"{name}; 1 % changed", [after for after, _ in changed], [before for _, before in changed])
    yield Figure(f"{name}; peak memory", "MiB", spread([each.peak_memory_mib for each in found]))


def _of_rounds(name: str, rounds: Sequence[Round], first: Sequence[Round] | None = None) -> Iterator[Figure]:
    unit = "s of CPU time"
    ratio = spread([mine.seconds / its.seconds for mine, its in zip(rounds, first, strict=True)]) if first else None
    yield Figure(f"{name}: whole round", unit, _seconds(rounds), _seconds(first) if first else None, ratio)
    within = spread([float(each.seconds < GOAL_SECONDS) for each in rounds])
    yield Figure(f"{name}: rounds that take less than {GOAL_SECONDS:g} s", "parts of 1", within)
    for step in rounds[0].steps:
        yield Figure(f"{name}: {step}", unit, spread([each.steps[step] for each in rounds]))
    yield Figure(f"{name}: collecting garbage, in all steps", unit, spread([each.collecting for each in rounds]))
    for what in rounds[0].decided:
        yield Figure(f"{name}: {what}", "workloads", spread([each.decided[what] for each in rounds]))


def _seconds(rounds: Sequence[Round]) -> Spread:
    return spread([each.seconds for each in rounds])
