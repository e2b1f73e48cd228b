"""What a world says is free and in use once decisions have been taken."""

from dataclasses import replace

from domain.pool.fleet import NodeShare, Placement, Replica, Room
from domain.quota.tree import QuotaTree
from domain.worlds.world import World
from tests.builders import LONG_AGO, a_node, a_queue, a_quota, a_snapshot, a_workload

CPU, GPU = a_node("cpu", gpus=4, sku="a100"), a_node("gpu", gpus=8, sku="h100")
QUEUE = a_queue("research", 100, quotas=[a_quota(100, sku="a100")])
BOTH = Placement(
    GPU.provider,
    GPU.region,
    "h100",
    (
        NodeShare("gpu", Room((1000,) * 8, 0, 0), (Replica("main", 0, tuple(range(8))),)),
        NodeShare("cpu", Room((1000, 0, 0, 0), 0, 0), (Replica("helper", 0, (0,)),), sku="a100"),
    ),
)


def used(world: World) -> dict[str, int]:
    return {sku: world.usage.use("research", sku).total for sku in ("h100", "a100")}


def test_a_gang_over_several_skus_uses_quota_of_each() -> None:
    workload = a_workload("mixed")
    snapshot = a_snapshot([CPU, GPU], [QUEUE], workload)
    empty = World.of(snapshot, QuotaTree.at([QUEUE], LONG_AGO))
    assert used(empty.with_(workload.spec, BOTH)) == {"h100": 8_000, "a100": 1_000}


def test_what_leaves_gives_the_quota_of_each_of_its_skus_back() -> None:
    running = replace(a_workload("mixed").on((GPU, 8)), placement=BOTH)
    snapshot = a_snapshot([CPU, GPU], [QUEUE], running)
    world = World.of(snapshot, QuotaTree.at([QUEUE], LONG_AGO))
    assert used(world) == {"h100": 8_000, "a100": 1_000}
    assert used(world.without([running])) == {"h100": 0, "a100": 0}
