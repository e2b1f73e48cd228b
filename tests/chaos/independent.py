"""What must be so when all work has ended, asked of the tables alone, in plain SQL that shares nothing with Corral's code.

Each check is one query for what breaks it. Beside Corral's tables the queries read those of the schema `witness` (see
`tests.chaos.witness`): what was submitted, what every node was claimed for and when, which workflows are closed, and what the
provider has on record.
"""

from collections.abc import Mapping

import asyncpg

SIZES = """
    parts AS (
        SELECT d.attempt, d.kind, d.at, part ->> 'node' AS node, device::int AS device, sum((part ->> 'milli')::int) AS milli
        FROM witness.done d CROSS JOIN LATERAL jsonb_array_elements(d.body -> 'occupied') AS part
        CROSS JOIN LATERAL jsonb_array_elements_text(part -> 'devices') AS device
        WHERE d.kind IN ('launched', 'resized') GROUP BY d.attempt, d.kind, d.at, node, device),
    sizes AS (
        SELECT attempt, string_agg(node || ' ' || device || ': ' || milli, ', ' ORDER BY node, device) AS devices,
               sum(milli) AS milli
        FROM parts GROUP BY attempt, kind, at)"""
"""What the provider was told, one row each time, that an attempt has: at its launch, and when it went on in another size."""

CHECKS: Mapping[str, str] = {
    # Nobody is lost
    "what was submitted is in the record, and nothing else is": """
        SELECT coalesce(s.workload, w.id) || CASE WHEN w.id IS NULL THEN ' is missing' ELSE ' was never submitted' END
        FROM witness.submitted s FULL JOIN workloads w ON w.id = s.workload WHERE s.workload IS NULL OR w.id IS NULL""",
    "every workload is in a final state": """
        SELECT id || ' is ' || state FROM workloads
        WHERE state NOT IN ('succeeded', 'failed', 'cancelled', 'refused') OR ended_at IS NULL""",
    "every workload ended as it had to": """
        SELECT w.id || ' is ' || w.state || ', not ' || s.ends || ': ' || coalesce(w.outcome, '') ||
               coalesce(w.explanation ->> 'message', '')
        FROM workloads w JOIN witness.submitted s ON s.workload = w.id
        WHERE w.state <> s.ends AND NOT (s.may_be_cancelled AND w.state = 'cancelled')""",
    "every workflow is closed": """
        SELECT s.workload || ': ' || coalesce(c.status, 'no workflow') FROM witness.submitted s
        LEFT JOIN witness.closed c ON c.workload = s.workload WHERE c.workload IS NULL OR c.status = 'RUNNING'""",
    # Nobody is bound twice
    "no workload runs twice at once": """
        SELECT a.id || ' and ' || b.id FROM attempts a JOIN attempts b ON b.workload_id = a.workload_id AND b.epoch > a.epoch
        WHERE a.bound_at IS NOT NULL AND b.bound_at IS NOT NULL AND b.bound_at < coalesce(a.ended_at, 'infinity')""",
    "no workload has two open attempts": """
        SELECT workload_id || ': ' || count(*) FROM attempts WHERE ended_at IS NULL GROUP BY workload_id HAVING count(*) > 1""",
    "attempts are numbered one by one, up to the workload's epoch": """
        SELECT w.id || ': ' || array_agg(a.epoch ORDER BY a.epoch)::text || ' of ' || w.epoch
        FROM workloads w JOIN attempts a ON a.workload_id = w.id GROUP BY w.id, w.epoch
        HAVING array_agg(a.epoch ORDER BY a.epoch) <> array(SELECT generate_series(1, w.epoch))
        UNION ALL
        SELECT w.id || ': epoch ' || w.epoch || ' without an attempt' FROM workloads w
        WHERE w.epoch > 0 AND NOT EXISTS (SELECT FROM attempts a WHERE a.workload_id = w.id)""",
    # No device is over-committed
    "no device ever ran more than it has": """
        WITH change AS (
            SELECT l.node_id, use.device, moment.at, moment.sign * use.milli AS milli
            FROM attempts a JOIN allocations l ON l.attempt_id = a.id
            CROSS JOIN LATERAL unnest(l.uses) WITH ORDINALITY AS use(milli, device)
            CROSS JOIN LATERAL (VALUES (a.bound_at, 1), (coalesce(a.ended_at, 'infinity'), -1)) AS moment(at, sign)
            WHERE a.bound_at IS NOT NULL AND use.milli > 0  -- of several sizes only the last is known
              AND NOT EXISTS (SELECT FROM witness.claims was JOIN witness.claims c USING (attempt_id)
                              WHERE was.attempt_id = a.id AND was.sign < 0 AND c.sign > 0 AND c.id > was.id)),
        used AS (
            SELECT *, sum(milli) OVER (PARTITION BY node_id, device ORDER BY at, milli ROWS UNBOUNDED PRECEDING) AS total
            FROM change)
        SELECT node_id || ' device ' || device - 1 || ': ' || total || ' at ' || at FROM used WHERE total > 1000""",
    "no device was ever claimed for more than it has": """
        WITH used AS (
            SELECT c.node_id, use.device, c.id, sum(c.sign * use.milli) OVER (
                PARTITION BY c.node_id, use.device ORDER BY c.id ROWS UNBOUNDED PRECEDING) AS total
            FROM witness.claims c CROSS JOIN LATERAL unnest(c.uses) WITH ORDINALITY AS use(milli, device))
        SELECT node_id || ' device ' || device - 1 || ': ' || total || ' at claim ' || id FROM used
        WHERE total > 1000 OR total < 0""",
    "no cpu and no memory was ever claimed beyond what a node has": """
        WITH used AS (
            SELECT c.node_id, c.id,
                   sum(c.sign * c.cpu_milli) OVER (PARTITION BY c.node_id ORDER BY c.id ROWS UNBOUNDED PRECEDING) AS cpu,
                   sum(c.sign * c.memory_mib) OVER (PARTITION BY c.node_id ORDER BY c.id ROWS UNBOUNDED PRECEDING) AS memory
            FROM witness.claims c)
        SELECT u.node_id || ': ' || u.cpu || ' cpu, ' || u.memory || ' memory at claim ' || u.id
        FROM used u JOIN nodes n ON n.id = u.node_id
        WHERE u.cpu > n.cpu_milli OR u.memory > n.memory_mib OR u.cpu < 0 OR u.memory < 0""",
    "what is claimed is what the witness saw": """
        WITH seen AS (
            SELECT c.attempt_id, c.node_id, sum(c.sign) AS claims FROM witness.claims c GROUP BY c.attempt_id, c.node_id)
        SELECT coalesce(s.attempt_id, l.attempt_id) || ' on ' || coalesce(s.node_id, l.node_id)
        FROM seen s FULL JOIN (SELECT * FROM allocations WHERE phase = 'claimed') l
        ON l.attempt_id = s.attempt_id AND l.node_id = s.node_id
        WHERE coalesce(s.claims, 0) <> (l.attempt_id IS NOT NULL)::int""",
    # Limits
    "no queue and no cohort ever ran more than its cap": """
        WITH RECURSIVE up AS (
            SELECT name AS leaf, name, parent FROM queues
            UNION ALL SELECT up.leaf, q.name, q.parent FROM up JOIN queues q ON q.name = up.parent),
        change AS (
            SELECT up.name, used.key AS sku, moment.at, moment.sign * used.value::bigint AS milli
            FROM ledger l JOIN up ON up.leaf = l.queue CROSS JOIN LATERAL jsonb_each_text(l.allocated_by_sku) AS used
            CROSS JOIN LATERAL (VALUES (l.began_at, 1), (coalesce(l.ended_at, 'infinity'), -1)) AS moment(at, sign)),
        used AS (
            SELECT *, sum(milli) OVER (PARTITION BY name, sku ORDER BY at, milli ROWS UNBOUNDED PRECEDING) AS total
            FROM change)
        SELECT u.name || ' ' || u.sku || ': ' || max(u.total) || ' of ' || max(q.cap)
        FROM used u JOIN quotas q ON q.queue = u.name AND q.sku = u.sku GROUP BY u.name, u.sku
        HAVING max(u.total) > max(q.cap)""",
    # Gangs
    "an attempt has all of its replicas, once each": """
        SELECT a.id || ': ' || count(r.replica) || ' of ' || a.replicas
        FROM attempts a LEFT JOIN allocations l ON l.attempt_id = a.id
        LEFT JOIN LATERAL jsonb_array_elements(l.replicas) AS r(replica) ON true GROUP BY a.id, a.replicas
        HAVING count(r.replica) <> a.replicas
            OR count(DISTINCT (r.replica -> 0, r.replica -> 1)) <> a.replicas""",
    "an attempt has at least the fewest replicas of each group": """
        WITH need AS (
            SELECT a.id, g.spec ->> 'name' AS name, CASE
                WHEN g.n = 1 AND w.spec -> 'targets' -> a.target ->> 'count' IS NOT NULL
                THEN (w.spec -> 'targets' -> a.target ->> 'count')::int
                ELSE coalesce((g.spec ->> 'minimum')::int, (g.spec ->> 'count')::int) END AS fewest
            FROM attempts a JOIN workloads w ON w.id = a.workload_id
            CROSS JOIN LATERAL jsonb_array_elements(w.spec -> 'groups') WITH ORDINALITY AS g(spec, n)),
        have AS (
            SELECT l.attempt_id AS id, r.replica ->> 0 AS name, count(*) AS replicas
            FROM allocations l CROSS JOIN LATERAL jsonb_array_elements(l.replicas) AS r(replica) GROUP BY 1, 2)
        SELECT need.id || ' ' || need.name || ': ' || coalesce(have.replicas, 0) || ', at least ' || need.fewest
        FROM need LEFT JOIN have USING (id, name) WHERE coalesce(have.replicas, 0) < need.fewest""",
    "an array that succeeded ran every task, and no attempt's tasks count twice": """
        SELECT w.id || ': ' || w.tasks_done || ' of ' || (w.spec ->> 'tasks') || ', attempts finished ' ||
               coalesce(sum(a.replicas), 0)
        FROM workloads w LEFT JOIN attempts a ON a.workload_id = w.id AND a.outcome = 'finished'
        WHERE w.spec ->> 'tasks' IS NOT NULL GROUP BY w.id
        HAVING w.tasks_done <> coalesce(sum(a.replicas), 0)
            OR w.state = 'succeeded' AND w.tasks_done <> (w.spec ->> 'tasks')::int""",
    # Nothing leaks
    "no attempt is open": "SELECT id FROM attempts WHERE ended_at IS NULL OR outcome IS NULL OR follows IS NOT NULL",
    "no reservation is kept any more, and each window that opened short of something says why": """
        SELECT id || ': ' || state || ', ' || missing || ' missing' FROM reservations
        WHERE ended_at IS NULL OR missing > 0 AND cause = ''""",
    "whoever came to what is kept in an open window is one whom it is for, or may be preempted where it is lent": """
        WITH RECURSIVE up AS (
            SELECT name AS leaf, name, parent FROM queues
            UNION ALL SELECT up.leaf, q.name, q.parent FROM up JOIN queues q ON q.name = up.parent)
        SELECT e.reservation || ': ' || e.attempt_id
        FROM witness.entered e JOIN attempts a ON a.id = e.attempt_id JOIN workloads w ON w.id = a.workload_id
        WHERE NOT (e.spec ->> 'lent' = 'until-wanted' AND (w.spec ->> 'preemptible')::boolean)
          AND NOT e.spec -> 'workloads' ? w.id AND NOT coalesce(e.spec -> 'tenants' ? (w.spec ->> 'tenant'), false)
          AND NOT EXISTS (SELECT FROM up WHERE up.leaf = w.queue AND e.spec -> 'queues' ? up.name)""",
    "no operation is under way, and none has a node cordoned": """
        SELECT e.id || ': ' || e.state || ', ' || coalesce(n.id, 'no node') FROM orders e
        LEFT JOIN nodes n ON n.cordoned_by = e.id WHERE e.ended_at IS NULL OR n.id IS NOT NULL""",
    "a schedule has ordered something at each of its times, unless it says that it did not, and at no other": """
        SELECT s.schedule || ': ' || count(o.id) || ', not ' || s.to_be_ordered || ' to ' || s.due
        FROM witness.scheduled s LEFT JOIN orders o ON o.id LIKE s.schedule || '-%'
        GROUP BY s.schedule, s.to_be_ordered, s.due HAVING count(o.id) NOT BETWEEN s.to_be_ordered AND s.due""",
    "no hold is in force": "SELECT attempt_id FROM holds WHERE ended_at IS NULL",
    "no allocation is left": """
        SELECT attempt_id || ' on ' || node_id || ': ' || phase FROM allocations WHERE phase <> 'released'""",
    "every node is free": """
        SELECT id || ': ' || device_use::text || ', ' || cpu_use || ' cpu, ' || memory_use || ' memory, ' || replica_use
        FROM nodes WHERE 0 <> ANY (device_use) OR cpu_use <> 0 OR memory_use <> 0 OR replica_use <> 0""",
    "everybody was told everything": """
        SELECT workload_id || ': ' || (notice ->> 'state') FROM outbox WHERE delivered IS NULL""",
    "nothing is left at the provider": "SELECT attempt || ' was launched and is not forgotten' FROM witness.left_over",
    # Every effect once
    "no attempt was launched twice": """
        SELECT attempt || ': ' || count(*) FROM witness.done WHERE kind = 'launched' GROUP BY attempt HAVING count(*) > 1""",
    "no attempt got the same notice twice": """
        SELECT attempt || ': ' || body || ' ' || count(*) FROM witness.done WHERE kind = 'noticed'
        GROUP BY attempt, body HAVING count(*) > 1""",
    "what was launched was bound, and what ran was launched": """
        SELECT coalesce(a.id, d.attempt) || ': ' || coalesce(a.started_at::text, 'never ran') || ', ' ||
               CASE WHEN d.attempt IS NULL THEN 'never launched' ELSE 'launched' END
        FROM attempts a FULL JOIN (SELECT * FROM witness.done WHERE kind = 'launched') d ON d.attempt = a.id
        WHERE d.attempt IS NOT NULL AND a.bound_at IS NULL OR a.started_at IS NOT NULL AND d.attempt IS NULL""",
    "an attempt had at its provider exactly the devices that are booked for it": f"""
        WITH {SIZES},
        booked AS (
            SELECT a.id AS attempt, string_agg(
                       n.name || ' ' || use.device - 1 || ': ' || use.milli, ', ' ORDER BY n.name, use.device) AS devices
            FROM attempts a JOIN allocations l ON l.attempt_id = a.id JOIN nodes n ON n.id = l.node_id
            CROSS JOIN LATERAL unnest(l.uses) WITH ORDINALITY AS use(milli, device) WHERE use.milli > 0 GROUP BY a.id)
        SELECT s.attempt || ' had ' || string_agg(s.devices, ', then ') || ', booked are ' || coalesce(b.devices, 'none')
        FROM sizes s LEFT JOIN booked b ON b.attempt = s.attempt GROUP BY s.attempt, b.devices
        HAVING NOT coalesce(bool_or(s.devices = b.devices), false)
        -- Told to leave while it was to grow, it is booked for what it might have been given by then.
        AND NOT (coalesce(bool_or(string_to_array(b.devices, ', ') @> string_to_array(s.devices, ', ')), false) AND EXISTS (
            SELECT FROM (SELECT e.kind, e.message, lag(e.kind) OVER (ORDER BY e.id) AS before FROM events e
                         JOIN attempts a ON a.workload_id = e.workload_id AND a.bound_at <= e.at
                         WHERE a.id = s.attempt AND e.kind IN ('running', 'resizing', 'stopping')) AS told
            WHERE kind = 'stopping' AND before = 'resizing' AND message LIKE 'has notice to leave%'))""",
    "a launch came while its attempt was open": """
        SELECT a.id || ': bound ' || a.bound_at || ', launched ' || to_timestamp(d.at) || ', ended ' || a.ended_at
        FROM witness.done d JOIN attempts a ON a.id = d.attempt WHERE d.kind = 'launched'
        AND NOT to_timestamp(d.at)
            BETWEEN a.bound_at - interval '1 ms' AND coalesce(a.ended_at, 'infinity') + interval '1 ms'""",
    "no provider was asked for a device that it had given to another": """
        SELECT id || ': ' || reason FROM attempts WHERE reason LIKE '%is taken%'""",
    "a workload is submitted once, ends once, and begins once for each attempt that was bound": """
        WITH said AS (
            SELECT workload_id, count(*) FILTER (WHERE kind = 'submitted') AS submitted,
                   count(*) FILTER (WHERE kind = 'starting' AND message NOT LIKE 'keeps %') AS starting,
                   count(*) FILTER (WHERE kind IN ('succeeded', 'failed', 'cancelled', 'refused')) AS ended
            FROM events GROUP BY workload_id),
        bound AS (SELECT workload_id, count(bound_at) AS bound FROM attempts GROUP BY workload_id)
        SELECT w.id || ': submitted ' || coalesce(s.submitted, 0) || ', ended ' || coalesce(s.ended, 0) || ', starting ' ||
               coalesce(s.starting, 0) || ' of ' || coalesce(b.bound, 0)
        FROM workloads w LEFT JOIN said s ON s.workload_id = w.id LEFT JOIN bound b ON b.workload_id = w.id
        WHERE coalesce(s.submitted, 0) <> 1 OR coalesce(s.ended, 0) <> 1 OR coalesce(s.starting, 0) <> coalesce(b.bound, 0)""",
    # Ledgers
    "the ledger tells of every workload from its submission to its end, without gap or overlap": """
        SELECT w.id || ': ' || coalesce(min(l.began_at)::text, 'nothing') || ' to ' ||
               coalesce(max(l.ended_at)::text, 'nothing') || ', ' || coalesce(sum(l.ended_at - l.began_at)::text, 'nothing')
        FROM workloads w LEFT JOIN ledger l ON l.workload_id = w.id GROUP BY w.id
        HAVING count(*) FILTER (WHERE l.ended_at IS NULL) > 0 OR min(l.began_at) <> w.submitted_at
            OR sum(l.ended_at - l.began_at) IS DISTINCT FROM max(l.ended_at) - min(l.began_at)""",
    "an attempt is charged for what it had, as long as it was bound": f"""
        WITH {SIZES}
        SELECT a.id || ': ' || coalesce(sum(l.ended_at - l.began_at)::text, 'nothing') || ' of ' || a.ended_at - a.bound_at
        FROM attempts a LEFT JOIN ledger l ON l.attempt_id = a.id AND (l.allocated_milli = a.milli
            OR EXISTS (SELECT FROM sizes s WHERE s.attempt = a.id AND s.milli = l.allocated_milli))
        WHERE a.bound_at IS NOT NULL GROUP BY a.id
        HAVING coalesce(sum(l.ended_at - l.began_at), interval '0') <> a.ended_at - a.bound_at""",
    "nothing is charged that no attempt had": f"""
        WITH {SIZES}
        SELECT l.id || ' of ' || l.workload_id || ': ' || l.allocated_milli
        FROM ledger l LEFT JOIN attempts a ON a.id = l.attempt_id
        WHERE l.allocated_milli <> 0 AND (a.id IS NULL OR a.workload_id <> l.workload_id OR a.milli <> l.allocated_milli
            AND NOT EXISTS (SELECT FROM sizes s WHERE s.attempt = a.id AND s.milli = l.allocated_milli))""",
    "what was charged in advance is settled, once": """
        SELECT workload_id || ' epoch ' || epoch || ' ' || sku || ': ' || sum(milli_seconds) || ' in ' || count(*)
        FROM penalties GROUP BY workload_id, epoch, sku HAVING sum(milli_seconds) <> 0 OR count(*) <> 2""",
    "what flowed in has flowed out": """
        SELECT queue || ' ' || sku || ': ' || sum(milli) FROM flows WHERE queue <> '' GROUP BY queue, sku
        HAVING sum(milli) <> 0""",
    "what flowed is what the ledger tells": """
        WITH told AS (
            SELECT queue, used.key AS sku, sum(used.value::numeric * (
                       floor(extract(epoch FROM ended_at) * 1000) - floor(extract(epoch FROM began_at) * 1000))) AS used
            FROM ledger CROSS JOIN LATERAL jsonb_each_text(allocated_by_sku) AS used WHERE ended_at IS NOT NULL GROUP BY 1, 2),
        flowed AS (
            SELECT queue, sku, -sum(milli_moment + milli::numeric * hour * 3600000) AS used
            FROM flows WHERE queue <> '' GROUP BY queue, sku)
        SELECT queue || ' ' || sku || ': ' || coalesce(told.used, 0) || ' told, ' || coalesce(flowed.used, 0) || ' flowed'
        FROM told FULL JOIN flowed USING (queue, sku) WHERE coalesce(told.used, 0) <> coalesce(flowed.used, 0)""",
}

MOST_FINDINGS = 10


async def findings(connection: asyncpg.Connection) -> list[str]:
    """What is broken, as sentences; the first ten of each check."""
    found: list[str] = []
    for check, query in CHECKS.items():
        rows = await connection.fetch(f"SELECT * FROM ({query}) AS breach LIMIT {MOST_FINDINGS}")
        found += [f"{check}: {row[0]}" for row in rows]
    return found
