"""The planner of a pool and the reconciler of a provider, as far as their first stretches; their histories are replayed."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

from temporalio.client import Client, WorkflowHandle

from corral import wire
from corral.api import Cordon
from tests.patience import PATIENCE_SECONDS
from tests.workflows.long_lives import Stretches
from tests.workflows.stage import open_stage

Scenario = Callable[[Client], Awaitable[WorkflowHandle[Any, Any]]]
DRAIN = Cordon(action="drain", nodes=("n1",), reason="new firmware")

_numbers = count(1)


async def plans(client: Client) -> WorkflowHandle[Any, Any]:
    """A planner decides for three stretches, and is then terminated."""
    return await _begun(client, wire.ROUNDS, [], wire.rounds_workflow_id("main"))


async def watches_and_cordons(client: Client) -> WorkflowHandle[Any, Any]:
    """A reconciler watches a provider for three stretches, and drains a node; it is then terminated."""
    return await _begun(client, wire.PROVIDER, ["aws"], wire.provider_workflow_id("aws"), DRAIN)


async def _begun(client: Client, kind: str, args: list[str], id: str, *orders: Cordon) -> WorkflowHandle[Any, Any]:
    work, name = Stretches(3), args[0] if args else f"planner-{next(_numbers)}"
    async with open_stage(client, work.keep_deciding, work.watch, work.keep, work.cordon, name=name):
        handle = await client.start_workflow(kind, args=args, id=id, task_queue=wire.pool_task_queue(name))
        for order in orders:
            await handle.execute_update(wire.CORDON, order)
        await asyncio.wait_for(work.is_over.wait(), PATIENCE_SECONDS)
        await handle.terminate()
    return handle


SINGLETONS: dict[str, Scenario] = {scenario.__name__: scenario for scenario in (plans, watches_and_cordons)}
