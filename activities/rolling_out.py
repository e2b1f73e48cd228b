"""Rolling out: a change of policy or queues tried, applied, watched and taken back, step by step; and all operations told."""

import asyncio
import logging

from temporalio import activity

from activities.errors import final_failures, writable
from activities.liveness import staying_alive, this_call
from activities.ports import Store
from corral.api import OperationChange, OperationStatus
from corral.rollout import Change, RolloutOrder, RolloutState, RolloutStatus, WhatIf
from corral.wire import Inquiry, Steering
from domain.operations.rollout import what_if

log = logging.getLogger(__name__)


class RollingOut:
    """Activities of roll-outs. All that they have done stands in the record, from which each step goes on."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @activity.defn(name="rolling_out.begin")
    @staying_alive()
    async def begin(self, order: RolloutOrder) -> RolloutStatus:
        """Write a roll-out down, and apply it unless somebody has to approve it first."""
        with final_failures():
            return await self._store.begin_rollout(order)

    @activity.defn(name="rolling_out.advance")
    @staying_alive()
    async def advance(self, id: str) -> RolloutStatus:
        """Do what is due of a roll-out."""
        with final_failures():
            status = await self._store.advance_rollout(id)
        if status.state in {RolloutState.ROLLED_BACK, RolloutState.OVERTAKEN}:
            log.error("roll-out %s of %s is %s: %s", id, status.subject, status.state, status.trail[-1].reason)
        return status

    @activity.defn(name="rolling_out.steer")
    @staying_alive()
    async def steer(
        self, id: str, verb: Steering, change: OperationChange, key: str = "", order: RolloutOrder | None = None
    ) -> RolloutStatus:
        """Approve, reject or abort a roll-out, once a key; an older workflow gives none, and is known by its call.

        Given the order, one that has not begun can be aborted too, and never begins.
        """
        with final_failures():
            return await self._store.steer_rollout(id, verb, change, writable(key) or this_call(), order)

    @activity.defn(name=Inquiry.WHAT_IF)
    async def what_if(self, change: Change) -> WhatIf:
        """What a change would do to the pool as it is now, with the token to apply it; nothing else is changed."""
        snapshot, now = await self._store.look()
        with final_failures():
            found = await asyncio.to_thread(what_if, change, snapshot, now)
        if not any(finding.refuses for finding in found.findings):
            await self._store.remember_what_if(change, found)
        return found

    @activity.defn(name=Inquiry.OPERATIONS)
    async def operations(self, id: str | None, limit: int) -> list[OperationStatus]:
        """The newest operations of all kinds, those under way first, or the one of that id."""
        return await self._store.operations(id, limit)
