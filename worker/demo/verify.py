"""Verification: what is wrong after a run, as sentences; none when all is well."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

from temporalio.client import Client

from activities.store.audit import RULES
from activities.store.postgres import PostgresStore
from activities.store.rows import WorkloadRow
from corral.api import State
from worker.demo.machines import Machines, processes_below
from worker.demo.persistence import persistently
from worker.demo.record import Record
from worker.demo.scenario import Arrival
from worker.settings import Settings
from worker.wiring import TemporalWorkloads

CHECKS = (*RULES, "every workflow is closed", "no provider runs anything", "no process is left", "everything ended as expected")
GLANCE_SECONDS = 0.2
SETTLE_SECONDS = 20.0
"""How long the last workflows may take to close, and providers to forget, after the record says that all has ended."""


async def what_is_wrong(
    settings: Settings, temporal: Client, machines: Machines, arrivals: Iterable[Arrival], record: Record
) -> list[str]:
    """Check all of `CHECKS`."""
    expected = tuple(arrivals)
    return [
        *await _broken_rules(settings),
        *await _open_workflows(temporal, [arrival.spec.id for arrival in expected]),
        *await _once_settled(machines.still_running),
        *processes_below(settings.state_dir),
        *unexpected_ends(expected, {row.id: row for row in record.workloads}),
    ]


def unexpected_ends(arrivals: Iterable[Arrival], workloads: Mapping[str, WorkloadRow]) -> list[str]:
    """Workloads that did not end as their arrival says."""
    wrong = []
    for arrival in arrivals:
        row = workloads.get(arrival.spec.id)
        if row is None:
            wrong.append(f"{arrival.spec.id} is not in the record")
        elif row.state not in arrival.ends:
            wrong.append(f"{arrival.spec.id} is {row.state}, not {_either(arrival.ends)}: {_why(row)}")
    return wrong


def _either(states: Iterable[State]) -> str:
    return " or ".join(sorted(states))


def _why(row: WorkloadRow) -> str:
    if row.explanation:
        return str(row.explanation.get("message", ""))
    return f"outcome {row.outcome}, exit code {row.exit_code}, {row.failures} failures, {row.preemptions} preemptions"


async def _broken_rules(settings: Settings) -> list[str]:
    store = PostgresStore.connect(settings.database_url, settings.clock(), settings.pool)
    try:
        return [f"broken: {finding.rule}: {finding.where}" for finding in await store.audit()]
    finally:
        await store.aclose()


async def _open_workflows(temporal: Client, ids: list[str]) -> list[str]:
    async def still_open() -> list[str]:
        ended = set(await persistently(lambda: TemporalWorkloads(temporal).have_ended(ids)))
        return [f"the workflow of {id} is still open" for id in ids if id not in ended]

    return await _once_settled(still_open)


async def _once_settled(look: Callable[[], Awaitable[list[str]]]) -> list[str]:
    """What is still there after as many looks as it may need to go by itself."""
    for _ in range(round(SETTLE_SECONDS / GLANCE_SECONDS)):
        if not (found := await look()):
            break
        await asyncio.sleep(GLANCE_SECONDS)
    return found
