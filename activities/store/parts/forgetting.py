"""Forgetting: the record does not grow with what has ended long ago."""

from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from activities.ports import Clock
from activities.store.forgetting import RULES, Horizon, Walk
from activities.store.parts.transactions import Transactions, again_on_conflict
from corral.policy import Policy


class Forgetting(Transactions):
    """Goes through what has ended, a stretch at a time."""

    def __init__(self, engine: AsyncEngine, clock: Clock, pool: str, policy: Policy | None = None) -> None:
        super().__init__(engine, clock, pool, policy)
        self._walk = Walk(pool)

    async def forget_old(self, retention: timedelta) -> int:
        """Forget some of what ended longer ago than that, by the clock of the wall; answers with how many rows that were."""

        async def some() -> int:
            async with self._engine.begin() as connection:
                horizon = await self._horizon(connection, retention)
                return sum([await self._walk.step(connection, rule, horizon) for rule in RULES])

        return await again_on_conflict(some)

    async def _horizon(self, connection: AsyncConnection, retention: timedelta) -> Horizon:
        wall = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
        return Horizon(wall - retention, self._clock.now() - retention / self._clock.wall_seconds(1))
