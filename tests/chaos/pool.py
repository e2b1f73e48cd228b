"""A pool for faults to strike: servers of its own, two unreliable workers, a witness; and calls that outlast what strikes."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import asyncpg
import pytest
from temporalio.service import RPCError, RPCStatusCode

from activities.store.migrations import upgrade
from corral import wire
from corral.api import Cordon, OperationChange
from corral.client import Conflict, Corral, NotFound, Unreachable
from corral.schedule import ScheduleSpec
from corral.wire import Steering
from tests.chaos import witness
from tests.chaos.faults import Orders
from tests.chaos.line import Line
from tests.chaos.plan import FLEET, SPEED, policy, queues
from tests.chaos.scheduled import Scheduled
from tests.end_to_end.pools import LivePool, deaths_are_ordered, looking_into
from tests.patience import PATIENCE_SECONDS
from tests.servers import Stack, own_stack
from worker.embedded import TEMPORAL_OPTIONS, WORKER
from worker.settings import DATABASE, LOOPBACK, embedded_database_url
from worker.supervision import Child
from worker.temporal_server import connect

Answer = TypeVar("Answer")

POOL = "chaos"
AT_A_LINE = "second"
"""The worker that reaches the servers by lines which can be cut."""
WORKERS = (WORKER, AT_A_LINE)
OF_A_SERVER_THAT_IS_AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
GLANCE_SECONDS = 0.3
ACCOUNTED_WITHIN_SECONDS = PATIENCE_SECONDS / 2
EVENTS_OF_A_RUN = 20
"""After which a workflow goes on in another run: most have one or two more, some a dozen."""


async def persistently(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """The answer to a call that may be repeated, however often a server is away meanwhile.

    Raises:
        corral.client.Conflict, corral.client.NotFound: that is the answer.
    """
    give_up = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up:
        try:
            return await call()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                raise NotFound(error.message) from error
        except (Unreachable, OSError, TimeoutError, *OF_A_SERVER_THAT_IS_AWAY):
            pass
        await asyncio.sleep(GLANCE_SECONDS)
    return await call()


@dataclass(frozen=True)
class ChaoticPool:
    """A live pool, asked as often as it takes."""

    stack: Stack
    live: LivePool
    to_postgres: Line
    to_temporal: Line

    @property
    def corral(self) -> Corral:
        """The client."""
        return self.live.corral

    @property
    def orders(self) -> Orders:
        """What the workers are to bring about."""
        return Orders(self.live.settings.state_dir / "orders")

    @property
    def provider_file(self) -> Path:
        """The simulated world."""
        return self.live.directory / f"{self.live.simulator}.sqlite"

    async def rows(self, query: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """What the record says."""
        return await persistently(lambda: self.live.rows(query, *arguments))

    async def let_write(self, *, said: bool) -> None:
        """Whether sessions of the record that begin from now on may write."""
        switch = "off" if said else "on"
        await self._administer(f'ALTER DATABASE "{DATABASE}" SET default_transaction_read_only = {switch}')

    async def end_sessions(self) -> None:
        """End those that are there; workers connect anew."""
        of_others = "datname = current_database() AND pid <> pg_backend_pid()"
        await self._administer(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {of_others}")

    async def lock(self, table: str, seconds: float) -> None:
        """Let nobody else read or write a table for a while."""
        await self._administer(f"BEGIN; LOCK TABLE {table}; SELECT pg_sleep({seconds}); COMMIT")

    async def _administer(self, statements: str) -> None:
        async def once() -> None:
            url = self.live.settings.database_url.replace("+asyncpg", "")
            connection = await asyncpg.connect(url, server_settings={"default_transaction_read_only": "off"})
            try:
                await connection.execute(statements)
            finally:
                await connection.close()

        await persistently(once)

    async def nodes(self) -> list[str]:
        """The names of all nodes."""
        return [row["name"] for row in await self.rows("SELECT name FROM nodes ORDER BY name")]

    async def busy_nodes(self) -> list[str]:
        """The nodes on which something runs, or all of them if nothing does."""
        rows = await self.rows(
            "SELECT DISTINCT n.name FROM nodes n JOIN allocations l ON l.node_id = n.id JOIN attempts a ON a.id = l.attempt_id"
            " WHERE a.started_at IS NOT NULL AND a.ended_at IS NULL ORDER BY n.name"
        )
        return [row["name"] for row in rows] or await self.nodes()

    async def cordon(self, action: str, nodes: Sequence[str]) -> None:
        """Drain nodes, or put them back."""
        order = Cordon(action=action, nodes=tuple(nodes), reason="chaos")
        await persistently(lambda: self.corral.cordon(self.live.simulator, order))

    async def abort_operation(self, id: str) -> None:
        """Abort an evacuation or a roll-out that is not over; one that has not begun never will."""
        change = OperationChange(who="chaos", reason="all is well")
        try:
            await persistently(lambda: self.corral.steer_operation(id, Steering.ABORT, change))
        except (Conflict, NotFound):
            return

    async def terminate(self, workflow: str) -> None:
        """Take a workflow's process away, as an operator may in Temporal's pages; one that has ended by itself stays so."""
        try:
            await persistently(lambda: self.live.temporal.get_workflow_handle(workflow).terminate("chaos"))
        except NotFound:
            return

    async def schedule(self, spec: ScheduleSpec) -> None:
        """Let Temporal order something again and again, until the schedule ends.

        Raises:
            corral.client.Invalid: it has ended by now.
        """
        try:
            await persistently(lambda: self.corral.schedule(spec))
        except Conflict:
            return  # one whose answer was lost is kept

    async def end_schedule(self, id: str) -> Scheduled:
        """Remove a schedule that has ended, once each of its times is accounted for; answers with what became of them.

        If some never are, with what is so then.
        """
        handle = self.live.temporal.get_schedule_handle(wire.schedule_id(id))
        give_up = time.monotonic() + ACCOUNTED_WITHIN_SECONDS
        while True:
            told = Scheduled.of(id, await persistently(handle.describe))
            (ordered,) = await self.rows("SELECT count(*) AS n FROM orders WHERE id LIKE $1 || '-%'", id)
            if told.to_be_ordered <= ordered["n"] or time.monotonic() > give_up:
                break
            await asyncio.sleep(GLANCE_SECONDS)
        await persistently(lambda: self.corral.unschedule(id))
        return told

    async def under_way(self) -> list[str]:
        """The evacuations and roll-outs that are not over."""
        return [row["id"] for row in await self.rows("SELECT id FROM orders WHERE ended_at IS NULL ORDER BY id")]

    async def cancel_reservations(self) -> None:
        """Cancel those that are not over, and can be reached."""
        for id in await self.kept():
            try:
                await persistently(partial(self.corral.cancel_reservation, id, "all is well", key=f"cancel-{id}"))
            except (Conflict, NotFound):
                continue

    async def kept(self) -> list[str]:
        """The reservations that are not over."""
        return [row["id"] for row in await self.rows("SELECT id FROM reservations WHERE ended_at IS NULL ORDER BY id")]

    async def lose(self, nodes: Sequence[str]) -> None:
        """Let nodes be gone."""
        world = await self.live.second_simulator()
        try:
            for node in nodes:
                await world.lose_node(node)
        finally:
            await world.aclose()

    async def recover(self, nodes: Sequence[str]) -> None:
        """Let nodes be back."""
        world = await self.live.second_simulator()
        try:
            for node in nodes:
                await world.recover_node(node)
        finally:
            await world.aclose()

    async def clusters(self) -> list[str]:
        """All clusters, as `region/cluster`."""
        rows = await self.rows("SELECT DISTINCT region || '/' || cluster AS place FROM nodes ORDER BY place")
        return [row["place"] for row in rows]

    async def cut(self, cluster: str) -> None:
        """Let a cluster and its provider not hear of each other."""
        world = await self.live.second_simulator()
        try:
            await world.cut_cluster(cluster)
        finally:
            await world.aclose()

    async def join(self, clusters: Sequence[str]) -> None:
        """Let clusters answer again."""
        world = await self.live.second_simulator()
        try:
            for cluster in clusters:
                await world.join_cluster(cluster)
        finally:
            await world.aclose()

    async def runs_that_went_on(self) -> int:
        """How many runs of workflows have ended because others took over from them."""
        query = 'ExecutionStatus = "ContinuedAsNew"'
        return (await persistently(lambda: self.live.temporal.count_workflows(query))).count

    async def at_the_provider(self) -> list[str]:
        """Attempts that the provider has not forgotten."""
        world = await self.live.second_simulator()
        try:
            return [seen.attempt_id for seen in (await world.snapshot()).attempts]
        finally:
            await world.aclose()

    async def hold(self, workload: str, key: str) -> None:
        """Take a workload out of the line.

        Raises:
            corral.client.Conflict, corral.client.NotFound: it has ended.
        """
        await persistently(lambda: self.corral.hold(workload, "chaos", key=key))

    async def release(self, workload: str) -> None:
        """Put a held workload back in line; one that has not left yet, or has ended, is left as it is."""
        try:
            await persistently(lambda: self.corral.release(workload))
        except (Conflict, NotFound):
            return

    async def release_all(self) -> None:
        """Put everybody back in line who was held."""
        for row in await self.rows("SELECT id FROM workloads WHERE state = 'suspended'"):
            await self.release(row["id"])


@asynccontextmanager
async def chaotic_pool(directory: Path) -> AsyncIterator[ChaoticPool]:
    """Servers and two unreliable workers with all their data below a directory, watched by a witness."""
    with deaths_are_ordered(), runs_are_short():
        async with own_stack(directory, **_settings(directory)) as stack, looking_into(stack.settings) as record:
            await upgrade(stack.settings.database_url)
            temporal = await connect(stack.settings)
            live = LivePool(stack.settings, stack.supervisor, temporal, Corral(temporal, POOL), record)
            async with (
                Line.to(stack.settings.postgres_port) as to_postgres,
                Line.to(stack.settings.temporal_port) as to_temporal,
            ):
                pool = ChaoticPool(stack, live, to_postgres, to_temporal)
                for name in WORKERS:
                    await stack.supervisor.start(_unreliable(pool, name))
                await witness.install(stack.settings.database_url, pool.provider_file)
                await pool.corral.apply_queues(queues())
                yield pool


def _unreliable(pool: ChaoticPool, name: str) -> Child:
    """The process of a worker, which reaches the servers by itself or by the lines."""
    by_lines = {
        "temporal_address": f"{LOOPBACK}:{pool.to_temporal.port}",
        "database_url": embedded_database_url(pool.to_postgres.port),
    }
    child = pool.live.worker("-m", "tests.chaos.worker", name=name)
    settings = pool.live.settings.model_copy(update=by_lines if name == AT_A_LINE else {})
    return replace(child, environment=settings.environment())


@contextmanager
def runs_are_short() -> Iterator[None]:
    """Faults that strike between one run of a workflow and its next would be rare otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TEMPORAL_OPTIONS, "limit.historyCount.suggestContinueAsNew", str(EVENTS_OF_A_RUN))
        yield


def _settings(directory: Path) -> dict[str, object]:
    fleet, first_policy = directory / "fleet.yaml", directory / "policy.json"
    fleet.write_text(FLEET.format(pool=POOL))
    first_policy.write_text(policy().model_dump_json())
    return {
        "pool": POOL,
        "clock_speed": SPEED,
        "clock_origin": datetime.now(UTC),
        "tick_seconds": 1,
        "reconcile_seconds": 3,
        "suspect_seconds": 2,
        "lease_seconds": 15,
        "lease_grace_seconds": 0.5,
        "lease_skew_seconds": 0.5,
        "fleet_file": fleet,
        "policy": str(first_policy),
        "state_dir": directory,
    }
