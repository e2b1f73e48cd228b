"""Work that has to leave for other work, and how a test waits for what becomes of it while workers die."""

from typing import Any

from corral.api import Checkpoint, ReplicaGroup, SlaTier, State, Target, WorkloadSpec
from tests.end_to_end.loads import a_workload, behaving
from tests.end_to_end.pools import LivePool, eventually, oversubscribed

FOR_EVER = 1e6
LONG_GRACE = 3_600


def whole_node(id: str, sku: str = "l4", accelerators: int = 4, **more: Any) -> WorkloadSpec:
    """All accelerators of one node of a pool of these tests."""
    given = {"targets": (Target(skus=(sku,)),), "groups": (ReplicaGroup(accelerators=accelerators),)}
    return a_workload(id, **(given | more))


def a_victim(id: str, sku: str = "l4", *, grace: int = LONG_GRACE, **behaviour: object) -> WorkloadSpec:
    """Basic work that would run for ever, and saves nothing on notice."""
    parameters = behaving(FOR_EVER, ignore_notice="true") | {name: str(value) for name, value in behaviour.items()}
    return whole_node(id, sku, tier=SlaTier.BASIC, parameters=parameters, checkpoint=Checkpoint(grace_seconds=grace))


def an_urgent(id: str, sku: str = "l4") -> WorkloadSpec:
    """Premium work that is soon done."""
    return whole_node(id, sku, tier=SlaTier.PREMIUM, parameters=behaving(40))


async def until_simulated(pool: LivePool, attempt: str, phase: str) -> None:
    """Until an attempt is in a phase at its provider, whatever the record says."""

    async def look() -> bool:
        return (await pool.simulated_now()).get(attempt) == phase

    await eventually(look, f"{attempt} is {phase} at its provider")


async def is_in_order(pool: LivePool) -> None:
    """The record has no breach, no device ran more than it has, and no attempt was launched twice."""
    assert await pool.audit() == []
    assert await oversubscribed(pool) == []
    assert {attempt: len(times) for attempt, times in pool.launches().items() if len(times) > 1} == {}


async def ends(pool: LivePool, workload: str, epoch: int) -> None:
    """Let work come to its end that would heed nobody for long."""
    await pool.corral.cancel(workload, key="over")
    world = await pool.second_simulator()
    await world.release(f"{workload}.{epoch}", epoch)
    await world.aclose()
    await pool.until_closed([workload])


async def says(pool: LivePool, workload: str, kind: str) -> bool:
    """Whether the workload's history has an event of this kind."""
    return bool(await pool.rows("SELECT 1 FROM events WHERE workload_id = $1 AND kind = $2", workload, kind))


async def state_of(pool: LivePool, workload: str) -> State | None:
    """The workload's state in the record; the worker that could answer may be dead."""
    rows = await pool.rows("SELECT state FROM workloads WHERE id = $1", workload)
    return State(rows[0]["state"]) if rows else None


async def until_state(pool: LivePool, workload: str, *states: State) -> None:
    """Until a workload is in one of these states, in the record."""

    async def look() -> bool:
        return await state_of(pool, workload) in states

    await eventually(look, f"{workload} is {' or '.join(states)}")


async def page_with(pool: LivePool, workload: str, words: str) -> str | None:
    """What operators read on the page of the workload's workflow, once it has these words."""
    page: str = (await pool.handle(workload).query("__temporal_workflow_metadata")).current_details
    return page if words in page else None
