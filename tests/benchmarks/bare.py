"""The reference: a workflow that does nothing, with the same kinds and number of history events as a workload's."""

import asyncio
import sys
from datetime import timedelta

import uvloop
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import GrpcCompression
from temporalio.worker import PollerBehaviorSimpleMaximum, UnsandboxedWorkflowRunner, Worker

from corral import wire

POOL_QUEUE, PROVIDER_QUEUE = "bare-pool", "bare-provider"
RUNS_SECONDS = 1.0


@activity.defn(name="bare.admit")
async def admit() -> str:
    """Nothing."""
    return "held"


class Bare:
    """The activity at a provider, which has the workflow told after a while that it is over."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._telling: set[asyncio.Task[None]] = set()

    @activity.defn(name="bare.bind")
    async def bind(self, workflow_id: str) -> str:
        """Nothing now; the finish signal later."""
        task = asyncio.create_task(self._finish(workflow_id))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)
        return "running"

    async def _finish(self, workflow_id: str) -> None:
        await asyncio.sleep(RUNS_SECONDS)
        await self._client.get_workflow_handle(workflow_id).signal("finish", "done")


@workflow.defn(name="BareLifecycle")
class BareLifecycle:
    """Local activity, ordinary activity on another queue, attributes, signal, attributes, end: 18 events."""

    def __init__(self) -> None:
        self._over = ""

    @workflow.run
    async def run(self) -> str:
        """Do nothing, durably."""
        await workflow.execute_local_activity(
            admit, start_to_close_timeout=timedelta(seconds=5), retry_policy=RetryPolicy(maximum_attempts=3)
        )
        await workflow.execute_activity(
            "bare.bind",
            workflow.info().workflow_id,
            task_queue=PROVIDER_QUEUE,
            start_to_close_timeout=timedelta(seconds=20),
        )
        workflow.upsert_search_attributes(
            [wire.STATE.value_set("running"), wire.REGION.value_set("r"), wire.SKU.value_set("s")]
        )
        await workflow.wait_condition(lambda: bool(self._over))
        workflow.upsert_search_attributes([wire.STATE.value_set("succeeded")])
        return self._over

    @workflow.signal
    def finish(self, over: str) -> None:
        """It is over."""
        self._over = over


async def serve(address: str) -> None:
    """Work on the bare workflows with the same settings as a real worker has."""
    client = await Client.connect(address, data_converter=pydantic_data_converter, grpc_compression=GrpcCompression.NONE)
    pool = Worker(
        client,
        task_queue=POOL_QUEUE,
        workflows=[BareLifecycle],
        activities=[admit],
        workflow_runner=UnsandboxedWorkflowRunner(),
        workflow_task_poller_behavior=PollerBehaviorSimpleMaximum(40),
        nonsticky_to_sticky_poll_ratio=0.8,
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=2),
        max_cached_workflows=5_000,
        max_concurrent_workflow_tasks=200,
        max_concurrent_local_activities=500,
    )
    provider = Worker(client, task_queue=PROVIDER_QUEUE, activities=[Bare(client).bind], max_concurrent_activities=500)
    async with pool, provider:
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
