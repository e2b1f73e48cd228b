"""Forgetting: what has ended long ago leaves the record, and the figures that add up stay what they were."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Table, TextClause, bindparam, delete, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.store import tables
from activities.store.bulk import among
from activities.store.figures import amounts_of

AT_ONCE = 5_000
"""Rows of a table that are looked at in one go, whatever the table has."""


@dataclass(frozen=True, slots=True)
class Horizon:
    """What ended before is forgotten: by the clock of the wall, and by the pool's."""

    wall: datetime
    pool: datetime


@dataclass(frozen=True, slots=True)
class Rule:
    """Rows of a table are forgotten that are older than the horizon by `age`, unless `kept` holds; both are SQL.

    Of a table that is `in_order` of age by its key, nothing behind a row that is too young is looked at. `figures` are those
    that its rows add to; `parts` are the tables with rows that go with them, and the columns that say so.
    """

    table: Table
    age: str
    key: str = "id"
    by_wall: bool = False
    in_order: bool = False
    kept: str = "false"
    figures: Sequence[str] = ()
    parts: Mapping[Table, str] = field(default_factory=dict)


_ID = "substr(subject, 1 + strpos(subject, '/'))"
_SUBJECTS = f"""
    EXISTS (SELECT FROM workloads AS w WHERE w.id = {_ID} AND (w.ended_at IS NULL OR w.ended_at >= :pool_horizon))
    OR EXISTS (SELECT FROM reservations AS r WHERE r.id = {_ID}) OR EXISTS (SELECT FROM orders AS o WHERE o.id = {_ID})
    OR EXISTS (SELECT FROM mandates AS m WHERE m.id IN (request, mandate))"""
_WATCHED_BESIDE = "EXISTS (SELECT FROM orders AS o WHERE o.ended_at IS NULL AND o.began_at < orders.ended_at)"

RULES = (
    Rule(tables.outbox, "written", by_wall=True, in_order=True, kept="delivered IS NULL"),
    Rule(
        tables.rounds,
        "at",
        in_order=True,
        kept="pool <> :pool",
        figures=("rounds", "round_decisions", "round_fallbacks"),
        parts={tables.decisions: "round_id"},
    ),
    Rule(tables.operations, "written", key="key", by_wall=True),
    # Harm is put down to roll-outs that were in force beside one that still is.
    Rule(tables.orders, "ended_at", kept=_WATCHED_BESIDE),
    Rule(
        tables.reservations,
        "ended_at",
        figures=("reservation_misses", "reservation_lent_accelerator_seconds"),
        parts={tables.misses: "reservation_id"},
    ),
    Rule(tables.mandates, "until", by_wall=True),
    # By it is known who submitted what is there, what was begun by right, and when a mandate was used.
    Rule(tables.signed_orders, "at", by_wall=True, in_order=True, kept=_SUBJECTS),
)
"""In this order: signed orders stay as long as what they are about."""


@dataclass
class Walk:
    """Goes through tables by their keys, a stretch at a time, again and again."""

    pool: str
    _behind: dict[str, Any] = field(default_factory=dict)

    async def step(self, connection: AsyncConnection, rule: Rule, horizon: Horizon) -> int:
        """Forget what is over of the next stretch of a table; answers how many rows of it that were."""
        looked = await self._look(connection, rule, horizon)
        is_at_end = len(looked) < AT_ONCE or (rule.in_order and not looked[-1].is_old)
        gone = await self._forget(connection, rule, [row.key for row in looked if row.is_old and not row.is_kept])
        if is_at_end:
            self._behind.pop(rule.table.name, None)
        else:
            self._behind[rule.table.name] = looked[-1].key
        return gone

    async def _look(self, connection: AsyncConnection, rule: Rule, horizon: Horizon) -> Sequence[Any]:
        first = 0 if isinstance(rule.table.c[rule.key].type, BigInteger) else ""
        values = {
            "behind": self._behind.get(rule.table.name, first),
            "most": AT_ONCE,
            "horizon": horizon.wall if rule.by_wall else horizon.pool,
            "pool_horizon": horizon.pool,
            "pool": self.pool,
        }
        return (await connection.execute(_stretch(rule), values)).all()

    async def _forget(self, connection: AsyncConnection, rule: Rule, keys: Sequence[Any]) -> int:
        if not keys:
            return 0
        column = rule.table.c[rule.key]
        # Another worker may be about the same rows, and they are to be added up once.
        mine = select(column).where(among(column, keys)).order_by(column).with_for_update(skip_locked=True)
        gone = list(await connection.scalars(mine))
        scope = {rule.table: rule.key, **rule.parts}
        for name in rule.figures:
            await _add_up(connection, self.pool, name, await amounts_of(connection, name, self.pool, scope, gone))
        for part, names in rule.parts.items():
            await connection.execute(delete(part).where(among(part.c[names], gone)))
        await connection.execute(delete(rule.table).where(among(column, gone)))
        return len(gone)


def _stretch(rule: Rule) -> TextClause:
    query = text(f"""
        SELECT {rule.key} AS key, coalesce({rule.age} < :horizon, false) AS is_old, {rule.kept} AS is_kept
        FROM {rule.table.name} WHERE {rule.key} > :behind ORDER BY {rule.key} LIMIT :most""")
    types = {"behind": rule.table.c[rule.key].type, "horizon": tables.Instant, "pool_horizon": tables.Instant}
    return query.bindparams(*(bindparam(name, type_=kind) for name, kind in types.items() if f":{name}" in query.text))


async def _add_up(connection: AsyncConnection, pool: str, figure: str, amounts: Mapping[tuple[str, ...], float]) -> None:
    for labels, amount in sorted(amounts.items()):
        added = insert(tables.bygones).values(pool=pool, figure=figure, labels=list(labels), amount=amount)
        total = tables.bygones.c.amount + added.excluded.amount
        await connection.execute(
            added.on_conflict_do_update(index_elements=["pool", "figure", "labels"], set_={"amount": total})
        )
