"""Fair shares: how what nobody owns or needs for itself is divided, by weights that past use beyond nominal has worn down."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from domain.pool.fleet import Amount
from domain.quota.tree import QuotaTree
from domain.quota.usage import NOT_BORROWING, DominantShare, Usage

PastUse = Mapping[str, Fraction]
"""By node, past use beyond nominal as a part of the capacity that was there, both decayed; nodes without any may be absent."""


class Claim(NamedTuple):
    """What one of several siblings wants of the surplus, and how much of it counts for what another wants."""

    name: str
    weight: Fraction
    wants: Amount


def fill(surplus: Fraction, claims: Iterable[Claim]) -> dict[str, Fraction]:
    """Divide by weighted max-min (water filling): who wants least by weight is satisfied first, the rest share by weight.

    Claims without weight share, equally, what all others leave.
    """
    ordered = sorted(claims, key=lambda claim: claim.name)
    shares = _pour(surplus, [claim for claim in ordered if claim.weight > 0])
    rest = [claim._replace(weight=Fraction(1)) for claim in ordered if claim.weight <= 0]
    return shares | _pour(surplus - sum(shares.values()), rest)


def _pour(left: Fraction, claims: Sequence[Claim]) -> dict[str, Fraction]:
    shares: dict[str, Fraction] = {}
    weight = sum((claim.weight for claim in claims), Fraction(0))
    for claim in sorted(claims, key=lambda claim: (claim.wants / claim.weight, claim.name)):
        share = min(Fraction(claim.wants), left * claim.weight / weight)
        shares[claim.name] = share
        left, weight = left - share, weight - claim.weight
    return shares


def worn(weights: Mapping[str, int], past: PastUse, history_weight: Fraction) -> dict[str, Fraction]:
    """The weights of siblings, as parts of one, less what they used beyond their nominal: max(W + k(W - U), 0) (KAI)."""
    total = sum(weights.values())
    parts = {name: Fraction(weight, total) if total else Fraction(0) for name, weight in weights.items()}
    return {name: max(Fraction(0), part + history_weight * (part - past.get(name, 0))) for name, part in parts.items()}


@dataclass(frozen=True, slots=True)
class FairShares:
    """What each node of the tree may fairly have beyond its nominal now, in thousandths of an accelerator."""

    surplus: Mapping[str, Fraction]

    @classmethod
    def of(
        cls, tree: QuotaTree, demand: Mapping[str, Amount], past: PastUse, history_weight: Fraction = Fraction(1)
    ) -> "FairShares":
        """Divide what each tree has, from its root down; `demand` is what the work of each queue has and asks for.

        Every node first has what it wants of its nominal, whatever its history.
        """
        wanted = _wanted(tree, demand)
        children: dict[str, list[str]] = {}
        for name, path in sorted(tree.paths.items()):
            if len(path) > 1:
                children.setdefault(path[1], []).append(name)
        has = {name: Fraction(_nominal(tree, name)) for name, path in tree.paths.items() if len(path) == 1}
        surplus = dict.fromkeys(has, Fraction(0))
        for name in sorted(tree.paths, key=lambda name: len(tree.paths[name])):
            members = children.get(name, [])
            own = {child: min(wanted[child], _nominal(tree, child)) for child in members}
            weights = worn({child: tree.weights[child] for child in members}, past, history_weight)
            claims = [Claim(child, weights[child], wanted[child] - own[child]) for child in members]
            shares = fill(max(Fraction(0), has[name] - sum(own.values())), claims)
            surplus |= shares
            has |= {child: own[child] + shares[child] for child in members}
        return cls(surplus)

    def of_queue(self, queue: str, usage: Usage, *, is_within: bool) -> tuple[DominantShare, ...]:
        """How much of its fair surplus each node uses, from below the root to the queue; compared from the left.

        None of it where a node does not borrow, infinitely much where it borrows, or would for work that is not within
        nominal, and has no right to.
        """
        below_root = usage.tree.paths[queue][-2::-1] or (queue,)
        return tuple(self._used(node, usage, is_within=is_within) for node in below_root)

    def _used(self, node: str, usage: Usage, *, is_within: bool) -> DominantShare:
        borrowed = sum(
            max(0, usage.use(node, sku).total - usage.tree.standings[node, sku].nominal_below)
            for sku in usage.tree.skus
            if (node, sku) in usage.tree.standings
        )
        if fair := self.surplus.get(node, Fraction(0)):
            return DominantShare(False, borrowed / fair) if borrowed else NOT_BORROWING
        return DominantShare(True, Fraction(borrowed)) if borrowed or not is_within else NOT_BORROWING


def _nominal(tree: QuotaTree, node: str) -> Amount:
    return sum(tree.standings[node, sku].nominal_below for sku in tree.skus if (node, sku) in tree.standings)


def _wanted(tree: QuotaTree, demand: Mapping[str, Amount]) -> dict[str, Amount]:
    """What the work below every node wants."""
    wanted = dict.fromkeys(tree.paths, 0)
    for queue, amount in demand.items():
        for node in tree.paths.get(queue, ()):
            wanted[node] += amount
    return wanted
