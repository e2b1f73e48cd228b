"""A provider whose nodes and workloads are simulated, and live on in a file while no worker runs."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from time import monotonic
from weakref import WeakSet

from activities.ports import (
    Beat,
    Capability,
    Clock,
    Delivery,
    ErrorClass,
    Event,
    LaunchSpec,
    NodePoolView,
    NodeView,
    Observation,
    ProviderError,
    ProviderSnapshot,
    ProvisioningView,
    ProvisionOrder,
)
from activities.providers.sim_fleet import SimulatedFaults, SimulatedFleet
from activities.providers.sim_life import Behaviour, Occupied, Run, Told
from activities.providers.sim_records import Kind, Progress, Records
from activities.providers.sim_world import ORDERED, RUN, TOLD, Ordered, World, as_datetime

POLL_SECONDS = 0.2
"""How often, on the wall, a watcher looks for what other processes did."""

BEAT_SECONDS = 0.5

NO_FAULTS = SimulatedFaults()


class SimulatedProvider:
    """Any number of nodes that run workloads as their parameters say (see `activities.providers.sim_life`).

    The world is what the file records of it: processes that open the same file share it, and time passes in it while none does.
    A checkpoint alone is no change of an attempt: it is seen when one looks, and with the next phase.
    """

    capabilities = Capability.GANG | Capability.SIGNAL | Capability.WATCH | Capability.NATIVE_DEDUP | Capability.PROVISION

    def __init__(
        self, path: Path, fleet: SimulatedFleet, clock: Clock, *, faults: SimulatedFaults = NO_FAULTS, name: str = "sim"
    ) -> None:
        self.name = name
        self._clock = clock
        self._faults = faults
        self._records = Records(path)
        self._pools = {pool.name: pool for pool in fleet.node_pools}
        self._world = World(fleet.node_views(), faults, fleet.node_pools)
        self._watchers: WeakSet[_Watcher] = WeakSet()
        self._is_closed = False
        self._catch_up()

    async def snapshot(self) -> ProviderSnapshot:
        """All nodes and all attempts that are not yet forgotten, ended ones included."""
        self._catch_up()
        return ProviderSnapshot(
            tuple(self._world.nodes.values()), self._world.observe_all(), True, self._now(), self._world.silent
        )

    def watch(self) -> AsyncIterator[Event]:
        """What changes from this call on, with a `Beat` twice a second; ends when the provider is closed."""
        watcher = _Watcher()
        self._watchers.add(watcher)
        return self._tell(watcher)

    async def launch(self, order: LaunchSpec) -> Observation:
        """Start an attempt on exactly these nodes and devices; the same order again gives the same attempt.

        Raises:
            ProviderError: as the port says.
        """
        behaviour = Behaviour.of(order)
        with self._records.writing():
            self._catch_up()
            is_new = not self._is_repeat(order)
            if is_new:
                self._record_launch(order, behaviour)
        self._catch_up()
        if is_new and self._faults.loses_answer(order.attempt_id):
            raise ProviderError(ErrorClass.UNAVAILABLE, f"no answer to the launch of attempt {order.attempt_id}")
        observation = self._world.observe(order.attempt_id)
        assert observation is not None
        return observation

    async def renew(self, leases: Mapping[str, datetime | None]) -> frozenset[str]:
        """Let clusters run what they run until these times; answers with those that are not cut off."""
        with self._records.writing():
            self._catch_up()
            heard = self._world.clusters & leases.keys() - self._world.silent
            for cluster in sorted(heard):
                if (until := leases[cluster]) is not None:
                    self._lease(cluster, until.timestamp())
        self._catch_up()
        return heard

    def _lease(self, cluster: str, until: float) -> None:
        since, known = self._world.lease_of(cluster) or (self._world.now, 0.0)
        if until > max(known, self._world.now):
            self._records.lease(cluster, since if self._world.now < known else self._world.now, until)

    async def status(self, attempts: Collection[str]) -> Mapping[str, Observation]:
        """The attempts that the provider knows; one that is absent never started or is forgotten."""
        self._catch_up()
        seen = {attempt_id: self._world.observe(attempt_id) for attempt_id in attempts}
        return {attempt_id: observation for attempt_id, observation in seen.items() if observation is not None}

    async def preempt(self, attempt_id: str, epoch: int, *, notice: int, signal: str, grace_seconds: int) -> None:
        """Give notice once; the attempt stops when its grace is over, or before that on its own."""
        self._tell_about_leaving(attempt_id, Kind.NOTICED, Told(notice, grace_seconds))

    async def keep(self, attempt_id: str, epoch: int, *, notice: int) -> None:
        """Take a notice back; the attempt goes on with its work."""
        self._tell_about_leaving(attempt_id, Kind.KEPT, Told(notice))

    async def resize(self, order: LaunchSpec, *, notice: int, at_once: bool = False) -> None:
        """Let an attempt go on with these replicas; those that leave do so as they would with the whole attempt.

        Raises:
            ProviderError: as the port says.
        """
        told = Told(notice, order.grace_seconds, _occupied(order), at_once)
        self._tell_about_leaving(order.attempt_id, Kind.RESIZED, told)

    def _tell_about_leaving(self, attempt_id: str, kind: Kind, told: Told) -> None:
        turn = TURNS[kind]
        self._be_silent_about(attempt_id)
        with self._records.writing():
            self._catch_up()
            self._world.refuse_if_silent(attempt_id)
            run = self._world.run(attempt_id)
            is_over = run is None or self._world.is_over(attempt_id)
            if run is not None and not is_over and (turned := turn(run, self._world.now, told)) != run:
                if kind is Kind.RESIZED:
                    self._refuse_unless_there_is_room(run, turned)
                self._records.append(self._world.now, kind, attempt_id, TOLD.dump_json(told).decode())
        self._catch_up()

    def _refuse_unless_there_is_room(self, run: Run, turned: Run) -> None:
        more = list((Counter(turned.has) - Counter(run.has)).elements())
        self._world.refuse_unless_leased(more)
        self._world.refuse_unless_free(more)

    async def release(self, attempt_id: str, epoch: int) -> None:
        """Stop the attempt at once and never start it again, even if its launch arrives later; idempotent."""
        self._be_silent_about(attempt_id)
        with self._records.writing():
            self._catch_up()
            self._world.refuse_if_silent(attempt_id)
            if not self._records.is_fenced(attempt_id):
                self._records.append(self._world.now, Kind.RELEASED, attempt_id)
        self._catch_up()

    def _be_silent_about(self, attempt_id: str) -> None:
        if self._faults.is_silent(attempt_id):
            raise ProviderError(ErrorClass.UNAVAILABLE, f"no answer about attempt {attempt_id}")

    async def forget(self, attempts: Collection[str]) -> None:
        """Drop the record of ended attempts; those that still run stay, and a later launch is fenced."""
        with self._records.writing():
            self._catch_up()
            for attempt_id in attempts:
                if self._world.is_over(attempt_id):
                    self._keep_progress(attempt_id)
                    self._records.forget(self._world.now, attempt_id)
        self._catch_up()

    async def node_pools(self) -> tuple[NodePoolView, ...]:
        """The kinds of nodes that it can add."""
        return tuple(NodePoolView(pool.view(pool.name), pool.limit, pool.lead_seconds) for pool in self._pools.values())

    async def provision(self, order: ProvisionOrder) -> ProvisioningView:
        """Begin to add nodes; the same order again gives the same answer.

        Raises:
            ProviderError: as the port says.
        """
        with self._records.writing():
            self._catch_up()
            is_new = order.id not in self._world.orders
            self._refuse_order(order)
            if is_new:
                ordered = self._taken(order)
                self._records.append(self._world.now, Kind.ORDERED, order.id, ORDERED.dump_json(ordered).decode())
        self._catch_up()
        if is_new and self._faults.loses_answer(order.id):
            raise ProviderError(ErrorClass.UNAVAILABLE, f"no answer to order {order.id}")
        return self._provisioning(self._world.orders[order.id])

    async def provisionings(self) -> tuple[ProvisioningView, ...]:
        """All orders that are not abandoned."""
        self._catch_up()
        orders = self._world.orders.values()
        return tuple(self._provisioning(ordered) for ordered in orders if ordered.id not in self._world.abandoned)

    async def abandon(self, order: str) -> None:
        """Let nothing more come of an order."""
        with self._records.writing():
            self._catch_up()
            if order not in self._world.abandoned:
                self._records.append(self._world.now, Kind.ABANDONED, order)
        self._catch_up()

    async def deprovision(self, nodes: Collection[str]) -> None:
        """Take nodes away for good.

        Raises:
            ProviderError: as the port says.
        """
        with self._records.writing():
            self._catch_up()
            there = [name for name in nodes if name in self._world.nodes]
            if busy := [name for name in there if self._world.has_work(name)]:
                raise ProviderError(ErrorClass.CONFLICT, f"work runs on {', '.join(busy)}")
            if fixed := [name for name in there if self._world.nodes[name].provisioning is None]:
                raise ProviderError(ErrorClass.CONFLICT, f"{', '.join(fixed)} was not added by an order")
            for name in there:
                self._records.append(self._world.now, Kind.NODE_REMOVED, name)
        self._catch_up()

    def _refuse_order(self, order: ProvisionOrder) -> None:
        if order.id in self._world.abandoned:
            raise ProviderError(ErrorClass.FENCED, f"order {order.id} was abandoned")
        known = self._world.orders.get(order.id)
        if known is not None and (known.node_pool, known.nodes) != (order.node_pool, order.nodes):
            raise ProviderError(ErrorClass.CONFLICT, f"order {order.id} was given with other terms")
        if order.node_pool not in self._pools:
            raise ProviderError(ErrorClass.INVALID_SPEC, f"there is no node pool {order.node_pool}")

    def _taken(self, order: ProvisionOrder) -> Ordered:
        """The order as it will be carried out: of no more nodes than are left."""
        pool, world = self._pools[order.node_pool], self._world
        coming = sum(
            each.comes
            for each in world.orders.values()
            if each.node_pool == pool.name and each.ready_at > world.now and each.id not in world.abandoned
        )
        left = pool.most - coming - sum(node.node_pool == pool.name for node in world.nodes.values())
        if left <= 0:
            raise ProviderError(ErrorClass.NO_CAPACITY, f"node pool {pool.name} has no node left of {pool.most}")
        comes = self._faults.delivered(order.id, min(order.nodes, left))
        ready_at = world.now + pool.lead_seconds + self._faults.delivery_delay(order.id)
        return Ordered(order.id, order.node_pool, order.nodes, comes, ready_at)

    def _provisioning(self, ordered: Ordered) -> ProvisioningView:
        if self._world.now < ordered.ready_at:
            return ProvisioningView(ordered.id, Delivery.COMING)
        if ordered.comes == ordered.nodes:
            return ProvisioningView(ordered.id, Delivery.DONE)
        return ProvisioningView(ordered.id, Delivery.FAILED, f"{ordered.comes} of {ordered.nodes} nodes could be had")

    async def aclose(self) -> None:
        """Let go of the file and end the watches; the world goes on."""
        self._is_closed = True
        self._records.close()
        for watcher in self._watchers:
            watcher.tell([])

    async def lose_node(self, name: str) -> None:
        """A node is gone until it is recovered, and every attempt with a replica on it is lost.

        Raises:
            ProviderError: `INVALID_SPEC` when there is no such node.
        """
        self._change_node(Kind.NODE_LOST, name)

    async def recover_node(self, name: str) -> None:
        """A lost node is back, with nothing on it.

        Raises:
            ProviderError: `INVALID_SPEC` when there is no such node.
        """
        self._change_node(Kind.NODE_RECOVERED, name)

    async def cut_cluster(self, cluster: str) -> None:
        """A cluster (`region/cluster`) and its provider do not hear of each other until it is joined; it works on.

        Raises:
            ProviderError: `INVALID_SPEC` when there is no such cluster.
        """
        self._change_cluster(Kind.CLUSTER_CUT, cluster)

    async def join_cluster(self, cluster: str) -> None:
        """A cluster that was cut off answers again.

        Raises:
            ProviderError: `INVALID_SPEC` when there is no such cluster.
        """
        self._change_cluster(Kind.CLUSTER_JOINED, cluster)

    def _change_cluster(self, kind: Kind, cluster: str) -> None:
        if cluster not in self._world.clusters:
            raise ProviderError(ErrorClass.INVALID_SPEC, f"there is no cluster {cluster}")
        self._record(kind, cluster)

    def _change_node(self, kind: Kind, name: str) -> None:
        if name not in self._world.nodes:
            raise ProviderError(ErrorClass.INVALID_SPEC, f"there is no node {name}")
        self._record(kind, name)

    def _record(self, kind: Kind, subject: str) -> None:
        with self._records.writing():
            self._catch_up()
            self._records.append(self._world.now, kind, subject)
        self._catch_up()

    async def _tell(self, watcher: "_Watcher") -> AsyncIterator[Event]:
        beat_at = monotonic()
        while not self._is_closed:
            self._catch_up()
            for event in watcher.take():
                yield event
            if monotonic() >= beat_at and not watcher.has_news:
                yield Beat(self._now())
                beat_at = monotonic() + BEAT_SECONDS
            await watcher.wait(self._seconds_to_next())

    def _is_repeat(self, order: LaunchSpec) -> bool:
        """Whether the order was carried out before; raises when it may not be carried out any more."""
        if self._records.is_fenced(order.attempt_id):
            raise ProviderError(ErrorClass.FENCED, f"attempt {order.attempt_id} was released")
        run = self._world.run(order.attempt_id)
        if run is not None and run.digest != order.digest:
            raise ProviderError(ErrorClass.CONFLICT, f"attempt {order.attempt_id} was launched with another order")
        progress = self._records.progress(order.workload_id)
        if progress is not None and progress.epoch > order.epoch:
            message = f"workload {order.workload_id} is at epoch {progress.epoch}, past {order.epoch}"
            raise ProviderError(ErrorClass.FENCED, message)
        return run is not None

    def _record_launch(self, order: LaunchSpec, behaviour: Behaviour) -> None:
        occupied = _occupied(order)
        self._world.refuse_unless_leased(occupied)
        self._world.refuse_unless_free(occupied)
        delay = behaviour.start_delay_seconds + self._faults.start_delay(order.attempt_id)
        run = Run(
            attempt_id=order.attempt_id,
            workload_id=order.workload_id,
            epoch=order.epoch,
            digest=order.digest,
            occupied=occupied,
            behaviour=replace(behaviour, start_delay_seconds=delay),
            launched_at=self._world.now,
            fails_to_start=self._faults.fails_to_start(order.attempt_id),
            is_stubborn=self._faults.is_stubborn(order.attempt_id),
            is_stuck=self._faults.is_stuck(order.attempt_id),
            saved_before=self._saved_seconds(order.workload_id),
        )
        self._records.append(run.launched_at, Kind.LAUNCHED, run.attempt_id, RUN.dump_json(run).decode())
        self._records.note_progress(run.workload_id, Progress(run.epoch, run.attempt_id, run.saved_before))

    def _saved_seconds(self, workload_id: str) -> float:
        progress = self._records.progress(workload_id)
        if progress is None:
            return 0.0
        is_forgotten = self._world.run(progress.attempt_id) is None
        return progress.saved_seconds if is_forgotten else self._world.saved_seconds(progress.attempt_id)

    def _keep_progress(self, attempt_id: str) -> None:
        run = self._world.run(attempt_id)
        assert run is not None
        progress = self._records.progress(run.workload_id)
        if progress is not None and progress.attempt_id == attempt_id:
            kept = replace(progress, saved_seconds=self._world.saved_seconds(attempt_id))
            self._records.note_progress(run.workload_id, kept)

    def _catch_up(self) -> None:
        """Read what was recorded since, let time pass, and tell the watchers."""
        self._world.apply(self._records.since(self._world.sequence))
        self._world.advance(self._clock.now().timestamp())
        events, self._world.events = self._world.events, []
        if events:
            for watcher in self._watchers:
                watcher.tell(events)

    def _now(self) -> datetime:
        return as_datetime(self._world.now)

    def _seconds_to_next(self) -> float:
        """Seconds on the wall until something comes to pass, or until another process may have done something."""
        return min(POLL_SECONDS, self._clock.wall_seconds(self._world.next_at - self._world.now))


TURNS: Mapping[Kind, Callable[[Run, float, Told], Run]] = {
    Kind.NOTICED: Run.noticed,
    Kind.KEPT: Run.kept,
    Kind.RESIZED: Run.resized,
}
"""What becomes of a run when it is told about leaving."""


def _occupied(order: LaunchSpec) -> tuple[Occupied, ...]:
    return tuple(Occupied(place.node, place.replica.devices, place.milli) for place in order.places)


class _Watcher:
    """What one watcher has not yet been told."""

    def __init__(self) -> None:
        self._events: list[Observation | NodeView] = []
        self._told = asyncio.Event()

    @property
    def has_news(self) -> bool:
        return self._told.is_set()

    def tell(self, events: list[Observation | NodeView]) -> None:
        self._events.extend(events)
        self._told.set()

    def take(self) -> list[Observation | NodeView]:
        events, self._events = self._events, []
        self._told.clear()
        return events

    async def wait(self, seconds: float) -> None:
        """Wait until there is something to tell, at most that long."""
        try:
            async with asyncio.timeout(seconds):
                await self._told.wait()
        except TimeoutError:
            return
