"""`python -m tests.benchmarks.preemption`: how much exact plans save over greedy ones, and what they take; JSON lines."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from corral.api import SlaTier
from corral.policy import Disruption, Exactness, Policy, Rank
from domain.facts import Facts
from domain.placement.feasibility import offers, sift
from domain.pool.fleet import Node
from domain.pool.workload import Active
from domain.preemption.bid import Bid, Settlement
from domain.preemption.effort import Effort
from domain.preemption.make_room import cheapest
from domain.snapshot import Snapshot
from domain.worlds.request import requests
from domain.worlds.world import World
from tests.benchmarks.figures import Figure, spread
from tests.builders import NOON, a_node, a_queue, a_snapshot, a_workload, seconds

INSTANCES = 40
SIZES = (8, 48)
"""Nodes of eight devices; of the last so many only those on the shortlist are compared."""


def policy(nodes: int) -> Policy:
    """Everything may be done to running work; plans are compared on so many nodes."""
    return Policy(rank=Rank(disruption=Disruption(exact=Exactness(nodes=nodes))))


def crowded(random: Random, size: int) -> Snapshot:
    """A pool with hardly any room, and a gang that needs some of it."""
    fleet = [a_node(f"n{index:02}", topology=(("rack", f"r{index // 8}"),)) for index in range(size)]
    running = [active for node in fleet for active in runners(random, node)]
    gang = a_workload(
        "w",
        gpus=random.choice((4, 8)),
        count=random.choice((1, 1, 2, 4)),
        tier=SlaTier.PREMIUM,
        required=random.choice((None, "rack")),
    )
    return a_snapshot(fleet, [a_queue("research", size * 8)], *running, gang)


def runners(random: Random, node: Node) -> Iterator[Active]:
    """Work of many sizes and ages that leaves little of the node."""
    free = 8
    while free and random.random() < 0.95:
        width = min(free, random.choice((1, 1, 2, 2, 4, 8)))
        workload = a_workload(
            f"{node.id}-{free}",
            count=width,
            minimum=random.choice((width, width, max(1, width // 2))),
            tier=random.choice((SlaTier.STANDARD, SlaTier.BASIC, SlaTier.BASIC)),
            priority=random.randint(0, 1),
        )
        left = replace(node, free=a_node(node.id, used=8 - free).free)
        began = NOON - seconds(random.randint(600, 36_000))
        yield workload.on((left, width), started_at=began, checkpoint_at=random.choice((None, began)))
        free -= width


@dataclass(frozen=True, slots=True)
class Compared:
    """One instance: both plans, and the seconds of CPU time that each took."""

    greedy: Settlement
    exact: Settlement
    greedy_seconds: float
    exact_seconds: float

    @property
    def excess(self) -> float | None:
        """How much more the greedy plan costs at the first level where they differ; none where the exact has no such cost."""
        pairs = zip(self.greedy.cost, self.exact.cost, strict=False)
        (level, amount), (other, least) = next(
            (pair for pair in pairs if pair[0] != pair[1]), (self.greedy.cost[-1], (None, 1))
        )
        return amount / least - 1 if level == other else None


def compare(snapshot: Snapshot) -> Compared | None:
    """Both plans for the gang, or none where there is no plan or no need of one."""
    (greedy, greedy_seconds), (exact, exact_seconds) = (_plan(snapshot, nodes) for nodes in (0, 32))
    return Compared(greedy, exact, greedy_seconds, exact_seconds) if greedy and exact else None


def _plan(snapshot: Snapshot, nodes: int) -> tuple[Settlement | None, float]:
    facts = Facts.of(replace(snapshot, policy=policy(nodes)), NOON)
    world = World.of(snapshot, facts.tree)
    (request,) = requests(snapshot.waiting[0])
    (offer,) = offers(request, sift(request, world))
    bid = Bid.of(offer.request.at_minimum(), offer.supply, offer.classes, world, world, facts)
    if bid is None:
        return None, 0.0
    began = time.process_time()
    return cheapest(bid, facts, Effort.for_one(facts.policy.rank.disruption)), time.process_time() - began


def figures(size: int, compared: Sequence[Compared]) -> Iterator[Figure]:
    """What many instances of one size come to."""
    of = f"of {len(compared)} plans on {size} nodes"
    better = [each for each in compared if each.exact.cost < each.greedy.cost]
    excesses = [each.excess for each in better if each.excess is not None]
    gaps = [each.exact.proof.gap for each in compared if each.exact.proof and each.exact.proof.gap is not None]
    yield Figure(f"{of}, those that the exact method improves", "parts of 1", spread([len(better) / len(compared)]))
    yield Figure(
        f"{of}, those that then do nothing as harsh", "parts of 1", spread([(len(better) - len(excesses)) / len(compared)])
    )
    if excesses:
        yield Figure(f"{of}, excess of the others of these", "parts of the least cost", spread(excesses))
    if gaps:
        yield Figure(f"{of}, gap of the {len(gaps)} with a bound", "parts of the cost", spread(gaps))
    yield Figure(
        f"{of}, time",
        "ms of CPU time per plan",
        spread([each.exact_seconds * 1000 for each in compared]),
        reference=spread([each.greedy_seconds * 1000 for each in compared]),
        ratio=spread([each.exact_seconds / each.greedy_seconds for each in compared]),
    )


def main() -> None:
    """Measure, and print each figure when it is there."""
    compare(crowded(Random(0), SIZES[0]))  # loads OR-Tools
    for size in SIZES:
        random = Random(size)
        instances = (compare(crowded(random, size)) for _ in range(INSTANCES))
        for figure in figures(size, [each for each in instances if each is not None]):
            print(figure.as_json(), flush=True)


if __name__ == "__main__":
    main()
