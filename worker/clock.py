"""The pool's time: the wall's, or a faster one for simulated fleets."""

from collections.abc import Callable
from datetime import UTC, datetime

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def this_machines_wall() -> datetime:
    """What the wall clock of this machine shows, with time zone UTC."""
    return datetime.now(UTC)


class PoolClock:
    """Pool time = origin + (wall - origin) * speed.

    It keeps nothing, so all processes with the same origin, speed and wall agree on the time.
    """

    def __init__(self, origin: datetime = EPOCH, speed: float = 1, wall: Callable[[], datetime] = this_machines_wall) -> None:
        """Run `speed` times as fast as the wall since `origin`, an instant with a time zone."""
        if origin.tzinfo is None:
            raise ValueError(f"the clock's origin {origin} has no time zone")
        if not speed > 0:
            raise ValueError(f"the clock's speed {speed} is not above 0")
        self._origin = origin.astimezone(UTC)
        self._speed = speed
        self._wall = wall

    def now(self) -> datetime:
        """The pool's time, with time zone UTC."""
        return self.at(self._wall())

    def at(self, wall: datetime) -> datetime:
        """The pool's time when the wall shows `wall`."""
        if self._speed == 1:
            return wall.astimezone(UTC)
        return self._origin + (wall - self._origin) * self._speed

    def wall_seconds(self, pool_seconds: float) -> float:
        """How long a stretch of the pool's time lasts on the wall."""
        return pool_seconds / self._speed
