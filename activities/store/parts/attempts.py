"""Attempts: from the hold over what providers tell of them to their end."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.answers import AttemptKey, Notice, OpenAttempt, Standing
from activities.ports import LaunchSpec, Observation, StopOrder
from activities.store import attempts, leaving, remnants, resizing, tables
from activities.store.accounts import note_capacity
from activities.store.housekeeping import housekeeping_due
from activities.store.parts.transactions import Transactions, reading, telling, writing
from activities.store.rows import Journal


class Attempts(Transactions):
    """Takes attempts on by what is decided, asked and observed."""

    stop_order = reading(resizing.stop_order)

    @writing
    async def begin_bindings(
        self, connection: AsyncConnection, journal: Journal, keys: Sequence[AttemptKey]
    ) -> list[LaunchSpec | None]:
        """Turn holds in force into launches, or find that this was done; none where an epoch has no right to it any more."""
        return await attempts.begin_bindings(connection, journal, keys)

    async def noticed(self, key: AttemptKey, notice: int) -> list[Notice]:
        """Note that the provider has given a notice: the grace runs."""
        return await self._heard(leaving.note_noticed, key, notice)

    @telling
    async def start_anew(self, connection: AsyncConnection, journal: Journal, key: AttemptKey, notice: int, why: str) -> None:
        """Note that an attempt cannot get another size as it runs: by a notice of its own, all of it is to leave."""
        await resizing.start_anew(connection, journal, key, notice, why)

    async def kept(self, key: AttemptKey, notice: int) -> list[Notice]:
        """Note that the provider has taken a notice back."""
        return await self._heard(leaving.note_kept, key, notice)

    async def _heard(
        self, note: Callable[[AsyncConnection, Journal, AttemptKey, int], Awaitable[bool]], key: AttemptKey, notice: int
    ) -> list[Notice]:
        async def work(connection: AsyncConnection, journal: Journal) -> None:
            if await note(connection, journal, key, notice):
                await self._note_change(connection)

        return (await self._write(work))[1]

    async def settle(
        self, observations: Sequence[Observation], answered: frozenset[str] = frozenset()
    ) -> tuple[dict[str, Standing], list[Notice]]:
        """Believe what was observed of attempts; capacity that became free goes to whom it is promised, or to everybody."""

        async def work(connection: AsyncConnection, journal: Journal) -> Callable[[], dict[str, Standing]]:
            if await attempts.settle(connection, journal, observations, answered):
                await self._note_change(connection)
            return lambda: {workload: journal.standing(workload) for workload in journal.workloads}

        standings, notices = await self._write(work)
        return standings(), notices

    @telling
    async def refuse_binding(
        self, connection: AsyncConnection, journal: Journal, key: AttemptKey, reason: str, *, final: bool
    ) -> None:
        """Take an attempt back that its provider will not run."""
        await attempts.refuse_binding(connection, journal, key, reason, final=final)
        await self._note_change(connection)

    async def keep_house(self) -> list[Notice]:
        """End attempts whose hold expired, give notice to work on draining nodes, and urge on what leaves too slowly."""
        async with self._engine.connect() as connection:
            now, policy = self._clock.now(), await self._policies.in_force(connection)
            slow = await leaving.overdue(connection, now, policy.stop_seconds)
            if not slow and not await housekeeping_due(connection, now):
                return []

        async def work(connection: AsyncConnection, journal: Journal) -> None:
            await attempts.end_overdue(connection, journal)
            await attempts.urge_on(connection, journal, slow, policy.stop_seconds)
            await note_capacity(connection, journal.now)
            await self._note_change(connection)

        return (await self._write(work))[1]

    async def open_attempts_at(self, provider: str) -> list[OpenAttempt]:
        """Attempts that are open in the record and have been sent to a provider."""
        columns = tables.attempts.c
        query = select(columns.id, columns.workload_id, columns.epoch, columns.started_at, columns.stop_at).where(
            columns.provider == provider, columns.ended_at.is_(None), columns.bound_at.is_not(None)
        )
        async with self._engine.connect() as connection:
            clusters = await self._clusters_of_open(connection, provider)
            return [
                OpenAttempt(
                    id=row.id,
                    key=AttemptKey(row.workload_id, row.epoch),
                    has_run=row.started_at is not None,
                    is_leaving=row.stop_at is not None,
                    clusters=clusters.get(row.id, frozenset()),
                )
                for row in await connection.execute(query)
            ]

    async def remnants_due(self, provider: str, older_than_seconds: float) -> list[StopOrder]:
        """What a provider is to be told again: to stop replicas by force that did not leave some (wall) time ago."""
        async with self._engine.connect() as connection:
            return await remnants.orders_due(connection, provider, self._ago(older_than_seconds))

    async def _clusters_of_open(self, connection: AsyncConnection, provider: str) -> dict[str, frozenset[str]]:
        rooms, nodes, columns = tables.rooms.c, tables.nodes.c, tables.attempts.c
        query = (
            select(rooms.attempt_id, func.array_agg((nodes.region + "/" + nodes.cluster).distinct()).label("clusters"))
            .join(tables.nodes, nodes.id == rooms.node_id)
            .join(tables.attempts, columns.id == rooms.attempt_id)
            .where(columns.provider == provider, columns.ended_at.is_(None), columns.bound_at.is_not(None))
            .group_by(rooms.attempt_id)
        )
        return {row.attempt_id: frozenset(row.clusters) for row in await connection.execute(query)}

    async def stops_due(self, provider: str, older_than_seconds: float) -> list[AttemptKey]:
        """Attempts at a provider that were to stop some (wall) time ago, and have not been observed gone."""
        columns = tables.attempts.c
        query = select(columns.workload_id, columns.epoch).where(
            columns.provider == provider, columns.ended_at.is_(None), columns.stop_at < self._ago(older_than_seconds)
        )
        async with self._engine.connect() as connection:
            return [AttemptKey(row.workload_id, row.epoch) for row in await connection.execute(query)]

    def _ago(self, wall_seconds: float) -> datetime:
        """The pool's time so many seconds of the wall ago."""
        return self._clock.now() - timedelta(seconds=wall_seconds / self._clock.wall_seconds(1))
