"""Resizing: running endpoints get the size that demand asks for, of what others leave idle."""

from collections.abc import Iterator, Set
from dataclasses import replace

from corral.api import State, WorkloadSpec
from corral.policy import QuotaModel
from domain.decision import Change, Reshape, StartAfter
from domain.facts import Facts
from domain.fleet import Placement
from domain.openings import best_candidate, open_ranks, why_not_yet
from domain.parts import counts_of, keys_of, less
from domain.turns import Turns
from domain.workload import Active, Waiting
from domain.world import World


def resized(turns: Turns, facts: Facts) -> Turns:
    """The turns, after which endpoints shrink to what they want, or grow toward it.

    Whoever waits has come first: growth takes what is idle, within quota, and nobody has to leave for it. As all replicas start
    anew, each change counts in disruption budgets, and waits until they allow it.
    """
    world, reshapes = turns.world, list[Reshape]()
    decided = _decided(turns)
    for active in _of_another_size(decided, facts):
        if not facts.protection.within_budgets((active,), decided):
            continue
        if (reshape := _reshape(active, world, facts)) is not None:
            world = world.promising(active.spec, reshape.placement, (active,))
            reshapes.append(reshape)
            decided.add(active.attempt_id)
    if not reshapes:
        return turns
    frees = any(reshape.change is Change.SHRINK for reshape in reshapes)
    unfinished = turns.unfinished or (frees and bool(turns.waiting))
    return replace(turns, world=world, reshapes=(*turns.reshapes, *reshapes), unfinished=unfinished)


def _decided(turns: Turns) -> set[str]:
    """Attempts that have to leave or to change by what was decided so far."""
    decided = {reshape.attempt_id for reshape in turns.reshapes} | {stop.attempt_id for stop in turns.stops}
    return decided | {victim for move in turns.moved if isinstance(move, StartAfter) for victim in move.victims}


def _of_another_size(decided: Set[str], facts: Facts) -> Iterator[Active]:
    """Running endpoints for which nothing else has been decided; those first that came first."""
    endpoints = [each for each in facts.active.values() if each.spec.autoscale is not None]
    for active in sorted(endpoints, key=lambda each: (each.submitted_at, each.id)):
        is_steady = active.state is State.RUNNING and not active.preempted
        if is_steady and active.attempt_id not in decided and _missing(active):
            yield active


def _missing(active: Active) -> int:
    """Replicas of the first group that it wants beyond those it has; below zero: has beyond those it wants."""
    group = active.spec.groups[0]
    return group.count - counts_of(active.placement)[group.name]


def _reshape(active: Active, world: World, facts: Facts) -> Reshape | None:
    if _missing(active) < 0:
        return _shrunk(active)
    # The quota model `deserved` lets whatever is elastic grow by itself, in turn.
    return None if facts.policy.rank.quota_model is QuotaModel.DESERVED else _grown(active, world, facts)


def _shrunk(active: Active) -> Reshape | None:
    """The last replicas leave."""
    group = active.spec.groups[0]
    mine = [key for key in keys_of(active.placement) if key[0] == group.name]
    left = less(active.placement, active.spec, mine[group.count :])
    return None if left is None else Reshape(active.attempt_id, Change.SHRINK, left)


def _grown(active: Active, world: World, facts: Facts) -> Reshape | None:
    """A place for more replicas than it has, if there is one once it has left its own."""
    again = Waiting(active.id, _with_more_than(active.placement, active.spec), active.submitted_at, active.epoch)
    if why_not_yet(again, facts) is not None:
        return None
    found = best_candidate(open_ranks(again, facts), world.without([active]))
    return None if found is None else Reshape(active.attempt_id, Change.GROW, found.placement)


def _with_more_than(placement: Placement, spec: WorkloadSpec) -> WorkloadSpec:
    """The spec with one replica more than it has as the fewest of its first group, and all that they have of the others."""
    has, first = counts_of(placement), spec.groups[0].name
    groups = tuple(group.model_copy(update={"minimum": has[group.name] + (group.name == first)}) for group in spec.groups)
    return spec.model_copy(update={"groups": groups})
