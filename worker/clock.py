"""The pool's time: the wall's, or a faster one for simulated fleets."""

from datetime import UTC, datetime

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PoolClock:
    """Pool time = origin + (wall - origin) * speed.

    It keeps nothing, so all processes with the same origin and speed agree on the time, and it never stands still.
    """

    def __init__(self, origin: datetime = EPOCH, speed: float = 1) -> None:
        """Run `speed` times as fast as the wall since `origin`, an instant with a time zone."""
        if origin.tzinfo is None:
            raise ValueError(f"the clock's origin {origin} has no time zone")
        if not speed > 0:
            raise ValueError(f"the clock's speed {speed} is not above 0")
        self._origin = origin.astimezone(UTC)
        self._speed = speed

    def now(self) -> datetime:
        """The pool's time, with time zone UTC."""
        return self.at(datetime.now(UTC))

    def at(self, wall: datetime) -> datetime:
        """The pool's time when the wall shows `wall`."""
        if self._speed == 1:
            return wall.astimezone(UTC)
        return self._origin + (wall - self._origin) * self._speed

    def wall_seconds(self, pool_seconds: float) -> float:
        """How long a stretch of the pool's time lasts on the wall."""
        return pool_seconds / self._speed
