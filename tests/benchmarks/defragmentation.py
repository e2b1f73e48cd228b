"""`python -m tests.benchmarks.defragmentation`: what looking for moves takes, and what moves come to; JSON lines."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from corral.api import Checkpoint
from corral.policy import Defragmentation, Goals, Policy
from domain.decision import Plan
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.benchmarks.figures import Figure, spread
from tests.benchmarks.pools import Size, a_pool
from tests.builders import NOON, seconds

TIMES = 5
SIZES = (1_000, 10_000, 100_000)
"""Accelerators."""


@dataclass(frozen=True, slots=True)
class Case:
    """What part of all work is known to have saved its state, how full the pool is, and how much waits."""

    name: str
    saved: float
    used: float
    waiting: int = 0


CASES = (
    Case("nothing is known to be saved", 0, 0.92),
    Case("all nodes are full", 1, 1),
    Case("work is scattered", 1, 0.85),
    Case("work is scattered, and some waits", 1, 0.85, 1_000),
)


def a_situation(case: Case, accelerators: int) -> Snapshot:
    """A pool in which so much of the work saved its state a minute ago, and moves may cost what they like."""
    pool = a_pool(Size(accelerators, case.used, case.waiting))
    random = Random(1)
    active = tuple(
        replace(
            each,
            checkpoint_at=NOON - seconds(60) if random.random() < case.saved else None,
            spec=each.spec.model_copy(update={"checkpoint": Checkpoint(grace_seconds=30)}),
        )
        for each in pool.active
    )
    return replace(pool, active=active)


def measured(snapshot: Snapshot, policy: Policy) -> tuple[Plan, float, float]:
    """The plan, and how many milliseconds of CPU time looking for moves and the whole round took."""
    took: dict[str, float] = {}
    last = began = time.process_time()

    def lap(step: str) -> None:
        nonlocal last
        took[step], last = (time.process_time() - last) * 1000, time.process_time()

    plan = schedule(replace(snapshot, policy=policy), NOON, lap=lap)
    return plan, took["defragment"], (time.process_time() - began) * 1000


def figures(case: Case, accelerators: int) -> Iterator[Figure]:
    """What a situation comes to."""
    snapshot = a_situation(case, accelerators)
    policy = Policy(goals=Goals(defragmentation=Defragmentation(moves_at_once=4)))
    runs = [measured(snapshot, policy) for _ in range(TIMES)]
    of = f"{accelerators:,} accelerators, {case.name}"
    yield Figure(
        f"{of}: looking for moves",
        "ms of CPU time per round",
        spread([look for _, look, _ in runs]),
        reference=spread([round_ for _, _, round_ in runs]),
    )
    trades = {reshape.trade for reshape in runs[0][0].reshapes if reshape.trade}
    moves = sum(reshape.trade is not None for reshape in runs[0][0].reshapes)
    yield Figure(f"{of}: moves", "in one round", spread([float(moves)]))
    if trades:
        yield Figure(f"{of}: gain", "times the cost", spread([trade.gain / trade.cost for trade in trades]))


def main() -> None:
    """Measure, and print each figure when it is there."""
    for accelerators in SIZES:
        for case in CASES:
            for figure in figures(case, accelerators):
                print(figure.as_json(), flush=True)


if __name__ == "__main__":
    main()
