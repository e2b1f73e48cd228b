"""Changes whose first answer was lost, while the workload ended by them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import Client, Interceptor, OutboundInterceptor, StartWorkflowUpdateInput, WorkflowUpdateHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError, RPCStatusCode

from corral import wire
from corral.api import Acknowledgement, State
from corral.client import Corral, NotFound
from tests.workflows.scenarios import until_state
from tests.workflows.stage import a_record, open_stage

CANCELLED = Acknowledgement(state=State.CANCELLED, message="done: cancel")


@dataclass
class DropsTheFirst(Interceptor):
    """Drops each update once, as Temporal does when its workflow ends by it; what was done of it stays done."""

    on_drop: Callable[[str], Awaitable[None]]
    dropped: set[str | None] = field(default_factory=set)

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Dropping(next, self)


class _Dropping(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, ours: DropsTheFirst) -> None:
        super().__init__(next)
        self._ours = ours

    async def start_workflow_update(self, input: StartWorkflowUpdateInput) -> WorkflowUpdateHandle[Any]:
        if input.update_id in self._ours.dropped:
            return await super().start_workflow_update(input)
        self._ours.dropped.add(input.update_id)
        await self._ours.on_drop(input.id)
        raise RPCError("the update was dropped", RPCStatusCode.FAILED_PRECONDITION, b"")


async def test_a_cancellation_that_was_done_is_no_failure(temporal: str) -> None:
    record = a_record(State.WAITING)
    asked: list[list[str]] = []

    @activity.defn(name=wire.Inquiry.CHANGE)
    async def change(workload: str, verb: str, key: str) -> list[Acknowledgement]:
        asked.append([workload, verb, key])
        return [CANCELLED] if key == "cancel/k" else []

    async def is_cancelled(workflow: str) -> None:
        if workflow == wire.workload_workflow_id(record.id) and record.standing().state is State.WAITING:
            await stage.tells(record.becomes(State.CANCELLED))
            await client.get_workflow_handle(workflow).result()

    client = await Client.connect(temporal, data_converter=pydantic_data_converter, interceptors=[DropsTheFirst(is_cancelled)])
    async with open_stage(client, change, name="losing") as stage:
        corral = Corral(client, "losing")
        await stage.begins(record)
        await until_state(record, State.WAITING)

        assert await corral.cancel(record.id, key="k") == CANCELLED
        with pytest.raises(NotFound, match="has not ended"):
            await corral.cancel(record.id, key="another")
        assert asked == [[record.id, "cancel", "cancel/k"], [record.id, "cancel", "cancel/another"]]
        with pytest.raises(NotFound, match="never-was"):
            await corral.cancel("never-was")
