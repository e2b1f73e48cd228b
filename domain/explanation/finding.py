"""Findings: what the supplies answered to a request, and which of their rules got furthest."""

from collections.abc import Iterable
from dataclasses import dataclass

from corral.api import Reason
from domain.decision import Rejection
from domain.worlds.request import Request
from domain.worlds.world import Supply


@dataclass(frozen=True, slots=True)
class Finding:
    """What one supply answered to one request, and how many nodes that concerns."""

    rejection: Rejection
    request: Request
    supply: Supply
    nodes: int

    @property
    def shortage(self) -> int:
        """How much is missing, in the unit of the rejection."""
        return self.rejection.needs - self.rejection.has


OF_ROOM = (
    Reason.TOO_FEW_DOMAINS,
    Reason.TOPOLOGY_DOMAIN_TOO_SMALL,
    Reason.NODES_TAKE_NO_MORE_REPLICAS,
    Reason.NOT_ENOUGH_FREE_CPU_OR_MEMORY,
    Reason.NOT_ENOUGH_FREE_ACCELERATORS,
)
"""The last rules, which look at what is free."""

FURTHEST_FIRST = (
    *OF_ROOM,
    Reason.NODE_TOO_SMALL,
    Reason.BORROWING_LIMIT_REACHED,
    Reason.QUEUE_CAP_REACHED,
    Reason.WAITING_FOR_QUOTA,
    Reason.USER_LIMIT_REACHED,
    Reason.USER_RUNNING_LIMIT_REACHED,
    Reason.BUDGET_EXHAUSTED,
    Reason.NODE_NOT_SELECTED,
    Reason.KEPT_FOR_OTHERS,
    Reason.NODE_NOT_READY,
    Reason.NODE_NOT_THERE,
    Reason.FORBIDDEN_BY_POLICY,
    Reason.TAINT_NOT_TOLERATED,
    Reason.CAPACITY_TYPE_NOT_ACCEPTED,
    Reason.PROVIDER_NOT_ACCEPTED,
    Reason.REGION_NOT_ACCEPTED,
    Reason.SKU_NOT_ACCEPTED,
)
"""The rules, from the last that a candidate meets to the first: the one that stopped whoever got furthest dominates."""


def dominant(findings: Iterable[Finding]) -> Finding:
    """The finding that got furthest; among equals the one that is short by least."""
    return min(findings, key=_furthest)


def _furthest(finding: Finding) -> tuple[int, int, Supply, int]:
    reason = finding.rejection.reason
    return FURTHEST_FIRST.index(reason), finding.shortage, finding.supply, finding.request.index or 0
