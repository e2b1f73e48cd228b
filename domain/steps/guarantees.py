"""Guarantees: promises are only sold while they can be kept with the largest failure domain lost (`semantics.md` 5)."""

from collections.abc import Hashable, Iterable
from fractions import Fraction

from corral.api import Explanation, SlaTier
from domain.explanation.refusals import cannot_be_guaranteed
from domain.facts import Facts
from domain.pool.fleet import Health, Node
from domain.pool.workload import Active, Waiting
from domain.quota.accounting import entitled_milli
from domain.worlds.request import requests

Milli = Fraction
"""Thousandths of an accelerator times a guaranteed fraction."""


def oversold(newcomers: Iterable[Waiting], facts: Facts) -> dict[str, Explanation]:
    """Of work that no round has considered yet, by id, what would be promised more than can be kept; the oldest come first.

    Work over quota is promised nothing. What a pool has that it has never seen might keep a promise, so then all may come.
    """
    level, guaranteed = facts.policy.limits.failure_domain, [each for each in newcomers if each.is_new and price(each, facts)]
    if level is None or not facts.complete or not guaranteed:
        return {}
    left = unsold(facts, level)
    refused = {}
    for workload in sorted(guaranteed, key=lambda each: (each.submitted_at, each.id)):
        amount, skus = price(workload, facts), _accepted(workload, left)
        best = max(skus, key=lambda sku: (left[sku], sku), default=None)
        if best is not None and amount <= left[best]:
            left[best] -= amount
        else:
            refused[workload.id] = cannot_be_guaranteed(workload, amount, left[best] if best else Fraction(0), facts.now)
    return refused


def price(demand: Active | Waiting, facts: Facts) -> Milli:
    """What the promise of a workload takes: its guaranteed fraction of what it is entitled to."""
    guarantee = facts.policy.rank.tiers[facts.protection.runs_as(demand)].guarantee
    return Fraction(str(guarantee)) * entitled_milli(demand.spec)


def unsold(facts: Facts, level: str) -> dict[str, Milli]:
    """By SKU, what may still be promised beside all that is promised to live work; negative where too much is."""
    left = line(facts, level)
    for active in facts.active.values():
        if active.placement.sku in left and not active.preempted:
            left[active.placement.sku] -= price(active, facts)
    for waiting in sorted(_maybe_promised(facts), key=lambda each: (each.submitted_at, each.id)):
        amount, skus = price(waiting, facts), _accepted(waiting, left)
        if amount and skus and not waiting.is_new:
            left[max(skus, key=lambda sku: (left[sku], sku))] -= amount
    return left


def _maybe_promised(facts: Facts) -> Iterable[Waiting]:
    """Who waits and is promised anything at all: whom nominal quota covers, and everybody where basic work is."""
    everybody = facts.protection.waiting
    if facts.policy.rank.tiers[SlaTier.BASIC].guarantee:
        return everybody.values()
    return [everybody[workload] for workload in facts.protection.covered if workload in everybody]


def line(facts: Facts, level: str) -> dict[str, Milli]:
    """By SKU, ready capacity less its largest domain of the level.

    Of a SKU that lies in one domain there is no other to fall back on: its promises hold as long as that domain does.
    """
    sizes: dict[str, dict[Hashable, int]] = {}
    for nodes in facts.idle.classes.values():
        for entry in nodes:
            if entry.node.health is Health.READY:
                domains = sizes.setdefault(entry.node.sku, {})
                key = _domain(entry.node, level)
                domains[key] = domains.get(key, 0) + entry.node.total.milli
    return {sku: Fraction(_without_largest(tuple(domains.values()))) for sku, domains in sorted(sizes.items())}


def _without_largest(sizes: tuple[int, ...]) -> int:
    return sum(sizes) if len(sizes) == 1 else sum(sizes) - max(sizes)


def _domain(node: Node, level: str) -> Hashable:
    """A node that has no such level is a domain of its own."""
    of_all = {"region": (node.provider, node.region), "cluster": (node.provider, node.region, node.cluster)}
    return of_all.get(level) or (node.provider, node.region, node.cluster, node.domain(level) or node.id)


def _accepted(workload: Waiting, left: dict[str, Milli]) -> set[str]:
    return {sku for request in requests(workload) for sku in (request.target.skus or left) if sku in left}
