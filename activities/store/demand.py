"""The demand as a planner remembers it: every live workload with its open attempts, until its row changes."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from weakref import WeakValueDictionary

from sqlalchemy import any_, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.store import tables
from activities.store.changes import Followed, Kept
from activities.store.facts import active_of, share_of, waiting_of
from activities.store.past import Past
from activities.store.rows import AttemptRow, WorkloadRow, open_attempts
from corral.api import WorkloadSpec
from corral.explanation import Explanation
from corral.status import State
from domain.fleet import Amount, NodeShare
from domain.versions import Versions
from domain.workload import Active, Waiting

_COLUMNS = tables.workloads.c
_LIVE = select(tables.workloads).where(_COLUMNS.ended_at.is_(None))
_CHANGED = select(tables.workloads).where(_COLUMNS.changed >= bindparam("since"))
_SHARES = select(tables.allocations).where(
    tables.allocations.c.attempt_id == any_(bindparam("attempts", type_=tables.Names)),
    tables.allocations.c.phase != "released",
)

WHEN_AND_WHERE_SAID = frozenset({"round_id", "as_of"})
"""Of an explanation: it is the same with others."""


@dataclass(frozen=True, slots=True)
class Known:
    """A live workload: its row, its spec as a model, and its open attempts."""

    row: WorkloadRow
    spec: WorkloadSpec
    attempts: tuple[AttemptRow, ...] = ()
    said: Explanation | None = None
    """Why it waits, as far as it has been told; one object for all who were told the same."""


@dataclass(frozen=True, slots=True)
class WorkloadNews:
    """Rows of workloads that changed, with the open attempts of those that have not ended and what these have on nodes."""

    live: Sequence[WorkloadRow]
    ended: Sequence[WorkloadRow]
    attempts: Mapping[str, tuple[AttemptRow, ...]]
    shares: Mapping[str, Sequence[NodeShare]]

    @property
    def live_ids(self) -> list[str]:
        """The workloads whose past may have changed as well."""
        return [row.id for row in self.live]

    @property
    def ids(self) -> list[str]:
        """All workloads that changed."""
        return [row.id for row in (*self.live, *self.ended)]


@dataclass
class Demand:
    """All live workloads. The version of a workload's row rises with every change of it, of its attempts and of its past."""

    waiting: Followed[Waiting] = field(default_factory=Followed)
    active: Kept[Active] = field(default_factory=Kept)
    """By attempt id."""
    rows: dict[str, WorkloadRow] = field(default_factory=dict)
    attempts: dict[str, AttemptRow] = field(default_factory=dict)
    """By attempt id."""
    held: Counter[tuple[str, str]] = field(default_factory=Counter)
    """What every queue has of each SKU, whether or not it runs already."""
    over_quota: Followed[bool] = field(default_factory=Followed)
    """True of those of whom the record says that they are entitled to nothing."""
    delayed: dict[str, datetime] = field(default_factory=dict)
    """Until when those in line back off, or backed off, and the record still says so."""
    told: Followed[Explanation] = field(default_factory=Followed)
    """Why those in line wait, as far as they have been told."""
    _known: dict[str, Known] = field(default_factory=dict)
    _told: WeakValueDictionary[str, Explanation] = field(default_factory=WeakValueDictionary)

    async def news(self, connection: AsyncConnection, since: int, fresh: Mapping[str, WorkloadRow]) -> WorkloadNews:
        """Read what a transaction from that one on has changed and is not known.

        `fresh` are workloads that this transaction wrote, which may be rolled back: they are nobody's memory.
        """
        found = await (connection.execute(_CHANGED, {"since": since}) if since else connection.execute(_LIVE))
        rows = [row for row in found if row.id not in fresh and not self._knows(row.id, row.changed)]
        live = [WorkloadRow.of(row) for row in rows if row.ended_at is None]
        ended = [WorkloadRow.of(row) for row in rows if row.ended_at is not None]
        opened = await open_attempts(connection, [row.id for row in live]) if live else None
        attempts: dict[str, tuple[AttemptRow, ...]] = {}
        for each in (opened.now, opened.then) if opened else ():
            for id, attempt in each.items():
                attempts[id] = (*attempts.get(id, ()), attempt)
        return WorkloadNews(live, ended, attempts, await _read_shares(connection, attempts))

    def _knows(self, id: str, changed: int) -> bool:
        return id in self.rows and self.rows[id].changed == changed

    def take(self, news: WorkloadNews, past: Past) -> None:
        """Remember it; the past is up to date already."""
        for row in news.ended:
            self._forget(row.id)
        for row in news.live:
            self._take(row, news, past)

    def _take(self, row: WorkloadRow, news: WorkloadNews, past: Past) -> None:
        before = self._known.get(row.id)
        known = Known(row, _spec_of(row, before), news.attempts.get(row.id, ()), self._said(row))
        waiting = row.state is State.WAITING
        actives = [] if waiting else [active_of(row, known.spec, attempt, news.shares) for attempt in known.attempts]
        stay = {active.attempt_id for active in actives}
        self._forget(row.id, but=stay, waits=waiting)
        self._known[row.id], self.rows[row.id] = known, row
        if waiting:
            self.waiting.put(row.id, past.complete_waiting(waiting_of(row, known.spec)))
            if known.said is not None:
                self.told.put(row.id, known.said)
        for active in actives:
            self.active.put(active.attempt_id, past.complete(active))
        self.attempts.update({attempt.id: attempt for attempt in known.attempts})
        self.held.update(_held(known))
        if row.over_quota and (waiting or actives):
            self.over_quota.put(row.id, True)
        if waiting and row.not_before is not None:
            self.delayed[row.id] = row.not_before

    def _forget(self, id: str, but: set[str] | frozenset[str] = frozenset(), *, waits: bool = False) -> None:
        known = self._known.pop(id, None)
        if known is None:
            return
        del self.rows[id]
        self.over_quota.drop(id)
        self.told.drop(id)
        self.delayed.pop(id, None)
        self.held.subtract(_held(known))
        for attempt in known.attempts:
            del self.attempts[attempt.id]
            if attempt.id not in but:
                self.active.drop(attempt.id)
        if not waits:
            self.waiting.drop(id)

    def recount(self, workload: str, past: Past) -> None:
        """Tell the domain anew how often a workload was stopped."""
        for attempt in self._known[workload].attempts if workload in self._known else ():
            self.active.change(attempt.id, past.complete)

    def in_line(self, now: datetime) -> tuple[Versions[Waiting], tuple[Waiting, ...]]:
        """Those whose turn may come now, and those who back off."""
        everybody = self.waiting.now()
        later = [everybody[id] for id, until in sorted(self.delayed.items()) if until > now]
        return everybody.with_(dict.fromkeys(each.id for each in later)), tuple(later)

    def said(self, workload: str) -> Explanation | None:
        """Why it waits, as far as it has been told."""
        return self._known[workload].said if workload in self._known else None

    def attempts_of(self, workload: str) -> tuple[AttemptRow, ...]:
        """Its open attempts."""
        return self._known[workload].attempts if workload in self._known else ()

    def _said(self, row: WorkloadRow) -> Explanation | None:
        if row.explanation is None:
            return None
        content = {name: value for name, value in row.explanation.items() if name not in WHEN_AND_WHERE_SAID}
        key = json.dumps(content, sort_keys=True)
        if (said := self._told.get(key)) is None:
            said = self._told[key] = Explanation.model_validate(content)
        return said


def _spec_of(row: WorkloadRow, before: Known | None) -> WorkloadSpec:
    """The spec as a model, which is costly to make and seldom another."""
    if before is not None and before.row.priority == row.priority and before.row.spec == row.spec:
        return before.spec
    return row.parsed()


def _held(known: Known) -> Mapping[tuple[str, str], Amount]:
    held: Counter[tuple[str, str]] = Counter()
    for sku, milli in _amounts(known):
        held[known.row.queue, sku] += milli
    return held


def _amounts(known: Known) -> Iterator[tuple[str, Amount]]:
    for attempt in known.attempts:
        yield from attempt.by_sku.items()


async def _read_shares(
    connection: AsyncConnection, attempts: Mapping[str, tuple[AttemptRow, ...]]
) -> dict[str, list[NodeShare]]:
    shares: dict[str, list[NodeShare]] = {}
    ids = [attempt.id for its in attempts.values() for attempt in its]
    for row in await connection.execute(_SHARES, {"attempts": ids}) if ids else ():
        shares.setdefault(row.attempt_id, []).append(share_of(row))
    return shares
