"""What operators order that takes its time: evacuations and roll-outs."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.answers import Notice
from activities.store import evacuations, orders, rollouts
from activities.store.parts.transactions import Transactions, reading, telling, writing
from activities.store.rows import Journal
from corral.api import EvacuationOrder, EvacuationStatus, OperationChange
from corral.rollout import Change, RolloutOrder, RolloutState, RolloutStatus, WhatIf
from corral.wire import Steering
from domain.snapshot import Snapshot

LOOK_SECONDS = 10.0
"""How often (by the wall's clock) somebody looks how a roll-out goes."""


class Operations(Transactions):
    """Takes evacuations and roll-outs as far as they may go."""

    evacuations = reading(evacuations.evacuations)
    operations = reading(orders.operations)
    orders_under_way = reading(orders.under_way)

    async def evacuate(self, order: EvacuationOrder) -> tuple[EvacuationStatus, list[Notice]]:
        """Take an evacuation as far as it may go now, and note where that is.

        Raises:
            activities.ports.NotFound: nothing of that name is there.
            activities.ports.NotAllowed: the id belongs to another operation.
        """

        await self.close_place(order)
        notices = await self.tell_who_leaves_next(order)
        return await self.note_what_is_left(order), notices

    @writing
    async def close_place(self, connection: AsyncConnection, journal: Journal, order: EvacuationOrder) -> None:
        """Write an evacuation down and let nothing new go to its place."""
        policy = await self._policies.in_force(connection)
        if await evacuations.begin(connection, journal, order, policy.approvals):
            await self._supply_changed(connection, journal)

    @telling
    async def tell_who_leaves_next(self, connection: AsyncConnection, journal: Journal, order: EvacuationOrder) -> None:
        """Tell as many workloads to leave as may be under way besides those that are."""
        if await evacuations.tell_next(connection, journal, order, await self._attaining(connection)):
            await self._note_change(connection)

    @writing
    async def note_what_is_left(
        self, connection: AsyncConnection, journal: Journal, order: EvacuationOrder
    ) -> EvacuationStatus:
        """Write down how far an evacuation is, and its end where it has come."""
        return await evacuations.note_progress(connection, journal, order)

    @writing
    async def steer_evacuation(
        self,
        connection: AsyncConnection,
        journal: Journal,
        id: str,
        verb: Steering,
        change: OperationChange,
        key: str,
        order: EvacuationOrder | None = None,
    ) -> EvacuationStatus:
        """Pause, resume, abort, approve or reject an evacuation, once a key.

        Given the order, one that has not begun is written down as aborted, whoever begins it later.

        Raises:
            activities.ports.NotFound: there is no such evacuation.
            activities.ports.NotAllowed: it is over, or its state or the person does not allow it.
        """
        policy = await self._policies.in_force(connection)
        if order is not None and verb is Steering.ABORT:
            assert order.id == id, "it is that order's"
            await evacuations.call_off(connection, journal, order, change)
        status = await evacuations.steer(connection, journal, id, verb, change, policy.approvals, key)
        await self._supply_changed(connection, journal)
        return status

    async def remember_what_if(self, change: Change, found: WhatIf) -> None:
        """Keep what the token of a what-if stands for, for a day."""
        async with self._engine.begin() as connection:
            await rollouts.remember(connection, change, found, self._clock.now())

    async def begin_rollout(self, order: RolloutOrder) -> RolloutStatus:
        """Write a roll-out down, and apply it if the pool is as its token has it and nobody has to approve it; once.

        Raises:
            activities.ports.NotAllowed: the id belongs to another operation, or the token to another change.
        """
        return await self._rolling_out(lambda world: rollouts.begin(world, order))

    async def advance_rollout(self, id: str) -> RolloutStatus:
        """Do what is due of a roll-out: let it expire, look how it goes, take it back, or end it.

        Raises:
            activities.ports.NotFound: there is no such roll-out.
        """
        return await self._rolling_out(lambda world: rollouts.advance(world, id))

    async def steer_rollout(
        self, id: str, verb: Steering, change: OperationChange, key: str, order: RolloutOrder | None = None
    ) -> RolloutStatus:
        """Approve, reject or abort a roll-out, once a key; to ask for what is so already changes nothing.

        Given the order, one that has not begun is written down as aborted, whoever begins it later.

        Raises:
            activities.ports.NotFound: there is no such roll-out.
            activities.ports.NotAllowed: it is over, or its state or the person does not allow it.
        """

        async def step(world: rollouts.World) -> Row[Any]:
            if order is not None and verb is Steering.ABORT:
                assert order.id == id, "it is that order's"
                await rollouts.call_off(world, order, change)
            return await rollouts.steer(world, id, verb, change, key)

        return await self._rolling_out(step)

    async def _rolling_out(self, step: Callable[[rollouts.World], Awaitable[Row[Any]]]) -> RolloutStatus:
        async def work(connection: AsyncConnection, snapshot: Snapshot, now: datetime) -> RolloutStatus:
            row = await step(rollouts.World(connection, self._pool, snapshot, now))
            return rollouts.status_of(row, self._next_look(row, now))

        return await self._on_snapshot(work)

    def _next_look(self, row: Row[Any], now: datetime) -> float | None:
        """In how many seconds of the wall; one that lies under another is looked at, though its time has come."""
        if row.ended_at is not None:
            return None
        left = self._clock.wall_seconds(max(0.0, (row.due_at - now).total_seconds()))
        return min(left or LOOK_SECONDS, LOOK_SECONDS) if row.state == RolloutState.WATCHING else left
