"""How many times a schedule was due by the calendar, beside what Temporal tells of those at which it ordered nothing."""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from temporalio.client import ScheduleDescription

EVERY_SECONDS = 1
CRON = f"@every {EVERY_SECONDS}s"


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A schedule of that cron expression that has ended: how often it was due, left out and missed."""

    id: str
    due: int
    left_out: int
    missed: int

    @classmethod
    def of(cls, id: str, known: ScheduleDescription) -> Self:
        """As Temporal tells."""
        info, ends_at = known.info, known.schedule.spec.end_at
        assert ends_at is not None, "it ends, so that its times can be counted"
        due = _number(ends_at) - _number(info.created_at)
        return cls(id, due, info.num_actions_skipped_overlap, info.num_actions_missed_catchup_window)

    @property
    def to_be_ordered(self) -> int:
        """At how many of its times, at the least, it has to have ordered something.

        It may have at some more: a server that is killed while it orders something counts that time as left out afterwards.
        """
        return self.due - self.left_out - self.missed


def _number(moment: datetime) -> int:
    return math.floor(moment.timestamp() / EVERY_SECONDS)
