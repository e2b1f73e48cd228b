"""What priorities count as of work that has run for long, by its rows and the policy in force."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, case, func

from activities.store import tables
from corral.api import Fallen
from corral.policy import AttainedStep
from domain.pool.standing import LOWEST_PRIORITY, fall_after, lowered
from domain.pool.workload import ALWAYS, has_run_for

_COLUMNS = tables.workloads.c


@dataclass(frozen=True, slots=True)
class Attaining:
    """The steps that are in force, and the time."""

    steps: tuple[AttainedStep, ...]
    now: datetime

    def fallen(self, priority: int, ran_seconds: int, began: datetime | None, *, is_endpoint: bool) -> Fallen | None:
        """What the priority counts as of work that ran for so long in attempts that are over, and runs since it `began`."""
        since = [(step, has_run_for(step.after_seconds, ran_seconds, began)) for step in self.steps]
        reached = [(step, at) for step, at in since if at is not None and at <= self.now]
        if is_endpoint or not reached:
            return None
        last, at = reached[-1]
        fall = fall_after(last.after_seconds, self.steps)
        return Fallen(counts_as=lowered(priority, fall), after_seconds=last.after_seconds, since=None if at == ALWAYS else at)

    def counts_as(self, priority: int, ran_seconds: int, began: datetime | None, *, is_endpoint: bool) -> int:
        """The same, and the priority itself where it has not fallen."""
        found = self.fallen(priority, ran_seconds, began, is_endpoint=is_endpoint)
        return priority if found is None else found.counts_as

    @property
    def of_waiting(self) -> ColumnElement[int]:
        """What the priority counts as of a row of `workloads` that waits."""
        counts: ColumnElement[int] = _COLUMNS.priority
        for step in self.steps:
            has_fallen = and_(_COLUMNS.runtime_used_seconds >= step.after_seconds, _COLUMNS.spec["autoscale"].astext.is_(None))
            counts = counts - case((has_fallen, step.lowers_priority_by), else_=0)
        return func.greatest(counts, LOWEST_PRIORITY) if self.steps else counts
