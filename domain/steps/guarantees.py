"""Guarantees: promises are only sold while they can be kept with the largest failure domain lost (`semantics.md` 5)."""

from collections.abc import Collection, Hashable, Iterable, Mapping
from fractions import Fraction

from corral.api import Explanation, SlaTier
from domain.explanation.refusals import cannot_be_guaranteed
from domain.facts import Facts
from domain.pool.fleet import Health, Node
from domain.pool.workload import Active, Waiting
from domain.quota.accounting import entitled_by_group, entitled_milli
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
        after, short = _sold(workload, left, facts)
        if short is None:
            left = after
        else:
            refused[workload.id] = cannot_be_guaranteed(workload, *short, facts.now)
    return refused


def _sold(workload: Waiting, left: Mapping[str, Milli], facts: Facts) -> tuple[dict[str, Milli], tuple[Milli, Milli] | None]:
    """What is left once the workload has its promise, each part on that of its SKUs of which most is left.

    And of the first part for which that is too little, what it takes and what there is; none where all is enough.
    """
    after, short = dict(left), None
    for amount, skus in _parts(workload, left, facts):
        best = max(skus, key=lambda sku: (after[sku], sku), default=None)
        has = after[best] if best is not None else Fraction(0)
        if short is None and (best is None or amount > has):
            short = amount, has
        if best is not None:
            after[best] -= amount
    return after, short


def price(demand: Active | Waiting, facts: Facts) -> Milli:
    """What the promise of a workload takes: its guaranteed fraction of what it is entitled to."""
    return _guarantee(demand, facts) * entitled_milli(demand.spec)


def _guarantee(demand: Active | Waiting, facts: Facts) -> Fraction:
    return Fraction(str(facts.policy.rank.tiers[facts.protection.runs_as(demand)].guarantee))


def unsold(facts: Facts, level: str) -> dict[str, Milli]:
    """By SKU, what may still be promised beside all that is promised to live work; negative where too much is."""
    left = line(facts, level)
    for active in facts.active.values():
        if not active.preempted:
            for sku, amount in _promised(active, facts).items():
                if sku in left:
                    left[sku] -= amount
    for waiting in sorted(_maybe_promised(facts), key=lambda each: (each.submitted_at, each.id)):
        if not waiting.is_new and price(waiting, facts):
            left, _ = _sold(waiting, left, facts)
    return left


def _promised(active: Active, facts: Facts) -> Mapping[str, Milli]:
    """What the promise of running work takes of each SKU that its groups sit on."""
    if len(active.placement.by_sku) == 1:
        return {active.placement.sku: price(active, facts)}
    skus = {replica.group: share.sku or active.placement.sku for share in active.placement.shares for replica in share.replicas}
    promised: dict[str, Milli] = {}
    for name, milli in entitled_by_group(active.spec).items():
        sku = skus.get(name, active.placement.sku)
        promised[sku] = promised.get(sku, Fraction(0)) + _guarantee(active, facts) * milli
    return promised


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


def _parts(workload: Waiting, known: Collection[str], facts: Facts) -> list[tuple[Milli, set[str]]]:
    """What its promise takes, parted by the SKUs that its groups accept of those that are known; these with each part."""
    accepted = {sku for request in requests(workload) for sku in (request.target.skus or known) if sku in known}
    entitled, guarantee = entitled_by_group(workload.spec), _guarantee(workload, facts)
    milli: dict[tuple[str, ...], int] = {}
    for group in workload.spec.groups:
        milli[group.skus] = milli.get(group.skus, 0) + entitled[group.name]
    return [(guarantee * each, accepted & {*skus} if skus else accepted) for skus, each in milli.items() if each]
