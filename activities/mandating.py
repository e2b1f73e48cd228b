"""Mandating: what people sign once for a schedule to order again and again, and take back."""

from collections.abc import Callable
from datetime import datetime

from temporalio import activity

from activities.errors import final_failures
from activities.ports import Store
from corral.schedule import MandateStatus, Revocation, ScheduleSpec
from corral.wire import Inquiry


class Mandating:
    """Activities that services run by themselves, beside the schedules that Temporal keeps."""

    def __init__(self, store: Store, wall: Callable[[], datetime], *, is_required: bool) -> None:
        """Require that what schedules order is signed for, where commands are signed."""
        self._store = store
        self._wall = wall
        self._is_required = is_required

    @activity.defn(name=Inquiry.MANDATE)
    async def mandate(self, spec: ScheduleSpec) -> list[MandateStatus]:
        """Write down what was signed for a schedule, once; nothing of one without an end, where nobody has to sign."""
        if spec.until is None and not self._is_required:
            return []
        with final_failures():
            return [await self._store.mandate(spec, self._wall())]

    @activity.defn(name=Inquiry.REVOKE_MANDATE)
    async def revoke(self, order: Revocation) -> list[MandateStatus]:
        """Take back a mandate, or those of a schedule; answers with those that it was about."""
        with final_failures():
            return await self._store.revoke(order)

    @activity.defn(name=Inquiry.MANDATES)
    async def mandates(self, limit: int) -> list[MandateStatus]:
        """The newest mandates of the pool."""
        return await self._store.mandates(limit)
