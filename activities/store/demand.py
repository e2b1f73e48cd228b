"""The demand as a planner remembers it: every live workload with its open attempts, until its row changes."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from sys import intern
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from sqlalchemy import ColumnElement, Row, Text, any_, bindparam, cast, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.store import tables
from activities.store.changes import Followed, Kept
from activities.store.facts import active_of, share_of, waiting_of
from activities.store.past import Past
from activities.store.remnants import read_remnants
from activities.store.rows import AttemptRow, WorkloadRow, open_attempts
from corral.api import Explanation, State, WorkloadTerms
from domain.pool.fleet import Amount, NodeShare
from domain.pool.parts import ReplicaKey
from domain.pool.versions import Versions
from domain.pool.workload import Active, Waiting

AT_ONCE = 10_000
"""Workloads that are read together, so that what is read of all of them is never there at once."""

NOT_SHARED = ("id", "command", "environment", "parameters")
"""Fields of a spec that each workload may have for itself, and at which no round looks."""

WHEN_AND_WHERE_SAID = ("round_id", "as_of")
"""Of an explanation: it is the same with others."""

_COLUMNS = tables.workloads.c


def _text_without(column: ColumnElement[Any], names: Iterable[str]) -> ColumnElement[str]:
    """A document but for some fields, in the database's one way of writing it."""
    return cast(column.op("-")(literal(list(names), tables.Names)), Text)


_READ_OTHERWISE: Mapping[str, ColumnElement[Any]] = {
    "spec": _text_without(_COLUMNS.spec, NOT_SHARED),
    "digest": literal(""),
    "explanation": _text_without(_COLUMNS.explanation, WHEN_AND_WHERE_SAID),
}
_NAMES = tuple(each.name for each in fields(WorkloadRow))
_ROWS = select(*(_READ_OTHERWISE.get(name, _COLUMNS[name]).label(name) for name in _NAMES))
_LIVE = _ROWS.where(_COLUMNS.ended_at.is_(None)).execution_options(yield_per=AT_ONCE)
_CHANGED = _ROWS.where(_COLUMNS.changed >= bindparam("since"))
_SHARES = select(tables.allocations).where(
    tables.allocations.c.attempt_id == any_(bindparam("attempts", type_=tables.Names)),
    tables.allocations.c.phase != "released",
)

Value = TypeVar("Value")
Given = TypeVar("Given")


class Document(dict[str, Any]):
    """A JSON object as it was read; one for all who have the same."""

    __slots__ = ("__weakref__",)


class Readings(WeakValueDictionary[Hashable, Value]):
    """What was made of texts, for as long as anybody has it: one object for all who have the same text."""

    def of(self, text: Hashable, read: Callable[[Given], Value], given: Given) -> Value:
        """What the text says; it is read out of what is given where nobody has it."""
        if (known := self.get(text)) is None:
            known = self[text] = read(given)
        return known


@dataclass(frozen=True, slots=True)
class WorkloadNews:
    """Rows of workloads that changed, with the open attempts of those that have not ended and what these have on nodes."""

    live: Sequence[WorkloadRow]
    terms: Mapping[str, WorkloadTerms]
    """What each of those that have not ended asks for."""
    said: Mapping[str, Explanation]
    """Why they wait, as far as they have been told."""
    ended: Sequence[WorkloadRow]
    attempts: Mapping[str, tuple[AttemptRow, ...]]
    shares: Mapping[str, Sequence[NodeShare]]
    remnants: Mapping[str, frozenset[ReplicaKey]]
    """Replicas that do not leave, by attempt id."""

    @property
    def live_ids(self) -> list[str]:
        """The workloads whose past may have changed as well."""
        return [row.id for row in self.live]

    @property
    def tried_ids(self) -> list[str]:
        """All workloads that changed and ever had an attempt."""
        return [row.id for row in (*self.live, *self.ended) if row.epoch]


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
    _attempts_of: dict[str, tuple[AttemptRow, ...]] = field(default_factory=dict)
    """Open ones, of those workloads that have any."""
    _documents: Readings[Document] = field(default_factory=Readings)
    _terms: Readings[WorkloadTerms] = field(default_factory=Readings)
    _said: Readings[Explanation] = field(default_factory=Readings)

    async def news(
        self, connection: AsyncConnection, since: int, fresh: Mapping[str, WorkloadRow]
    ) -> AsyncIterator[WorkloadNews]:
        """Read what a transaction from that one on has changed and is not known, in parts, of which there is one at least.

        `fresh` are workloads that this transaction wrote, which may be rolled back: they are nobody's memory.
        """
        if since:
            yield await self._read(connection, await connection.execute(_CHANGED, {"since": since}), fresh)
            return
        yield await self._read(connection, (), fresh)
        async with connection.stream(_LIVE) as found:
            async for rows in found.partitions():
                yield await self._read(connection, rows, fresh)

    async def _read(
        self, connection: AsyncConnection, found: Iterable[Row[Any]], fresh: Mapping[str, WorkloadRow]
    ) -> WorkloadNews:
        live, ended = list[WorkloadRow](), list[WorkloadRow]()
        terms, said = dict[str, WorkloadTerms](), dict[str, Explanation]()
        for row in found:
            if row.id in fresh or self._knows(row.id, row.changed):
                continue
            if row.ended_at is not None:
                ended.append(self._row(row))
                continue
            live.append(known := self._row(row))
            terms[row.id] = self._terms.of((row.spec, row.priority), _terms_of, known)
            if row.explanation is not None:
                said[row.id] = self._said.of(row.explanation, Explanation.model_validate, known.explanation)
        tried = [row.id for row in live if row.epoch]
        opened = await open_attempts(connection, tried) if tried else None
        attempts: dict[str, tuple[AttemptRow, ...]] = {}
        for each in (opened.now, opened.then) if opened else ():
            for id, attempt in each.items():
                attempts[id] = (*attempts.get(id, ()), attempt)
        ids = [attempt.id for its in attempts.values() for attempt in its]
        shares, remnants = await _read_shares(connection, ids), await read_remnants(connection, ids)
        return WorkloadNews(live, terms, said, ended, attempts, shares, remnants)

    def _knows(self, id: str, changed: int) -> bool:
        return id in self.rows and self.rows[id].changed == changed

    def _row(self, row: Row[Any]) -> WorkloadRow:
        """The row, which shares with others what it has in common with them."""
        values = dict(zip(_NAMES, row, strict=True))
        for name in ("spec", "explanation"):
            values[name] = self._document(values[name])
        return WorkloadRow(**values | {"state": State(row.state), "queue": intern(row.queue), "tier": intern(row.tier)})

    def _document(self, text: str | None) -> Document | None:
        return None if text is None else self._documents.of(text, _document, text)

    def take(self, news: WorkloadNews, past: Past) -> None:
        """Remember it; the past is up to date already."""
        for row in news.ended:
            self._forget(row.id)
        for row in news.live:
            self._take(row, news, past)

    def _take(self, row: WorkloadRow, news: WorkloadNews, past: Past) -> None:
        terms, attempts = news.terms[row.id], news.attempts.get(row.id, ())
        waiting = row.state is State.WAITING
        runs_since = min([attempt.started_at for attempt in attempts if attempt.started_at], default=None)
        about = news.shares, news.remnants, runs_since
        actives = [] if waiting else [active_of(row, terms, attempt, *about) for attempt in attempts]
        stay = {active.attempt_id for active in actives}
        self._forget(row.id, but=stay, waits=waiting)
        self.rows[row.id] = row
        if waiting:
            self.waiting.put(row.id, past.complete_waiting(waiting_of(row, terms)))
            if row.id in news.said:
                self.told.put(row.id, news.said[row.id])
        for active in actives:
            self.active.put(active.attempt_id, past.complete(active))
        if attempts:
            self._attempts_of[row.id] = attempts
            self.attempts.update({attempt.id: attempt for attempt in attempts})
            self.held.update(_held(row.queue, attempts))
        if row.over_quota and (waiting or actives):
            self.over_quota.put(row.id, True)
        if waiting and row.not_before is not None:
            self.delayed[row.id] = row.not_before

    def _forget(self, id: str, but: set[str] | frozenset[str] = frozenset(), *, waits: bool = False) -> None:
        row = self.rows.pop(id, None)
        if row is None:
            return
        self.over_quota.drop(id)
        self.told.drop(id)
        self.delayed.pop(id, None)
        attempts = self._attempts_of.pop(id, ())
        self.held.subtract(_held(row.queue, attempts))
        for attempt in attempts:
            del self.attempts[attempt.id]
            if attempt.id not in but:
                self.active.drop(attempt.id)
        if not waits:
            self.waiting.drop(id)

    def recount(self, workload: str, past: Past) -> None:
        """Tell the domain anew how often a workload was stopped."""
        for attempt in self.attempts_of(workload):
            self.active.change(attempt.id, past.complete)

    def in_line(self, now: datetime) -> tuple[Versions[Waiting], tuple[Waiting, ...]]:
        """Those whose turn may come now, and those who back off."""
        everybody = self.waiting.now()
        later = [everybody[id] for id, until in sorted(self.delayed.items()) if until > now]
        return everybody.with_(dict.fromkeys(each.id for each in later)), tuple(later)

    def said(self, workload: str) -> Explanation | None:
        """Why one in line waits, as far as it has been told."""
        return self.told.get(workload)

    def attempts_of(self, workload: str) -> tuple[AttemptRow, ...]:
        """Its open attempts."""
        return self._attempts_of.get(workload, ())


def _document(text: str) -> Document:
    return Document(json.loads(text))


def _terms_of(row: WorkloadRow) -> WorkloadTerms:
    return WorkloadTerms.model_validate({**row.spec, "priority": row.priority})


def _held(queue: str, attempts: Iterable[AttemptRow]) -> Mapping[tuple[str, str], Amount]:
    held: Counter[tuple[str, str]] = Counter()
    for sku, milli in _amounts(attempts):
        held[queue, sku] += milli
    return held


def _amounts(attempts: Iterable[AttemptRow]) -> Iterator[tuple[str, Amount]]:
    for attempt in attempts:
        yield from attempt.by_sku.items()


async def _read_shares(connection: AsyncConnection, attempts: Sequence[str]) -> dict[str, list[NodeShare]]:
    shares: dict[str, list[NodeShare]] = {}
    for row in await connection.execute(_SHARES, {"attempts": attempts}) if attempts else ():
        shares.setdefault(row.attempt_id, []).append(share_of(row))
    return shares
