"""A workload that is cancelled leaves nothing behind, in whatever state it is and by whichever way it is cancelled."""

from collections.abc import Awaitable, Callable

import pytest
from temporalio.client import WorkflowExecutionStatus

from activities.ports import NodeView
from activities.store.postgres import PostgresStore
from corral.api import Checkpoint, ReplicaGroup, SlaTier, State, Target
from tests.end_to_end.leaving import ends
from tests.end_to_end.loads import a_process, a_workload, behaving
from tests.end_to_end.pools import LivePool, eventually

FOR_EVER = 1e6
BRIEFLY = Checkpoint(grace_seconds=1_500)
LONG = Checkpoint(grace_seconds=36_000)

Cancel = Callable[[LivePool, str], Awaitable[None]]


async def by_the_client(pool: LivePool, workload: str) -> None:
    """As services do."""
    await pool.corral.cancel(workload, "not needed any more")


async def by_its_workflow(pool: LivePool, workload: str) -> None:
    """As an operator may do in the Temporal UI."""
    await pool.handle(workload).cancel()


async def waiting(pool: LivePool, workload: str) -> None:
    await pool.corral.submit(a_workload(workload, queue="closed"))


async def suspended(pool: LivePool, workload: str) -> None:
    await waiting(pool, workload)
    await pool.corral.hold(workload)


async def reserving(pool: LivePool, workload: str) -> None:
    """It waits for somebody who does not heed their notice."""
    all_of_it = {"groups": (ReplicaGroup(accelerators=4),), "targets": (Target(skus=("l4",)),)}
    stays = behaving(FOR_EVER, ignore_notice="true")
    victim = a_workload(f"for-{workload}", tier=SlaTier.BASIC, parameters=stays, checkpoint=LONG, **all_of_it)
    await pool.corral.submit(victim)
    await pool.until(victim.id, State.RUNNING)
    await pool.corral.submit(a_workload(workload, tier=SlaTier.PREMIUM, **all_of_it))
    await pool.until(workload, State.RESERVING)


async def reserved(pool: LivePool, workload: str) -> None:
    """Nobody works for the provider that has the place."""
    store = PostgresStore.connect(pool.settings.database_url, pool.settings.clock(), pool.settings.pool)
    node = NodeView("n1", "nowhere", "c1", "ghost", (("region", "nowhere"),), 4, 1000, 1000)
    await store.register_provider("ghost", "simulated")
    await store.write_nodes("ghost", [node], complete=True)
    await store.aclose()
    await pool.corral.submit(a_workload(workload, targets=(Target(skus=("ghost",)),)))


async def starting(pool: LivePool, workload: str) -> None:
    await pool.corral.submit(a_workload(workload, parameters=behaving(start_delay_seconds=FOR_EVER)))


async def running(pool: LivePool, workload: str) -> None:
    await pool.corral.submit(a_workload(workload, parameters=behaving(FOR_EVER)))


async def running_here(pool: LivePool, workload: str) -> None:
    await pool.corral.submit(a_process(workload, "sleep 1000 & sleep 1000"))


async def stopping(pool: LivePool, workload: str) -> None:
    """It was to be held, and ignores that as long as it may."""
    await pool.corral.submit(a_workload(workload, parameters=behaving(FOR_EVER, ignore_notice="true"), checkpoint=BRIEFLY))
    await pool.until(workload, State.RUNNING)
    await pool.corral.hold(workload)


SITUATIONS = (
    (State.WAITING, waiting),
    (State.SUSPENDED, suspended),
    (State.RESERVING, reserving),
    (State.RESERVED, reserved),
    (State.STARTING, starting),
    (State.RUNNING, running),
    (State.RUNNING, running_here),
    (State.STOPPING, stopping),
)


@pytest.mark.parametrize("cancel", [by_the_client, by_its_workflow])
@pytest.mark.parametrize(("state", "brought_about"), SITUATIONS, ids=[each.__name__ for _, each in SITUATIONS])
async def test_nothing_is_left(
    pool: LivePool, state: State, brought_about: Callable[[LivePool, str], Awaitable[None]], cancel: Cancel
) -> None:
    workload = f"{brought_about.__name__}-{cancel.__name__}".replace("_", "-")
    await brought_about(pool, workload)
    await pool.until(workload, state)

    await cancel(pool, workload)

    await pool.until(workload, State.CANCELLED)
    await eventually(lambda: pool.has_nothing_of(workload), f"nothing is left of {workload}")
    await pool.until_closed([workload])
    status = (await pool.handle(workload).describe()).status
    by_client = cancel is by_the_client
    assert status is (WorkflowExecutionStatus.COMPLETED if by_client else WorkflowExecutionStatus.CANCELED)
    for other in await pool.rows("SELECT id, epoch FROM workloads WHERE id = $1", f"for-{workload}"):
        await ends(pool, other["id"], other["epoch"])


async def test_a_cancelled_beneficiary_leaves_its_victim_to_its_own_fate(pool: LivePool) -> None:
    """What was freed for it is nobody's promise any more."""
    promised = "SELECT a.id FROM attempts a JOIN allocations l ON l.attempt_id = a.id WHERE l.phase = 'promised'"
    assert await pool.rows(promised) == []
    assert await pool.audit() == []
