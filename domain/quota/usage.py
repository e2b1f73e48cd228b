"""Usage: who uses how much of a tree, and how much of it a request may use."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import product

from corral.api import Reason, WorkloadTerms
from domain.decision import Rejection
from domain.pool.fleet import Amount
from domain.pool.workload import Charge, length_of
from domain.quota.budgets import called
from domain.quota.limits import NO_MORE_WORKLOADS, NOTHING, Held, User, left_of
from domain.quota.tree import UNBOUNDED, Account, QuotaTree, Standing


@dataclass(frozen=True, slots=True, order=True)
class DominantShare:
    """How far a node is beyond its own: use above nominal over what its parent can lend, divided by its weight.

    Where it has no right to any (weight 0), the share is infinite, and the value tells two such apart: it is not weighted.
    """

    is_infinite: bool
    value: Fraction

    @property
    def key(self) -> "ShareKey":
        """The same order, in which the nearest float mostly decides and the value itself where that does not tell."""
        return self.is_infinite, float(self.value), self.value


ShareKey = tuple[bool, float, Fraction]

NOT_BORROWING = DominantShare(False, Fraction(0))


@dataclass(frozen=True, slots=True)
class Use:
    """Use of one node of the tree for one SKU, in thousandths.

    `total` is all use in its subtree; `charged` leaves out what its children cover from their guaranteed parts (what Kueue
    calls usage); `fixed` is the part of the total that may not be preempted.
    """

    total: Amount = 0
    charged: Amount = 0
    fixed: Amount = 0


UNUSED = Use()


@dataclass(frozen=True, slots=True)
class Usage:
    """Who uses how much of the tree; changed copies are cheap.

    `uses` is by node and name of a row: what runs on a SKU counts under the SKU and under every class that holds it.
    `users` is by node and user, where the node limits its users.
    """

    tree: QuotaTree
    uses: Mapping[tuple[str, str], Use] = field(default_factory=dict)
    users: Mapping[tuple[str, User], Held] = field(default_factory=dict)
    committed: Mapping[Account, int] = field(default_factory=dict)
    """What running work will still use up of each balance."""
    lingering: Mapping[tuple[str, str], Amount] = field(default_factory=dict)
    """By node and name of a row, what work with notice still has: it counts for caps alone, until it has left."""
    _rooms: dict[tuple[str, str, bool], Amount] = field(default_factory=dict, init=False, compare=False, repr=False)
    """Answers of `room`, by what it was asked."""
    _borrowers: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict, init=False, compare=False, repr=False)
    """Answers of `borrowers`, likewise."""

    def use(self, queue: str, name: str) -> Use:
        """The use of one node of the tree under the name of a SKU or a class."""
        return self.uses.get((queue, name), UNUSED)

    def plus(
        self, queue: str, sku: str, amount: Amount, *, preemptible: bool, user: User = None, workloads: int = 0
    ) -> "Usage":
        """The same with this much more (or less, when negative) in use by work of the queue.

        `workloads` of the user's begin with it, and end with it when negative. Use in a queue or of a SKU that the tree does
        not know is not counted: nothing bounds it, nothing new starts there.
        """
        uses = dict(self.uses)
        for name in self.tree.names(sku):
            self._charge(uses, queue, name, amount, 0 if preemptible else amount)
        return Usage(self.tree, uses, self._with_held(queue, user, amount, workloads), self.committed, self.lingering)

    def committing(self, charges: Iterable[Charge], sign: int = 1) -> "Usage":
        """The same with what these charges will use up of budgets committed, or no longer so with a negative sign."""
        committed = dict(self.committed)
        for charge in charges:
            for account, balance in self.tree.balances_of(charge.queue):
                more = balance.commitment(charge.milli, charge.hourly_cost, charge.seconds)
                committed[account] = committed.get(account, 0) + sign * more
        return replace(self, committed=committed)

    def with_lingering(self, charges: Iterable[Charge], before: Mapping[tuple[str, str], Amount] | None = None) -> "Usage":
        """The same where work that has these charges, beside what lingered before, still has what it was told to leave."""
        lingering = dict(before or {})
        for charge in charges:
            for node, name in product(self.tree.paths.get(charge.queue, ()), self.tree.names(charge.sku)):
                lingering[node, name] = lingering.get((node, name), 0) + charge.milli
        return replace(self, lingering=lingering)

    def keeps_caps(self, charges: Iterable[Charge], before: "Usage") -> bool:
        """Whether work with these charges, once it has changed the usage so, keeps all caps while those of `before` leave.

        Where it takes no more than its own victims leave, nobody else's leaving matters.
        """
        return not before.lingering or all(
            use <= before.use(node, name).total or use + before.lingering.get((node, name), 0) <= cap
            for charge in charges
            for node, name, cap in self.tree.caps(charge.queue, charge.sku)
            for use in (self.use(node, name).total,)
        )

    def when_all_have_left(self) -> "Usage":
        """The same once nobody with notice has anything any more."""
        return replace(self, lingering={}) if self.lingering else self

    def _charge(self, uses: dict[tuple[str, str], Use], queue: str, name: str, amount: Amount, fixed: Amount) -> None:
        charge = amount
        for node in self.tree.paths.get(queue, ()):
            if (standing := self.tree.standings.get((node, name))) is None:
                break
            before = self.use(node, name)
            after = Use(before.total + amount, before.charged + charge, before.fixed + fixed)
            charge = max(0, after.charged - standing.guaranteed) - max(0, before.charged - standing.guaranteed)
            uses[node, name] = after

    def _with_held(self, queue: str, user: User, amount: Amount, workloads: int) -> Mapping[tuple[str, User], Held]:
        limiting = [node for node in self.tree.paths.get(queue, ()) if node in self.tree.user_limits]
        changed = {(node, user): self.users.get((node, user), NOTHING).plus(amount, workloads) for node in limiting}
        return {**self.users, **changed} if changed else self.users

    def allowed(self, spec: WorkloadTerms, sku: str) -> Amount:
        """How much a workload that would start may have now: quota, limits of its user and budgets, the smallest wins.

        Below zero where not even work without accelerators may start. What it costs is asked of `pays_for`.
        """
        quota = self.room(spec.queue, sku, preemptible=spec.preemptible)
        if not (self.tree.user_limits or self.tree.balances):
            return quota
        return min([quota, *(has for _, has in self._left_for_user(spec)), *self._left_in_budgets(spec)])

    def _left_in_budgets(self, spec: WorkloadTerms) -> list[Amount]:
        left = []
        for account, balance in self.tree.balances_of(spec.queue):
            committed, lasts = self.committed.get(account, 0), balance.within(length_of(spec))
            if balance.is_used_up(committed):
                left.append(NO_MORE_WORKLOADS)
            elif lasts and not balance.is_money:
                left.append(max(0, balance.left - committed) // lasts)
        return left

    def pays_for(self, spec: WorkloadTerms, milli: Amount, hourly_cost: int) -> bool:
        """Whether the budgets allow work of this size and cost (nanodollars an hour)."""
        return self.unpaid(spec, milli, hourly_cost) is None

    def unpaid(self, spec: WorkloadTerms, milli: Amount, hourly_cost: int) -> Rejection | None:
        """The first budget that does not allow it; needs and has are thousandths of its unit."""
        for account, balance in self.tree.balances_of(spec.queue) if self.tree.balances else ():
            left = balance.left - self.committed.get(account, 0)
            needs = balance.commitment(milli, hourly_cost, length_of(spec))
            if needs > left or balance.is_used_up(self.committed.get(account, 0)):
                has = balance.thousandths(left)
                return Rejection(called(account[0], balance.budget), Reason.BUDGET_EXHAUSTED, balance.thousandths(needs), has)
        return None

    def dearest_affordable(self, spec: WorkloadTerms, milli: Amount) -> int | None:
        """The highest price per accelerator and hour (millionths of a dollar) that budgets allow; none limits it."""
        prices = [
            max(0, balance.left - self.committed.get(account, 0)) // (milli * lasts)
            for account, balance in self.tree.balances_of(spec.queue)
            if balance.is_money and (lasts := balance.within(length_of(spec))) and milli
        ]
        return min(prices, default=None)

    def refusal(self, spec: WorkloadTerms, sku: str, amount: Amount) -> Rejection | None:
        """Why the workload may not start with this much, or none when it may. Needs and has are thousandths."""
        if (unpaid := self.unpaid(spec, amount, 0)) is not None:
            return unpaid
        short = min(((has, node) for node, has in self._left_for_user(spec) if has < amount), default=None)
        if short is not None:
            has, node = short
            reason = Reason.USER_RUNNING_LIMIT_REACHED if has < 0 else Reason.USER_LIMIT_REACHED
            return Rejection(node, reason, needs=amount, has=max(0, has))
        return self.rejection(spec.queue, sku, amount, preemptible=spec.preemptible) if amount else None

    def _left_for_user(self, spec: WorkloadTerms) -> list[tuple[str, Amount]]:
        """What each node on the way to the root leaves the workload's user; below zero where it may run no more workloads."""
        held = self.users.get
        return [(node, left_of(limit, held((node, spec.user), NOTHING))) for node, limit in self.tree.limits_on(spec)]

    def room(self, queue: str, sku: str, *, preemptible: bool) -> Amount:
        """How much more quota a workload of the queue may have now; never negative."""
        if (room := self._rooms.get(asked := (queue, sku, preemptible))) is None:
            room = self._rooms[asked] = self._room(queue, sku, preemptible=preemptible)
        return room

    def _room(self, queue: str, sku: str, *, preemptible: bool) -> Amount:
        if not (rows := self.tree.rows(queue, sku)):
            return 0
        below_caps = [left for left, _ in self._below_caps(queue, sku)]
        owned = [] if preemptible else [self._within_owned(queue, sku)]
        return max(0, min([*(self._available(queue, name) for name in rows), *below_caps, *owned]))

    def rejection(self, queue: str, sku: str, amount: Amount, *, preemptible: bool) -> Rejection | None:
        """Why the queue may not use this much more, or none when it may. Needs and has are thousandths."""
        room = self.room(queue, sku, preemptible=preemptible)
        if amount <= room:
            return None
        if not (rows := self.tree.rows(queue, sku)):
            return Rejection(queue, Reason.WAITING_FOR_QUOTA, needs=amount, has=0)
        left, capped = min(self._below_caps(queue, sku), default=(amount, queue))
        if left < amount:
            return Rejection(capped, Reason.QUEUE_CAP_REACHED, needs=amount, has=max(0, left))
        least, name = min((self._available(queue, name), name) for name in rows)
        is_limited = least < amount <= self._available(queue, name, limited=False)
        reason = Reason.BORROWING_LIMIT_REACHED if is_limited else Reason.WAITING_FOR_QUOTA
        return Rejection(_called(queue, name, sku), reason, needs=amount, has=room)

    def is_within_nominal(self, queue: str, sku: str, amount: Amount) -> bool:
        """Whether the queue would still live on its own with this much more."""
        return self.borrowed(queue, sku) + amount <= 0

    def borrowed(self, queue: str, sku: str) -> Amount:
        """How much more of a SKU, or of a class that holds it, the queue uses than it owns; negative where it owns more."""
        rows = self.tree.rows(queue, sku)
        own = [self.use(queue, name).total - self.tree.standings[queue, name].quota.nominal for name in rows]
        return max(own, default=self.use(queue, sku).total)

    def borrowers(self, root: str, sku: str) -> frozenset[str]:
        """The queues below a root that use more of a SKU than they own."""
        if (borrowers := self._borrowers.get((root, sku))) is None:
            names, paths = self.tree.names(sku), self.tree.paths
            using = {node for (node, name) in self.uses if name in names and paths[node][-1] == root}
            borrowers = self._borrowers[root, sku] = frozenset(node for node in using if self.borrowed(node, sku) > 0)
        return borrowers

    def dominant_share(self, queue: str) -> DominantShare:
        """The share of `semantics.md` 4: accelerators of all SKUs are one resource, those of each class another."""
        classes = {name for names in self.tree.classes.values() for name in names}
        skus = [name for name in self.tree.skus if (queue, name) in self.tree.standings]
        return max(self._share(queue, names) for names in (skus, *([name] for name in sorted(classes))))

    def _share(self, queue: str, names: Sequence[str]) -> DominantShare:
        borrowed = sum(max(0, self.use(queue, name).charged - self.tree.standings[queue, name].subtree) for name in names)
        if borrowed == 0:
            return NOT_BORROWING
        weight, lendable = self.tree.weights[queue], sum(self.tree.lendable(queue, name) for name in names)
        if not weight or not lendable:
            return DominantShare(True, Fraction(borrowed, lendable or 1))
        return DominantShare(False, Fraction(borrowed, weight * lendable))

    def _available(self, queue: str, name: str, *, limited: bool = True) -> Amount:
        """Kueue's `available`, from the root down: what the node keeps unused, and what its parent can still lend it.

        Negative where more is in use than there is quota for, as after the end of a grant.
        """
        if self.tree.common:
            return UNBOUNDED
        *below, root = ((self.tree.standings[node, name], self.use(node, name)) for node in self.tree.paths[queue])
        amount = root[0].subtree - root[1].charged
        for standing, use in reversed(below):
            if limited and standing.quota.borrowing_limit is not None:
                stored = standing.subtree - standing.guaranteed
                taken = max(0, use.charged - standing.guaranteed)
                amount = min(amount, stored - taken + standing.quota.borrowing_limit)
            amount += max(0, standing.guaranteed - use.charged)
        return amount

    def _below_caps(self, queue: str, sku: str) -> list[tuple[Amount, str]]:
        """What every cap from the queue to its root leaves, and whose cap that is."""
        return [
            (cap - self.use(node, name).total - self.lingering.get((node, name), 0), _called(node, name, sku))
            for node, name, cap in self.tree.caps(queue, sku)
        ]

    def _within_owned(self, queue: str, sku: str) -> Amount:
        """What work that may not be preempted may still have: it counts against nominal alone, for nobody can reclaim it."""
        return min(
            self.tree.owned(standing) - self.use(node, name).fixed
            for node, name, standing in self._standings_above(queue, sku)
            if standing.has_row
        )

    def _standings_above(self, queue: str, sku: str) -> list[tuple[str, str, Standing]]:
        """Every node from the queue to its root, under every name that bounds the SKU."""
        return [
            (node, name, standing)
            for name in self.tree.names(sku)
            for node in self.tree.paths[queue]
            if (standing := self.tree.standings.get((node, name))) is not None
        ]


def _called(node: str, name: str, sku: str) -> str:
    """A node as people are told of it: with the class, where it is one that bounds the SKU."""
    return node if name == sku else f"{node} (class {name})"
