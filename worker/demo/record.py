"""What a run leaves behind, read from the database: glimpses while it lasts, everything when it is over."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from activities.store import tables, views
from activities.store.past import interval_of
from activities.store.policies import record_of
from activities.store.rows import AttemptRow, WorkloadRow
from activities.store.snapshots import read_queues
from corral.api import FleetStatus, QueueSpec, QueueStatus, RoundStatus, State, WorkloadEvent
from corral.policy import PolicyRecord
from domain.quota.accounting import Interval
from worker.clock import PoolClock

NEWS = 8
"""Events that a glimpse shows."""

UNREADABLE = (SQLAlchemyError, OSError, TimeoutError)
"""What reading raises while the database is not there."""


@dataclass(frozen=True, slots=True)
class Glimpse:
    """How things stand at one moment of the pool's time; `news` are the latest events, oldest first."""

    at: datetime
    states: Mapping[State, int]
    queues: tuple[QueueStatus, ...]
    fleet: tuple[FleetStatus, ...]
    news: tuple[WorkloadEvent, ...]

    @property
    def known(self) -> int:
        """Workloads that Corral has written down."""
        return sum(self.states.values())

    @property
    def ended(self) -> int:
        """Workloads that have ended, in whatever way."""
        return sum(number for state, number in self.states.items() if state.is_terminal)


@dataclass(frozen=True, slots=True)
class Record:
    """Everything that happened, as rows."""

    workloads: tuple[WorkloadRow, ...]
    attempts: tuple[AttemptRow, ...]
    intervals: tuple[Interval, ...]
    queues: tuple[QueueSpec, ...]
    supply: tuple[FleetStatus, ...]
    rounds: tuple[RoundStatus, ...]
    policies: tuple[PolicyRecord, ...] = ()


class Reader:
    """Reads the record of a running pool; every method raises one of `UNREADABLE` when the database is not there."""

    def __init__(self, url: str, clock: PoolClock) -> None:
        """Read from the database at a URL as `Settings.database_url` has it."""
        self._engine: AsyncEngine = create_async_engine(url, pool_size=2, pool_pre_ping=True)
        self._clock = clock

    async def aclose(self) -> None:
        """Close all connections."""
        await self._engine.dispose()

    async def glimpse(self) -> Glimpse:
        """How things stand now."""
        now = self._clock.now()
        async with self._engine.connect() as connection:
            return Glimpse(
                at=now,
                states=await _states(connection),
                queues=tuple(await views.queues(connection, now)),
                fleet=tuple(await views.fleet(connection)),
                news=await _news(connection),
            )

    async def everything(self) -> Record:
        """The whole record."""
        async with self._engine.connect() as connection:
            workloads = select(tables.workloads).order_by(tables.workloads.c.submitted_at, tables.workloads.c.id)
            attempts = select(tables.attempts).order_by(tables.attempts.c.held_at, tables.attempts.c.id)
            return Record(
                workloads=tuple(WorkloadRow.of(row) for row in await connection.execute(workloads)),
                attempts=tuple(AttemptRow.of(row) for row in await connection.execute(attempts)),
                intervals=await _intervals(connection),
                queues=tuple(await read_queues(connection)),
                supply=tuple(await views.fleet(connection)),
                rounds=await _rounds(connection),
                policies=await _policies(connection),
            )


async def _states(connection: AsyncConnection) -> Counter[State]:
    query = select(tables.workloads.c.state, func.count().label("number")).group_by(tables.workloads.c.state)
    return Counter({State(row.state): row.number for row in await connection.execute(query)})


async def _news(connection: AsyncConnection) -> tuple[WorkloadEvent, ...]:
    rows = await connection.execute(select(tables.events).order_by(tables.events.c.id.desc()).limit(NEWS))
    return tuple(
        WorkloadEvent(id=row.id, workload=row.workload_id, at=row.at, kind=row.kind, message=row.message)
        for row in reversed(rows.all())
    )


async def _intervals(connection: AsyncConnection) -> tuple[Interval, ...]:
    rows = await connection.execute(select(tables.ledger).order_by(tables.ledger.c.id))
    return tuple(interval_of(row) for row in rows)


async def _policies(connection: AsyncConnection) -> tuple[PolicyRecord, ...]:
    rows = await connection.execute(select(tables.policies).order_by(tables.policies.c.version))
    return tuple(map(record_of, rows))


async def _rounds(connection: AsyncConnection) -> tuple[RoundStatus, ...]:
    rows = await connection.execute(select(tables.rounds).order_by(tables.rounds.c.id))
    return tuple(map(views.round_of, rows))
