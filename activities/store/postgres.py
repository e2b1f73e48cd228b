"""The store: transactions over the record, each of them one step that is done whole, once, or not at all."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

import asyncpg
from sqlalchemy import Row, func, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from activities.answers import (
    Adjusted,
    Adjustment,
    AttemptKey,
    FleetStep,
    Judgement,
    Notice,
    OpenAttempt,
    ReservationChange,
    ReservationStanding,
    Standing,
    Unreleased,
)
from activities.ports import (
    Clock,
    Decide,
    EndpointToAsk,
    Grow,
    LaunchSpec,
    NodePoolView,
    NodeView,
    Observation,
    ProvisioningView,
    ProvisionOrder,
    StopOrder,
)
from activities.store import (
    adjustments,
    attempts,
    audit,
    clusters,
    data,
    endpoints,
    evacuations,
    fleet,
    growth,
    leaving,
    orders,
    policies,
    queues,
    reservations,
    resizing,
    rollouts,
    signed_orders,
    tables,
    views,
    watched,
)
from activities.store.accounts import note_capacity
from activities.store.bulk import among
from activities.store.figures import FigureReader, Figures
from activities.store.plans import PlanWriter, RoundRecord, register
from activities.store.policies import PolicyReader
from activities.store.reservations import ReservationRow
from activities.store.rows import Journal, WorkloadRow, from_json, open_attempts, standing_of
from activities.store.snapshots import SnapshotReader, has_work, housekeeping_due, read_pool, read_queues
from activities.store.steps import RoundTimes, Steps, pass_over
from activities.thinking import Thinker
from corral.api import WorkloadSpec
from corral.dataset import Catalogue, DatasetStatus
from corral.evacuation import EvacuationOrder, EvacuationStatus
from corral.explanation import Reason
from corral.fleet import ClusterStatus, Cordon, DeliveryState, FleetStatus, NodePoolStatus, NodeStatus, ProvisioningStatus
from corral.model import WHOLE
from corral.operation import OperationChange, OperationKind, OperationStatus
from corral.policy import Policy, PolicyAnswer, PolicyOrder, PolicyRecord
from corral.queue import QueueStatus, QueueTree
from corral.record import OrderRecord, RoundStatus
from corral.reservation import ReservationSpec, ReservationState, ReservationStatus
from corral.rollout import Change, RolloutOrder, RolloutState, RolloutStatus, WhatIf
from corral.signing import Command
from corral.status import State, WorkloadEvent, WorkloadFilter, WorkloadStatus
from corral.wire import Steering
from domain.fields import of_policy, of_queues
from domain.leases import LeaseTerms
from domain.lint.change import what_speaks_against
from domain.snapshot import Snapshot, apart

Result = TypeVar("Result")

SERIALIZATION_FAILURE = "40001"
DEADLOCK = "40P01"

LOOK_SECONDS = 10.0
"""How often (by the wall's clock) somebody looks how a roll-out goes."""


def _is_conflict(error: BaseException) -> bool:
    """Whether the world changed under a transaction, so that deciding again is the answer."""
    if isinstance(error, IntegrityError):
        return True
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in {SERIALIZATION_FAILURE, DEADLOCK}


async def _again_on_conflict(transaction: Callable[[], Awaitable[Result]]) -> Result:
    """Run a transaction until it commits on the world that it has read."""
    attempts = AsyncRetrying(
        retry=retry_if_exception(_is_conflict),
        stop=stop_after_attempt(10),
        wait=wait_random_exponential(multiplier=0.01, max=0.5),
        reraise=True,
    )
    async for attempt in attempts:
        with attempt:
            return await transaction()
    raise AssertionError("the last attempt raises what it met")


def _id_is_taken(workload: str) -> Standing:
    message = f"id: {workload!r} belongs to a workload with another spec; submit this one under an id of its own"
    return Standing(workload, 0, State.REFUSED, 0, reason=Reason.ID_CONFLICT, message=message)


class PostgresStore:
    """The `Store` port on PostgreSQL.

    Writers of one process take turns, which spares them conflicts; between processes the database decides.
    """

    def __init__(self, engine: AsyncEngine, clock: Clock, pool: str, policy: Policy | None = None) -> None:
        self._engine = engine
        self._clock = clock
        self._pool = pool
        self._policies = PolicyReader(pool, policy or Policy())
        self._reader = SnapshotReader(self._policies)
        self._figures, self._figures_turn = FigureReader(pool), asyncio.Lock()
        self._turn = asyncio.Lock()
        self._thinker = Thinker()
        self._considered: int | None = None
        self._reviewed: int | None = None
        self.steps: Mapping[str, float] = {}
        """Milliseconds that each step of the last round took."""
        self.on_round: Callable[[RoundTimes], None] = pass_over
        """Hears of every round that is committed here."""

    @classmethod
    def connect(cls, url: str, clock: Clock, pool: str, policy: Policy | None = None) -> "PostgresStore":
        """Use the database at a URL of the form `postgresql+asyncpg://user@host:port/name`."""
        # The connection that was used last knows most statements: few connections, and each with room for all of them.
        room_for_statements = {"prepared_statement_cache_size": 500}
        engine = create_async_engine(url, pool_size=8, max_overflow=4, pool_use_lifo=True, connect_args=room_for_statements)
        return cls(engine, clock, pool, policy)

    async def aclose(self) -> None:
        """Close all connections; a round that is being decided comes to nothing."""
        self._thinker.close()
        await self._engine.dispose()

    # Rounds

    async def round(
        self, specs: Sequence[WorkloadSpec], decide: Decide, trigger: str
    ) -> tuple[dict[str, Standing], list[Notice]]:
        """Run one round in one transaction: write the new workloads, read the world, decide, write the plan.

        Answers with the standings of the submitted workloads (of one whose id was taken: how that one stands), and with
        what other workloads are to be told. Where nothing changed that could let the others start, only the new ones
        are decided about. Whatever else the process does goes on while it decides.
        """
        async with self._turn:
            times, began = RoundTimes(trigger), time.perf_counter()
            answer = await _again_on_conflict(lambda: self._round(specs, decide, times))
            times.seconds = time.perf_counter() - began
        self.on_round(times)
        return answer

    async def _round(
        self, specs: Sequence[WorkloadSpec], decide: Decide, times: RoundTimes
    ) -> tuple[dict[str, Standing], list[Notice]]:
        journal, steps = self._journal(), Steps()
        times.tries += 1
        async with self._snapshot_transaction() as connection:
            with steps.step("register"):
                ours = await register(connection, journal, specs)
            pool = await read_pool(connection, self._pool)
            everybody = not specs or pool.changes != self._considered
            world = await self._reader.read(connection, pool, journal.now, ours, everybody=everybody, steps=steps)
            with steps.step("decide"):
                plan, milliseconds = await self._thinker.think(decide, world.snapshot, journal.now)
            record = RoundRecord(self._pool, times.trigger, milliseconds)
            notices = await PlanWriter(connection, journal, world, record, ours.keys(), steps).write(plan)
            standings = await self._standings(connection, specs, ours, journal)
            if plan.unfinished:
                await fleet.note_change(connection, self._pool)
        if everybody:
            self._considered, self._reviewed = pool
        self.steps = steps.milliseconds
        times.milliseconds = steps.milliseconds | {f"decide: {step}": spent for step, spent in milliseconds.items()}
        return standings, notices

    async def _standings(
        self, connection: AsyncConnection, specs: Sequence[WorkloadSpec], ours: Iterable[str], journal: Journal
    ) -> dict[str, Standing]:
        standings = {id: journal.standing(id) for id in ours if id in journal.workloads}
        others = {spec.id: spec.digest for spec in specs if spec.id not in standings}
        if others:
            query = select(tables.workloads).where(among(tables.workloads.c.id, others))
            open_now = await open_attempts(connection, list(others))
            for row in [WorkloadRow.of(row) for row in await connection.execute(query)]:
                same = row.digest == others[row.id]
                standings[row.id] = standing_of(row, open_now, self._clock) if same else _id_is_taken(row.id)
        return standings

    async def look(self) -> tuple[Snapshot, datetime]:
        """The pool as a round would see it now, and the time."""
        now = self._clock.now()
        async with self._turn, self._snapshot_transaction() as connection:
            pool = await read_pool(connection, self._pool)
            snapshot = (await self._reader.read(connection, pool, now, {}, everybody=True)).snapshot
            return apart(snapshot), now

    async def has_work(self) -> bool:
        """Whether a round could decide anything now.

        Somebody waits, or has notice for the sake of who is gone, or an edit may bear on what runs, or a window comes near.
        """
        async with self._engine.connect() as connection:
            return await has_work(connection, self._pool, self._clock.now(), self._reviewed)

    # Attempts

    async def standing(self, workload: str) -> Standing | None:
        """How a workload stands now, or none when there is none of that id."""
        async with self._engine.connect() as connection:
            rows = [
                WorkloadRow.of(row)
                for row in await connection.execute(select(tables.workloads).where(tables.workloads.c.id == workload))
            ]
            open_now = await open_attempts(connection, [workload])
            return standing_of(rows[0], open_now, self._clock) if rows else None

    async def begin_bindings(self, keys: Sequence[AttemptKey]) -> list[LaunchSpec | None]:
        """Turn holds in force into launches, or find that this was done; none where an epoch has no right to it any more."""

        async def work(connection: AsyncConnection, journal: Journal) -> list[LaunchSpec | None]:
            return await attempts.begin_bindings(connection, journal, keys)

        return (await self._write(work))[0]

    async def stop_order(self, key: AttemptKey) -> StopOrder | None:
        """What an open attempt that may be at its provider is to know about leaving; none when there is no such attempt."""
        async with self._engine.connect() as connection:
            return await resizing.stop_order(connection, key)

    async def noticed(self, key: AttemptKey, notice: int) -> list[Notice]:
        """Note that the provider has given a notice: the grace runs."""
        return await self._heard(leaving.note_noticed, key, notice)

    async def start_anew(self, key: AttemptKey, notice: int, why: str) -> list[Notice]:
        """Note that an attempt cannot get another size as it runs: by a notice of its own, all of it is to leave."""

        async def work(connection: AsyncConnection, journal: Journal) -> None:
            await resizing.start_anew(connection, journal, key, notice, why)

        return (await self._write(work))[1]

    async def kept(self, key: AttemptKey, notice: int) -> list[Notice]:
        """Note that the provider has taken a notice back."""
        return await self._heard(leaving.note_kept, key, notice)

    async def _heard(
        self, note: Callable[[AsyncConnection, Journal, AttemptKey, int], Awaitable[bool]], key: AttemptKey, notice: int
    ) -> list[Notice]:
        async def work(connection: AsyncConnection, journal: Journal) -> None:
            if await note(connection, journal, key, notice):
                await fleet.note_change(connection, self._pool)

        return (await self._write(work))[1]

    async def settle(
        self, observations: Sequence[Observation], answered: frozenset[str] = frozenset()
    ) -> tuple[dict[str, Standing], list[Notice]]:
        """Believe what was observed of attempts; capacity that became free goes to whom it is promised, or to everybody."""

        async def work(connection: AsyncConnection, journal: Journal) -> Callable[[], dict[str, Standing]]:
            if await attempts.settle(connection, journal, observations, answered):
                await fleet.note_change(connection, self._pool)
            return lambda: {workload: journal.standing(workload) for workload in journal.workloads}

        standings, notices = await self._write(work)
        return standings(), notices

    async def refuse_binding(self, key: AttemptKey, reason: str, *, final: bool) -> list[Notice]:
        """Take an attempt back that its provider will not run."""

        async def work(connection: AsyncConnection, journal: Journal) -> None:
            await attempts.refuse_binding(connection, journal, key, reason, final=final)
            await fleet.note_change(connection, self._pool)

        return (await self._write(work))[1]

    async def orders(self, subject: str | None, limit: int) -> list[OrderRecord]:
        """The newest orders that were signed, of all or of one workflow by its id."""
        async with self._engine.connect() as connection:
            return await signed_orders.listed(connection, subject, limit)

    async def lines(self, queues: Sequence[str]) -> list[list[str]]:
        """Each queue with those above it, up to its root."""
        async with self._engine.connect() as connection:
            return await signed_orders.lines(connection, queues)

    async def whereabouts(self, subject: str) -> tuple[Sequence[str], str | None]:
        """The queues of a workload or a reservation, by its workflow's id, and who submitted it."""
        async with self._engine.connect() as connection:
            return await signed_orders.whereabouts(connection, subject)

    async def ordered(self, principal: str, command: Command, run: str) -> str:
        """Write a signed order down, once; answers with the run in which it came first."""
        async with self._engine.begin() as connection:
            return await signed_orders.order(connection, principal, command.name, command.subject, command.request, run)

    async def is_ordered(self, principal: str | None, command: Command) -> bool:
        """Whether a signed order is written down; without a principal, whoever gave it."""
        async with self._engine.connect() as connection:
            return await signed_orders.is_ordered(connection, principal, command.name, command.subject, command.request)

    async def adjust(self, verb: str, asked: Adjustment) -> tuple[Adjusted, list[Notice]]:
        """Do a change that somebody asked for, once.

        Raises:
            activities.ports.NotAllowed: the state does not allow it, and why.
            LookupError: there is no such workload.
        """

        async def work(connection: AsyncConnection, journal: Journal) -> str:
            message = await self._adjust(connection, journal, verb, asked)
            journal.to_tell.pop(asked.workload, None)  # its workflow hears of it by the answer
            return message

        message, notices = await self._write(work)
        standing = await self.standing(asked.workload)
        if standing is None:
            raise LookupError(asked.workload)
        return Adjusted(message, standing), notices

    async def adjust_unasked(self, verb: str, asked: Adjustment) -> list[Notice]:
        """Do a change, once, that the workload's workflow did not ask for; answers with what it is to be told as well.

        Raises:
            activities.ports.NotAllowed: the state does not allow it, and why.
            LookupError: there is no such workload.
        """
        return (await self._write(lambda connection, journal: self._adjust(connection, journal, verb, asked)))[1]

    async def _adjust(self, connection: AsyncConnection, journal: Journal, verb: str, asked: Adjustment) -> str:
        message = await adjustments.once(connection, journal, verb, asked)
        await fleet.note_change(connection, self._pool)
        return message

    async def endpoints_to_ask(self) -> list[EndpointToAsk]:
        """All live endpoints whose spec says where their demand can be asked for."""
        async with self._engine.connect() as connection:
            return await endpoints.to_ask(connection)

    async def done(self, verb: str, workload: str, key: str) -> Adjusted | None:
        """What was done of a change that somebody asked for by that key, and how the workload stands now."""
        async with self._engine.connect() as connection:
            message = await adjustments.done(connection, verb, workload, key)
        standing = await self.standing(workload) if message is not None else None
        return None if message is None or standing is None else Adjusted(message, standing)

    async def keep_house(self) -> list[Notice]:
        """End attempts whose hold expired, give notice to work on draining nodes, and urge on what leaves too slowly."""
        async with self._engine.connect() as connection:
            now, policy = self._clock.now(), await self._policies.in_force(connection)
            slow = await leaving.overdue(connection, now, policy.stop_seconds)
            if not slow and not await housekeeping_due(connection, now):
                return []

        async def work(connection: AsyncConnection, journal: Journal) -> None:
            await attempts.end_overdue(connection, journal)
            await attempts.urge_on(connection, journal, slow, policy.stop_seconds)
            await note_capacity(connection, journal.now)
            await fleet.note_change(connection, self._pool)

        return (await self._write(work))[1]

    async def open_attempts_at(self, provider: str) -> list[OpenAttempt]:
        """Attempts that are open in the record and have been sent to a provider."""
        columns = tables.attempts.c
        query = select(columns.id, columns.workload_id, columns.epoch, columns.started_at, columns.stop_at).where(
            columns.provider == provider, columns.ended_at.is_(None), columns.bound_at.is_not(None)
        )
        async with self._engine.connect() as connection:
            clusters = await self._clusters_of_open(connection, provider)
            return [
                OpenAttempt(
                    id=row.id,
                    key=AttemptKey(row.workload_id, row.epoch),
                    has_run=row.started_at is not None,
                    is_leaving=row.stop_at is not None,
                    clusters=clusters.get(row.id, frozenset()),
                )
                for row in await connection.execute(query)
            ]

    async def _clusters_of_open(self, connection: AsyncConnection, provider: str) -> dict[str, frozenset[str]]:
        rooms, nodes, columns = tables.allocations.c, tables.nodes.c, tables.attempts.c
        query = (
            select(rooms.attempt_id, func.array_agg((nodes.region + "/" + nodes.cluster).distinct()).label("clusters"))
            .join(tables.nodes, nodes.id == rooms.node_id)
            .join(tables.attempts, columns.id == rooms.attempt_id)
            .where(columns.provider == provider, columns.ended_at.is_(None), columns.bound_at.is_not(None))
            .group_by(rooms.attempt_id)
        )
        return {row.attempt_id: frozenset(row.clusters) for row in await connection.execute(query)}

    async def stops_due(self, provider: str, older_than_seconds: float) -> list[AttemptKey]:
        """Attempts at a provider that were to stop some (wall) time ago, and have not been observed gone."""
        columns = tables.attempts.c
        before = self._clock.now() - timedelta(seconds=older_than_seconds / self._clock.wall_seconds(1))
        query = select(columns.workload_id, columns.epoch).where(
            columns.provider == provider, columns.ended_at.is_(None), columns.stop_at < before
        )
        async with self._engine.connect() as connection:
            return [AttemptKey(row.workload_id, row.epoch) for row in await connection.execute(query)]

    async def untouched_workloads(self, before: datetime) -> list[str]:
        """Live workloads that nothing happened to since a time."""
        columns = tables.workloads.c
        query = select(columns.id).where(columns.ended_at.is_(None), columns.since < before).order_by(columns.id)
        async with self._engine.connect() as connection:
            return list(await connection.scalars(query))

    # Outbox

    async def delivered(self, notices: Sequence[Notice]) -> None:
        """Note that workflows have been told."""
        if notices:
            async with self._engine.begin() as connection:
                await connection.execute(
                    update(tables.outbox)
                    .where(among(tables.outbox.c.id, [notice.id for notice in notices]))
                    .values(delivered=func.clock_timestamp())
                )

    async def undelivered(self, older_than_seconds: float, limit: int = 500) -> list[Notice]:
        """What was to be told some time ago, and may not have been."""
        columns = tables.outbox.c
        age = func.make_interval(0, 0, 0, 0, 0, 0, older_than_seconds)
        query = (
            select(columns.id, columns.notice)
            .where(columns.delivered.is_(None), columns.written < func.clock_timestamp() - age)
            .order_by(columns.id)
            .limit(limit)
        )
        async with self._engine.connect() as connection:
            return [Notice(row.id, from_json(row.notice)) for row in await connection.execute(query)]

    # Supply and queues

    async def register_provider(self, name: str, kind: str) -> None:
        """Write a provider down."""
        async with self._engine.begin() as connection:
            await fleet.register_provider(connection, name, kind, self._clock.now())
            await fleet.note_change(connection, self._pool)

    async def write_nodes(self, provider: str, views: Sequence[NodeView], *, complete: bool) -> None:
        """Write what a provider reports of its nodes; of a complete report, missing nodes are not ready any more."""

        async def work(connection: AsyncConnection, journal: Journal) -> None:
            first = complete and await fleet.seen(connection, provider, journal.now)
            if await fleet.write_nodes(connection, provider, views, complete=complete) or first:
                await clusters.know_new_ones(connection, provider, journal.now)
                await note_capacity(connection, journal.now)
                await fleet.note_change(connection, self._pool)

        await self._write(work)

    # Clusters

    async def grant_leases(self, provider: str, terms: LeaseTerms) -> Mapping[str, datetime | None]:
        """Write down the leases that a provider's clusters are about to be sent, by `region/cluster`."""

        async def work(connection: AsyncConnection, journal: Journal) -> Mapping[str, datetime | None]:
            return await clusters.grant(connection, provider, journal.now, terms)

        return (await self._write(work))[0]

    async def judge_clusters(
        self, provider: str, terms: LeaseTerms, *, asked_at: datetime, answered: Collection[str]
    ) -> tuple[Judgement, list[Notice]]:
        """Believe which of a provider's clusters have answered, with all that follows."""

        async def work(connection: AsyncConnection, journal: Journal) -> Judgement:
            is_news = await clusters.judge(connection, journal, provider, terms, asked_at=asked_at, answered=answered)
            if is_news:
                await self._supply_changed(connection, journal)
            return Judgement(await clusters.in_words(connection, provider), is_news)

        return await self._write(work)

    async def unreleased(self, provider: str) -> list[Unreleased]:
        """What was lost with a cluster of a provider, and has not been released since in those in which it ran."""
        async with self._engine.connect() as connection:
            return await clusters.unreleased(connection, provider)

    async def note_released(self, provider: str, each: Unreleased) -> None:
        """Note that an attempt has been seen gone in a cluster where it was lost."""
        async with self._engine.begin() as connection:
            await clusters.note_released(connection, provider, each)

    async def clusters(self) -> list[ClusterStatus]:
        """All clusters that have ever been asked."""
        async with self._engine.connect() as connection:
            return await clusters.statuses(connection)

    async def cordon(self, provider: str, order: Cordon, key: str) -> list[NodeStatus]:
        """Cordon, drain or uncordon nodes, once a key; answers with them as they are then.

        Raises:
            LookupError: names what the provider does not have; nothing was changed.
        """

        async def work(connection: AsyncConnection, journal: Journal) -> list[NodeStatus]:
            ids = await fleet.order(connection, provider, order, key)
            await self._supply_changed(connection, journal)
            return await views.nodes(connection, ids)

        return (await self._write(work))[0]

    async def write_node_pools(self, provider: str, views: Sequence[NodePoolView]) -> None:
        """Write what a provider can add."""

        async def work(connection: AsyncConnection, journal: Journal) -> None:
            if await growth.write_pools(connection, provider, views):
                await fleet.note_change(connection, self._pool)

        await self._write(work)

    async def write_deliveries(self, provider: str, views: Sequence[ProvisioningView]) -> list[str]:
        """Believe how far a provider is with its orders; answers with those that are none of this record."""

        async def work(connection: AsyncConnection, journal: Journal) -> list[str]:
            return await growth.write_deliveries(connection, views, journal.now)

        return (await self._write(work))[0]

    async def given_back_but_there(self, provider: str, names: Collection[str]) -> list[str]:
        """Those of the nodes that the provider has taken away, as it said."""
        async with self._engine.connect() as connection:
            return await growth.given_back_but_there(connection, provider, names)

    async def grow(self, plan: Grow) -> list[FleetStep]:
        """Take the fleet's growth as far as it may go now; answers with what providers are to be asked for that.

        What is planned is written only if nobody else has ordered anything since the pool was read.
        """
        now = self._clock.now()
        async with self._engine.connect() as connection:
            rules = (await self._policies.in_force(connection)).growth
            if await growth.is_idle(connection, rules):
                return []

        async def keep_orders(connection: AsyncConnection, journal: Journal) -> growth.Stand:
            if await growth.keep_orders(connection, now, rules):
                await fleet.note_change(connection, self._pool)
            return await growth.read_stand(connection, now, rules)

        stand, _ = await self._write(keep_orders)
        snapshot, now = await self.look()
        planned = await plan(snapshot, stand.courses, stand.closed.keys(), now)

        async def write(connection: AsyncConnection, journal: Journal) -> list[FleetStep]:
            if await growth.write_plan(connection, planned, stand.orders, now):
                await self._supply_changed(connection, journal)
            return await growth.steps(connection)

        return (await self._write(write))[0]

    async def order_to_ask(self, order: str) -> ProvisionOrder | None:
        """An order as its provider is to be asked for it; none when it is over."""
        async with self._engine.connect() as connection:
            return await growth.order_to_ask(connection, order)

    async def order_taken(self, order: str) -> None:
        """Note that a provider has taken an order."""
        async with self._engine.begin() as connection:
            await growth.note_told(connection, order, self._clock.now())

    async def order_failed(self, order: str, reason: str) -> None:
        """Close an order that its provider refuses."""

        async def work(connection: AsyncConnection, journal: Journal) -> None:
            await growth.end_order(connection, order, DeliveryState.FAILED, reason, journal.now)
            await fleet.note_change(connection, self._pool)

        await self._write(work)

    async def order_abandoned(self, order: str) -> None:
        """Note that nothing more can come of an order."""
        async with self._engine.begin() as connection:
            await growth.note_abandoned(connection, order, self._clock.now())

    async def nodes_to_give_back(self, provider: str, names: Collection[str]) -> list[str]:
        """Those of the nodes that are still to leave, and have no work."""
        async with self._engine.connect() as connection:
            return await growth.nodes_to_give_back(connection, provider, names)

    async def nodes_given_back(self, provider: str, names: Collection[str]) -> None:
        """Note that a provider has taken nodes away."""

        async def work(connection: AsyncConnection, journal: Journal) -> None:
            await growth.note_given_back(connection, provider, names, journal.now)
            await self._supply_changed(connection, journal)

        await self._write(work)

    async def node_pools(self) -> list[NodePoolStatus]:
        """What providers can add, and how far each pool is from what is wanted of it."""
        async with self._engine.connect() as connection:
            rules = (await self._policies.in_force(connection)).growth
            return await growth.node_pools(connection, self._clock.now(), rules)

    async def provisionings(self, limit: int) -> list[ProvisioningStatus]:
        """The newest orders for nodes, those under way first."""
        async with self._engine.connect() as connection:
            return await growth.orders(connection, limit)

    async def evacuate(self, order: EvacuationOrder) -> tuple[EvacuationStatus, list[Notice]]:
        """Take an evacuation as far as it may go now, and note where that is.

        Raises:
            LookupError: nothing of that name is there.
            activities.ports.NotAllowed: the id belongs to another operation.
        """

        async def cordon(connection: AsyncConnection, journal: Journal) -> None:
            policy = await self._policies.in_force(connection)
            if await evacuations.begin(connection, journal, order, policy.approvals):
                await self._supply_changed(connection, journal)

        async def tell(connection: AsyncConnection, journal: Journal) -> None:
            if await evacuations.tell_next(connection, journal, order):
                await fleet.note_change(connection, self._pool)

        async def note(connection: AsyncConnection, journal: Journal) -> EvacuationStatus:
            return await evacuations.note_progress(connection, journal, order)

        await self._write(cordon)
        _, notices = await self._write(tell)
        return (await self._write(note))[0], notices

    async def steer_evacuation(self, id: str, verb: Steering, change: OperationChange, key: str) -> EvacuationStatus:
        """Pause, resume, abort, approve or reject an evacuation, once a key.

        Raises:
            LookupError: there is no such evacuation.
            activities.ports.NotAllowed: it is over, or its state or the person does not allow it.
        """

        async def work(connection: AsyncConnection, journal: Journal) -> EvacuationStatus:
            policy = await self._policies.in_force(connection)
            status = await evacuations.steer(connection, journal, id, verb, change, policy.approvals, key)
            await self._supply_changed(connection, journal)
            return status

        return (await self._write(work))[0]

    async def evacuations(self, limit: int) -> list[EvacuationStatus]:
        """The newest evacuations, those under way first."""
        async with self._engine.connect() as connection:
            return await evacuations.evacuations(connection, limit)

    async def operations(self, id: str | None, limit: int) -> list[OperationStatus]:
        """The newest operations of all kinds, those under way first, or the one of that id."""
        async with self._engine.connect() as connection:
            return await orders.operations(connection, id, limit)

    # Roll-outs

    async def remember_what_if(self, change: Change, found: WhatIf) -> None:
        """Keep what the token of a what-if stands for, for a day."""
        async with self._engine.begin() as connection:
            await rollouts.remember(connection, change, found, self._clock.now())

    async def begin_rollout(self, order: RolloutOrder) -> RolloutStatus:
        """Write a roll-out down, and apply it if the pool is as its token has it and nobody has to approve it; once.

        Raises:
            activities.ports.NotAllowed: the id belongs to another operation, or the token to another change.
        """
        return await self._rolling_out(lambda world: rollouts.begin(world, order))

    async def advance_rollout(self, id: str) -> RolloutStatus:
        """Do what is due of a roll-out: let it expire, look how it goes, take it back, or end it.

        Raises:
            LookupError: there is no such roll-out.
        """
        return await self._rolling_out(lambda world: rollouts.advance(world, id))

    async def steer_rollout(self, id: str, verb: Steering, change: OperationChange, key: str) -> RolloutStatus:
        """Approve, reject or abort a roll-out, once a key; to ask for what is so already changes nothing.

        Raises:
            LookupError: there is no such roll-out.
            activities.ports.NotAllowed: it is over, or its state or the person does not allow it.
        """
        return await self._rolling_out(lambda world: rollouts.steer(world, id, verb, change, key))

    async def _rolling_out(self, step: Callable[[rollouts.World], Awaitable[Row[Any]]]) -> RolloutStatus:
        async def work(connection: AsyncConnection, snapshot: Snapshot, now: datetime) -> RolloutStatus:
            row = await step(rollouts.World(connection, self._pool, snapshot, now))
            return rollouts.status_of(row, self._next_look(row, now))

        return await self._on_snapshot(work)

    def _next_look(self, row: Row[Any], now: datetime) -> float | None:
        """In how many seconds of the wall; one that lies under another is looked at, though its time has come."""
        if row.ended_at is not None:
            return None
        left = self._clock.wall_seconds(max(0.0, (row.due_at - now).total_seconds()))
        return min(left or LOOK_SECONDS, LOOK_SECONDS) if row.state == RolloutState.WATCHING else left

    async def _on_snapshot(self, work: Callable[[AsyncConnection, Snapshot, datetime], Awaitable[Result]]) -> Result:
        """Do something in one transaction with the pool as a round would see it now."""

        async def done() -> Result:
            now = self._clock.now()
            async with self._snapshot_transaction() as connection:
                pool = await read_pool(connection, self._pool)
                world = await self._reader.read(connection, pool, now, {}, everybody=True)
                return await work(connection, apart(world.snapshot), now)

        async with self._turn:
            return await _again_on_conflict(done)

    async def _supply_changed(self, connection: AsyncConnection, journal: Journal) -> None:
        await note_capacity(connection, journal.now)
        await fleet.note_change(connection, self._pool)

    async def apply_queues(self, tree: QueueTree) -> list[QueueStatus]:
        """Make the queues what the tree says.

        Raises:
            domain.quota.QuotaError: the tree contradicts itself or the policy in force; nothing was changed.
        """

        async def work(connection: AsyncConnection, journal: Journal) -> list[QueueStatus]:
            # First, for it keeps roll-outs away until this is committed: what is edited is what is in force.
            await fleet.note_change(connection, self._pool)
            policy, before = await self._policies.in_force(connection), await read_queues(connection)
            await queues.apply(connection, tree, policy, journal.now)
            after = await read_queues(connection)
            both = (lambda: of_queues(before), lambda: of_queues(after))
            await watched.edited(connection, OperationKind.QUEUES, self._pool, *both)
            return await views.queues(connection, journal.now, policy.limits.sku_classes)

        return (await self._write(work))[0]

    # Data

    async def apply_datasets(self, catalogue: Catalogue) -> list[DatasetStatus]:
        """Make the datasets what the catalogue says."""

        async def work(connection: AsyncConnection, journal: Journal) -> list[DatasetStatus]:
            await data.apply(connection, catalogue)
            await fleet.note_change(connection, self._pool)
            return await data.statuses(connection)

        return (await self._write(work))[0]

    async def datasets(self) -> list[DatasetStatus]:
        """All datasets, and the names that workloads read though no dataset has them."""
        async with self._engine.connect() as connection:
            return await data.statuses(connection)

    # Reservations

    async def reserve(self, spec: ReservationSpec) -> ReservationStanding:
        """Write a reservation, once; one whose windows are all over stands refused.

        Raises:
            domain.recurrence.BadRecurrence: its time zone or its recurrence cannot be read.
            activities.ports.NotAllowed: the id is taken by another one.
            LookupError: it names a queue, a node or a cluster that there is not.
        """

        async def work(connection: AsyncConnection, journal: Journal) -> ReservationRow | None:
            return await reservations.book(connection, spec, journal.now)

        row = await self._reserving(work)
        return self._over_before(spec) if row is None else self._reservation_standing(row)

    async def advance_reservation(self, reservation: str) -> ReservationStanding:
        """Close the windows that are over, and begin the next.

        Raises:
            LookupError: there is no such reservation.
        """

        async def work(connection: AsyncConnection, journal: Journal) -> ReservationRow:
            return await reservations.advance(connection, reservation, journal.now)

        return self._reservation_standing(await self._reserving(work))

    async def extend_reservation(self, asked: ReservationChange) -> ReservationStanding:
        """Let the present or next window end later, once a key.

        Raises:
            LookupError: there is no such reservation.
            activities.ports.NotAllowed: it is over.
        """

        async def work(connection: AsyncConnection, journal: Journal) -> ReservationRow:
            return await reservations.extend(connection, asked)

        return self._reservation_standing(await self._reserving(work))

    async def cancel_reservation(self, reservation: str) -> ReservationStanding:
        """Keep nothing for a reservation any more.

        Raises:
            LookupError: there is no such reservation.
        """

        async def work(connection: AsyncConnection, journal: Journal) -> ReservationRow:
            return await reservations.cancel(connection, reservation, journal.now)

        return self._reservation_standing(await self._reserving(work))

    async def reservations(self, reservation: str | None = None) -> list[ReservationStatus]:
        """All reservations, or the one of that id; those that are not over first."""
        async with self._engine.connect() as connection:
            return await reservations.statuses(connection, self._clock.now(), reservation)

    async def unclosed_reservations(self, seconds: float) -> list[ReservationSpec]:
        """Those whose window was over so many seconds (of the wall) ago, and that no workflow has taken any further."""
        before = self._clock.now() - timedelta(seconds=seconds / self._clock.wall_seconds(1))
        async with self._engine.connect() as connection:
            return [booking.spec for booking in await reservations.read_bookings(connection) if booking.closes_at < before]

    async def _reserving(self, work: Callable[[AsyncConnection, Journal], Awaitable[Result]]) -> Result:
        """Do something about a reservation, and let a round look at what that means."""

        async def and_look(connection: AsyncConnection, journal: Journal) -> Result:
            result = await work(connection, journal)
            await reservations.write_look_at(connection, self._pool, journal.now)
            await fleet.note_change(connection, self._pool)
            return result

        return (await self._write(and_look))[0]

    def _reservation_standing(self, row: ReservationRow) -> ReservationStanding:
        now = self._clock.now()
        moment = row.opens_at if now < row.opens_at else row.closes_at
        left = None if row.state.is_over else max(0.0, (moment - now).total_seconds())
        return ReservationStanding(
            reservation=row.id,
            state=row.state,
            opens_at=row.opens_at,
            closes_at=row.closes_at,
            windows=row.windows,
            missing=row.missing / WHOLE,
            message=row.cause,
            next_in=None if left is None else self._clock.wall_seconds(left),
        )

    def _over_before(self, spec: ReservationSpec) -> ReservationStanding:
        message = f"start: the window of {spec.start.isoformat()} is over, and no further one begins; give one that is ahead"
        return ReservationStanding(spec.id, ReservationState.REFUSED, message=message)

    # Policies

    async def apply_policy(self, order: PolicyOrder) -> PolicyAnswer:
        """Put a policy in force, unless something refuses it; one that is in force already is left as it is."""

        async def work(connection: AsyncConnection, snapshot: Snapshot, now: datetime) -> PolicyAnswer:
            findings = what_speaks_against(snapshot, order.policy, now)
            if any(finding.refuses for finding in findings):
                return PolicyAnswer(record=None, findings=findings)
            record = await self._policies.record(connection)
            if record is None or record.digest != order.policy.digest:
                both = (lambda: of_policy(snapshot.policy), lambda: of_policy(order.policy))
                await watched.edited(connection, OperationKind.POLICY, self._pool, *both)
                record = await policies.write(connection, self._pool, order, now)
                await fleet.note_change(connection, self._pool)
            return PolicyAnswer(record=record, findings=findings)

        return await self._on_snapshot(work)

    async def policies(self, limit: int) -> list[PolicyRecord]:
        """The policies of the pool, the one in force first."""
        async with self._engine.connect() as connection:
            return await policies.history(connection, self._pool, limit)

    async def record_policy(self, why: str = "") -> None:
        """Write down the policy that is in force unasked, where none is, and one whose words have changed since again."""
        async with self._engine.begin() as connection:
            record = await self._policies.record(connection)
            if record is None:
                order = PolicyOrder(policy=self._policies.unwritten, why=why)
                await policies.write(connection, self._pool, order, self._clock.now())
            elif record.digest != record.policy.digest:
                order = PolicyOrder(policy=record.policy, why=f"version {record.version} in the words of a newer Corral")
                await policies.write(connection, self._pool, order, self._clock.now())

    # Views

    async def status(self, workload: str) -> WorkloadStatus | None:
        """One workload, or none."""
        async with self._engine.connect() as connection:
            return await views.status(connection, workload)

    async def workloads(self, which: WorkloadFilter) -> list[WorkloadStatus]:
        """Workloads that match, newest first."""
        async with self._engine.connect() as connection:
            return await views.workloads(connection, which)

    async def events(self, workload: str, after: int) -> list[WorkloadEvent]:
        """A workload's history after an event, oldest first."""
        async with self._engine.connect() as connection:
            return await views.events(connection, workload, after)

    async def queues(self) -> list[QueueStatus]:
        """All queues with their use."""
        async with self._engine.connect() as connection:
            policy = await self._policies.in_force(connection)
            return await views.queues(connection, self._clock.now(), policy.limits.sku_classes)

    async def fleet(self) -> list[FleetStatus]:
        """The supply by provider, region and SKU."""
        async with self._engine.connect() as connection:
            return await views.fleet(connection)

    async def nodes(self) -> list[NodeStatus]:
        """All nodes as last observed."""
        async with self._engine.connect() as connection:
            return await views.nodes(connection)

    async def rounds(self, limit: int) -> list[RoundStatus]:
        """The newest rounds that changed something, the last one first."""
        async with self._engine.connect() as connection:
            return await views.rounds(connection, self._pool, limit)

    async def figures(self) -> Figures:
        """Figures of the pool for those who watch over it; the same whichever process asks."""
        async with self._figures_turn, self._engine.connect() as plain:
            connection = await plain.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            policy = await self._policies.in_force(connection)
            return await self._figures.read(connection, self._clock.now(), policy.limits.sku_classes)

    async def audit(self) -> list[audit.Finding]:
        """Look for breaches of the invariants."""
        async with self._engine.connect() as connection:
            return await audit.audit(connection)

    # Waking up

    @asynccontextmanager
    async def wake_ups(self) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever something changed that could let waiting work start, by whatever process."""
        woken = asyncio.Event()

        def wake(_connection: object, _pid: int, _channel: str, pool: object) -> None:
            if pool == self._pool:
                woken.set()

        url = self._engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        connection = await asyncpg.connect(url)
        try:
            connection.add_termination_listener(lambda _: woken.set())
            await connection.add_listener(fleet.CHANNEL, wake)
            yield woken
        finally:
            await connection.close(timeout=2)

    # Transactions

    def _journal(self) -> Journal:
        return Journal(self._clock, self._policies, self._clock.now())

    @asynccontextmanager
    async def _snapshot_transaction(self) -> AsyncIterator[AsyncConnection]:
        """A transaction on one snapshot, in which the reader may read.

        What the reader remembers was committed at that snapshot, whatever becomes of this transaction: a conflict leaves
        it true. After any other failure nobody knows what became of the server.
        """
        try:
            async with self._engine.connect() as plain:
                connection = await plain.execution_options(isolation_level="REPEATABLE READ")
                async with connection.begin():
                    yield connection
        except BaseException as error:
            if not _is_conflict(error):
                self._reader.forget()
            raise

    async def _write(self, work: Callable[[AsyncConnection, Journal], Awaitable[Result]]) -> tuple[Result, list[Notice]]:
        async with self._turn:
            return await _again_on_conflict(lambda: self._write_now(work))

    async def _write_now(self, work: Callable[[AsyncConnection, Journal], Awaitable[Result]]) -> tuple[Result, list[Notice]]:
        journal = self._journal()
        async with self._engine.begin() as connection:
            result = await work(connection, journal)
            notices = await journal.write(connection)
        return result, notices
