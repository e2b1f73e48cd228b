"""Mandates in the record: what was signed for which schedule, until when, and whether it was revoked."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.ports import NotAllowed, NotFound
from activities.store import tables
from corral.schedule import MandateStatus, Revocation, ScheduleSpec
from corral.signing import MANDATE
from domain.operations.mandates import Mandate

_COLUMNS = tables.mandates.c
_ORDERS = tables.signed_orders.c


async def write(connection: AsyncConnection, spec: ScheduleSpec, now: datetime) -> MandateStatus:
    """Write a mandate down, unless it is already; `now` is by the clock of the wall.

    Raises:
        NotAllowed: it was revoked.
    """
    values = {"id": spec.mandate, "pool": spec.pool, "schedule": spec.id, "terms": spec.model_dump(mode="json")}
    written = insert(tables.mandates).values(**values, until=spec.until, signed_at=now)
    await connection.execute(written.on_conflict_do_nothing())
    (status,) = await statuses(connection, str(spec.pool), id=spec.mandate)
    if status.revoked_at is not None:
        raise NotAllowed(f"mandate {spec.mandate!r} was revoked ({status.revoked_because}); sign the schedule with another end")
    return status


async def find(connection: AsyncConnection, pool: str, id: str, longest: timedelta) -> Mandate | None:
    """The mandate of that id in a pool, or none; `longest` is how long one may last."""
    query = select(tables.mandates).where(_COLUMNS.id == id, _COLUMNS.pool == pool)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    by = f" by {row.revoked_by}" if row.revoked_by else ""
    at = f"{row.revoked_at:%Y-%m-%dT%H:%M:%S%z}" if row.revoked_at else ""
    revoked = f"it was revoked at {at}{by}: {row.revoked_because}" if at else ""
    return Mandate(ScheduleSpec.model_validate(row.terms), row.signed_at, longest, revoked)


async def revoke(connection: AsyncConnection, pool: str, order: Revocation) -> list[MandateStatus]:
    """Take back the mandate of an id, or those of a schedule; one that was taken back already stays as it is.

    Raises:
        NotFound: there is no mandate of that id.
    """
    which = _COLUMNS.id == order.mandate if order.mandate is not None else _COLUMNS.schedule == order.schedule
    values = {"revoked_at": func.clock_timestamp(), "revoked_by": order.who, "revoked_because": order.reason}
    statement = update(tables.mandates).where(which, _COLUMNS.pool == pool, _COLUMNS.revoked_at.is_(None)).values(**values)
    await connection.execute(statement)
    found = await statuses(connection, pool, id=order.mandate, schedule=order.schedule)
    if order.mandate is not None and not found:
        raise NotFound(f"there is no mandate {order.mandate!r}; `corral schedule mandates` lists them")
    return found


async def statuses(
    connection: AsyncConnection, pool: str, *, id: str | None = None, schedule: str | None = None, limit: int = 1_000
) -> list[MandateStatus]:
    """The newest mandates of a pool, or the one of that id, or those of that schedule."""
    signed = select(_ORDERS.principal).where(_ORDERS.command == MANDATE, _ORDERS.request == _COLUMNS.id)
    last = select(func.max(_ORDERS.due_at)).where(_ORDERS.mandate == _COLUMNS.id)
    query = select(
        tables.mandates,
        signed.order_by(_ORDERS.id).limit(1).scalar_subquery().label("principal"),
        last.scalar_subquery().label("last_due_at"),
    ).where(_COLUMNS.pool == pool)
    if id is not None:
        query = query.where(_COLUMNS.id == id)
    if schedule is not None:
        query = query.where(_COLUMNS.schedule == schedule)
    rows = await connection.execute(query.order_by(_COLUMNS.signed_at.desc(), _COLUMNS.id).limit(limit))
    return [_status(row) for row in rows]


def _status(row: Row[Any]) -> MandateStatus:
    names = ("id", "schedule", "signed_at", "until", "last_due_at", "revoked_at", "revoked_by", "revoked_because")
    subject = ScheduleSpec.model_validate(row.terms).subject
    return MandateStatus(subject=subject, principal=row.principal or "", **{name: getattr(row, name) for name in names})
