"""The independent check finds each kind of corruption, one row at a time, in a record that is sound without it."""

from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from corral.api import Cordon, EvacuationOrder, PlaceKind, ReplicaGroup, State
from corral.reservation import ReservationSpec
from tests.chaos import witness
from tests.chaos.independent import CHECKS, findings
from tests.end_to_end.loads import a_gang, a_workload, behaving
from tests.end_to_end.pools import QUEUES, LivePool, eventually, running_pool
from tests.servers import PostgresServer

LOAD = (
    (a_gang("seen-gang", 20), State.SUCCEEDED),
    (a_workload("seen-single", groups=(ReplicaGroup(accelerators=2, cpu_milli=500),)), State.SUCCEEDED),
    (a_workload("seen-array", tasks=5, parameters=behaving(10)), State.SUCCEEDED),
    (a_workload("seen-failing", retries=1, parameters=behaving(10, exit_code=3)), State.FAILED),
    (a_workload("seen-astray", queue="nowhere"), State.REFUSED),
)

UNBOUND = "DROP INDEX uq_attempts_one_open;"
AGAIN = "INSERT INTO witness.done SELECT * FROM witness.done WHERE attempt = 'seen-single.1' AND kind = 'launched'"
CLAIM = "INSERT INTO witness.claims (attempt_id, node_id, sign, uses, cpu_milli, memory_mib)"

CORRUPTIONS: tuple[tuple[str, str], ...] = (
    (
        "what was submitted is in the record, and nothing else is",
        "DELETE FROM witness.submitted WHERE workload = 'seen-single'",
    ),
    (
        "what was submitted is in the record, and nothing else is",
        "INSERT INTO witness.submitted VALUES ('seen-by-nobody', 'succeeded', false)",
    ),
    ("every workload is in a final state", "UPDATE workloads SET state = 'running' WHERE id = 'seen-single'"),
    ("every workload is in a final state", "UPDATE workloads SET ended_at = NULL WHERE id = 'seen-single'"),
    ("every workload ended as it had to", "UPDATE workloads SET state = 'cancelled' WHERE id = 'seen-single'"),
    ("every workflow is closed", "UPDATE witness.closed SET status = 'RUNNING' WHERE workload = 'seen-single'"),
    ("every workflow is closed", "DELETE FROM witness.closed WHERE workload = 'seen-single'"),
    (
        "no workload runs twice at once",
        "UPDATE attempts a SET ended_at = o.ended_at FROM attempts o WHERE a.id = 'seen-failing.1' AND o.id = 'seen-failing.2'",
    ),
    ("no workload has two open attempts", f"{UNBOUND} UPDATE attempts SET ended_at = NULL WHERE workload_id = 'seen-failing'"),
    (
        "attempts are numbered one by one, up to the workload's epoch",
        "UPDATE attempts SET epoch = 7 WHERE id = 'seen-failing.2'",
    ),
    (
        "attempts are numbered one by one, up to the workload's epoch",
        "UPDATE workloads SET epoch = 1 WHERE id = 'seen-astray'",
    ),
    (
        "no device ever ran more than it has",
        "UPDATE allocations l SET node_id = o.node_id, uses = o.uses FROM allocations o"
        " WHERE l.attempt_id = 'seen-single.1' AND o.attempt_id = 'seen-failing.1';"
        "UPDATE attempts a SET bound_at = o.bound_at, ended_at = o.ended_at FROM attempts o"
        " WHERE a.id = 'seen-single.1' AND o.id = 'seen-failing.1'",
    ),
    (
        "no device was ever claimed for more than it has",
        f"{CLAIM} SELECT 'x', node_id, 1, uses, 0, 0 FROM allocations, generate_series(1, 2) WHERE attempt_id = 'seen-gang.1'",
    ),
    (
        "no cpu and no memory was ever claimed beyond what a node has",
        f"{CLAIM} SELECT 'x', node_id, 1, '{{}}', 1000000000, 0 FROM allocations WHERE attempt_id = 'seen-single.1'",
    ),
    (
        "no cpu and no memory was ever claimed beyond what a node has",
        f"{CLAIM} SELECT 'x', node_id, 1, '{{}}', 0, 1000000000 FROM allocations WHERE attempt_id = 'seen-single.1'",
    ),
    ("what is claimed is what the witness saw", "UPDATE allocations SET phase = 'claimed' WHERE attempt_id = 'seen-single.1'"),
    (
        "no queue and no cohort ever ran more than its cap",
        "UPDATE quotas SET nominal = 1000, cap = 1000 WHERE queue = 'cells' AND sku = 'a100'",
    ),
    ("an attempt has all of its replicas, once each", "UPDATE attempts SET replicas = 3 WHERE id = 'seen-gang.1'"),
    (
        "an attempt has all of its replicas, once each",
        """UPDATE allocations SET replicas = jsonb_set(replicas, '{0,1}', '0') WHERE attempt_id = 'seen-gang.1'""",
    ),
    (
        "an attempt has at least the fewest replicas of each group",
        "UPDATE allocations SET replicas = '[]' WHERE attempt_id = 'seen-single.1'",
    ),
    (
        "an array that succeeded ran every task, and no attempt's tasks count twice",
        "UPDATE workloads SET tasks_done = 4 WHERE id = 'seen-array'",
    ),
    ("no attempt is open", "UPDATE attempts SET ended_at = NULL WHERE id = 'seen-single.1'"),
    (
        "no reservation is kept any more, and each window that opened short of something says why",
        "UPDATE reservations SET ended_at = NULL, state = 'open' WHERE id = 'seen-window'",
    ),
    (
        "no reservation is kept any more, and each window that opened short of something says why",
        "UPDATE reservations SET missing = 1000, cause = '' WHERE id = 'seen-window'",
    ),
    *(
        (
            "whoever came to what is kept in an open window is one whom it is for, or may be preempted where it is lent",
            f"""UPDATE workloads SET spec = jsonb_set(spec, '{{preemptible}}', '{preemptible}') WHERE id = 'seen-single';
                INSERT INTO witness.entered
                SELECT 'seen-single.1', id, spec || '{{"queues": ["tools"], "lent": "{lent}"}}' FROM reservations""",
        )
        for preemptible, lent in (("true", "until-open"), ("false", "until-wanted"))
    ),
    (
        "no operation is under way, and none has a node cordoned",
        "UPDATE orders SET ended_at = NULL, state = 'moving' WHERE id = 'seen-emptied'",
    ),
    (
        "no operation is under way, and none has a node cordoned",
        "UPDATE nodes SET cordoned_by = 'seen-emptied' WHERE id = (SELECT min(id) FROM nodes)",
    ),
    (
        "a schedule has ordered something at each of its times, unless it says that it did not, and at no other",
        "INSERT INTO witness.scheduled VALUES ('seen-nightly', 1, 2)",
    ),
    (
        "a schedule has ordered something at each of its times, unless it says that it did not, and at no other",
        """INSERT INTO witness.scheduled VALUES ('seen-nightly', 1, 1);
           INSERT INTO orders SELECT (jsonb_populate_record(o, jsonb_build_object('id', again.id))).*
           FROM orders o, unnest(ARRAY['seen-nightly-20260131-120000', 'seen-nightly-20260131-120010']) AS again (id)
           WHERE o.id = 'seen-emptied'""",
    ),
    ("no hold is in force", "UPDATE holds SET ended_at = NULL WHERE attempt_id = 'seen-single.1'"),
    ("no allocation is left", "UPDATE allocations SET phase = 'promised' WHERE attempt_id = 'seen-single.1'"),
    (
        "every node is free",
        "UPDATE nodes SET device_use[1] = 500 WHERE id = (SELECT min(id) FROM nodes WHERE accelerators > 0)",
    ),
    ("every node is free", "UPDATE nodes SET cpu_use = 1 WHERE id = (SELECT min(id) FROM nodes)"),
    (
        "everybody was told everything",
        "UPDATE outbox SET delivered = NULL WHERE id = (SELECT min(id) FROM outbox)",
    ),
    ("nothing is left at the provider", "INSERT INTO witness.left_over VALUES ('seen-single.1')"),
    ("no attempt was launched twice", AGAIN),
    (
        "no attempt got the same notice twice",
        "INSERT INTO witness.done SELECT 'seen-single.1', 'noticed', 0, '{}' FROM generate_series(1, 2)",
    ),
    (
        "what was launched was bound, and what ran was launched",
        "UPDATE attempts SET bound_at = NULL WHERE id = 'seen-single.1'",
    ),
    ("what was launched was bound, and what ran was launched", "DELETE FROM witness.done WHERE attempt = 'seen-single.1'"),
    (
        "what was launched was bound, and what ran was launched",
        "INSERT INTO witness.done VALUES ('seen-by-nobody.1', 'launched', 0, '{}')",
    ),
    (
        "an attempt had at its provider exactly the devices that are booked for it",
        """UPDATE witness.done SET body = jsonb_set(body, '{occupied,0,devices}', '[3]')
           WHERE attempt = 'seen-gang.1' AND kind = 'launched'""",
    ),
    ("a launch came while its attempt was open", "UPDATE witness.done SET at = at + 86400 WHERE attempt = 'seen-single.1'"),
    (
        "no provider was asked for a device that it had given to another",
        "UPDATE attempts SET reason = 'device 0 of node n is taken' WHERE id = 'seen-single.1'",
    ),
    *(
        (
            "a workload is submitted once, ends once, and begins once for each attempt that was bound",
            f"INSERT INTO events (workload_id, at, kind, message) SELECT workload_id, at, kind, message FROM events"
            f" WHERE workload_id = 'seen-single' AND kind = '{kind}'",
        )
        for kind in ("submitted", "starting", "succeeded")
    ),
    (
        "the ledger tells of every workload from its submission to its end, without gap or overlap",
        "DELETE FROM ledger WHERE id = (SELECT min(id) FROM ledger WHERE workload_id = 'seen-single' AND kind = 'starting')",
    ),
    (
        "the ledger tells of every workload from its submission to its end, without gap or overlap",
        "UPDATE ledger SET ended_at = ended_at + interval '1 s' WHERE kind = 'starting' AND workload_id = 'seen-single'",
    ),
    (
        "the ledger tells of every workload from its submission to its end, without gap or overlap",
        "UPDATE ledger SET ended_at = NULL WHERE kind = 'running' AND workload_id = 'seen-single'",
    ),
    (
        "an attempt is charged for what it had, as long as it was bound",
        "UPDATE ledger SET allocated_milli = 0 WHERE kind = 'running' AND workload_id = 'seen-single'",
    ),
    (
        "nothing is charged that no attempt had",
        "UPDATE ledger SET allocated_milli = 1000 WHERE kind = 'waiting' AND workload_id = 'seen-single'",
    ),
    ("what was charged in advance is settled, once", "DELETE FROM penalties WHERE kind = 'settlement'"),
    (
        "what was charged in advance is settled, once",
        "UPDATE penalties SET milli_seconds = milli_seconds - 1 WHERE kind = 'settlement' AND workload_id = 'seen-gang'",
    ),
    ("what flowed in has flowed out", "UPDATE flows SET milli = milli + 1 WHERE queue = 'research'"),
    ("what flowed is what the ledger tells", "UPDATE flows SET milli_moment = milli_moment + 1 WHERE queue = 'research'"),
)


@pytest.fixture(scope="module")
async def record(postgres: PostgresServer, temporal: str) -> AsyncIterator[asyncpg.Connection]:
    """The record of a pool whose work has ended undisturbed, with all that a witness saw."""
    async with running_pool(postgres, temporal, "witnessed") as pool:
        await pool.start_worker()
        file = pool.directory / f"{pool.simulator}.sqlite"
        await witness.install(pool.settings.database_url, file)
        await pool.corral.apply_queues(QUEUES)
        for spec, _ in LOAD:
            await pool.corral.submit(spec)
        ends = {spec.id: state for spec, state in LOAD}
        for id, state in ends.items():
            await pool.until(id, state)
        await pool.until_closed(ends)
        await kept_and_emptied(pool)
        await eventually(lambda: _is_settled(pool), "everybody was told, and the provider has forgotten everything")
        await pool.supervisor.stop("worker")
        async with witness.connected(pool.settings.database_url) as connection:
            await witness.testify(connection, pool.temporal, file, ends, (), ())
            yield connection


async def kept_and_emptied(pool: LivePool) -> None:
    """A window was reserved, and given up; a node was emptied, and is back."""
    start = pool.settings.clock().now() + timedelta(seconds=600)
    window = {"id": "seen-window", "start": start, "seconds": 60, "sku": "l4", "accelerators": 4, "queues": ("cells",)}
    await pool.corral.reserve(ReservationSpec.model_validate(window))
    await pool.corral.cancel_reservation("seen-window")
    (node,) = [node for node in await pool.corral.nodes() if node.sku == "l4"]
    order = EvacuationOrder(id="seen-emptied", kind=PlaceKind.NODE, place=node.id, reason="a test", who="ada")
    await pool.corral.evacuate(order)
    await pool.corral.evacuated(order.id)
    name = node.id.removeprefix(f"{pool.simulator}/")
    await pool.corral.cordon(pool.simulator, Cordon(action="uncordon", nodes=(name,), reason="it is done"))


async def _is_settled(pool: LivePool) -> bool:
    untold = await pool.value("SELECT count(*) FROM outbox WHERE delivered IS NULL")
    world = await pool.second_simulator()
    try:
        return not untold and not (await world.snapshot()).attempts
    finally:
        await world.aclose()


async def test_a_sound_record_has_no_findings(record: asyncpg.Connection) -> None:
    assert await findings(record) == []


async def test_each_check_is_shown_to_find_something() -> None:
    assert {check for check, _ in CORRUPTIONS} == CHECKS.keys()


@pytest.mark.parametrize(("check", "corruption"), CORRUPTIONS)
async def test_a_corrupted_row_is_found(record: asyncpg.Connection, check: str, corruption: str) -> None:
    transaction = record.transaction()
    await transaction.start()
    try:
        # Corral's own triggers and foreign keys would set right or refuse some of it.
        await record.execute(f"SET LOCAL session_replication_role = replica; {corruption}")
        assert [finding for finding in await findings(record) if finding.startswith(f"{check}: ")]
    finally:
        await transaction.rollback()
