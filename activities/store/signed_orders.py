"""Orders: which principal, whose signature was verified, ordered what and when; and what that was about."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.store import tables
from corral.api import OrderRecord
from corral.reservation import ReservationSpec
from corral.wire import reservation_workflow_id, workload_workflow_id
from domain.operations.mandates import Occasion

_LINES = text("""
    WITH RECURSIVE up AS (
        SELECT name AS leaf, name, parent, 0 AS height FROM queues WHERE name = ANY(:queues)
        UNION ALL SELECT up.leaf, q.name, q.parent, up.height + 1 FROM up JOIN queues q ON q.name = up.parent)
    SELECT leaf, array_agg(name ORDER BY height) AS line FROM up GROUP BY leaf""")


async def lines(connection: AsyncConnection, queues: Sequence[str]) -> list[list[str]]:
    """Each queue with those above it, up to its root; one that does not exist stands alone."""
    found = {row.leaf: list(row.line) for row in await connection.execute(_LINES, {"queues": list(queues)})}
    return [found.get(queue, [queue]) for queue in queues]


async def whereabouts(connection: AsyncConnection, subject: str) -> tuple[Sequence[str], str | None]:
    """The queues of a workload or a reservation, by the id of its workflow, and who submitted it, where that is known."""
    _, _, id = subject.partition("/")
    orders = tables.signed_orders.c
    if subject == workload_workflow_id(id):
        queue = await connection.scalar(select(tables.workloads.c.queue).where(tables.workloads.c.id == id))
        submitter = select(orders.principal).where(orders.command == "submit", orders.subject == subject).order_by(orders.id)
        return ([queue] if queue else []), await connection.scalar(submitter.limit(1))
    if subject == reservation_workflow_id(id):
        spec = await connection.scalar(select(tables.reservations.c.spec).where(tables.reservations.c.id == id))
        return (ReservationSpec.model_validate(spec).queues if spec else []), None
    return [], None


async def order(
    connection: AsyncConnection,
    principal: str,
    command: str,
    subject: str,
    request: str,
    run: str,
    occasion: Occasion | None = None,
) -> str:
    """Write an order down, unless the same request has been; answers with the run in which it came first."""
    values: dict[str, Any] = {"principal": principal, "command": command, "subject": subject, "request": request, "run": run}
    if occasion is not None:
        values |= {"mandate": occasion.mandate, "due_at": occasion.due_at}
    await connection.execute(insert(tables.signed_orders).values(**values).on_conflict_do_nothing())
    orders = tables.signed_orders.c
    first = await connection.scalar(
        select(orders.run).where(
            orders.command == command, orders.subject == subject, orders.request == request, orders.principal == principal
        )
    )
    return str(first)


async def is_ordered(connection: AsyncConnection, principal: str | None, command: str, subject: str, request: str) -> bool:
    """Whether an order is written down; without a principal, whoever gave it."""
    orders = tables.signed_orders.c
    query = select(orders.id).where(orders.command == command, orders.subject == subject, orders.request == request)
    if principal is not None:
        query = query.where(orders.principal == principal)
    return await connection.scalar(query.limit(1)) is not None


async def signers(connection: AsyncConnection, command: str, subject: str, request: str) -> set[str]:
    """The principals who gave an order by that request; none where commands are not signed."""
    orders = tables.signed_orders.c
    query = select(orders.principal).where(orders.command == command, orders.subject == subject, orders.request == request)
    return set(await connection.scalars(query))


async def listed(connection: AsyncConnection, subject: str | None, limit: int) -> list[OrderRecord]:
    """The newest orders, of all or of one subject."""
    query = select(tables.signed_orders).order_by(tables.signed_orders.c.id.desc()).limit(limit)
    if subject is not None:
        query = query.where(tables.signed_orders.c.subject == subject)
    return [
        OrderRecord(**{name: getattr(row, name) for name in OrderRecord.model_fields})
        for row in await connection.execute(query)
    ]
