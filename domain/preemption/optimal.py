"""Optimal plans: better than the greedy one where there is better, and how far from the best in any case."""

from dataclasses import dataclass, replace

from corral.policy import Exactness
from domain.decision import Method, Proof
from domain.disruption.means import Cost, Means, Steps
from domain.preemption.bid import Bid, Settlement
from domain.preemption.choices import Choices
from domain.preemption.effort import Effort
from domain.preemption.programme import PlanProgramme
from domain.preemption.shortlist import shortlist
from domain.solver import NoSolution, solve
from domain.worlds.world import Nodes

LEAST_WORK = 0.02
"""What a plan takes at least, in the solver's seconds: its programme has to be written first."""

TRIES = 32
"""How many plans that break a rule which the programme does not know are ruled out, one after the other."""


def improved(greedy: Settlement | None, bid: Bid, allowed: Choices, limits: Exactness, effort: Effort) -> Settlement | None:
    """The cheapest plan that is found, never worse than the greedy one, with the proof of how good it is."""
    if greedy is not None and _is_least(greedy, allowed):
        return replace(greedy, proof=Proof(Method.GREEDY, total(greedy.cost), total(greedy.cost)))
    if not limits.nodes or effort.work <= 0:
        return None if greedy is None else replace(greedy, proof=Proof(Method.GREEDY, total(greedy.cost)))
    nodes = shortlist(bid, allowed, greedy, limits.nodes)
    answer = _search(greedy, bid, allowed, nodes, min(limits.work, effort.work))
    effort.work -= max(answer.work, LEAST_WORK)
    ways = [way for way in (greedy, answer.found) if way is not None]
    if not ways:
        return None
    best = min(ways, key=lambda way: way.cost)
    bounds = answer.bounds if len(nodes) == len(bid.nodes) else ()
    return replace(best, proof=_proof(best.cost, bounds, Method.EXACT if answer.found else Method.GREEDY))


def total(cost: Cost) -> int:
    """Over all levels."""
    return sum(amount for _, amount in cost)


def _is_least(greedy: Settlement, allowed: Choices) -> bool:
    """Whether the plan is one step and no other step is cheaper: every plan takes at least one."""
    (first, *others) = greedy.steps
    every = (*allowed.shrinks, *allowed.moves, *allowed.stops)
    return not others and all((first.level, first.cost) <= (step.level, step.cost) for step in every)


def _proof(cost: Cost, bounds: Cost, method: Method) -> Proof:
    """Both numbers down to the first level at which less is not ruled out."""
    if not bounds:
        return Proof(method, total(cost))
    costs, counted, bounded = dict(cost), 0, 0
    for level, bound in bounds:
        counted += costs.get(level, 0)
        bounded += min(bound, costs.get(level, 0))
        if bounded < counted:
            break
    return Proof(method, counted, bounded)


@dataclass(frozen=True, slots=True)
class _Answer:
    """The plan that was found, if any, and what plans cost at least by level; without bounds nothing is known."""

    found: Settlement | None = None
    bounds: Cost = ()
    work: float = 0
    """What it took."""


def _search(greedy: Settlement | None, bid: Bid, allowed: Choices, nodes: Nodes, work: float) -> _Answer:
    """Solve, see whether the rules of placement and quota agree, and if not rule that plan out and solve again.

    As soon as a plan was ruled out that might have been good, the bounds stay as they are.
    """
    plan = PlanProgramme.of(bid, allowed, nodes, greedy.cost[0][0] if greedy else None)
    if not plan.steps:
        return _Answer()
    hint, is_sure, most = plan.hint(greedy.steps if greedy else ()), True, work
    bounds: Cost = ()
    for _ in range(TRIES):
        solution = solve(plan.programme, work, hint)
        if isinstance(solution, NoSolution):
            break
        work -= solution.work
        if is_sure:
            bounds = tuple(zip(plan.levels, solution.bounds, strict=False))
        steps = plan.chosen(solution.values)
        found = bid.settle(steps, plan.seated(solution.values)) or bid.settle(steps)
        if found is not None:
            return _Answer(found, bounds, most - work)
        is_sure = _rule_out(steps, plan, bid) and is_sure
    return _Answer(None, bounds, most - work)


def _rule_out(refused: Steps, plan: PlanProgramme, bid: Bid) -> bool:
    """Rule out a plan that was refused, and all that must fail for the same reason; whether no good plan can be among them.

    What is too little wherever work would move to, is too little with any moves. What is too little without moves, is too
    little without any. But a plan with moves that fails for want of places for them says nothing about others.
    """
    moves = tuple(step for step in plan.steps if step.means is Means.MIGRATE)
    takings = tuple(step for step in refused if step.means is not Means.MIGRATE)
    if not bid.fits((*takings, *moves)):
        plan.require_one_of(_that_could_help(bid, (*takings, *moves), plan.steps))
        return True
    if len(takings) == len(refused):
        plan.require_one_of((*_that_could_help(bid, takings, plan.steps), *moves))
        return True
    plan.forbid(refused)
    return False


def _that_could_help(bid: Bid, refused: Steps, every: Steps) -> Steps:
    """Steps that take something, without those that are not enough even together with all that were refused before."""
    useless, helpful = list(refused), []
    for step in every:
        if step.means is not Means.MIGRATE:
            if not bid.fits([*useless, step]):
                useless.append(step)
            else:
                helpful.append(step)
    return tuple(helpful)
