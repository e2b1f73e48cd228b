"""Openings: what is refused unasked, and for how long."""

import pytest

from corral.api import ReplicaGroup
from domain.facts import Facts
from domain.pool.workload import Waiting
from domain.quota_models.openings import best_candidate, open_ranks
from domain.worlds.world import World
from tests.builders import NOON, a_node, a_queue, a_quota, a_snapshot, a_workload

NODE, OTHER = a_node("n1", gpus=8), a_node("n2", gpus=8)
RUNNING = a_workload("running", gpus=8).on((OTHER, 8))
HALF, WHOLE_NODE = a_workload("half", gpus=4), a_workload("whole", gpus=8)
SNAPSHOT = a_snapshot([NODE, OTHER], [a_queue("research", 100)], RUNNING, HALF, WHOLE_NODE)
FACTS = Facts.of(SNAPSHOT, NOON)
HALF_WAITS, WHOLE_WAITS = (next(each for each in SNAPSHOT.waiting if each.id == id) for id in ("half", "whole"))


def fits(workload: Waiting, world: World) -> bool:
    return best_candidate(open_ranks(workload, FACTS), world) is not None


def with_(workload: Waiting, world: World) -> World:
    candidate = best_candidate(open_ranks(workload, FACTS), world)
    assert candidate is not None
    return world.with_(workload.spec, candidate.placement)


def with_half(world: World) -> World:
    return with_(HALF_WAITS, world)


def test_what_found_no_room_finds_none_when_more_is_taken() -> None:
    taken = with_half(World.of(SNAPSHOT, FACTS.tree))
    assert not fits(WHOLE_WAITS, taken)
    assert not fits(WHOLE_WAITS, with_half(taken))


def test_it_still_has_room_in_the_world_before() -> None:
    empty = World.of(SNAPSHOT, FACTS.tree)
    assert not fits(WHOLE_WAITS, with_half(empty))
    assert fits(WHOLE_WAITS, empty)


def test_it_has_room_again_when_somebody_has_left() -> None:
    taken = with_half(World.of(SNAPSHOT, FACTS.tree))
    assert not fits(WHOLE_WAITS, taken)
    assert fits(WHOLE_WAITS, taken.without([RUNNING]))


def test_it_has_room_later_where_somebody_was_told_to_leave() -> None:
    taken = with_half(World.of(SNAPSHOT, FACTS.tree))
    told = taken.leaving([RUNNING])
    assert not fits(WHOLE_WAITS, taken)
    assert not fits(WHOLE_WAITS, told)
    assert fits(WHOLE_WAITS, told.when_all_have_left())


def test_of_two_worlds_that_come_of_one_each_has_its_own_room() -> None:
    empty = World.of(SNAPSHOT, FACTS.tree)
    full, beside = with_(WHOLE_WAITS, empty), with_half(empty)
    assert not fits(HALF_WAITS, full)
    assert fits(HALF_WAITS, beside)


@pytest.mark.parametrize("helper", ["a10", "l4"])
def test_of_groups_that_name_their_skus_each_is_placed_on_one_that_the_queue_has_quota_for(helper: str) -> None:
    fleet = [a_node("lead", gpus=8), a_node("a10", gpus=8, sku="a10"), a_node("l4", gpus=8, sku="l4")]
    quotas = [a_quota(8 if sku in {"h100", helper} else 7, sku=sku) for sku in ("h100", "a10", "l4")]
    leads = ReplicaGroup(name="leads", accelerators=8, skus=("h100",))
    helps = ReplicaGroup(name="helps", accelerators=8, skus=("a10", "l4"))
    snapshot = a_snapshot(fleet, [a_queue("research", quotas=quotas)], a_workload("mixed", groups=(leads, helps)))
    facts = Facts.of(snapshot, NOON)

    candidate = best_candidate(open_ranks(snapshot.waiting[0], facts), World.of(snapshot, facts.tree))

    assert candidate is not None
    assert {share.node_id for share in candidate.placement.shares} == {"lead", helper}
