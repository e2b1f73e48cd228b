"""Reading the world: everything that a round may know, as frozen facts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Row, Select, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.store import tables
from activities.store.accounts import AccountBook, summed_up_at
from activities.store.data import read_datasets
from activities.store.fleet import all_seen
from activities.store.past import PastReader
from activities.store.penalties import unsettled
from activities.store.policies import PolicyReader
from activities.store.rows import FIRST_VERSION, AttemptRow, WorkloadRow, open_attempts
from corral.api import WHOLE, CapacityType, Dataset, Outcome, QueueSpec, QuotaSpec, State, StopPolicy, WorkloadSpec
from corral.policy import Policy
from domain.fleet import Amount, Health, Node, NodeShare, Placement, Replica, Room
from domain.lifecycle import LEAVING
from domain.penalties import Entry, is_shown, outstanding
from domain.snapshot import Snapshot
from domain.workload import Active, Waiting


@dataclass(frozen=True, slots=True)
class WorldRows:
    """A snapshot together with the rows that a commit of its plan changes."""

    snapshot: Snapshot
    workloads: dict[str, WorkloadRow]
    attempts: dict[str, AttemptRow]
    """Open attempts by attempt id."""
    replicas_left: dict[str, int]
    """How many more replicas may be claimed, by node; nodes that take any number are left out."""
    shown: tuple[Entry, ...] = ()
    """Charges that past use now has itself, and that a round settles."""


class PoolState(NamedTuple):
    """Numbers that rise: with what could let waiting work start, and with edits (see `tables.pools`)."""

    changes: int
    edits: int


@dataclass(frozen=True, slots=True)
class Edited:
    """What only edits change."""

    edits: int
    queues: tuple[QueueSpec, ...]
    policy: Policy
    is_complete: bool
    datasets: tuple[Dataset, ...]


Fact = Waiting | Active


@dataclass
class SnapshotReader:
    """Reads snapshots; remembers what it built of each workload until the workload's version rises."""

    policies: PolicyReader
    past: PastReader = field(default_factory=PastReader)
    _live: dict[str, tuple[WorkloadRow, tuple[AttemptRow, ...], tuple[Fact, ...]]] = field(default_factory=dict)
    _nodes: dict[str, tuple[Row[Any], list[Room], Node]] = field(default_factory=dict)
    _edited: Edited | None = None
    _book: AccountBook = field(default_factory=AccountBook)

    async def read(
        self, connection: AsyncConnection, pool: PoolState, now: datetime, fresh: Mapping[str, WorkloadRow], *, everybody: bool
    ) -> WorldRows:
        """Read the world at the transaction's snapshot.

        `fresh` are the workloads that this transaction wrote; unless it is `everybody`'s turn, it is theirs alone.
        """
        edited = await self._read_edited(connection, pool.edits)
        stale = await self._refresh_live(connection, fresh)
        await self.past.refresh(connection, self._live.keys(), stale, edited.policy, now)
        promised = await self._promised(connection)
        await self._book.refresh(connection)
        live = self._live.values()
        charged = await unsettled(connection) if edited.policy.rank.fairness.charged_seconds else []
        shown = self._shown(charged, summed_up_at(now))
        snapshot = Snapshot(
            nodes=tuple(await self._read_nodes(connection, promised)),
            queues=edited.queues,
            waiting=tuple(
                self.past.complete_waiting(fact)
                for row, _, facts in live
                for fact in facts
                if isinstance(fact, Waiting)
                and (everybody or row.id in fresh)
                and (row.not_before is None or row.not_before <= now)
            ),
            bystanders=tuple(
                fact
                for row, _, facts in live
                for fact in facts
                if isinstance(fact, Waiting)
                and not ((everybody or row.id in fresh) and (row.not_before is None or row.not_before <= now))
            ),
            active=tuple(self.past.complete(fact) for _, _, facts in live for fact in facts if isinstance(fact, Active)),
            policy=edited.policy,
            is_complete=edited.is_complete,
            datasets=edited.datasets,
            ledger=dict(self.past.ledger),
            stops=tuple(self.past.stops.values()),
            spent=self._book.spent(edited.queues, now),
            past_use=self._book.past_use(
                edited.queues, edited.policy, now, self._held(), outstanding(set(charged) - set(shown))
            ),
        )
        return WorldRows(
            snapshot=snapshot,
            workloads={row.id: row for row, _, _ in live},
            attempts={attempt.id: attempt for _, attempts, _ in live for attempt in attempts},
            replicas_left={
                row.id: row.maximum_replicas - row.replica_use
                for row, _, _ in self._nodes.values()
                if row.maximum_replicas is not None
            },
            shown=shown,
        )

    def _shown(self, charged: Sequence[Entry], at: datetime) -> tuple[Entry, ...]:
        """The charges of which past use as summed up then has as much."""
        attempts = {(each.workload_id, each.epoch): each for _, its, _ in self._live.values() for each in its}
        found = [(charge, attempts[charge.workload, charge.epoch]) for charge in charged]
        return tuple(charge for charge, its in found if is_shown(charge, its.by_sku[charge.sku], its.bound_at, at))

    def _held(self) -> dict[tuple[str, str], Amount]:
        """What every queue has of each SKU, whether or not it runs already."""
        held: dict[tuple[str, str], Amount] = {}
        for row, its, _ in self._live.values():
            for sku, milli in ((sku, milli) for attempt in its for sku, milli in attempt.by_sku.items()):
                held[row.queue, sku] = held.get((row.queue, sku), 0) + milli
        return held

    async def _read_edited(self, connection: AsyncConnection, edits: int) -> Edited:
        if self._edited is None or self._edited.edits != edits or edits < 0:
            policy, datasets = await self.policies.in_force(connection), await read_datasets(connection)
            self._edited = Edited(edits, await read_queues(connection), policy, await all_seen(connection), datasets)
        return self._edited

    async def _refresh_live(self, connection: AsyncConnection, fresh: Mapping[str, WorkloadRow]) -> list[str]:
        """Read what changed; answers with who that is, beside the fresh ones."""
        columns = tables.workloads.c
        versions: dict[str, int] = {
            row.id: row.version
            for row in await connection.execute(select(columns.id, columns.version).where(columns.ended_at.is_(None)))
        }
        for gone in self._live.keys() - versions.keys():
            del self._live[gone]
        for row in fresh.values():
            self._live[row.id] = (row, (), _facts(row, (), {}, is_new=True))
        # What a round itself wrote may have been rolled back: another workload of that id would have the same first version.
        stale = [
            id
            for id, version in versions.items()
            if id not in fresh and (version == FIRST_VERSION or not self._knows(id, version))
        ]
        if stale:
            await self._read_live(connection, stale)
        return stale

    def _knows(self, id: str, version: int) -> bool:
        return id in self._live and self._live[id][0].version == version

    async def _read_live(self, connection: AsyncConnection, ids: list[str]) -> None:
        rows = [
            WorkloadRow.of(row)
            for row in await connection.execute(select(tables.workloads).where(tables.workloads.c.id.in_(ids)))
        ]
        found = await open_attempts(connection, ids)
        shares = await self._read_shares(connection, [row.id for row in (*found.now.values(), *found.then.values())])
        for row in rows:
            its = tuple(each[row.id] for each in (found.now, found.then) if row.id in each)
            self._live[row.id] = (row, its, _facts(row, its, shares))

    async def _read_shares(self, connection: AsyncConnection, attempts: list[str]) -> dict[str, list[NodeShare]]:
        shares: dict[str, list[NodeShare]] = {}
        if attempts:
            query = select(tables.allocations).where(
                tables.allocations.c.attempt_id.in_(attempts), tables.allocations.c.phase != "released"
            )
            for row in await connection.execute(query):
                shares.setdefault(row.attempt_id, []).append(share_of(row))
        return shares

    async def _promised(self, connection: AsyncConnection) -> dict[str, list[Room]]:
        promised: dict[str, list[Room]] = {}
        query = select(tables.allocations).where(tables.allocations.c.phase == "promised")
        for row in await connection.execute(query):
            promised.setdefault(row.node_id, []).append(Room(tuple(row.uses), row.cpu_milli, row.memory_mib))
        return promised

    async def _read_nodes(self, connection: AsyncConnection, promised: dict[str, list[Room]]) -> list[Node]:
        nodes: list[Node] = []
        for row in await connection.execute(_SELECT_NODES):
            known, rooms = self._nodes.get(row.id), promised.get(row.id, [])
            if known is None or known[:2] != (row, rooms):
                known = (row, rooms, node_of(row, rooms))
                self._nodes[row.id] = known
            nodes.append(known[2])
        return nodes


_SELECT_NODES = select(tables.nodes)


async def read_pool(connection: AsyncConnection, pool: str) -> PoolState:
    """The numbers of a pool; below zero, and so never the same as any remembered, before anything was noted."""
    columns = tables.pools.c
    found = (await connection.execute(select(columns.changes, columns.edits).where(columns.name == pool))).one_or_none()
    return PoolState(found.changes, found.edits) if found else PoolState(-1, -1)


async def anybody_waits(connection: AsyncConnection, now: datetime) -> bool:
    """Whether a workload waits that a round may decide about now."""
    columns = tables.workloads.c
    query = select(func.count()).where(
        columns.ended_at.is_(None),
        columns.state == State.WAITING,
        or_(columns.not_before.is_(None), columns.not_before <= now),
    )
    return bool(await connection.scalar(query))


async def read_queues(connection: AsyncConnection) -> tuple[QueueSpec, ...]:
    """All queues with their quota rows of every validity."""
    quotas: dict[str, list[QuotaSpec]] = {}
    for row in await connection.execute(select(tables.quotas).order_by(tables.quotas.c.id)):
        quotas.setdefault(row.queue, []).append(_quota_of(row))
    return tuple(
        _queue_of(row, tuple(quotas.get(row.name, ())))
        for row in await connection.execute(select(tables.queues).order_by(tables.queues.c.name))
    )


QUEUE_COLUMNS = {"name", "parent", "weight", "stop", "minimum_runtime_seconds", "created_at"}
QUOTA_COLUMNS = {"sku", "valid_from", "valid_until"}
QUOTA_AMOUNTS = {"nominal", "floor", "cap", "borrowing_limit", "lending_limit"}
"""Fields of queues and quotas with columns of their own (amounts: in thousandths); `terms` has all others."""


def _queue_of(row: Row[Any], quotas: tuple[QuotaSpec, ...]) -> QueueSpec:
    columns = {name: getattr(row, name) for name in QUEUE_COLUMNS}
    return QueueSpec.model_validate({**row.terms, **columns, "quotas": quotas})


def _quota_of(row: Row[Any]) -> QuotaSpec:
    columns = {name: getattr(row, name) for name in QUOTA_COLUMNS}
    amounts = {name: None if (milli := getattr(row, name)) is None else milli // WHOLE for name in QUOTA_AMOUNTS}
    return QuotaSpec.model_validate({**row.terms, **columns, **amounts})


def node_of(row: Row[Any], promised: list[Room]) -> Node:
    """A node as the domain sees it; what is promised is not free, though nobody may be using it yet."""
    total = Room((WHOLE,) * row.accelerators, row.cpu_milli, row.memory_mib)
    left = total - Room(tuple(row.device_use), row.cpu_use, row.memory_use)
    for room in promised:
        left -= room
    return Node(
        id=row.id,
        provider=row.provider,
        region=row.region,
        cluster=row.cluster,
        sku=row.sku,
        topology=tuple((level, domain) for level, domain in row.topology),
        total=total,
        # A promise overlaps with what its victims still use: below zero means that nothing is free.
        free=Room(tuple(max(0, milli) for milli in left.devices), max(0, left.cpu_milli), max(0, left.memory_mib)),
        health=health_of(row),
        capacity_type=CapacityType(row.capacity_type),
        price=row.price,
        taints=tuple(row.taints),
        labels=tuple((name, value) for name, value in row.labels),
        maximum_replicas=row.maximum_replicas,
        interruptions=row.interruptions,
    )


def health_of(row: Row[Any]) -> Health:
    """A node's health: what was ordered counts before what was observed."""
    if row.cordon is not None:
        return Health(row.cordon)
    return Health.READY if row.ready else Health.SUSPECT


def share_of(row: Row[Any]) -> NodeShare:
    """What an attempt has on one node, from a row of `allocations`."""
    return NodeShare(
        row.node_id,
        Room(tuple(row.uses), row.cpu_milli, row.memory_mib),
        tuple(Replica(group, index, tuple(devices)) for group, index, devices in row.replicas),
        row.sku,
    )


def _facts(
    row: WorkloadRow, attempts: Sequence[AttemptRow], shares: dict[str, list[NodeShare]], *, is_new: bool = False
) -> tuple[Fact, ...]:
    """A workload that is to go on in another shape has two attempts: one that leaves, and one that has the room it needs."""
    spec = row.parsed()
    if row.state is State.WAITING:
        return (Waiting(row.id, spec, row.submitted_at, row.epoch, row.tasks_done, since=row.since, is_new=is_new),)
    return tuple(_active(row, spec, attempt, shares) for attempt in attempts)


def _active(row: WorkloadRow, spec: WorkloadSpec, attempt: AttemptRow, shares: dict[str, list[NodeShare]]) -> Active:
    placement = Placement(
        attempt.provider,
        attempt.region,
        attempt.sku,
        tuple(sorted(shares.get(attempt.id, []), key=lambda share: share.node_id)),
        attempt.target,
    )
    return Active(
        id=row.id,
        attempt_id=attempt.id,
        epoch=attempt.epoch,
        spec=spec,
        state=State.RESERVING if attempt.follows else row.state,
        placement=placement,
        submitted_at=row.submitted_at,
        held_at=attempt.held_at,
        started_at=attempt.started_at,
        checkpoint_at=attempt.checkpoint_at,
        preempted=attempt.stop_as in LEAVING,
        hourly_cost=sum(attempt.cost_by_sku.values()),
    )


class Departure(NamedTuple):
    """Why an attempt must leave though nobody takes its place."""

    outcome: Outcome
    reason: str


HOLD_EXPIRED = Departure(Outcome.EXPIRED, "its hold expired")
NODE_DRAINS = Departure(Outcome.DRAINED, "its node is drained")
QUEUE_DRAINS = Departure(Outcome.DRAINED, "its queue is drained")


async def housekeeping_due(connection: AsyncConnection, now: datetime) -> dict[str, Departure]:
    """Workloads whose attempt must be ended from outside, and why: expired holds, and work on draining nodes or queues."""
    attempts, holds, allocations, nodes = tables.attempts.c, tables.holds.c, tables.allocations.c, tables.nodes.c
    staying = and_(attempts.ended_at.is_(None), attempts.stop_at.is_(None), attempts.follows.is_(None))
    expired = (
        select(attempts.workload_id)
        .join(tables.holds, holds.attempt_id == attempts.id)
        .where(holds.ended_at.is_(None), holds.expires_at < now, attempts.ended_at.is_(None), attempts.follows.is_(None))
        .order_by(attempts.workload_id)
    )
    on_draining_nodes = (
        select(attempts.workload_id)
        .join(tables.allocations, allocations.attempt_id == attempts.id)
        .join(tables.nodes, nodes.id == allocations.node_id)
        .where(staying, allocations.phase != "released", nodes.cordon == Health.DRAINING)
        .order_by(attempts.workload_id)
    )
    in_draining_queues = (
        select(attempts.workload_id)
        .join(tables.workloads, tables.workloads.c.id == attempts.workload_id)
        .where(staying, tables.workloads.c.queue.in_(_draining_queues()))
        .order_by(attempts.workload_id)
    )
    due: dict[str, Departure] = {}
    for query, departure in ((in_draining_queues, QUEUE_DRAINS), (on_draining_nodes, NODE_DRAINS), (expired, HOLD_EXPIRED)):
        due |= dict.fromkeys(await connection.scalars(query), departure)
    return due


def _draining_queues() -> Select[tuple[str]]:
    """The queues that drain: those with that order, and all below them."""
    queues = tables.queues
    ordered = select(queues.c.name).where(queues.c.stop == StopPolicy.HOLD_AND_DRAIN).cte("draining", recursive=True)
    draining = ordered.union(select(queues.c.name).join(ordered, queues.c.parent == ordered.c.name))
    return select(draining.c.name)
