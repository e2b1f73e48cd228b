"""Books: what every queue deserves, may have and may expect of each SKU, and what follows from its use of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction

from corral.api import QueueSpec
from domain.facts import Facts
from domain.pool.fleet import Amount, Health, Node
from domain.quota.tree import QuotaTree
from domain.quota.usage import Usage
from domain.quota_models.deserved.jobs import Job, accepted
from domain.quota_models.deserved.shares import NEVER, Claim, divide_tree

Amounts = Mapping[str, Amount]
"""Thousandths of an accelerator by the name of a quota row: a SKU, or a class of SKUs."""

TurnKey = tuple[bool, int, bool, Fraction, Fraction, Amount, datetime, str]


@dataclass(frozen=True, slots=True)
class Books:
    """The tree with the fair share of every queue; `totals` is what ready nodes have under each name of a quota row.

    An inner node without a row deserves whatever there is; a queue without one may not use the SKU.
    """

    tree: QuotaTree
    names: tuple[str, ...]
    specs: Mapping[str, QueueSpec]
    totals: Amounts
    fair: Mapping[tuple[str, str], Amount]

    @classmethod
    def of(cls, jobs: Iterable[tuple[Job, int]], facts: Facts) -> "Books":
        """Divide the fleet among the queues by what their jobs have and ask for, so many like each of these."""
        names = tuple(sorted({name for _, name in facts.tree.standings}))
        bare = cls(facts.tree, names, facts.queues, {}, {})
        nodes = [entry.node for nodes in facts.idle.classes.values() for entry in nodes]
        divided = replace(bare, totals=bare._totals(nodes))
        demand = bare._demand(jobs)
        fair = {(queue, name): share for name in names for queue, share in divided._divided(name, demand.get(name, {})).items()}
        return replace(divided, fair=fair)

    def named(self, by_sku: Mapping[str, Amount]) -> dict[str, Amount]:
        """Amounts by SKU under the names of the rows that they count for."""
        amounts: dict[str, Amount] = {}
        for sku, amount in by_sku.items():
            for name in self.tree.names(sku):
                if name in self.names:
                    amounts[name] = amounts.get(name, 0) + amount
        return amounts

    def _totals(self, nodes: Iterable[Node]) -> dict[str, Amount]:
        by_sku: dict[str, Amount] = {}
        for node in nodes:
            if node.health is Health.READY:
                by_sku[node.sku] = by_sku.get(node.sku, 0) + node.total.milli
        return self.named(by_sku)

    def _demand(self, jobs: Iterable[tuple[Job, int]]) -> dict[str, dict[str, Amount]]:
        """What all jobs of a queue, and of those below it, have and ask for, by name. Who takes several counts for each."""
        demand: dict[str, dict[str, Amount]] = {}
        for job, number in jobs:
            for name, amount in self._wanted(job).items():
                by_queue = demand.setdefault(name, {})
                for queue in self.tree.paths.get(job.queue, ()):
                    by_queue[queue] = by_queue.get(queue, 0) + number * amount
        return demand

    def _wanted(self, job: Job) -> dict[str, Amount]:
        amounts: dict[str, Amount] = {}
        for skus, amount in wanted(job, self.skus_of(job.queue)):
            for name in {name for sku in skus for name in self.named({sku: 0})}:
                amounts[name] = amounts.get(name, 0) + amount
        return amounts

    def _divided(self, resource: str, demand: Amounts) -> dict[str, Amount]:
        below: dict[str | None, list[Claim]] = {}
        for name, path in self.tree.paths.items():
            parent = path[1] if len(path) > 1 else None
            below.setdefault(parent, []).append(self._claim(name, resource, demand.get(name, 0)))
        return divide_tree(self.totals.get(resource, 0), below.get(None, ()), lambda name: below.get(name, ()))

    def _claim(self, queue: str, name: str, demand: Amount) -> Claim:
        spec, quota = self.specs[queue], self.tree.standings[queue, name].quota
        weight = spec.weight if quota.over_quota_weight is None else quota.over_quota_weight
        deserved, limit = self.deserved(queue, name), quota.cap
        return Claim(queue, demand, deserved, limit, weight, spec.priority, spec.created_at)

    def skus_of(self, queue: str) -> list[str]:
        """The SKUs that the queue may use, in the order in which it tries them."""
        order = self.specs[queue].sku_order if queue in self.specs else ()
        usable = [sku for sku in self.tree.skus if self.tree.has_quota(queue, sku)]
        return sorted(usable, key=lambda sku: (order.index(sku) if sku in order else len(order), sku))

    def deserved(self, queue: str, name: str) -> Amount | None:
        """What the queue is owed before anybody gets surplus; none is whatever there is."""
        standing = self.tree.standings[queue, name]
        return standing.quota.nominal if standing.has_row else None

    def fair_share(self, queue: str, name: str) -> Amount:
        """What the queue may expect."""
        return self.fair.get((queue, name), 0)

    def allocatable(self, queue: str, name: str) -> Amount:
        """What the queue may have before others may take from it: the larger of what it deserves and its fair share."""
        deserved, limit = self.deserved(queue, name), self.tree.standings[queue, name].quota.cap
        most = self.totals.get(name, 0) if deserved is None else max(deserved, self.fair_share(queue, name))
        return most if limit is None else min(limit, most)

    def owns(self, queue: str, needs: Amounts, usage: Usage) -> bool:
        """Whether work that may not be preempted stays within what the queue and every queue above it deserve."""
        return all(
            (deserved := self.deserved(node, name)) is None or usage.use(node, name).fixed + amount <= deserved
            for node in self.tree.paths[queue]
            for name, amount in needs.items()
        )

    def turn_key(self, queue: str, usage: Usage, change: Amounts) -> TurnKey:
        """Whose turn it is among siblings, the smallest first (KAI, `queue_order.go`).

        `change` is what the job at hand would add, or what victims would take away. First those that stay within what they
        deserve, then by queue priority, then those that may expect anything at all, then by use in proportion to what they
        may have (with the change, then without it), then the smaller queue, then the older one. That a queue is above its
        fair share does not count: KAI asks that of all resources at once, and cpu and memory are not divided.
        """
        used = {name: usage.use(queue, name).total for name in self.names}
        then = {name: amount + change.get(name, 0) for name, amount in used.items()}
        may_have = {name: self.allocatable(queue, name) for name in used}
        spec = self.specs[queue]
        return (
            not self._within_deserved(queue, then),
            -spec.priority,
            any(then[name] > 0 and not may_have[name] for name in used),
            _dominant(then, may_have),
            _dominant(used, may_have),
            sum(may_have.values()),
            spec.created_at or NEVER,
            queue,
        )

    def _within_deserved(self, queue: str, amounts: Amounts) -> bool:
        owed = ((amount, self.deserved(queue, name)) for name, amount in amounts.items())
        return all(deserved is None or amount <= deserved for amount, deserved in owed)


def _dominant(amounts: Amounts, may_have: Amounts) -> Fraction:
    """The largest share of anything; whoever may have nothing counts as if it were a thousandth."""
    return max((Fraction(amount, may_have[name] or 1) for name, amount in amounts.items()), default=Fraction(0))


def wanted(job: Job, skus: Sequence[str]) -> Iterator[tuple[Sequence[str], Amount]]:
    """Thousandths that each group of the job has and asks for, with the SKUs of which it takes or has them."""
    placement = job.active.placement if job.active else None
    request = job.request(placement)
    if request is None:
        yield from (((sku,), amount) for sku, amount in (placement.by_sku if placement else {}).items())
        return
    for shape in request.gang.shapes:
        yield (placement.sku,) if placement else accepted(job.spec, request, shape, skus), shape.count * shape.milli
