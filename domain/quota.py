"""Quota: the tree of queues and cohorts, and how much of it a request may use."""

from dataclasses import dataclass

from corral.api import QueueSpec, QueueTree
from domain.fleet import Amount


class QuotaError(ValueError):
    """The tree contradicts itself; the message says where and what was expected."""


def check_tree(tree: QueueTree) -> None:
    """Refuse names given twice, parents that do not exist, and cycles.

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
                raise QuotaError(
                    f"queues[{index}].parent: the parents form a cycle: {' -> '.join([*path, parent])}; one of them must be a root"
                )
            path.append(parent)


@dataclass(frozen=True, slots=True)
class Quota:
    """Quota of one node of the tree for one SKU, in thousandths of an accelerator; none does not limit."""

    nominal: Amount = 0
    floor: Amount = 0
    cap: Amount | None = None
    borrowing_limit: Amount | None = None
    lending_limit: Amount | None = None
