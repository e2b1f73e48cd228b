"""Mandates: what was signed for schedules to order."""

from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from activities.store import mandates
from activities.store.parts.transactions import Transactions
from corral.schedule import MandateStatus, Revocation, ScheduleSpec
from domain.operations.mandates import Mandate, require_signable


class Mandates(Transactions):
    """Writes mandates down, tells of them, and takes them back."""

    async def mandate(self, spec: ScheduleSpec, now: datetime) -> MandateStatus:
        """Write down what was signed for a schedule, once; `now` is by the clock of the wall.

        Raises:
            domain.operations.mandates.BadMandate: the policy in force, or this pool, does not allow it, or its end is unknown.
            domain.calendar.cron.BadCron: nobody could tell its times.
            activities.ports.NotAllowed: it was revoked.
        """
        async with self._engine.begin() as connection:
            require_signable(spec, self._pool, await self._longest(connection), now)
            return await mandates.write(connection, spec, now)

    async def mandate_of(self, id: str) -> Mandate | None:
        """The mandate of that id as it stands now, or none."""
        async with self._engine.connect() as connection:
            return await mandates.find(connection, self._pool, id, await self._longest(connection))

    async def revoke(self, order: Revocation) -> list[MandateStatus]:
        """Take back a mandate, or those of a schedule, once; answers with those that it was about.

        Raises:
            activities.ports.NotFound: there is no such mandate.
        """
        async with self._engine.begin() as connection:
            return await mandates.revoke(connection, self._pool, order)

    async def mandates(self, limit: int) -> list[MandateStatus]:
        """The newest mandates of the pool."""
        async with self._engine.connect() as connection:
            return await mandates.statuses(connection, self._pool, limit=limit)

    async def _longest(self, connection: AsyncConnection) -> timedelta:
        return timedelta(seconds=(await self._policies.in_force(connection)).approvals.mandate_seconds)
