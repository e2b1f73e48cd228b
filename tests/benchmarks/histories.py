"""`python -m tests.benchmarks.histories`: how long the histories of workflows get that live for years; JSON lines.

Of the planner and the reconcilers, which begin anew after so many stretches of four minutes, a few runs are measured; all
are alike. Time is skipped; bytes are those of the events as Temporal stores them.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.testing import WorkflowEnvironment

from tests.benchmarks.figures import Figure, spread
from tests.workflows.book import Book
from tests.workflows.long_lives import (
    HOUR,
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
from tests.workflows.stage import open_stage, skipping_environment
from workflows.policies import STRETCH_SECONDS

STRETCHES = 1_500
FOR_EVER = {
    "planner": a_planner_plans,
    "reconciler of a provider": a_provider_is_watched,
    "growth of a fleet, with a node in each stretch": a_fleet_grows,
    "evacuation, of which there is news in each stretch": a_place_is_emptied,
}
POOL = "histories"


async def measure(environment: WorkflowEnvironment) -> AsyncIterator[Figure]:
    """Runs, and events and bytes of each, by kind of workflow."""
    client = environment.client
    stretches_a_year = YEAR.total_seconds() / STRETCH_SECONDS
    for kind, watches in FOR_EVER.items():
        async with skipping_environment() as alone:
            runs = await watches(alone.client, stretches=STRETCHES)
        for figure in _figures(kind, runs, "stretch of 240 s"):
            yield figure
        yield Figure(f"{kind}: runs in a year", "runs", spread([stretches_a_year / max(run.steps for run in runs)]))
    _, runs = await a_rollout_is_watched(environment, looks=STRETCHES)
    for figure in _figures("roll-out that is looked at every 10 s", runs, "look"):
        yield figure
    async with open_stage(client, name=POOL) as stage:
        _, runs = await a_workload_runs(environment, stage, lasts=YEAR, told_every=HOUR)
        for figure in _figures("endpoint told its demand hourly for a year", runs, "update"):
            yield figure
    book = Book(environment.get_current_time)
    async with open_stage(client, *book.activities, name=f"{POOL}-of-windows"):
        _, runs = await a_year_of_windows(client, book, f"{POOL}-of-windows", lasts=timedelta(days=5 * 365))
        for figure in _figures("reservation with a window each day for five years", runs, "timer"):
            yield figure


def _figures(kind: str, runs: Sequence[Run], step: str) -> list[Figure]:
    whole = runs[:-1]
    return [
        Figure(f"{kind}: runs", "runs", spread([len(runs)])),
        Figure(f"{kind}: events of a run", "events", spread([run.events for run in whole])),
        Figure(f"{kind}: bytes of a run", "bytes", spread([run.bytes for run in whole])),
        Figure(f"{kind}: events per {step}", "events", spread([run.events / run.steps for run in whole])),
        Figure(f"{kind}: bytes per {step}", "bytes", spread([run.bytes / run.steps for run in whole])),
    ]


async def main() -> None:
    """Print each figure when it is there."""
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=None)))  # it would write on the standard output
    async with skipping_environment() as environment:
        async for figure in measure(environment):
            print(figure.as_json(), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
