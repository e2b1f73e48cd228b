"""Census: how much of everything is asked for in all, kept up to date by who came and who went."""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain, repeat
from typing import TypeVar

from domain.pool.fleet import Amount
from domain.pool.roll import Roll, Turnover
from domain.pool.workload import Active, Waiting
from domain.quota.accounting import entitled_milli
from domain.snapshot import Snapshot
from domain.worlds.fragmentation import Need
from domain.worlds.outlook import needs_of

Demand = TypeVar("Demand", Active, Waiting)


class Census:
    """Counts over all that runs and waits; it remembers whom it has counted."""

    def __init__(self) -> None:
        self._active, self._waiting = Roll[Active](), Roll[Waiting]()
        self._needs: Counter[Need] = Counter()
        self._has: Counter[str] = Counter()
        self._wants: Counter[str] = Counter()
        self._graces: Counter[int] = Counter()
        self._wanted: Mapping[str, Amount] = {}

    def take(self, snapshot: Snapshot) -> tuple[Turnover[Active], Turnover[Waiting]]:
        """Count these and nobody else; tells of attempts, and of workloads that wait, which are new and which are over."""
        active, waiting = self._active.take(snapshot.active), self._waiting.take(snapshot.waiting, snapshot.bystanders)
        for each, sign in _signed(active):
            self._has[each.spec.queue] += sign * each.milli
        for work, sign in _signed(waiting):
            self._wants[work.spec.queue] += sign * entitled_milli(work.spec)
            self._graces[work.spec.checkpoint.grace_seconds] += sign
        for turnover in (active, waiting):
            self._count_needs(turnover.come, 1)
            self._count_needs(turnover.gone, -1)
        self._wanted = self._wanted_now(snapshot)
        return active, waiting

    @property
    def needs(self) -> Mapping[Need, int]:
        """How many replicas run or wait, by what they need."""
        return self._needs

    @property
    def longest_grace_seconds(self) -> int | None:
        """The longest grace of any work that waits; none where nobody does."""
        return max((+self._graces), default=None)

    @property
    def wanted(self) -> Mapping[str, Amount]:
        """Thousandths that the work of each queue has, and at the least wants of those whose turn it is."""
        return self._wanted

    def _wanted_now(self, snapshot: Snapshot) -> Mapping[str, Amount]:
        """Of those whose turn it is and those whose it is not, the fewer are added up."""
        wanted = Counter(self._has)
        if len(snapshot.waiting) < len(snapshot.bystanders):
            wanted.update(_wants(snapshot.waiting))
        else:
            wanted.update(self._wants)
            wanted.subtract(_wants(snapshot.bystanders))
        return wanted

    def _count_needs(self, work: Iterable[Active | Waiting], sign: int) -> None:
        for each in work:
            for need, count in needs_of(each):
                if left := self._needs.get(need, 0) + sign * count:
                    self._needs[need] = left
                else:
                    del self._needs[need]


def _signed(turnover: Turnover[Demand]) -> Iterable[tuple[Demand, int]]:
    return chain(zip(turnover.come, repeat(1)), zip(turnover.gone, repeat(-1)))


def _wants(waiting: Iterable[Waiting]) -> Counter[str]:
    wanted: Counter[str] = Counter()
    for each in waiting:
        wanted[each.spec.queue] += entitled_milli(each.spec)
    return wanted
