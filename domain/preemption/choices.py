"""Choices: all that may be done to running work for one bid, and by whose right."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from domain.disruption.means import Elastic, Level, Means, Step, Steps, Surplus, is_movable
from domain.disruption.protection import Stoppable, VictimOrder
from domain.facts import Facts
from domain.pool.fleet import Amount
from domain.pool.standing import TIERS, Standing, standing
from domain.preemption.bid import Bid


@dataclass(frozen=True, slots=True)
class Choices:
    """Steps that are allowed one by one, the ones to be taken first in front, and what limits them together.

    There is a step for each replica of a group that has a surplus; `surpluses` says, by attempt, how many of them may be
    taken. `borrowed` is what queues other than the beneficiary's have beyond their nominal: nothing is taken from a queue
    that is back within it. `budgets` say of which attempts how many may be stopped. With `own_first` others may
    lose only beside so much of the beneficiary's own queue that this lives on what it owns.
    """

    shrinks: Steps
    moves: Steps
    stops: Steps
    surpluses: Mapping[str, Surplus]
    borrowed: Mapping[str, Amount]
    budgets: Sequence[tuple[frozenset[str], int]]
    own_first: bool = False


def choices(bid: Bid, facts: Facts) -> Choices:
    """All that may be done for a bid. What would give neither room nor quota that is short is left alone."""
    return _choices(bid, facts, _borrowed(bid) if bid.lives_on_its_own(()) else {})


def own_first(bid: Bid, facts: Facts) -> Choices | None:
    """The same where the queue lives on what it owns once lower work of its own has left; none where it does so already."""
    own = bid.request.spec.queue
    lower = (*bid.stoppable, *(each.victim for each in bid.elastic))
    most = sum(victim.milli for victim in lower if victim.queue == own)
    beyond = bid.usage.borrowed(own, bid.supply.sku) + bid.request.gang.minimum_milli
    if not 0 < beyond <= most or not (borrowed := _borrowed(bid)):
        return None
    allowed = _choices(bid, facts, borrowed)
    takings = (*within_surplus(allowed.shrinks, allowed.surpluses), *allowed.stops)
    is_enough = bid.lives_on_its_own(step for step in takings if step.victim.queue == own)
    return replace(allowed, own_first=True) if is_enough else None


def _choices(bid: Bid, facts: Facts, borrowed: Mapping[str, Amount]) -> Choices:
    right = _Right(bid, facts, borrowed)
    may, has_quota = facts.policy.rank.disruption, bid.has_quota
    near = [each for each in _who_could_help(bid, facts) if _can_help(each, bid, has_quota=has_quota)]
    near.sort(key=right.order)
    elastic = [each for each in bid.elastic if _can_help(each.victim, bid, has_quota=has_quota)]
    elastic.sort(key=lambda each: right.order(each.victim))
    stops = [right.step(Means.STOP, each) for each in near if may.stop and right.may_stop(each)]
    moves = [right.step(Means.MIGRATE, each) for each in near if may.migrate and right.may_move(each)]
    shrinks = [step for each in elastic if may.shrink and right.may_shrink(each.victim) for step in right.shrinks(each)]
    return Choices(
        shrinks=tuple(sorted(shrinks, key=lambda step: step.level)),
        moves=tuple(moves),
        stops=tuple(stops),
        surpluses={each.victim.active.attempt_id: each.surplus for each in elastic},
        borrowed=right.borrowed,
        budgets=_budgets(stops, bid, facts),
    )


def _who_could_help(bid: Bid, facts: Facts) -> Sequence[Stoppable]:
    """Work on the SKU; where it is quota that is short, also work that uses up a class which holds the SKU."""
    sku, usage, on_it = bid.supply.sku, bid.usage, bid.stoppable
    if bid.has_quota or not (kin := usage.tree.kin(sku)):
        return on_it
    known = {victim.active.attempt_id for victim in on_it}
    on_others = (
        victim for other in kin for victim in facts.stoppable.get(other, ()) if usage.borrowed(victim.queue, other) > 0
    )
    others = {victim.active.attempt_id: victim for victim in on_others if victim.active.attempt_id not in known}
    return (*on_it, *others.values())


def _can_help(victim: Stoppable, bid: Bid, *, has_quota: bool) -> bool:
    """Nobody is disturbed twice in one round."""
    is_near = not has_quota or not victim.nodes.isdisjoint(bid.rooms)
    return is_near and victim.active.attempt_id not in bid.later.stopped


def _borrowed(bid: Bid) -> dict[str, Amount]:
    """What other queues of the same tree borrow."""
    queue, sku, usage = bid.request.spec.queue, bid.supply.sku, bid.usage
    borrowers = usage.borrowers(usage.tree.root(queue), sku) - {queue}
    return {name: usage.borrowed(name, sku) for name in sorted(borrowers)}


@dataclass(frozen=True, slots=True)
class _Right:
    """What the request may ask of whom.

    Whoever stands lower in its own queue may lose, and so may work of those who have `borrowed`. Replicas beyond a minimum
    are nobody's entitlement: they stand as work of the lowest tier does. Work that moves loses no place, so that equals may be
    moved too.
    """

    bid: Bid
    facts: Facts
    borrowed: Mapping[str, Amount]

    @property
    def own(self) -> str:
        return self.bid.request.spec.queue

    @property
    def standing(self) -> Standing:
        return standing(self.bid.request.spec.tier, self.bid.request.spec.priority)

    def order(self, victim: Stoppable) -> VictimOrder:
        """Who goes first. It begins as the level of a step does, so that stops and moves of victims in order are by level."""
        return victim.order(self.own, self.bid.rooms)

    def may_stop(self, victim: Stoppable) -> bool:
        is_spared = self.facts.protection.why_spared(victim.active, self.bid.request) is not None
        return self._outranks(victim, victim.standing) and not is_spared

    def may_move(self, victim: Stoppable) -> bool:
        is_lower = victim.standing <= self.standing and is_movable(victim.active)
        return is_lower and self.facts.protection.may_be_moved(victim.active, self.bid.request)

    def may_shrink(self, victim: Stoppable) -> bool:
        is_owed = victim.queue != self.own and not self.facts.protection.is_over_quota(victim.active)
        return self._outranks(victim, standing(TIERS[-1], victim.standing[1])) and not is_owed

    def _outranks(self, victim: Stoppable, its: Standing) -> bool:
        return its < self.standing if victim.queue == self.own else victim.queue in self.borrowed

    def step(self, means: Means, victim: Stoppable) -> Step:
        tier, priority = victim.runs_as
        level = Level(means, tier, victim.queue == self.own, priority)
        cost = victim.cost if means is Means.STOP else self._restart(victim)
        return Step(means, victim, level, 1 + cost, victim.milli, victim.nodes)

    def shrinks(self, elastic: Elastic) -> Iterator[Step]:
        """A step for each replica of a group with a surplus, the last replicas first: each waits to have another one."""
        victim = elastic.victim
        tier, priority = standing(TIERS[-1], victim.standing[1])
        level = Level(Means.SHRINK, tier, victim.queue == self.own, priority)
        once = self._restart(victim)
        for node_id, replica in elastic.replicas:
            milli = elastic.shapes[replica.group].milli
            cost = 1 + milli * self.facts.policy.rank.requeue_seconds
            yield Step(Means.SHRINK, victim, level, cost, milli, frozenset((node_id,)), replica, once)

    def _restart(self, victim: Stoppable) -> int:
        """What a stop costs but for the wait: the next place is known."""
        return victim.cost - victim.milli * self.facts.policy.rank.requeue_seconds


def _budgets(stops: Iterable[Step], bid: Bid, facts: Facts) -> list[tuple[frozenset[str], int]]:
    """What every budget leaves beside the attempts to which something was done in this round, and whose stop it counts."""
    protection, before = facts.protection, [facts.active[attempt_id].spec for attempt_id in sorted(bid.later.stopped)]
    possible = {step.attempt_id: step.victim.active.spec for step in stops}
    return [
        (
            frozenset(id for id, spec in possible.items() if allowance.concerns(spec.queue, spec.tier, protection.paths)),
            allowance.left - sum(allowance.concerns(spec.queue, spec.tier, protection.paths) for spec in before),
        )
        for allowance in protection.allowances
    ]


def within_surplus(shrinks: Iterable[Step], surpluses: Mapping[str, Surplus]) -> Iterator[Step]:
    """The first steps of each attempt that it can lose together."""
    of_group: Counter[tuple[str, str]] = Counter()
    in_all: Counter[str] = Counter()
    for step in shrinks:
        spare, group = surpluses[step.attempt_id], step.replica.group if step.replica else ""
        if of_group[step.attempt_id, group] < spare.by_group[group] and in_all[step.attempt_id] < spare.in_all:
            of_group[step.attempt_id, group] += 1
            in_all[step.attempt_id] += 1
            yield step


def while_borrowing(steps: Iterable[Step], borrowed: Mapping[str, Amount], own: str) -> Iterator[Step]:
    """Leave out what a queue would lose once the steps before have taken it back to its nominal."""
    left = dict(borrowed)
    shrunk: Counter[str] = Counter()
    for step in steps:
        queue = step.victim.queue
        if queue != own and left[queue] <= 0:
            continue
        if queue != own:
            left[queue] -= step.milli - shrunk[step.attempt_id]
        if step.means is Means.SHRINK:
            shrunk[step.attempt_id] += step.milli
        yield step


def within_budgets(steps: Iterable[Step], budgets: Sequence[tuple[frozenset[str], int]]) -> Iterator[Step]:
    """Leave out whom the disruption budgets protect once those before are stopped."""
    left = [number for _, number in budgets]
    for step in steps:
        concerned = [at for at, (ids, _) in enumerate(budgets) if step.means is Means.STOP and step.attempt_id in ids]
        if all(left[at] > 0 for at in concerned):
            for at in concerned:
                left[at] -= 1
            yield step
