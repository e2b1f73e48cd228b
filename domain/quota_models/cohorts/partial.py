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
    if not steps:
        return None
    answers: dict[int, Answer] = {}

    def succeeds_at(step: int) -> bool:
        counts = [shape.count - most * step // steps for shape, most in zip(request.gang.shapes, spare, strict=True)]
        answers[step] = attempt(counts)
        return sum(counts) >= (request.spec.minimum_replicas or 0) and succeeds(answers[step])

    first = bisect_left(range(1, steps + 1), True, key=succeeds_at) + 1
    return answers[first] if first <= steps else None
