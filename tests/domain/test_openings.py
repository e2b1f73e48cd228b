"""Openings: what is refused unasked, and for how long."""

from domain.facts import Facts
from domain.openings import best_candidate, open_ranks
from domain.workload import Waiting
from domain.world import World
from tests.builders import NOON, a_node, a_queue, a_snapshot, a_workload

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
