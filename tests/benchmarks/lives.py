"""What became of jobs of a trace: when they ran, what that comes to, and what plain rules make of the same jobs.

Times are seconds since the first arrival. The rules count accelerators and nothing else, and stop nobody.
"""

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean, median

from worker.demo.trace import Job

HOUR = 3_600
WIDE = 16
"""Accelerators: a job of so many is a wide one."""

CLASSES = ((1, 2, "1"), (2, 8, "2 to 7"), (8, WIDE, "8 to 15"), (WIDE, math.inf, f"{WIDE} and more"))
"""Widths: from, below, in words."""


@dataclass(frozen=True, slots=True)
class Life:
    """One job: when it came, for how long it had to run on how many accelerators, when it did, and how often it was stopped."""

    came: float
    duration: float
    accelerators: int
    runs: tuple[tuple[float, float], ...]
    stops: int = 0

    @property
    def completion(self) -> float:
        """From its arrival to its end."""
        return self.runs[-1][1] - self.came

    @property
    def wait(self) -> float:
        """What its completion took beyond its duration, and so also what it did not run for, or ran in vain, after a stop."""
        return max(0.0, self.completion - self.duration)

    @property
    def first_wait(self) -> float:
        """From its arrival until it ran for the first time."""
        return self.runs[0][0] - self.came


def figures_of(lives: Sequence[Life], capacity: int) -> Mapping[str, tuple[float, str]]:
    """What lives come to: figure and unit, by name. Of a class in which there is nobody nothing is said."""
    found = {
        "completion, mean": (fmean(life.completion for life in lives) / HOUR, "h"),
        "completion, median": (median(life.completion for life in lives) / HOUR, "h"),
    }
    for least, below, name in CLASSES:
        its = [life for life in lives if least <= life.accelerators < below]
        if its:
            found[f"wait of {name}, mean"] = (fmean(life.wait for life in its) / HOUR, "h")
            found[f"wait of {name} until the first start, mean"] = (fmean(life.first_wait for life in its) / HOUR, "h")
    last = max(life.came for life in lives)
    busy = sum(life.accelerators * max(0.0, min(end, last) - begin) for life in lives for begin, end in life.runs)
    if last:
        found["in use until the last arrival"] = (busy / (capacity * last), "parts of 1")
    found["stops"] = (sum(life.stops for life in lives), "stops")
    found["most stops of one job"] = (max(life.stops for life in lives), "stops")
    return found


# Plain rules


def strict_fifo(jobs: Sequence[Job], capacity: int) -> list[Life]:
    """Everybody in the order of arrival, and nobody before who came before."""
    begin, now, free = jobs[0].at, 0.0, capacity
    ends: list[tuple[float, int]] = []
    lives = []
    for job in jobs:
        came = (job.at - begin).total_seconds()
        now = max(now, came)
        while ends and (ends[0][0] <= now or free < job.accelerators):
            end, given_back = heapq.heappop(ends)
            now, free = max(now, end), free + given_back
        free -= job.accelerators
        heapq.heappush(ends, (now + job.duration, job.accelerators))
        lives.append(_life(job, came, now))
    return lives


def backfill(jobs: Sequence[Job], capacity: int) -> list[Life]:
    """Whenever something changes: in the order of arrival everybody who fits."""
    return _greedy(jobs, capacity, lambda place: place)


def shortest_first(jobs: Sequence[Job], capacity: int) -> list[Life]:
    """Whenever something changes: in the order of durations, which it knows, everybody who fits."""
    return _greedy(jobs, capacity, lambda place: jobs[place].duration)


RULES: Mapping[str, Callable[[Sequence[Job], int], list[Life]]] = {
    "strict FIFO": strict_fifo,
    "backfill": backfill,
    "shortest first": shortest_first,
}


def _greedy(jobs: Sequence[Job], capacity: int, key: Callable[[int], float]) -> list[Life]:
    """Of each width only the first in order can be the next to start, so that the others need not be looked at."""
    begin, free = jobs[0].at, capacity
    arrivals = [
        (came, list(group)) for came, group in groupby(range(len(jobs)), lambda at: (jobs[at].at - begin).total_seconds())
    ]
    arrivals.reverse()
    ends: list[tuple[float, int]] = []
    waiting: dict[int, list[tuple[float, int]]] = {}
    lives: dict[int, Life] = {}
    while len(lives) < len(jobs):
        now = min(arrivals[-1][0] if arrivals else math.inf, ends[0][0] if ends else math.inf)
        while ends and ends[0][0] <= now:
            free += heapq.heappop(ends)[1]
        if arrivals and arrivals[-1][0] <= now:
            for place in arrivals.pop()[1]:
                heapq.heappush(waiting.setdefault(jobs[place].accelerators, []), (key(place), place))
        while fitting := [line[0] for width, line in waiting.items() if line and width <= free]:
            _, place = min(fitting)
            job = jobs[place]
            heapq.heappop(waiting[job.accelerators])
            free -= job.accelerators
            heapq.heappush(ends, (now + job.duration, job.accelerators))
            lives[place] = _life(job, (job.at - begin).total_seconds(), now)
    return [lives[place] for place in range(len(jobs))]


def _life(job: Job, came: float, start: float) -> Life:
    return Life(came, job.duration, job.accelerators, ((start, start + job.duration),))
