"""Autoscaling: how many replicas the demand for an endpoint asks for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from corral.api import Autoscale

Recommendation = tuple[datetime, int]
"""So many replicas would have done for the demand at that time."""


class Served(NamedTuple):
    """Requests that ended from that time on for a while, and how many of them were not served well."""

    since: datetime
    requests: int
    bad: int


@dataclass(frozen=True, slots=True)
class Course:
    """The replicas wanted, since when, and what was recommended as far back as it still counts, the oldest first."""

    wanted: int
    changed_at: datetime
    recent: tuple[Recommendation, ...]
    served: tuple[Served, ...] = ()
    """What became of requests as far back as it still counts, the oldest first."""

    @classmethod
    def begin(cls, wanted: int, since: datetime, at: datetime) -> "Course":
        """With what is wanted already, as if that had been recommended: nothing shrinks before its window is over."""
        return cls(wanted, since, ((at, wanted),))

    @property
    def as_of(self) -> datetime:
        """When demand was last heard of."""
        return self.recent[-1][0]


def followed(course: Course, demand: float, at: datetime, rules: Autoscale, *, requests: int = 0, bad: int = 0) -> Course:
    """The course once this demand was measured at that time, which is not before any other.

    `requests` have ended since then, `bad` of them not well: while the error budget burns too fast, no fewer replicas are
    recommended than are wanted, and a step more whenever the last change has had the time to show its effect.

    The formulas are those of the Kubernetes HorizontalPodAutoscaler: a recommendation with tolerance; the highest of the
    window on the way down, the lowest of the window on the way up; and then at most one step. Woken from zero, nothing is
    waited for (Knative's activator).
    """
    served = _with_more(course.served, Served(at, requests, bad), rules)
    least = _least_while_burning(course, at, rules) if burn_rate(served, at, rules) >= rules.burn_rate else 0
    recent = (*course.recent, (at, max(least, recommended(course.wanted, demand, rules))))
    steady = _stabilised(course.wanted, recent, at, rules)
    is_due = not course.wanted or at - course.changed_at >= timedelta(seconds=rules.period_seconds)
    wanted = _within_step(course.wanted, steady, rules) if is_due else _bounded(course.wanted, rules)
    changed_at = course.changed_at if wanted == course.wanted else at
    return Course(wanted, changed_at, _what_counts(recent, at, rules), served)


def burn_rate(served: Sequence[Served], at: datetime, rules: Autoscale) -> float:
    """How many times as fast as the objective allows the error budget is used up: in both windows at least so fast.

    (bad / requests) / (1 - objective), the smaller of the two: the multi-window burn rate of Google's SRE workbook, chapter 5.
    """
    if rules.objective is None:
        return 0.0
    windows = (rules.burn_window_seconds, rules.burn_check_seconds)
    return min(_bad_share(served, at - timedelta(seconds=seconds)) for seconds in windows) / (1 - rules.objective)


def _bad_share(served: Sequence[Served], since: datetime) -> float:
    counted = [each for each in served if each.since > since]
    return sum(each.bad for each in counted) / max(1, sum(each.requests for each in counted))


def _least_while_burning(course: Course, at: datetime, rules: Autoscale) -> int:
    may_show = at - course.changed_at >= timedelta(seconds=rules.burn_check_seconds)
    return _bounded(course.wanted + (rules.step_up if may_show else 0), rules)


def _with_more(served: tuple[Served, ...], more: Served, rules: Autoscale) -> tuple[Served, ...]:
    """Those that still count, and the new one; within a tenth of the short window they are counted together."""
    kept = tuple(each for each in served if more.since - each.since < timedelta(seconds=rules.burn_window_seconds))
    if rules.objective is None or not more.requests:
        return kept
    if kept and more.since - kept[-1].since < timedelta(seconds=rules.burn_check_seconds / 10):
        *kept_before, last = kept
        return (*kept_before, Served(last.since, last.requests + more.requests, last.bad + more.bad))
    return (*kept, more)


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
