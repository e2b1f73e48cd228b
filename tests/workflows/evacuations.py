"""Evacuations, each driven to its end against a record in memory; their histories are kept to be replayed."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any

from temporalio import activity
from temporalio.client import WorkflowHandle
from temporalio.exceptions import ApplicationError

from corral import wire
from corral.api import (
    EvacuationOrder,
    EvacuationState,
    EvacuationStatus,
    OperationChange,
    OperationKind,
    OperationStatus,
    PlaceKind,
)
from corral.wire import Steering
from domain.operations.evacuation import objection
from tests.builders import NOON
from tests.patience import PATIENCE_SECONDS
from tests.workflows.scenarios import ends_cancelled
from tests.workflows.stage import Stage, open_stage, this_call, told_not_allowed

BEN = OperationChange(who="ben", reason="it is cooler now")
AFTER = {
    Steering.PAUSE: EvacuationState.PAUSED,
    Steering.RESUME: EvacuationState.MOVING,
    Steering.ABORT: EvacuationState.ABORTED,
    Steering.APPROVE: EvacuationState.MOVING,
    Steering.REJECT: EvacuationState.REJECTED,
}

_numbers = count(1)


def an_order() -> EvacuationOrder:
    return EvacuationOrder(id=f"heat-{next(_numbers)}", kind=PlaceKind.REGION, place="aws/eu", reason="too hot", who="ada")


@dataclass
class Place:
    """What the record knows of one evacuation, and the steps that were asked for."""

    order: EvacuationOrder = field(default_factory=an_order)
    now: EvacuationStatus | None = None
    calls: list[str] = field(default_factory=list)
    taken: set[object] = field(default_factory=set)
    troubles: list[Exception] = field(default_factory=list)
    """Failures that emptying meets before it works."""
    trouble_when_cancelled: Exception | None = None
    """What emptying fails by where it is told to end."""

    def becomes(self, state: EvacuationState, left: int = 3) -> EvacuationStatus:
        """The record changes."""
        self.now = EvacuationStatus(
            order=self.order,
            state=state,
            version=self.now.version + 1 if self.now else 1,
            began_at=NOON,
            deadline=NOON + timedelta(hours=4),
            ended_at=NOON if state.is_over else None,
            nodes=2,
            told=3 - left,
            left=left,
            leaving=min(left, 1),
            remaining=tuple(f"w{number}" for number in range(left)),
        )
        return self.now

    @activity.defn(name="evacuating.keep_moving")
    async def keep_moving(self, order: EvacuationOrder, known: int, seconds: float) -> EvacuationStatus:
        self.calls.append("keep_moving")
        if self.troubles:
            raise self.troubles.pop(0)
        status = self.now or self.becomes(EvacuationState.MOVING)
        try:
            while status.version <= known and not status.state.is_over:
                activity.heartbeat()
                await asyncio.sleep(0.01)
                assert self.now is not None
                status = self.now
        except asyncio.CancelledError as cancelled:
            raise self.trouble_when_cancelled or cancelled from None
        return status

    @activity.defn(name="evacuating.steer")
    async def steer(
        self, id: str, verb: Steering, change: OperationChange, key: str, order: EvacuationOrder | None = None
    ) -> EvacuationStatus:
        if self.now is not None and (this_call() in self.taken or (verb, key) in self.taken):
            return self.now
        self.taken.add(this_call())
        self.calls.append(verb)
        if self.now is None and verb is Steering.ABORT and order == self.order:
            self.taken.add((verb, key))
            return self.becomes(EvacuationState.ABORTED)
        if self.now is None:
            raise ApplicationError(id, type=wire.Failure.NOT_FOUND, non_retryable=True)
        if problem := objection(verb, id, self.now.state):
            raise told_not_allowed(problem)
        self.taken.add((verb, key))
        return self.now if self.now.state is AFTER[verb] else self.becomes(AFTER[verb], self.now.left)

    @activity.defn(name=wire.Inquiry.OPERATIONS)
    async def operations(self, id: str, limit: int) -> list[OperationStatus]:
        if self.now is None:
            return []
        said = self.now.model_dump(include={"state", "version", "began_at", "ended_at", "trail"})
        order = {"id": id, "who": self.order.who, "reason": self.order.reason, "subject": self.order.place}
        kind, message = OperationKind.EVACUATION, f"{self.now.left} are left"
        return [
            OperationStatus.model_validate({**said, **order, "kind": kind, "due_at": self.now.deadline, "message": message})
        ]

    async def begins(self, stage: Stage) -> WorkflowHandle[Any, EvacuationStatus]:
        return await stage.client.start_workflow(
            wire.EVACUATION,
            self.order,
            id=wire.evacuation_workflow_id(self.order.id),
            task_queue=wire.pool_task_queue(stage.name),
            result_type=EvacuationStatus,
        )


Scenario = Callable[[Stage], Awaitable[tuple[Place, WorkflowHandle[Any, Any]]]]
Driven = Callable[[Stage, Place], Awaitable[WorkflowHandle[Any, Any]]]


def alone(drive: Driven) -> Scenario:
    """A scenario with a worker of its own, which knows only this place."""

    async def scenario(stage: Stage) -> tuple[Place, WorkflowHandle[Any, Any]]:
        place = Place()
        async with open_stage(stage.client, place.keep_moving, place.steer, name=place.order.id):
            own = Stage(stage.client, place.order.id)
            return place, await drive(own, place)

    scenario.__name__ = drive.__name__
    return scenario


async def empties_a_region(stage: Stage, place: Place) -> WorkflowHandle[Any, Any]:
    """Meets an outage, is paused, goes on, and is done when nothing is left."""
    place.troubles = [ConnectionError("no record")]
    handle = await place.begins(stage)
    await until_told(handle, EvacuationState.MOVING)
    await handle.execute_update(Steering.PAUSE, BEN)
    await handle.execute_update(Steering.RESUME, BEN)
    place.becomes(EvacuationState.MOVING, left=1)
    place.becomes(EvacuationState.DONE, left=0)
    await handle.result()
    return handle


async def empties_a_region_when_approved(stage: Stage, place: Place) -> WorkflowHandle[Any, Any]:
    """Awaits approval, has it, and is done when nothing is left."""
    place.becomes(EvacuationState.AWAITING)
    handle = await place.begins(stage)
    await until_told(handle, EvacuationState.AWAITING)
    await handle.execute_update(Steering.APPROVE, BEN)
    place.becomes(EvacuationState.DONE, left=0)
    await handle.result()
    return handle


async def is_rejected(stage: Stage, place: Place) -> WorkflowHandle[Any, Any]:
    """A person does not let it begin."""
    place.becomes(EvacuationState.AWAITING)
    handle = await place.begins(stage)
    await until_told(handle, EvacuationState.AWAITING)
    await handle.execute_update(Steering.REJECT, BEN)
    await handle.result()
    return handle


async def is_aborted(stage: Stage, place: Place) -> WorkflowHandle[Any, Any]:
    """Aborted by a person."""
    handle = await place.begins(stage)
    await until_told(handle, EvacuationState.MOVING)
    await handle.execute_update(Steering.ABORT, BEN)
    await handle.result()
    return handle


async def is_overdue(stage: Stage, place: Place) -> WorkflowHandle[Any, Any]:
    """Its deadline comes while two are left."""
    handle = await place.begins(stage)
    await until_told(handle, EvacuationState.MOVING)
    place.becomes(EvacuationState.OVERDUE, left=2)
    await handle.result()
    return handle


async def has_its_evacuation_cancelled(stage: Stage, place: Place) -> WorkflowHandle[Any, Any]:
    """Temporal is asked to cancel its workflow."""
    handle = await place.begins(stage)
    await until_told(handle, EvacuationState.MOVING)
    await handle.cancel()
    await ends_cancelled(handle)
    return handle


EVACUATIONS: dict[str, Scenario] = {
    drive.__name__: alone(drive)
    for drive in (
        *(empties_a_region, empties_a_region_when_approved, is_rejected),
        *(is_aborted, is_overdue, has_its_evacuation_cancelled),
    )
}


async def until_told(handle: WorkflowHandle[Any, Any], state: EvacuationState) -> EvacuationStatus:
    """Until the workflow itself tells that it is in a state."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            status: EvacuationStatus | None = await handle.query(wire.OPERATION_STATUS, result_type=EvacuationStatus)
            if status is not None and status.state is state:
                return status
            await asyncio.sleep(0.02)
