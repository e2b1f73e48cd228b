"""The store: transactions over the record, each of them one step that is done whole, once, or not at all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from activities.ports import Clock
from activities.store import audit, fleet, migrations
from activities.store.connecting import connections_to, listen_at
from activities.store.figures import FigureReader, Figures
from activities.store.parts.attempts import Attempts
from activities.store.parts.forgetting import Forgetting
from activities.store.parts.growing import Growing
from activities.store.parts.mandates import Mandates
from activities.store.parts.operations import Operations
from activities.store.parts.outbox import Outbox
from activities.store.parts.reservations import Reservations
from activities.store.parts.restoring import Restoring
from activities.store.parts.rounds import Rounds
from activities.store.parts.rules import Rules
from activities.store.parts.signatures import Signatures
from activities.store.parts.standings import Standings
from activities.store.parts.supply import Supply
from activities.store.parts.transactions import reading
from corral.policy import Policy


class PostgresStore(
    Rounds,
    Standings,
    Attempts,
    Outbox,
    Signatures,
    Mandates,
    Supply,
    Growing,
    Operations,
    Reservations,
    Rules,
    Forgetting,
    Restoring,
):
    """The `Store` port on PostgreSQL, part by part; and what watches over the whole."""

    def __init__(self, engine: AsyncEngine, clock: Clock, pool: str, policy: Policy | None = None) -> None:
        super().__init__(engine, clock, pool, policy)
        self._figures, self._figures_turn = FigureReader(pool), asyncio.Lock()

    audit = reading(audit.audit)
    require_usable = reading(migrations.require_usable)

    @classmethod
    def connect(cls, url: str, clock: Clock, pool: str, policy: Policy | None = None) -> "PostgresStore":
        """Use the database at a URL of the form `postgresql+asyncpg://user@host:port/name`."""
        return cls(connections_to(url), clock, pool, policy)

    async def aclose(self) -> None:
        """Close all connections; a round that is being decided comes to nothing."""
        self._thinker.close()
        await self._engine.dispose()

    async def wall(self) -> datetime:
        """What PostgreSQL's own clock shows."""
        async with self._engine.connect() as connection:
            shown: datetime = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
            return shown

    async def figures(self) -> Figures:
        """Figures of the pool for those who watch over it; the same whichever process asks."""
        async with self._figures_turn, self._engine.connect() as plain:
            connection = await plain.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            policy = await self._policies.in_force(connection)
            return await self._figures.read(connection, self._clock.now(), policy.limits.sku_classes)

    @asynccontextmanager
    async def wake_ups(self) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever something changed that could let waiting work start, by whatever process."""
        woken = asyncio.Event()

        def wake(_connection: object, _pid: int, _channel: str, pool: object) -> None:
            if pool == self._pool:
                woken.set()

        connection = await listen_at(self._engine.url)
        try:
            connection.add_termination_listener(lambda _: woken.set())
            await connection.add_listener(fleet.CHANNEL, wake)
            yield woken
        finally:
            await connection.close(timeout=2)
