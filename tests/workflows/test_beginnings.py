"""Workflows that are started with what makes no sense, as by another language, end at once and say why."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from corral import wire
from tests.patience import PATIENCE_SECONDS
from tests.workflows.stage import RUNNER, Stage, connected
from workflows.beginnings import begun_by_anybody

AN_ORDER = {"id": "storm", "kind": "region", "place": "aws/eu", "reason": "storm", "who": "ada"}

SENSELESS: dict[str, tuple[str, list[Any], str]] = {
    "an evacuation of nothing": (wire.EVACUATION, [], "0 arguments - it takes order"),
    "an evacuation of a number": (wire.EVACUATION, [7], "order: 7 - Input should be an object"),
    "an evacuation of no kind": (wire.EVACUATION, [AN_ORDER | {"kind": "planet"}], "kind: 'planet' - Input should be 'node'"),
    "an evacuation and more": (wire.EVACUATION, [AN_ORDER, "at once"], "2 arguments - it takes order"),
    "a roll-out of a list": (wire.ROLLOUT, [[1, 2]], "order: [1, 2] - Input should be an object"),
    "a time of no schedule": (wire.RECURRING, [None], "spec: None - Input should be an object"),
    "a reconciler of nobody": (wire.PROVIDER, [], "0 arguments - it takes provider"),
    "a reconciler of a number": (wire.PROVIDER, [7], "provider: 7 - Input should be a valid string"),
    "a planner of something": (wire.ROUNDS, ["main"], "1 arguments - it takes none"),
    "a growing of something": (wire.GROWTH, [{}], "1 arguments - it takes none"),
    "work that goes on from nowhere": (wire.LIFECYCLE, [{}, "yesterday"], "hand_over: 'yesterday' - Input should be an object"),
    "work and more": (wire.LIFECYCLE, [{}, None, 3], "3 arguments - it takes spec, hand_over"),
    "a reservation that stands somehow": (wire.RESERVATION, [{}, {"state": "odd"}], "state: 'odd' - Input should be 'planned'"),
}


@pytest.mark.parametrize("what", SENSELESS)
async def test_a_workflow_that_cannot_begin_ends_and_says_why(stage: Stage, what: str) -> None:
    kind, given, words = SENSELESS[what]
    queue = wire.pool_task_queue(stage.name)
    handle = await stage.client.start_workflow(kind, args=given, id=f"senseless-{uuid4()}", task_queue=queue)
    with pytest.raises(WorkflowFailureError) as failed:
        await handle.result()
    cause = failed.value.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.type, cause.non_retryable) == (wire.Failure.INVALID, True)
    assert cause.message.startswith(f"{kind} cannot begin with this: ")
    assert words in cause.message


@workflow.defn(name="GoesOn")
@begun_by_anybody
class GoesOn:
    """Leaves to its next run what that cannot read, as newer code may."""

    @workflow.run
    async def run(self, left: int) -> None:
        workflow.continue_as_new("what only newer code can read")


async def failed_tasks(handle: WorkflowHandle[Any, Any]) -> list[str]:
    """Why tasks of the latest run have failed."""
    failed = EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
    events = [event async for event in handle.fetch_history_events() if event.event_type == failed]
    return [event.workflow_task_failed_event_attributes.failure.message for event in events]


async def test_what_a_workflow_leaves_to_its_next_run_waits_for_code_that_can_read_it(temporal: str) -> None:
    client = await connected(temporal)
    async with Worker(client, task_queue="goes-on", workflows=[GoesOn], workflow_runner=RUNNER):
        await client.start_workflow("GoesOn", 1, id="goes-on", task_queue="goes-on")
        latest = client.get_workflow_handle("goes-on")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (why := await failed_tasks(latest)):  # noqa: ASYNC110  a server tells nobody of failed tasks
                await asyncio.sleep(0.05)
    assert "GoesOn cannot begin with this: left: 'what only newer code can read'" in why[0]
    assert (await latest.describe()).status is WorkflowExecutionStatus.RUNNING
    await latest.terminate()
