"""Figures of the whole pool for those who watch over it: how things stand, and what has added up since the beginning.

Whichever worker is asked, the answer is the same: it is what the record says.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ARRAY, Double, Table, TextClause, bindparam, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.store import tables
from activities.store.changes import Moment, moment
from activities.store.snapshots import read_queues
from activities.store.views import used_by_queue, valid_quotas
from corral.api import WHOLE
from domain.quota.headroom import CONTROL_WINDOW
from domain.quota.tree import SkuClasses

Labels = tuple[str, ...]
Amounts = Mapping[Labels, float]
Figures = Mapping[str, Amounts]
"""Amounts by their labels, by the name of the figure."""

WAIT_BOUNDS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0, 259_200.0)
"""Seconds up to which waits are counted together."""

NO_TIME = datetime.min.replace(tzinfo=UTC)
"""Where the time does not matter."""

_TYPES: Mapping[str, Any] = {"now": tables.Instant, "window": tables.Instant, "bounds": ARRAY(Double)}


def _asking(sql: str) -> TextClause:
    return text(sql).bindparams(*(bindparam(name, type_=kind) for name, kind in _TYPES.items() if f":{name}" in sql))


STANDING: Mapping[str, TextClause] = {
    "workloads": _asking("""
        SELECT queue, tier, state, count(*) FROM workloads WHERE ended_at IS NULL GROUP BY 1, 2, 3"""),
    "waiting_workloads": _asking("""
        SELECT tier, coalesce(explanation->>'reason', 'PendingEvaluation'), count(*)
        FROM workloads WHERE ended_at IS NULL AND state = 'waiting' GROUP BY 1, 2"""),
    "longest_wait_seconds": _asking("""
        SELECT tier, extract(epoch FROM :now - min(submitted_at))
        FROM workloads WHERE ended_at IS NULL AND state = 'waiting' GROUP BY 1"""),
    "accelerators": _asking("""
        SELECT provider, region, cluster, sku, coalesce(cordon, CASE
                   WHEN reach IN ('lost', 'returned') THEN 'lost'
                   WHEN ready AND suspect IS NULL AND reach IS NULL THEN 'ready' ELSE 'suspect' END),
               sum(accelerators)
        FROM nodes WHERE given_back_at IS NULL GROUP BY 1, 2, 3, 4, 5"""),
    "used_accelerators": _asking("""
        SELECT provider, region, cluster, sku, sum((SELECT coalesce(sum(use), 0) FROM unnest(device_use) AS use)) / 1000.0
        FROM nodes WHERE given_back_at IS NULL GROUP BY 1, 2, 3, 4"""),
    "cluster_view_age_seconds": _asking("""
        SELECT DISTINCT nodes.provider, cluster, greatest(0, extract(epoch FROM :now - seen_at))
        FROM nodes JOIN providers ON providers.name = nodes.provider WHERE seen_at IS NOT NULL"""),
    "clusters": _asking("""
        SELECT provider, region, name, reach, 1 FROM clusters"""),
    "cluster_silence_seconds": _asking("""
        SELECT provider, region, name, greatest(0, extract(epoch FROM :now - heard_at))
        FROM clusters WHERE heard_at IS NOT NULL"""),
    "cluster_losses": _asking("""
        SELECT provider, region, name, losses FROM clusters"""),
    "reservation_misses": _asking("""
        SELECT kind, count(*) FROM misses GROUP BY 1"""),
    "reservation_lent_accelerator_seconds": _asking("""
        SELECT coalesce(sum(lent_milli_seconds
                   + lent * greatest(0, floor(extract(epoch FROM least(:now, closes_at) - lent_since)))), 0) / 1000.0
        FROM reservations"""),
    "unreleased_attempts": _asking("""
        SELECT clusters.provider, clusters.region, name, count(attempt_id)
        FROM clusters LEFT JOIN unreleased ON cluster_id = clusters.id GROUP BY 1, 2, 3"""),
    "held_accelerators": _asking("""
        SELECT CASE WHEN attempts.follows IS NOT NULL THEN 'next-shape' WHEN workloads.state = 'reserving' THEN 'victims-leave'
                    ELSE 'start' END, sum(attempts.milli) / 1000.0
        FROM attempts JOIN holds ON holds.attempt_id = attempts.id JOIN workloads ON workloads.id = attempts.workload_id
        WHERE attempts.ended_at IS NULL AND holds.ended_at IS NULL GROUP BY 1"""),
    "spend_rate_dollars_per_hour": _asking("""
        SELECT queue, sum(value::bigint) / 1e9
        FROM ledger, jsonb_each_text(cost_by_sku) WHERE ended_at IS NULL GROUP BY 1"""),
    "sla_attainment_ratio": _asking("""
        SELECT tier, greatest(0, sum(useful * seconds - lost)) / sum(entitled * seconds)
        FROM (SELECT tier, entitled, useful,
                     greatest(0, extract(epoch FROM least(ended_at, :now) - greatest(began_at, :window))) AS seconds,
                     CASE WHEN ended_at > :window AND ended_at <= :now AND allocated_milli > 0
                          THEN lost_milli_seconds * useful::numeric / allocated_milli ELSE 0 END AS lost
              FROM (SELECT *, CASE WHEN kind IN ('suspended', 'backing-off') THEN 0 ELSE entitled_milli END AS entitled,
                           CASE WHEN kind = 'running' THEN least(allocated_milli, entitled_milli) ELSE 0 END AS useful
                    FROM ledger WHERE ended_at IS NULL OR ended_at > :window) AS kinds) AS stretches
        GROUP BY 1 HAVING sum(entitled * seconds) > 0"""),
    "round_optimality_gap": _asking("""
        SELECT (quality->>'gap')::float FROM rounds WHERE pool = :pool AND quality IS NOT NULL ORDER BY id DESC LIMIT 1"""),
    "provisioned_nodes": _asking("""
        SELECT node_pool, CASE WHEN ready AND cordon IS NULL AND suspect IS NULL THEN 'ready' ELSE 'leaving' END, count(*)
        FROM nodes WHERE node_pool IS NOT NULL AND given_back_at IS NULL GROUP BY 1, 2
        UNION ALL SELECT node_pool, 'coming', sum(nodes - (SELECT count(*) FROM nodes WHERE provisioning = provisionings.id))
        FROM provisionings WHERE ended_at IS NULL GROUP BY 1"""),
    "wanted_nodes": _asking("""
        SELECT id, (course->>'wanted')::integer FROM node_pools WHERE course IS NOT NULL"""),
    "provisioned_dollars_per_hour": _asking("""
        SELECT node_pool, sum(price * accelerators) / 1e6
        FROM nodes WHERE node_pool IS NOT NULL AND given_back_at IS NULL GROUP BY 1"""),
    "outbox_undelivered": _asking("""
        SELECT count(*) FROM outbox WHERE delivered IS NULL"""),
    "outbox_lag_seconds": _asking("""
        SELECT coalesce(extract(epoch FROM clock_timestamp() - min(written)), 0) FROM outbox WHERE delivered IS NULL"""),
}
"""How things stand: of each row the last column is the amount, and all others are its labels."""

_ENDED = """
    FROM attempts JOIN workloads ON workloads.id = workload_id
    WHERE attempts.changed >= :since AND attempts.ended_at IS NOT NULL"""
_ROUNDS = "FROM rounds{} WHERE pool = :pool AND changed >= :since"
_WAITS = """
    FROM (SELECT attempts.ended_at IS NOT NULL AND attempts.changed < :oldest AS settled, tier,
                 extract(epoch FROM bound_at - submitted_at)::float AS seconds
          FROM attempts JOIN workloads ON workloads.id = workload_id
          WHERE (attempts.changed >= :since OR attempts.ended_at IS NULL) AND bound_at IS NOT NULL AND NOT EXISTS (
              SELECT FROM attempts AS earlier WHERE earlier.workload_id = attempts.workload_id
              AND earlier.epoch < attempts.epoch AND earlier.bound_at IS NOT NULL)) AS first"""

TOTALS: Mapping[str, TextClause] = {
    "attempts_ended": _asking(f"""
        SELECT attempts.changed < :oldest, provider, tier, attempts.outcome, count(*) {_ENDED} GROUP BY 1, 2, 3, 4"""),
    "preemptions": _asking(f"""
        SELECT attempts.changed < :oldest, tier, attempts.outcome, count(*) {_ENDED}
        AND attempts.outcome IN ('preempted', 'stopped', 'resized', 'migrated', 'drained') GROUP BY 1, 2, 3"""),
    "lost_accelerator_seconds": _asking(f"""
        SELECT attempts.changed < :oldest, tier, attempts.outcome, sum(lost_milli_seconds) / 1000.0 {_ENDED}
        AND lost_milli_seconds > 0 GROUP BY 1, 2, 3"""),
    "provider_stockouts": _asking(f"""
        SELECT attempts.changed < :oldest, provider, count(*) {_ENDED}
        AND attempts.outcome = 'refused-by-provider' GROUP BY 1, 2"""),
    "waits": _asking(f"""
        SELECT settled, tier, (SELECT count(*)::text FROM unnest(:bounds) AS bound WHERE bound < seconds), count(*)
        {_WAITS} GROUP BY 1, 2, 3"""),
    "waited_seconds": _asking(f"SELECT settled, tier, sum(seconds) {_WAITS} GROUP BY 1, 2"),
    "rounds": _asking(f"SELECT changed < :oldest, trigger, count(*) {_ROUNDS.format('')} GROUP BY 1, 2"),
    "round_decisions": _asking(f"""
        SELECT changed < :oldest, kind, sum(number) {_ROUNDS.format('''
            CROSS JOIN LATERAL (VALUES ('considered', considered), ('started', started), ('preempted', preempted),
                ('refused', refused), ('reshaped', reshaped), ('stopped', stopped),
                ('improved', coalesce((quality->>'improved')::integer, 0))) AS counted (kind, number)''')} GROUP BY 1, 2"""),
    "round_fallbacks": _asking(f"""
        SELECT changed < :oldest, quality->>'fallback', count(*) {_ROUNDS.format('')}
        AND quality->>'fallback' IS NOT NULL GROUP BY 1, 2"""),
}  # fmt: skip
"""What has added up: the first column says whether nothing will change in it any more, the last one is the amount."""


async def amounts_of(
    connection: AsyncConnection, figure: str, pool: str, scope: Mapping[Table, str], keys: Sequence[object]
) -> Amounts:
    """What rows alone have added to a figure, in which nothing will change any more: of each table those with these keys."""
    only = ", ".join(f"{table.name} AS (SELECT * FROM {table.name} WHERE {key} = ANY(:keys))" for table, key in scope.items())
    query = text(f"WITH {only} {(TOTALS if figure in TOTALS else STANDING)[figure].text}")
    table, key = next(iter(scope.items()))
    types = {**_TYPES, "keys": ARRAY(table.c[key].type)}
    query = query.bindparams(*(bindparam(name, type_=kind) for name, kind in types.items() if f":{name}" in query.text))
    values = {"keys": list(keys), "pool": pool, "since": 0, "oldest": 0, "now": NO_TIME, "bounds": list(WAIT_BOUNDS)}
    rows = await _rows(connection, query, values)
    return _added({}, (row[1:] for row in rows) if figure in TOTALS else rows)


async def _bygones(connection: AsyncConnection, pool: str) -> Mapping[str, Amounts]:
    """What rows have added that are forgotten since, by figure."""
    columns = tables.bygones.c
    found: dict[str, dict[Labels, float]] = {}
    for row in await connection.execute(select(tables.bygones).where(columns.pool == pool)):
        found.setdefault(row.figure, {})[tuple(row.labels)] = row.amount
    return found


@dataclass
class FigureReader:
    """Reads figures; of what has added up, only rows are read that an earlier reading may not have seen settled."""

    pool: str
    _settled: Figures = field(default_factory=dict)
    _moment: Moment | None = None

    async def read(self, connection: AsyncConnection, now: datetime, classes: SkuClasses) -> Figures:
        """All figures at the snapshot of a repeatable-read transaction. Seconds are the pool's; the outbox's are the wall's."""
        values = {"now": now, "window": now - CONTROL_WINDOW, "pool": self.pool}
        bygones = await _bygones(connection, self.pool)
        standing = {
            name: _added(bygones.get(name, {}), await _rows(connection, query, values)) for name, query in STANDING.items()
        }
        return {**standing, **await _quotas(connection, now, classes), **await self._totals(connection, bygones)}

    async def _totals(self, connection: AsyncConnection, bygones: Figures) -> Figures:
        here = await moment(connection, self.pool)
        since = here.since(self._moment)
        values = {"since": since, "oldest": here.oldest, "pool": self.pool, "bounds": list(WAIT_BOUNDS)}
        settled: dict[str, Amounts] = {}
        totals: dict[str, Amounts] = {}
        for name, query in TOTALS.items():
            new = await _rows(connection, query, values)
            # Whoever has counted rows before they were forgotten has them in what is settled.
            known = (self._settled if since else bygones).get(name, {})
            settled[name] = _added(known, (row[1:] for row in new if row[0]))
            totals[name] = _added(settled[name], (row[1:] for row in new if not row[0]))
        self._settled, self._moment = settled, here
        return totals


async def _quotas(connection: AsyncConnection, now: datetime, classes: SkuClasses) -> Figures:
    tree = await read_queues(connection)
    used = {key: milli / WHOLE for key, milli in (await used_by_queue(connection, tree, classes)).items()}
    quotas = [(queue.name, quota) for queue in tree for quota in valid_quotas(queue, now)]
    nominal = {(queue, quota.sku): float(quota.nominal) for queue, quota in quotas}
    return {
        "queue_nominal_accelerators": {(queue, sku): own for (queue, sku), own in nominal.items()},
        "queue_cap_accelerators": {(queue, quota.sku): float(quota.cap) for queue, quota in quotas if quota.cap is not None},
        "queue_used_accelerators": {(queue, sku): amount for (queue, sku), amount in used.items()},
        "queue_borrowed_accelerators": {(q, sku): max(0.0, used.get((q, sku), 0.0) - own) for (q, sku), own in nominal.items()},
    }


async def _rows(connection: AsyncConnection, query: TextClause, values: Mapping[str, object]) -> Sequence[Sequence[Any]]:
    return (await connection.execute(query, values)).all()


def _added(amounts: Amounts, rows: Iterable[Sequence[Any]]) -> Amounts:
    """The amounts with those of rows added, each of which are labels and an amount."""
    total = dict(amounts)
    for *labels, amount in rows:
        key = tuple(map(str, labels))
        total[key] = total.get(key, 0.0) + float(amount)
    return total
