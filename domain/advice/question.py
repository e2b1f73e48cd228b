"""The question of a workload that waits: what would let it start, asked of changed pools until nobody has time for more."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import TypeVar

from corral.api import WHOLE, Fix
from domain.advice.whatif import applied
from domain.facts import Facts
from domain.placement.feasibility import LASTING_FILTERS, sift
from domain.pool.fleet import Amount, Node
from domain.pool.stock import NodeRoom
from domain.pool.workload import Waiting, length_of
from domain.quota.budgets import Balance
from domain.remembered.attained import counted
from domain.round import who_starts
from domain.snapshot import Snapshot
from domain.worlds.request import Request, requests
from domain.worlds.world import World

Option = TypeVar("Option")

HOUR = 3_600
DOLLAR = 1_000_000

INCONVENIENCE = 0.05
"""Dollars per accelerator and hour of giving up a wish: a topology, an aversion to a taint, protection from preemption."""

PERMISSION = 0.10
"""Share of the price that a lasting right costs: quota, a queue opened, a node put back."""

FEWEST_TRIALS = 30
TRIAL_WORK = 15_000
"""Trials times nodes and workloads: a trial takes time in proportion to what there is in the pool."""

GoOn = Callable[[], bool]
"""Asked before each trial; once it says no, the search ends with what it has found."""


def for_ever() -> bool:
    """Whoever asks has all the time that the trials take."""
    return True


@dataclass
class Trials:
    """How many more rounds may be tried, so that an answer for a large pool takes no longer than one for a small one."""

    left: int
    go_on: GoOn = for_ever

    @classmethod
    def for_pool(cls, snapshot: Snapshot, go_on: GoOn = for_ever) -> "Trials":
        """Fewer the more there is to decide about."""
        size = len(snapshot.nodes) + len(snapshot.active) + len(snapshot.waiting)
        return cls(max(FEWEST_TRIALS, TRIAL_WORK // size), go_on)

    @property
    def are_over(self) -> bool:
        """Whether none is left, or nobody has time for more."""
        if self.left > 0 and not self.go_on():
            self.left = 0
        return self.left <= 0

    def take(self) -> bool:
        """Use one up; false when none is left."""
        if self.are_over:
            return False
        self.left -= 1
        return True


@dataclass(frozen=True)
class Question:
    """A workload that waits in a pool; every answer is found by deciding a round of the changed pool."""

    workload: Waiting
    snapshot: Snapshot
    now: datetime
    trials: Trials
    tried: dict[str, bool] = field(default_factory=dict)
    """By the fix in JSON: what groups ask for cannot be hashed."""

    def may_start_with(self, fix: Fix) -> bool:
        """Whether a round about it alone would start the workload after the fix: a quick look; no when no trial is left."""
        if (known := fix.model_dump_json(exclude_defaults=True)) not in self.tried:
            alone = replace(self.snapshot, waiting=(self.workload,))
            self.tried[known] = self.trials.take() and self._starts(fix, alone)
        return self.tried[known]

    def starts_with(self, fix: Fix) -> bool:
        """Whether the next round, in which all others have their turns, would start the workload after the fix."""
        if not self.may_start_with(fix):
            return False
        return len(self.snapshot.waiting) == 1 or (self.trials.take() and self._starts(fix, self.snapshot))

    def _starts(self, fix: Fix, snapshot: Snapshot) -> bool:
        changed, then = applied(fix, self.workload.id, snapshot, self.now)
        return self.workload.id in who_starts(changed, then)

    @cached_property
    def facts(self) -> Facts:
        """What the pool is."""
        return Facts.of(self.counted, self.now)

    @cached_property
    def counted(self) -> Snapshot:
        """The pool in which everybody has the priority that counts, and not the one that was set."""
        return counted(self.snapshot, self.now)

    @cached_property
    def open_requests(self) -> list[Request]:
        """What the workload asks for by now; everything it asks for while nothing is open."""
        asked = requests(self.workload)
        return [request for request in asked if request.opens_at <= self.now] or list(asked)

    @cached_property
    def acceptable(self) -> list[Node]:
        """Nodes that the workload takes, whatever their health."""
        return [entry.node for request in self.open_requests for entry in accepted(request, self.facts)]

    @cached_property
    def milli(self) -> Amount:
        """Thousandths of an accelerator that its smallest request needs; none for work of cpu and memory alone."""
        return min(request.gang.minimum_milli for request in self.open_requests)

    @property
    def hours(self) -> float:
        """How long the workload expects to run; one hour where it does not say."""
        return (self.workload.spec.expected_seconds or HOUR) / HOUR

    @cached_property
    def price(self) -> float:
        """Dollars per accelerator and hour of what it asks for, or of the whole fleet if nothing fits; one if it is free."""
        return mean_price(self.acceptable or self.snapshot.nodes) or 1.0

    def dollars(self, per_hour: float, milli: Amount | None = None) -> float:
        """What so many dollars per accelerator and hour make over the workload's life."""
        return round(per_hour * (self.milli if milli is None else milli) / WHOLE * self.hours, 4)


Finder = Callable[[Question], Iterable[Fix]]


def short_budgets(question: Question, price: int) -> Iterator[tuple[str, Balance, int]]:
    """Hard budgets on the way to the root that do not pay for its smallest request at this price, and what is missing."""
    spec, milli = question.workload.spec, question.milli
    committed = World.of(question.snapshot, question.facts.tree).usage.committed
    for account, balance in question.facts.tree.balances_of(spec.queue):
        if missing := balance.missing(milli, milli * price, length_of(spec), committed.get(account, 0)):
            yield account[0], balance, missing


def prices(question: Question) -> list[int]:
    """What an accelerator costs in an hour on the cheapest and on the dearest nodes that it takes."""
    prices = [node.price for node in question.acceptable]
    return sorted({min(prices), max(prices)}) if prices else []


def first_that_helps(options: Sequence[Option], helps: Callable[[Option], bool]) -> Option | None:
    """The first that helps, if whatever comes after one that helps does so too; none where the last does not."""
    if not options or not helps(options[-1]):
        return None
    return options[bisect_left(options[:-1], True, key=helps)]


def accepted(request: Request, facts: Facts) -> list[NodeRoom]:
    """Nodes that a request takes, whatever their health and whatever runs there."""
    classes = [traits for found in sift(request, facts.idle, LASTING_FILTERS).classes.values() for traits in found]
    return [entry for traits in classes for entry in facts.idle.classes[traits]]


def mean_price(nodes: Sequence[Node]) -> float:
    """Dollars per accelerator and hour; zero where there are no nodes."""
    return sum(node.price for node in nodes) / len(nodes) / DOLLAR if nodes else 0.0
