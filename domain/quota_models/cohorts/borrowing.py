"""Borrowing: how far from home a queue's quota comes, and who uses more than its own (Kueue, `resource_node.go`)."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from domain.pool.fleet import Amount
from domain.quota.tree import QuotaTree
from domain.quota.usage import Usage
from domain.quota_models.cohorts.setting import Hierarchy

Needs = Mapping[str, Amount]
"""What work needs, in thousandths, by SKU; or by row, where each row of a queue bounds a SKU or a class of them."""


def by_row(needs: Needs, queue: str, tree: QuotaTree) -> dict[str, Amount]:
    """What needs by SKU count under each name that a row of the queue has."""
    rows: dict[str, Amount] = {}
    for sku, need in needs.items():
        for row in tree.rows(queue, sku):
            rows[row] = rows.get(row, 0) + need
    return rows


def borrows(usage: Usage, node: str, row: str, more: Amount = 0) -> bool:
    """Whether a node of the tree uses more than it may dispose of, or would with this much more."""
    standing = usage.tree.standings.get((node, row))
    return standing is not None and usage.use(node, row).charged + more > standing.subtree


def borrows_any(usage: Usage, node: str, rows: Iterable[str]) -> bool:
    """Whether it borrows under any of these names."""
    return any(borrows(usage, node, row) for row in rows)


def kept(usage: Usage, node: str, row: str) -> Amount:
    """What the node lends to nobody and does not use."""
    standing = usage.tree.standings.get((node, row))
    return max(0, standing.guaranteed - usage.use(node, row).charged) if standing else 0


def beyond(usage: Usage, node: str, needs: Needs) -> dict[str, Amount]:
    """The part of the needs, by row, that what the node keeps does not cover, and that so counts against its parent."""
    return {row: max(0, need - kept(usage, node, row)) for row, need in needs.items()}


class Reach(NamedTuple):
    """The height of the smallest part of the tree that has the quota (0: the queue itself), and whether more lies above."""

    level: int
    is_inside: bool


def reach(usage: Usage, queue: str, needs: Needs, hierarchy: Hierarchy) -> Reach:
    """How far the queue must reach for this much more, by row, at the furthest."""
    reached = [_reach(usage, queue, row, need, hierarchy) for row, need in needs.items()]
    level = max((each.level for each in reached), default=0)
    return Reach(level, all(each.is_inside for each in reached))


def _reach(usage: Usage, queue: str, row: str, need: Amount, hierarchy: Hierarchy) -> Reach:
    """As far as the root where even that has not enough (Kueue, `FindHeightOfLowestSubtreeThatFits`)."""
    _, *above = usage.tree.paths[queue]
    if not above or not borrows(usage, queue, row, need):
        return Reach(0, bool(above))
    missing = need - kept(usage, queue, row)
    for node in above:
        if not borrows(usage, node, row, missing):
            return Reach(hierarchy.heights[node], node != above[-1])
        missing -= kept(usage, node, row)
    return Reach(hierarchy.heights[above[-1]], False)
