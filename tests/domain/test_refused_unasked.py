"""Who is refused unasked: whoever was refused where they had as much to choose from, and nobody else."""

from dataclasses import replace

from corral.api import ReplicaGroup, Target
from domain.facts import Facts
from domain.pool.fleet import Health, Node
from domain.quota_models.openings import best_candidate, fits_somewhere, open_ranks
from domain.worlds.world import World
from tests.builders import NOON, AWorkload, a_node, a_queue, a_quota, a_snapshot, a_workload

SMALL, LARGE = a_node("small", gpus=2, region="eu"), a_node("large", gpus=8, region="us")


def the_pool(*fleet: Node, waiting: tuple[AWorkload, ...] = ()) -> tuple[Facts, World]:
    queue = a_queue("research", quotas=[a_quota(100, sku="h100"), a_quota(100, sku="a100")])
    snapshot = a_snapshot(fleet, [queue], *waiting)
    facts = Facts.of(snapshot, NOON)
    return facts, World.of(snapshot, facts.tree)


def found(workload: AWorkload, facts: Facts, world: World) -> list[str]:
    candidate = best_candidate(open_ranks(workload.waiting(), facts), world)
    return [share.node_id for share in candidate.placement.shares] if candidate else []


def test_who_accepts_other_nodes_is_not_refused_for_who_needs_as_much() -> None:
    here, there = (a_workload(region, gpus=4, targets=(Target(regions=(region,)),)) for region in ("eu", "us"))
    facts, world = the_pool(SMALL, LARGE, waiting=(here, there))
    assert found(here, facts, world) == []
    assert found(there, facts, world) == ["large"]


def test_one_supply_that_is_too_small_refuses_nobody_who_fits_another() -> None:
    workload = a_workload(gpus=4)
    facts, world = the_pool(SMALL, LARGE, waiting=(workload,))
    assert found(workload, facts, world) == ["large"]
    assert fits_somewhere(open_ranks(workload.waiting(), facts), world)


def test_what_was_refused_in_one_pool_is_looked_for_in_another() -> None:
    waiting = a_workload(gpus=4).waiting()
    facts, without = the_pool(SMALL, waiting=(a_workload(gpus=4),))
    ranks = open_ranks(waiting, facts)
    _, beside = the_pool(SMALL, LARGE)
    assert best_candidate(ranks, without) is None
    assert best_candidate(ranks, beside) is not None
    assert best_candidate(ranks, without) is None


def test_nodes_that_pass_other_filters_are_looked_at_whoever_was_refused() -> None:
    workload = a_workload(gpus=4)
    facts, world = the_pool(SMALL, replace(LARGE, health=Health.CORDONED), waiting=(workload,))
    ranks = open_ranks(workload.waiting(), facts)
    assert not fits_somewhere(ranks, world)
    assert fits_somewhere(ranks, world, passing=())
    assert not fits_somewhere(ranks, world)


def test_groups_that_name_their_skus_need_not_fit_on_nodes_of_one() -> None:
    fleet = [a_node(sku, sku=sku, gpus=4, region="eu") for sku in ("h100", "a100")]
    groups = [ReplicaGroup(name=sku, accelerators=4, skus=(sku,)) for sku in ("h100", "a100")]
    workload = a_workload(groups=groups)
    facts, world = the_pool(*fleet, waiting=(workload,))
    assert sorted(found(workload, facts, world)) == ["a100", "h100"]


def test_who_asks_for_something_else_under_its_id_is_considered_anew() -> None:
    workload, edited = a_workload(gpus=4), a_workload(gpus=2, targets=(Target(regions=("eu",)),))
    facts, world = the_pool(SMALL, LARGE, waiting=(workload,))
    assert found(workload, facts, world) == ["large"]
    assert found(edited, facts, world) == ["small"]
    assert found(workload, facts, world) == ["large"]
