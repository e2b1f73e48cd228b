"""Lifecycles per second and per CPU-second, latency, history events and arrays, beside the bare workflow."""

import asyncio
import statistics
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import create_async_engine
from temporalio.client import Client
from temporalio.common import Priority, SearchAttributePair, TypedSearchAttributes

from activities.store.migrations import upgrade
from corral import wire
from corral.api import QueueSpec, QueueTree, QuotaSpec, ReplicaGroup, Target, WorkloadSpec
from corral.client import Corral
from tests.benchmarks.bare import POOL_QUEUE, RUNS_SECONDS
from tests.benchmarks.figures import Figure, spread
from tests.servers import Stack, own_stack
from worker.supervision import Child
from worker.temporal_server import connect

PAIRS = 5
BURST = 300
WARM_UP = 50
OUTSTANDING = 100
OPEN_LOOP_SECONDS = 20
PER_SECOND = 10
ARRAYS, TASKS = 50, 20
FLEET = """
providers:
  - name: sim
    kind: simulated
    regions:
      - name: here
        clusters:
          - name: one
            nodes: [{sku: gpu, count: 64, accelerators: 8}]
"""
QUOTAS = (QuotaSpec(sku="gpu", nominal=512),)


@dataclass
class Bench:
    """Both workers on one pair of servers."""

    stack: Stack
    temporal: Client
    corral: Corral

    @classmethod
    @asynccontextmanager
    async def running(
        cls, directory: Path, fleet: str = FLEET, quotas: Sequence[QuotaSpec] = QUOTAS, **settings: object
    ) -> AsyncIterator["Bench"]:
        """Servers, Corral's worker and the bare one, each in a process of its own; `settings` by field name."""
        fleet_file = directory / "fleet.yaml"
        fleet_file.write_text(fleet)
        async with own_stack(directory / "state", fleet_file=fleet_file, **settings) as stack:
            await upgrade(stack.settings.database_url)
            await stack.start_worker()
            await stack.supervisor.start(_bare_worker(stack, directory))
            temporal = await connect(stack.settings)
            corral = Corral(temporal, stack.settings.pool)
            await corral.apply_queues(QueueTree(queues=(QueueSpec(name="bench", quotas=tuple(quotas)),)))
            yield cls(stack, temporal, corral)

    def cpu_seconds(self, *children: str) -> float:
        """CPU time that children and their children have used so far."""
        return sum(_cpu_of_tree(self.stack.supervisor.pid(child)) for child in children)

    async def rows(self, query: str, **values: object) -> Sequence[Row[Any]]:
        """What the record says."""
        engine = create_async_engine(self.stack.settings.database_url)
        try:
            async with engine.connect() as connection:
                return (await connection.execute(text(query), values)).all()
        finally:
            await engine.dispose()

    async def lifecycle(self) -> None:
        """One workload, from submission to its end."""
        spec = a_workload()
        await self.corral.submit(spec)
        await self.corral.wait(spec.id)

    async def bare(self) -> None:
        """One bare workflow, from start to end."""
        handle = await self.temporal.start_workflow(
            "BareLifecycle",
            id=f"bare/{uuid.uuid4()}",
            task_queue=POOL_QUEUE,
            static_summary="a bare workflow beside a workload",
            memo={wire.DIGEST_MEMO: "0" * 64},
            search_attributes=TypedSearchAttributes(
                [
                    SearchAttributePair(wire.QUEUE, "bench"),
                    SearchAttributePair(wire.TIER, "standard"),
                    SearchAttributePair(wire.STATE, "submitted"),
                    SearchAttributePair(wire.PRIORITY, 0),
                ]
            ),
            priority=Priority(fairness_key="bench"),
        )
        await handle.result()


def a_workload(**changes: object) -> WorkloadSpec:
    values = {
        "id": f"bench-{uuid.uuid4()}",
        "queue": "bench",
        "groups": (ReplicaGroup(accelerators=1),),
        "targets": (Target(skus=("gpu",)),),
        "parameters": {"runtime_seconds": str(RUNS_SECONDS)},
    }
    return WorkloadSpec.model_validate(values | changes)


def _bare_worker(stack: Stack, directory: Path) -> Child:
    async def ready(_: int) -> bool:
        return True

    return Child(
        name="bare",
        command=(sys.executable, "-m", "tests.benchmarks.bare", stack.settings.temporal_address),
        log=directory / "bare.log",
        ready=ready,
    )


def _cpu_of_tree(pid: int) -> float:
    process = psutil.Process(pid)
    times = [process.cpu_times(), *(child.cpu_times() for child in process.children(recursive=True))]
    return float(sum(spent.user + spent.system for spent in times))


async def burst(one: Callable[[], Awaitable[None]], count: int) -> float:
    """Lifecycles per second, with a hundred of them outstanding."""
    turn = asyncio.Semaphore(OUTSTANDING)

    async def in_turn() -> None:
        async with turn:
            await one()

    began = time.perf_counter()
    await asyncio.gather(*(in_turn() for _ in range(count)))
    return count / (time.perf_counter() - began)


@dataclass
class Measured:
    """Bursts of one kind of workflow: lifecycles per second, and CPU milliseconds per lifecycle by process."""

    one: Callable[[], Awaitable[None]]
    processes: tuple[str, ...]
    rates: list[float] = field(default_factory=list)
    cpu: dict[str, list[float]] = field(default_factory=dict)

    async def burst(self, bench: Bench) -> None:
        """Measure one more burst."""
        before = {process: bench.cpu_seconds(process) for process in self.processes}
        self.rates.append(await burst(self.one, BURST))
        for process, spent in before.items():
            self.cpu.setdefault(process, []).append((bench.cpu_seconds(process) - spent) / BURST * 1000)

    @property
    def cpu_in_all(self) -> list[float]:
        """CPU milliseconds per lifecycle over all processes, by burst."""
        return [sum(shares) for shares in zip(*self.cpu.values(), strict=True)]


async def throughput(bench: Bench) -> AsyncIterator[Figure]:
    """Corral and the bare workflow in turn: how many a second, and how much CPU each takes, by process and in all."""
    ours = Measured(bench.lifecycle, ("temporal", "worker", "postgres"))
    bare = Measured(bench.bare, ("temporal", "bare"))
    for kind in (ours, bare):
        await burst(kind.one, WARM_UP)
    for _ in range(PAIRS):
        await ours.burst(bench)
        await bare.burst(bench)
    yield beside("lifecycles", "per second", ours.rates, bare.rates)
    yield beside("cpu in all", "ms per lifecycle", ours.cpu_in_all, bare.cpu_in_all)
    yield beside("cpu of temporal", "ms per lifecycle", ours.cpu["temporal"], bare.cpu["temporal"])
    yield beside("cpu of the worker", "ms per lifecycle", ours.cpu["worker"], bare.cpu["bare"])
    yield Figure("cpu of postgres", "ms per lifecycle", spread(ours.cpu["postgres"]))


def beside(name: str, unit: str, ours: list[float], bare: list[float]) -> Figure:
    ratios = [mine / its for mine, its in zip(ours, bare, strict=True)]
    return Figure(name, unit, spread(ours), reference=spread(bare), ratio=spread(ratios))


async def events(bench: Bench) -> AsyncIterator[Figure]:
    """History events of one lifecycle and of one bare workflow."""
    spec = a_workload()
    await bench.corral.submit(spec)
    await bench.corral.wait(spec.id)
    handle = bench.temporal.get_workflow_handle(wire.workload_workflow_id(spec.id))
    count = (await handle.fetch_history()).events
    yield Figure("history", "events per lifecycle", spread([len(count)]))


async def latency(bench: Bench) -> AsyncIterator[Figure]:
    """Submit to held and to bound, with ten submissions a second whatever becomes of them."""
    submitted: dict[str, float] = {}
    waiting: list[asyncio.Task[object]] = []
    for _ in range(OPEN_LOOP_SECONDS * PER_SECOND):
        due = time.time() + 1 / PER_SECOND
        spec = a_workload()
        submitted[spec.id] = time.time()
        await bench.corral.submit(spec)
        waiting.append(asyncio.create_task(bench.corral.wait(spec.id)))
        await asyncio.sleep(max(0.0, due - time.time()))
    await asyncio.gather(*waiting)
    for kind, name in (("reserved", "submit to held"), ("running", "submit to bound")):
        walls = await _walls(bench, kind)
        milliseconds = [(walls[id].timestamp() - at) * 1000 for id, at in submitted.items()]
        quantiles = statistics.quantiles(milliseconds, n=100)
        yield Figure(f"{name}, median", "ms", spread([quantiles[49]]))
        yield Figure(f"{name}, 99th percentile", "ms", spread([quantiles[98]]))


async def _walls(bench: Bench, kind: str) -> dict[str, datetime]:
    query = "SELECT workload_id, wall FROM events WHERE kind = :kind"
    return {row.workload_id: row.wall for row in await bench.rows(query, kind=kind)}


async def arrays(bench: Bench) -> AsyncIterator[Figure]:
    """Identical tasks per second, twenty to an array."""

    async def one() -> None:
        spec = a_workload(tasks=TASKS)
        await bench.corral.submit(spec)
        await bench.corral.wait(spec.id)

    rates = [TASKS * await burst(one, ARRAYS) for _ in range(3)]
    yield Figure(f"tasks of arrays of {TASKS}", "per second", spread(rates))


async def measure(directory: Path) -> AsyncIterator[Figure]:
    """All figures of this file."""
    async with Bench.running(directory) as bench:
        for part in (throughput, events, latency, arrays):
            async for figure in part(bench):
                yield figure
