"""Rank: whose turn it is, lexicographic and not scriptable."""

from collections.abc import Iterable
from datetime import datetime

from domain.facts import Facts
from domain.quota import NOT_BORROWING, DominantShare, Usage
from domain.request import Request, requests
from domain.standing import TIERS
from domain.workload import Waiting
from domain.world import World


def in_rank_order(waiting: Iterable[Waiting], world: World, facts: Facts) -> list[Waiting]:
    """Workloads in the order of `semantics.md` 1: tier, quota band, dominant share, priority, age, id."""
    return sorted(waiting, key=lambda workload: _rank(workload, world.usage, facts))


def _rank(workload: Waiting, usage: Usage, facts: Facts) -> tuple[int, bool, DominantShare, int, datetime, str]:
    spec = workload.spec
    is_known = spec.queue in facts.tree.paths
    return (
        TIERS.index(spec.tier),
        not any(is_within_nominal(request, usage) for request in requests(workload) if request.opens_at <= facts.now),
        usage.dominant_share(spec.queue) if is_known else NOT_BORROWING,
        -spec.priority,
        workload.submitted_at,
        workload.id,
    )


def is_within_nominal(request: Request, usage: Usage) -> bool:
    """Whether the request's minimum would let its queue live on its own for one of the SKUs it accepts."""
    needed = request.gang.minimum_milli
    skus = request.target.skus or usage.tree.skus
    return not needed or any(usage.is_within_nominal(request.spec.queue, sku, needed) for sku in skus)
