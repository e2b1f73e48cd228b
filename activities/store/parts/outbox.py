"""The outbox: what workflows are to be told, until they have been."""

from collections.abc import Sequence

from sqlalchemy import func, select, update

from activities.answers import Notice
from activities.store import tables
from activities.store.bulk import among
from activities.store.parts.transactions import Transactions
from activities.store.rows import from_json


class Outbox(Transactions):
    """Keeps what workflows are to be told."""

    async def delivered(self, notices: Sequence[Notice]) -> None:
        """Note that workflows have been told."""
        if notices:
            async with self._engine.begin() as connection:
                await connection.execute(
                    update(tables.outbox)
                    .where(among(tables.outbox.c.id, [notice.id for notice in notices]))
                    .values(delivered=func.clock_timestamp())
                )

    async def undelivered(self, older_than_seconds: float, limit: int = 500) -> list[Notice]:
        """What was to be told some time ago, and may not have been."""
        columns, trace = tables.outbox.c, tables.workloads.c.trace
        age = func.make_interval(0, 0, 0, 0, 0, 0, older_than_seconds)
        query = (
            select(columns.id, columns.notice, trace, columns.round)
            .join(tables.workloads)
            .where(columns.delivered.is_(None), columns.written < func.clock_timestamp() - age)
            .order_by(columns.id)
            .limit(limit)
        )
        async with self._engine.connect() as connection:
            return [Notice(row.id, from_json(row.notice), row.trace, row.round) for row in await connection.execute(query)]
