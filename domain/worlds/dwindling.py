"""Dwindling: what was found to have no room, remembered for as long as room only becomes less."""

from collections.abc import Hashable


class _Course:
    """Stages that follow each other."""

    __slots__ = ("latest", "refused")

    def __init__(self) -> None:
        self.latest = 0
        self.refused: dict[Hashable, int] = {}
        """By what found no room, the first stage at which that was seen."""


class Stage:
    """How much room there is at one point of a course, on which there is never more than before.

    What found no room at one stage finds none at those that follow. It may be asked at an earlier one all the same.
    """

    __slots__ = ("_course", "_number")

    def __init__(self, course: _Course | None = None, number: int = 0) -> None:
        self._course, self._number = course or _Course(), number

    def next(self) -> "Stage":
        """The stage after this, with as much room or less; where another one follows already, the first of another course."""
        course = self._course
        if course.latest != self._number:
            return Stage()
        course.latest += 1
        return Stage(course, course.latest)

    def refuses(self, wish: Hashable) -> bool:
        """Whether it is known that a wish finds no room here."""
        since = self._course.refused.get(wish)
        return since is not None and since <= self._number

    def refuse(self, wish: Hashable) -> None:
        """Remember that a wish finds no room here."""
        refused = self._course.refused
        refused[wish] = min(self._number, refused.get(wish, self._number))
