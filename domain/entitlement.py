"""Entitlement: which work of a queue its nominal quota covers; the rest is over quota, entitled to nothing."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from domain.accounting import entitled_milli
from domain.fleet import Amount
from domain.quota import QuotaTree
from domain.request import requests
from domain.snapshot import Snapshot
from domain.standing import Standing, standing
from domain.workload import Active, Waiting

Demand = Waiting | Active


def within_quota(snapshot: Snapshot, tree: QuotaTree, now: datetime) -> dict[str, Amount]:
    """Thousandths that the nominal quota of its queue covers, by workload id; see docs/decisions/over-quota.md.

    Nominal goes to the work of a queue by tier, priority and age, whether it runs or waits: what waits is promised as much
    as what runs. A gang is covered with its minimum or not at all, and what it has beyond its minimum as far as that goes.
    Nothing is covered of a queue that is beyond a soft budget.
    """
    by_queue: dict[str, list[Demand]] = {}
    # Of work that goes on in another shape, what it will have counts.
    last = {active.id: active for active in sorted(snapshot.active, key=lambda active: active.epoch)}
    demands: tuple[Demand, ...] = (*last.values(), *snapshot.waiting, *snapshot.bystanders)
    for demand in demands:
        by_queue.setdefault(demand.spec.queue, []).append(demand)
    return {
        workload: amount
        for queue, own in by_queue.items()
        if queue in tree.paths and queue not in tree.overspent
        for workload, amount in _covered(queue, sorted(own, key=_precedence), tree, now)
    }


def _precedence(demand: Demand) -> tuple[Standing, float, str]:
    tier, priority = standing(demand.spec.tier, demand.spec.priority)
    return (-tier, -priority), demand.submitted_at.timestamp(), demand.id


def _covered(queue: str, demands: Iterable[Demand], tree: QuotaTree, now: datetime) -> Iterable[tuple[str, Amount]]:
    rows = {sku: tree.rows(queue, sku) for sku in tree.skus}
    left = {name: tree.standings[queue, name].quota.nominal for names in rows.values() for name in names}
    for demand in demands:
        if not any(left.values()):
            yield demand.id, 0
            continue
        taken = _taken(demand, {sku: min((left[name] for name in names), default=0) for sku, names in rows.items()}, now)
        for sku, milli in taken.items():
            for name in rows[sku]:
                left[name] -= milli
        yield demand.id, sum(taken.values())


def _taken(demand: Demand, left: Mapping[str, Amount], now: datetime) -> dict[str, Amount]:
    if isinstance(demand, Active):
        return _taken_by_active(demand, left)
    for request in requests(demand):
        for sku in (request.target.skus or sorted(left)) if request.opens_at <= now else ():
            if 0 < request.gang.minimum_milli <= left.get(sku, 0):
                return {sku: request.gang.minimum_milli}
    return {}


def _taken_by_active(active: Active, left: Mapping[str, Amount]) -> dict[str, Amount]:
    taken = {sku: min(milli, left.get(sku, 0)) for sku, milli in active.placement.by_sku.items()}
    is_covered = sum(taken.values()) >= min(active.milli, entitled_milli(active.spec))
    return {sku: milli for sku, milli in taken.items() if milli} if is_covered else {}
