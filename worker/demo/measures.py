"""Measures over stretches of time: means, peaks, and percentiles."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stretch:
    """An amount that is there from `begin` to `end`, in seconds."""

    begin: float
    end: float
    amount: float

    def within(self, begin: float, end: float) -> float:
        """Amount times seconds of the part between two times."""
        return self.amount * max(0.0, min(self.end, end) - max(self.begin, begin))


def area(stretches: Iterable[Stretch]) -> float:
    """Amount times seconds of all of them."""
    return sum(stretch.within(stretch.begin, stretch.end) for stretch in stretches)


def mean_by_bin(stretches: Sequence[Stretch], duration: float, bins: int) -> tuple[float, ...]:
    """The mean of the sum of all amounts in each of so many equal parts of the time from 0 to `duration`."""
    width = duration / bins
    sums = [0.0] * bins
    for stretch in stretches:
        first, last = max(0, int(stretch.begin // width)), min(bins - 1, int(stretch.end // width))
        for number in range(first, last + 1):
            sums[number] += stretch.within(number * width, (number + 1) * width)
    return tuple(round(total / width, 2) for total in sums)


def peak(stretches: Iterable[Stretch]) -> float:
    """The largest sum of the amounts that are there at once; what ends makes room for what begins at the same time."""
    steps = sorted(step for stretch in stretches for step in ((stretch.begin, stretch.amount), (stretch.end, -stretch.amount)))
    level = highest = 0.0
    for _, step in sorted(steps):
        level += step
        highest = max(highest, level)
    return round(highest, 3)


def percentile(values: Iterable[float], share: float) -> float | None:
    """The smallest value that at least that share of all values do not exceed; none without values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None
