"""Preemption: the smallest set of running work whose stop makes a workload start."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from corral.policy import TopologyProfile
from domain.facts import Facts
from domain.feasibility import offers, sift
from domain.fleet import Amount, Room
from domain.placement import Candidate, best_on
from domain.protection import Stoppable, hardship
from domain.quota import Usage
from domain.request import Request
from domain.scoring import Choice, choice
from domain.standing import standing
from domain.world import Nodes, Supply, Traits, World, freed_by, with_charges, with_rooms

Victims = tuple[Stoppable, ...]


@dataclass(frozen=True, slots=True)
class Eviction:
    """Once these victims have left, the candidate fits."""

    candidate: Candidate
    victims: Victims

    @property
    def attempt_ids(self) -> tuple[str, ...]:
        """The victims' attempts."""
        return tuple(victim.active.attempt_id for victim in self.victims)


def choose_victims(ranks: Iterable[Sequence[Request]], world: World, facts: Facts) -> Eviction | None:
    """The least disruption that starts the workload's minimum, for the first rank of targets for which there is any.

    The beneficiary gets its minimum and no more: nobody is stopped for replicas that are merely welcome.
    """
    if not facts.policy.rank.preemption:
        return None
    for rank in ranks:
        attempts = [
            _Attempt.of(offer.request.at_minimum(), offer.supply, offer.classes, world)
            for request in rank
            for offer in offers(request, sift(request, world))
        ]
        evictions = [eviction for attempt in attempts if (eviction := _smallest(attempt, facts)) is not None]
        if evictions:
            return min(evictions, key=lambda eviction: _disruption(eviction, world))
    return None


def _disruption(eviction: Eviction, world: World) -> tuple[int, Amount, Choice]:
    """Stop low tiers rather than high ones, then little rather than much, then for a good place."""
    highest_tier = max(victim.runs_as[0] for victim in eviction.victims)
    return highest_tier, sum(victim.milli for victim in eviction.victims), choice(eviction.candidate, world)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One request on one supply, to be tried without these victims or those; `rooms` is what its nodes have, by id."""

    request: Request
    supply: Supply
    nodes: Nodes
    rooms: Mapping[str, Room]
    usage: Usage
    stopped: frozenset[str]
    profile: TopologyProfile

    @classmethod
    def of(cls, request: Request, supply: Supply, classes: Iterable[Traits], world: World) -> "_Attempt":
        nodes = world.nodes(classes)
        rooms = {entry.node.id: entry.room for entry in nodes}
        return cls(request, supply, nodes, rooms, world.usage, world.stopped, world.policy.goals.topology)

    def candidate(self, victims: Victims) -> Candidate | None:
        usage = with_charges(self.usage, (charge for victim in victims for charge in victim.charges), sign=-1)
        nodes = with_rooms(self.nodes, freed_by((victim.active for victim in victims), self.rooms))
        return best_on(self.request, self.supply, nodes, usage, self.profile)

    def fits(self, victims: Victims) -> bool:
        return self.candidate(victims) is not None

    def has_quota(self) -> bool:
        spec, needs = self.request.spec, self.request.gang.least_by_sku(self.supply.sku)
        return all(needed <= self.usage.allowed(spec, sku) for sku, needed in needs.items())

    def missing(self) -> Amount:
        """What the victims must give back at the very least; 0 when it is not for accelerators that the request waits."""
        return max(0, self.request.gang.minimum_milli - sum(entry.milli for entry in self.nodes))


def _smallest(attempt: _Attempt, facts: Facts) -> Eviction | None:
    """The first victims in order with which the request fits, without those that turn out not to be needed."""
    possible = _in_order(attempt, facts)
    given_back = list(accumulate((victim.milli for victim in possible), initial=0))
    fewest = bisect_left(given_back, max(1, attempt.missing()))
    if fewest > len(possible) or not attempt.fits(possible):
        return None
    victims = _without_needless(possible[: _fewest_that_fit(attempt, possible, fewest)], attempt)
    candidate = attempt.candidate(victims)
    return Eviction(candidate, victims) if candidate is not None and victims else None


def _fewest_that_fit(attempt: _Attempt, possible: Victims, least: int) -> int:
    """How many of the first victims are enough; all of them are.

    More victims never leave less room, so strides that double find a bound, and bisection the number.
    """
    most = least
    while most < len(possible) and not attempt.fits(possible[:most]):
        least, most = most + 1, min(2 * most, len(possible))
    return bisect_left(range(most), True, lo=min(least, most), key=lambda number: attempt.fits(possible[:number]))


def _without_needless(victims: Victims, attempt: _Attempt) -> Victims:
    """Spare all who do not sit where the request would go, and then one by one, the one it is hardest on first."""
    if (candidate := attempt.candidate(victims)) is not None:
        wanted = {share.node_id for share in candidate.placement.shares}
        in_the_way = tuple(victim for victim in victims if victim.nodes & wanted)
        victims = in_the_way if attempt.fits(in_the_way) else victims
    for spared in reversed(victims):
        fewer = tuple(victim for victim in victims if victim is not spared)
        if attempt.fits(fewer):
            victims = fewer
    return victims


def _in_order(attempt: _Attempt, facts: Facts) -> Victims:
    """Work that may be stopped for the request and whose stop could help it, the first to go first.

    Either it is lower work of the same queue, or its queue borrows while the request lives on what its own queue owns.
    Low tiers go first, then borrowers before the own queue, then in the order in which they lose least.
    """
    spec, sku = attempt.request.spec, attempt.supply.sku
    mine, own = standing(spec.tier, spec.priority), spec.queue
    borrowers = _reclaimable(attempt.request, sku, attempt.usage)
    allowed = [
        victim
        for victim in _who_could_help(attempt, facts)
        if (victim.standing < mine if victim.queue == own else victim.queue in borrowers)
        and victim.active.attempt_id not in attempt.stopped
        and facts.protection.why_spared(victim.active, spec) is None
    ]
    if attempt.has_quota():
        allowed = [victim for victim in allowed if not victim.nodes.isdisjoint(attempt.rooms)]
    allowed.sort(key=lambda victim: victim.order(own, attempt.rooms))
    return _within_budgets(_while_borrowing(allowed, own, sku, attempt.usage), attempt, facts)


def _who_could_help(attempt: _Attempt, facts: Facts) -> Sequence[Stoppable]:
    """Work on the SKU; where it is quota that is short, also work that uses up a class which holds the SKU."""
    sku, usage = attempt.supply.sku, attempt.usage
    on_it = facts.stoppable.get(sku, ())
    if attempt.has_quota() or not (kin := usage.tree.kin(sku)):
        return on_it
    known = {victim.active.attempt_id for victim in on_it}
    on_others = (
        victim for other in kin for victim in facts.stoppable.get(other, ()) if usage.borrowed(victim.queue, other) > 0
    )
    others = {victim.active.attempt_id: victim for victim in on_others if victim.active.attempt_id not in known}
    return sorted((*on_it, *others.values()), key=lambda victim: hardship(victim.active))


def _reclaimable(request: Request, sku: str, usage: Usage) -> frozenset[str]:
    """Queues of the same tree that borrow, if the request would leave its own queue within what it owns."""
    queue = request.spec.queue
    if not usage.is_within_nominal(queue, sku, request.gang.minimum_milli):
        return frozenset()
    return usage.borrowers(usage.tree.root(queue), sku)


def _within_budgets(ordered: Victims, attempt: _Attempt, facts: Facts) -> Victims:
    """Leave out whom the disruption budgets protect once the victims before are stopped."""
    allowed = facts.protection.within_budgets((victim.active for victim in ordered), attempt.stopped)
    ids = {active.attempt_id for active in allowed}
    return tuple(victim for victim in ordered if victim.active.attempt_id in ids)


def _while_borrowing(ordered: Iterable[Stoppable], own: str, sku: str, usage: Usage) -> Victims:
    """Leave out whom a queue would lose once the victims before have taken it back to its nominal."""
    borrowed: dict[str, Amount] = {}
    taken = []
    for victim in ordered:
        queue = victim.queue
        left = borrowed.get(queue, usage.borrowed(queue, sku))
        if queue == own or left > 0:
            taken.append(victim)
            borrowed[queue] = left - victim.milli
    return tuple(taken)
