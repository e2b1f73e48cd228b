"""Which workloads' workflows have ended: what waits for its next run, or for somebody who lets it go on, is no orphan."""

from typing import Any

import pytest
from temporalio import workflow
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest, PauseWorkflowExecutionRequest
from temporalio.worker import Worker

from corral import wire
from tests.servers import running_temporal
from tests.workflows.stage import RUNNER, connected
from worker.wiring import TemporalWorkloads

QUEUE = "orphans"


@workflow.defn(name="Once")
class Once:
    """Leaves the rest to one more run, which goes on for ever."""

    @workflow.run
    async def run(self, left: int) -> None:
        if left:
            workflow.continue_as_new(left - 1)
        await workflow.wait_condition(lambda: False)


async def test_a_workflow_that_was_left_for_its_next_run_as_it_was_looked_at_has_not_ended(
    temporal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await connected(temporal)
    id = wire.workload_workflow_id("goes-on")
    async with Worker(client, task_queue=QUEUE, workflows=[Once], workflow_runner=RUNNER):
        handle = await client.start_workflow("Once", 1, id=id, task_queue=QUEUE)
        first = handle.first_execution_run_id
        assert first is not None
        async for event in client.get_workflow_handle(id, run_id=first).fetch_history_events(wait_new_event=True):
            if event.HasField("workflow_execution_continued_as_new_event_attributes"):
                break
    describe = client.workflow_service.describe_workflow_execution

    async def a_moment_ago(request: DescribeWorkflowExecutionRequest, **options: Any) -> Any:
        request.execution.CopyFrom(WorkflowExecution(workflow_id=request.execution.workflow_id, run_id=first))
        return await describe(request, **options)

    with monkeypatch.context() as patch:
        patch.setattr(client.workflow_service, "describe_workflow_execution", a_moment_ago)
        assert await TemporalWorkloads(client).have_ended(["goes-on"]) == []
    await client.get_workflow_handle(id).terminate()
    assert await TemporalWorkloads(client).have_ended(["goes-on"]) == ["goes-on"]


async def test_a_workflow_that_somebody_has_paused_has_not_ended_and_hides_no_other_that_has() -> None:
    async with running_temporal(**{"frontend.WorkflowPauseEnabled": "true"}) as address:
        client = await connected(address)
        for workload in ("paused", "terminated"):
            await client.start_workflow("Once", 1, id=wire.workload_workflow_id(workload), task_queue=QUEUE)
        await client.workflow_service.pause_workflow_execution(
            PauseWorkflowExecutionRequest(namespace=client.namespace, workflow_id=wire.workload_workflow_id("paused"))
        )
        await client.get_workflow_handle(wire.workload_workflow_id("terminated")).terminate()
        assert await TemporalWorkloads(client).have_ended(["paused", "terminated", "unknown"]) == ["terminated", "unknown"]
