"""Accounts: what has run, hour by hour, as the record sums it up, and what that leaves of budgets."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from corral.api import QueueSpec
from domain.budgets import spent
from domain.flows import Flow, Flows

_CHANGED_SINCE = text("""
    SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS next, flows.*
    FROM (SELECT) AS once LEFT JOIN flows ON flows.changed >= :since""")
"""Rows changed by transactions that an earlier reader may not have seen, and the first that the next one may not have."""


@dataclass
class AccountBook:
    """The flows of every queue and SKU; only what has changed since the last time is read again."""

    _hours: dict[tuple[str, str], dict[int, tuple[Flow, Flow]]] = field(default_factory=dict)
    _flows: dict[tuple[str, str], Flows] = field(default_factory=dict)
    _next: int = 0

    async def refresh(self, connection: AsyncConnection) -> None:
        """Read what is new at the transaction's snapshot."""
        touched = set()
        for row in await connection.execute(_CHANGED_SINCE, {"since": self._next}):
            self._next = row.next
            if row.queue is not None:
                in_hour = Flow(row.hour, row.milli, int(row.milli_moment)), Flow(row.hour, int(row.cost), int(row.cost_moment))
                self._hours.setdefault((row.queue, row.sku), {})[row.hour] = in_hour
                touched.add((row.queue, row.sku))
        for key in touched:
            hours = self._hours[key]
            ordered = [hours[hour] for hour in sorted(hours)]
            self._flows[key] = Flows(tuple(milli for milli, _ in ordered), tuple(cost for _, cost in ordered))

    def flows(self) -> Mapping[tuple[str, str], Flows]:
        """The flows by queue and SKU."""
        return self._flows

    def spent(self, queues: Iterable[QueueSpec], now: datetime) -> dict[tuple[str, int], int]:
        """What is spent of each budget, by its queue and its place in it."""
        every = tuple(queues)
        parents = {queue.name: queue.parent for queue in every}
        return {
            (queue.name, index): spent(self._below(queue.name, parents), budget, now)
            for queue in every
            for index, budget in enumerate(queue.budgets)
        }

    def _below(self, node: str, parents: Mapping[str, str | None]) -> list[Flows]:
        """The flows of a queue and of all queues below it."""
        return [flows for (queue, _), flows in self._flows.items() if _is_below(queue, node, parents)]


def _is_below(queue: str | None, node: str, parents: Mapping[str, str | None]) -> bool:
    while queue is not None and queue != node:
        queue = parents.get(queue)
    return queue is not None
