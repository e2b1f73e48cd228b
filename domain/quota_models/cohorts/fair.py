"""Preemption by fair share: take from whoever has the greatest share, as long as that makes shares more equal.

The rules are those of Kueue's `preemption/fairsharing` (KEP-1714, S2-a and S2-b).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction

from corral.policy import FairPreemption
from domain.quota.usage import DominantShare, Usage
from domain.quota_models.cohorts.borrowing import borrows_any
from domain.quota_models.cohorts.candidates import Order, candidates_in, in_order
from domain.quota_models.cohorts.contest import Contest, Victims, with_needs, without
from domain.quota_models.cohorts.setting import Runner, Setting

Strategy = Callable[[DominantShare, DominantShare, DominantShare], bool]
"""Of the beneficiary's share with its new work, and the victim's before and after it has lost some."""


def at_most_what_is_left(beneficiary: DominantShare, before: DominantShare, after: DominantShare) -> bool:
    """The beneficiary ends with no more than the victim keeps."""
    return beneficiary <= after


def less_than_before(beneficiary: DominantShare, before: DominantShare, after: DominantShare) -> bool:
    """The beneficiary ends with less than the victim had."""
    return beneficiary < before


STRATEGIES: Mapping[FairPreemption, Strategy] = {
    FairPreemption.LESS_THAN_OR_EQUAL_TO_FINAL_SHARE: at_most_what_is_left,
    FairPreemption.LESS_THAN_INITIAL_SHARE: less_than_before,
}


def fair_victims(contest: Contest, setting: Setting) -> Victims:
    """The first work in order with whose leaving the workload fits, without what turns out not to be needed; or nobody.

    Whoever is spared may put the workload's branch above the one that loses. Kueue does not look again, and two queues may
    then stop each other's work in turn; here nobody is stopped.
    """
    taking = _Taking(contest, setting)
    victims = contest.spared(taking.enough(setting.facts.policy.rank.cohorts.fair_preemption), borrowing=True)
    return victims if taking.is_fair(victims) else ()


def _candidates(contest: Contest, setting: Setting) -> list[Runner]:
    """The queue's own lower work, and that of every queue of the tree that borrows what is short."""
    paths = contest.usage.tree.paths
    root = paths[contest.queue][-1]
    lenders = [
        queue
        for queue in setting.runners
        if queue != contest.queue and paths.get(queue, ("",))[-1] == root and borrows_any(contest.usage, queue, contest.short)
    ]
    found = (candidates_in(queue, contest, setting) for queue in [contest.queue, *lenders])
    return sorted((runner for runners in found for runner in runners), key=in_order(contest))


class _Taking:
    """Victims in the making; it lives inside one call. Shares are those with the incoming work."""

    def __init__(self, contest: Contest, setting: Setting) -> None:
        self._contest = contest
        self._setting = setting
        self._usage = with_needs(contest.usage, contest.workload, contest.needs)
        self._path = contest.usage.tree.paths[contest.queue]
        self._is_owner = not borrows_any(self._usage, contest.queue, contest.short)
        self._victims: list[Runner] = []

    def enough(self, strategies: Sequence[FairPreemption]) -> Victims:
        """Whoever must leave by the first strategy, or else by the second too; nobody when that is not enough."""
        first, *others = strategies
        fits, left = self._by_first(_candidates(self._contest, self._setting), STRATEGIES[first])
        if not fits and others:
            fits = self._by_initial_share(left)
        return tuple(self._victims) if fits else ()

    def is_fair(self, victims: Victims) -> bool:
        """Whether the workload's branch ends below where each branch that loses work began, or owns what it takes back."""
        contest, losing = self._contest, [victim for victim in victims if victim.queue != self._contest.queue]
        usage = without(with_needs(contest.usage, contest.workload, contest.needs), victims)
        return self._is_owner or all(
            self._shares(victim.queue, usage)[0] < self._shares(victim.queue, contest.usage)[1] for victim in losing
        )

    def _by_first(self, candidates: Iterable[Runner], strategy: Strategy) -> tuple[bool, list[Runner]]:
        """Whether the workload fits, and who was passed over.

        Work for which its queue's nominal is enough takes back what others borrow, whatever the shares.
        """
        passed_over: list[Runner] = []
        order = _Order(candidates, self._contest, self._setting)
        while (queue := order.next(self._usage)) is not None:
            if self._is_owner or queue == self._contest.queue:
                victim: Runner | None = order.pop(queue)
            else:
                victim = self._first_fair(queue, order, strategy, passed_over)
            if victim is not None and self._take(victim):
                return True, passed_over
        return False, passed_over

    def _first_fair(self, queue: str, order: "_Order", strategy: Strategy, passed_over: list[Runner]) -> Runner | None:
        """The first work of the queue whose leaving is fair."""
        beneficiary, before = self._shares(queue, self._usage)
        while order.has(queue):
            runner = order.pop(queue)
            _, after = self._shares(queue, without(self._usage, [runner]))
            if strategy(beneficiary, before, after):
                return runner
            passed_over.append(runner)
        return None

    def _by_initial_share(self, candidates: Iterable[Runner]) -> bool:
        """Each queue may lose one piece of work by which the balance tips, if its share was the greater before."""
        order = _Order(candidates, self._contest, self._setting)
        while (queue := order.next(self._usage)) is not None:
            beneficiary, before = self._shares(queue, self._usage)
            if less_than_before(beneficiary, before, before) and self._take(order.pop(queue)):
                return True
            order.drop(queue)
        return False

    def _take(self, victim: Runner) -> bool:
        self._usage = without(self._usage, [victim])
        self._victims.append(victim)
        return self._contest.fits(self._victims, borrowing=True)

    def _shares(self, queue: str, usage: Usage) -> tuple[DominantShare, DominantShare]:
        """The shares of the two branches, below the lowest node above both, that hold the workload's queue and this one."""
        mine, its = self._path, usage.tree.paths[queue]
        ancestor = next(node for node in its if node in mine)
        beneficiary, victim = (path[path.index(ancestor) - 1] for path in (mine, its))
        return usage.dominant_share(beneficiary), usage.dominant_share(victim)


class _Order:
    """From the root down, the queue on the branch with the greatest share; it lives inside one call.

    Branches that borrow nothing, or have nothing left to take, are cut off.
    """

    def __init__(self, candidates: Iterable[Runner], contest: Contest, setting: Setting) -> None:
        self._left: dict[str, list[Runner]] = {}
        for runner in candidates:
            self._left.setdefault(runner.queue, []).append(runner)
        self._path = contest.usage.tree.paths[contest.queue]
        self._children = setting.hierarchy.children
        self._order = in_order(contest)
        self._cut: set[str] = set()

    def next(self, usage: Usage) -> str | None:
        """The queue whose turn it is to lose work, or none when nothing is left to take."""
        root = self._path[-1]
        while root not in self._cut:
            if (queue := self._below(root, usage)) is not None:
                return queue
        return None

    def has(self, queue: str) -> bool:
        """Whether any of the queue's work is left."""
        return bool(self._left.get(queue))

    def pop(self, queue: str) -> Runner:
        """Take the queue's first work."""
        return self._left[queue].pop(0)

    def drop(self, queue: str) -> None:
        """Take no more from the queue."""
        self._cut.add(queue)

    def _below(self, node: str, usage: Usage) -> str | None:
        """The queue that the node leads to; none when all that came of it is that something was cut off."""
        if self.has(node):
            return node
        shares = {child: usage.dominant_share(child) for child in self._children[node] if child not in self._cut}
        self._cut |= {child for child, share in shares.items() if self._has_run_dry(child, share)}
        branches = [child for child in shares if child not in self._cut]
        if not branches:
            self._cut.add(node)
            return None
        return self._below(min(branches, key=lambda child: self._preference(child, shares[child])), usage)

    def _has_run_dry(self, node: str, share: DominantShare) -> bool:
        """Whether the node borrows nothing (unless the workload's own queue is there), or is a queue with nothing left."""
        return (share.value == 0 and node not in self._path) or not (self._children[node] or self.has(node))

    def _preference(self, node: str, share: DominantShare) -> tuple[bool, Fraction, bool, Order | None, str]:
        """The greatest share first; of equal ones cohorts before queues, and queues in the order of their first work."""
        first = self._order(self._left[node][0]) if self.has(node) else None
        return not share.is_infinite, -share.value, self.has(node), first, node
