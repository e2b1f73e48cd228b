"""The driver: submits the load of a plan, lets its faults strike, heals everything, and waits until all work has ended."""

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import asyncpg
import pytest
from temporalio.service import RPCError, RPCStatusCode

from activities.store.migrations import upgrade
from corral.api import Cordon, QueueTree, StopPolicy
from corral.client import Conflict, Corral, NotFound, Unreachable
from tests.chaos import witness
from tests.chaos.faults import ORDERED, Fault, Orders
from tests.chaos.independent import findings
from tests.chaos.plan import FLEET, SPEED, Arrival, Plan, Strike, policy, queues
from tests.end_to_end.pools import LivePool
from tests.servers import Stack, own_stack
from worker import supervision
from worker.embedded import POSTGRES, TEMPORAL, WORKER
from worker.temporal_server import connect

Answer = TypeVar("Answer")

POOL = "chaos"
SECOND = "second"
WORKERS = (WORKER, SECOND)
FROZEN_SECONDS = 10.0
"""Longer than an activity may be silent: what the frozen worker did is given to the other one, and done by both."""
BRIEFLY_SECONDS = 3.0
STRAGGLE_SECONDS = 0.7
DRAIN_SECONDS = 120.0
GLANCE_SECONDS = 0.3
TRIES = 40
CANDIDATES_WITHIN_SECONDS = 20.0

LIVE = ("waiting", "reserving", "reserved", "starting", "running", "stopping")


class NobodyToStrike(Exception):
    """A fault that found none whom it could befall."""


@dataclass
class Chaos:
    """One run. `hits` counts the faults that struck, `sayings` are lines for whoever watches."""

    stack: Stack
    pool: LivePool
    plan: Plan
    say: Callable[[str], None]
    hits: Counter[Fault] = field(default_factory=Counter)
    submitted: dict[str, Arrival] = field(default_factory=dict)
    doomed: set[str] = field(default_factory=set)
    """Workloads that somebody wanted ended, and that may have ended so."""
    busy: dict[str, asyncio.Lock] = field(default_factory=dict)

    @property
    def orders(self) -> Orders:
        """What the workers are to bring about."""
        return Orders(self.pool.settings.state_dir / "orders")

    async def run(self) -> None:
        """Carry the plan out, heal, and drain.

        Raises:
            AssertionError: the load does not drain in time; names what is left.
        """
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._submit_all(began))
            for strike in self.plan.strikes:
                group.create_task(self._let_strike(strike, began))
        await self._linger()
        await self.heal()
        await self._drain()

    # The load

    async def _submit_all(self, began: float) -> None:
        for arrival in self.plan.arrivals:
            await _until(began + arrival.at)
            await self._submit(arrival)

    async def _submit(self, arrival: Arrival) -> None:
        self.submitted[arrival.spec.id] = arrival
        await persistently(lambda: self.pool.corral.submit(arrival.spec))

    async def _linger(self) -> None:
        """Wait until somebody has come by every fault that was ordered; where the load does not, stragglers are sent."""
        for straggler in self.plan.stragglers:
            if not self.orders.open():
                break
            await self._submit(straggler)
            await asyncio.sleep(STRAGGLE_SECONDS)
            await self._hold_and_release(straggler.spec.id)
        missed = self.orders.withdraw()
        self.hits += self.orders.taken()
        if missed:
            self.say(f"ordered, but nobody came by: {dict(missed)}")

    async def heal(self) -> None:
        """Let everything be as it was before the faults."""
        world = await self.pool.second_simulator()
        try:
            for node in (await world.snapshot()).nodes:
                await world.recover_node(node.name)
        finally:
            await world.aclose()
        await self._cordon("uncordon", [node["name"] for node in await self._nodes()])
        await persistently(lambda: self.pool.corral.apply_queues(queues()))
        for row in await self.rows("SELECT id FROM workloads WHERE state = 'suspended'"):
            await self._release(row["id"])

    async def _drain(self) -> None:
        give_up = time.monotonic() + DRAIN_SECONDS
        while left := await self._unfinished():
            assert time.monotonic() < give_up, f"not ended within {DRAIN_SECONDS:g} seconds: {', '.join(left)}"
            for row in await self.rows("SELECT id FROM workloads WHERE state = 'suspended'"):
                await self._release(row["id"])
            await asyncio.sleep(GLANCE_SECONDS)

    async def _unfinished(self) -> list[str]:
        """What still has to happen, in words."""
        known = {row["id"]: row for row in await self.rows("SELECT id, state, ended_at FROM workloads")}
        left = [
            f"{id} is {known[id]['state'] if id in known else 'not known'}" for id in self.submitted if not _ended(known, id)
        ]
        if not left and await self.value("SELECT count(*) FROM outbox WHERE delivered IS NULL"):
            left = ["the outbox"]
        if not left:
            left = [f"{attempt} at the provider" for attempt in await self._at_the_provider()]
        return left or [f"the workflow of {id}" for id in self.submitted if not await self.pool.is_closed(id)]

    async def _at_the_provider(self) -> list[str]:
        world = await self.pool.second_simulator()
        try:
            return [seen.attempt_id for seen in (await world.snapshot()).attempts]
        finally:
            await world.aclose()

    # The faults

    async def _let_strike(self, strike: Strike, began: float) -> None:
        await _until(began + strike.at)
        self.say(f"{time.monotonic() - began:6.1f} s  {strike.fault}")
        if strike.fault in ORDERED:
            self.orders.give(strike.fault)
            return
        try:
            await DEEDS[strike.fault](self, strike)
        except NobodyToStrike as nobody:
            self.say(f"{strike.fault}: {nobody}")
        else:
            self.hits[strike.fault] += 1

    async def _kill(self, name: str) -> None:
        async with self._alone(name):
            await self.stack.kill(name)

    async def _freeze(self, name: str, seconds: float) -> None:
        async with self._alone(name):
            frozen = self.stack.supervisor.pid(name)
            os.kill(frozen, signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)
            finally:
                os.kill(frozen, signal.SIGCONT)

    def _alone(self, name: str) -> asyncio.Lock:
        return self.busy.setdefault(name, asyncio.Lock())

    async def kill_worker(self, strike: Strike) -> None:
        await self._kill(_chosen(WORKERS, strike.pick))

    async def freeze_worker(self, strike: Strike) -> None:
        await self._freeze(_chosen(WORKERS, strike.pick), FROZEN_SECONDS)

    async def kill_temporal(self, _: Strike) -> None:
        await self._kill(TEMPORAL)

    async def freeze_temporal(self, _: Strike) -> None:
        await self._freeze(TEMPORAL, BRIEFLY_SECONDS)

    async def kill_postgres(self, _: Strike) -> None:
        await self._kill(POSTGRES)

    async def lose_node(self, strike: Strike) -> None:
        """One that is in use, if any is."""
        used = await self.rows("SELECT name FROM nodes WHERE 0 < ANY (device_use) ORDER BY name")
        every = await self.rows("SELECT name FROM nodes ORDER BY name")
        await self._lose([_chosen(used or every, strike.pick)["name"]], strike.seconds)

    async def lose_cluster(self, strike: Strike) -> None:
        clusters = await self.rows("SELECT cluster, array_agg(name ORDER BY name) AS nodes FROM nodes GROUP BY 1 ORDER BY 1")
        await self._lose(_chosen(clusters, strike.pick)["nodes"], strike.seconds)

    async def _lose(self, nodes: Sequence[str], seconds: float) -> None:
        world = await self.pool.second_simulator()
        try:
            for node in nodes:
                await world.lose_node(node)
            await asyncio.sleep(seconds)
            for node in nodes:
                await world.recover_node(node)
        finally:
            await world.aclose()

    async def drain_node(self, strike: Strike) -> None:
        used = await self.rows("SELECT name FROM nodes WHERE 0 < ANY (device_use) ORDER BY name")
        every = await self.rows("SELECT name FROM nodes ORDER BY name")
        node = _chosen(used or every, strike.pick)["name"]
        await self._cordon("drain", [node])
        await asyncio.sleep(strike.seconds)
        await self._cordon("uncordon", [node])

    async def _cordon(self, action: str, nodes: Sequence[str]) -> None:
        order = Cordon(action=action, nodes=tuple(nodes), reason="chaos")
        await persistently(lambda: self.pool.corral.cordon(self.pool.simulator, order))

    async def _nodes(self) -> Sequence[asyncpg.Record]:
        return await self.rows("SELECT name FROM nodes ORDER BY name")

    async def cancel(self, strike: Strike) -> None:
        async def one(workload: str) -> None:
            self.doomed.add(workload)
            await persistently(lambda: self.pool.corral.cancel(workload, "chaos", key=f"cancel-{strike.at}"))

        await self._strike_one(strike, LIVE, one)

    async def hold(self, strike: Strike) -> None:
        async def one(workload: str) -> None:
            await persistently(lambda: self.pool.corral.hold(workload, "chaos", key=f"hold-{strike.at}"))
            await asyncio.sleep(strike.seconds)
            await self._release(workload)

        await self._strike_one(strike, ("running", "starting", "reserving", "waiting"), one)

    async def _hold_and_release(self, workload: str) -> None:
        """Unless it has ended by now."""
        try:
            await persistently(lambda: self.pool.corral.hold(workload, "chaos", key="hold"))
        except (Conflict, NotFound):
            return
        await self._release(workload)

    async def _release(self, workload: str) -> None:
        """Put a held workload back in line; one that has not left yet is found again when all is healed."""
        try:
            await persistently(lambda: self.pool.corral.release(workload, key=f"release-{time.monotonic()}"))
        except (Conflict, NotFound):
            return

    async def reprioritize(self, strike: Strike) -> None:
        async def one(workload: str) -> None:
            await persistently(lambda: self.pool.corral.reprioritize(workload, 9, key=f"first-{strike.at}"))

        await self._strike_one(strike, LIVE, one)

    async def submit_again(self, strike: Strike) -> None:
        arrival = self.submitted[_chosen(sorted(self.submitted), strike.pick)]
        again = await persistently(lambda: self.pool.corral.submit(arrival.spec))
        assert not again.created, f"{arrival.spec.id} was created twice"

    async def cancel_workflow(self, strike: Strike) -> None:
        async def one(workload: str) -> None:
            self.doomed.add(workload)
            await persistently(lambda: self.pool.handle(workload).cancel())

        await self._strike_one(strike, LIVE, one)

    async def terminate_workflow(self, strike: Strike) -> None:
        async def one(workload: str) -> None:
            self.doomed.add(workload)
            await persistently(lambda: self.pool.handle(workload).terminate("chaos"))

        await self._strike_one(strike, ("running", "waiting", "starting"), one)

    async def change_quota(self, strike: Strike) -> None:
        await persistently(lambda: self.pool.corral.apply_queues(queues(nominal=round(40 * strike.pick))))

    async def drain_queue(self, strike: Strike) -> None:
        """Everything in a queue leaves, and comes back when it is open again."""
        leaves = [queue for queue in queues().queues if queue.parent]
        queue = _chosen(leaves, strike.pick)
        stopped = QueueTree(queues=(queue.model_copy(update={"stop": StopPolicy.HOLD_AND_DRAIN}),))
        await persistently(lambda: self.pool.corral.apply_queues(stopped))
        await asyncio.sleep(strike.seconds)
        await persistently(lambda: self.pool.corral.apply_queues(QueueTree(queues=(queue,))))

    async def change_policy(self, strike: Strike) -> None:
        """Another one, and after a while the first again."""
        for gentle in (False, True):
            await persistently(lambda gentle=gentle: self.pool.corral.apply_policy(policy(gentle=gentle)))  # type: ignore[misc]
            await asyncio.sleep(strike.seconds)

    async def _strike_one(self, strike: Strike, states: Sequence[str], deed: Callable[[str], Awaitable[None]]) -> None:
        """Do something to one of the workloads in these states; to another one when that one has ended meanwhile."""
        give_up = time.monotonic() + CANDIDATES_WITHIN_SECONDS
        query = "SELECT id FROM workloads WHERE state = ANY($1) ORDER BY id"
        while time.monotonic() < give_up:
            rows = [row for row in await self.rows(query, list(states)) if row["id"] not in self.doomed]
            if rows:
                try:
                    return await deed(_chosen(rows, strike.pick)["id"])
                except (Conflict, NotFound):
                    pass
            await asyncio.sleep(GLANCE_SECONDS)
        raise NobodyToStrike(f"no workload was {' or '.join(states)} for {CANDIDATES_WITHIN_SECONDS:g} seconds")

    # The record

    async def rows(self, query: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """What the record says, as soon as it answers."""
        return await persistently(lambda: self.pool.rows(query, *arguments))

    async def value(self, query: str, *arguments: object) -> object:
        """The only value of the only row."""
        return (await self.rows(query, *arguments))[0][0]

    async def findings(self) -> list[str]:
        """What the independent check finds."""
        connection = await asyncpg.connect(self.pool.settings.database_url.replace("+asyncpg", ""))
        try:
            ends = {id: arrival.ends for id, arrival in self.submitted.items()}
            await witness.testify(connection, self.pool.temporal, _records(self.pool), ends, self.doomed)
            return await findings(connection)
        finally:
            await connection.close()


DEEDS: dict[Fault, Callable[[Chaos, Strike], Awaitable[None]]] = {
    Fault.WORKER_KILLED: Chaos.kill_worker,
    Fault.WORKER_FROZEN: Chaos.freeze_worker,
    Fault.TEMPORAL_KILLED: Chaos.kill_temporal,
    Fault.TEMPORAL_FROZEN: Chaos.freeze_temporal,
    Fault.POSTGRES_KILLED: Chaos.kill_postgres,
    Fault.NODE_LOST: Chaos.lose_node,
    Fault.CLUSTER_LOST: Chaos.lose_cluster,
    Fault.NODE_DRAINED: Chaos.drain_node,
    Fault.WORKLOAD_CANCELLED: Chaos.cancel,
    Fault.WORKLOAD_HELD: Chaos.hold,
    Fault.WORKLOAD_REPRIORITIZED: Chaos.reprioritize,
    Fault.WORKLOAD_SUBMITTED_AGAIN: Chaos.submit_again,
    Fault.WORKFLOW_CANCELLED: Chaos.cancel_workflow,
    Fault.WORKFLOW_TERMINATED: Chaos.terminate_workflow,
    Fault.QUOTA_CHANGED: Chaos.change_quota,
    Fault.QUEUE_DRAINED: Chaos.drain_queue,
    Fault.POLICY_CHANGED: Chaos.change_policy,
}


async def persistently(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """The answer to a call that may be repeated, however often a server is away meanwhile.

    Raises:
        corral.client.Conflict, corral.client.NotFound: that is the answer.
    """
    for _ in range(TRIES):
        try:
            return await call()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                raise NotFound(error.message) from error
        except (Unreachable, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pass
        await asyncio.sleep(GLANCE_SECONDS)
    return await call()


def _ended(known: dict[str, asyncpg.Record], workload: str) -> bool:
    return workload in known and known[workload]["ended_at"] is not None


def _chosen(among: Sequence[Answer], pick: float) -> Answer:
    return among[int(pick * len(among))]


async def _until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.monotonic()))


def _records(pool: LivePool) -> Path:
    return pool.directory / f"{pool.simulator}.sqlite"


@asynccontextmanager
async def chaotic_pool(plan: Plan, directory: Path, say: Callable[[str], None]) -> AsyncIterator[Chaos]:
    """Servers and two unreliable workers for one run, with all their data below a directory, watched by a witness."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervision, "STARTS_PER_MINUTE", 1_000)  # these deaths are ordered
        patch.setattr(supervision, "FIRST_PAUSE_SECONDS", 0.005)
        async with own_stack(directory, **_settings(directory)) as stack:
            await upgrade(stack.settings.database_url)
            temporal = await connect(stack.settings)
            pool = LivePool(stack.settings, stack.supervisor, temporal, Corral(temporal, POOL))
            for name in WORKERS:
                await pool.start_worker("-m", "tests.chaos.worker", name=name)
            connection = await asyncpg.connect(stack.settings.database_url.replace("+asyncpg", ""))
            await witness.install(connection, _records(pool))
            await connection.close()
            await pool.corral.apply_queues(queues())
            yield Chaos(stack, pool, plan, say)


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
        "fleet_file": fleet,
        "policy": str(first_policy),
        "state_dir": directory,
    }


def say_on_terminal(line: str) -> None:
    """Tell whoever watches."""
    print(line, file=sys.stderr, flush=True)
