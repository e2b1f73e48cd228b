"""The times of a schedule are counted by the calendar."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import cast

import pytest
from temporalio.client import ScheduleDescription

from tests.chaos.scheduled import Scheduled

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(("created", "ends", "due"), [(-0.3, 0, 1), (-0.3, 3.9, 4), (0, 0.9, 0), (0, 1, 1)])
def test_it_is_due_at_each_second_after_it_was_created_until_its_end(created: float, ends: float, due: int) -> None:
    spec = SimpleNamespace(end_at=NOON + timedelta(seconds=ends))
    counts = {"num_actions_skipped_overlap": 2, "num_actions_missed_catchup_window": 1}
    info = SimpleNamespace(created_at=NOON + timedelta(seconds=created), **counts)
    known = SimpleNamespace(schedule=SimpleNamespace(spec=spec), info=info)
    told = Scheduled.of("s", cast(ScheduleDescription, known))
    assert (told.due, told.to_be_ordered) == (due, due - 3)
