"""Resizing: running endpoints get the size that demand asks for, of what others leave idle."""

from collections.abc import Set
from dataclasses import replace
from heapq import heapify, heappop, heappush

from corral.api import State
from corral.policy import QuotaModel
from domain.decision import Change, Reshape, StartAfter
from domain.facts import Facts
from domain.pool.parts import counts_of, keys_of, less, plus
from domain.pool.workload import Active
from domain.quota_models.beside import more_beside
from domain.quota_models.openings import open_ranks, why_not_yet
from domain.quota_models.ranking import Rank, rank_of_more
from domain.quota_models.turns import Turns
from domain.worlds.request import Request
from domain.worlds.world import World


def resized(turns: Turns, facts: Facts) -> Turns:
    """The turns, after which endpoints shrink to what they want, or grow toward it in the order of their ranks.

    Whoever waits has come first: growth takes what is idle, within quota, and nobody has to leave for it. What an endpoint has
    and still wants stays where it is.
    """
    world, reshapes = turns.world, list[Reshape]()
    others = _of_another_size(_decided(turns), facts)
    for active in others:
        if _missing(active) < 0 and (change := _shrunk(active, world)) is not None:
            reshape, world = change
            reshapes.append(reshape)
    growing = [(_rank(active, world, facts), active) for active in others if _missing(active) > 0]
    heapify(growing)
    while growing:
        before, active = heappop(growing)
        if (now := _rank(active, world, facts)) > before:
            heappush(growing, (now, active))  # others of its queue have grown
        elif (change := _grown(active, world, facts)) is not None:
            reshape, world = change
            reshapes.append(reshape)
    if not reshapes:
        return turns
    frees = any(reshape.change is Change.SHRINK for reshape in reshapes)
    unfinished = turns.unfinished or (frees and bool(turns.waiting))
    return replace(turns, world=world, reshapes=(*turns.reshapes, *reshapes), unfinished=unfinished)


def _decided(turns: Turns) -> set[str]:
    """Attempts that have to leave or to change by what was decided so far."""
    decided = {reshape.attempt_id for reshape in turns.reshapes} | {stop.attempt_id for stop in turns.stops}
    return decided | {victim for move in turns.moved if isinstance(move, StartAfter) for victim in move.victims}


def _of_another_size(decided: Set[str], facts: Facts) -> list[Active]:
    """Running endpoints for which nothing else has been decided; those first that came first."""
    endpoints = [each for each in facts.active.values() if each.spec.autoscale is not None]
    steady = [each for each in endpoints if each.state is State.RUNNING and not each.preempted]
    others = (each for each in steady if each.attempt_id not in decided and _missing(each))
    return sorted(others, key=lambda each: (each.submitted_at, each.id))


def _rank(active: Active, world: World, facts: Facts) -> Rank:
    """Where it stands among those who grow, by what one more replica takes."""
    more = active.spec.groups[0].milli
    return rank_of_more(active.back_in_line(), active.placement.sku, more, world.usage, facts)


def _missing(active: Active) -> int:
    """Replicas of the first group that it wants beyond those it has; below zero: has beyond those it wants."""
    group = active.spec.groups[0]
    return group.count - counts_of(active.placement)[group.name]


def _shrunk(active: Active, world: World) -> tuple[Reshape, World] | None:
    """The last replicas leave."""
    group = active.spec.groups[0]
    mine = [key for key in keys_of(active.placement) if key[0] == group.name]
    left = less(active.placement, active.spec, mine[group.count :])
    if left is None:
        return None
    return Reshape(active.attempt_id, Change.SHRINK, left), world.promising(active.spec, left, (active,))


def _grown(active: Active, world: World, facts: Facts) -> tuple[Reshape, World] | None:
    """More replicas come beside those that it has, under the target that these were placed by, as many as there is room for."""
    # The quota model `deserved` lets whatever is elastic grow by itself, in turn.
    if facts.policy.rank.quota_model is QuotaModel.DESERVED or (request := _request(active, facts)) is None:
        return None
    known = {entry.node.id: entry.node for nodes in facts.idle.classes.values() for entry in nodes}
    if any(share.node_id not in known for share in active.placement.shares):
        return None
    has, before = active.placement, world
    while (part := more_beside(replace(active, placement=has), request, world, known)) is not None:
        has, world = plus(has, part, active.remnants), world.with_(active.spec, part, is_part=True)
    return None if world is before else (Reshape(active.attempt_id, Change.GROW, has), world)


def _request(active: Active, facts: Facts) -> Request | None:
    """What it asks for under its target, if it may be given anything now."""
    again = active.back_in_line()
    if why_not_yet(again, facts) is not None:
        return None
    every = (request for rank in open_ranks(again, facts) for request in rank)
    return next((request for request in every if request.index == active.placement.target), None)
