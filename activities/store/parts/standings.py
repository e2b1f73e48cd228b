"""How workloads stand, what happened to them, and what people change of them."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.answers import Adjusted, Adjustment, Notice, Standing
from activities.ports import NotFound
from activities.store import adjustments, endpoints, tables, views
from activities.store.parts.transactions import Transactions, reading
from activities.store.rows import Journal, WorkloadRow, open_attempts, standing_of
from corral.api import WorkloadFilter, WorkloadStatus


class Standings(Transactions):
    """Tells of workloads, and changes what people want of them."""

    events = reading(views.events)
    endpoints_to_ask = reading(endpoints.to_ask)

    async def status(self, workload: str) -> WorkloadStatus | None:
        """One workload, or none."""
        async with self._engine.connect() as connection:
            return await views.status(connection, workload, await self._attaining(connection))

    async def workloads(self, which: WorkloadFilter) -> list[WorkloadStatus]:
        """Workloads that match, newest first."""
        async with self._engine.connect() as connection:
            return await views.workloads(connection, which, await self._attaining(connection))

    async def standing(self, workload: str) -> Standing | None:
        """How a workload stands now, or none when there is none of that id."""
        async with self._engine.connect() as connection:
            rows = [
                WorkloadRow.of(row)
                for row in await connection.execute(select(tables.workloads).where(tables.workloads.c.id == workload))
            ]
            open_now = await open_attempts(connection, [workload])
            return standing_of(rows[0], open_now, self._clock) if rows else None

    async def adjust(self, verb: str, asked: Adjustment) -> tuple[Adjusted, list[Notice]]:
        """Do a change that somebody asked for, once.

        Raises:
            activities.ports.NotAllowed: the state does not allow it, and why.
            activities.ports.NotFound: there is no such workload.
        """

        async def work(connection: AsyncConnection, journal: Journal) -> str:
            message = await self._adjust(connection, journal, verb, asked)
            journal.to_tell.pop(asked.workload, None)  # its workflow hears of it by the answer
            return message

        message, notices = await self._write(work)
        standing = await self.standing(asked.workload)
        if standing is None:
            raise NotFound(f"there is no workload {asked.workload!r}")
        return Adjusted(message, standing), notices

    async def adjust_unasked(self, verb: str, asked: Adjustment) -> list[Notice]:
        """Do a change, once, that the workload's workflow did not ask for; answers with what it is to be told as well.

        Raises:
            activities.ports.NotAllowed: the state does not allow it, and why.
            activities.ports.NotFound: there is no such workload.
        """
        return (await self._write(lambda connection, journal: self._adjust(connection, journal, verb, asked)))[1]

    async def _adjust(self, connection: AsyncConnection, journal: Journal, verb: str, asked: Adjustment) -> str:
        message = await adjustments.once(connection, journal, verb, asked)
        await self._note_change(connection)
        return message

    async def done(self, verb: str, workload: str, key: str) -> Adjusted | None:
        """What was done of a change that somebody asked for by that key, and how the workload stands now."""
        async with self._engine.connect() as connection:
            message = await adjustments.done(connection, verb, workload, key)
        standing = await self.standing(workload) if message is not None else None
        return None if message is None or standing is None else Adjusted(message, standing)

    async def untouched_workloads(self, before: datetime, after: str, limit: int) -> list[str]:
        """Live workloads that nothing happened to since a time, by id, from behind one on, so many at most."""
        columns = tables.workloads.c
        untouched = columns.ended_at.is_(None), columns.since < before, columns.id > after
        query = select(columns.id).where(*untouched).order_by(columns.id).limit(limit)
        async with self._engine.connect() as connection:
            return list(await connection.scalars(query))
