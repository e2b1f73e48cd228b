"""Rows of the record as frozen values, and the writer that turns changed ones into few statements."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self

from pydantic import TypeAdapter
from sqlalchemy import Row, bindparam, case, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.answers import Notice, Standing
from activities.ports import Clock
from activities.store import tables
from activities.store.policies import PolicyReader
from corral.api import WHOLE, Explanation, Outcome, Reason, State, WorkloadSpec
from domain.accounting import NOT_ENTITLED, IntervalKind, entitled_milli
from domain.lifecycle import checked

FIRST_VERSION = 1
"""Of a workload that has been written and not yet been decided about, which the same transaction does."""


@dataclass(frozen=True, slots=True)
class WorkloadRow:
    """One row of `workloads`; `spec` as it stands now, which may differ from the one submitted (its digest is kept)."""

    id: str
    spec: dict[str, Any]
    digest: str
    queue: str
    tier: str
    priority: int
    state: State
    epoch: int
    version: int
    submitted_at: datetime
    since: datetime
    ended_at: datetime | None = None
    failures: int = 0
    preemptions: int = 0
    tasks_done: int = 0
    runtime_used_seconds: int = 0
    not_before: datetime | None = None
    over_quota: bool = False
    outcome: str | None = None
    exit_code: int | None = None
    explanation: dict[str, Any] | None = None

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        """Read a row that holds all columns of `workloads`."""
        values = row._asdict()
        values["state"] = State(values["state"])
        return cls(**values)

    def parsed(self) -> WorkloadSpec:
        """The spec as a model, with the priority that counts now."""
        return WorkloadSpec.model_validate(self.spec | {"priority": self.priority})


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One row of `attempts`."""

    id: str
    workload_id: str
    epoch: int
    provider: str
    region: str
    cluster: str
    sku: str
    by_sku: dict[str, int]
    cost_by_sku: dict[str, int]
    target: int | None
    milli: int
    replicas: int
    held_at: datetime
    bound_at: datetime | None = None
    started_at: datetime | None = None
    checkpoint_at: datetime | None = None
    stop_at: datetime | None = None
    stop_as: str | None = None
    beneficiary: str | None = None
    follows: str | None = None
    ended_at: datetime | None = None
    outcome: str | None = None
    exit_code: int | None = None
    reason: str | None = None
    lost_milli_seconds: int = 0

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        """Read a row that holds all columns of `attempts`."""
        return cls(**row._asdict())


@dataclass(frozen=True, slots=True)
class OpenAttempts:
    """Attempts that have not ended, by workload: those that count now, and those that follow them in another shape."""

    now: dict[str, AttemptRow] = field(default_factory=dict)
    then: dict[str, AttemptRow] = field(default_factory=dict)


def standing_of(workload: WorkloadRow, attempts: OpenAttempts, clock: Clock) -> Standing:
    """What a workflow must know of a workload, given its open attempts."""
    attempt, follower = attempts.now.get(workload.id), attempts.then.get(workload.id)
    explanation = Explanation.model_validate(workload.explanation) if workload.explanation else None
    return Standing(
        workload=workload.id,
        version=workload.version,
        state=workload.state,
        epoch=workload.epoch,
        provider=attempt.provider if attempt else None,
        region=attempt.region if attempt else None,
        sku=attempt.sku if attempt else None,
        place=place_of(attempt) if attempt else "",
        next_place=place_of(follower) if follower else "",
        reason=explanation.reason if explanation else None,
        message=explanation.message if explanation else "",
        fixes=explanation.fixes if explanation else (),
        outcome=Outcome(workload.outcome) if workload.outcome else None,
        exit_code=workload.exit_code,
        runtime_left=_runtime_left(workload, attempt, clock),
    )


def place_of(attempt: AttemptRow) -> str:
    """Where an attempt is, in words."""
    in_order = sorted(attempt.by_sku.items(), key=lambda item: (item[0] != attempt.sku, item[0]))
    amounts = " + ".join(f"{milli / WHOLE:g} {sku}" for sku, milli in in_order)
    return f"{amounts} in {attempt.region}/{attempt.cluster} ({attempt.provider})"


def waits_for_room(attempt: AttemptRow) -> Explanation:
    """Why a workload that was promised a place does not have it yet."""
    message = f"{place_of(attempt)} promised; it is free when others have left it"
    return Explanation(reason=Reason.WAITING_FOR_VICTIMS, message=message)


def _runtime_left(workload: WorkloadRow, attempt: AttemptRow | None, clock: Clock) -> float | None:
    limit = workload.spec.get("maximum_runtime_seconds")
    if limit is None or attempt is None or attempt.bound_at is None:
        return None
    running = (clock.now() - (attempt.started_at or clock.now())).total_seconds()
    return clock.wall_seconds(max(0.0, limit - workload.runtime_used_seconds - running))


@dataclass
class Journal:
    """All that one transaction changes about workloads and their attempts; written by `write`, in few statements."""

    clock: Clock
    policies: PolicyReader
    now: datetime
    workloads: dict[str, WorkloadRow] = field(default_factory=dict)
    attempts: dict[str, AttemptRow] = field(default_factory=dict)
    open: OpenAttempts = field(default_factory=OpenAttempts)
    """As far as this transaction knows them."""
    to_tell: dict[str, None] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    intervals_closed: list[dict[str, Any]] = field(default_factory=list)
    intervals_opened: list[dict[str, Any]] = field(default_factory=list)

    def change(self, row: WorkloadRow, **values: Any) -> WorkloadRow:
        """Change a workload's row; its version rises once a call."""
        changed = replace(self.workloads.get(row.id, row), version=row.version + 1, **values)
        self.workloads[row.id] = changed
        return changed

    def move(self, row: WorkloadRow, state: State, message: str, **values: Any) -> WorkloadRow:
        """Bring a workload into another state, as an event that people see.

        Raises:
            ImpossibleTransition: the state may not follow.
        """
        checked(row.state, state)
        ended = self.now if state.is_terminal else None
        moved = self.change(row, state=state, since=self.now, ended_at=ended, **values)
        self.note(row.id, state, message)
        return moved

    def note(self, workload: str, kind: str, message: str) -> None:
        """Add an event to a workload's history."""
        self.events.append({"workload_id": workload, "at": self.now, "kind": str(kind), "message": message})

    def attempt(self, row: AttemptRow, **values: Any) -> AttemptRow:
        """Change an attempt's row."""
        changed = replace(self.attempts.get(row.id, row), **values)
        self.attempts[row.id] = changed
        self.know(changed)
        return changed

    def learn(self, found: OpenAttempts) -> None:
        """Take note of open attempts that were read; those that this transaction has changed are as it left them."""
        for attempt in (*found.now.values(), *found.then.values()):
            if attempt.id not in self.attempts:
                self.know(attempt)

    def know(self, attempt: AttemptRow) -> None:
        """Take note of an attempt, which may be the one that counts now, the one that follows, or one that has ended."""
        now, then = self.open.now, self.open.then
        if attempt.follows is not None:
            then[attempt.workload_id] = attempt
        elif attempt.ended_at is not None:
            now.pop(attempt.workload_id, None)
        else:
            now[attempt.workload_id] = attempt
            if then.get(attempt.workload_id, attempt).id == attempt.id:
                then.pop(attempt.workload_id, None)

    def account(
        self,
        row: WorkloadRow,
        kind: IntervalKind | None,
        *,
        at: datetime | None = None,
        attempt: AttemptRow | None = None,
        lost_milli_seconds: int = 0,
    ) -> None:
        """Close the workload's open interval in the ledger and open one of that kind, or none when it has ended."""
        at = at or self.now
        opened_here = next((new for new in self.intervals_opened if new["workload_id"] == row.id and not new["ended_at"]), None)
        if opened_here is None:
            self.intervals_closed.append({"b_workload": row.id, "b_at": at, "b_lost": lost_milli_seconds})
        elif kind is not None and opened_here["began_at"] == at:
            self.intervals_opened.remove(opened_here)
        else:
            opened_here |= {"ended_at": max(at, opened_here["began_at"]), "lost_milli_seconds": lost_milli_seconds}
        if kind is not None:
            self.intervals_opened.append(interval(row, kind, at, attempt))

    def tell(self, workload: str) -> None:
        """Write to the outbox how the workload stands when the transaction is over."""
        self.to_tell[workload] = None

    async def write(self, connection: AsyncConnection) -> list[Notice]:
        """Write everything, and answer with what the workflows are to be told once the transaction has committed."""
        if self.workloads:
            await connection.execute(_UPDATE_WORKLOAD, [_bound(row, "id") for row in self.workloads.values()])
        if self.attempts:
            await connection.execute(_UPDATE_ATTEMPT, [_bound(row, "id") for row in self.attempts.values()])
        if self.intervals_closed:
            await connection.execute(_CLOSE_INTERVAL, self.intervals_closed)
        if self.intervals_opened:
            await connection.execute(_OPEN_INTERVAL, [_bound_interval(row) for row in self.intervals_opened])
        if self.events:
            await connection.execute(insert(tables.events), self.events)
        return await self._write_outbox(connection)

    async def _write_outbox(self, connection: AsyncConnection) -> list[Notice]:
        if not self.to_tell:
            return []
        standings = [self.standing(workload) for workload in self.to_tell]
        ids = await connection.scalars(
            insert(tables.outbox).returning(tables.outbox.c.id, sort_by_parameter_order=True),
            [{"workload_id": standing.workload, "notice": as_json(standing)} for standing in standings],
        )
        return [Notice(id, standing) for id, standing in zip(ids, standings, strict=True)]

    def standing(self, workload: str) -> Standing:
        """How a workload that this transaction changed stands."""
        return standing_of(self.workloads[workload], self.open, self.clock)


def interval(row: WorkloadRow, kind: IntervalKind, at: datetime, attempt: AttemptRow | None = None) -> dict[str, Any]:
    """An open interval of the ledger: entitled to the fewest accelerators with which the workload may run, within quota."""
    return {
        "workload_id": row.id,
        "attempt_id": attempt.id if attempt else None,
        "queue": row.queue,
        "tier": row.tier,
        "kind": kind,
        "entitled_milli": 0 if kind in NOT_ENTITLED or row.over_quota else entitled_milli(row.parsed()),
        "allocated_milli": attempt.milli if attempt else 0,
        "allocated_by_sku": attempt.by_sku if attempt else {},
        "cost_by_sku": attempt.cost_by_sku if attempt else {},
        "began_at": at,
        "ended_at": None,
        "lost_milli_seconds": 0,
    }


def as_json(standing: Standing) -> dict[str, Any]:
    """A standing for a JSON column."""
    plain: dict[str, Any] = _STANDING.dump_python(standing, mode="json")
    return plain


def from_json(value: dict[str, Any]) -> Standing:
    """A standing from a JSON column."""
    return _STANDING.validate_python(value)


_STANDING = TypeAdapter(Standing)

_UNCHANGING = {
    "workloads": {"id", "digest", "queue", "tier", "submitted_at"},
    "attempts": {
        "id",
        "workload_id",
        "epoch",
        "provider",
        "region",
        "cluster",
        "sku",
        "by_sku",
        "cost_by_sku",
        "target",
        "replicas",
        "held_at",
    },
}


def _changing(table: Any) -> list[str]:
    return [column.name for column in table.columns if column.name not in _UNCHANGING[table.name]]


def _update_by_id(table: Any) -> Any:
    return (
        update(table).where(table.c.id == bindparam("b_id")).values({name: bindparam(f"b_{name}") for name in _changing(table)})
    )


_UPDATE_WORKLOAD = _update_by_id(tables.workloads)
_UPDATE_ATTEMPT = _update_by_id(tables.attempts)
_CLOSE_INTERVAL = (
    update(tables.ledger)
    .where(tables.ledger.c.workload_id == bindparam("b_workload"), tables.ledger.c.ended_at.is_(None))
    .values(
        # An observation may be told late, but never before the interval that it ends began.
        ended_at=func.greatest(tables.ledger.c.began_at, bindparam("b_at")),
        lost_milli_seconds=bindparam("b_lost"),
    )
)


_WHAT_WENT_BEFORE = (
    select(func.max(tables.ledger.c.ended_at))
    .where(tables.ledger.c.workload_id == bindparam("b_workload_id"))
    .scalar_subquery()
)
"""When the workload's last interval ended. No interval begins before, whatever the clock of a provider shows."""

_BEGAN = func.greatest(bindparam("b_began_at", type_=tables.Instant), _WHAT_WENT_BEFORE)
_ENDED = bindparam("b_ended_at", type_=tables.Instant)
_OPEN_INTERVAL = insert(tables.ledger).values(
    {column.name: bindparam(f"b_{column.name}") for column in tables.ledger.columns if column.name != "id"}
    | {"began_at": _BEGAN, "ended_at": case((_ENDED.is_not(None), func.greatest(_ENDED, _BEGAN)))}
)


def _bound_interval(row: dict[str, Any]) -> dict[str, Any]:
    return {f"b_{name}": value for name, value in row.items()}


def _bound(row: WorkloadRow | AttemptRow, key: str) -> dict[str, Any]:
    table = tables.workloads if isinstance(row, WorkloadRow) else tables.attempts
    return {f"b_{name}": getattr(row, name) for name in (key, *_changing(table))}


async def locked_workloads(connection: AsyncConnection, ids: list[str]) -> dict[str, WorkloadRow]:
    """Read and lock workloads by id."""
    query = select(tables.workloads).where(tables.workloads.c.id.in_(ids)).order_by(tables.workloads.c.id).with_for_update()
    return {row.id: WorkloadRow.of(row) for row in await connection.execute(query)}


async def open_attempts(connection: AsyncConnection, workloads: Collection[str]) -> OpenAttempts:
    """Read the open attempts of workloads, which are locked already if anything is to be changed."""
    query = select(tables.attempts).where(tables.attempts.c.workload_id.in_(workloads), tables.attempts.c.ended_at.is_(None))
    rows = [AttemptRow.of(row) for row in await connection.execute(query)]
    return OpenAttempts(
        now={row.workload_id: row for row in rows if row.follows is None},
        then={row.workload_id: row for row in rows if row.follows is not None},
    )
