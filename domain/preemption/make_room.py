"""Preemption: the plan of least cost by which running work makes room for work that waits."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import accumulate

from domain.decision import Method, Proof
from domain.disruption.means import Cost, Means, Steps
from domain.facts import Facts
from domain.placement.feasibility import offers, sift
from domain.placement.scoring import Choice, choice
from domain.preemption.bid import Bid, Settlement
from domain.preemption.choices import Choices, choices, own_first, while_borrowing, within_budgets, within_surplus
from domain.preemption.consolidation import by_moving
from domain.preemption.effort import Effort
from domain.preemption.optimal import improved, total
from domain.quota.usage import Usage
from domain.worlds.request import Request
from domain.worlds.world import World

Wins = Callable[[Steps], bool]
"""Whether a bid wins once these steps have been taken; with more of them it still does."""


def make_room(
    ranks: Iterable[Sequence[Request]], world: World, later: World, facts: Facts, effort: Effort
) -> Settlement | None:
    """The least disruption that starts the workload's minimum, for the first rank of targets for which there is any.

    The beneficiary gets its minimum and no more: nobody is disturbed for replicas that are merely welcome. `later` is the
    world once all who have notice have left.
    """
    if not facts.policy.rank.preemption:
        return None
    for rank in ranks:
        if rank and not effort.allows(rank[0].id):
            return None
        seen = [
            Bid.of(offer.request.at_minimum(), offer.supply, offer.classes, world, later, facts)
            for request in rank
            for offer in offers(request, sift(request, later))
        ]
        bids = [bid for bid in seen if bid is not None]
        if bids:
            effort.count()
        if (found := _cheapest_of(bids, later, facts, effort)) is not None:
            return found
        if (found := _with_its_own_first(rank, world, later, facts)) is not None:
            return found
    return None


def _with_its_own_first(rank: Sequence[Request], world: World, later: World, facts: Facts) -> Settlement | None:
    """The cheapest plan by which lower work of the own queue leaves, so that this lives on what it owns, and borrowers too."""
    bids = [
        Bid.of(offer.request.at_minimum(), offer.supply, offer.classes, world, later, facts, own_first=True)
        for request in rank
        for offer in offers(request, sift(request, later))
        if _may_live_on_its_own(offer.request.at_minimum(), offer.supply.sku, later.usage)
    ]
    allowed = [(bid, own_first(bid, facts)) for bid in bids if bid is not None]
    settled = [by_taking(bid, its) for bid, its in allowed if its is not None]
    found = [replace(each, proof=Proof(Method.GREEDY, total(each.cost))) for each in settled if each is not None]
    return min(found, key=lambda settlement: _disruption(settlement, later), default=None)


def _may_live_on_its_own(request: Request, sku: str, usage: Usage) -> bool:
    """Whether the queue owns enough for the request, though not beside what it has, and others borrow of the SKU."""
    queue, needed = request.spec.queue, request.gang.minimum_milli
    is_beside_others = needed <= usage.tree.nominal(queue, sku) and not usage.is_within_nominal(queue, sku, needed)
    return is_beside_others and bool(usage.borrowers(usage.tree.root(queue), sku) - {queue})


def _cheapest_of(bids: Iterable[Bid], later: World, facts: Facts, effort: Effort) -> Settlement | None:
    """The cheapest of what all bids come to; a bid that must cost more than another has been settled for is not looked at."""
    allowed = [(bid, choices(bid, facts)) for bid in bids]
    able = sorted(
        ((bound, at) for at, (bid, its) in enumerate(allowed) if (bound := least_cost(bid, its)) is not None),
    )
    found: list[Settlement] = []
    for bound, at in able:
        if not found or bound <= min(each.cost for each in found):
            settlement = _settled(*allowed[at], facts, effort)
            found += [] if settlement is None else [settlement]
    return min(found, key=lambda settlement: _disruption(settlement, later), default=None)


def _disruption(settlement: Settlement, world: World) -> tuple[Cost, Choice]:
    """What it costs, and among equals what the place is worth."""
    return settlement.cost, choice(settlement.candidate, world)


def least_cost(bid: Bid, allowed: Choices) -> Cost | None:
    """What no plan for the bid costs less than, or none where all that is allowed frees too little.

    Every plan has a step of the level at which those up to it first free what is missing, or of a higher one.
    """
    every = sorted((*allowed.shrinks, *allowed.moves, *allowed.stops), key=lambda step: (step.level, step.cost))
    freed = accumulate(0 if step.means is Means.MIGRATE else step.milli for step in every)
    reached = next((step.level for step, milli in zip(every, freed, strict=True) if milli >= bid.missing), None)
    return next(((step.level, step.cost),) for step in every if step.level == reached) if reached is not None else None


def cheapest(bid: Bid, facts: Facts, effort: Effort) -> Settlement | None:
    """The cheapest way to let the bid win, or none where nothing that is allowed would."""
    return _settled(bid, choices(bid, facts), facts, effort)


def _settled(bid: Bid, allowed: Choices, facts: Facts, effort: Effort) -> Settlement | None:
    if not could_win(bid, allowed):
        return None
    ways = [way for way in (by_taking(bid, allowed), by_moving(bid, allowed)) if way is not None]
    greedy = min(ways, key=lambda way: way.cost, default=None)
    return improved(greedy, bid, allowed, facts.policy.rank.disruption.exact, effort)


def could_win(bid: Bid, allowed: Choices) -> bool:
    """Whether the request does not fit as it is, but would if all happened that is allowed, wherever work would move to."""
    takings = (*within_surplus(allowed.shrinks, allowed.surpluses), *allowed.stops)
    if bid.missing > sum(step.milli for step in takings) or not (takings or allowed.moves):
        return False
    return not bid.fits(()) and bid.fits((*takings, *allowed.moves))


def by_taking(bid: Bid, allowed: Choices) -> Settlement | None:
    """Shrink, and stop where that is not enough: the first steps in order that suffice, without those that are not needed."""
    own, ordered = bid.request.spec.queue, (*within_surplus(allowed.shrinks, allowed.surpluses), *allowed.stops)
    if allowed.own_first:
        ordered = tuple(sorted(ordered, key=lambda step: step.victim.queue != own))
    owed = while_borrowing(ordered, allowed.borrowed, own)
    possible = tuple(within_budgets(owed, allowed.budgets))

    def wins(steps: Steps) -> bool:
        return bid.fits(steps) and (not allowed.own_first or bid.lives_on_its_own(steps))

    fewest = bisect_left(list(accumulate((step.milli for step in possible), initial=0)), max(1, bid.missing))
    if fewest > len(possible) or not wins(possible):
        return None
    enough = _fewest_that_win(wins, possible, fewest)
    return bid.settle(without_needless(bid, possible[:enough], wins))


def _fewest_that_win(wins: Wins, possible: Steps, least: int) -> int:
    """How many of the first steps are enough; all of them are.

    More steps never leave less room, so strides that double find a bound, and bisection the number.
    """
    most = least
    while most < len(possible) and not wins(possible[:most]):
        least, most = most + 1, min(2 * most, len(possible))
    return bisect_left(range(most), True, lo=min(least, most), key=lambda number: wins(possible[:number]))


def without_needless(bid: Bid, steps: Steps, wins: Wins) -> Steps:
    """Spare all who do not sit where the request would go, and then one by one, the one it is hardest on first."""
    if (candidate := bid.candidate(steps)) is not None:
        wanted = {share.node_id for share in candidate.placement.shares}
        in_the_way = tuple(step for step in steps if step.nodes & wanted)
        steps = in_the_way if wins(in_the_way) else steps
    for spared in reversed(steps):
        fewer = tuple(step for step in steps if step is not spared)
        if wins(fewer):
            steps = fewer
    return steps
