"""Forgetting: the record does not grow with what has ended long ago."""

from datetime import timedelta
from typing import Protocol


class Forgetting(Protocol):
    """Goes through what has ended, a stretch at a time."""

    async def forget_old(self, retention: timedelta) -> int:
        """Forget some of what ended longer ago than that, by the clock of the wall; answers with how many rows that were."""
