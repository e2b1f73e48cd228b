"""Two worlds that go on side by side, of which one keeps places for some: they are what they would be if they went on apart."""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from domain.facts import Facts
from domain.pool.fleet import Placement
from domain.pool.workload import Active, Waiting
from domain.quota_models.openings import best_candidate, open_ranks
from domain.round import refuse
from domain.snapshot import Snapshot
from domain.worlds.world import World
from tests.builders import NOON
from tests.properties.situations import STABLE, worlds

STEPS = 10


@dataclass
class Worlds:
    """A world and one beside it in which places are kept, and the same of which each goes on by itself."""

    world: World
    kept: World
    alone: World
    kept_alone: World

    def keep(self, workload: Waiting, placement: Placement) -> None:
        self.kept = self.kept.apart_from(self.world, placement).promising(workload.spec, placement, ())
        self.kept_alone = self.kept_alone.promising(workload.spec, placement, ())

    def start(self, workload: Waiting, placement: Placement) -> None:
        every = self.world, self.kept, self.alone, self.kept_alone
        self.world, self.kept, self.alone, self.kept_alone = (each.with_(workload.spec, placement) for each in every)

    def promise(self, workload: Waiting, placement: Placement, leaving: Iterable[Active]) -> None:
        every, victims = (self.world, self.kept, self.alone, self.kept_alone), tuple(leaving)
        self.world, self.kept, self.alone, self.kept_alone = (
            each.promising(workload.spec, placement, victims) for each in every
        )


def check(world: World, alone: World) -> None:
    assert dict(world.rooms) == dict(alone.rooms)
    assert dict(world.when_all_have_left().rooms) == dict(alone.when_all_have_left().rooms)
    assert (world.coming, world.usage, world.stopped) == (alone.coming, alone.usage, alone.stopped)
    for traits, stock in world.classes.items():
        assert stock.whole.tolist() == alone.classes[traits].whole.tolist()
        assert world.later[traits].milli.tolist() == alone.later[traits].milli.tolist()


@STABLE
@given(worlds, st.randoms(use_true_random=False))
def test_what_happens_to_both_and_what_happens_to_one(snapshot: Snapshot, random: Random) -> None:
    facts = Facts.of(snapshot, NOON)
    _, able = refuse(snapshot.waiting, facts)
    if not (waiting := list(able)):
        return
    first = World.of(snapshot, facts.tree)
    seen = Worlds(first, first, World.of(snapshot, facts.tree), World.of(snapshot, facts.tree))
    touched = set()
    for _ in range(STEPS):
        workload = random.choice(waiting)
        candidate = best_candidate(open_ranks(workload, facts), seen.kept)
        if candidate is None:
            continue
        placement, what = candidate.placement, random.choice(("kept", "starts", "starts", "promised"))
        there = [active for active in snapshot.active if not active.preempted and active.attempt_id not in seen.world.stopped]
        if what == "kept":
            seen.keep(workload, placement)
            touched |= {seen.world.homes[share.node_id] for share in placement.shares}
        elif what == "promised" and there:
            seen.promise(workload, placement, [random.choice(there)])
        else:
            seen.start(workload, placement)
        check(seen.world, seen.alone)
        check(seen.kept, seen.kept_alone)
        for traits in seen.world.classes.keys() - touched:
            assert seen.kept.classes[traits] is seen.world.classes[traits]
