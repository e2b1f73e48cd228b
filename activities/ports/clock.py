"""The pool's clock."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """The pool's time, which may run faster than the wall's."""

    def now(self) -> datetime:
        """The pool's time, with time zone UTC."""

    def wall_seconds(self, pool_seconds: float) -> float:
        """How long a stretch of the pool's time lasts on the wall."""
