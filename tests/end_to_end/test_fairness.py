"""A tenant's burst delays nobody but itself: in what order a worker takes what has piled up while none was there."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

import pytest
from temporalio import activity
from temporalio.api.enums.v1 import EventType
from temporalio.common import Priority
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from corral import wire
from tests.end_to_end.loads import a_workload
from tests.end_to_end.pools import QUEUES, LivePool, eventually, running_pool, working_here
from tests.servers import PostgresServer
from worker.keeping import start_singletons

BURST = 150
AT_ONCE = 40
"""Tasks that a worker asks for together: so many may be taken in any order."""


@pytest.fixture
async def idle(postgres: PostgresServer, temporal: str, request: pytest.FixtureRequest) -> AsyncIterator[LivePool]:
    """A pool whose worker is yet to be started."""
    name = request.node.name.replace("_", "-")[:30].strip("-")
    async with running_pool(postgres, temporal, name) as pool:
        yield pool


async def pile_up(pool: LivePool, tag: str, tenant: str, number: int) -> list[str]:
    """Submit workloads while nobody takes them."""
    ids = [f"{tag}-{tenant}-{index}" for index in range(number)]
    for id in ids:
        await pool.corral.submit(a_workload(id, tenant=tenant))
    return ids


async def order_of(pool: LivePool, ids: Sequence[str]) -> list[str]:
    """Workloads in the order in which the worker took them."""

    async def all_are_there() -> bool:
        return bool(await pool.value("SELECT count(*) FROM workloads") == len(ids))

    await pool.start_worker()
    await pool.corral.apply_queues(QUEUES)
    await eventually(all_are_there, "all are admitted or refused")
    taken = {id: await first_taken(pool, wire.workload_workflow_id(id)) for id in ids}
    return sorted(ids, key=lambda id: taken[id])


async def first_taken(pool: LivePool, workflow: str) -> datetime:
    """When a worker began with a workflow."""
    history = await pool.temporal.get_workflow_handle(workflow).fetch_history()
    started = next(event for event in history.events if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED)
    return started.event_time.ToDatetime()


async def test_a_tenant_who_comes_after_a_burst_of_another_is_taken_at_once(idle: LivePool) -> None:
    loud, quiet = await pile_up(idle, "fair", "loud", BURST), await pile_up(idle, "fair", "quiet", 5)
    order = await order_of(idle, [*loud, *quiet])
    assert max(map(order.index, quiet)) < 2 * AT_ONCE


async def test_whoever_comes_after_a_burst_of_its_own_tenant_is_taken_after_it(idle: LivePool) -> None:
    burst, late = await pile_up(idle, "line", "same", BURST), await pile_up(idle, "late", "same", 5)
    order = await order_of(idle, [*burst, *late])
    assert min(map(order.index, late)) > BURST - 2 * AT_ONCE


async def test_the_planner_waits_behind_no_burst(idle: LivePool) -> None:
    burst = await pile_up(idle, "busy", "loud", BURST)
    await start_singletons(idle.temporal, idle.settings.pool, ())
    order = await order_of(idle, burst)
    planner = await first_taken(idle, wire.rounds_workflow_id(idle.settings.pool))
    assert planner < await first_taken(idle, wire.workload_workflow_id(order[2 * AT_ONCE]))


class Priorities(Interceptor):
    """Notes the priority of each call of an activity."""

    def __init__(self) -> None:
        self.seen: dict[str, Priority] = {}

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        seen = self.seen

        class Noting(ActivityInboundInterceptor):
            async def execute_activity(self, input: ExecuteActivityInput) -> Any:
                info = activity.info()
                seen[info.activity_type] = info.priority
                return await super().execute_activity(input)

        return Noting(next)


async def test_what_is_done_for_a_workload_has_its_turn_by_tenant_too(idle: LivePool) -> None:
    priorities = Priorities()
    async with working_here(idle, [priorities]):
        await idle.corral.submit(a_workload("inherits", tenant="heirs"))
        await idle.corral.wait("inherits")
        await idle.corral.status("inherits")
    assert priorities.seen["placement.bind"] == wire.lives("heirs")
    assert priorities.seen["inventory.watch"] == wire.STEERS
    assert priorities.seen[wire.Inquiry.STATUS] == wire.ASKS
