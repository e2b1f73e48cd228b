"""The tree of queues and cohorts, with every number that follows from its rows."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from math import inf

from corral.api import WHOLE, QueueSpec, QueueTree, QuotaSpec, SlaTier, UserLimit, WorkloadTerms
from domain.pool.fleet import Amount
from domain.pool.workload import length_of
from domain.quota.budgets import Balance, balances
from domain.quota.limits import NOTHING, left_of, limit_of

SkuClasses = Mapping[str, Sequence[str]]
"""The SKUs that each class holds."""

NO_CLASSES: SkuClasses = {}

Account = tuple[str, int]
"""A budget by its queue and its place among the queue's budgets; or, of a tree, a balance by its place."""

Spent = Mapping[Account, int]
"""What is spent of budgets, in thousandths of an accelerator (or nanodollars an hour) times milliseconds."""

NOTHING_SPENT: Spent = {}


class QuotaError(ValueError):
    """The tree contradicts itself; the message says where and what was expected."""


MOST_LEVELS = 64
"""Of a tree of queues, from a queue to its root. Every level is a step of the search for whose turn it is."""


def merged(given: QueueTree, known: Iterable[QueueSpec]) -> QueueTree:
    """The queues that would result: those that are given, and the others as they are."""
    names = {queue.name for queue in given.queues}
    kept = tuple(queue for queue in known if queue.name not in names)
    return QueueTree.model_construct(queues=(*given.queues, *kept))


def check_tree(tree: QueueTree) -> None:
    """Refuse names given twice, parents that do not exist, cycles, and trees that are too deep.

    Raises:
        QuotaError: names the queue, the field and the cycle.
    """
    by_name: dict[str, QueueSpec] = {}
    for index, queue in enumerate(tree.queues):
        if queue.name in by_name:
            raise QuotaError(f"queues[{index}].name: {queue.name!r} is given twice; each queue needs a name of its own")
        by_name[queue.name] = queue
    for index, queue in enumerate(tree.queues):
        if queue.parent is not None and queue.parent not in by_name:
            raise QuotaError(
                f"queues[{index}].parent: {queue.parent!r} is not a queue of this tree; define it or leave the field out"
            )
        path = [queue.name]
        while (parent := by_name[path[-1]].parent) is not None:
            if parent in path:
                cycle = " -> ".join([*path, parent])
                raise QuotaError(f"queues[{index}].parent: the parents form a cycle: {cycle}; one of them must be a root")
            path.append(parent)
        if len(path) > MOST_LEVELS:
            raise QuotaError(
                f"queues[{index}].parent: {queue.name!r} is {len(path)} levels deep; expected at most {MOST_LEVELS};"
                " give it a parent that is nearer to the root"
            )


@dataclass(frozen=True, slots=True)
class Quota:
    """Quota of one node of the tree for one SKU, in thousandths of an accelerator; none does not limit."""

    nominal: Amount = 0
    floor: Amount = 0
    cap: Amount | None = None
    borrowing_limit: Amount | None = None
    lending_limit: Amount | None = None
    over_quota_weight: int | None = None


UNBOUNDED: Amount = 10**15
"""More than any fleet has: what no quota bounds."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What one node of the tree has for one SKU, in thousandths (Kueue, `resource_node.go`).

    `subtree` is what it may dispose of: its nominal and what its children lend it. `guaranteed` is the part that it lends to
    nobody. `nominal_below` is the nominal of the node and of everything below it, lent or not. `has_row` says whether it has
    a quota of its own for the SKU.
    """

    quota: Quota
    subtree: Amount
    guaranteed: Amount
    nominal_below: Amount
    has_row: bool


@dataclass(frozen=True, slots=True)
class QuotaTree:
    """The tree with every number that follows from its rows. `paths` lead from a queue to its root.

    `classes` gives, for each SKU that one holds, the classes of SKUs for which there is a row. Standings are by the name
    that a row has: a SKU, or a class of them.

    Where surplus is `common` (quota model `deserved`), nothing is borrowed: work that may be preempted takes any idle capacity
    up to the caps, and other work stays within the nominal of its queue and of every node above it that has some.
    """

    paths: Mapping[str, tuple[str, ...]]
    weights: Mapping[str, int]
    skus: tuple[str, ...]
    standings: Mapping[tuple[str, str], Standing]
    classes: Mapping[str, tuple[str, ...]]
    user_limits: Mapping[str, tuple[UserLimit, ...]]
    balances: Mapping[str, tuple[Balance, ...]] = field(default_factory=dict)
    """Of hard budgets."""
    overspent: frozenset[str] = frozenset()
    """Queues beyond a soft budget, and all below them."""
    now: datetime | None = None
    common: bool = False
    _rows: dict[tuple[str, str], Sequence[str]] = field(default_factory=dict, init=False, compare=False, repr=False)
    """Answers of `rows`, remembered."""
    _caps: dict[tuple[str, str], Sequence[tuple[str, str, Amount]]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    """Answers of `caps`, likewise."""

    @classmethod
    def at(
        cls,
        queues: Iterable[QueueSpec],
        now: datetime,
        classes: SkuClasses = NO_CLASSES,
        spent: Spent = NOTHING_SPENT,
        *,
        common: bool = False,
    ) -> "QuotaTree":
        """The tree of a checked set of queues with the rows that are valid now, and budgets of which so much is spent."""
        checked = tuple(queues)
        tree = cls._from_rows(checked, classes, lambda rows: _valid(rows, now), common=common)
        left = {
            queue.name: [balances(budget, spent.get((queue.name, index), 0), now) for index, budget in enumerate(queue.budgets)]
            for queue in checked
        }
        hard = {name: tuple(chain(*(each for each in found if each[0].budget.hard))) for name, found in left.items()}
        over = {name for name, found in left.items() if any(not each[0].budget.hard and each[0].left <= 0 for each in found)}
        return replace(
            tree,
            balances={name: found for name, found in sorted(hard.items()) if found},
            overspent=frozenset(name for name, path in tree.paths.items() if not over.isdisjoint(path)),
            now=now,
        )

    @classmethod
    def ever(cls, queues: Iterable[QueueSpec], classes: SkuClasses = NO_CLASSES, *, common: bool = False) -> "QuotaTree":
        """The tree with the most generous of all rows, whatever their validity: what exceeds it never fits."""
        return cls._from_rows(queues, classes, _most_generous, common=common)

    @classmethod
    def _from_rows(
        cls,
        queues: Iterable[QueueSpec],
        classes: SkuClasses,
        choose: Callable[[Sequence[QuotaSpec]], Quota | None],
        *,
        common: bool,
    ) -> "QuotaTree":
        by_name = {queue.name: queue for queue in sorted(queues, key=lambda queue: queue.name)}
        rows = {
            (queue.name, sku): quota
            for queue in by_name.values()
            for sku in sorted({row.sku for row in queue.quotas})
            if (quota := choose([row for row in queue.quotas if row.sku == sku])) is not None
        }
        names = sorted({name for _, name in rows})
        paths = {name: _path_to_root(name, by_name) for name in by_name}
        return cls(
            paths=paths,
            weights={name: queue.weight for name, queue in by_name.items()},
            skus=tuple(sorted({sku for name in names for sku in classes.get(name, (name,))})),
            standings=_standings(paths, names, rows),
            classes=_classes_of({name: classes[name] for name in names if name in classes}),
            user_limits={name: queue.user_limits for name, queue in by_name.items() if queue.user_limits},
            common=common,
        )

    def counts_like(self, other: "QuotaTree") -> bool:
        """Whether use that was counted in the other tree counts the same here."""
        return (self.paths, self.skus, self.standings, self.classes, self.user_limits) == (
            other.paths,
            other.skus,
            other.standings,
            other.classes,
            other.user_limits,
        )

    def root(self, queue: str) -> str:
        """The root of the tree that the queue belongs to."""
        return self.paths[queue][-1]

    def names(self, sku: str) -> tuple[str, ...]:
        """The names under which rows bound a SKU: its own, and those of the classes that hold it."""
        return (sku, *self.classes.get(sku, ()))

    def held_by(self, name: str) -> list[str]:
        """The SKUs that a row of this name bounds: those of a class, or the SKU itself."""
        return [sku for sku, classes in self.classes.items() if name in classes] or [name]

    def kin(self, sku: str) -> list[str]:
        """The other SKUs that a class holds beside this one."""
        mine = set(self.classes.get(sku, ()))
        return [other for other, classes in self.classes.items() if other != sku and not mine.isdisjoint(classes)]

    def rows(self, queue: str, sku: str) -> Sequence[str]:
        """The names of those rows that the queue itself has; of several the smallest quota wins."""
        if (known := self._rows.get((queue, sku))) is None:
            its = (name for name in self.names(sku) if (queue, name) in self.standings)
            known = self._rows[queue, sku] = tuple([name for name in its if self.standings[queue, name].has_row])
        return known

    def caps(self, queue: str, sku: str) -> Sequence[tuple[str, str, Amount]]:
        """Every cap from the queue to its root, under every name that bounds the SKU: the node, the name and the cap."""
        if (known := self._caps.get((queue, sku))) is None:
            above = [(node, name) for name in self.names(sku) for node in self.paths[queue] if (node, name) in self.standings]
            caps = [(node, name, self.standings[node, name].quota.cap) for node, name in above]
            known = self._caps[queue, sku] = tuple([(node, name, cap) for node, name, cap in caps if cap is not None])
        return known

    def has_quota(self, queue: str, sku: str) -> bool:
        """Whether the queue has a row for the SKU; without one it may not use it (a row with nominal 0 opts in)."""
        return bool(self.rows(queue, sku))

    def nominal(self, queue: str, sku: str) -> Amount:
        """What the queue itself owns."""
        return min((self.standings[queue, name].quota.nominal for name in self.rows(queue, sku)), default=0)

    def ceiling(self, queue: str, sku: str, *, preemptible: bool) -> Amount:
        """The most that one workload of the queue could ever have if nobody else used anything."""
        path, rows = self.paths[queue], self.rows(queue, sku)
        above = [self.standings[node, name] for name in self.names(sku) for node in path if (node, name) in self.standings]
        caps = [standing.quota.cap for standing in above if standing.quota.cap is not None]
        owned = [] if preemptible else [self.owned(standing) for standing in above if standing.has_row]
        return min([*(self._potential(path, name) for name in rows), *caps, *owned]) if rows else 0

    def owned(self, standing: Standing) -> Amount:
        """What work that may not be preempted may have in all at a node of the tree."""
        return standing.quota.nominal if self.common else standing.nominal_below

    def lendable(self, queue: str, name: str) -> Amount:
        """What the parent's subtree could lend under the name of a row if nobody used anything; 0 for a root."""
        above = self.paths[queue][1:]
        return self._potential(above, name) if above else 0

    def ceiling_of(self, spec: WorkloadTerms, sku: str) -> Amount:
        """The same for a workload, with the limits of its user; below zero where it may not even run without accelerators."""
        limits = [left_of(limit, NOTHING) for _, limit in self.limits_on(spec)]
        return min([self.ceiling(spec.queue, sku, preemptible=spec.preemptible), *limits])

    def limits_on(self, spec: WorkloadTerms) -> list[tuple[str, UserLimit]]:
        """The limits of a workload's user, and the nodes from its queue to the root that set them."""
        return [
            (node, limit)
            for node in self.paths.get(spec.queue, ())
            if (limit := limit_of(self.user_limits.get(node, ()), spec.user)) is not None
        ]

    def looks_at(self, spec: WorkloadTerms) -> Hashable:
        """What the tree looks at in a workload beside its queue and whether it may be preempted."""
        if not (self.user_limits or self.balances):
            return None
        return spec.user if self.limits_on(spec) else None, length_of(spec) if self.balances_of(spec.queue) else None

    def balances_of(self, queue: str) -> list[tuple[Account, Balance]]:
        """The balances that work of a queue draws on, its own and those of the nodes above."""
        above = (node for node in self.paths.get(queue, ()) if node in self.balances)
        return [((node, index), balance) for node in above for index, balance in enumerate(self.balances[node])]

    def tier(self, spec: WorkloadTerms) -> SlaTier:
        """The tier that a workload ranks as: basic beyond a soft budget."""
        return SlaTier.BASIC if spec.queue in self.overspent else spec.tier

    def _potential(self, path: Sequence[str], name: str) -> Amount:
        """What a node could have with nothing in use: its guaranteed part, and what flows down from its root."""
        if self.common:
            return UNBOUNDED
        *below, root = (self.standings[node, name] for node in path)
        amount = root.subtree
        for standing in reversed(below):
            amount += standing.guaranteed
            if standing.quota.borrowing_limit is not None:
                amount = min(amount, standing.subtree + standing.quota.borrowing_limit)
        return amount


def _classes_of(classes: SkuClasses) -> dict[str, tuple[str, ...]]:
    """The classes that hold each SKU."""
    skus = {sku for members in classes.values() for sku in members}
    return {sku: tuple(name for name in sorted(classes) if sku in classes[name]) for sku in sorted(skus)}


def _path_to_root(name: str, by_name: Mapping[str, QueueSpec]) -> tuple[str, ...]:
    path = [name]
    while (parent := by_name[path[-1]].parent) is not None:
        path.append(parent)
    return tuple(path)


def _valid(rows: Sequence[QuotaSpec], now: datetime) -> Quota | None:
    """The row that counts now: one with dates (a temporary grant) replaces the one without; of several the last to begin."""
    valid = [
        row
        for row in rows
        if (row.valid_from is None or row.valid_from <= now) and (row.valid_until is None or now < row.valid_until)
    ]
    return _in_thousandths(max(valid, key=_precedence)) if valid else None


def _precedence(row: QuotaSpec) -> tuple[bool, float, float, str]:
    is_dated = row.valid_from is not None or row.valid_until is not None
    begins = row.valid_from.timestamp() if row.valid_from else -inf
    ends = row.valid_until.timestamp() if row.valid_until else inf
    return is_dated, begins, -ends, row.model_dump_json()


def _most_generous(rows: Sequence[QuotaSpec]) -> Quota | None:
    return Quota(
        nominal=max(row.nominal for row in rows) * WHOLE,
        floor=min(row.floor for row in rows) * WHOLE,
        cap=_loosest(row.cap for row in rows),
        borrowing_limit=_loosest(row.borrowing_limit for row in rows),
        lending_limit=_loosest(row.lending_limit for row in rows),
        over_quota_weight=max((row.over_quota_weight for row in rows if row.over_quota_weight is not None), default=None),
    )


def _loosest(limits: Iterable[int | None]) -> Amount | None:
    known = list(limits)
    given = [limit for limit in known if limit is not None]
    return max(given) * WHOLE if len(given) == len(known) else None


def _in_thousandths(row: QuotaSpec) -> Quota:
    def milli(limit: int | None) -> Amount | None:
        return None if limit is None else limit * WHOLE

    return Quota(
        row.nominal * WHOLE,
        row.floor * WHOLE,
        milli(row.cap),
        milli(row.borrowing_limit),
        milli(row.lending_limit),
        row.over_quota_weight,
    )


def _standings(
    paths: Mapping[str, tuple[str, ...]], skus: Sequence[str], rows: Mapping[tuple[str, str], Quota]
) -> dict[tuple[str, str], Standing]:
    """Every node's numbers, children before their parents."""
    standings: dict[tuple[str, str], Standing] = {}
    for name in sorted(paths, key=lambda name: -len(paths[name])):
        children = [child for child, path in paths.items() if path[1:2] == (name,)]
        for sku in skus:
            quota = rows.get((name, sku))
            standings[name, sku] = _standing(quota, [standings[child, sku] for child in children])
    return standings


def _standing(row: Quota | None, children: Sequence[Standing]) -> Standing:
    quota = row or Quota()
    subtree = quota.nominal + sum(child.subtree - child.guaranteed for child in children)
    kept = 0 if quota.lending_limit is None else max(0, subtree - quota.lending_limit)
    return Standing(
        quota=quota,
        subtree=subtree,
        guaranteed=max(kept, quota.floor),
        nominal_below=quota.nominal + sum(child.nominal_below for child in children),
        has_row=row is not None,
    )
