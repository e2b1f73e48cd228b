"""Evacuations in the record: what was ordered, which nodes are cordoned for it, who is told to leave, and how far it is.

Every step is found from the record itself, so that a step which is done again finds what the first has done.
"""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.ports import NotAllowed, NotFound
from activities.store import fleet, orders, tables
from activities.store.attained import Attaining
from activities.store.attempts import withdraw
from activities.store.rows import Journal
from corral.api import (
    EvacuationOrder,
    EvacuationState,
    EvacuationStatus,
    OperationChange,
    OperationKind,
    OperationNote,
    Outcome,
    SlaTier,
    State,
)
from corral.policy import Approvals
from corral.wire import Steering
from domain.operations.approval import why_evacuation, why_not_approved
from domain.operations.evacuation import Resident, objection, who_leaves_next
from domain.pool.fleet import Health

LISTED = 100
"""So many of the workloads that are left are named; all of them are counted."""

_STEERED = {
    Steering.PAUSE: EvacuationState.PAUSED,
    Steering.RESUME: EvacuationState.MOVING,
    Steering.ABORT: EvacuationState.ABORTED,
    Steering.APPROVE: EvacuationState.MOVING,
    Steering.REJECT: EvacuationState.REJECTED,
}


class Progress(orders.Progress):
    """What the record knows of an evacuation beside its order: see `EvacuationStatus`."""

    nodes: int = 0
    told: int = 0
    left: int = 0
    leaving: int = 0
    remaining: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """How far it is, in words."""
        return f"{self.nodes} nodes: {self.left} workloads are left, {self.leaving} of them leaving; {self.told} were told to"


async def begin(connection: AsyncConnection, journal: Journal, order: EvacuationOrder, approvals: Approvals) -> bool:
    """Write an evacuation down and let nothing new go to its place, nodes that came since included; answers whether any was.

    One that has to be approved changes nothing before it is, and has ended when nobody does in time.

    Raises:
        NotFound: nothing of that name is there.
        NotAllowed: the id belongs to another operation.
    """
    row = await orders.find(connection, order) or await _written(connection, journal, order, approvals)
    if row.state == EvacuationState.AWAITING:
        if journal.now >= row.due_at:
            note = OperationNote(at=journal.now, state=EvacuationState.EXPIRED, reason="nobody has approved it in time")
            await orders.changed(connection, row, orders.becomes(row, note, is_over=True))
        return False
    return row.ended_at is None and await _cordon(connection, order)


async def call_off(connection: AsyncConnection, journal: Journal, order: EvacuationOrder, change: OperationChange) -> None:
    """Write one that has not begun down as aborted, so that it never does: nothing is cordoned and nobody told to leave.

    Raises:
        NotAllowed: the id belongs to another operation.
    """
    if await orders.find(connection, order) is None:
        note = OperationNote(at=journal.now, state=EvacuationState.ABORTED, who=change.who, reason=change.reason)
        await _write(connection, order, note, due_at=journal.now + order.deadline, is_over=True)


async def _written(connection: AsyncConnection, journal: Journal, order: EvacuationOrder, approvals: Approvals) -> Row[Any]:
    if not await _inside(connection, order):
        raise NotFound(f"place: there is no {order.kind} {order.place!r}; `corral fleet nodes` lists what there is")
    needs = why_evacuation(order, approvals)
    state = EvacuationState.AWAITING if needs else EvacuationState.MOVING
    note = OperationNote(at=journal.now, state=state, who=order.who, reason=order.reason)
    due_at = journal.now + (timedelta(seconds=approvals.expires_seconds) if needs else order.deadline)
    return await _write(connection, order, note, due_at=due_at, needs=needs)


async def _write(
    connection: AsyncConnection,
    order: EvacuationOrder,
    note: OperationNote,
    *,
    due_at: datetime,
    needs: str = "",
    is_over: bool = False,
) -> Row[Any]:
    kind, subject, progress = OperationKind.EVACUATION, f"{order.kind} {order.place}", Progress(needs=needs)
    return await orders.write(connection, order, kind, subject, note, due_at=due_at, progress=progress, is_over=is_over)


async def tell_next(connection: AsyncConnection, journal: Journal, order: EvacuationOrder, attaining: Attaining) -> bool:
    """Tell as many workloads to leave as may be under way besides those that are; answers whether there were any."""
    row = await _locked(connection, order.id)
    if row.state != EvacuationState.MOVING:
        return False
    told = who_leaves_next(await _residents(connection, order, attaining), order.at_once)
    for workload in told:
        await withdraw(connection, journal, workload, Outcome.DRAINED, f"evacuation {order.id} of {order.kind} {order.place}")
    known = _progress(row)
    await orders.changed(connection, row, {"progress": known.model_copy(update={"told": known.told + len(told)}).kept})
    return bool(told)


async def note_progress(connection: AsyncConnection, journal: Journal, order: EvacuationOrder) -> EvacuationStatus:
    """Write down what is left, if that has changed, and the end where it has come."""
    row = await _locked(connection, order.id)
    if EvacuationState(row.state).is_over or row.state == EvacuationState.AWAITING:
        return _status(row)
    left = await _residents(connection, order, Attaining((), journal.now))
    found = {
        "nodes": len(await _inside(connection, order)),
        "left": len(left),
        "leaving": sum(each.is_leaving for each in left),
        "remaining": tuple(each.workload for each in left[:LISTED]),
    }
    values: dict[str, Any] = {"progress": _progress(row).model_copy(update=found).kept}
    if not left:
        values |= _ended(row, journal, EvacuationState.DONE)
    elif journal.now >= row.due_at:
        values |= _ended(row, journal, EvacuationState.OVERDUE, f"{len(left)} workloads are still there")
        for each in left:
            journal.note(each.workload, "evacuation", f"still here at the deadline of evacuation {order.id}: {order.reason}")
    return _status(await orders.changed(connection, row, values))


def _ended(row: Row[Any], journal: Journal, state: EvacuationState, reason: str = "") -> dict[str, Any]:
    return orders.becomes(row, OperationNote(at=journal.now, state=state, reason=reason), is_over=True)


async def steer(
    connection: AsyncConnection,
    journal: Journal,
    id: str,
    verb: Steering,
    change: OperationChange,
    approvals: Approvals,
    key: str,
) -> EvacuationStatus:
    """Pause, resume, abort, approve or reject an evacuation, once a key; to ask for what is so already changes nothing.

    Its time begins when it is approved. Aborted, it gives back the nodes that it cordoned and nobody ordered anything else for
    since, unless another evacuation that is under way needs them.

    Raises:
        NotFound: there is no such evacuation.
        NotAllowed: it is over, or does not await approval, or not this person's.
    """
    row = await _locked(connection, id)
    return _status(
        await orders.once(connection, row, verb, key, lambda: _steered(connection, journal, row, verb, change, approvals, key))
    )


async def _steered(
    connection: AsyncConnection,
    journal: Journal,
    row: Row[Any],
    verb: Steering,
    change: OperationChange,
    approvals: Approvals,
    key: str,
) -> Row[Any]:
    state = _STEERED[verb]
    if row.state == state:
        return row
    order = EvacuationOrder.model_validate(row.terms)
    problem = objection(verb, order.id, EvacuationState(row.state))
    if verb is Steering.APPROVE:
        who, ordered_by = await orders.people(connection, order, change, key)
        problem = problem or why_not_approved(who, ordered_by, row.due_at, approvals, journal.now)
    if problem:
        raise NotAllowed(problem)
    note = OperationNote(at=journal.now, state=state, who=change.who, reason=change.reason)
    values = orders.becomes(row, note, is_over=state.is_over)
    if verb is Steering.APPROVE:
        values["due_at"] = journal.now + order.deadline
    if state is EvacuationState.ABORTED:
        await _uncordon(connection, order.id)
    return await orders.changed(connection, row, values)


async def evacuations(connection: AsyncConnection, limit: int) -> list[EvacuationStatus]:
    """The newest evacuations, those under way first."""
    columns = tables.orders.c
    query = select(tables.orders).where(columns.kind == OperationKind.EVACUATION).limit(limit)
    newest = query.order_by(columns.ended_at.is_not(None), columns.began_at.desc(), columns.id)
    return [_status(row) for row in await connection.execute(newest)]


async def _locked(connection: AsyncConnection, id: str) -> Row[Any]:
    return await orders.locked(connection, id, OperationKind.EVACUATION)


def _progress(row: Row[Any]) -> Progress:
    return Progress.model_validate({name: value for name, value in row.progress.items() if name != "message"})


def _status(row: Row[Any]) -> EvacuationStatus:
    return EvacuationStatus.model_validate({**orders.fields(row), "order": row.terms, "deadline": row.due_at})


# Places


async def _inside(connection: AsyncConnection, order: EvacuationOrder) -> list[str]:
    return list(
        await connection.scalars(
            select(tables.nodes.c.id).where(fleet.is_inside(order.kind, order.place)).order_by(tables.nodes.c.id)
        )
    )


async def _cordon(connection: AsyncConnection, order: EvacuationOrder) -> bool:
    reason = f"evacuation {order.id} of {order.kind} {order.place}: {order.reason}"
    cordoned = await connection.execute(
        update(tables.nodes)
        .where(fleet.is_inside(order.kind, order.place), tables.nodes.c.cordon.is_(None))
        .values(cordon=Health.CORDONED, cordon_reason=reason, cordoned_by=order.id)
    )
    return cordoned.rowcount > 0


async def _uncordon(connection: AsyncConnection, id: str) -> None:
    given_back = {"cordon": None, "cordon_reason": None, "cordoned_by": None}
    await connection.execute(update(tables.nodes).where(tables.nodes.c.cordoned_by == id).values(**given_back))
    columns = tables.orders.c
    is_under_way = columns.state.in_((EvacuationState.MOVING, EvacuationState.PAUSED))
    others = select(columns.terms).where(columns.kind == OperationKind.EVACUATION, is_under_way, columns.id != id)
    for terms in list(await connection.scalars(others)):
        await _cordon(connection, EvacuationOrder.model_validate(terms))


async def _residents(connection: AsyncConnection, order: EvacuationOrder, attaining: Attaining) -> list[Resident]:
    """The workloads with room in a place: claimed, promised, or of replicas that do not leave."""
    attempts, workloads, rooms = tables.attempts.c, tables.workloads.c, tables.rooms.c
    who = (workloads.id, workloads.tier, workloads.priority, workloads.state, attempts.bound_at, attempts.stop_at)
    ran = workloads.runtime_used_seconds, workloads.spec["autoscale"].astext.is_not(None).label("serves"), attempts.started_at
    query = (
        select(*who, *ran, func.bool_and(rooms.is_remnant).label("is_out"))
        .group_by(workloads.id, attempts.id)
        .select_from(tables.attempts)
        .join(tables.workloads, workloads.id == attempts.workload_id)
        .join(tables.rooms, rooms.attempt_id == attempts.id)
        .join(tables.nodes, tables.nodes.c.id == rooms.node_id)
        .where(
            attempts.ended_at.is_(None),
            attempts.follows.is_(None),
            fleet.is_inside(order.kind, order.place),
        )
        .order_by(workloads.id)
    )
    return [
        Resident(
            row.id,
            SlaTier(row.tier),
            attaining.counts_as(row.priority, row.runtime_used_seconds, row.started_at, is_endpoint=row.serves),
            is_bound=row.bound_at is not None,
            # Who only changes its size has no notice to leave; of whom only remnants are there, nobody can be told again.
            is_leaving=row.is_out or (row.stop_at is not None and row.state != State.RESIZING),
        )
        for row in await connection.execute(query)
    ]
