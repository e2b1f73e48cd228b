"""Roll: who is here, so that whoever keeps count only has to look at who came and who went."""

from collections.abc import Iterable
from typing import Generic, NamedTuple, TypeVar

from domain.pool.versions import Crowd

T = TypeVar("T")


class Turnover(NamedTuple, Generic[T]):
    """What is no longer on a roll, and what is new on it. Whatever has changed is both: as it was, and as it is."""

    gone: list[T]
    come: list[T]


class Roll(Generic[T]):
    """Values that cannot change, told apart by which object they are: one that is the same has not changed.

    Of a crowd that is another version of the one before, only what is different is looked at.
    """

    def __init__(self) -> None:
        self._here: dict[int, T] = {}
        self._crowd: Crowd[T] | None = None

    def take(self, *parts: Iterable[T]) -> Turnover[T]:
        """Put all in these parts on the roll, and nobody else; tells what that changes."""
        crowd = next((part for part in parts if isinstance(part, Crowd)), None)
        here = {id(each): each for part in parts if part is not crowd for each in part}
        gone, come = _between(self._crowd, crowd)
        before = {**gone, **self._here} if gone else self._here
        now = {**come, **here} if come else here
        self._crowd, self._here = crowd, here
        return Turnover(_without(before, now), _without(now, before))


def _without(some: dict[int, T], others: dict[int, T]) -> list[T]:
    return [each for key, each in some.items() if key not in others]


def _between(before: Crowd[T] | None, now: Crowd[T] | None) -> tuple[dict[int, T], dict[int, T]]:
    """By object, who is no longer in a crowd, and who is new in it."""
    changes = now.by_name.since(before.by_name) if now is not None and before is not None else None
    if changes is None:
        return {id(each): each for each in before or ()}, {id(each): each for each in now or ()}
    return (
        {id(each.before): each.before for each in changes.values() if each.before is not None},
        {id(each.now): each.now for each in changes.values() if each.now is not None},
    )
