"""Evacuations in the record: what was ordered, which nodes are cordoned for it, who is told to leave, and how far it is.

Every step is found from the record itself, so that a step which is done again finds what the first has done.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, and_, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ColumnElement

from activities.ports import NotAllowed
from activities.store import tables
from activities.store.attempts import withdraw
from activities.store.rows import Journal
from corral.api import (
    EvacuationChange,
    EvacuationNote,
    EvacuationOrder,
    EvacuationState,
    EvacuationStatus,
    Outcome,
    PlaceKind,
    SlaTier,
)
from corral.wire import Steering
from domain.evacuation import Resident, objection, who_leaves_next
from domain.fleet import Health

LISTED = 100
"""So many of the workloads that are left are named; all of them are counted."""

_STEERED = {
    Steering.PAUSE: EvacuationState.PAUSED,
    Steering.RESUME: EvacuationState.MOVING,
    Steering.ABORT: EvacuationState.ABORTED,
}


async def begin(connection: AsyncConnection, journal: Journal, order: EvacuationOrder) -> bool:
    """Write an evacuation down and let nothing new go to its place, nodes that came since included; answers whether any was.

    Raises:
        LookupError: nothing of that name is there.
        NotAllowed: the id belongs to another evacuation.
    """
    inside = await _inside(connection, order)
    if not inside:
        raise LookupError(f"place: there is no {order.kind} {order.place!r}; `corral fleet nodes` lists what there is")
    began = EvacuationNote(at=journal.now, state=EvacuationState.MOVING, who=order.who, reason=order.reason)
    written = insert(tables.evacuations).values(
        id=order.id,
        terms=order.model_dump(mode="json"),
        state=EvacuationState.MOVING,
        began_at=journal.now,
        deadline=journal.now + order.deadline,
        remaining=[],
        trail=[began.model_dump(mode="json")],
    )
    await connection.execute(written.on_conflict_do_nothing())
    row = await _locked(connection, order.id)
    if EvacuationOrder.model_validate(row.terms) != order:
        raise NotAllowed(f"id: {order.id!r} belongs to another evacuation; give this one an id of its own")
    return not EvacuationState(row.state).is_over and await _cordon(connection, order)


async def tell_next(connection: AsyncConnection, journal: Journal, order: EvacuationOrder) -> bool:
    """Tell as many workloads to leave as may be under way besides those that are; answers whether there were any."""
    row = await _locked(connection, order.id)
    if row.state != EvacuationState.MOVING:
        return False
    told = who_leaves_next(await _residents(connection, order), order.at_once)
    for workload in told:
        await withdraw(connection, journal, workload, Outcome.DRAINED, f"evacuation {order.id} of {order.kind} {order.place}")
    await _changed(connection, row, {"told": row.told + len(told)})
    return bool(told)


async def note_progress(connection: AsyncConnection, journal: Journal, order: EvacuationOrder) -> EvacuationStatus:
    """Write down what is left, if that has changed, and the end where it has come."""
    row = await _locked(connection, order.id)
    if EvacuationState(row.state).is_over:
        return _status(row)
    left = await _residents(connection, order)
    values: dict[str, Any] = {
        "nodes": len(await _inside(connection, order)),
        "left": len(left),
        "leaving": sum(each.is_leaving for each in left),
        "remaining": [each.workload for each in left[:LISTED]],
    }
    if not left:
        values |= _ended(row, journal, EvacuationState.DONE)
    elif journal.now >= row.deadline:
        values |= _ended(row, journal, EvacuationState.OVERDUE, f"{len(left)} workloads are still there")
        for each in left:
            journal.note(each.workload, "evacuation", f"still here at the deadline of evacuation {order.id}: {order.reason}")
    return await _changed(connection, row, values)


def _ended(row: Row[Any], journal: Journal, state: EvacuationState, reason: str = "") -> dict[str, Any]:
    note = EvacuationNote(at=journal.now, state=state, reason=reason)
    return {"state": state, "ended_at": journal.now, "trail": [*row.trail, note.model_dump(mode="json")]}


async def steer(
    connection: AsyncConnection, journal: Journal, id: str, verb: Steering, change: EvacuationChange
) -> EvacuationStatus:
    """Pause, resume or abort an evacuation; to ask for what is so already changes nothing.

    Aborted, it gives back the nodes that it cordoned and nobody ordered anything else for since, unless another evacuation
    that is under way needs them.

    Raises:
        LookupError: there is no such evacuation.
        NotAllowed: it is over.
    """
    row = await _locked(connection, id)
    state = _STEERED[verb]
    if row.state == state:
        return _status(row)
    if problem := objection(verb, id, EvacuationState(row.state)):
        raise NotAllowed(problem)
    note = EvacuationNote(at=journal.now, state=state, who=change.who, reason=change.reason)
    values: dict[str, Any] = {"state": state, "trail": [*row.trail, note.model_dump(mode="json")]}
    if state is EvacuationState.ABORTED:
        values["ended_at"] = journal.now
        await _uncordon(connection, id)
    return await _changed(connection, row, values)


async def evacuations(connection: AsyncConnection, limit: int) -> list[EvacuationStatus]:
    """The newest evacuations, those under way first."""
    columns = tables.evacuations.c
    query = select(tables.evacuations).order_by(columns.ended_at.is_not(None), columns.began_at.desc(), columns.id).limit(limit)
    return [_status(row) for row in await connection.execute(query)]


async def _locked(connection: AsyncConnection, id: str) -> Row[Any]:
    query = select(tables.evacuations).where(tables.evacuations.c.id == id).with_for_update()
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise LookupError(f"there is no evacuation {id!r}; `corral operations` lists them")
    return row


async def _changed(connection: AsyncConnection, row: Row[Any], values: dict[str, Any]) -> EvacuationStatus:
    if all(getattr(row, name) == value for name, value in values.items()):
        return _status(row)
    statement = update(tables.evacuations).where(tables.evacuations.c.id == row.id)
    written = statement.values(**values, version=row.version + 1).returning(*tables.evacuations.c)
    return _status((await connection.execute(written)).one())


def _status(row: Row[Any]) -> EvacuationStatus:
    fields = {name: value for name, value in row._mapping.items() if name not in {"id", "terms"}}
    return EvacuationStatus.model_validate({**fields, "order": row.terms})


# Places


def _is_inside(order: EvacuationOrder) -> ColumnElement[bool]:
    nodes = tables.nodes.c
    paths: Mapping[PlaceKind, ColumnElement[str]] = {
        PlaceKind.NODE: nodes.id,
        PlaceKind.CLUSTER: func.concat_ws("/", nodes.provider, nodes.region, nodes.cluster),
        PlaceKind.REGION: func.concat_ws("/", nodes.provider, nodes.region),
    }
    return and_(paths[order.kind] == order.place, nodes.given_back_at.is_(None))


async def _inside(connection: AsyncConnection, order: EvacuationOrder) -> list[str]:
    return list(await connection.scalars(select(tables.nodes.c.id).where(_is_inside(order)).order_by(tables.nodes.c.id)))


async def _cordon(connection: AsyncConnection, order: EvacuationOrder) -> bool:
    reason = f"evacuation {order.id} of {order.kind} {order.place}: {order.reason}"
    cordoned = await connection.execute(
        update(tables.nodes)
        .where(_is_inside(order), tables.nodes.c.cordon.is_(None))
        .values(cordon=Health.CORDONED, cordon_reason=reason, cordoned_by=order.id)
    )
    return cordoned.rowcount > 0


async def _uncordon(connection: AsyncConnection, id: str) -> None:
    given_back = {"cordon": None, "cordon_reason": None, "cordoned_by": None}
    await connection.execute(update(tables.nodes).where(tables.nodes.c.cordoned_by == id).values(**given_back))
    others = select(tables.evacuations.c.terms).where(tables.evacuations.c.ended_at.is_(None), tables.evacuations.c.id != id)
    for terms in list(await connection.scalars(others)):
        await _cordon(connection, EvacuationOrder.model_validate(terms))


async def _residents(connection: AsyncConnection, order: EvacuationOrder) -> list[Resident]:
    """The workloads with room in a place: claimed, or promised."""
    attempts, workloads, rooms = tables.attempts.c, tables.workloads.c, tables.allocations.c
    query = (
        select(workloads.id, workloads.tier, workloads.priority, attempts.bound_at, attempts.stop_at)
        .distinct()
        .select_from(tables.attempts)
        .join(tables.workloads, workloads.id == attempts.workload_id)
        .join(tables.allocations, rooms.attempt_id == attempts.id)
        .join(tables.nodes, tables.nodes.c.id == rooms.node_id)
        .where(attempts.ended_at.is_(None), attempts.follows.is_(None), rooms.phase != "released", _is_inside(order))
        .order_by(workloads.id)
    )
    return [
        Resident(row.id, SlaTier(row.tier), row.priority, row.bound_at is not None, row.stop_at is not None)
        for row in await connection.execute(query)
    ]
