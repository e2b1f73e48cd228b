"""Partitions between a worker and a cluster, over real sockets, with real processes and clocks that are off.

Two clusters are agents in processes of their own, each with the processes that it runs. Between the worker and the `far` one is
a proxy, or a cable to a network of its own. What runs writes down when it does: no line under an old epoch may come after the
first one under a newer.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import psutil
import pytest
from temporalio.testing import ActivityEnvironment

from activities.answers import AttemptKey
from activities.courier import Courier
from activities.deciding import Decider
from activities.inventory import Inventory
from activities.leasing import Leasing
from activities.observing import Observer
from activities.placement import Placement
from activities.ports import ProviderError
from activities.store.postgres import PostgresStore
from corral.api import QueueTree, ReplicaGroup, State, Target, WorkloadSpec
from domain.pool.leases import LeaseTerms
from tests.activities.fakes import FakeWorkloads
from tests.activities.partition.agent import SlowClock
from tests.activities.partition.namespaces import Namespace, a_namespace
from tests.activities.partition.proxy import Line, a_line
from tests.activities.partition.wire import RemoteProvider
from tests.activities.providers.worlds import stop_all
from tests.activities.store.pool import Pool
from tests.builders import UNPROMISED, a_queue
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port

LEASE, GRACE, SKEW, SUSPECT = 8.0, 1.0, 0.5, 1.2
STEP_SECONDS = 0.1


@dataclass
class Worker:
    """The activities of a worker, run in turns as its workflows would have them run, on a real record and real agents."""

    store: PostgresStore
    providers: dict[str, RemoteProvider]
    log: Path
    lease: float
    placement: Placement = field(init=False)
    leasing: Leasing = field(init=False)
    inventory: Inventory = field(init=False)

    def __post_init__(self) -> None:
        courier, clock = Courier(self.store, FakeWorkloads()), SlowClock(0)
        observer = Observer(self.store, courier)
        self.placement = Placement(self.store, self.providers, observer, courier, clock)
        terms = LeaseTerms(*(timedelta(seconds=each) for each in (self.lease, GRACE, SKEW, SUSPECT)))
        self.leasing = Leasing(self.store, self.providers, courier, clock, terms, renew_seconds=0.4)
        self.inventory = Inventory(self.store, self.providers, observer, self.placement, courier)

    async def steps(self, seconds: float) -> None:
        """Work for a while."""
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            await self.step()

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Work until something holds."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await holds():
                await self.step()

    async def step(self) -> None:
        await asyncio.gather(*(ActivityEnvironment().run(self.leasing.renew, name) for name in self.providers))
        await self.store.round([], Decider().decide, "planner")
        await asyncio.gather(*(self._look(provider) for provider in self.providers.values()))
        standing = await self.store.standing("train")
        if standing is not None and standing.state in {State.RESERVED, State.STARTING}:
            await self._bind(AttemptKey("train", standing.epoch))
        await asyncio.sleep(STEP_SECONDS)

    async def _look(self, provider: RemoteProvider) -> None:
        try:
            await self.inventory._compare(provider)
        except ProviderError:
            return

    async def _bind(self, key: AttemptKey) -> None:
        try:
            await self.placement.bind(key)
        except ProviderError:
            return  # as its workflow, it asks again

    async def is_ready(self) -> bool:
        """Whether both have told their nodes, and the far one answers, which nothing but a step changes."""
        known = {node.provider for node in await self.store.nodes()}
        return known == set(self.providers) and await self.reach("far") == "reachable"

    async def reach(self, cluster: str) -> str:
        return {each.cluster: each.state for each in await self.store.clusters()}.get(cluster, "")

    async def runs(self, epoch: int) -> bool:
        standing = await self.store.standing("train")
        return standing is not None and (standing.state, standing.epoch) == (State.RUNNING, epoch) and epoch in self.epochs()

    def epochs(self) -> list[int]:
        """The epochs under which the work has run, each as often as it was followed by another one."""
        lines = sorted((float(at), int(epoch)) for at, epoch in map(str.split, self.log.read_text().splitlines()))
        found = [epoch for _, epoch in lines]
        return [epoch for before, epoch in zip([0, *found], found, strict=False) if epoch != before]


@asynccontextmanager
async def an_agent(
    directory: Path, cluster: str, behind: float, host: str = "127.0.0.1", inside: Sequence[str] = ()
) -> AsyncIterator[int]:
    port = free_port()
    words = (str(directory / cluster), cluster, host, str(port), str(behind))
    command = (*inside, sys.executable, "-m", "tests.activities.partition.agent", *words)
    process = await asyncio.create_subprocess_exec(*command)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await _listens(host, port):  # noqa: ASYNC110 - it happens in another process
                await asyncio.sleep(0.05)
        yield port
        direct = RemoteProvider(cluster, port, host, PATIENCE_SECONDS)
        await stop_all(direct)
        await direct.aclose()
    finally:
        process.kill()
        await process.wait()


async def _listens(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def behind_a_proxy(directory: Path, behind: float) -> AsyncIterator[tuple[RemoteProvider, Line]]:
    between = free_port()
    async with an_agent(directory, "far", behind) as far, a_line(far, between) as line:
        yield RemoteProvider("far", between), line


@asynccontextmanager
async def in_a_network_of_its_own(directory: Path, behind: float) -> AsyncIterator[tuple[RemoteProvider, Namespace]]:
    async with a_namespace() as network, an_agent(directory, "far", behind, network.host, network.inside) as port:
        try:
            yield RemoteProvider("far", port, network.host), network
        finally:
            await network.mend()


Between = TypeVar("Between")
Far = Callable[[Path, float], AbstractAsyncContextManager[tuple[RemoteProvider, Between]]]


@asynccontextmanager
async def at_work(
    pool: Pool, directory: Path, behind: float, far: Far[Between], lease: float = LEASE
) -> AsyncIterator[tuple[Worker, Between]]:
    """`train` runs in the far cluster, whose clock is off, and there is as much room in the near one."""
    log = directory / "log"
    log.touch()
    async with AsyncExitStack() as stack:
        near = await stack.enter_async_context(an_agent(directory, "near", 0))
        at_far, line = await stack.enter_async_context(far(directory, behind))
        # Nobody cuts the near one off: however late it is, it answers.
        providers = {"near": RemoteProvider("near", near, answer_seconds=PATIENCE_SECONDS), "far": at_far}
        for provider in providers.values():
            stack.push_async_callback(provider.aclose)
        worker = Worker(PostgresStore(pool.engine, SlowClock(0), "main", UNPROMISED), providers, log, lease)
        await worker.store.apply_queues(QueueTree(queues=(a_queue("research", 4),)))
        for name in providers:
            await worker.store.register_provider(name, "local")
        await worker.until(worker.is_ready)
        script = f'while :; do echo "$(date +%s.%N) $CORRAL_EPOCH" >> {log}; sleep 0.02; done'
        spec = WorkloadSpec(
            id="train",
            queue="research",
            groups=(ReplicaGroup(accelerators=1, cpu_milli=0, memory_mib=0),),
            targets=(Target(skus=("h100",), providers=("far",)), Target(skus=("h100",), providers=("near",))),
            command=("sh", "-c", script),
        )
        await worker.store.round([spec], Decider().decide, "admission")
        await worker.until(lambda: worker.runs(1))
        assert (await worker.store.standing("train")).provider == "far"  # type: ignore[union-attr]
        yield worker, line


async def _is(worker: Worker, cluster: str, state: str) -> bool:
    return await worker.reach(cluster) == state


def processes(directory: Path, epoch: int) -> int:
    """How many real processes of a directory run under an epoch."""
    found = 0
    for process in psutil.process_iter():
        try:
            its = process.environ()
        except psutil.Error:
            continue
        is_ours = its.get("CORRAL_DIRECTORY", "").startswith(str(directory)) and its.get("CORRAL_ATTEMPT") == f"train.{epoch}"
        found += is_ours and "sleep" not in process.name()
    return found


@pytest.mark.parametrize("behind", [SKEW, -SKEW])
async def test_the_old_copy_has_stopped_by_itself_before_the_new_one_starts(pool: Pool, tmp_path: Path, behind: float) -> None:
    async with at_work(pool, tmp_path, behind, behind_a_proxy) as (worker, line):
        line.is_cut = True
        await worker.until(lambda: _is(worker, "far", "suspect"))
        assert processes(tmp_path, 1), "it is cut off, and at work"
        assert worker.epochs() == [1]
        await worker.until(lambda: worker.runs(2))
        assert processes(tmp_path, 1) == 0, "nobody could tell it to"
        assert line.dropped > 0
        lost = await worker.store.clusters()
        assert {each.cluster: each.unreleased for each in lost} == {"near": 0, "far": 1}

        line.is_cut = False
        await worker.until(lambda: _is(worker, "far", "reachable"))
        await worker.steps(1)
        assert (await worker.store.status("train")).epoch == 2  # type: ignore[union-attr]
        assert worker.epochs() == [1, 2], "no line of the first comes after one of the second"
        assert await worker.store.audit() == []


async def test_a_cable_that_is_pulled_out_yields_no_two_copies(pool: Pool, tmp_path: Path) -> None:
    async with at_work(pool, tmp_path, SKEW, in_a_network_of_its_own) as (worker, network):
        await network.cut()
        await worker.until(lambda: _is(worker, "far", "suspect"))
        assert processes(tmp_path, 1), "it is cut off, and at work"
        await worker.until(lambda: worker.runs(2))
        assert processes(tmp_path, 1) == 0, "nobody could tell it to"

        await network.mend()
        await worker.until(lambda: _is(worker, "far", "reachable"))
        await worker.steps(1)
        assert worker.epochs() == [1, 2], "no line of the first comes after one of the second"
        assert await worker.store.audit() == []


async def test_a_short_partition_and_a_flapping_line_disturb_nothing(pool: Pool, tmp_path: Path) -> None:
    async with at_work(pool, tmp_path, SKEW, behind_a_proxy, lease=PATIENCE_SECONDS) as (worker, line):
        line.is_cut = True
        await worker.until(lambda: _is(worker, "far", "suspect"))
        line.is_cut = False
        await worker.until(lambda: _is(worker, "far", "reachable"))
        for _ in range(4):
            line.is_cut = True
            await worker.steps(0.6)
            line.is_cut = False
            await worker.steps(0.6)
        assert await worker.runs(1)
        assert worker.epochs() == [1]
        assert line.dropped > 0
        assert {each.losses for each in await worker.store.clusters()} == {0}
        assert await worker.store.audit() == []


async def test_answers_that_are_late_and_overtake_each_other_do_no_harm(pool: Pool, tmp_path: Path) -> None:
    async with at_work(pool, tmp_path, SKEW, behind_a_proxy) as (worker, line):
        line.longest_delay = 0.4
        await worker.steps(4)
        line.longest_delay = 3.0
        sent = [asyncio.create_task(_renew_late(worker, number)) for number in range(10)]
        await worker.until(lambda: _is(worker, "far", "suspect"))
        await asyncio.gather(*sent)
        assert line.overtaken > 0
        line.is_cut = True
        await worker.until(lambda: worker.runs(2))
        assert processes(tmp_path, 1) == 0
        assert worker.epochs() == [1, 2]
        assert await worker.store.audit() == []


async def _renew_late(worker: Worker, number: int) -> None:
    """A renewal as some worker sent it, which arrives whenever it does."""
    leases = await worker.store.grant_leases("far", worker.leasing._terms)
    try:
        await worker.providers["far"].renew(leases)
    except ProviderError:
        return


async def test_the_clocks_of_agents_are_what_they_are_said_to_be() -> None:
    assert abs((datetime.now(UTC) - SlowClock(SKEW).now()).total_seconds() - SKEW) < SKEW / 2
