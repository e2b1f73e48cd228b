"""Autoscaling: how many replicas the demand for an endpoint asks for."""

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from corral.api import Autoscale

Recommendation = tuple[datetime, int]
"""So many replicas would have done for the demand at that time."""


@dataclass(frozen=True, slots=True)
class Course:
    """The replicas wanted, since when, and what was recommended as far back as it still counts, the oldest first."""

    wanted: int
    changed_at: datetime
    recent: tuple[Recommendation, ...]

    @classmethod
    def begin(cls, wanted: int, since: datetime, at: datetime) -> "Course":
        """With what is wanted already, as if that had been recommended: nothing shrinks before its window is over."""
        return cls(wanted, since, ((at, wanted),))

    @property
    def as_of(self) -> datetime:
        """When demand was last heard of."""
        return self.recent[-1][0]


def followed(course: Course, demand: float, at: datetime, rules: Autoscale) -> Course:
    """The course once this demand was measured at that time, which is not before any other.

    The formulas are those of the Kubernetes HorizontalPodAutoscaler: a recommendation with tolerance; the highest of the
    window on the way down, the lowest of the window on the way up; and then at most one step. Woken from zero, nothing is
    waited for (Knative's activator).
    """
    recent = (*course.recent, (at, recommended(course.wanted, demand, rules)))
    steady = _stabilised(course.wanted, recent, at, rules)
    is_due = not course.wanted or at - course.changed_at >= timedelta(seconds=rules.period_seconds)
    wanted = _within_step(course.wanted, steady, rules) if is_due else _bounded(course.wanted, rules)
    changed_at = course.changed_at if wanted == course.wanted else at
    return replace(course, wanted=wanted, changed_at=changed_at, recent=_what_counts(recent, at, rules))


def recommended(wanted: int, demand: float, rules: Autoscale) -> int:
    """demand / target rounded up, within the bounds; what is wanted already while demand is within the tolerance of that."""
    needed = demand / rules.target
    is_close = wanted > 0 and abs(needed / wanted - 1) <= rules.tolerance
    return _bounded(wanted if is_close else math.ceil(min(needed, rules.most)), rules)


def _bounded(replicas: int, rules: Autoscale) -> int:
    return min(max(replicas, rules.minimum), rules.most)


def _stabilised(wanted: int, recent: tuple[Recommendation, ...], at: datetime, rules: Autoscale) -> int:
    """Up to what was recommended all through the one window, or down to the most that was in the other."""
    up = recent[-1][1] if not wanted else min(_within(recent, at, rules.up_window_seconds))
    down = max(_within(recent, at, rules.down_window_seconds))
    return up if up > wanted else min(wanted, down)


def _within(recent: tuple[Recommendation, ...], at: datetime, seconds: int) -> list[int]:
    *before, (_, newest) = recent
    return [*(replicas for when, replicas in before if at - when < timedelta(seconds=seconds)), newest]


def _within_step(wanted: int, steady: int, rules: Autoscale) -> int:
    """Up at most to the double or by the step, whichever is more; down at most by the step; the bounds hold in any case."""
    return _bounded(min(max(steady, wanted - rules.step_down), wanted + max(wanted, rules.step_up)), rules)


def _what_counts(recent: tuple[Recommendation, ...], at: datetime, rules: Autoscale) -> tuple[Recommendation, ...]:
    """Those that are still the most, or the least, of some window that ends later: however often demand is told, few."""
    span = timedelta(seconds=max(rules.up_window_seconds, rules.down_window_seconds))
    kept: list[Recommendation] = []
    most = least = recent[-1][1]
    for when, replicas in reversed(recent[:-1]):
        if at - when < span and (replicas > most or replicas < least):
            kept.append((when, replicas))
        most, least = max(most, replicas), min(least, replicas)
    return (*reversed(kept), recent[-1])
