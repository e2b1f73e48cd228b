"""The quota model `ranked`: turns in one order over all queues, placing or preempting for each workload as it comes."""

from collections.abc import Iterable

from domain.decision import Start, StartAfter
from domain.facts import Facts
from domain.openings import best_candidate, open_ranks, why_not_yet
from domain.preemption import choose_victims
from domain.ranking import in_rank_order
from domain.request import Kind, kind
from domain.scoring import weighed
from domain.turns import Turns
from domain.workload import Waiting
from domain.world import World


def take_turns(waiting: list[Waiting], world: World, facts: Facts, *, once: bool) -> Turns:
    """Take turns again until nothing moves: a victim may free quota for work whose turn was before.

    So a second round over the outcome of the first has nothing left to do.
    """
    moved: list[Start | StartAfter] = []
    while True:
        moves, waiting, world = _one_pass(waiting, world, facts)
        moved += moves
        if once or not moves:
            return Turns(tuple(moved), tuple(waiting), world)


def _one_pass(waiting: Iterable[Waiting], world: World, facts: Facts) -> tuple[list[Start | StartAfter], list[Waiting], World]:
    """Decide about each workload once, in rank order, in the world that the decisions before it left.

    Whoever is of a kind that found nothing in the same world is not asked again.
    """
    stuck: set[Kind] = set()
    moves: list[Start | StartAfter] = []
    others: list[Waiting] = []
    later = world.when_all_have_left()
    for workload in in_rank_order(waiting, world, facts):
        alike = kind(workload, facts.now, facts.tree)
        decision = decide(workload, world, later, facts) if alike not in stuck else None
        if decision is None:
            others.append(workload)
            stuck.add(alike)
        else:
            moves.append(decision)
            stuck.clear()
            world = after(decision, workload, world, facts)
            later = world.when_all_have_left()
    return moves, others, world


def decide(workload: Waiting, world: World, later: World, facts: Facts) -> Start | StartAfter | None:
    """Place the workload, or preempt for it, or let it wait.

    What work with notice to leave will free (`later`) is used before anybody else is stopped.
    """
    if why_not_yet(workload, facts) is not None:
        return None
    ranks = open_ranks(workload, facts)
    if (candidate := best_candidate(ranks, world)) is not None:
        return Start(workload.id, candidate.placement, weighed(candidate, world))
    if later is not world and best_candidate(ranks, later) is not None:
        return None
    if (eviction := choose_victims(ranks, later, facts)) is not None:
        return StartAfter(workload.id, eviction.candidate.placement, eviction.attempt_ids)
    return None


def after(decision: Start | StartAfter, workload: Waiting, world: World, facts: Facts) -> World:
    """The world once the decision has been taken."""
    match decision:
        case Start():
            return world.with_(workload.spec, decision.placement)
        case StartAfter():
            victims = [facts.active[attempt_id] for attempt_id in decision.victims]
            return world.promising(workload.spec, decision.placement, victims)
