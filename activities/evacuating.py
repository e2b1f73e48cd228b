"""Evacuating: emptying a place step by step, steering that, and telling beforehand what would become of it."""

import asyncio
import logging

from temporalio import activity

from activities.courier import Courier
from activities.errors import final_failures, writable
from activities.liveness import staying_alive, this_call
from activities.ports import NotFound, Store
from corral.api import EvacuationForecast, EvacuationOrder, EvacuationState, EvacuationStatus, OperationChange
from corral.wire import Inquiry, Steering
from domain.operations.evacuation import foreseen

log = logging.getLogger(__name__)


class Evacuating:
    """Activities of evacuations. All that they have done stands in the record, from which each step goes on."""

    def __init__(self, store: Store, courier: Courier, *, look_seconds: float = 1.0) -> None:
        self._store = store
        self._courier = courier
        self._look_seconds = look_seconds

    @activity.defn(name="evacuating.keep_moving")
    async def keep_moving(self, order: EvacuationOrder, known: int, seconds: float) -> EvacuationStatus:
        """Empty a place, until its status has a version later than the one that is known, or for a while."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while True:
            with final_failures():
                status, notices = await self._store.evacuate(order)
            self._courier.post(notices)
            activity.heartbeat(status.version)
            if status.version > known or status.state.is_over or loop.time() >= until or activity.is_worker_shutdown():
                break
            await asyncio.sleep(self._look_seconds)
        if status.state is EvacuationState.OVERDUE:
            left = (order.id, order.kind, order.place, status.left)
            log.error("evacuation %s of %s %s is overdue: %d workloads are still there", *left)
        return status

    @activity.defn(name="evacuating.steer")
    @staying_alive()
    async def steer(
        self, id: str, verb: Steering, change: OperationChange, key: str = "", order: EvacuationOrder | None = None
    ) -> EvacuationStatus:
        """Pause, resume or abort an evacuation, once a key; an older workflow gives none, and is known by its call.

        Given the order, one that has not begun can be aborted too, and never begins.
        """
        with final_failures():
            return await self._store.steer_evacuation(id, verb, change, writable(key) or this_call(), order)

    @activity.defn(name=Inquiry.EVACUATIONS)
    async def evacuations(self, limit: int) -> list[EvacuationStatus]:
        """The newest evacuations, those under way first."""
        return await self._store.evacuations(limit)

    @activity.defn(name=Inquiry.FORESEE_EVACUATION)
    async def foresee(self, order: EvacuationOrder) -> EvacuationForecast:
        """What an evacuation would do to the pool as it is now; nothing is changed."""
        snapshot, now = await self._store.look()
        forecast = await asyncio.to_thread(foreseen, order, snapshot, now)
        with final_failures():
            if forecast is None:
                raise NotFound(f"place: there is no {order.kind} {order.place!r}; `corral fleet nodes` lists what there is")
            return forecast
