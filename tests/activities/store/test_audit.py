"""Each rule of the audit finds what breaks it, and nothing else does."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import text

from activities.ports import Phase
from activities.store import migrations
from activities.store.audit import RULES, audit
from corral.api import SlaTier
from corral.reservation import ReservationSpec
from domain.decision import Change, Plan, Reshape
from domain.pool.leases import LeaseTerms
from domain.snapshot import Snapshot
from tests.activities.store.pool import Pool, a_spec, a_view, noon
from tests.builders import a_queue
from tests.servers import PostgresServer

HOUR = timedelta(hours=1)

REMNANT = "INSERT INTO remnants (attempt_id, notice, node_id, uses, cpu_milli, memory_mib, replicas, since)"
NOTHING = "SELECT attempt_id, -1, node_id, '{}', 0, 0, '[]', now()"
ITSELF = NOTHING.replace("'[]'", "replicas")
SUSPECT = "; UPDATE nodes SET suspect = 'why' WHERE id IN (SELECT node_id FROM remnants)"

BREACHES: dict[str, tuple[str, ...]] = {
    "what a node has in use is the sum of what is claimed on it": (
        "UPDATE nodes SET device_use[1] = 999 WHERE id = 'aws/n1'",
        "UPDATE nodes SET cpu_use = cpu_use + 1 WHERE id = 'aws/n1'",
        "UPDATE nodes SET memory_use = memory_use + 1 WHERE id = 'aws/n3'",
    ),
    "a node has as many replicas as are claimed on it, and no more than it takes": (
        "UPDATE nodes SET replica_use = replica_use + 1 WHERE id = 'aws/n1'",
        "UPDATE nodes SET maximum_replicas = 0 WHERE replica_use > 0",
    ),
    "an attempt has of each SKU what its allocations have": (
        "UPDATE attempts SET by_sku = '{\"h100\": 1}' WHERE id = 'runs.1'",
        "UPDATE allocations SET sku = 'a100' WHERE attempt_id = 'runs.1'",
    ),
    "no device, cpu or memory is claimed beyond what the node has": (
        "UPDATE allocations SET uses[1] = 1001 WHERE attempt_id = 'runs.1'",
        "UPDATE nodes SET cpu_milli = 1 WHERE cpu_use > 1",
        "UPDATE nodes SET memory_mib = 1 WHERE memory_use > 1",
    ),
    "a workload has at most one open attempt": (
        "UPDATE attempts SET ended_at = NULL WHERE id = 'again.1'; UPDATE allocations SET phase = 'claimed',"
        " uses = '{0,0,0,0}', cpu_milli = 0, memory_mib = 0 WHERE attempt_id = 'again.1'",
    ),
    "an attempt follows an open one of its workload that has notice to go on elsewhere or in another size": (
        "UPDATE attempts SET stop_as = NULL, stop_at = NULL WHERE id = 'moves.1'",
        "UPDATE attempts SET follows = 'runs.1' WHERE id = 'moves.2'",
    ),
    "an ended attempt has no capacity": (
        "UPDATE allocations SET phase = 'claimed', uses = '{0,0,0,0}', cpu_milli = 0, memory_mib = 0"
        " WHERE attempt_id = 'done.1'",
    ),
    "an ended attempt has no hold": ("UPDATE holds SET ended_at = NULL WHERE attempt_id = 'done.1'",),
    "an open attempt has capacity": ("UPDATE allocations SET phase = 'released' WHERE attempt_id = 'runs.1'",),
    "only an attempt that waits for its victims has promised capacity": (
        "UPDATE allocations SET phase = 'promised' WHERE attempt_id = 'runs.1'",
    ),
    "a workload with an open attempt is in a state that has one": (
        "UPDATE workloads SET state = 'waiting' WHERE id = 'runs'",
        "UPDATE workloads SET state = 'running' WHERE id = 'waits'",
    ),
    "a workload has ended exactly when its state says so": (
        "UPDATE workloads SET ended_at = NULL WHERE id = 'refused';"
        "UPDATE ledger SET ended_at = NULL WHERE workload_id = 'refused'",
        "UPDATE workloads SET state = 'waiting' WHERE id = 'refused'",
    ),
    "gangs are whole": ("UPDATE attempts SET replicas = 2 WHERE id = 'done.1'",),
    "a gang has at least its minimum": (
        "UPDATE workloads SET spec = jsonb_set(spec, '{groups,0,count}', '2') WHERE id = 'runs'",
        "UPDATE workloads SET spec = jsonb_set(spec, '{targets,0,count}', '2') WHERE id = 'aimed'",
    ),
    "no queue and no cohort exceeds its cap": (
        "UPDATE quotas SET cap = 4000, nominal = 0 WHERE queue = 'research'",
        "UPDATE quotas SET cap = 4000, nominal = 0 WHERE queue = 'company'",
    ),
    "a live workload has exactly one open interval in the ledger, an ended one has none": (
        "UPDATE ledger SET ended_at = began_at WHERE workload_id = 'waits'",
        "UPDATE ledger SET ended_at = NULL WHERE id = (SELECT max(id) FROM ledger WHERE workload_id = 'done')",
    ),
    "the intervals of a workload follow each other without gap or overlap": (
        "UPDATE ledger SET began_at = began_at + interval '1 s' WHERE workload_id = 'runs' AND ended_at IS NULL",
        "UPDATE ledger SET began_at = began_at - interval '1 s' WHERE workload_id = 'runs' AND ended_at IS NULL",
    ),
    "what ran is summed up as the ledger tells it": (
        "UPDATE flows SET milli = milli + 1 WHERE queue = 'research'",
        "UPDATE flows SET milli_moment = milli_moment - 1 WHERE queue = 'research'",
        "UPDATE flows SET cost_moment = cost_moment + 1 WHERE queue = 'research'",
        "DELETE FROM flows",
    ),
    "a settled charge sums to zero, and none of an ended attempt is left": (
        "UPDATE penalties SET milli_seconds = -1 WHERE workload_id = 'done' AND kind = 'settlement'",
        "DELETE FROM penalties WHERE workload_id = 'done' AND kind = 'settlement'",
        "DELETE FROM penalties WHERE workload_id = 'done' AND kind = 'charge'",
        "INSERT INTO penalties SELECT workload_id, epoch, sku, 'settlement', queue, 1 - milli_seconds FROM penalties"
        " WHERE workload_id = 'runs'",
    ),
    "epochs rise one by one": (
        "UPDATE workloads SET epoch = 2 WHERE id = 'runs'",
        "UPDATE attempts SET epoch = 2 WHERE id = 'runs.1'",
    ),
    "nobody is preempted twice for the same beneficiary": (
        "UPDATE attempts SET outcome = 'preempted', beneficiary = 'urgent.1' WHERE workload_id = 'again'",
    ),
    "states follow each other as the table of transitions says": (
        "INSERT INTO events (workload_id, at, kind, message)"
        " VALUES ('done', now(), 'running', ''), ('done', now(), 'succeeded', '')",
    ),
    "the last state told is the one that a workload is in": (
        "INSERT INTO events (workload_id, at, kind, message) VALUES ('runs', now(), 'stopping', '')",
    ),
    "a workload stops or is resized exactly while its attempt is on its way out, by a step of the table": (
        "UPDATE attempts SET leave = NULL WHERE id = 'moves.1'",
        "UPDATE attempts SET leave = 'noticed' WHERE id = 'runs.1'",
        "UPDATE attempts SET leave = 'dancing' WHERE id = 'moves.1'",
    ),
    "who is bound waits for nobody to leave": ("UPDATE attempts SET beneficiary = 'runs.1' WHERE id = 'moves.1'",),
    "a node is what its cluster is": (
        "UPDATE nodes SET reach = 'suspect' WHERE id = 'aws/n1'",
        "UPDATE clusters SET reach = 'suspect' WHERE name = 'eu-1'",
    ),
    "nobody has room in a lost cluster": (
        "UPDATE nodes SET reach = 'lost'; UPDATE clusters SET reach = 'lost', until = since, fenced_at = since",
    ),
    "what is left to release has ended": ("INSERT INTO unreleased VALUES ('runs.1', 'aws/eu/eu-1')",),
    "a node is suspect as long as work on it does not leave, and no longer": (
        "UPDATE attempts SET leave = 'stuck' WHERE id = 'moves.1'",
        "UPDATE nodes SET suspect = 'why not' WHERE id = (SELECT node_id FROM allocations WHERE attempt_id = 'runs.1')",
        f"{REMNANT} {NOTHING} FROM allocations WHERE attempt_id = 'runs.1'",
    ),
    "what does not leave is of an open attempt that was told to be without it, and is none of its replicas": (
        f"{REMNANT} {NOTHING} FROM allocations WHERE attempt_id = 'done.1'{SUSPECT}",
        f"{REMNANT} {NOTHING} FROM allocations WHERE attempt_id = 'runs.1'{SUSPECT}; UPDATE remnants SET notice = 9",
        f"{REMNANT} {ITSELF} FROM allocations WHERE attempt_id = 'runs.1'{SUSPECT}",
    ),
    "what is kept in an open window is used by those it is for, but for what a miss tells of": (
        "UPDATE reservations SET spec = spec || '{\"workloads\": []}' WHERE id = 'night'",
    ),
    "no node is kept for two reservations at once": ("UPDATE reservations SET nodes = '{aws/n2}' WHERE id = 'other'",),
    "who is over quota is entitled to nothing": ("UPDATE workloads SET over_quota = true WHERE id = 'runs'",),
}


@pytest.fixture(scope="module")
async def busy(postgres: PostgresServer) -> AsyncIterator[Pool]:
    """Workloads in every sort of state, in a cohort with a cap; no breach anywhere, and nobody leaves one."""
    url = await postgres.create_database()
    await migrations.upgrade(url)
    pool = Pool.at(url)
    await make_busy(pool)
    assert await pool.findings() == {}
    yield pool
    await pool.engine.dispose()


async def make_busy(pool: Pool) -> None:
    queues = [a_queue("company", 100, cap=100), a_queue("research", 100, parent="company", cap=100)]
    await pool.gets(*(a_view(f"n{number}", gpus=4) for number in (1, 2, 3, 4)), queues=queues)
    await pool.store.grant_leases("aws", LeaseTerms(HOUR, HOUR, HOUR, suspect_after=HOUR / 2))
    await pool.arrive(a_spec("moves", gpus=4, cpu_milli=10))
    await pool.runs("moves")
    await pool.arrive(a_spec("done", gpus=4, cpu_milli=10, memory_mib=10), a_spec("refused", queue="nobodys"))
    await pool.runs("done")
    pool.clock.move(10)
    await pool.ends("done")
    await pool.arrive(a_spec("again", gpus=4))
    await pool.runs("again")
    await pool.ends("again", Phase.LOST)
    await pool.plan()
    await pool.arrive(a_spec("runs", gpus=4, cpu_milli=10, memory_mib=10))
    await pool.arrive(a_spec("aimed", gpus=4, targets=({"skus": ("h100",), "count": 1},)))
    await pool.runs("again", "runs", "aimed")
    pool.clock.move(10)
    await pool.arrive(a_spec("waits", gpus=4, preemptible=False))
    await pool.adjusts("reprioritize", "aimed", priority=-10)
    await pool.arrive(a_spec("urgent", gpus=4, tier=SlaTier.PREMIUM))
    await pool.decided(_to_where_it_is)
    kept = {"start": noon(0), "seconds": 3600, "accelerators": 4, "sku": "h100", "workloads": ("runs", "again", "aimed")}
    for id in ("night", "other"):
        await pool.store.reserve(ReservationSpec.model_validate({"id": id, **kept}))
    await pool.sql("UPDATE reservations SET state = 'open', nodes = '{aws/n2}' WHERE id = 'night'")


def _to_where_it_is(snapshot: Snapshot) -> Plan:
    (moves,) = (active for active in snapshot.active if active.id == "moves")
    return Plan((), reshapes=(Reshape(moves.attempt_id, Change.MIGRATE, moves.placement),))


async def test_every_rule_has_a_breach_to_find() -> None:
    assert BREACHES.keys() == RULES.keys()


@pytest.mark.parametrize(("rule", "breach"), [(rule, breach) for rule, breaches in BREACHES.items() for breach in breaches])
async def test_a_breach_is_found_by_its_rule(busy: Pool, rule: str, breach: str) -> None:
    async with busy.engine.connect() as connection:
        for defence in await connection.scalars(text(_DEFENCES)):
            await connection.execute(text(defence))
        for statement in breach.split(";"):
            changed = await connection.execute(text(statement))
            assert changed.rowcount, statement
        found = {finding.rule for finding in await audit(connection)}
        await connection.rollback()
    assert rule in found
    assert found - {rule} <= ALSO_BROKEN.get(rule, set())


_TOLD = "the last state told is the one that a workload is in"
_BY_SKU = "an attempt has of each SKU what its allocations have"
ALSO_BROKEN = {
    "no device, cpu or memory is claimed beyond what the node has": {_BY_SKU},
    "a workload has at most one open attempt": {"an ended attempt has no capacity", "gangs are whole", _BY_SKU},
    "an ended attempt has no capacity": {_BY_SKU},
    "a workload with an open attempt is in a state that has one": {_TOLD},
    "a workload has ended exactly when its state says so": {_TOLD},
    "an open attempt has capacity": {"what a node has in use is the sum of what is claimed on it"},
}
"""Rules that cannot help but be broken along with another one."""

_DEFENCES = """
    SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname)
    FROM pg_constraint WHERE contype IN ('c', 'f') AND connamespace = 'public'::regnamespace
    UNION ALL SELECT format('DROP INDEX %I', indexname) FROM pg_indexes
    WHERE indexname IN ('uq_attempts_one_open', 'uq_ledger_one_open')
    UNION ALL SELECT 'ALTER TABLE attempts DROP CONSTRAINT uq_attempts_workload_id_epoch'"""
"""What keeps the database from being broken, but for the trigger that counts claims; all of it is put back by the rollback."""


async def test_only_the_first_breaches_of_a_rule_are_told(pool: Pool) -> None:
    await pool.gets(*(a_view(f"n{number}", gpus=1) for number in range(25)))
    await pool.sql("UPDATE nodes SET device_use = '{1}'")
    assert [len(where) for where in (await pool.findings()).values()] == [20]


async def test_a_finding_says_where(pool: Pool) -> None:
    await pool.gets(a_view(gpus=2))
    await pool.sql("UPDATE nodes SET device_use = '{0,250}'")
    assert await pool.findings() == {
        "what a node has in use is the sum of what is claimed on it": ["aws/n1 device 1: 250 in use, 0 claimed"]
    }
