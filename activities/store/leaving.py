"""How attempts leave, step by step (`domain.pool.lifecycle.LEAVE_STEPS`), and what is suspect because one does not."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Integer, Row, case, cast, exists, literal, not_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.answers import AttemptKey
from activities.store import tables
from activities.store.accounts import note_capacity
from activities.store.bulk import among
from activities.store.rows import AttemptRow, Journal, WorkloadRow, locked, place_of
from corral.api import Explanation, Outcome, Reason, State
from domain.pool.lifecycle import MAY_STAY, SUSPECT, TOO_LONG, Leave, seconds_at

_SAYINGS = {
    Leave.SILENT: (
        Reason.PROVIDER_DOES_NOT_ANSWER,
        "its provider was to give notice and has not answered; it is asked again",
    ),
    Leave.FORCED: (Reason.DOES_NOT_STOP, "it has not stopped in time; it is stopped by force"),
    Leave.STUCK: (
        Reason.DOES_NOT_STOP,
        "it was stopped by force and is still there; nothing new goes to its nodes before it is observed gone: see to it there",
    ),
}
"""What people are told of what leaves too slowly."""

_OF_REPLICAS = {
    Leave.SILENT: (
        Reason.PROVIDER_DOES_NOT_ANSWER,
        "its provider was to give it another size and has not answered; it is asked again, and what runs, runs on",
    ),
    Leave.FORCED: (
        Reason.DOES_NOT_STOP,
        "replicas that it is not to have any more have not stopped in time; they are stopped by force, and the others run on",
    ),
    Leave.STUCK: (
        Reason.DOES_NOT_STOP,
        "replicas that it is not to have any more were stopped by force and are still there; what they have is nobody's before "
        "they are observed gone, and nothing new goes to their nodes: see to it there. The others run on",
    ),
}
"""The same where it is replicas of what runs on that leave too slowly."""


STAYS: Mapping[str, Any] = dict.fromkeys(("leave", "leave_at", "stop_at", "stop_as", "beneficiary", "reason"))
"""What the row of an attempt has of an order to stop that is not in force."""

NEVER_GIVEN = datetime(1970, 1, 1, tzinfo=UTC)
"""When a notice was taken back that no provider was given: before anything that could be owed to it."""


def _saying(workload: WorkloadRow, step: Leave) -> tuple[Reason, str]:
    return (_OF_REPLICAS if workload.state is State.RESIZING else _SAYINGS)[step]


def give_notice(journal: Journal, attempt: AttemptRow, stop_as: Outcome, **order: str | None) -> AttemptRow:
    """Order an attempt to stop, by a notice of its own unless one is in force. `order`: for whom, or why."""
    if attempt.leave in {None, Leave.WAITING}:
        attempt = journal.step(attempt, Leave.ORDERED, stop_at=journal.now, notice=attempt.notice + 1, kept_at=None)
    return journal.attempt(attempt, stop_as=stop_as, **order)


def let_wait(journal: Journal, attempt: AttemptRow) -> AttemptRow:
    """Have an attempt grow once others have left the room for that; its provider is given a notice only then."""
    attempt = journal.step(attempt, Leave.WAITING, stop_at=journal.now)
    return journal.attempt(attempt, stop_as=Outcome.RESIZED)


def give_notice_to_all(journal: Journal, attempt: AttemptRow) -> AttemptRow:
    """Begin anew, by a notice of its own, with an attempt of which only some replicas had to leave so far."""
    now = journal.now
    return journal.attempt(attempt, leave=Leave.ORDERED, leave_at=now, stop_at=now, notice=attempt.notice + 1, kept_at=None)


def take_notice_back(journal: Journal, workload: WorkloadRow, attempt: AttemptRow, cause: str) -> None:
    """Let an attempt that has notice for somebody else's sake run on; its workflow tells its provider."""
    was_preempted = attempt.stop_as == Outcome.PREEMPTED
    journal.step(attempt, None)
    attempt = journal.attempt(attempt, **STAYS)
    state = State.RUNNING if attempt.started_at else State.STARTING
    message = f"keeps {place_of(attempt)}: its notice is taken back, for {cause}"
    journal.move(workload, state, message, preemptions=workload.preemptions - was_preempted, explanation=None)
    journal.tell(workload.id)


async def note_noticed(connection: AsyncConnection, journal: Journal, key: AttemptKey, notice: int) -> bool:
    """Believe that a provider has given a notice; answers whether nodes are not suspect any more."""
    workload, attempt = await locked(connection, journal, key.workload)
    if workload is None or attempt is None or (attempt.epoch, attempt.notice) != (key.epoch, notice):
        return False
    if attempt.leave not in {Leave.ORDERED, Leave.SILENT}:
        return False
    journal.step(attempt, Leave.NOTICED)
    journal.change(workload, explanation=None)
    return await clear_suspicion_of(connection, journal, attempt)


async def note_kept(connection: AsyncConnection, journal: Journal, key: AttemptKey, notice: int) -> bool:
    """Believe that a provider has taken a notice back, unless a later one was given; answers as `note_noticed` does."""
    workload, attempt = await locked(connection, journal, key.workload)
    if workload is None or attempt is None or (attempt.epoch, attempt.notice) != (key.epoch, notice):
        return False
    if attempt.leave is not None or attempt.kept_at is not None:
        return False
    journal.attempt(attempt, kept_at=journal.now)
    journal.change(workload)
    journal.note(workload.id, "kept", f"its provider has taken notice {notice} back")
    return await clear_suspicion_of(connection, journal, attempt)


def note_checkpoint(journal: Journal, workload: WorkloadRow, attempt: AttemptRow) -> bool:
    """Believe that the work is saved up to now; answers whether there was a notice to leave, whose grace is over by that."""
    attempt = journal.attempt(attempt, checkpoint_at=journal.now)
    ends_grace = attempt.leave in MAY_STAY and workload.state is not State.RESIZING
    if ends_grace:
        journal.step(attempt, Leave.SAVED)
    journal.change(workload)
    journal.tell(workload.id)
    return ends_grace


# Too slowly


async def overdue(connection: AsyncConnection, now: datetime, stop_seconds: int) -> list[str]:
    """The workloads of attempts that have been longer at a step on their way out than they may.

    One that grows in place has nobody to be forced: replicas that come may take their time.
    """
    attempts, workloads, followers = tables.attempts.c, tables.workloads.c, tables.attempts.alias("followers")
    grows = exists().where(
        workloads.state == State.RESIZING,
        attempts.leave == Leave.NOTICED,
        followers.c.follows == attempts.id,
        followers.c.replicas > attempts.replicas,
    )
    grace = cast(workloads.spec["checkpoint"]["grace_seconds"].astext, Integer)
    limit = case((attempts.leave == Leave.NOTICED, grace + stop_seconds), else_=literal(stop_seconds))
    query = (
        select(attempts.workload_id)
        .join(tables.workloads, workloads.id == attempts.workload_id)
        .where(
            attempts.ended_at.is_(None),
            attempts.leave.in_(TOO_LONG),
            attempts.bound_at.is_not(None),
            not_(grows),
            attempts.leave_at < literal(now) - limit * timedelta(seconds=1),
        )
        .order_by(attempts.workload_id)
    )
    return list(await connection.scalars(query))


def is_overdue(workload: WorkloadRow, attempt: AttemptRow, now: datetime, stop_seconds: int) -> bool:
    """Whether an attempt has been longer at a step on its way out than it may."""
    if attempt.leave is None or attempt.leave_at is None or attempt.leave not in TOO_LONG:
        return False
    seconds = seconds_at(attempt.leave, workload.parsed().checkpoint.grace_seconds, stop_seconds)
    return now > attempt.leave_at + timedelta(seconds=seconds)


def take_further(journal: Journal, workload: WorkloadRow, attempt: AttemptRow) -> AttemptRow:
    """Take an attempt that leaves too slowly a step further, and say so."""
    assert attempt.leave is not None, "only what leaves can do so too slowly"
    step = TOO_LONG[attempt.leave]
    reason, message = _saying(workload, step)
    said = Explanation(reason=reason, message=message, as_of=journal.now)
    attempt = journal.step(attempt, step)
    journal.change(workload, explanation=said.model_dump(mode="json"))
    journal.note(workload.id, step, message)
    journal.tell(workload.id)
    return attempt


# Suspicion


async def cast_suspicion(connection: AsyncConnection, workload: WorkloadRow, attempt: AttemptRow) -> list[str]:
    """Let nothing new go to the nodes that an attempt does not leave; answers with them."""
    assert attempt.leave in _SAYINGS, "there is something to say about it"
    is_resized = workload.state is State.RESIZING
    nodes = await (_nodes_to_leave if is_resized else _nodes_of)(connection, attempt)
    reason = f"attempt {attempt.id} does not leave: {_saying(workload, attempt.leave)[1]}"
    await connection.execute(update(tables.nodes).where(among(tables.nodes.c.id, nodes)).values(suspect=reason))
    return nodes


async def who_waits(connection: AsyncConnection, attempt: AttemptRow, nodes: Sequence[str]) -> list[str]:
    """The workloads that were promised what an attempt was to leave, or other room on its nodes that is not free."""
    others, rooms = tables.attempts.c, tables.allocations.c
    promised = select(rooms.attempt_id).where(among(rooms.node_id, nodes), rooms.phase == "promised")
    query = (
        select(others.workload_id)
        .where(
            others.ended_at.is_(None),
            others.bound_at.is_(None),
            others.follows.is_(None),
            or_(others.id == attempt.beneficiary, others.id.in_(promised)),
        )
        .order_by(others.workload_id)
    )
    return list(await connection.scalars(query))


async def who_grows(connection: AsyncConnection, attempt: AttemptRow, nodes: Sequence[str]) -> list[str]:
    """The same of those that run and were promised more."""
    others, rooms = tables.attempts.c, tables.allocations.c
    promised = select(rooms.attempt_id).where(among(rooms.node_id, nodes), rooms.phase == "promised")
    query = (
        select(others.workload_id)
        .where(others.follows.is_not(None), or_(others.id == attempt.beneficiary, others.id.in_(promised)))
        .order_by(others.workload_id)
    )
    return list(await connection.scalars(query))


async def clear_suspicion_of(connection: AsyncConnection, journal: Journal, attempt: AttemptRow) -> bool:
    """The same for the nodes of an attempt."""
    return await clear_suspicion(connection, journal, await _nodes_of(connection, attempt))


async def clear_suspicion(connection: AsyncConnection, journal: Journal, nodes: Collection[str]) -> bool:
    """Let new work go again to those of the nodes that nobody is left on who does not leave; answers whether there were any."""
    columns = tables.nodes.c
    suspect = set(await connection.scalars(select(columns.id).where(among(columns.id, nodes), columns.suspect.is_not(None))))
    if not suspect:
        return False
    attempts, rooms = tables.attempts.c, tables.allocations.c
    there = await connection.execute(
        select(rooms.node_id, attempts.id, attempts.ended_at, attempts.notice, attempts.leave, attempts.kept_at)
        .join(tables.attempts, attempts.id == rooms.attempt_id)
        .where(among(rooms.node_id, suspect), rooms.phase != "released", attempts.ended_at.is_(None))
    )
    still = {row.node_id for row in there if _is_suspect(journal.attempts.get(row.id) or row)}
    left_behind = tables.remnants.c.node_id
    still |= set(await connection.scalars(select(left_behind).where(among(left_behind, suspect))))
    await connection.execute(update(tables.nodes).where(among(columns.id, suspect - still)).values(suspect=None))
    await note_capacity(connection, journal.now)
    return bool(suspect - still)


def _is_suspect(attempt: AttemptRow | Row[*tuple[Any, ...]]) -> bool:
    """Whether an attempt does not leave, or its provider has not answered since it was to, though it stays by now."""
    is_kept_unheard = attempt.notice > 0 and attempt.leave is None and attempt.kept_at is None
    return attempt.ended_at is None and (attempt.leave in SUSPECT or is_kept_unheard)


async def _nodes_to_leave(connection: AsyncConnection, attempt: AttemptRow) -> list[str]:
    """The nodes on which an attempt has replicas that it is not to have any more."""
    rooms, followers, keeps = tables.allocations.c, tables.attempts.alias("followers"), tables.allocations.alias("keeps")
    keeps_all = exists().where(
        followers.c.follows == attempt.id,
        keeps.c.attempt_id == followers.c.id,
        keeps.c.node_id == rooms.node_id,
        rooms.replicas.contained_by(keeps.c.replicas),
    )
    query = select(rooms.node_id).where(rooms.attempt_id == attempt.id, not_(keeps_all)).order_by(rooms.node_id)
    return list(await connection.scalars(query))


async def _nodes_of(connection: AsyncConnection, attempt: AttemptRow) -> list[str]:
    rooms = tables.allocations.c
    query = select(rooms.node_id).where(rooms.attempt_id == attempt.id, rooms.phase != "released").order_by(rooms.node_id)
    return list(await connection.scalars(query))
