"""Rows of the record as frozen values, and the writer that turns changed ones into few statements."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self

from pydantic import TypeAdapter
from sqlalchemy import Row, Table, any_, bindparam, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.answers import Notice, Standing
from activities.ports import Clock
from activities.store import tables
from activities.store.bulk import among, as_document, insert_rows, update_rows
from activities.store.policies import PolicyReader
from activities.store.steps import Steps
from corral.api import WHOLE, Explanation, Outcome, Reason, State, WorkloadSpec
from domain.pool.lifecycle import WITH_AN_ATTEMPT, Leave, checked, checked_step
from domain.quota.accounting import NOT_ENTITLED, IntervalKind, entitled_milli

FIRST_VERSION = 1


@dataclass(frozen=True, slots=True)
class WorkloadRow:
    """One row of `workloads`; `spec` as it stands now, which may differ from the one submitted (its digest is kept).

    Rows that a planner remembers have of `spec`, `digest` and `explanation` what a round looks at (`activities.store.demand`).
    """

    id: str
    spec: Mapping[str, Any]
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
    explanation: Mapping[str, Any] | None = None
    scaling: dict[str, Any] | None = None
    trace: str | None = None
    changed: int = 0
    """The transaction that wrote it, as the record says; of no meaning in a row that is yet to be written."""

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        """Read a row that holds all columns of `workloads`."""
        values = row._asdict()
        values["state"] = State(values["state"])
        return cls(**values)

    @property
    def ended_as(self) -> Outcome | None:
        """How its last attempt ended; none while another one is open."""
        return Outcome(self.outcome) if self.outcome and self.state not in WITH_AN_ATTEMPT else None

    @property
    def ended_with(self) -> int | None:
        """The exit code of that attempt."""
        return self.exit_code if self.state not in WITH_AN_ATTEMPT else None

    def parsed(self) -> WorkloadSpec:
        """The spec as a model, with the priority that counts now."""
        return WorkloadSpec.model_validate({**self.spec, "id": self.id, "priority": self.priority})


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
    notice: int = 0
    kept_at: datetime | None = None
    leave: Leave | None = None
    leave_at: datetime | None = None
    beneficiary: str | None = None
    follows: str | None = None
    ended_at: datetime | None = None
    outcome: str | None = None
    exit_code: int | None = None
    reason: str | None = None
    lost_milli_seconds: int = 0
    changed: int = 0
    """As of a workload's row."""

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        """Read a row that holds all columns of `attempts`."""
        values = row._asdict()
        values["leave"] = Leave(values["leave"]) if values["leave"] else None
        return cls(**values)


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
        fix_search=explanation.fix_search if explanation else None,
        outcome=workload.ended_as,
        exit_code=workload.ended_with,
        runtime_left=_runtime_left(workload, attempt, clock),
        notice=attempt.notice if attempt and (attempt.leave or attempt.kept_at is None) else 0,
        leave=attempt.leave if attempt else None,
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
    round: str | None = None
    """The span of the round that decides so, as a W3C traceparent."""
    workloads: dict[str, WorkloadRow] = field(default_factory=dict)
    attempts: dict[str, AttemptRow] = field(default_factory=dict)
    touched: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    """The columns that differ, by the table and the id of the workload or attempt."""
    open: OpenAttempts = field(default_factory=OpenAttempts)
    """As far as this transaction knows them."""
    to_tell: dict[str, None] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    intervals_closed: list[dict[str, Any]] = field(default_factory=list)
    intervals_cut: list[dict[str, Any]] = field(default_factory=list)
    intervals_opened: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """By workload, in order; only the last one may be open."""

    def change(self, row: WorkloadRow, **values: Any) -> WorkloadRow:
        """Change a workload's row; its version rises once a call."""
        changed = replace(self.workloads.get(row.id, row), version=row.version + 1, **values)
        self.workloads[row.id] = changed
        self.touched.setdefault(("workloads", row.id), {"version"}).update(values)
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
        self.touched.setdefault(("attempts", row.id), set()).update(values)
        self.know(changed)
        return changed

    def step(self, row: AttemptRow, leave: Leave | None, **values: Any) -> AttemptRow:
        """Bring an attempt to the next step on its way out, or off it.

        Raises:
            ImpossibleTransition: the step may not follow.
        """
        checked_step(row.leave, leave)
        return self.attempt(row, leave=leave, leave_at=self.now if leave else None, **values)

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
        ended: AttemptRow | None = None,
        lost_milli_seconds: int = 0,
    ) -> None:
        """Close the workload's open interval in the ledger and open one of that kind, or none when it has ended.

        The attempt that `ended` then had nothing since: whatever of its intervals is later is taken back.
        """
        at = at or self.now
        if ended is not None:
            self.intervals_cut.append({"workload_id": row.id, "attempt_id": ended.id, "ended_at": at})
        opened_here = self.intervals_opened.setdefault(row.id, [])
        last = opened_here[-1] if opened_here else None
        if last is None or last["ended_at"]:
            self.intervals_closed.append({"workload_id": row.id, "ended_at": at, "lost_milli_seconds": lost_milli_seconds})
        elif kind is not None and last["began_at"] == at:
            opened_here.pop()
        else:
            last |= {"ended_at": max(at, last["began_at"]), "lost_milli_seconds": lost_milli_seconds}
        if kind is not None:
            opened_here.append(interval(row, kind, at, attempt))

    def tell(self, workload: str) -> None:
        """Write to the outbox how the workload stands when the transaction is over."""
        self.to_tell[workload] = None

    async def write(self, connection: AsyncConnection, steps: Steps | None = None) -> list[Notice]:
        """Write everything, and answer with what the workflows are to be told once the transaction has committed.

        The number of statements depends on what kinds of things happened, not on how many.
        """
        steps = steps or Steps()
        with steps.step("commit: workloads"):
            await self._update(connection, tables.workloads, list(self.workloads.values()))
            await self._update(connection, tables.attempts, list(self.attempts.values()))
        with steps.step("commit: ledger"):
            await self._write_ledger(connection)
        with steps.step("commit: events"):
            await insert_rows(connection, tables.events, self.events)
        with steps.step("commit: outbox"):
            return await self._write_outbox(connection)

    async def _update(self, connection: AsyncConnection, table: Table, rows: Sequence[WorkloadRow | AttemptRow]) -> None:
        alike: dict[frozenset[str], list[dict[str, Any]]] = {}
        for row in rows:
            columns = frozenset(self.touched[table.name, row.id])
            alike.setdefault(columns, []).append({name: getattr(row, name) for name in ("id", *columns)})
        for columns in sorted(alike, key=sorted):
            await update_rows(connection, table, columns, alike[columns])

    async def _write_ledger(self, connection: AsyncConnection) -> None:
        if self.intervals_closed:
            # The first to close an interval finds it open; a second one would find nothing.
            closed = {row["workload_id"]: row for row in reversed(self.intervals_closed)}
            await connection.execute(_CLOSE_INTERVALS, {"rows": as_document(list(closed.values()))})
        if self.intervals_cut:
            await connection.execute(_CUT_INTERVALS, {"rows": as_document(self.intervals_cut)})
        # Several intervals of one workload follow each other, so that each must find the one before it in the record.
        for turn in range(max(map(len, self.intervals_opened.values()), default=0)):
            rows = [its[turn] for its in self.intervals_opened.values() if len(its) > turn]
            await connection.execute(_OPEN_INTERVALS, {"rows": as_document(rows)})

    async def _write_outbox(self, connection: AsyncConnection) -> list[Notice]:
        standings = [self.standing(workload) for workload in self.to_tell]
        traces = {workload: self.workloads[workload].trace for workload in self.to_tell}
        rounds = {workload: self.round if trace else None for workload, trace in traces.items()}
        notices = [
            {"workload_id": each.workload, "notice": as_json(each), "round": rounds[each.workload]} for each in standings
        ]
        ids = {row.workload_id: row.id for row in await insert_rows(connection, tables.outbox, notices, "id, workload_id")}
        return [Notice(ids[each.workload], each, traces[each.workload], rounds[each.workload]) for each in standings]

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

_GIVEN = "json_populate_recordset(NULL::ledger, CAST(CAST(:rows AS text) AS json)) AS given"

# An observation may be told late, but never before the interval that it ends began.
_CLOSE_INTERVALS = text(f"""
    UPDATE ledger SET ended_at = greatest(ledger.began_at, given.ended_at), lost_milli_seconds = given.lost_milli_seconds
    FROM {_GIVEN} WHERE ledger.workload_id = given.workload_id AND ledger.ended_at IS NULL""")

# An end that is seen late ends all that began since, as it begins: the attempt had nothing any more. What was before the
# attempt stays, whatever the clock of a provider shows.
_CUT_INTERVALS = text(f"""
    UPDATE ledger SET began_at = least(ledger.began_at, cut.ended_at), ended_at = cut.ended_at
    FROM (SELECT given.workload_id, given.attempt_id, greatest(given.ended_at, (
              SELECT max(earlier.ended_at) FROM ledger AS earlier WHERE earlier.workload_id = given.workload_id
              AND earlier.attempt_id IS DISTINCT FROM given.attempt_id)) AS ended_at
          FROM {_GIVEN}) AS cut
    WHERE ledger.workload_id = cut.workload_id AND ledger.attempt_id = cut.attempt_id AND ledger.ended_at > cut.ended_at""")

_COPIED = ", ".join(column.name for column in tables.ledger.columns if column.name not in {"id", "began_at", "ended_at"})

# No interval begins before the workload's last one ended, whatever the clock of a provider shows.
_OPEN_INTERVALS = text(f"""
    INSERT INTO ledger ({_COPIED}, began_at, ended_at)
    SELECT {_COPIED}, began, CASE WHEN ended_at IS NOT NULL THEN greatest(ended_at, began) END
    FROM (SELECT given.*, greatest(given.began_at, (
              SELECT max(earlier.ended_at) FROM ledger AS earlier WHERE earlier.workload_id = given.workload_id)) AS began
          FROM {_GIVEN}) AS given""")


_OPEN_ATTEMPTS = select(tables.attempts).where(
    tables.attempts.c.workload_id == any_(bindparam("workloads", type_=tables.Names)), tables.attempts.c.ended_at.is_(None)
)


async def locked_workloads(connection: AsyncConnection, ids: list[str]) -> dict[str, WorkloadRow]:
    """Read and lock workloads by id."""
    query = select(tables.workloads).where(among(tables.workloads.c.id, ids)).order_by(tables.workloads.c.id).with_for_update()
    return {row.id: WorkloadRow.of(row) for row in await connection.execute(query)}


async def open_attempts(connection: AsyncConnection, workloads: Collection[str]) -> OpenAttempts:
    """Read the open attempts of workloads, which are locked already if anything is to be changed."""
    rows = [AttemptRow.of(row) for row in await connection.execute(_OPEN_ATTEMPTS, {"workloads": list(workloads)})]
    return OpenAttempts(
        now={row.workload_id: row for row in rows if row.follows is None},
        then={row.workload_id: row for row in rows if row.follows is not None},
    )


async def locked(connection: AsyncConnection, journal: Journal, workload: str) -> tuple[WorkloadRow | None, AttemptRow | None]:
    """Lock a workload; answers with it and the open attempt that counts now, as the transaction has left them so far."""
    workloads = await locked_workloads(connection, [workload])
    journal.learn(await open_attempts(connection, [workload]))
    row = workloads.get(workload)
    return journal.workloads.get(workload, row) if row else None, journal.open.now.get(workload)
