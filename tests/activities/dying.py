"""Deaths of a worker: a call has its effect, and whoever made it hears nothing and does nothing more."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Death(Exception):
    """The worker is no more."""


@contextmanager
def death_after(thing: object, call: str, time: int = 1) -> Iterator[None]:
    """Let the worker die right after it has made a call for that time; it must come to that."""
    made, times = getattr(thing, call), 0

    async def last(*given: Any, **more: Any) -> Any:
        nonlocal times
        answer = await made(*given, **more)
        times += 1
        if times == time:
            raise Death(call)
        return answer

    setattr(thing, call, last)
    is_dead = False
    try:
        yield
    except* Death:
        is_dead = True
    finally:
        delattr(thing, call)
    assert is_dead, f"nobody has come to {call}"
