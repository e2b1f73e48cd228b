"""`python -m tests.benchmarks.gap`: how far rounds are from the bound, turns alone beside improved ones; JSON lines."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from corral.api import WHOLE, QueueSpec, SlaTier, State, Target
from corral.policy import Goals, Improvement, Policy
from domain.decision import Fallback, Plan, Quality, Start
from domain.facts import Facts
from domain.improvement.improved import NO_GAINS
from domain.improvement.quality import quality
from domain.placement.feasibility import offers, sift
from domain.placement.seating import Demand, Seating
from domain.pool.fleet import Amount, Node
from domain.pool.workload import Active, Waiting
from domain.quota_models.turns import Turns
from domain.round import schedule
from domain.snapshot import Snapshot
from domain.solver import Programme, Solution, Variable, solve
from domain.worlds.request import requests
from domain.worlds.world import World
from tests.benchmarks.figures import Figure, Spread, spread
from tests.builders import NOON, AWorkload, a_node, a_queue, a_snapshot, a_workload, seconds, without_room_of

OPTIMUM_WORK = 2.0
"""The most work for one optimum, in deterministic seconds."""

INSTANCES = 60
"""Small pools, each decided once."""

ROUNDS = 120
"""Of one larger pool, in which work comes and ends."""

LARGE = (12_500, 10_000)
"""Nodes with eight accelerators, and workloads that wait, for the time of the bound alone."""

REGIONS = ("eu", "us")
TARGETS = ((Target(regions=("eu",)),), (Target(regions=("us",)),), (Target(regions=REGIONS),), ())
SHAPES = ((1, 1), (1, 1), (1, 1), (2, 1), (4, 1), (8, 1), (1, 8), (2, 4), (4, 2), (8, 2), (8, 4))
"""Accelerators of a replica, and replicas."""

QUEUES = ("research", "production", "students")


def policy(work: float) -> Policy:
    """Rounds that are improved on with so much work, or not at all."""
    return Policy(goals=Goals(improvement=Improvement(work=work)))


def a_pool(random: Random, size: int) -> list[Node]:
    """Nodes of eight accelerators in racks of four, in two regions of which one is a little cheaper."""
    return [
        a_node(
            f"n{index:05}",
            region=REGIONS[index % 2],
            topology=(("rack", f"r{index // 8:04}"),),
            price=(1_900_000, 2_000_000)[index % 2],
            used=random.choice((0, 0, 0, 1, 3, 4)),
        )
        for index in range(size)
    ]


def a_demand(random: Random, id: str) -> AWorkload:
    """Work as pools see it: mostly small, sometimes a gang that must sit in one rack."""
    gpus, count = random.choice(SHAPES)
    return a_workload(
        id,
        queue=random.choice(QUEUES),
        gpus=gpus,
        count=count,
        tier=random.choice(list(SlaTier)),
        required=random.choice((None, None, "rack")) if gpus * count <= 32 else None,
        targets=random.choice(TARGETS),
        submitted_at=NOON - seconds(random.randint(0, 3_600)),
    )


@dataclass(frozen=True, slots=True)
class Decided:
    """One round: how good it is, and milliseconds of CPU time by step."""

    plan: Plan
    quality: Quality
    milliseconds: dict[str, float]


def decided(snapshot: Snapshot, work: float) -> Decided:
    """Decide one round with so much work to improve on it."""
    took: dict[str, float] = {}
    since = time.process_time()

    def lap(step: str) -> None:
        nonlocal since
        now = time.process_time()
        took[step] = (now - since) * 1_000
        since = now

    plan = schedule(replace(snapshot, policy=policy(work)), NOON, lap=lap)
    assert plan.quality is not None
    return Decided(plan, plan.quality, took)


def queues(size: int) -> list[QueueSpec]:
    """Three queues that own the pool together and lend to each other."""
    cohort = a_queue("company")
    owned = size * 8 // 3
    return [cohort, *(a_queue(name, owned, parent="company", borrowing_limit=size * 8) for name in QUEUES)]


def small(random: Random) -> Snapshot:
    """A pool of six to ten nodes for which about as much waits as is free."""
    size = random.randint(6, 10)
    waiting = [a_demand(random, f"w{index}") for index in range(random.randint(8, 16))]
    return a_snapshot(a_pool(random, size), queues(size), *waiting)


@dataclass(frozen=True, slots=True)
class InUse:
    """One round of a pool that goes on: by turns alone, the same improved, and the accelerators in use after one of them."""

    alone: Decided
    improved: Decided
    devices: int


def rounds(random: Random, *, is_improved: bool, work: float = 0.2, size: int = 48) -> Iterator[InUse]:
    """One round after the other over a pool in which work comes, runs for some rounds, and ends.

    Each is decided both ways on the same pool, of which one is carried out.
    """
    fleet = [replace(node, free=node.total) for node in a_pool(random, size)]
    running: list[tuple[int, Active]] = []
    waiting: list[AWorkload] = []
    for number in range(ROUNDS):
        running = [(end, active) for end, active in running if end > number]
        waiting += [a_demand(random, f"w{number:03}-{index}") for index in range(random.randint(0, 12))]
        active = [each for _, each in running]
        snapshot = a_snapshot(fleet, queues(size), *active, *waiting)
        alone, improved = decided(snapshot, 0), decided(snapshot, work)
        plan = (improved if is_improved else alone).plan
        starts = {start.workload_id: start for start in plan.decisions if isinstance(start, Start)}
        running += [
            (number + Random(each.id).randint(3, 20), _running(each.waiting(), starts[each.id]))
            for each in waiting
            if each.id in starts
        ]
        waiting = [each for each in waiting if each.id not in starts]
        yield InUse(alone, improved, sum(active.placement.milli for _, active in running) // WHOLE)


def _running(workload: Waiting, start: Start) -> Active:
    at = workload.submitted_at
    return Active(workload.id, f"{workload.id}.1", 1, workload.spec, State.RUNNING, start.placement, at, at, started_at=NOON)


def of_many(name: str, greedy: Sequence[Decided], improved: Sequence[Decided]) -> Iterator[Figure]:
    """What many rounds come to; the reference is that of turns alone."""
    could = [each for each in improved if each.quality.bound]
    alone = [each for each in greedy if each.quality.bound]
    yield Figure(f"{name}, gap", "parts of the bound", _gaps(could), reference=_gaps(alone))
    yield Figure(f"{name}, largest gap of nine in ten", "parts of the bound", _ninth(could), reference=_ninth(alone))
    yield Figure(f"{name}, those that reach the bound", "parts of 1", _reached(could), reference=_reached(alone))
    yield Figure(
        f"{name}, those that are improved", "parts of 1", spread([sum(e.quality.improved > 0 for e in could) / len(could)])
    )
    spent = sum(each.quality.fallback is Fallback.OUT_OF_WORK for each in could)
    yield Figure(f"{name}, those that ran out of work", "parts of 1", spread([spent / len(could)]))
    yield Figure(f"{name}, workloads started besides", "workloads", spread([sum(e.quality.improved for e in could)]))
    yield Figure(
        f"{name}, worst region's demand over supply, after (and before)",
        "ratio",
        spread([each.quality.worst_region_after for each in could]),
        reference=spread([each.quality.worst_region_before for each in could]),
    )
    for step in ("turns", "improve", "bound"):
        took = spread([each.milliseconds[step] for each in could])
        yield Figure(f"{name}, time of step {step}", "ms of CPU time", took)


def _gaps(found: Sequence[Decided]) -> Spread:
    return spread([each.quality.gap for each in found])


def _ninth(found: Sequence[Decided]) -> Spread:
    gaps = sorted(each.quality.gap for each in found)
    return spread([gaps[int(0.9 * (len(gaps) - 1))]])


def _reached(found: Sequence[Decided]) -> Spread:
    return spread([sum(each.quality.gap == 0 for each in found) / len(found)])


def optimum(snapshot: Snapshot) -> Amount | None:
    """The most thousandths that any plan starts, whatever the rank, or none where that was not proven."""
    facts = Facts.of(snapshot, NOON)
    world = World.of(snapshot, facts.tree)
    programme, wanted = Programme(), defaultdict[str, Demand](Demand)
    seating, aims = Seating(programme), list[tuple[Variable, int]]()
    for workload in snapshot.waiting:
        chosen: list[tuple[Variable, int]] = []
        for offer in (offer for request in requests(workload) for offer in offers(request, sift(request, world))):
            choice = programme.variable()
            gang = offer.request.gang
            seating.seat(f"{workload.id}/{len(chosen)}", gang, world.nodes(offer.classes), [choice], [wanted])
            chosen.append((choice, 1))
            aims.append((choice, -gang.minimum_milli))
        programme.require(chosen, most=1)
    for node_id, demand in wanted.items():
        seating.fit(demand, world.rooms[node_id], Demand())
    programme.objectives = [tuple(aims)]
    solution = solve(programme, OPTIMUM_WORK, {})
    return -solution.reached[0] if isinstance(solution, Solution) and solution.is_proven else None


def against_the_optimum(name: str, snapshots: Sequence[Snapshot], improved: Sequence[Decided]) -> Iterator[Figure]:
    """How much of the gap is the bound's, and how much rank and whole gangs cost."""
    found = [(each.quality, most) for each, snapshot in zip(improved, snapshots, strict=True) if (most := optimum(snapshot))]
    of = f"{name}, {len(found)} of them with a proven optimum"
    loose = [1 - most / each.bound for each, most in found]
    short = [1 - each.objective / most for each, most in found]
    yield Figure(f"{of}, optimum below the bound", "parts of the bound", spread(loose))
    yield Figure(f"{of}, round below the optimum without rank", "parts of the optimum", spread(short))


def over_time(name: str) -> Iterator[Figure]:
    """How far the rounds of a pool are from their bounds, and what is in use where all are improved beside none.

    The gaps of two pools that went different ways say nothing: where more has started, what is left is harder to place.
    """
    improved, alone = (list(rounds(Random(11), is_improved=way)) for way in (True, False))
    yield from of_many(name, [each.alone for each in improved], [each.improved for each in improved])
    used = [spread([float(each.devices) for each in way]) for way in (improved, alone)]
    mean = [sum(each.devices for each in way) / len(way) for way in (improved, alone)]
    yield Figure(f"{name}, in use, all improved beside turns alone", "accelerators", used[0], reference=used[1])
    yield Figure(f"{name}, mean in use, all improved beside turns alone", "ratio", spread([mean[0] / mean[1]]))


def bound_of_a_large_pool() -> Figure:
    """The time of the bound alone, for a full line over a large pool."""
    random = Random(1)
    size, number = LARGE
    waiting = [a_demand(random, f"w{index:05}") for index in range(number)]
    snapshot = a_snapshot([], queues(size), *waiting)
    snapshot = replace(snapshot, nodes=tuple(without_room_of(node, ()) for node in a_pool(random, size)))
    facts = Facts.of(snapshot, NOON)
    world = World.of(snapshot, facts.tree)
    turns = Turns((), snapshot.waiting, world)
    took = []
    for _ in range(5):
        began = time.process_time()
        quality(turns, NO_GAINS, snapshot.waiting, world, facts)
        took.append((time.process_time() - began) * 1_000)
    return Figure(f"bound of {number} workloads over {size * 8} accelerators", "ms of CPU time", spread(took))


def main() -> None:
    """Measure, and print each figure when it is there."""
    decided(small(Random(0)), 1)  # loads OR-Tools
    random = Random(7)
    snapshots = [small(random) for _ in range(INSTANCES)]
    name = f"{INSTANCES} small pools"
    best = [decided(each, 0.2) for each in snapshots]
    for figure in of_many(name, [decided(each, 0) for each in snapshots], best):
        print(figure.as_json(), flush=True)
    for figure in against_the_optimum(name, snapshots, best):
        print(figure.as_json(), flush=True)
    for figure in over_time(f"{ROUNDS} rounds of one pool"):
        print(figure.as_json(), flush=True)
    print(bound_of_a_large_pool().as_json(), flush=True)


if __name__ == "__main__":
    main()
