"""However long a workflow lives, each of its runs stays short, and nothing is lost between two of them."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from tests.workflows.book import Book
from tests.workflows.long_lives import (
    HOUR,
    ROUNDS_A_STRETCH,
    YEAR,
    Run,
    a_fleet_grows,
    a_place_is_emptied,
    a_planner_plans,
    a_provider_is_watched,
    a_rollout_is_watched,
    a_workload_runs,
    a_year_of_windows,
)
from tests.workflows.stage import Stage, open_stage, skipping_environment


@pytest.fixture
async def skipping_alone() -> AsyncIterator[WorkflowEnvironment]:
    """A server for work that is terminated in the midst of a step: it would skip no time any more for others."""
    async with skipping_environment() as environment:
        yield environment


MANY_EVENTS, MANY_BYTES = 5_000, 5 * 1024 * 1024
"""A tenth of what Temporal allows."""


def are_short(runs: list[Run]) -> bool:
    return max(run.events for run in runs) < MANY_EVENTS and max(run.bytes for run in runs) < MANY_BYTES


async def test_a_workload_that_is_told_its_demand_all_year_hears_of_everything_in_short_runs(
    skipping: WorkflowEnvironment, skipping_stage: Stage
) -> None:
    told_every = 6 * HOUR
    record, runs = await a_workload_runs(skipping, skipping_stage, lasts=YEAR, told_every=told_every)
    turns = YEAR // told_every
    assert len(runs) > 2
    assert are_short(runs)
    assert {key for key in record.done if key.startswith("demand:")} == {f"demand:demand/turn-{turn}" for turn in range(turns)}
    assert record.calls.count("demand") == turns, "each once"
    assert record.calls.count("admit") == 1
    assert record.calls.count("stop") == turns // 50
    assert record.calls.count("bind") == 1 + turns // 50
    assert sum(run.steps for run in runs) == turns + turns // 50


async def test_a_planner_of_millions_of_rounds_has_short_runs(skipping_alone: WorkflowEnvironment) -> None:
    runs = await a_planner_plans(skipping_alone.client, stretches=1_500)
    assert sum(run.steps for run in runs) * ROUNDS_A_STRETCH > 1_000_000
    assert len(runs) > 2
    assert are_short(runs)


async def test_a_provider_is_watched_in_short_runs(skipping_alone: WorkflowEnvironment) -> None:
    runs = await a_provider_is_watched(skipping_alone.client, stretches=800)
    assert len(runs) > 2
    assert are_short(runs)


async def test_a_fleet_grows_in_short_runs(skipping_alone: WorkflowEnvironment) -> None:
    runs = await a_fleet_grows(skipping_alone.client, stretches=500)
    assert len(runs) > 1
    assert are_short(runs)


async def test_a_place_is_emptied_in_short_runs_however_much_happens(skipping_alone: WorkflowEnvironment) -> None:
    runs = await a_place_is_emptied(skipping_alone.client, stretches=800)
    assert len(runs) > 1
    assert are_short(runs)


async def test_a_roll_out_is_watched_in_short_runs_and_looked_at_each_time(skipping: WorkflowEnvironment) -> None:
    desk, runs = await a_rollout_is_watched(skipping, looks=500)
    assert len(runs) > 1
    assert are_short(runs)
    assert desk.calls.count("advance") == sum(run.steps for run in runs)


async def test_a_window_each_day_for_longer_than_a_year_are_kept_in_short_runs(skipping: WorkflowEnvironment) -> None:
    book = Book(skipping.get_current_time)
    async with open_stage(skipping.client, *book.activities, name="years"):
        windows, runs = await a_year_of_windows(skipping.client, book, "years", lasts=timedelta(days=500))
    assert windows == 501
    assert len(runs) == 6
    assert are_short(runs)
