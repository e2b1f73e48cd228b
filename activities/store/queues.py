"""Queues and their quotas in the record, applied whole or not at all."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.store import tables
from activities.store.snapshots import read_queues
from corral.api import WHOLE, QueueSpec, QueueTree, QuotaSpec
from domain.quota import check_tree


async def apply(connection: AsyncConnection, tree: QueueTree) -> None:
    """Make the queues what the tree says; others stay as they are.

    Raises:
        domain.quota.QuotaError: the tree that would result contradicts itself; nothing is to be committed.
    """
    given = {queue.name for queue in tree.queues}
    kept = tuple(queue for queue in await read_queues(connection) if queue.name not in given)
    check_tree(QueueTree.model_construct(queues=(*tree.queues, *kept)))
    statement = insert(tables.queues)
    changing = ("parent", "weight", "stop", "minimum_runtime_seconds")
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["name"],
            # The edit counts as a plan: a round that read the old quota must not commit.
            set_={name: statement.excluded[name] for name in changing} | {"plans": tables.queues.c.plans + 1},
        ),
        [_queue_values(queue) for queue in tree.queues],
    )
    await connection.execute(delete(tables.quotas).where(tables.quotas.c.queue.in_(given)))
    if quotas := list(_quota_values(tree.queues)):
        await connection.execute(insert(tables.quotas), quotas)


def _queue_values(queue: QueueSpec) -> dict[str, Any]:
    return {
        "name": queue.name,
        "parent": queue.parent,
        "weight": queue.weight,
        "stop": queue.stop,
        "minimum_runtime_seconds": queue.minimum_runtime_seconds,
    }


def _quota_values(queues: Iterable[QueueSpec]) -> Iterable[dict[str, Any]]:
    for queue in queues:
        for quota in queue.quotas:
            yield {"queue": queue.name, **_in_thousandths(quota)}


def _in_thousandths(quota: QuotaSpec) -> dict[str, Any]:
    amounts = {
        name: None if amount is None else amount * WHOLE
        for name, amount in quota.model_dump(include={"nominal", "floor", "cap", "borrowing_limit", "lending_limit"}).items()
    }
    return {"sku": quota.sku, "valid_from": quota.valid_from, "valid_until": quota.valid_until, **amounts}
