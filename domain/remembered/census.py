"""Census: how much of everything is asked for in all, kept up to date by who came and who went."""

from collections import Counter
from collections.abc import Iterable, Mapping

from domain.pool.claimant import by_terms
from domain.pool.fleet import Amount
from domain.pool.roll import Roll, Turnover
from domain.pool.workload import Active, Waiting
from domain.quota.accounting import entitled_milli
from domain.snapshot import Snapshot
from domain.worlds.fragmentation import Need
from domain.worlds.outlook import replicas_known


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
        for sign, attempts, work in ((1, active.come, waiting.come), (-1, active.gone, waiting.gone)):
            for attempt in attempts:
                self._has[attempt.spec.queue] += sign * attempt.milli
            for terms, number in by_terms(work):
                self._wants[terms.queue] += sign * number * entitled_milli(terms)
                self._graces[terms.checkpoint.grace_seconds] += sign * number
            self._count_needs((*attempts, *work), sign)
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
        for need, count in replicas_known(work).items():
            if left := self._needs.get(need, 0) + sign * count:
                self._needs[need] = left
            else:
                del self._needs[need]


def _wants(waiting: Iterable[Waiting]) -> Counter[str]:
    wanted: Counter[str] = Counter()
    for terms, number in by_terms(waiting):
        wanted[terms.queue] += number * entitled_milli(terms)
    return wanted
