"""The outbox: what workflows are to be told, until they have been."""

from collections.abc import Sequence
from typing import Protocol

from activities.answers import Notice


class Outbox(Protocol):
    """Keeps what workflows are to be told."""

    async def delivered(self, notices: Sequence[Notice]) -> None:
        """Note that workflows have been told."""

    async def undelivered(self, older_than_seconds: float, limit: int = 500) -> list[Notice]:
        """What was to be told some (wall) time ago, and may not have been."""
