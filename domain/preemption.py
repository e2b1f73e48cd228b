"""Preemption: the smallest set of running work whose stop makes a workload start."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from domain.facts import Facts
from domain.feasibility import sift
from domain.fleet import Amount
from domain.placement import Candidate, settle
from domain.quota import Usage
from domain.ranking import TIERS, standing
from domain.request import Request
from domain.scoring import Preference, preference
from domain.workload import Active
from domain.world import Supply, Traits, World


@dataclass(frozen=True, slots=True)
class Eviction:
    """Once these victims have left, the candidate fits."""

    candidate: Candidate
    victims: tuple[Active, ...]


def choose_victims(ranks: Iterable[Sequence[Request]], world: World, facts: Facts) -> Eviction | None:
    """The least disruption that starts the workload's minimum, for the first rank of targets for which there is any.

    The beneficiary gets its minimum and no more: nobody is stopped for replicas that are merely welcome.
    """
    if not facts.policy.preemption:
        return None
    for rank in ranks:
        evictions = [
            eviction
            for request in rank
            for supply, classes in sift(request, world).classes.items()
            if (eviction := _smallest(request.at_minimum(), supply, classes, world, facts)) is not None
        ]
        if evictions:
            return min(evictions, key=_disruption)
    return None


def _disruption(eviction: Eviction) -> tuple[int, Amount, Preference]:
    """Stop low tiers rather than high ones, then little rather than much, then for a good place."""
    highest_tier = min(TIERS.index(victim.spec.tier) for victim in eviction.victims)
    return -highest_tier, sum(victim.milli for victim in eviction.victims), preference(eviction.candidate)


def _smallest(request: Request, supply: Supply, classes: Sequence[Traits], world: World, facts: Facts) -> Eviction | None:
    """The first victims in order with which the request fits, without those that turn out not to be needed.

    More victims never make less room, so the number of them can be found by bisection.
    """
    attempt = _Attempt(request, supply, tuple(classes), world)
    candidates = _candidates(attempt, facts)
    if not candidates or not attempt.fits(candidates):
        return None
    number = bisect_left(range(len(candidates)), True, key=lambda number: attempt.fits(candidates[:number]))
    victims = _without_needless(candidates[:number], attempt)
    candidate = attempt.candidate(victims)
    return Eviction(candidate, victims) if candidate is not None and victims else None


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One request on one supply, to be tried without different victims."""

    request: Request
    supply: Supply
    classes: tuple[Traits, ...]
    world: World

    def candidate(self, victims: Iterable[Active]) -> Candidate | None:
        after = self.world.without(victims)
        answer = settle(self.request, self.supply, after.nodes(self.classes), after.usage)
        return answer if isinstance(answer, Candidate) else None

    def fits(self, victims: Iterable[Active]) -> bool:
        return self.candidate(victims) is not None


def _without_needless(victims: tuple[Active, ...], attempt: _Attempt) -> tuple[Active, ...]:
    """Spare every victim that is not needed, beginning with the one that it is hardest on."""
    for spared in reversed(victims):
        fewer = tuple(victim for victim in victims if victim is not spared)
        if attempt.fits(fewer):
            victims = fewer
    return victims


def _candidates(attempt: _Attempt, facts: Facts) -> tuple[Active, ...]:
    """Work that may be stopped for the request and whose stop could help it, the first to go first."""
    world, request = attempt.world, attempt.request
    allowed = [
        active
        for active in facts.stoppable.get(attempt.supply.sku, ())
        if active.attempt_id not in world.stopped and _may_stop(request, active, world.usage)
    ]
    if _has_quota(attempt):
        allowed = [active for active in allowed if _is_on(active, attempt)]
    own = request.spec.queue
    allowed.sort(key=lambda active: _order(active, is_own=active.spec.queue == own, now=facts.now))
    return _while_borrowing(allowed, own, world.usage)


def _may_stop(beneficiary: Request, active: Active, usage: Usage) -> bool:
    """Whether the rules let the beneficiary take this victim: its own queue's lower work, or what others borrow."""
    mine, its = beneficiary.spec, active.spec
    if its.queue == mine.queue:
        return standing(its.tier, its.priority) < standing(mine.tier, mine.priority)
    sku, tree = active.placement.sku, usage.tree
    return (
        mine.queue in tree.paths
        and its.queue in tree.paths
        and tree.root(mine.queue) == tree.root(its.queue)
        and not usage.is_within_nominal(its.queue, sku, 0)
        and usage.is_within_nominal(mine.queue, sku, beneficiary.gang.minimum_milli)
    )


def _has_quota(attempt: _Attempt) -> bool:
    spec, needed = attempt.request.spec, attempt.request.gang.minimum_milli
    return needed <= attempt.world.usage.room(spec.queue, attempt.supply.sku, preemptible=spec.preemptible)


def _is_on(active: Active, attempt: _Attempt) -> bool:
    """Whether the workload sits on a node that the request accepts."""
    homes = attempt.world.homes
    return any(homes.get(share.node_id) in attempt.classes for share in active.placement.shares)


def _order(active: Active, *, is_own: bool, now: datetime) -> tuple[int, bool, int, float, float, str]:
    """Lowest tier, borrowers before the own queue, lowest priority, least work lost per accelerator, newest, id."""
    began = active.started_at or active.held_at
    lost = (now - max(began, active.checkpoint_at or began)).total_seconds() if active.started_at else 0.0
    return (
        -TIERS.index(active.spec.tier),
        is_own,
        active.spec.priority,
        lost,
        -began.timestamp(),
        active.attempt_id,
    )


def _while_borrowing(ordered: Iterable[Active], own: str, usage: Usage) -> tuple[Active, ...]:
    """Leave out whom a queue would lose once the victims before have taken it back to its nominal."""
    taken = []
    for active in ordered:
        queue, sku = active.spec.queue, active.placement.sku
        if queue != own and usage.is_within_nominal(queue, sku, 0):
            continue
        taken.append(active)
        usage = usage.plus(queue, sku, -active.milli, preemptible=active.spec.preemptible)
    return tuple(taken)
