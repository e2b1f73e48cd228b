"""The growth of the fleet: what providers can add, what is ordered of it, and what is given back."""

from collections.abc import Collection, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from activities.answers import FleetStep
from activities.ports import Grow, NodePoolView, ProvisioningView
from activities.store import growth
from activities.store.parts.transactions import Transactions, reading, writing
from activities.store.rows import Journal
from corral.api import DeliveryState, NodePoolStatus


class Growing(Transactions):
    """Orders nodes and gives them back."""

    given_back_but_there = reading(growth.given_back_but_there)
    order_to_ask = reading(growth.order_to_ask)
    nodes_to_give_back = reading(growth.nodes_to_give_back)
    provisionings = reading(growth.orders)

    @writing
    async def write_node_pools(
        self, connection: AsyncConnection, journal: Journal, provider: str, views: Sequence[NodePoolView]
    ) -> None:
        """Write what a provider can add."""
        if await growth.write_pools(connection, provider, views):
            await self._note_change(connection)

    @writing
    async def write_deliveries(
        self, connection: AsyncConnection, journal: Journal, provider: str, views: Sequence[ProvisioningView]
    ) -> list[str]:
        """Believe how far a provider is with its orders; answers with those that are none of this record."""
        return await growth.write_deliveries(connection, views, journal.now)

    async def grow(self, plan: Grow) -> list[FleetStep]:
        """Take the fleet's growth as far as it may go now; answers with what providers are to be asked for that.

        What is planned is written only if nobody else has ordered anything since the pool was read.
        """
        now = self._clock.now()
        async with self._engine.connect() as connection:
            rules = (await self._policies.in_force(connection)).growth
            if await growth.is_idle(connection, rules):
                return []

        async def keep_orders(connection: AsyncConnection, journal: Journal) -> growth.Stand:
            if await growth.keep_orders(connection, now, rules):
                await self._note_change(connection)
            return await growth.read_stand(connection, now, rules)

        stand, _ = await self._write(keep_orders)
        snapshot, now = await self.look()
        planned = await plan(snapshot, stand.courses, stand.closed.keys(), now)

        async def write(connection: AsyncConnection, journal: Journal) -> list[FleetStep]:
            if await growth.write_plan(connection, planned, stand.orders, now):
                await self._supply_changed(connection, journal)
            return await growth.steps(connection)

        return (await self._write(write))[0]

    async def order_taken(self, order: str) -> None:
        """Note that a provider has taken an order."""
        async with self._engine.begin() as connection:
            await growth.note_told(connection, order, self._clock.now())

    @writing
    async def order_failed(self, connection: AsyncConnection, journal: Journal, order: str, reason: str) -> None:
        """Close an order that its provider refuses."""
        await growth.end_order(connection, order, DeliveryState.FAILED, reason, journal.now)
        await self._note_change(connection)

    async def order_abandoned(self, order: str) -> None:
        """Note that nothing more can come of an order."""
        async with self._engine.begin() as connection:
            await growth.note_abandoned(connection, order, self._clock.now())

    @writing
    async def nodes_given_back(
        self, connection: AsyncConnection, journal: Journal, provider: str, names: Collection[str]
    ) -> None:
        """Note that a provider has taken nodes away."""
        await growth.note_given_back(connection, provider, names, journal.now)
        await self._supply_changed(connection, journal)

    async def node_pools(self) -> list[NodePoolStatus]:
        """What providers can add, and how far each pool is from what is wanted of it."""
        async with self._engine.connect() as connection:
            rules = (await self._policies.in_force(connection)).growth
            return await growth.node_pools(connection, self._clock.now(), rules)
