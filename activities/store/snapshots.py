"""Reading the world: everything that a round may know, as frozen facts."""

from collections import ChainMap, Counter
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Exists, Row, exists, func, not_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.store import tables
from activities.store.accounts import AccountBook, summed_up_at
from activities.store.changes import Moment, moment
from activities.store.connecting import MAY_THINK
from activities.store.data import read_datasets
from activities.store.demand import Demand
from activities.store.facts import waiting_of
from activities.store.fleet import all_seen
from activities.store.growth import read_arrivals, read_pools
from activities.store.past import Past
from activities.store.penalties import OpenCharges
from activities.store.policies import PolicyReader
from activities.store.reservations import read_bookings, read_look_at
from activities.store.rows import AttemptRow, WorkloadRow
from activities.store.steps import Steps
from activities.store.supply import Supply
from corral.api import WHOLE, Dataset, Explanation, QueueSpec, QuotaSpec, State
from corral.policy import Growth, Policy
from domain.pool.fleet import Node
from domain.pool.lifecycle import LEAVING, MAY_STAY
from domain.pool.nodepools import NodePool, Provisioning, planned
from domain.pool.versions import Crowd
from domain.quota.penalties import Entry, is_shown, outstanding
from domain.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class WorldRows:
    """A snapshot together with the rows that a commit of its plan changes; but for the snapshot, of use until the next read."""

    snapshot: Snapshot
    demand: Demand
    fresh: Mapping[str, WorkloadRow]
    """Workloads that the transaction has written itself."""
    nodes: Mapping[str, Node]
    replicas_left: Mapping[str, int]
    """How many more replicas may be claimed, by node; nodes that take any number are left out."""
    backed_off: frozenset[str] = frozenset()
    """Workloads whose back-off is over, and whose turn it is."""
    backing_off: frozenset[str] = frozenset()
    shown: tuple[Entry, ...] = ()
    """Charges that past use now has itself, and that a round settles."""
    look_at: datetime | None = None
    """When time alone gives a round something to do, as far as the last one knew."""

    @property
    def workloads(self) -> Mapping[str, WorkloadRow]:
        """All live workloads."""
        return ChainMap(dict(self.fresh), self.demand.rows)

    @property
    def attempts(self) -> Mapping[str, AttemptRow]:
        """Open attempts by attempt id."""
        return self.demand.attempts

    @property
    def over_quota(self) -> AbstractSet[str]:
        """Workloads that the record says are entitled to nothing."""
        return self.snapshot.over_quota.keys()

    def bound(self, workload: str) -> AttemptRow | None:
        """The attempt of a workload that was sent to a provider."""
        return next((each for each in self.demand.attempts_of(workload) if each.bound_at is not None), None)

    def said(self, workload: str) -> Explanation | None:
        """Why a workload waits, as far as it has been told."""
        return None if workload in self.fresh else self.demand.said(workload)


class PoolState(NamedTuple):
    """Numbers that rise: with what could let waiting work start, and with edits (see `tables.pools`)."""

    changes: int
    edits: int


NOTHING_NOTED = -1
"""Both numbers of a pool of which nothing was noted yet."""


@dataclass(frozen=True, slots=True)
class Edited:
    """What only edits change."""

    edits: int
    queues: tuple[QueueSpec, ...]
    policy: Policy
    is_complete: bool
    datasets: tuple[Dataset, ...]


@dataclass(frozen=True, slots=True)
class Planned:
    """What could be added to a fleet that has so many nodes of each pool, and what is coming: as it is, and node by node."""

    pools: tuple[NodePool, ...] = ()
    arrivals: tuple[Provisioning, ...] = ()
    there: Mapping[str, int] = field(default_factory=dict)
    rules: Growth = field(default_factory=Growth)
    nodes: tuple[Node, ...] = ()

    def in_(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with that."""
        if not self.pools:
            return snapshot
        nodes = snapshot.nodes + self.nodes if self.nodes else snapshot.nodes
        return replace(snapshot, nodes=nodes, node_pools=self.pools, arrivals=self.arrivals)


@dataclass
class Memory:
    """The committed world up to a moment, and nothing that any transaction might yet take back."""

    moment: Moment | None = None
    supply: Supply = field(default_factory=Supply)
    demand: Demand = field(default_factory=Demand)
    past: Past = field(default_factory=Past)
    charges: OpenCharges = field(default_factory=OpenCharges)
    book: AccountBook = field(default_factory=AccountBook)


@dataclass
class SnapshotReader:
    """Reads snapshots; remembers the world between them, and reads what has changed since.

    Rows that did not change are the same objects in every snapshot. A transaction that reads must be a repeatable-read one,
    and may before have written new workloads, and nothing else.
    """

    policies: PolicyReader
    _edited: Edited | None = None
    _planned: "Planned | None" = None
    _memory: Memory = field(default_factory=Memory)

    def forget(self) -> None:
        """Read everything anew the next time."""
        self._memory, self._edited = Memory(), None

    async def read(
        self,
        connection: AsyncConnection,
        pool: PoolState,
        now: datetime,
        fresh: Mapping[str, WorkloadRow],
        *,
        everybody: bool,
        steps: Steps | None = None,
    ) -> WorldRows:
        """Read the world at the transaction's snapshot.

        `fresh` are the workloads that this transaction wrote; unless it is `everybody`'s turn, it is theirs alone.
        """
        steps = steps or Steps()
        try:
            edited = await self._read_edited(connection, pool.edits)
            await self._catch_up(connection, edited.policy, now, fresh, steps)
        except BaseException:
            self.forget()
            raise
        bookings, look_at = await read_bookings(connection), await read_look_at(connection, self.policies.pool)
        planned = await self._read_planned(connection, edited.policy.growth)
        with steps.step("read: assemble"):
            world = self._world(edited, now, fresh, everybody=everybody)
            return replace(world, snapshot=planned.in_(replace(world.snapshot, bookings=bookings)), look_at=look_at)

    async def _read_planned(self, connection: AsyncConnection, rules: Growth) -> "Planned":
        """What could be added to the fleet and what is coming; the same objects as long as it is the same."""
        if not (rules.dollars_per_hour or self._memory.supply.provisioned):
            return Planned()
        pools = await read_pools(connection)
        arrivals = await read_arrivals(connection, pools) if pools else ()
        there = Counter(self._memory.supply.provisioned.values())
        known = self._planned
        if known is None or (known.pools, known.arrivals, known.there, known.rules) != (pools, arrivals, there, rules):
            self._planned = known = Planned(pools, arrivals, there, rules, tuple(planned(pools, arrivals, there, rules)))
        return known

    async def _catch_up(
        self, connection: AsyncConnection, policy: Policy, now: datetime, fresh: Mapping[str, WorkloadRow], steps: Steps
    ) -> None:
        """Make the memory what is committed at the transaction's snapshot."""
        here = await moment(connection, self.policies.pool)
        if not (since := here.since(self._memory.moment)):
            self._memory = Memory()
        memory = self._memory
        with steps.step("read: nodes"):
            memory.supply.take(await memory.supply.news(connection, since))
        with steps.step("read: workloads"):
            async for news in memory.demand.news(connection, since, fresh):
                past = await memory.past.news(connection, news.live_ids, news.tried_ids, policy, now)
                stopped = memory.past.take(past, [row.id for row in news.ended], now)
                memory.demand.take(news, memory.past)
                for workload in stopped:
                    memory.demand.recount(workload, memory.past)
        with steps.step("read: past"):
            memory.charges.take(await memory.charges.news(connection, since))
            await memory.book.refresh(connection)
        memory.moment = here

    def _world(self, edited: Edited, now: datetime, fresh: Mapping[str, WorkloadRow], *, everybody: bool) -> WorldRows:
        memory = self._memory
        ready, later = memory.demand.in_line(now)
        new = {row.id: waiting_of(row, row.parsed(), is_new=True) for row in fresh.values()}
        charged = self._charged(edited.policy)
        shown = self._shown(charged, summed_up_at(now))
        snapshot = Snapshot(
            nodes=memory.supply.nodes.values(),
            queues=edited.queues,
            waiting=Crowd(ready.with_(new)) if everybody else tuple(new.values()),
            bystanders=later if everybody else Crowd(memory.demand.waiting.now()),
            over_quota=memory.demand.over_quota.now(),
            told=memory.demand.told.now(),
            active=memory.demand.active.values(),
            policy=edited.policy,
            is_complete=edited.is_complete,
            datasets=edited.datasets,
            ledger=memory.past.ledger,
            stops=memory.past.stops,
            spent=memory.book.spent(edited.queues, now),
            past_use=memory.book.past_use(
                edited.queues, edited.policy, now, memory.demand.held, outstanding(charged - set(shown))
            ),
        )
        backed_off = {id for id, until in memory.demand.delayed.items() if until <= now} if everybody else set()
        return WorldRows(
            snapshot=snapshot,
            demand=memory.demand,
            fresh=fresh,
            nodes=memory.supply.nodes.by_key,
            replicas_left=memory.supply.replicas_left,
            backed_off=frozenset(backed_off),
            backing_off=frozenset(memory.demand.delayed.keys() - backed_off),
            shown=shown,
        )

    def _charged(self, policy: Policy) -> set[Entry]:
        return set(self._memory.charges.entries.values()) if policy.rank.fairness.charged_seconds else set()

    def _shown(self, charged: Collection[Entry], at: datetime) -> tuple[Entry, ...]:
        """The charges of which past use as summed up then has as much."""
        demand = self._memory.demand
        of = {
            (each.workload_id, each.epoch): each
            for workload in {charge.workload for charge in charged}
            for each in demand.attempts_of(workload)
        }
        found = [(charge, of[charge.workload, charge.epoch]) for charge in sorted(charged)]
        return tuple(charge for charge, its in found if is_shown(charge, its.by_sku[charge.sku], its.bound_at, at))

    async def _read_edited(self, connection: AsyncConnection, edits: int) -> Edited:
        if self._edited is None or self._edited.edits != edits or edits < 0:
            policy, datasets = await self.policies.in_force(connection), await read_datasets(connection)
            self._edited = Edited(edits, await read_queues(connection), policy, await all_seen(connection), datasets)
        return self._edited


async def read_pool(connection: AsyncConnection, pool: str) -> PoolState:
    """The numbers of a pool; before anything was noted below zero, and so the same as none that was noted.

    The transaction may take its time from here on, without a statement that says so alone.
    """
    changes, edits = (
        func.coalesce(select(column).where(tables.pools.c.name == pool).scalar_subquery(), NOTHING_NOTED)
        for column in (tables.pools.c.changes, tables.pools.c.edits)
    )
    found = (await connection.execute(select(changes, edits, MAY_THINK))).one()
    return PoolState(found[0], found[1])


async def has_work(connection: AsyncConnection, pool: str, now: datetime, reviewed: int | None) -> bool:
    """Whether a round could decide anything now, in one statement: it is asked after every change.

    `reviewed`: the pool's number of edits that the last round over everybody has seen.
    """
    edits = select(tables.pools.c.edits).where(tables.pools.c.name == pool).scalar_subquery()
    look_at = select(tables.calendars.c.look_at).where(tables.calendars.c.pool == pool).scalar_subquery()
    is_edited = func.coalesce(edits, NOTHING_NOTED).is_distinct_from(reviewed)
    return bool(
        await connection.scalar(select(or_(is_edited, _somebody_waits(now), _somebody_leaves_for_nobody(), look_at <= now)))
    )


def _somebody_waits(now: datetime) -> Exists:
    """That a workload waits about which a round may decide now."""
    columns = tables.workloads.c
    return exists().where(
        columns.ended_at.is_(None),
        columns.state == State.WAITING,
        or_(columns.not_before.is_(None), columns.not_before <= now),
    )


def _somebody_leaves_for_nobody() -> Exists:
    """That an attempt has notice to leave for the sake of one that has ended."""
    victims, beneficiaries = tables.attempts, tables.attempts.alias("beneficiaries")
    still_there = exists().where(beneficiaries.c.id == victims.c.beneficiary, beneficiaries.c.ended_at.is_(None))
    return exists().where(
        victims.c.beneficiary.is_not(None),
        victims.c.ended_at.is_(None),
        victims.c.stop_as.in_(LEAVING),
        victims.c.leave.in_(MAY_STAY),
        not_(still_there),
    )


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
