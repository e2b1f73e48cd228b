"""What the driver does to a pool, by the name of the fault: to its processes, its supply, and as people would."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf
from typing import TypeVar

import psutil

from corral import wire
from corral.api import Demand, EvacuationOrder, PlaceKind, QueueTree, Resize, StopPolicy, WorkloadSpec
from corral.client import Conflict, Invalid, NotFound
from corral.reservation import Lending, Purpose, ReservationSpec
from corral.rollout import Change, RolloutOrder
from corral.schedule import RecurringEvacuation, ScheduleSpec
from tests.chaos.faults import OF_RESIZES, Fault
from tests.chaos.line import Line
from tests.chaos.plan import SPEED, Strike, policy, queues
from tests.chaos.pool import AT_A_LINE, GLANCE_SECONDS, WORKERS, ChaoticPool, persistently
from tests.chaos.scheduled import CRON, Scheduled
from tests.end_to_end.pools import eventually
from tests.patience import PATIENCE_SECONDS
from worker.embedded import POSTGRES, TEMPORAL

One = TypeVar("One")

FROZEN_SECONDS = 10.0
"""Longer than an activity may be silent: what the frozen worker did is given to the other one, and done by both."""
BRIEFLY_SECONDS = 3.0
LOST_WITHIN_SECONDS = 2 * PATIENCE_SECONDS
"""Far longer than lease, grace and skew (see `tests.chaos.pool`): for a part of it no worker may be there to see it."""
CANDIDATES_WITHIN_SECONDS = PATIENCE_SECONDS / 2
TRIES = 10
SCHEDULED_SECONDS = 8

LIVE = ("waiting", "reserving", "reserved", "starting", "running", "resizing", "stopping")


class NobodyToStrike(Exception):
    """A fault that found none whom it could befall."""


@dataclass
class Deeds:
    """The deeds of one run."""

    pool: ChaoticPool
    submitted: dict[str, WorkloadSpec] = field(default_factory=dict)
    doomed: set[str] = field(default_factory=set)
    """Workloads that somebody wanted ended, and that may have ended so."""
    scheduled: list[Scheduled] = field(default_factory=list)
    """What became of the times of schedules."""
    all_have_come: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once all of the load has been submitted, which takes its time while what it is submitted to is away."""
    _one_at_a_time: dict[str, asyncio.Lock] = field(default_factory=dict)

    # Processes

    async def kill_worker(self, strike: Strike) -> None:
        await self._kill(chosen(WORKERS, strike.pick))

    async def kill_all_workers(self, _: Strike) -> None:
        await asyncio.gather(*(self._kill(worker) for worker in WORKERS))

    async def kill_all(self, _: Strike) -> None:
        """As when the power of the machine fails; whatever comes back comes back in any order."""
        await asyncio.gather(*(self._kill(name) for name in (POSTGRES, TEMPORAL, *WORKERS)))

    async def stop_worker(self, strike: Strike) -> None:
        """In good order, as each of them is by a new version."""
        await self._kill(chosen(WORKERS, strike.pick), signal.SIGTERM)

    async def kill_temporal(self, _: Strike) -> None:
        await self._kill(TEMPORAL)

    async def kill_temporal_in_update(self, strike: Strike) -> None:
        """While it has a change of somebody's that no worker can take from it; whoever asked asks again."""

        async def one(workload: str) -> None:
            async with self._frozen(*WORKERS):
                asking = persistently(lambda: self.pool.corral.reprioritize(workload, 5, key=f"cut-{strike.at}"))
                asked = asyncio.create_task(asking)
                await asyncio.sleep(GLANCE_SECONDS)
                await self._kill(TEMPORAL)
            await asked

        await self._to_one(strike, LIVE, one)

    async def kill_postgres(self, _: Strike) -> None:
        await self._kill(POSTGRES)

    async def freeze_worker(self, strike: Strike) -> None:
        await self._freeze(chosen(WORKERS, strike.pick), FROZEN_SECONDS)

    async def freeze_temporal(self, _: Strike) -> None:
        await self._freeze(TEMPORAL, BRIEFLY_SECONDS)

    async def freeze_temporal_for_long(self, _: Strike) -> None:
        await self._freeze(TEMPORAL, FROZEN_SECONDS)

    async def freeze_postgres(self, _: Strike) -> None:
        await self._freeze(POSTGRES, FROZEN_SECONDS)

    async def let_postgres_be_read_only(self, strike: Strike) -> None:
        """Every session that begins meanwhile, and those that are there are ended, as after a failover to a replica."""
        await self.pool.let_write(said=False)
        try:
            await self.pool.end_sessions()
            await asyncio.sleep(strike.seconds)
        finally:
            await self.pool.let_write(said=True)

    async def end_sessions(self, _: Strike) -> None:
        await self.pool.end_sessions()

    async def lock_table(self, strike: Strike) -> None:
        """As somebody does who changes it by hand, or lets it be packed."""
        table = chosen(("workloads", "attempts", "nodes", "clusters", "outbox"), strike.pick)
        await self.pool.lock(table, strike.seconds)

    # The way from a worker to a server

    async def cut_worker_from_postgres(self, strike: Strike) -> None:
        await self._cut_off(self.pool.to_postgres, 2 * strike.seconds)

    async def cut_worker_from_temporal(self, strike: Strike) -> None:
        """It goes on with what it does, also while another one has been given that."""
        await self._cut_off(self.pool.to_temporal, 2 * strike.seconds)

    async def _cut_off(self, line: Line, seconds: float) -> None:
        async with self._alone(AT_A_LINE):
            await self.pool.stack.supervisor.until_ready(AT_A_LINE)
            await eventually(line.is_in_use, f"the worker {AT_A_LINE} uses its line")
            async with line.silent():
                await asyncio.sleep(seconds)

    async def _kill(self, name: str, by: signal.Signals = signal.SIGKILL) -> None:
        async with self._alone(name):
            await self.pool.stack.supervisor.until_ready(name)
            await self.pool.stack.kill(name, by)

    async def _freeze(self, name: str, seconds: float) -> None:
        async with self._frozen(name):
            await asyncio.sleep(seconds)

    @asynccontextmanager
    async def _frozen(self, *names: str) -> AsyncIterator[None]:
        """Processes that do nothing until the context is left; none before all are ready, which might wait for another one."""
        async with AsyncExitStack() as alone:
            for name in names:
                await alone.enter_async_context(self._alone(name))
            for name in names:
                await self.pool.stack.supervisor.until_ready(name)
            frozen = [process for name in names for process in _suspended(self.pool.stack.supervisor.pid(name))]
            try:
                yield
            finally:
                for process in frozen:
                    with suppress(psutil.NoSuchProcess):
                        process.resume()

    def _alone(self, name: str) -> asyncio.Lock:
        return self._one_at_a_time.setdefault(name, asyncio.Lock())

    # Supply

    async def lose_node(self, strike: Strike) -> None:
        await self._lose([chosen(await self.pool.busy_nodes(), strike.pick)], strike.seconds)

    async def lose_cluster(self, strike: Strike) -> None:
        query = "SELECT array_agg(name ORDER BY name) AS nodes FROM nodes GROUP BY cluster ORDER BY cluster"
        await self._lose(chosen(await self.pool.rows(query), strike.pick)["nodes"], strike.seconds)

    async def _lose(self, nodes: Sequence[str], seconds: float) -> None:
        await self.pool.lose(nodes)
        await asyncio.sleep(seconds)
        await self.pool.recover(nodes)

    async def cut_cluster_briefly(self, strike: Strike) -> None:
        """Cut it off from its provider for so long that it may be suspect, and not lost."""
        async with self._cut(strike):
            await asyncio.sleep(strike.seconds)

    async def cut_cluster(self, strike: Strike) -> None:
        """Until it is lost, and for a while more."""
        async with self._cut(strike) as cluster:
            lost = f"SELECT 1 FROM clusters WHERE region || '/' || name = '{cluster}' AND reach = 'lost'"
            give_up = time.monotonic() + LOST_WITHIN_SECONDS
            while not await self.pool.rows(lost):
                assert time.monotonic() < give_up, f"cluster {cluster} is not lost within {LOST_WITHIN_SECONDS:g} seconds"
                await asyncio.sleep(GLANCE_SECONDS)
            await asyncio.sleep(strike.seconds)

    @asynccontextmanager
    async def _cut(self, strike: Strike) -> AsyncIterator[str]:
        """One cluster, which does not answer until the context is left; one at a time."""
        async with self._alone("clusters"):
            cluster = chosen(await self.pool.clusters(), strike.pick)
            await self.pool.cut(cluster)
            try:
                yield cluster
            finally:
                await self.pool.join([cluster])

    async def drain_node(self, strike: Strike) -> None:
        node = chosen(await self.pool.busy_nodes(), strike.pick)
        await self.pool.cordon("drain", [node])
        await asyncio.sleep(strike.seconds)
        await self.pool.cordon("uncordon", [node])

    # People

    async def cancel(self, strike: Strike) -> None:
        async def one(workload: str) -> None:
            self.doomed.add(workload)
            await persistently(lambda: self.pool.corral.cancel(workload, "chaos", key=f"cancel-{strike.at}"))

        await self._to_one(strike, LIVE, one)

    async def hold(self, strike: Strike) -> None:
        """And release it; if it has not left its place by then, that is done when all is healed."""

        async def one(workload: str) -> None:
            await self.pool.hold(workload, f"hold-{strike.at}")
            await asyncio.sleep(strike.seconds)
            await self.pool.release(workload)

        await self._to_one(strike, ("running", "starting", "reserving", "waiting"), one)

    async def reprioritize(self, strike: Strike) -> None:
        async def one(workload: str) -> None:
            await persistently(lambda: self.pool.corral.reprioritize(workload, 9, key=f"first-{strike.at}"))

        await self._to_one(strike, LIVE, one)

    async def submit_again(self, strike: Strike) -> None:
        spec = self.submitted[chosen(sorted(self.submitted), strike.pick)]
        again = await persistently(lambda: self.pool.corral.submit(spec))
        assert not again.created, f"{spec.id} was created twice"

    async def cancel_workflow(self, strike: Strike) -> None:
        async def one(workload: str) -> None:
            self.doomed.add(workload)
            await persistently(lambda: self.pool.live.handle(workload).cancel())

        await self._to_one(strike, LIVE, one)

    async def terminate_workflow(self, strike: Strike) -> None:
        async def one(workload: str) -> None:
            self.doomed.add(workload)
            await persistently(lambda: self.pool.live.handle(workload).terminate("chaos"))

        await self._to_one(strike, ("running", "waiting", "starting"), one)

    async def terminate_operation(self, strike: Strike) -> None:
        """That of an evacuation; whoever heals aborts it as soon as it can be steered again."""
        order = await self._evacuate(strike, "terminated")
        await self.pool.terminate(wire.evacuation_workflow_id(order.id))

    async def terminate_reservation(self, strike: Strike) -> None:
        """One whose window opens when nobody keeps its time; whoever heals cancels it as soon as it can be."""
        await self._reserve(strike, "terminated", 20, {"accelerators": 8, "sku": "h100", "queues": ("research",)})
        await self.pool.terminate(wire.reservation_workflow_id(self._named("terminated", strike)))

    async def terminate_planner(self, strike: Strike) -> None:
        """Of rounds, of growth, or the reconciler of the provider."""
        live = self.pool.live
        pool, provider = live.settings.pool, live.simulator
        all_of_them = wire.rounds_workflow_id(pool), wire.growth_workflow_id(pool), wire.provider_workflow_id(provider)
        await self.pool.terminate(chosen(all_of_them, strike.pick))

    async def schedule_into_outage(self, strike: Strike) -> None:
        """What is ordered every second falls due while Temporal or PostgreSQL is away, each time as before and after."""
        row = chosen(await self.pool.rows("SELECT id, name FROM nodes ORDER BY id"), strike.pick)
        emptied = RecurringEvacuation(kind=PlaceKind.NODE, place=row["id"], deadline_seconds=SPEED)
        said = {"cron": CRON, "reason": "chaos", "who": "chaos", "evacuate": emptied}
        for number in range(TRIES):  # under an id of its own each time: the last one may have ordered something before its end
            id = self._named(f"scheduled-{number}", strike)
            until = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=SCHEDULED_SECONDS)
            try:
                await self.pool.schedule(ScheduleSpec.model_validate({"id": id, "until": until, **said}))
            except Invalid:
                continue  # it arrived when its end was over
            await asyncio.sleep(BRIEFLY_SECONDS)
            await self._kill(chosen((TEMPORAL, POSTGRES), strike.seconds % 1))
            await asyncio.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()))
            self.scheduled.append(await self.pool.end_schedule(id))
            return await self.pool.cordon("uncordon", [row["name"]])
        raise NobodyToStrike(f"{TRIES} schedules had ended before they could be kept")

    async def change_quota(self, strike: Strike) -> None:
        await persistently(lambda: self.pool.corral.apply_queues(queues(nominal=round(40 * strike.pick))))

    async def drain_queue(self, strike: Strike) -> None:
        """Everything in a queue leaves, and comes back when it is open again."""
        queue = chosen([queue for queue in queues().queues if queue.parent], strike.pick)
        stopped = QueueTree(queues=(queue.model_copy(update={"stop": StopPolicy.HOLD_AND_DRAIN}),))
        await persistently(lambda: self.pool.corral.apply_queues(stopped))
        await asyncio.sleep(strike.seconds)
        await persistently(lambda: self.pool.corral.apply_queues(QueueTree(queues=(queue,))))

    async def change_policy(self, strike: Strike) -> None:
        """Another one, and after a while the first again."""
        await persistently(lambda: self.pool.corral.apply_policy(policy(gentle=False)))
        await asyncio.sleep(strike.seconds)
        await persistently(lambda: self.pool.corral.apply_policy(policy()))

    async def roll_policy_back(self, strike: Strike) -> None:
        """Roll another one out, and think better of it."""
        change = Change(policy=policy(gentle=False).model_copy(update={"name": f"tried-{strike.at:.2f}"}))
        order = RolloutOrder(id=f"tried-{strike.at:.2f}", change=change, reason="chaos", who="chaos", watch_seconds=86_400)
        await persistently(lambda: self.pool.corral.roll_out(order))
        await asyncio.sleep(strike.seconds)
        await self.pool.abort_operation(order.id)

    async def change_demand(self, strike: Strike) -> None:
        """Much more of it, and after a while hardly any."""

        async def one(workload: str) -> None:
            for demand, key in ((round(10 + 40 * strike.pick), "more"), (5, "less")):
                told, request = Demand(value=demand), f"{key}-{strike.at}"
                await persistently(partial(self.pool.corral.demand, workload, told, key=request))
                await asyncio.sleep(strike.seconds)

        await self._to_one(strike, ("running", "starting", "waiting"), one, "endpoint-%")

    async def choose_size(self, strike: Strike, which: str = "endpoint-%") -> None:
        """Of an endpoint: a larger one, and after a while the smallest."""

        async def one(workload: str) -> None:
            for count, key in ((round(2 + 2 * strike.pick), "larger"), (1, "smaller")):
                chosen_size, request = Resize(count=count), f"{key}-{strike.at}"
                await persistently(partial(self.pool.corral.resize, workload, chosen_size, key=request))
                await self._until_it_has(workload, count, strike.seconds)

        changes_as_it_runs = ("running", "resizing")
        states = changes_as_it_runs if strike.fault in OF_RESIZES else (*changes_as_it_runs, "waiting")
        await self._to_one(strike, states, one, which)

    async def _until_it_has(self, workload: str, replicas: int, seconds: float) -> None:
        """Unless it does not in time."""
        over = time.monotonic() + seconds
        query = "SELECT 1 FROM attempts WHERE workload_id = $1 AND ended_at IS NULL AND replicas = $2"
        while time.monotonic() < over:
            if await self.pool.rows(query, workload, replicas):
                return
            await asyncio.sleep(GLANCE_SECONDS)

    async def reserve_capacity(self, strike: Strike) -> None:
        """Of a queue, soon, for a while; what it leaves idle then is lent, or is not."""
        queue = chosen([queue.name for queue in queues().queues if queue.parent], strike.pick)
        lent = chosen(list(Lending), strike.seconds % 1)
        await self._reserve(strike, "chaos", 60, {"accelerators": 8, "sku": "h100", "queues": (queue,), "lent": lent})

    async def maintain_node(self, strike: Strike) -> None:
        node = chosen(await self.pool.rows("SELECT id FROM nodes ORDER BY id"), strike.pick)["id"]
        await self._reserve(strike, "chaos", 90, {"purpose": Purpose.MAINTENANCE, "nodes": (node,)})

    async def _reserve(self, strike: Strike, name: str, opens_in: float, what: Mapping[str, object]) -> None:
        async def from_now_on() -> None:
            start = self.pool.live.settings.clock().now() + timedelta(seconds=opens_in)
            given = {"id": self._named(name, strike), "start": start, "seconds": 1_200, "reason": "chaos", **what}
            await self.pool.corral.reserve(ReservationSpec.model_validate(given))

        for _ in range(TRIES):
            try:
                await persistently(from_now_on)
            except Invalid:
                continue  # it arrived when its window was over
            except Conflict:
                pass  # one whose answer was lost has been written
            return
        raise NobodyToStrike(f"{TRIES} windows were over before they could be kept")

    async def evacuate_cluster(self, strike: Strike) -> None:
        """And think better of it."""
        order = await self._evacuate(strike, "chaos")
        await asyncio.sleep(strike.seconds)
        await self.pool.abort_operation(order.id)

    async def _evacuate(self, strike: Strike, name: str) -> EvacuationOrder:
        clusters = await self.pool.rows(
            "SELECT DISTINCT provider || '/' || region || '/' || cluster AS place FROM nodes ORDER BY 1"
        )
        order = EvacuationOrder(
            id=self._named(name, strike),
            kind=PlaceKind.CLUSTER,
            place=chosen(clusters, strike.pick)["place"],
            reason="chaos",
            who="chaos",
        )
        await persistently(lambda: self.pool.corral.evacuate(order))
        return order

    def _named(self, name: str, strike: Strike) -> str:
        return f"{name}-{strike.at:.2f}"

    async def _to_one(
        self, strike: Strike, states: Sequence[str], deed: Callable[[str], Awaitable[None]], named: str = "%"
    ) -> None:
        """Do something to one of the workloads in these states, and so named; to another one when that has ended meanwhile.

        Raises:
            NobodyToStrike: there was none for a while, though nobody is still to come.
        """
        give_up = inf
        while time.monotonic() < give_up:
            if give_up == inf and self.all_have_come.is_set():
                give_up = time.monotonic() + CANDIDATES_WITHIN_SECONDS
            query = "SELECT id FROM workloads WHERE state = ANY($1) AND id LIKE $2 ORDER BY id"
            rows = await self.pool.rows(query, list(states), named)
            ids = [row["id"] for row in rows if row["id"] not in self.doomed]
            if ids:
                try:
                    return await deed(chosen(ids, strike.pick))
                except (Conflict, NotFound):
                    pass
            await asyncio.sleep(GLANCE_SECONDS)
        raise NobodyToStrike(f"no workload was {' or '.join(states)} for {CANDIDATES_WITHIN_SECONDS:g} seconds")


DEEDS: Mapping[Fault, Callable[[Deeds, Strike], Awaitable[None]]] = {
    Fault.WORKER_KILLED: Deeds.kill_worker,
    Fault.ALL_WORKERS_KILLED: Deeds.kill_all_workers,
    Fault.WORKER_STOPPED: Deeds.stop_worker,
    Fault.WORKER_FROZEN: Deeds.freeze_worker,
    Fault.ALL_KILLED: Deeds.kill_all,
    Fault.TEMPORAL_KILLED: Deeds.kill_temporal,
    Fault.TEMPORAL_KILLED_IN_UPDATE: Deeds.kill_temporal_in_update,
    Fault.TEMPORAL_FROZEN: Deeds.freeze_temporal,
    Fault.TEMPORAL_FROZEN_FOR_LONG: Deeds.freeze_temporal_for_long,
    Fault.POSTGRES_KILLED: Deeds.kill_postgres,
    Fault.POSTGRES_FROZEN: Deeds.freeze_postgres,
    Fault.POSTGRES_READ_ONLY: Deeds.let_postgres_be_read_only,
    Fault.SESSIONS_ENDED: Deeds.end_sessions,
    Fault.TABLE_LOCKED: Deeds.lock_table,
    Fault.WORKER_CUT_FROM_POSTGRES: Deeds.cut_worker_from_postgres,
    Fault.WORKER_CUT_FROM_TEMPORAL: Deeds.cut_worker_from_temporal,
    Fault.NODE_LOST: Deeds.lose_node,
    Fault.CLUSTER_LOST: Deeds.lose_cluster,
    Fault.CLUSTER_CUT_BRIEFLY: Deeds.cut_cluster_briefly,
    Fault.CLUSTER_CUT: Deeds.cut_cluster,
    Fault.NODE_DRAINED: Deeds.drain_node,
    Fault.WORKLOAD_CANCELLED: Deeds.cancel,
    Fault.WORKLOAD_HELD: Deeds.hold,
    Fault.WORKLOAD_REPRIORITIZED: Deeds.reprioritize,
    Fault.WORKLOAD_SUBMITTED_AGAIN: Deeds.submit_again,
    Fault.WORKFLOW_CANCELLED: Deeds.cancel_workflow,
    Fault.WORKFLOW_TERMINATED: Deeds.terminate_workflow,
    Fault.OPERATION_TERMINATED: Deeds.terminate_operation,
    Fault.RESERVATION_TERMINATED: Deeds.terminate_reservation,
    Fault.PLANNER_TERMINATED: Deeds.terminate_planner,
    Fault.QUOTA_CHANGED: Deeds.change_quota,
    Fault.QUEUE_DRAINED: Deeds.drain_queue,
    Fault.POLICY_CHANGED: Deeds.change_policy,
    Fault.POLICY_ROLLED_BACK: Deeds.roll_policy_back,
    Fault.DEMAND_CHANGED: Deeds.change_demand,
    Fault.SIZE_CHOSEN: Deeds.choose_size,
    Fault.CAPACITY_RESERVED: Deeds.reserve_capacity,
    Fault.NODE_MAINTAINED: Deeds.maintain_node,
    Fault.CLUSTER_EVACUATED: Deeds.evacuate_cluster,
    Fault.SCHEDULE_DUE_IN_OUTAGE: Deeds.schedule_into_outage,
}

BAITS: Mapping[Fault, Callable[[Deeds, Strike], Awaitable[None]]] = dict.fromkeys(OF_RESIZES, Deeds.choose_size)
"""What is done so that a worker comes by where an ordered fault strikes."""


def _suspended(pid: int) -> list[psutil.Process]:
    """A process that is frozen, with those that it has started."""
    try:
        parent = psutil.Process(pid)
        parent.suspend()  # so that it has no more children than these
        frozen = [parent, *parent.children()]
    except psutil.NoSuchProcess:
        return []  # it has died meanwhile, as somebody had ordered
    for process in frozen:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    return frozen


def chosen(among: Sequence[One], pick: float) -> One:
    """The one at that part (from 0 to 1) of the way."""
    return among[int(pick * len(among))]
