"""`python -m tests.benchmarks.rounds`: whole rounds on a real record, by step: read, decide and commit; JSON lines."""

import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count, islice
from pathlib import Path

import psutil
import uvloop
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from activities.answers import AttemptKey
from activities.deciding import Decider
from activities.ports import Decide, NodeView, Observation, Phase
from activities.store.migrations import upgrade
from activities.store.postgres import PostgresStore
from corral.api import WHOLE, Explanation, QueueSpec, QueueTree, QuotaSpec, Reason, ReplicaGroup, Topology, WorkloadSpec
from corral.policy import Policy
from domain.decision import Decision, Plan, Start, Wait
from domain.pool.fleet import Node, NodeShare, Placement, Replica, Room
from domain.snapshot import Snapshot
from tests.activities.store.pool import HandClock
from tests.benchmarks.figures import Figure, spread
from tests.ports import free_port
from worker.embedded import POSTGRES, postgres_child
from worker.settings import embedded_database_url
from worker.supervision import Supervisor

PROVIDER, POOL, QUEUE, SKU = "bench", "bench", "research", "gpu"
DEVICES = 8
AT_ONCE = 1_000
"""Workloads that are written in one round while the pool is filled."""
BUSY = Explanation(reason=Reason.NOT_ENOUGH_FREE_ACCELERATORS, message="all nodes are in use")
COLD, WARM = 3, 7
"""How often each kind of round is measured."""


@dataclass(frozen=True, slots=True)
class Size:
    """A pool that is full: every running workload has `width` nodes to itself, and those that wait want as many."""

    nodes: int
    width: int
    waiting: int

    @property
    def running(self) -> int:
        """Workloads that have capacity."""
        return self.nodes // self.width

    @property
    def in_words(self) -> str:
        """For the name of a figure."""
        return f"{self.nodes * DEVICES:,} accelerators, {self.running:,} running, {self.waiting:,} waiting"


SIZES = (Size(nodes=1_250, width=1, waiting=1_000), Size(nodes=12_500, width=3, waiting=10_000))


@dataclass
class Filling:
    """Gives the first who wait whole free nodes, and tells all others that they wait: what it takes is next to nothing."""

    width: int
    most: int = sys.maxsize

    def __call__(self, snapshot: Snapshot, now: datetime) -> tuple[Plan, Mapping[str, float]]:
        places = self._places(snapshot.nodes) if self.most else iter(())
        started = [
            Start(workload.id, place) for workload, place in zip(snapshot.waiting, islice(places, self.most), strict=False)
        ]
        waits = [Wait(workload.id, BUSY) for workload in snapshot.waiting[len(started) :]]
        decisions: tuple[Decision, ...] = (*started, *waits)
        return Plan(decisions), {}

    def _places(self, nodes: Sequence[Node]) -> Iterator[Placement]:
        free = [node for node in nodes if node.free.whole_devices == DEVICES]
        for first in range(0, len(free) - self.width + 1, self.width):
            chosen = free[first : first + self.width]
            shares = tuple(_whole(node, index) for index, node in enumerate(chosen))
            yield Placement(PROVIDER, chosen[0].region, SKU, shares)


def _whole(node: Node, index: int) -> NodeShare:
    return NodeShare(node.id, Room((WHOLE,) * DEVICES, 0, 0), (Replica("main", index, tuple(range(DEVICES))),))


@dataclass
class Bench:
    """A pool of one size in a database of its own."""

    size: Size
    url: str
    engine: AsyncEngine
    server: psutil.Process
    """PostgreSQL."""
    policy: Policy = field(default_factory=Policy)
    clock: HandClock = field(default_factory=HandClock)
    ids: Iterator[int] = field(default_factory=count)
    running: list[AttemptKey] = field(default_factory=list)

    def a_store(self) -> PostgresStore:
        """The store of a process that knows nothing yet."""
        return PostgresStore(self.engine, self.clock, POOL, self.policy)

    async def fill(self) -> None:
        """Nodes are reported, workloads run on all of them, and others wait."""
        store = self.a_store()
        await store.register_provider(PROVIDER, "bench")
        await store.write_nodes(PROVIDER, [_view(number) for number in range(self.size.nodes)], complete=True)
        queue = QueueSpec(name=QUEUE, quotas=(QuotaSpec(sku=SKU, nominal=self.size.nodes * DEVICES),))
        await store.apply_queues(QueueTree(queues=(queue,)))
        fills, keeps = Filling(self.size.width), Filling(self.size.width, most=0)
        for decide, number in ((fills, self.size.running), (keeps, self.size.waiting)):
            for first in range(0, number, AT_ONCE):
                await self.arrive(store, decide, min(AT_ONCE, number - first))
        self.clock.move(3_600)
        await store.round([], keeps, "bench")
        async with self.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            await connection.execute(text("VACUUM ANALYZE"))

    async def arrive(self, store: PostgresStore, decide: Decide, number: int) -> float:
        """A round with so many new workloads, which takes so many milliseconds; those that get capacity run afterwards."""
        specs = [self._spec() for _ in range(number)]
        placed: list[str] = []

        def and_note(snapshot: Snapshot, now: datetime) -> tuple[Plan, Mapping[str, float]]:
            plan, milliseconds = decide(snapshot, now)
            placed[:] = [start.workload_id for start in plan.starts]
            return plan, milliseconds

        began = time.perf_counter()
        await store.round(specs, and_note, "bench")
        took = (time.perf_counter() - began) * 1000
        keys = [AttemptKey(id, 1) for id in placed]
        await store.begin_bindings(keys)
        await store.settle([self.seen(key, Phase.RUNNING) for key in keys])
        self.running += keys
        return took

    async def change(self, store: PostgresStore) -> int:
        """A hundredth of what runs ends; answers how many workloads are to arrive as a hundredth of those who wait."""
        part = max(1, self.size.running // 100)
        over, self.running = self.running[:part], self.running[part:]
        await store.settle([self.seen(key, Phase.SUCCEEDED) for key in over])
        return max(1, self.size.waiting // 100)

    def seen(self, key: AttemptKey, phase: Phase) -> Observation:
        """A report that an attempt is in a phase now."""
        now = self.clock.now()
        return Observation(f"{key.workload}.{key.epoch}", key.epoch, phase, next(self.ids), now, started_at=now)

    def _spec(self) -> WorkloadSpec:
        group = ReplicaGroup(count=self.size.width, accelerators=DEVICES)
        return WorkloadSpec(id=f"w{next(self.ids):08}", queue=QUEUE, groups=(group,), topology=Topology())


def _view(number: int) -> NodeView:
    return NodeView(
        name=f"n{number:06}",
        region=f"region-{number // 4096}",
        cluster=f"c{number // 1024}",
        sku=SKU,
        topology=(("block", f"b{number // 256}"), ("rack", f"r{number // 16}")),
        accelerators=DEVICES,
        cpu_milli=64_000,
        memory_mib=512_000,
    )


@asynccontextmanager
async def filled(size: Size, policy: Policy | None = None) -> AsyncIterator[Bench]:
    """A PostgreSQL that writes durably, with a pool of that size in it, under this policy or the default one."""
    with tempfile.TemporaryDirectory(prefix="corral-bench-") as directory:
        async with Supervisor(Path(directory)) as supervisor:
            port = free_port()
            await supervisor.start(postgres_child(Path(directory), port))
            server = psutil.Process(supervisor.pid(POSTGRES))
            url = embedded_database_url(port)
            await upgrade(url)
            engine = create_async_engine(url)
            bench = Bench(size, url, engine, server, policy or Policy())
            await bench.fill()
            yield bench
            await engine.dispose()


@dataclass
class Measured:
    """Rounds of one kind: milliseconds in all and by step."""

    name: str
    total: list[float] = field(default_factory=list)
    steps: dict[str, list[float]] = field(default_factory=dict)

    def note(self, store: PostgresStore, took: float) -> None:
        """Another round."""
        self.total.append(took)
        for step, milliseconds in store.steps.items():
            self.steps.setdefault(step, []).append(milliseconds)

    def figures(self) -> Iterator[Figure]:
        """The whole and its parts, which lack what lies between them, as the commit itself."""
        yield Figure(f"{self.name}: whole round", "ms", spread(self.total))
        for step, milliseconds in self.steps.items():
            yield Figure(f"{self.name}: {step}", "ms", spread(milliseconds))


async def rounds(bench: Bench, decide: Decide, said: str, cold: int = COLD, warm: int = WARM) -> AsyncIterator[Figure]:
    """The first round of a process, rounds without any change, and rounds after a hundredth has changed."""
    kinds = [Measured(f"{bench.size.in_words}; {said}; {kind}") for kind in ("first round", "nothing changed", "1 % changed")]
    first, unchanged, changed = kinds
    for _ in range(cold):
        store = bench.a_store()
        first.note(store, await bench.arrive(store, decide, 0))
    for _ in range(warm):
        bench.clock.move(1)
        unchanged.note(store, await bench.arrive(store, decide, 0))
    for _ in range(warm):
        bench.clock.move(1)
        arriving = await bench.change(store)
        changed.note(store, await bench.arrive(store, decide, arriving))
    for kind in kinds:
        for figure in kind.figures():
            yield figure


async def measure(decide: Decide, sizes: Sequence[Size] = SIZES) -> AsyncIterator[Figure]:
    """The store alone, and the store around whatever decides."""
    for size in sizes:
        async with filled(size) as bench:
            async for figure in rounds(bench, Filling(size.width), "the store alone"):
                yield figure
            async for figure in rounds(bench, decide, "all of it", cold=1, warm=3):
                yield figure


async def main() -> None:
    """Measure, and print each figure when it is there."""
    async for figure in measure(Decider().decide):
        print(figure.as_json(), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
