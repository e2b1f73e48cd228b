"""Reading the past: what live workloads did in the control window, who was stopped for whom, and who was moved."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, and_, any_, bindparam, func, literal_column, not_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.store import tables
from activities.store.changes import Followed
from corral.api import Outcome, Reason, SlaTier, State
from corral.policy import Policy, Rank
from domain.pool.versions import Versions
from domain.pool.workload import Active, Waiting
from domain.quota.accounting import Interval, IntervalKind, lost_work
from domain.quota.disruption_budgets import ForcedStop
from domain.quota.headroom import CONTROL_WINDOW

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class PastNews:
    """The past of workloads that changed, by workload id, and stops that are not known yet, by attempt id.

    Of the `live` ones, who is not named has no past of that kind.
    """

    live: Collection[str]
    ledger: Mapping[str, tuple[Interval, ...]]
    relieved_by: Mapping[str, frozenset[str]]
    failed: Mapping[str, int]
    stops: Mapping[str, ForcedStop]
    looked_at: Collection[str] | None
    """The workloads whose stops these are; none: those of all."""
    reach: timedelta
    """How far back some rule looks at stops."""


@dataclass
class Past:
    """Remembers the past of live workloads until they change, and stops until no rule looks at them any more.

    Whatever adds to the past of a workload changes its row as well: that row says when to read again.
    """

    stops: tuple[ForcedStop, ...] = ()
    """The oldest first."""
    _ledger: Followed[tuple[Interval, ...]] = field(default_factory=Followed)
    _relieved_by: dict[str, frozenset[str]] = field(default_factory=dict)
    _failed: dict[str, int] = field(default_factory=dict)
    _stops: dict[str, ForcedStop] = field(default_factory=dict)
    _stopped_today: Counter[str] = field(default_factory=Counter)
    _reach: timedelta = timedelta(0)
    _stays: datetime | None = None
    """Until when no stop grows too old for a rule; none before stops were read."""

    async def news(
        self, connection: AsyncConnection, live: Sequence[str], tried: Sequence[str], policy: Policy, now: datetime
    ) -> PastNews:
        """Read everything of `live` workloads that changed, and the stops of those `tried`; once the stops of all.

        `tried` are all that changed, live or not, and ever had an attempt: nobody else failed, or stopped, or had others stop.
        """
        reach = max([DAY, *(timedelta(seconds=budget.period_seconds) for budget in policy.limits.disruption_budgets)])
        looked_at = None if reach > self._reach else tried
        stops = await _read_stops(connection, now - reach, looked_at, policy.rank)
        ledger = await _read_ledger(connection, live, now) if live else {}
        alive = set(live).intersection(tried)
        relieved_by = await _read_relieved(connection, alive) if alive else {}
        failed = await _read_failed(connection, alive) if alive else {}
        return PastNews(live, ledger, relieved_by, failed, stops, looked_at, reach)

    def take(self, news: PastNews, gone: Collection[str], now: datetime) -> Collection[str]:
        """Remember it; answers with the workloads that were stopped more or less often in a day than they were before."""
        for workload in (*news.live, *gone):
            if workload not in news.ledger:
                self._ledger.drop(workload)
            self._relieved_by.pop(workload, None)
            self._failed.pop(workload, None)
        for workload, intervals in news.ledger.items():
            self._ledger.put(workload, intervals)
        self._relieved_by.update(news.relieved_by)
        self._failed.update(news.failed)
        return self._take_stops(news, now)

    @property
    def ledger(self) -> Versions[tuple[Interval, ...]]:
        """What live workloads did in the control window, as far as they had or were entitled to anything, by workload id."""
        return self._ledger.now()

    def complete(self, active: Active) -> Active:
        """The same with how often its workload was stopped in a day."""
        number = self._stopped_today[active.id]
        return active if active.preemptions == number else replace(active, preemptions=number)

    def complete_waiting(self, waiting: Waiting) -> Waiting:
        """The same with what became of its attempts."""
        failed, relieved_by = self._failed.get(waiting.id, 0), self._relieved_by.get(waiting.id, frozenset())
        return replace(waiting, failed_in_a_row=failed, relieved_by=relieved_by) if failed or relieved_by else waiting

    def _take_stops(self, news: PastNews, now: datetime) -> Collection[str]:
        # A stop that was taken back is none.
        again = None if news.looked_at is None else frozenset(news.looked_at)
        others = {} if again is None else {id: stop for id, stop in self._stops.items() if stop.workload_id not in again}
        stops = others | dict(news.stops)
        is_so = self._stays is not None and now < self._stays and news.reach == self._reach
        if is_so and self._stops == stops:
            return ()
        before, oldest = self._stopped_today, now - news.reach
        kept = [stop for stop in stops.values() if stop.at > oldest]
        self.stops = tuple(sorted(kept, key=lambda stop: (stop.at, stop.attempt_id)))
        self._stops = {stop.attempt_id: stop for stop in self.stops}
        self._stopped_today = Counter(stop.workload_id for stop in self.stops if stop.at > now - DAY and not stop.for_itself)
        ends = [stop.at + age for stop in self.stops for age in (DAY, news.reach) if stop.at + age > now]
        self._reach, self._stays = news.reach, min(ends, default=now + DAY)
        return {id for id in before.keys() | self._stopped_today.keys() if before[id] != self._stopped_today[id]}


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


_WORKLOADS = any_(bindparam("workloads", type_=tables.Names))
_LEDGER = (
    select(tables.ledger)
    .where(
        tables.ledger.c.workload_id == _WORKLOADS,
        # Whatever is over quota waits without being entitled to anything: nothing follows from it.
        or_(tables.ledger.c.entitled_milli > 0, tables.ledger.c.allocated_milli > 0, tables.ledger.c.lost_milli_seconds > 0),
        or_(tables.ledger.c.ended_at.is_(None), tables.ledger.c.ended_at > bindparam("since")),
    )
    .order_by(tables.ledger.c.id)
)


async def _read_ledger(connection: AsyncConnection, workloads: Sequence[str], now: datetime) -> dict[str, tuple[Interval, ...]]:
    found: dict[str, list[Interval]] = {}
    for row in await connection.execute(_LEDGER, {"workloads": list(workloads), "since": now - CONTROL_WINDOW}):
        found.setdefault(row.workload_id, []).append(interval_of(row))
    return {workload: tuple(intervals) for workload, intervals in found.items()}


_OWN, _VICTIMS = tables.attempts, tables.attempts.alias("victims")
_RELIEVED = (
    select(_OWN.c.workload_id, _VICTIMS.c.workload_id.label("victim"))
    .join(_VICTIMS, _VICTIMS.c.beneficiary == _OWN.c.id)
    .where(_OWN.c.workload_id == _WORKLOADS)
)


async def _read_relieved(connection: AsyncConnection, workloads: Collection[str]) -> dict[str, frozenset[str]]:
    relieved: dict[str, set[str]] = {}
    for row in await connection.execute(_RELIEVED, {"workloads": list(workloads)}):
        relieved.setdefault(row.workload_id, set()).add(row.victim)
    return {workload: frozenset(ids) for workload, ids in relieved.items()}


_OTHER = tables.attempts.alias("other")
_LAST_OTHER = (
    select(func.coalesce(func.max(_OTHER.c.epoch), 0))
    .where(_OTHER.c.workload_id == _OWN.c.workload_id, _OTHER.c.outcome.is_not(None), _OTHER.c.outcome != Outcome.FAILED)
    .scalar_subquery()
)
_FAILED_IN_A_ROW = (
    select(_OWN.c.workload_id, func.count().label("failed"))
    .where(and_(_OWN.c.workload_id == _WORKLOADS, _OWN.c.outcome == Outcome.FAILED, _OWN.c.epoch > _LAST_OTHER))
    .group_by(_OWN.c.workload_id)
)
"""How many attempts of each workload failed by themselves since the last that ended in another way."""


async def _read_failed(connection: AsyncConnection, workloads: Collection[str]) -> dict[str, int]:
    found = await connection.execute(_FAILED_IN_A_ROW, {"workloads": list(workloads)})
    return {row.workload_id: row.failed for row in found}


_IS_MOVED = _OWN.c.stop_as == literal_column(f"'{Outcome.MIGRATED}'")  # as the index has it
_IS_RESIZED = _OWN.c.stop_as == literal_column(f"'{Outcome.RESIZED}'")
_IS_PREEMPTED = and_(_OWN.c.beneficiary.is_not(None), _OWN.c.stop_as != Outcome.STOPPED)  # who gives back a loan is not
_IS_LENT = func.coalesce(_OWN.c.reason, "").startswith(Reason.LOAN_ENDS)  # who gives a part of it back is not, either
_IS_FOR_ITSELF = and_(_OWN.c.beneficiary.is_(None), _IS_RESIZED)
_IS_FOR_NOBODY = and_(_OWN.c.beneficiary.is_(None), _IS_MOVED)
_STOPS = (
    select(
        _OWN.c.id,
        _OWN.c.workload_id,
        _OWN.c.stop_at,
        _OWN.c.started_at,
        _OWN.c.checkpoint_at,
        _OWN.c.milli,
        _IS_FOR_NOBODY.label("is_for_nobody"),
        _IS_FOR_ITSELF.label("is_for_itself"),
        tables.workloads.c.queue,
        tables.workloads.c.tier,
        tables.workloads.c.spec["checkpoint"]["grace_seconds"].label("grace_seconds"),
    )
    .join(tables.workloads, tables.workloads.c.id == _OWN.c.workload_id)
    .where(or_(_IS_PREEMPTED, _IS_MOVED, _IS_RESIZED), not_(_IS_LENT), _OWN.c.stop_at > bindparam("since"))
    .where(or_(tables.workloads.c.state != State.RESIZING, _OWN.c.ended_at.is_not(None)))  # what runs on was not disrupted
)
_THEIR_STOPS = _STOPS.where(_OWN.c.workload_id == _WORKLOADS)


async def _read_stops(
    connection: AsyncConnection, since: datetime, workloads: Sequence[str] | None, rank: Rank
) -> dict[str, ForcedStop]:
    """The stops since then of these workloads, or of all."""
    if workloads is None:
        found = await connection.execute(_STOPS, {"since": since})
    elif workloads:
        found = await connection.execute(_THEIR_STOPS, {"since": since, "workloads": list(workloads)})
    else:
        return {}
    return {row.id: _stop_of(row, rank) for row in found}


def _stop_of(row: Row[Any], rank: Rank) -> ForcedStop:
    cost = 0
    if row.is_for_nobody:
        lost = lost_work(row.started_at, row.checkpoint_at, row.stop_at, row.milli)
        cost = lost + row.milli * (row.grace_seconds + rank.restart_seconds)
    return ForcedStop(row.id, row.workload_id, row.queue, SlaTier(row.tier), row.stop_at, cost, row.is_for_itself)
