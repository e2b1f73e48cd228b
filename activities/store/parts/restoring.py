"""Restoring: a record that comes from a backup is older than what has happened, and counts all the same."""

from collections.abc import Collection

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.store import clusters, tables
from activities.store.bulk import among
from activities.store.connecting import IDLE
from activities.store.parts.transactions import Transactions, writing
from activities.store.rows import Journal, WorkloadRow, open_attempts
from domain.pool.leases import LeaseTerms

LEAP = 1_000_000
"""By so much versions are raised: further than a workload comes between a backup and the loss of what followed it."""

AS_LONG_AS_IT_TAKES = select(func.set_config(IDLE, "0", True))
"""Nobody waits for rows of a record that no worker serves."""

_WORKLOADS = tables.workloads.c


class Restoring(Transactions):
    """Takes up a record that was restored, while no worker serves its pool."""

    @writing
    async def take_up(self, connection: AsyncConnection, journal: Journal, terms: LeaseTerms) -> int:
        """Let the workflow of every live workload hear how it stands by the record; answers with how many these are.

        What they know themselves has newer versions, so that what the record says would be old to them. So it is with
        operations, whose workflows ask by themselves.
        """
        await connection.execute(AS_LONG_AS_IT_TAKES)
        live = _WORKLOADS.ended_at.is_(None)
        await connection.execute(update(tables.workloads).where(live).values(version=_WORKLOADS.version + LEAP))
        under_way = tables.orders.c.ended_at.is_(None)
        await connection.execute(update(tables.orders).where(under_way).values(version=tables.orders.c.version + LEAP))
        query = select(tables.workloads).where(live).order_by(_WORKLOADS.id).with_for_update()
        rows = [WorkloadRow.of(row) for row in await connection.execute(query)]
        journal.learn(await open_attempts(connection, [row.id for row in rows]))
        for row in rows:
            journal.change(row)
            journal.note(row.id, "restored", "the record was restored from a backup; this is how it stood by that")
            journal.tell(row.id)
        await clusters.doubt(connection, journal.now, terms)
        await connection.execute(update(tables.pools).values(removals=tables.pools.c.removals + 1))
        await self._note_change(connection)
        return len(rows)

    async def known(self, workloads: Collection[str]) -> set[str]:
        """Those of the workloads that are in the record."""
        async with self._engine.connect() as connection:
            return set(await connection.scalars(select(_WORKLOADS.id).where(among(_WORKLOADS.id, workloads))))
