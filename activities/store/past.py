"""Reading the past: what live workloads did in the control window, and who was stopped for whom."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.store import tables
from corral.api import Outcome, SlaTier
from corral.policy import Policy
from domain.accounting import Interval, IntervalKind
from domain.disruption_budgets import ForcedStop
from domain.headroom import CONTROL_WINDOW
from domain.workload import Active, Waiting

DAY = timedelta(days=1)

LATE = timedelta(minutes=10)
"""By how much the stop of another process may be younger in the record than its time says."""


@dataclass
class PastReader:
    """Remembers the past of live workloads until they change, and stops until no rule looks at them any more.

    `ledger` and `relieved_by` are by workload id, `stops` by attempt id.
    """

    ledger: dict[str, tuple[Interval, ...]] = field(default_factory=dict)
    stops: dict[str, ForcedStop] = field(default_factory=dict)
    _relieved_by: dict[str, frozenset[str]] = field(default_factory=dict)
    _failed: dict[str, int] = field(default_factory=dict)
    _stopped_today: Counter[str] = field(default_factory=Counter)
    _read: tuple[datetime, datetime] | None = None
    """From when until when stops are known."""

    async def refresh(
        self, connection: AsyncConnection, live: Collection[str], stale: Sequence[str], policy: Policy, now: datetime
    ) -> None:
        """Read what is not known yet: of `stale` workloads everything, and the stops of late."""
        for known in (self.ledger, self._relieved_by, self._failed):
            for gone in known.keys() - live:
                del known[gone]
        if stale:
            await self._read_ledger(connection, stale, now)
            await self._read_attempts(connection, stale)
        await self._read_stops(connection, policy, now)

    def complete(self, active: Active) -> Active:
        """The same with how often its workload was stopped in a day."""
        number = self._stopped_today[active.id]
        return active if active.preemptions == number else replace(active, preemptions=number)

    def complete_waiting(self, waiting: Waiting) -> Waiting:
        """The same with what became of its attempts."""
        failed, relieved_by = self._failed.get(waiting.id, 0), self._relieved_by.get(waiting.id, frozenset())
        return replace(waiting, failed_in_a_row=failed, relieved_by=relieved_by) if failed or relieved_by else waiting

    async def _read_ledger(self, connection: AsyncConnection, workloads: Sequence[str], now: datetime) -> None:
        columns = tables.ledger.c
        query = select(tables.ledger).where(
            columns.workload_id.in_(workloads), or_(columns.ended_at.is_(None), columns.ended_at > now - CONTROL_WINDOW)
        )
        found: dict[str, list[Interval]] = {workload: [] for workload in workloads}
        for row in await connection.execute(query.order_by(columns.id)):
            found[row.workload_id].append(interval_of(row))
        self.ledger |= {workload: tuple(intervals) for workload, intervals in found.items()}

    async def _read_attempts(self, connection: AsyncConnection, workloads: Sequence[str]) -> None:
        victims, own = tables.attempts.alias("victims"), tables.attempts
        relieved: dict[str, set[str]] = {workload: set() for workload in workloads}
        query = (
            select(own.c.workload_id, victims.c.workload_id.label("victim"))
            .join(victims, victims.c.beneficiary == own.c.id)
            .where(own.c.workload_id.in_(workloads))
        )
        for row in await connection.execute(query):
            relieved[row.workload_id].add(row.victim)
        self._relieved_by |= {workload: frozenset(ids) for workload, ids in relieved.items()}
        self._failed |= dict.fromkeys(workloads, 0)
        for row in await connection.execute(_failed_in_a_row(workloads)):
            self._failed[row.workload_id] = row.failed

    async def _read_stops(self, connection: AsyncConnection, policy: Policy, now: datetime) -> None:
        periods = [timedelta(seconds=budget.period_seconds) for budget in policy.limits.disruption_budgets]
        oldest = now - max([DAY, *periods])
        is_known = self._read is not None and self._read[0] <= oldest
        since = self._read[1] - LATE if self._read and is_known else oldest
        for row in await connection.execute(_stops_after(since)):
            self.stops[row.id] = ForcedStop(row.id, row.workload_id, row.queue, SlaTier(row.tier), row.stop_at)
        self.stops = {id: stop for id, stop in self.stops.items() if stop.at > oldest}
        self._stopped_today = Counter(stop.workload_id for stop in self.stops.values() if stop.at > now - DAY)
        self._read = oldest, now


def interval_of(row: Row[Any]) -> Interval:
    """A row of `ledger` as the domain sees it."""
    return Interval(
        workload_id=row.workload_id,
        tier=SlaTier(row.tier),
        queue=row.queue,
        kind=IntervalKind(row.kind),
        entitled_milli=row.entitled_milli,
        allocated_milli=row.allocated_milli,
        began_at=row.began_at,
        ended_at=row.ended_at,
        lost_milli_seconds=row.lost_milli_seconds,
    )


def _stops_after(since: datetime) -> Any:
    attempts, workloads = tables.attempts, tables.workloads
    return (
        select(attempts.c.id, attempts.c.workload_id, attempts.c.stop_at, workloads.c.queue, workloads.c.tier)
        .join(workloads, workloads.c.id == attempts.c.workload_id)
        .where(attempts.c.beneficiary.is_not(None), attempts.c.stop_at > since)
    )


def _failed_in_a_row(workloads: Sequence[str]) -> Any:
    """How many attempts of each workload failed by themselves since the last that ended in another way."""
    ended, other = tables.attempts, tables.attempts.alias("other")
    last_other = (
        select(func.coalesce(func.max(other.c.epoch), 0))
        .where(other.c.workload_id == ended.c.workload_id, other.c.outcome.is_not(None), other.c.outcome != Outcome.FAILED)
        .scalar_subquery()
    )
    return (
        select(ended.c.workload_id, func.count().label("failed"))
        .where(and_(ended.c.workload_id.in_(workloads), ended.c.outcome == Outcome.FAILED, ended.c.epoch > last_other))
        .group_by(ended.c.workload_id)
    )
