"""Disruption budgets: how many more forced stops each of them allows now, given those of late."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from corral.api import SlaTier
from corral.policy import DisruptionBudget

Paths = Mapping[str, tuple[str, ...]]
"""From each queue to its root."""


@dataclass(frozen=True, slots=True)
class ForcedStop:
    """Work of a queue and tier had notice to leave for other work, or to move for nobody in particular.

    `attempt_id` tells stops apart. `cost` is what such a move lost, in thousandths of an accelerator times seconds. One that is
    `for_itself` went on in a size of its own: that is a disruption as well, and no preemption.
    """

    attempt_id: str
    workload_id: str
    queue: str
    tier: SlaTier
    at: datetime
    cost: int = 0
    for_itself: bool = False


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of one budget of the policy, by its place in the list."""

    index: int
    budget: DisruptionBudget
    left: int

    def concerns(self, queue: str, tier: SlaTier, paths: Paths) -> bool:
        """Whether a stop of such work counts: a budget of a queue holds for all queues below it."""
        in_queue = self.budget.queue is None or self.budget.queue in paths.get(queue, (queue,))
        return in_queue and self.budget.tier in {None, tier}


Allowances = tuple[Allowance, ...]


def allowances(budgets: Sequence[DisruptionBudget], stops: Iterable[ForcedStop], paths: Paths, now: datetime) -> Allowances:
    """What each budget leaves. Stops count in a sliding window: no stretch as long as the period ever has more of them.

    A pure fold: neither order nor repetition of stops changes it.
    """
    known = set(stops)
    return tuple(_allowance(index, budget, known, paths, now) for index, budget in enumerate(budgets))


def _allowance(index: int, budget: DisruptionBudget, stops: Iterable[ForcedStop], paths: Paths, now: datetime) -> Allowance:
    full = Allowance(index, budget, budget.stops)
    since = now - timedelta(seconds=budget.period_seconds)
    spent = sum(stop.at > since and full.concerns(stop.queue, stop.tier, paths) for stop in stops)
    return Allowance(index, budget, max(0, budget.stops - spent))


def within(allowed: Allowances, wanted: Iterable[tuple[str, SlaTier]], paths: Paths) -> Iterator[bool]:
    """For each stop that is wanted, by queue and tier and in turn, whether all budgets still allow it; the tightest decides."""
    left = [allowance.left for allowance in allowed]
    for queue, tier in wanted:
        concerned = [at for at, allowance in enumerate(allowed) if allowance.concerns(queue, tier, paths)]
        may = all(left[at] > 0 for at in concerned)
        for at in concerned if may else ():
            left[at] -= 1
        yield may
