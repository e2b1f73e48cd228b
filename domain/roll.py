"""Roll: who is here, so that whoever keeps count only has to look at who came and who went."""

from collections.abc import Iterable
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Turnover(NamedTuple, Generic[T]):
    """What is no longer on a roll, and what is new on it. Whatever has changed is both: as it was, and as it is."""

    gone: list[T]
    come: list[T]


class Roll(Generic[T]):
    """Values that cannot change, told apart by which object they are: one that is the same has not changed."""

    def __init__(self) -> None:
        self._here: dict[int, T] = {}

    def take(self, everybody: Iterable[T]) -> Turnover[T]:
        """Put these on the roll, and nobody else; tells what that changes."""
        before, self._here = self._here, {id(each): each for each in everybody}
        now = self._here
        return Turnover([before[key] for key in before.keys() - now.keys()], [now[key] for key in now.keys() - before.keys()])
