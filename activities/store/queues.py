"""Queues and their quotas in the record, applied whole or not at all."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.store import tables
from activities.store.snapshots import QUEUE_COLUMNS, QUOTA_AMOUNTS, QUOTA_COLUMNS, read_queues
from corral.api import WHOLE, QueueSpec, QueueTree, QuotaSpec
from corral.policy import Policy
from domain.lint.rules import refusals
from domain.quota.tree import QuotaError, check_tree, merged


async def apply(connection: AsyncConnection, tree: QueueTree, policy: Policy, now: datetime) -> None:
    """Make the queues what the tree says; others stay as they are. A queue that does not say is as old as its first row.

    Raises:
        domain.quota.tree.QuotaError: the tree that would result contradicts itself or the policy; nothing is to be committed.
    """
    given = {queue.name for queue in tree.queues}
    known = await read_queues(connection)
    result = merged(tree, known)
    check_tree(result)
    if against := refusals(policy, result.queues):
        raise QuotaError("\n".join(map(str, against)))
    created = {queue.name: queue.created_at for queue in known}
    statement = insert(tables.queues)
    changing = QUEUE_COLUMNS - {"name"} | {"terms"}
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["name"],
            # The edit counts as a plan: a round that read the old quota must not commit.
            set_={name: statement.excluded[name] for name in changing} | {"plans": tables.queues.c.plans + 1},
        ),
        [_queue_values(queue, created.get(queue.name, now)) for queue in tree.queues],
    )
    await connection.execute(delete(tables.quotas).where(tables.quotas.c.queue.in_(given)))
    if quotas := list(_quota_values(tree.queues)):
        await connection.execute(insert(tables.quotas), quotas)


def _queue_values(queue: QueueSpec, created_at: datetime | None) -> dict[str, Any]:
    columns = queue.model_dump(include=QUEUE_COLUMNS)
    terms = queue.model_dump(mode="json", exclude_defaults=True, exclude={*QUEUE_COLUMNS, "quotas"})
    return columns | {"created_at": queue.created_at or created_at, "terms": terms}


def _quota_values(queues: Iterable[QueueSpec]) -> Iterable[dict[str, Any]]:
    for queue in queues:
        for quota in queue.quotas:
            yield {"queue": queue.name, **_row_of(quota)}


def _row_of(quota: QuotaSpec) -> dict[str, Any]:
    amounts = {
        name: None if amount is None else amount * WHOLE for name, amount in quota.model_dump(include=QUOTA_AMOUNTS).items()
    }
    columns = quota.model_dump(include=QUOTA_COLUMNS)
    terms = quota.model_dump(mode="json", exclude_defaults=True, exclude={*QUOTA_COLUMNS, *QUOTA_AMOUNTS})
    return columns | amounts | {"terms": terms}
