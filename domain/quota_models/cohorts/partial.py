"""Partial admission: as much of a gang as starts, each group giving up the same part of what it may (Kueue)."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from domain.worlds.request import Request

Answer = TypeVar("Answer")


def with_counts(request: Request, counts: Sequence[int]) -> Request:
    """The request for exactly this many replicas of each group."""
    shapes = zip(request.gang.shapes, counts, strict=True)
    return replace(request, gang=replace(request.gang, shapes=tuple(replace(shape, count=n, minimum=n) for shape, n in shapes)))


def counts_between(
    request: Request, attempt: Callable[[Sequence[int]], Answer], succeeds: Callable[[Answer], bool]
) -> Answer | None:
    """The first success as the counts fall step by step toward the minima, found by bisection; none where even they fail."""
    spare = [shape.count - shape.minimum for shape in request.gang.shapes]
    steps = sum(spare)
    answers: dict[int, Answer] = {}

    def counts(step: int) -> Sequence[int]:
        return [shape.count - most * step // steps for shape, most in zip(request.gang.shapes, spare, strict=True)]

    def is_too_few(step: int) -> bool:
        return sum(counts(step)) < request.gang.fewest

    def succeeds_at(step: int) -> bool:
        answers[step] = attempt(counts(step))
        return succeeds(answers[step])

    possible = range(1, bisect_left(range(1, steps + 1), True, key=is_too_few) + 1)
    first = bisect_left(possible, True, key=succeeds_at)
    return answers[possible[first]] if first < len(possible) else None
