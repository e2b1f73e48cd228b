"""Surplus: what work was given in this round beyond its minimum, and gives up again before anybody is disturbed for others."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from corral.api import State
from domain.decision import Start
from domain.disruption.means import smaller
from domain.facts import Facts
from domain.pool.fleet import Placement
from domain.pool.workload import Active, Waiting, next_attempt
from domain.worlds.world import World

Suffices = Callable[[World], bool]
"""Whether what somebody needs is to be had in a world; where more is free it still is."""

Keeps = Mapping[str, Placement]
"""What work keeps of its place, by workload id."""


class Surpluses:
    """The starts of a round that got more than their minimum, in turn; it lives as long as the turns of the round.

    Nothing runs on these replicas yet, so giving them up costs nobody anything.
    """

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._given: dict[str, tuple[Waiting, Sequence[Placement]]] = {}
        """By workload id, with the places that it may have, the largest first, which is the one that it has."""
        self._left: dict[str, Placement] = {}
        """Who has given something up, by workload id."""

    def __bool__(self) -> bool:
        return bool(self._given)

    def add(self, workload: Waiting, placement: Placement, world: World) -> None:
        """Count a start; it matters where it got more than its minimum."""
        sizes = smaller(self._attempt(workload, placement, world))
        if sizes:
            self._given[workload.id] = workload, (placement, *sizes)

    def withdrawn(self, world: World) -> World:
        """The world in which each has its minimum."""
        return self._at_minimum(self._given, world)

    def given_up(self, world: World, suffices: Suffices) -> Keeps:
        """What those are left with who give something up, so that the world suffices; those whose turn was last give first.

        It must suffice once each has its minimum.
        """
        ids = list(self._given)
        first = len(ids) - bisect_left(
            range(len(ids)), True, key=lambda number: suffices(self._at_minimum(ids[len(ids) - number :], world))
        )
        world, keeps = self._at_minimum(ids[first:], world), dict[str, Placement]()
        for id in ids[first:]:
            workload, sizes = self._given[id]
            without = world.without([self._attempt(workload, sizes[-1], world)])

            def leaves_enough(size: Placement, workload: Waiting = workload, without: World = without) -> bool:
                return suffices(without.with_(workload.spec, size))

            if most := bisect_left(sizes[:-1], True, key=leaves_enough):
                keeps[id] = sizes[most]
            world = without.with_(workload.spec, sizes[most])
        return keeps

    def resized(self, keeps: Keeps, world: World) -> World:
        """The world in which these are left with that."""
        given = [self._given[id] for id in keeps]
        world = world.without(self._attempt(workload, sizes[0], world) for workload, sizes in given)
        for workload, _ in given:
            world = world.with_(workload.spec, keeps[workload.id])
        return world

    def settle(self, keeps: Keeps) -> set[str]:
        """From now on these have no more than that; the queues that give quota back."""
        self._left |= keeps
        for id, placement in keeps.items():
            workload, sizes = self._given[id]
            self._given[id] = workload, sizes[sizes.index(placement) :]
        return {self._given[id][0].spec.queue for id in keeps}

    def left_of(self, start: Start) -> Start:
        """The start with what it is left with."""
        return replace(start, placement=self._left.get(start.workload_id, start.placement))

    def _at_minimum(self, ids: Iterable[str], world: World) -> World:
        return self.resized({id: self._given[id][1][-1] for id in ids}, world)

    def _attempt(self, workload: Waiting, placement: Placement, world: World) -> Active:
        return next_attempt(workload, State.RESERVING, placement, world.prices, self._facts.now)
