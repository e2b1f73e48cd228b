"""Census: how much of everything is asked for in all, kept up to date by who came and who went."""

from collections import Counter
from collections.abc import Iterable, Mapping

from domain.accounting import entitled_milli
from domain.fleet import Amount
from domain.fragmentation import Need
from domain.outlook import needs_of
from domain.roll import Roll, Turnover
from domain.snapshot import Snapshot
from domain.workload import Active, Waiting


class Census:
    """Counts over all that runs and waits; it remembers whom it has counted."""

    def __init__(self) -> None:
        self._active, self._waiting, self._bystanders = Roll[Active](), Roll[Waiting](), Roll[Waiting]()
        self._needs: Counter[Need] = Counter()
        self._wanted: Counter[str] = Counter()

    def take(self, snapshot: Snapshot) -> tuple[Turnover[Active], Turnover[Waiting]]:
        """Count these and nobody else; tells of attempts, and of workloads that wait, which are new and which are over."""
        active = self._active.take(snapshot.active)
        waiting, bystanders = self._waiting.take(snapshot.waiting), self._bystanders.take(snapshot.bystanders)
        self._count_wanted(((each.spec.queue, each.milli) for each in active.come), 1)
        self._count_wanted(((each.spec.queue, each.milli) for each in active.gone), -1)
        self._count_wanted(((each.spec.queue, entitled_milli(each.spec)) for each in waiting.come), 1)
        self._count_wanted(((each.spec.queue, entitled_milli(each.spec)) for each in waiting.gone), -1)
        for turnover in (active, waiting, bystanders):
            self._count_needs(turnover.come, 1)
            self._count_needs(turnover.gone, -1)
        return active, Turnover(waiting.gone + bystanders.gone, waiting.come + bystanders.come)

    @property
    def needs(self) -> Mapping[Need, int]:
        """How many replicas run or wait, by what they need."""
        return self._needs

    @property
    def wanted(self) -> Mapping[str, Amount]:
        """Thousandths that the work of each queue has, and at the least wants of those whose turn it is."""
        return self._wanted

    def _count_wanted(self, amounts: Iterable[tuple[str, Amount]], sign: int) -> None:
        for queue, milli in amounts:
            self._wanted[queue] += sign * milli

    def _count_needs(self, work: Iterable[Active | Waiting], sign: int) -> None:
        for each in work:
            for need, count in needs_of(each):
                self._needs[need] += sign * count
                if not self._needs[need]:
                    del self._needs[need]
