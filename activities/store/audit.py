"""The invariants that must hold in the record at any moment, each as one query for what breaks it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from corral.api import State
from domain.pool.lifecycle import ON_ITS_WAY_OUT, SUSPECT, TRANSITIONS, Leave

FINDINGS_PER_RULE = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One breach: the rule in words, and where it is broken."""

    rule: str
    where: str


def _listed(values: Iterable[str]) -> str:
    return ", ".join(f"'{value}'" for value in values)


def _may_follow() -> str:
    """The table of transitions as rows of SQL: a state and one that may come after it."""
    pairs = [(before, after) for before, afters in TRANSITIONS.items() for after in (before, *sorted(afters))]
    return ", ".join(f"('{before}', '{after}')" for before, after in pairs)


_STATES_TOLD = f"""
    SELECT id, workload_id, CASE kind WHEN '{State.SUBMITTED}' THEN '{State.WAITING}' ELSE kind END AS kind
    FROM events WHERE kind IN ({_listed(State)})"""
"""Events that tell a state, in the order of their ids; what is submitted waits until the same transaction decides about it."""


LIFE: Mapping[str, str] = {
    "states follow each other as the table of transitions says": f"""
        SELECT workload_id || ': ' || before || ' was followed by ' || kind FROM (
            SELECT workload_id, kind, lag(kind) OVER (PARTITION BY workload_id ORDER BY id) AS before
            FROM ({_STATES_TOLD}) AS states) AS told
        WHERE before IS NOT NULL AND (before, kind) NOT IN (VALUES {_may_follow()})""",
    "the last state told is the one that a workload is in": f"""
        SELECT w.id || ': ' || w.state || ', told ' || told.kind FROM workloads w CROSS JOIN LATERAL (
            SELECT kind FROM ({_STATES_TOLD}) AS states WHERE workload_id = w.id ORDER BY id DESC LIMIT 1) AS told
        WHERE told.kind <> w.state""",
    "a workload stops or is resized exactly while its attempt is on its way out, by a step of the table": f"""
        SELECT a.id || ': ' || w.state || ', ' || coalesce(a.leave, 'stays')
        FROM attempts a JOIN workloads w ON w.id = a.workload_id
        WHERE a.ended_at IS NULL AND a.follows IS NULL
        AND ((w.state IN ({_listed(sorted(ON_ITS_WAY_OUT))})) <> (a.leave IS NOT NULL) OR a.leave NOT IN ({_listed(Leave)}))""",
    "who is bound waits for nobody to leave": """
        SELECT b.id || ' for ' || v.id FROM attempts v JOIN attempts b ON b.id = v.beneficiary
        WHERE v.ended_at IS NULL AND b.ended_at IS NULL AND b.bound_at IS NOT NULL""",
    "a node is suspect as long as work on it does not leave, and no longer": f"""
        SELECT n.id || ': ' || a.id || ' is ' || a.leave
        FROM nodes n JOIN allocations l ON l.node_id = n.id AND l.phase <> 'released'
        JOIN attempts a ON a.id = l.attempt_id AND a.ended_at IS NULL JOIN workloads w ON w.id = a.workload_id
        LEFT JOIN attempts f ON f.follows = a.id AND w.state = '{State.RESIZING}'
        LEFT JOIN allocations k ON k.attempt_id = f.id AND k.node_id = n.id
        WHERE n.suspect IS NULL AND a.leave IN ({_listed(sorted(SUSPECT))})
        AND NOT l.replicas <@ coalesce(k.replicas, '[]')
        UNION ALL
        SELECT n.id || ': replicas of ' || r.attempt_id FROM nodes n JOIN remnants r ON r.node_id = n.id WHERE n.suspect IS NULL
        UNION ALL
        SELECT n.id || ': ' || n.suspect FROM nodes n WHERE n.suspect IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM allocations l JOIN attempts a ON a.id = l.attempt_id
            WHERE l.node_id = n.id AND l.phase <> 'released' AND a.ended_at IS NULL
            AND (a.leave IS NOT NULL OR a.notice > 0 AND a.kept_at IS NULL))
        AND NOT EXISTS (SELECT 1 FROM remnants r WHERE r.node_id = n.id)""",
    "what does not leave is of an open attempt that was told to be without it, and is none of its replicas": """
        SELECT r.attempt_id || ' on ' || r.node_id FROM remnants r JOIN attempts a ON a.id = r.attempt_id
        WHERE a.ended_at IS NOT NULL OR a.notice <= r.notice OR EXISTS (
            SELECT 1 FROM allocations l, jsonb_array_elements(l.replicas) its, jsonb_array_elements(r.replicas) left_behind
            WHERE l.attempt_id = a.id AND (its -> 0, its -> 1) = (left_behind -> 0, left_behind -> 1))""",
    "a node is what its cluster is": """
        SELECT n.id || ': ' || coalesce(n.reach, 'reachable') || ', its cluster ' || c.reach
        FROM nodes n JOIN clusters c ON (c.provider, c.region, c.name) = (n.provider, n.region, n.cluster)
        WHERE coalesce(n.reach, 'reachable') <> c.reach""",
    "nobody has room in a lost cluster": """
        SELECT l.attempt_id || ' on ' || n.id FROM allocations l JOIN nodes n ON n.id = l.node_id
        WHERE l.phase <> 'released' AND n.reach IN ('lost', 'returned')""",
    "what is left to release has ended": """
        SELECT a.id || ' in ' || u.cluster_id FROM unreleased u JOIN attempts a ON a.id = u.attempt_id
        WHERE a.ended_at IS NULL""",
}
"""Rules about the tables of `domain.pool.lifecycle` and `domain.pool.leases`."""

_IN_USE = """
    SELECT node_id, uses, cpu_milli, memory_mib, replicas FROM allocations WHERE phase = 'claimed'
    UNION ALL SELECT node_id, uses, cpu_milli, memory_mib, replicas FROM remnants"""

RULES: Mapping[str, str] = {
    **LIFE,
    "what a node has in use is the sum of what is claimed on it": f"""
        WITH claimed AS (
            SELECT node_id, device, sum(milli) AS milli
            FROM ({_IN_USE}) AS l, unnest(uses) WITH ORDINALITY AS use(milli, device) GROUP BY node_id, device)
        SELECT n.id || ' device ' || use.device - 1 || ': ' || use.milli || ' in use, ' || coalesce(c.milli, 0) || ' claimed'
        FROM nodes n CROSS JOIN unnest(n.device_use) WITH ORDINALITY AS use(milli, device)
        LEFT JOIN claimed c ON c.node_id = n.id AND c.device = use.device
        WHERE use.milli <> coalesce(c.milli, 0)
        UNION ALL
        SELECT n.id || ': ' || n.cpu_use || ' cpu and ' || n.memory_use || ' memory in use, ' ||
               coalesce(sum(l.cpu_milli), 0) || ' and ' || coalesce(sum(l.memory_mib), 0) || ' claimed'
        FROM nodes n LEFT JOIN ({_IN_USE}) AS l ON l.node_id = n.id GROUP BY n.id
        HAVING n.cpu_use <> coalesce(sum(l.cpu_milli), 0) OR n.memory_use <> coalesce(sum(l.memory_mib), 0)""",
    "a node has as many replicas as are claimed on it, and no more than it takes": f"""
        SELECT n.id || ': ' || n.replica_use || ' counted, ' || coalesce(sum(jsonb_array_length(l.replicas)), 0) ||
               ' claimed, at most ' || coalesce(n.maximum_replicas::text, 'any number')
        FROM nodes n LEFT JOIN ({_IN_USE}) AS l ON l.node_id = n.id GROUP BY n.id
        HAVING n.replica_use <> coalesce(sum(jsonb_array_length(l.replicas)), 0) OR n.replica_use > n.maximum_replicas""",
    "an attempt has of each SKU what its allocations have": """
        WITH said AS (SELECT id, key AS sku, value::bigint AS milli FROM attempts, jsonb_each_text(by_sku)),
        had AS (
            SELECT attempt_id AS id, sku, sum(milli)::bigint AS milli FROM allocations, unnest(uses) AS use(milli)
            GROUP BY attempt_id, sku)
        SELECT id || ': ' || coalesce(said.milli, 0) || ' ' || sku || ', ' || coalesce(had.milli, 0) || ' allocated'
        FROM said FULL JOIN had USING (id, sku) WHERE coalesce(said.milli, 0) <> coalesce(had.milli, 0)""",
    "no device, cpu or memory is claimed beyond what the node has": """
        SELECT n.id || ': ' || n.device_use::text FROM nodes n
        WHERE 1000 < ANY (n.device_use) OR n.cpu_use > n.cpu_milli OR n.memory_use > n.memory_mib""",
    "a workload has at most one open attempt": """
        SELECT workload_id || ': ' || count(*) FROM attempts WHERE ended_at IS NULL AND follows IS NULL
        GROUP BY workload_id HAVING count(*) > 1""",
    "an attempt follows an open one of its workload that has notice to go on elsewhere or in another size": """
        SELECT f.id || ' follows ' || f.follows FROM attempts f
        LEFT JOIN attempts a ON a.id = f.follows AND a.workload_id = f.workload_id AND a.epoch = f.epoch - 1
        WHERE f.follows IS NOT NULL
        AND (a.id IS NULL OR a.ended_at IS NOT NULL OR coalesce(a.stop_as, '') NOT IN ('resized', 'migrated'))""",
    "an ended attempt has no capacity": """
        SELECT a.id || ' on ' || l.node_id || ': ' || l.phase
        FROM attempts a JOIN allocations l ON l.attempt_id = a.id WHERE a.ended_at IS NOT NULL AND l.phase <> 'released'""",
    "an ended attempt has no hold": """
        SELECT a.id FROM attempts a JOIN holds h ON h.attempt_id = a.id WHERE a.ended_at IS NOT NULL AND h.ended_at IS NULL""",
    "an open attempt has capacity": """
        SELECT a.id FROM attempts a WHERE a.ended_at IS NULL
        AND NOT EXISTS (SELECT 1 FROM allocations l WHERE l.attempt_id = a.id AND l.phase <> 'released')""",
    "only an attempt that waits for its victims has promised capacity": """
        SELECT a.id || ': ' || w.state FROM attempts a JOIN workloads w ON w.id = a.workload_id
        JOIN allocations l ON l.attempt_id = a.id
        WHERE l.phase = 'promised' AND a.follows IS NULL AND w.state <> 'reserving'""",
    "a workload with an open attempt is in a state that has one": """
        SELECT w.id || ': ' || w.state FROM workloads w
        LEFT JOIN attempts a ON a.workload_id = w.id AND a.ended_at IS NULL AND a.follows IS NULL
        WHERE (a.id IS NOT NULL) <> (w.state IN ('reserving', 'reserved', 'starting', 'running', 'resizing', 'stopping'))""",
    "a workload has ended exactly when its state says so": """
        SELECT id || ': ' || state FROM workloads
        WHERE (ended_at IS NOT NULL) <> (state IN ('succeeded', 'failed', 'cancelled', 'refused'))""",
    "gangs are whole": """
        SELECT a.id || ': ' || sum(jsonb_array_length(l.replicas)) || ' of ' || a.replicas || ' replicas'
        FROM attempts a JOIN allocations l ON l.attempt_id = a.id GROUP BY a.id, a.replicas
        HAVING sum(jsonb_array_length(l.replicas)) <> a.replicas""",
    "a gang has at least its minimum": """
        SELECT a.id || ': ' || placed.replicas || ' replicas of ' || (g ->> 'name') || ', at least ' || need.fewest
        FROM attempts a JOIN workloads w ON w.id = a.workload_id
        CROSS JOIN jsonb_array_elements(w.spec -> 'groups') WITH ORDINALITY AS gs(g, n)
        CROSS JOIN LATERAL (
            SELECT CASE WHEN gs.n = 1 AND a.target IS NOT NULL AND w.spec -> 'targets' -> a.target ->> 'count' IS NOT NULL
                        THEN (w.spec -> 'targets' -> a.target ->> 'count')::int
                        ELSE coalesce((g ->> 'minimum')::int, (g ->> 'count')::int) END AS fewest) AS need
        CROSS JOIN LATERAL (
            SELECT count(*) AS replicas FROM allocations l, jsonb_array_elements(l.replicas) r
            WHERE l.attempt_id = a.id AND r ->> 0 = g ->> 'name') AS placed
        WHERE a.ended_at IS NULL AND placed.replicas < need.fewest""",
    "no queue and no cohort exceeds its cap": """
        WITH RECURSIVE up AS (
            SELECT name AS leaf, name, parent FROM queues
            UNION ALL SELECT up.leaf, q.name, q.parent FROM up JOIN queues q ON q.name = up.parent),
        used AS (
            SELECT up.name, l.sku, sum(use.milli) AS milli
            FROM attempts a JOIN workloads w ON w.id = a.workload_id JOIN up ON up.leaf = w.queue
            JOIN allocations l ON l.attempt_id = a.id AND l.phase = 'claimed' CROSS JOIN unnest(l.uses) AS use(milli)
            WHERE a.follows IS NULL
            GROUP BY up.name, l.sku)
        SELECT used.name || ': ' || used.milli || ' of ' || max(q.cap) || ' ' || used.sku
        FROM used JOIN quotas q ON q.queue = used.name AND q.sku = used.sku
        WHERE q.cap IS NOT NULL GROUP BY used.name, used.sku, used.milli HAVING used.milli > max(q.cap)""",
    "a live workload has exactly one open interval in the ledger, an ended one has none": """
        SELECT w.id || ': ' || count(l.id) FROM workloads w LEFT JOIN ledger l ON l.workload_id = w.id AND l.ended_at IS NULL
        GROUP BY w.id, w.ended_at HAVING count(l.id) <> (CASE WHEN w.ended_at IS NULL THEN 1 ELSE 0 END)""",
    "the intervals of a workload follow each other without gap or overlap": """
        SELECT id || ' of ' || workload_id FROM (
            SELECT id, workload_id, began_at,
                   lag(ended_at) OVER (PARTITION BY workload_id ORDER BY id) AS before, row_number() OVER w AS n
            FROM ledger WINDOW w AS (PARTITION BY workload_id ORDER BY id)) AS i
        WHERE n > 1 AND before IS DISTINCT FROM began_at""",
    "what ran is summed up as the ledger tells it": """
        WITH told AS (
            SELECT queue, used.sku, sum(sign * used.milli::numeric) AS milli,
                   sum(sign * used.milli::numeric * floor(extract(epoch FROM at) * 1000)) AS moment,
                   sum(sign * (cost_by_sku ->> used.sku)::numeric * floor(extract(epoch FROM at) * 1000)) AS cost
            FROM (SELECT *, CASE sign WHEN 1 THEN began_at ELSE ended_at END AS at
                  FROM ledger CROSS JOIN (VALUES (1), (-1)) AS side(sign)) AS change
            CROSS JOIN LATERAL jsonb_each_text(allocated_by_sku) AS used(sku, milli)
            WHERE at IS NOT NULL GROUP BY queue, used.sku),
        summed AS (
            SELECT queue, sku, sum(milli) AS milli, sum(milli_moment + milli::numeric * hour * 3600000) AS moment,
                   sum(cost_moment + cost * hour * 3600000) AS cost FROM flows WHERE queue <> '' GROUP BY queue, sku)
        SELECT queue || ' ' || sku || ': ' || coalesce(told.milli, 0) || ' in the ledger, ' ||
               coalesce(summed.milli, 0) || ' summed up'
        FROM told FULL JOIN summed USING (queue, sku)
        WHERE (coalesce(told.milli, 0), coalesce(told.moment, 0), coalesce(told.cost, 0))
           <> (coalesce(summed.milli, 0), coalesce(summed.moment, 0), coalesce(summed.cost, 0))""",
    "a settled charge sums to zero, and none of an ended attempt is left": """
        SELECT p.workload_id || ' epoch ' || p.epoch || ' ' || p.sku || ': ' || sum(p.milli_seconds)
        FROM penalties p LEFT JOIN attempts a ON a.workload_id = p.workload_id AND a.epoch = p.epoch
        GROUP BY p.workload_id, p.epoch, p.sku
        HAVING sum(p.milli_seconds) <> 0
           AND (count(*) FILTER (WHERE p.kind = 'settlement') > 0 OR count(*) FILTER (WHERE a.ended_at IS NULL) = 0)""",
    "epochs rise one by one": """
        SELECT w.id || ': ' || w.epoch || ' epochs, ' || count(a.id) || ' attempts' FROM workloads w
        LEFT JOIN attempts a ON a.workload_id = w.id AND a.follows IS NULL GROUP BY w.id, w.epoch
        HAVING count(a.id) <> w.epoch OR coalesce(max(a.epoch), 0) <> w.epoch""",
    "nobody is preempted twice for the same beneficiary": """
        SELECT v.workload_id || ' for ' || b.workload_id FROM attempts v JOIN attempts b ON b.id = v.beneficiary
        WHERE v.outcome = 'preempted' GROUP BY v.workload_id, b.workload_id HAVING count(*) > 1""",
    "what is kept in an open window is used by those it is for, but for what a miss tells of": """
        WITH RECURSIVE up AS (
            SELECT name AS leaf, name, parent FROM queues
            UNION ALL SELECT up.leaf, q.name, q.parent FROM up JOIN queues q ON q.name = up.parent)
        SELECT r.id || ': ' || a.id || ' on ' || l.node_id
        FROM reservations r JOIN allocations l ON l.node_id = ANY (r.nodes) AND l.phase <> 'released'
        JOIN attempts a ON a.id = l.attempt_id JOIN workloads w ON w.id = a.workload_id
        WHERE r.state = 'open' AND a.ended_at IS NULL AND a.stop_at IS NULL AND a.follows IS NULL
          AND a.held_at < r.closes_at AND (r.missing = 0 OR (w.spec -> 'preemptible')::boolean)
          AND NOT (r.spec ->> 'lent' IS NOT DISTINCT FROM 'until-wanted' AND (w.spec -> 'preemptible')::boolean)
          AND NOT r.spec -> 'workloads' @> to_jsonb(w.id)
          AND NOT coalesce(r.spec -> 'tenants' @> (w.spec -> 'tenant'), false)
          AND NOT EXISTS (SELECT 1 FROM up WHERE up.leaf = w.queue AND r.spec -> 'queues' @> to_jsonb(up.name))""",
    "no node is kept for two reservations at once": """
        SELECT node || ': ' || a.id || ' and ' || b.id FROM reservations a JOIN reservations b ON a.id < b.id
        CROSS JOIN unnest(a.nodes) AS node
        WHERE a.ended_at IS NULL AND b.ended_at IS NULL AND node = ANY (b.nodes)
          AND a.opens_at < b.closes_at AND b.opens_at < a.closes_at
          AND a.spec ->> 'purpose' = 'capacity' AND b.spec ->> 'purpose' = 'capacity'""",
    "who is over quota is entitled to nothing": """
        SELECT l.workload_id || ': ' || l.entitled_milli FROM ledger l JOIN workloads w ON w.id = l.workload_id
        WHERE w.over_quota AND l.ended_at IS NULL AND l.entitled_milli > 0""",
}


async def audit(connection: AsyncConnection) -> list[Finding]:
    """Look for breaches of every rule; the first twenty of each."""
    findings: list[Finding] = []
    for rule, query in RULES.items():
        breaches = await connection.scalars(text(f"SELECT * FROM ({query}) AS breach LIMIT {FINDINGS_PER_RULE}"))
        findings.extend(Finding(rule, str(where)) for where in breaches)
    return findings
