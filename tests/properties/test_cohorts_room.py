"""Under `cohorts` whoever has quota and room on any SKU starts there, and nobody is stopped for it."""

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from corral.api import Fungibility, ReplicaGroup
from corral.policy import Policy, Rank
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.builders import NOON, AWorkload, a_node, a_preemption, a_queue, a_quota, a_snapshot, a_workload, in_cohorts

SKUS = ("a100", "h100")
WORLDS = 60
"""Worlds of each seed."""


def worlds(random: Random) -> Iterator[Snapshot]:
    """A gang, more or less room and quota of either SKU, and lower work on the one that its queue tries first."""
    for _ in range(WORLDS):
        fleet = [
            a_node(f"n{index}", free=[random.choice((0, 1000, 1000)) for _ in range(random.randint(1, 4))], sku=SKUS[index % 2])
            for index in range(random.randint(2, 4))
        ]
        order, quotas = random.sample(SKUS, 2), [a_quota(random.choice((0, 2, 8)), sku=sku) for sku in SKUS]
        allowed = a_preemption("lower-priority")
        queue = a_queue("research", quotas=quotas, sku_order=order, preemption=allowed, fungibility=Fungibility())
        low = a_node("low", gpus=2, sku=order[0])
        runner = a_workload("r", gpus=2, priority=-1).on((low, 2))
        yield a_snapshot([*fleet, low], [queue], runner, a_gang(random), policy=in_cohorts())


def a_gang(random: Random) -> AWorkload:
    skus = random.choice(((), (), SKUS[:1], SKUS[1:]))
    return a_workload(groups=[ReplicaGroup(count=random.randint(1, 3), accelerators=random.choice((1, 1, 2, 3)), skus=skus)])


@pytest.mark.parametrize("seed", range(4))
def test_whoever_has_quota_and_room_starts(seed: int) -> None:
    """The quota model `ranked` asks every SKU for room, and has the same tree: it is the oracle."""
    for snapshot in worlds(Random(seed)):
        oracle = schedule(replace(snapshot, policy=Policy(rank=Rank(preemption=False))), NOON)
        plan = schedule(snapshot, NOON)
        if oracle.starts:
            assert plan.starts
            assert not plan.preempts
