"""A pool at work, with eyes of the tests' own on what is recorded and on what really runs."""

import asyncio
import json
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import psutil
import pytest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.worker import Interceptor

from activities.providers.sim import SimulatedProvider
from activities.store.postgres import PostgresStore
from corral import wire
from corral.api import QueueTree, State, WorkloadStatus
from corral.client import Corral
from corral.policy import Policy, Rank
from tests.end_to_end.asking import PatientCorral
from tests.patience import PATIENCE_SECONDS
from tests.servers import PostgresServer
from worker import supervision
from worker.embedded import worker_child
from worker.fleet_file import SimulatedEntry, read_fleet
from worker.keeping import start_singletons
from worker.observing.traces import UNTRACED, Traces
from worker.settings import Settings
from worker.supervision import Child, Supervisor
from worker.temporal_server import connect
from worker.wiring import assembled, working

SPEED = 100
"""How much faster than the wall's the time of these pools runs."""
GLANCE_SECONDS = 0.1
LAST_LINES = 40
"""Of each log, where a pool did not come to where it should."""

NOTHING: Mapping[str, Any] = {}

Found = TypeVar("Found")


async def eventually(look: Callable[[], Awaitable[Found | None]], what: str, within: float = PATIENCE_SECONDS) -> Found:
    """What `look` finds, as soon as that is something."""
    give_up = asyncio.get_running_loop().time() + within
    while not (found := await look()):
        assert asyncio.get_running_loop().time() < give_up, f"{what}: not within {within:g} seconds"
        await asyncio.sleep(GLANCE_SECONDS)
    return found


@dataclass(frozen=True)
class LivePool:
    """A pool whose worker is a process of its own. Nothing of it is replaced by anything simpler."""

    settings: Settings
    supervisor: Supervisor
    temporal: Client
    corral: Corral
    record: asyncpg.Pool

    @property
    def simulator(self) -> str:
        """The simulated provider."""
        return f"{self.settings.pool}-sim"

    @property
    def machine(self) -> str:
        """The provider that runs real processes."""
        return f"{self.settings.pool}-local"

    @property
    def directory(self) -> Path:
        """Where the providers keep what they have."""
        return self.settings.state_dir / "providers"

    def handle(self, workload: str) -> WorkflowHandle[Any, Any]:
        """The workflow that drives a workload."""
        return self.temporal.get_workflow_handle(wire.workload_workflow_id(workload))

    async def start_worker(self, *command: str, name: str = "worker") -> None:
        """Start a worker, or another program that is one, and come back when it takes workflows."""
        await self.supervisor.start(self.worker(*command, name=name))

    def worker(self, *command: str, name: str = "worker") -> Child:
        """The process of a worker."""
        child = worker_child(self.settings)
        chosen = (sys.executable, *command) if command else child.command
        return replace(child, name=name, command=chosen, log=child.log.with_name(f"{name}.log"))

    async def rows(self, query: str, *arguments: object) -> list[Any]:
        """What the record says, asked without Corral's own code."""
        return list(await self.record.fetch(query, *arguments))

    async def value(self, query: str, *arguments: object) -> Any:
        """The only value of the only row."""
        return (await self.rows(query, *arguments))[0][0]

    async def sizes(self) -> dict[str, int]:
        """How many rows each table about workloads has."""
        tables = ("workloads", "attempts", "holds", "allocations", "events", "outbox", "operations", "ledger", "decisions")
        return {table: await self.value(f"SELECT count(*) FROM {table}") for table in tables}

    async def until(self, workload: str, *states: State) -> WorkloadStatus:
        """How the workload stands once it is in one of these states."""

        async def look() -> bool:
            row = await self.rows("SELECT state FROM workloads WHERE id = $1", workload)
            return bool(row and row[0]["state"] in states)

        await eventually(look, f"{workload} is {' or '.join(states)}")
        return await self.corral.status(workload)

    async def attempts(self, workload: str) -> list[Any]:
        """The workload's attempts, first to last."""
        return await self.rows("SELECT * FROM attempts WHERE workload_id = $1 ORDER BY epoch", workload)

    async def is_closed(self, workload: str) -> bool:
        """Whether the workload's workflow has ended."""
        return (await self.handle(workload).describe()).status is not WorkflowExecutionStatus.RUNNING

    async def until_closed(self, workloads: Iterable[str]) -> None:
        """Come back when the workflows of all of them have ended."""
        for workload in workloads:
            await eventually(lambda id=workload: self.is_closed(id), f"the workflow of {workload} is closed")  # type: ignore[misc]

    async def has_nothing_of(self, workload: str) -> bool:
        """Whether neither the record nor any provider has anything left of a workload."""
        held = await self.value(
            "SELECT count(*) FROM attempts a LEFT JOIN holds h ON h.attempt_id = a.id AND h.ended_at IS NULL"
            " LEFT JOIN allocations l ON l.attempt_id = a.id AND l.phase <> 'released'"
            " WHERE a.workload_id = $1 AND (a.ended_at IS NULL OR h.attempt_id IS NOT NULL OR l.attempt_id IS NOT NULL)",
            workload,
        )
        running = [attempt for attempt in await self.simulated_now() if attempt.rpartition(".")[0] == workload]
        attempts = self.directory / self.machine / "attempts"
        return not held and not running and not processes_under(attempts / f"_{workload}.")

    # The simulator, seen by its file

    @property
    def _records(self) -> Path:
        return self.directory / f"{self.simulator}.sqlite"

    async def second_simulator(self) -> SimulatedProvider:
        """Another process's view of the simulated world, which it may change as well."""
        fleet = read_fleet(self.settings.fleet_file)
        entry = next(entry for entry in fleet.providers if isinstance(entry, SimulatedEntry))
        opened = entry.open(self.directory, self.settings.clock())
        assert isinstance(opened, SimulatedProvider)
        return opened

    async def simulated_now(self) -> dict[str, str]:
        """What has not ended in the simulated world: attempts with their phases."""
        world = await self.second_simulator()
        try:
            return {seen.attempt_id: seen.phase for seen in (await world.snapshot()).attempts if not seen.phase.is_over}
        finally:
            await world.aclose()

    def remember_launches(self) -> None:
        """Have the simulator's file itself keep every launch, also of what is forgotten later."""
        with closing(sqlite3.connect(self._records, timeout=PATIENCE_SECONDS)) as file:
            file.executescript(
                "CREATE TABLE IF NOT EXISTS launches (attempt TEXT, body TEXT);"
                "CREATE TRIGGER IF NOT EXISTS remember AFTER INSERT ON change WHEN new.kind = 'launched'"
                " BEGIN INSERT INTO launches VALUES (new.subject, new.body); END;"
            )

    def launches(self) -> dict[str, list[dict[str, Any]]]:
        """Every launch that was ever recorded, by attempt."""
        found: dict[str, list[dict[str, Any]]] = {}
        with closing(sqlite3.connect(self._records, timeout=PATIENCE_SECONDS)) as file:
            for attempt, body in file.execute("SELECT attempt, body FROM launches"):
                found.setdefault(attempt, []).append(json.loads(body))
        return found

    async def audit(self) -> list[str]:
        """What the audit finds."""
        store = PostgresStore.connect(self.settings.database_url, self.settings.clock(), self.settings.pool)
        try:
            return [f"{finding.rule}: {finding.where}" for finding in await store.audit()]
        finally:
            await store.aclose()


@asynccontextmanager
async def working_here(
    pool: LivePool, interceptors: Sequence[Interceptor] = (), traces: Traces = UNTRACED
) -> AsyncIterator[None]:
    """A worker of the pool in this process, whose calls can be looked into; its providers have been seen."""
    settings, client = pool.settings, pool.temporal
    async with (
        assembled(settings, client, traces) as parts,
        working(settings, client, parts, [*traces.interceptors, *interceptors]),
    ):
        await pool.corral.apply_queues(QUEUES)
        await start_singletons(client, settings.pool, parts.providers)
        all_seen = "SELECT count(*) = 0 FROM providers WHERE seen_at IS NULL"
        await eventually(lambda: pool.value(all_seen), "all providers are seen")
        yield


def processes_under(beginning: Path) -> list[int]:
    """Processes on this machine that belong to attempts whose directory begins like this."""
    return [process.pid for process in psutil.process_iter() if _directory_of(process).startswith(str(beginning))]


def _directory_of(process: psutil.Process) -> str:
    try:
        return str(process.environ().get("CORRAL_DIRECTORY", ""))
    except psutil.Error:
        return ""


async def oversubscribed(pool: LivePool) -> list[str]:
    """Devices that ever ran more than they have, reckoned from when each attempt was bound and when it ended."""
    changes: dict[tuple[str, int], list[tuple[datetime, int]]] = {}
    rows = await pool.rows(
        "SELECT l.node_id, l.uses, a.bound_at, a.ended_at FROM attempts a JOIN allocations l ON l.attempt_id = a.id"
        " WHERE a.bound_at IS NOT NULL"
    )
    for row in rows:
        for device, milli in enumerate(row["uses"]):
            if milli:
                moments = changes.setdefault((row["node_id"], device), [])
                moments += [(row["bound_at"], milli), (row["ended_at"] or datetime.max.replace(tzinfo=UTC), -milli)]
    return [f"{node} device {device}" for (node, device), moments in changes.items() if _most(moments) > 1000]


def _most(moments: list[tuple[datetime, int]]) -> int:
    used = most = 0
    for _, milli in sorted(moments):  # at the same moment, what ends comes first
        used += milli
        most = max(most, used)
    return most


def started_twice(log: Path) -> list[str]:
    """Attempts of which more than one process wrote itself into a file."""
    lines = log.read_text().split() if log.exists() else []
    return [attempt for attempt, times in Counter(lines).items() if times > 1]


FLEET = """
providers:
  - name: {pool}-sim
    kind: simulated
    regions:
      - name: east
        clusters:
          - name: e1
            zone: east-a
            nodes:
              - {{sku: h100, count: 4, accelerators: 8, nodes_per_rack: 2}}
              - {{sku: a100, count: 2, accelerators: 4}}
              - {{sku: t4, count: 2, accelerators: 2}}
              - {{sku: v100, count: 2, accelerators: 4}}
              - {{sku: l4, count: 1, accelerators: 4}}
    node_pools:
      - {{name: burst, region: east, cluster: e1, limit: 3, lead_seconds: 60, shape: {{sku: gh200, count: 1, accelerators: 4}}}}
      - {{name: scarce, region: east, cluster: e1, limit: 3, available: 0, shape: {{sku: gb300, count: 1, accelerators: 4}}}}
    faults: {{seed: 3, slow_start: 0.2, slow_start_seconds: 100, lost_answer: {lost_answer}{faults}}}
  - name: {pool}-local
    kind: local
    node: {{region: here, cluster: machine, sku: process, accelerators: 4, cpu_milli: 4000, memory_mib: 4096}}
"""

QUEUES = QueueTree.model_validate(
    {
        "queues": [
            {"name": "company"},
            {"name": "research", "parent": "company", "quotas": [{"sku": "h100", "nominal": 16}]},
            {"name": "product", "parent": "company", "quotas": [{"sku": "h100", "nominal": 16}]},
            {"name": "cells", "quotas": [{"sku": sku, "nominal": 8} for sku in ("a100", "t4", "v100", "l4", "ghost")]},
            {"name": "tools", "quotas": [{"sku": "process", "nominal": 4}]},
            {"name": "closed", "stop": "hold", "quotas": [{"sku": "a100", "nominal": 8}]},
        ]
    }
)


WITHOUT_PROMISES = Policy(
    rank=Rank(tiers={tier: terms.model_copy(update={"guarantee": 0.0}) for tier, terms in Rank().tiers.items()}),
    hold_seconds=15_000,
    stop_seconds=6_000,
)
"""A pool of a few nodes could keep few promises: work that it would refuse for that is not what these tests are about.

What is done again after a worker's death may take half a minute of the wall's; no step may be too slow for that reason.
"""


def pool_settings(
    directory: Path,
    pool: str,
    *,
    speed: float = SPEED,
    lost_answer: float = 0.0,
    faults: str = "",
    stop_seconds: int | None = None,
    reconcile_seconds: float = 3,
    policy: str | None = None,
) -> dict[str, Any]:
    """Settings, by field name, of a small pool in accelerated time; unless told otherwise its policy promises nothing."""
    promises_nothing = directory / "policy.json"
    steps = {} if stop_seconds is None else {"stop_seconds": stop_seconds}
    promises_nothing.write_text(WITHOUT_PROMISES.model_copy(update=steps).model_dump_json())
    fleet = directory / "fleet.yaml"
    fleet.write_text(FLEET.format(pool=pool, lost_answer=lost_answer, faults=faults))
    return {
        "pool": pool,
        "clock_speed": speed,
        "clock_origin": datetime.now(UTC),
        "tick_seconds": 1,
        "reconcile_seconds": reconcile_seconds,
        "fleet_file": fleet,
        "policy": policy or str(promises_nothing),
        "state_dir": directory,
    }


@contextmanager
def deaths_are_ordered() -> Iterator[None]:
    """However often a worker dies, because a test wants it to, the next one is started at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervision, "STARTS_PER_MINUTE", 1_000)
        patch.setattr(supervision, "FIRST_PAUSE_SECONDS", 0.0)
        yield


def looking_into(settings: Settings) -> asyncpg.Pool:
    """Connections to a pool's record that are kept: to open one costs ten times as much as to ask, and tests ask often."""
    return asyncpg.create_pool(settings.database_url.replace("+asyncpg", ""), min_size=0, max_size=4)


@asynccontextmanager
async def running_pool(
    postgres: PostgresServer, temporal: str, pool: str, also: Mapping[str, Any] = NOTHING, **chosen: Any
) -> AsyncIterator[LivePool]:
    """A pool of its own on servers that it shares: what differs is the database, the names, and the worker to be started.

    `chosen` is for `pool_settings`; `also` are other settings.
    """
    url = await postgres.create_record()
    with tempfile.TemporaryDirectory(prefix="corral-") as temporary:
        given = pool_settings(Path(temporary), pool, **chosen)
        settings = Settings.model_validate(given | {"temporal_address": temporal, "database_url": url} | dict(also))
        async with Supervisor(settings.state_dir) as supervisor, looking_into(settings) as record:
            client = await connect(settings)
            live = LivePool(settings, supervisor, client, PatientCorral(client, pool), record)
            try:
                yield live
            except AssertionError:
                print(await how_it_stands(live), file=sys.stderr)
                raise
    await postgres.drop_database(url)


async def how_it_stands(pool: LivePool) -> str:
    """For whoever has to find out why a pool did not come to where it should: what is open, and the workers' last lines."""
    query = (
        "SELECT w.id, w.state, w.epoch, w.version, w.since, w.not_before, a.id AS attempt, a.held_at, a.bound_at, a.started_at"
        " FROM workloads w LEFT JOIN attempts a ON a.workload_id = w.id AND a.ended_at IS NULL WHERE w.ended_at IS NULL"
    )
    rows = [str(dict(row)) for row in await pool.rows(query)]
    untold = [str(dict(row)) for row in await pool.rows("SELECT * FROM outbox WHERE delivered IS NULL")]
    logs = [
        line for log in sorted(pool.settings.state_dir.glob("log/*")) for line in log.read_text().splitlines()[-LAST_LINES:]
    ]
    return "\n".join(("Open:", *rows, "Not told:", *untold, "Last lines:", *logs))
