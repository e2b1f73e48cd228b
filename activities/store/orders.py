"""What operators ordered, of whatever kind, in the record: its terms, how far it is, and a trail of who did what and why.

Every step is found from the record itself, so that a step which is done again finds what the first has done.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.ports import NotAllowed, NotFound
from activities.store import signed_orders, tables
from corral.api import EvacuationOrder, EvacuationState, Model, OperationChange, OperationKind, OperationNote, OperationStatus
from corral.operating import beginning
from corral.rollout import RolloutOrder
from corral.signing import STARTS, STEERS
from corral.wire import Steering

Order = EvacuationOrder | RolloutOrder


class Progress(Model):
    """What the record knows of an operation of one kind; `needs` says why it has to be approved."""

    needs: str = ""

    @property
    def message(self) -> str:
        """How far it is, in words."""
        raise NotImplementedError

    @property
    def kept(self) -> dict[str, Any]:
        """As the record keeps it."""
        return self.model_dump(mode="json") | {"message": self.message}


AWAITING = EvacuationState.AWAITING
"""The same for every kind of operation."""

_COLUMNS = tables.orders.c


async def find(connection: AsyncConnection, order: Order) -> Row[Any] | None:
    """The row of an order that was written down already, locked; none where it was not.

    Raises:
        NotAllowed: the id belongs to another order.
    """
    query = select(tables.orders).where(_COLUMNS.id == order.id).with_for_update()
    row = (await connection.execute(query)).one_or_none()
    if row is not None and not _is_of(row, order):
        raise NotAllowed(f"id: {order.id!r} belongs to another operation; give this one an id of its own")
    return row


def _is_of(row: Row[Any], order: Order) -> bool:
    if (row.kind == OperationKind.EVACUATION) != isinstance(order, EvacuationOrder):
        return False
    return type(order).model_validate(row.terms) == order


async def write(
    connection: AsyncConnection,
    order: Order,
    kind: OperationKind,
    subject: str,
    note: OperationNote,
    *,
    due_at: datetime | None,
    progress: Progress,
    is_over: bool = False,
) -> Row[Any]:
    """Write an order down with its first state, unless that was done already; answers with its row, locked."""
    written = insert(tables.orders).values(
        id=order.id,
        kind=kind,
        subject=subject,
        terms=order.model_dump(mode="json"),
        state=note.state,
        began_at=note.at,
        due_at=due_at,
        ended_at=note.at if is_over else None,
        progress=progress.kept,
        trail=[note.model_dump(mode="json")],
    )
    await connection.execute(written.on_conflict_do_nothing())
    row = await find(connection, order)
    assert row is not None, "it has just been written"
    return row


async def locked(connection: AsyncConnection, id: str, *kinds: OperationKind) -> Row[Any]:
    """The row of an operation of one of these kinds, locked.

    Raises:
        NotFound: there is none.
    """
    query = select(tables.orders).where(_COLUMNS.id == id, _COLUMNS.kind.in_(kinds)).with_for_update()
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound(f"there is no {kinds[0]} {id!r}; `corral operations` lists what there is")
    return row


async def once(
    connection: AsyncConnection, row: Row[Any], verb: Steering, key: str, steer: Callable[[], Awaitable[Row[Any]]]
) -> Row[Any]:
    """Do what a request asks of an operation; where it was done already, whatever came of it, answer how that stands."""
    operations, key = tables.operations, f"operation/{row.id}:{verb}:{key}"
    if await connection.scalar(select(operations.c.key).where(operations.c.key == key)) is not None:
        return row
    row = await steer()
    await connection.execute(insert(operations).values(key=key, result={"state": row.state}))
    return row


async def people(connection: AsyncConnection, order: Order, change: OperationChange, key: str) -> tuple[set[str], set[str]]:
    """Who steers an operation by a request, and who ordered it, each by all names that they go by.

    They are the principals whose signatures were verified; where one of them gave none, both are also whom they say they are.
    """
    begins = beginning(order)
    who = await signed_orders.signers(connection, STEERS, begins.id, key)
    ordered_by = await signed_orders.signers(connection, STARTS[begins.workflow], begins.id, order.digest)
    if who and ordered_by:
        return who, ordered_by
    return who | {change.who}, ordered_by | {order.who}


async def changed(connection: AsyncConnection, row: Row[Any], values: Mapping[str, Any]) -> Row[Any]:
    """The row with these values, in a version of its own if any is new."""
    if all(getattr(row, name) == value for name, value in values.items()):
        return row
    statement = update(tables.orders).where(_COLUMNS.id == row.id).values(**values, version=row.version + 1)
    return (await connection.execute(statement.returning(*_COLUMNS))).one()


def becomes(row: Row[Any], note: OperationNote, *, is_over: bool = False) -> dict[str, Any]:
    """The values of an operation that comes to another state."""
    values = {"state": note.state, "trail": [*row.trail, note.model_dump(mode="json")]}
    return values | {"ended_at": note.at} if is_over else values


def fields(row: Row[Any], *names: str) -> dict[str, Any]:
    """What the status of an operation has of its row, with all that its progress knows."""
    own = {name: getattr(row, name) for name in ("state", "version", "began_at", "ended_at", "trail", *names)}
    return own | {name: value for name, value in row.progress.items() if name != "message"}


async def operations(connection: AsyncConnection, id: str | None, limit: int) -> list[OperationStatus]:
    """The newest operations of all kinds, those under way first, or the one of that id."""
    query = select(tables.orders).order_by(_COLUMNS.ended_at.is_not(None), _COLUMNS.began_at.desc(), _COLUMNS.id).limit(limit)
    if id is not None:
        query = query.where(_COLUMNS.id == id)
    return [_status(row) for row in await connection.execute(query)]


async def under_way(connection: AsyncConnection) -> list[Order]:
    """What was ordered and is not over yet, the oldest first."""
    query = select(tables.orders).where(_COLUMNS.ended_at.is_(None)).order_by(_COLUMNS.began_at, _COLUMNS.id)
    return [_order_of(row) for row in await connection.execute(query)]


def _order_of(row: Row[Any]) -> Order:
    model: type[Order] = EvacuationOrder if row.kind == OperationKind.EVACUATION else RolloutOrder
    return model.model_validate(row.terms)


def _status(row: Row[Any]) -> OperationStatus:
    names = ("id", "kind", "subject", "state", "version", "began_at", "due_at", "ended_at", "trail")
    said = {name: getattr(row, name) for name in names}
    terms, progress = row.terms, row.progress
    message = progress["needs"] if row.state == AWAITING else progress["message"]
    return OperationStatus(**said, who=terms["who"], reason=terms["reason"], message=message)
