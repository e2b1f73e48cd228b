"""Changes whose first answer was lost, while what they are about ended by them, or did not."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.api.common.v1 import GrpcStatus
from temporalio.api.enums.v1 import ResourceExhaustedCause
from temporalio.api.errordetails.v1 import ResourceExhaustedFailure
from temporalio.client import (
    Client,
    Interceptor,
    OutboundInterceptor,
    SignalWorkflowInput,
    StartWorkflowUpdateInput,
    WorkflowHandle,
    WorkflowUpdateHandle,
)
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError, RPCStatusCode

from corral import wire
from corral.api import Acknowledgement, Cordon, Demand, State
from corral.client import Corral, NotFound, Unreachable
from corral.reservation import ReservationState
from tests.patience import PATIENCE_SECONDS
from tests.workflows.providers import PROVIDER, Watched
from tests.workflows.reservation_scenarios import a_fast_book
from tests.workflows.reservation_scenarios import a_spec as a_reservation
from tests.workflows.scenarios import until_accepted, until_calls, until_state
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


class BusyOnce(Interceptor):
    """Takes nothing the first time, as Temporal does while a workflow goes on in a new run."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Busy(next)


class _Busy(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor) -> None:
        super().__init__(next)
        self.refused: list[str] = []

    async def start_workflow_update(self, input: StartWorkflowUpdateInput) -> WorkflowUpdateHandle[Any]:
        self._refuse_once(input.update)
        return await super().start_workflow_update(input)

    async def signal_workflow(self, input: SignalWorkflowInput) -> None:
        self._refuse_once(input.signal)
        await super().signal_workflow(input)

    def _refuse_once(self, what: str) -> None:
        if what not in self.refused:
            self.refused.append(what)
            busy = ResourceExhaustedFailure(cause=ResourceExhaustedCause.RESOURCE_EXHAUSTED_CAUSE_BUSY_WORKFLOW)
            status = GrpcStatus(code=RPCStatusCode.RESOURCE_EXHAUSTED, message="workflow is closing")
            status.details.add().Pack(busy)
            raise RPCError(status.message, RPCStatusCode.RESOURCE_EXHAUSTED, status.SerializeToString())


async def it_ends_otherwise(_: str) -> None:
    """Nothing was done of what was dropped."""


async def test_what_is_asked_of_a_provider_and_was_dropped_is_asked_again(temporal: str) -> None:
    drops, provider = DropsTheFirst(it_ends_otherwise), Watched()
    client = await Client.connect(temporal, data_converter=pydantic_data_converter, interceptors=[drops])
    async with open_stage(client, provider.watch, provider.keep, provider.cordon, name=PROVIDER):
        handle = await provider.begins(client)
        order = Cordon(action="drain", nodes=("node-1",), reason="its fan is loud")
        assert await Corral(client).cordon(PROVIDER, order, key="k") == []
        assert (drops.dropped, provider.cordoned) == ({"k"}, [order])
        await handle.terminate("the test is over")


async def test_what_is_asked_of_a_reservation_and_was_dropped_is_asked_again(temporal: str) -> None:
    drops, book = DropsTheFirst(it_ends_otherwise), a_fast_book()
    client = await Client.connect(temporal, data_converter=pydantic_data_converter, interceptors=[drops])
    async with open_stage(client, *book.activities, name="dropping"):
        corral, spec = Corral(client, "dropping"), await a_reservation(book, opens_in=timedelta(days=300))
        assert (await corral.reserve(spec)).state is ReservationState.PLANNED
        assert (await corral.cancel_reservation(spec.id, key="k")).state is ReservationState.CANCELLED
        assert drops.dropped == {None, "cancel/k"}


async def test_what_a_workload_is_asked_and_told_while_it_goes_on_in_a_new_run_is_not_lost(temporal: str) -> None:
    record = a_record(State.WAITING)
    client = await Client.connect(temporal, data_converter=pydantic_data_converter)
    hasty = await Client.connect(temporal, data_converter=pydantic_data_converter, interceptors=[BusyOnce()])
    async with open_stage(client, name="closing") as stage:
        await stage.begins(record)
        await until_state(record, State.WAITING)
        corral = Corral(hasty, "closing")
        assert (await corral.reprioritize(record.id, 3, key="k")).message == "done: reprioritize"
        await corral.tell_demand(record.id, Demand(value=2), key="noon")
        await until_calls(record, ["admit", "reprioritize", "demand"])
        await client.get_workflow_handle(wire.workload_workflow_id(record.id)).terminate("the test is over")


async def test_what_ends_while_it_is_asked_for_something_has_ended(temporal: str) -> None:
    trouble = {"reprioritize": [ConnectionError("no record")] * 3}  # so that it becomes an ordinary activity
    record = a_record(State.WAITING, troubles=trouble, gates={"reprioritize": asyncio.Event()})

    @activity.defn(name=wire.Inquiry.CHANGE)
    async def change(workload: str, verb: str, key: str) -> list[Acknowledgement]:
        return []

    client = await Client.connect(temporal, data_converter=pydantic_data_converter)
    async with open_stage(client, change, name="ending") as stage:
        handle = await stage.begins(record)
        await until_state(record, State.WAITING)
        asked = asyncio.create_task(Corral(client, "ending").reprioritize(record.id, 3))
        await until_accepted(handle)
        await handle.terminate("by mistake")
        record.gates["reprioritize"].set()
        with pytest.raises(NotFound, match="that has not ended"):
            await asked


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


async def test_a_reservation_whose_workflow_is_terminated_before_it_has_answered_can_be_asked_for_again(temporal: str) -> None:
    client = await Client.connect(temporal, data_converter=pydantic_data_converter)
    corral, handle = Corral(client, "ended"), client.get_workflow_handle(wire.reservation_workflow_id("ended"))
    book = a_fast_book()
    spec = (await a_reservation(book, opens_in=timedelta(days=300))).model_copy(update={"id": "ended"})
    asked = asyncio.create_task(corral.reserve(spec))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await is_terminated(handle):  # noqa: ASYNC110  nobody tells when it has been started
            await asyncio.sleep(0.05)
    with pytest.raises(Unreachable, match="'reservation ended' was ended before it was kept; ask again"):
        await asked
    async with open_stage(client, *book.activities, name="ended"):
        assert (await corral.reserve(spec)).state is ReservationState.PLANNED
        assert (await corral.cancel_reservation("ended")).state is ReservationState.CANCELLED


async def is_terminated(handle: WorkflowHandle[Any, Any]) -> bool:
    """Whether there was a workflow to terminate."""
    try:
        await handle.terminate("an operator did this, before any worker")
    except RPCError:
        return False
    return True
