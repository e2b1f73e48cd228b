"""The store: transactions over the record, each of them one step that is done whole, once, or not at all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from activities.ports import Clock
from activities.store import audit, fleet
from activities.store.figures import FigureReader, Figures
from activities.store.parts.attempts import Attempts
from activities.store.parts.growing import Growing
from activities.store.parts.mandates import Mandates
from activities.store.parts.operations import Operations
from activities.store.parts.outbox import Outbox
from activities.store.parts.reservations import Reservations
from activities.store.parts.rounds import Rounds
from activities.store.parts.rules import Rules
from activities.store.parts.signatures import Signatures
from activities.store.parts.standings import Standings
from activities.store.parts.supply import Supply
from activities.store.parts.transactions import reading
from corral.policy import Policy


class PostgresStore(
    Rounds, Standings, Attempts, Outbox, Signatures, Mandates, Supply, Growing, Operations, Reservations, Rules
):
    """The `Store` port on PostgreSQL, part by part; and what watches over the whole."""

    def __init__(self, engine: AsyncEngine, clock: Clock, pool: str, policy: Policy | None = None) -> None:
        super().__init__(engine, clock, pool, policy)
        self._figures, self._figures_turn = FigureReader(pool), asyncio.Lock()

    audit = reading(audit.audit)

    @classmethod
    def connect(cls, url: str, clock: Clock, pool: str, policy: Policy | None = None) -> "PostgresStore":
        """Use the database at a URL of the form `postgresql+asyncpg://user@host:port/name`."""
        # The connection that was used last knows most statements: few connections, and each with room for all of them.
        room_for_statements = {"prepared_statement_cache_size": 500}
        engine = create_async_engine(url, pool_size=8, max_overflow=4, pool_use_lifo=True, connect_args=room_for_statements)
        return cls(engine, clock, pool, policy)

    async def aclose(self) -> None:
        """Close all connections; a round that is being decided comes to nothing."""
        self._thinker.close()
        await self._engine.dispose()

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

        url = self._engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        connection = await asyncpg.connect(url)
        try:
            connection.add_termination_listener(lambda _: woken.set())
            await connection.add_listener(fleet.CHANNEL, wake)
            yield woken
        finally:
            await connection.close(timeout=2)
