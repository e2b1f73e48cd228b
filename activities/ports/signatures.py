"""What was signed: orders, and mandates for what schedules order."""

from datetime import datetime
from typing import Protocol

from corral.api import OrderRecord
from corral.schedule import MandateStatus, Revocation, ScheduleSpec


class Signatures(Protocol):
    """Tells who ordered what, and keeps mandates."""

    async def orders(self, subject: str | None, limit: int) -> list[OrderRecord]:
        """The newest orders that were signed, of all or of one workflow by its id."""
        ...

    async def mandate(self, spec: ScheduleSpec, now: datetime) -> MandateStatus:
        """Write down what was signed for a schedule, once; `now` is by the clock of the wall.

        Raises:
            domain.operations.mandates.BadMandate: the policy in force, or this pool, does not allow it, or its end is unknown.
            domain.calendar.cron.BadCron: nobody could tell its times.
            NotAllowed: it was revoked.
        """
        ...

    async def revoke(self, order: Revocation) -> list[MandateStatus]:
        """Take back a mandate, or those of a schedule, once; answers with those that it was about.

        Raises:
            NotFound: there is no such mandate.
        """
        ...

    async def mandates(self, limit: int) -> list[MandateStatus]:
        """The newest mandates of the pool."""
        ...
