"""What the database itself refuses, whoever writes to it."""

import asyncpg
import pytest

from tests.activities.store.pool import Pool, a_spec, a_view

CLAIM = """
    INSERT INTO allocations (attempt_id, node_id, sku, phase, epoch, uses, cpu_milli, memory_mib, replicas)
    VALUES ('train.1', 'aws/n2', 'a100', 'claimed', 1, $1, $2, $3, '[]')"""

ATTEMPT = """
    INSERT INTO attempts
    (id, workload_id, epoch, provider, region, cluster, sku, by_sku, cost_by_sku, milli, replicas, held_at, ended_at)
    VALUES ($1, 'train', $2, 'aws', 'eu', 'eu-1', 'h100', '{}', '{}', 1000, 1, now(), CASE WHEN $3 THEN now() END)"""


@pytest.fixture
async def used(pool: Pool) -> Pool:
    """`train` has the whole of n1; n2 has two devices, 1000 thousandths of a core and 100 MiB."""
    await pool.gets(a_view("n1"), a_view("n2", gpus=2, sku="a100", cpu_milli=1_000, memory_mib=100))
    await pool.arrive(a_spec("train"))
    return pool


@pytest.mark.parametrize(
    ("uses", "cpu_milli", "memory_mib", "constraint"),
    [
        ([1001, 0], 0, 0, "ck_nodes_devices_not_oversubscribed"),
        ([0, 2000], 0, 0, "ck_nodes_devices_not_oversubscribed"),
        ([0, 0], 1_001, 0, "ck_nodes_cpu_not_oversubscribed"),
        ([0, 0], 0, 101, "ck_nodes_memory_not_oversubscribed"),
        ([0, 0, 1], 0, 0, "ck_nodes_one_use_per_device"),
        ([-1, 0], 0, 0, "ck_allocations_nothing_negative"),
        ([0, 0], -1, 0, "ck_nodes_cpu_not_oversubscribed"),
    ],
)
async def test_a_claim_that_a_node_has_no_room_for_is_refused(
    used: Pool, uses: list[int], cpu_milli: int, memory_mib: int, constraint: str
) -> None:
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await used.sql(CLAIM, uses, cpu_milli, memory_mib)
    assert refused.value.constraint_name == constraint
    assert await used.used("n2") == 0


async def test_claims_that_each_fit_are_refused_when_they_do_not_fit_together(used: Pool) -> None:
    await used.sql(CLAIM, [600, 0], 500, 50)
    with pytest.raises(asyncpg.CheckViolationError):
        await used.sql("UPDATE allocations SET uses = '{400,1001}' WHERE node_id = 'aws/n2'")
    with pytest.raises(asyncpg.CheckViolationError):
        await used.sql("UPDATE nodes SET cpu_milli = 499 WHERE id = 'aws/n2'")
    assert await used.used("n2") == 600


async def test_more_replicas_than_a_node_takes_are_refused(used: Pool) -> None:
    await used.store.write_nodes("aws", [a_view("n2", gpus=2, maximum_replicas=1)], complete=False)
    one_more = CLAIM.replace("'[]'", """'[["main", 1, [0]], ["main", 2, [1]]]'""")
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await used.sql(one_more, [0, 0], 0, 0)
    assert refused.value.constraint_name == "ck_nodes_replicas_not_oversubscribed"


async def test_what_is_released_or_deleted_is_free_again(used: Pool) -> None:
    await used.sql(CLAIM, [600, 1_000], 500, 50)
    await used.sql("UPDATE allocations SET phase = 'released' WHERE node_id = 'aws/n2'")
    assert await used.used("n2") == 0
    await used.sql("UPDATE allocations SET phase = 'claimed' WHERE node_id = 'aws/n2'")
    assert await used.used("n2") == 1_600
    await used.sql("DELETE FROM allocations WHERE node_id = 'aws/n2'")
    rows = await used.sql("SELECT device_use, cpu_use, memory_use FROM nodes WHERE id = 'aws/n2'")
    assert tuple(rows[0].values()) == ([0, 0], 0, 0)


async def test_a_promise_may_overlap_with_what_is_in_use(used: Pool) -> None:
    await used.sql(CLAIM, [1_000, 1_000], 0, 0)
    await used.sql("UPDATE allocations SET phase = 'promised' WHERE node_id = 'aws/n2'")
    assert await used.used("n2") == 0


async def test_a_second_open_attempt_of_a_workload_is_refused(used: Pool) -> None:
    with pytest.raises(asyncpg.UniqueViolationError) as refused:
        await used.sql(ATTEMPT, "train.2", 2, False)
    assert refused.value.constraint_name == "uq_attempts_one_open"
    await used.sql(ATTEMPT, "train.2", 2, True)


async def test_two_attempts_of_one_epoch_are_refused(used: Pool) -> None:
    with pytest.raises(asyncpg.UniqueViolationError) as refused:
        await used.sql(ATTEMPT, "train.one", 1, True)
    assert refused.value.constraint_name == "uq_attempts_workload_id_epoch"


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE queues SET parent = name", "ck_queues_not_its_own_parent"),
        ("UPDATE quotas SET floor = 1001 * 1000", "ck_quotas_ordered"),
        ("UPDATE quotas SET floor = -1", "ck_quotas_ordered"),
        ("UPDATE quotas SET cap = 1", "ck_quotas_ordered"),
        ("UPDATE quotas SET valid_from = now(), valid_until = now()", "ck_quotas_some_validity"),
        ("UPDATE nodes SET device_use = '{0}'", "ck_nodes_one_use_per_device"),
        ("UPDATE nodes SET accelerators = 3", "ck_nodes_one_use_per_device"),
        ("UPDATE nodes SET cordon = 'closed'", "ck_nodes_known_cordon"),
        ("UPDATE allocations SET phase = 'lent'", "ck_allocations_known_phase"),
        ("UPDATE ledger SET ended_at = began_at - interval '1 s'", "ck_ledger_forward_in_time"),
    ],
)
async def test_rows_that_contradict_themselves_are_refused(used: Pool, statement: str, constraint: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await used.sql(statement)
    assert refused.value.constraint_name == constraint


async def test_a_parent_that_does_not_exist_is_refused_when_the_transaction_ends(used: Pool) -> None:
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await used.sql("UPDATE queues SET parent = 'nobody'")


async def test_a_second_open_interval_of_a_workload_is_refused(used: Pool) -> None:
    again = """
        INSERT INTO ledger
        (workload_id, queue, tier, kind, entitled_milli, allocated_milli, allocated_by_sku, cost_by_sku, began_at)
        SELECT workload_id, queue, tier, kind, 0, 0, '{}', '{}', began_at FROM ledger WHERE workload_id = 'train'"""
    with pytest.raises(asyncpg.UniqueViolationError) as refused:
        await used.sql(again)
    assert refused.value.constraint_name == "uq_ledger_one_open"
