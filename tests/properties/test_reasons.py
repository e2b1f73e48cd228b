"""Reasons: who is told what others are told is told what would be found for it alone, and nobody hears anything twice."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.api import BudgetSpec, BudgetUnit, Explanation, QueueSpec, Target, Topology, UserLimit, WorkloadTerms
from domain.explanation.answers import is_same
from domain.pool.workload import Waiting
from domain.reasons import Reasons, why_waits
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.builders import NOON
from tests.properties.situations import QUEUES, STABLE, carried_out, worlds

TWINS = 16
"""Workloads beside each that wait for something that differs in one thing, or in nothing but when they came."""


@contextmanager
def each_by_itself() -> Iterator[None]:
    """For everybody it is worked out why it waits."""

    def why(reasons: Reasons, workload: Waiting) -> Explanation:
        return why_waits(workload, reasons.world, reasons.later, reasons.facts)

    def is_news(reasons: Reasons, said: Explanation | None, says: Explanation) -> bool:
        return said is None or not is_same(said, says)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Reasons, "why", why)
        patched.setattr(Reasons, "is_news", is_news)
        yield


def otherwise(spec: WorkloadTerms, random: Random) -> WorkloadTerms:
    """The same but for one thing that it asks for."""
    (group,) = spec.groups
    what = random.choice(
        ("memory", "cpu", "count", "nodes", "skus", "queue", "user", "fixed", "taints", "level", "targets", "late")
    )
    updates: dict[str, dict[str, object]] = {
        "memory": {"groups": (group.model_copy(update={"memory_mib": random.choice((0, 1, 3, 5, 40))}),)},
        "cpu": {"groups": (group.model_copy(update={"cpu_milli": random.choice((0, 250, 1_000, 9_000))}),)},
        "count": {"groups": (group.model_copy(update={"count": group.count + 1}),)},
        "nodes": {"groups": (group.model_copy(update={"nodes": {"disk": ("fast",)}}),)},
        "skus": {"groups": (group.model_copy(update={"skus": ("h100",)}),)},
        "queue": {"queue": random.choice(QUEUES)},
        "user": {"user": random.choice(("ann", "bob", None))},
        "fixed": {"preemptible": not spec.preemptible},
        "taints": {"tolerations": () if spec.tolerations else ("lab",)},
        "level": {"topology": Topology(required=random.choice((None, "rack", "hall")))},
        "targets": {"targets": tuple(reversed(spec.targets)) or (Target(skus=("a100",)),)},
        "late": {"targets": tuple(each.model_copy(update={"after_seconds": 1_000}) for each in spec.targets)},
    }
    return spec.model_copy(update=updates[what])


def bounded(queue: QueueSpec, random: Random) -> QueueSpec:
    """The queue, sometimes with limits of its users or a budget."""
    limits = (UserLimit(user="ann", accelerators=random.randint(0, 3)), UserLimit(running=random.randint(0, 2)))
    budget = BudgetSpec(unit=BudgetUnit.ACCELERATOR_HOURS, amount=random.randint(0, 5))
    bounds = random.choice(({}, {}, {"user_limits": limits}, {"budgets": (budget,)}))
    return queue.model_copy(update=bounds)


def with_twins(snapshot: Snapshot, random: Random) -> Snapshot:
    twins = [
        replace(each, id=f"{each.id}-{number}", spec=otherwise(each.spec, random))
        for each in snapshot.waiting
        for number in range(random.randrange(TWINS))
    ]
    queues = tuple(bounded(queue, random) for queue in snapshot.queues)
    return replace(snapshot, queues=queues, waiting=(*snapshot.waiting, *twins))


@settings(STABLE, max_examples=120)
@given(worlds, st.randoms(use_true_random=False))
def test_who_is_told_what_others_are_told_is_told_what_is_so_of_it(snapshot: Snapshot, random: Random) -> None:
    pool = with_twins(snapshot, random)
    for _ in range(2):
        plan = schedule(pool, NOON)
        with each_by_itself():
            assert schedule(pool, NOON) == plan
        pool = carried_out(pool, plan)
