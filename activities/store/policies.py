"""Policies in the record: every one that was ever applied, of which the newest of a pool is in force."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.store import tables
from corral.policy import Policy, PolicyOrder, PolicyRecord

_COLUMNS = tables.policies.c


@dataclass
class PolicyReader:
    """Tells which policy of a pool is in force: `unwritten` until one is recorded. Parses a document once."""

    pool: str
    unwritten: Policy
    _known: PolicyRecord | None = None

    async def in_force(self, connection: AsyncConnection) -> Policy:
        """The policy in force at the transaction's snapshot."""
        record = await self.record(connection)
        return record.policy if record else self.unwritten

    async def record(self, connection: AsyncConnection) -> PolicyRecord | None:
        """The same with its version, or none while nothing is recorded."""
        version = await connection.scalar(select(func.max(_COLUMNS.version)).where(_COLUMNS.pool == self.pool))
        if version is None:
            return None
        if self._known is None or self._known.version != version:
            rows = await connection.execute(select(tables.policies).where(_COLUMNS.version == version))
            self._known = record_of(rows.one())
        return self._known


async def history(connection: AsyncConnection, pool: str, limit: int) -> list[PolicyRecord]:
    """The policies of a pool, the one in force first."""
    query = select(tables.policies).where(_COLUMNS.pool == pool).order_by(_COLUMNS.version.desc()).limit(limit)
    return [record_of(row) for row in await connection.execute(query)]


async def write(connection: AsyncConnection, pool: str, order: PolicyOrder, now: datetime) -> PolicyRecord:
    """Put a policy in force. A trigger counts it as an edit, so that whatever is remembered of the last one is read again."""
    values = {"pool": pool, "digest": order.policy.digest, "document": order.policy.document, "applied_at": now}
    rows = await connection.execute(
        insert(tables.policies).values(values | {"who": order.who, "why": order.why}).returning(*tables.policies.c)
    )
    return record_of(rows.one())


def record_of(row: Row[Any]) -> PolicyRecord:
    """A policy as the record keeps it, from its row."""
    return PolicyRecord(
        version=row.version,
        digest=row.digest,
        policy=Policy.model_validate(row.document),
        applied_at=row.applied_at,
        who=row.who,
        why=row.why,
    )
