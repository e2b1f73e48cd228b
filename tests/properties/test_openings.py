"""Openings: who was refused where there was more room is refused again, and nobody else, however worlds come of each other."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from domain.facts import Facts
from domain.pool.workload import Waiting
from domain.quota_models.openings import Ranks, best_candidate, fits_somewhere, open_ranks
from domain.round import refuse
from domain.snapshot import Snapshot
from domain.worlds.world import World
from tests.builders import NOON
from tests.properties.situations import STABLE, worlds

WORLDS = 12


Seen = tuple[World, frozenset[str]]
"""A world, and the attempts that have left it."""


class AskedAnew(Ranks):
    """Requests that are looked for whatever is remembered."""

    def may_have_room(self, world: World) -> bool:
        return True


def a_next(seen: Seen, waiting: list[Waiting], facts: Facts, random: Random) -> Seen:
    """What comes of a world: somebody starts, is promised what others leave, or leaves; or all who have notice have left."""
    world, gone = seen
    there = [active for active in facts.active.values() if active.attempt_id not in gone and not active.preempted]
    leaving = [random.choice(there)] if there else []
    workload = random.choice(waiting)
    candidate = best_candidate(AskedAnew(open_ranks(workload, facts)), world)
    what = random.choice(("starts", "starts", "starts", "promised", "leaves", "later"))
    if what == "starts" and candidate is not None:
        return world.with_(workload.spec, candidate.placement), gone
    if what == "later":
        return world.when_all_have_left(), gone
    gone |= {active.attempt_id for active in leaving}
    if what == "promised" and candidate is not None:
        return world.promising(workload.spec, candidate.placement, leaving), gone
    return world.without(leaving), gone


@STABLE
@given(worlds, st.randoms(use_true_random=False))
def test_whoever_finds_nothing_would_find_nothing_if_nothing_were_remembered(snapshot: Snapshot, random: Random) -> None:
    facts = Facts.of(snapshot, NOON)
    _, able = refuse(snapshot.waiting, facts)
    if not (waiting := list(able)):
        return
    seen: list[Seen] = [(World.of(snapshot, facts.tree), frozenset())]
    for _ in range(WORLDS):
        here = random.choice((seen[-1], random.choice(seen)))
        world, _ = here
        for workload in random.sample(waiting, random.randint(1, len(waiting))):
            ranks = open_ranks(workload, facts)
            assert best_candidate(ranks, world) == best_candidate(AskedAnew(ranks), world)
            assert fits_somewhere(ranks, world) == fits_somewhere(AskedAnew(ranks), world)
        seen.append(a_next(here, waiting, facts, random))
