"""Roll-outs, each driven to its end against a record in memory; their histories are kept to be replayed."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from temporalio import activity
from temporalio.client import WorkflowHandle
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import ApplicationError

from activities.liveness import staying_alive
from corral import wire
from corral.api import OperationChange, OperationNote
from corral.policy import Policy
from corral.rollout import Change, Readings, RolloutOrder, RolloutState, RolloutStatus
from corral.schedule import RecurringRollout, ScheduleSpec
from corral.wire import Steering
from domain.operations.watching import objection
from tests.patience import PATIENCE_SECONDS
from tests.workflows.scenarios import ends_cancelled
from tests.workflows.stage import Stage, open_stage, this_call, told_not_allowed

BEN = OperationChange(who="ben", reason="looks good")

_numbers = count(1)


async def by_the_wall() -> datetime:
    return datetime.now(UTC)


def an_order() -> RolloutOrder:
    return RolloutOrder(
        id=f"calm-{next(_numbers)}", change=Change(policy=Policy(name="calm")), reason="too much ado", who="ada"
    )


@dataclass
class Desk:
    """What the record knows of one roll-out, and the steps that were asked for; seconds are those of `now`."""

    now: Callable[[], Awaitable[datetime]] = by_the_wall
    needs: str = ""
    expires: float = 86_400
    watched: float = 1_800
    looks: float = 60
    breach_after: float | None = None
    order: RolloutOrder = field(default_factory=an_order)
    status: RolloutStatus | None = None
    orders: list[RolloutOrder] = field(default_factory=list)
    """Those that were begun, as often as somebody asked."""
    calls: list[str] = field(default_factory=list)
    troubles: list[Exception] = field(default_factory=list)
    """Failures that steps meet before they work."""
    taken: set[object] = field(default_factory=set)
    """Calls that met no trouble."""
    steered: set[tuple[Steering, str]] = field(default_factory=set)
    """What was done by which request."""
    cannot_begin: bool = False
    """As in an outage that only beginning meets."""
    gate: asyncio.Event | None = None
    """Until which beginning takes, once it has been done."""
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    @activity.defn(name="rolling_out.begin")
    async def begin(self, order: RolloutOrder) -> RolloutStatus:
        if self.cannot_begin:
            raise ConnectionError("no record")
        if self._is_new("begin"):
            self.orders.append(order)
        if self.status is None:
            await self._becomes(RolloutState.AWAITING if self.needs else RolloutState.WATCHING)
        self.begun.set()
        if self.gate is not None:
            async with staying_alive():
                await self.gate.wait()
        return await self._told()

    @activity.defn(name="rolling_out.advance")
    async def advance(self, id: str) -> RolloutStatus:
        self._is_new("advance")
        known, now = self._known(), await self.now()
        assert known.due_at is not None
        if known.state is RolloutState.AWAITING and now >= known.due_at:
            await self._becomes(RolloutState.EXPIRED)
        if known.state is RolloutState.WATCHING:
            assert known.applied_at is not None
            if self.breach_after is not None and now >= known.applied_at + timedelta(seconds=self.breach_after):
                await self._becomes(RolloutState.ROLLED_BACK)
            elif now >= known.due_at:
                await self._becomes(RolloutState.DONE)
        return await self._told()

    @activity.defn(name="rolling_out.steer")
    async def steer(
        self, id: str, verb: Steering, change: OperationChange, key: str, order: RolloutOrder | None = None
    ) -> RolloutStatus:
        if not self._is_new(verb) or (verb, key) in self.steered:
            return await self._told()
        is_called_off = self.status is None and verb is Steering.ABORT and order == self.order
        if self.status is None and not is_called_off:
            raise ApplicationError(id, type=wire.Failure.NOT_FOUND, non_retryable=True)
        if not is_called_off and (problem := objection(verb, id, self._known().state)):
            raise told_not_allowed(problem)
        self.steered.add((verb, key))
        ends = {Steering.APPROVE: RolloutState.WATCHING, Steering.REJECT: RolloutState.REJECTED}
        await self._becomes(ends.get(verb, RolloutState.ABORTED), change.who)
        return await self._told()

    def _is_new(self, name: str) -> bool:
        """Note a call, or that it is made again where it had trouble; answers whether it had not been taken before."""
        if this_call() in self.taken:
            return False
        self.calls.append(name)
        if self.troubles:
            raise self.troubles.pop(0)
        self.taken.add(this_call())
        return True

    def _known(self) -> RolloutStatus:
        assert self.status is not None, "it has begun"
        return self.status

    async def _becomes(self, state: RolloutState, who: str = "") -> None:
        now, before = await self.now(), self.status
        applied = before.applied_at if before else None
        if state is RolloutState.WATCHING:
            applied = now
        lasts = timedelta(seconds=self.expires if state is RolloutState.AWAITING else self.watched)
        note = OperationNote(at=now, state=state, who=who, reason="for a test")
        self.status = RolloutStatus(
            id=self.order.id,
            kind=self.order.change.kind,
            subject=self.order.change.subject,
            state=state,
            version=before.version + 1 if before else 1,
            who=self.order.who,
            reason=self.order.reason,
            began_at=before.began_at if before else now,
            due_at=now + lasts,
            applied_at=applied,
            ended_at=now if state.is_over else None,
            needs=self.needs,
            foreseen={"leaves": 2},
            readings=Readings(live=3, waiting=1) if applied else None,
            trail=(*(before.trail if before else ()), note),
        )

    async def _told(self) -> RolloutStatus:
        known = self._known()
        if known.state.is_over:
            return known
        assert known.due_at is not None
        left = max(0.0, (known.due_at - await self.now()).total_seconds())
        return known.model_copy(update={"next_in": min(left, self.looks) if known.state is RolloutState.WATCHING else left})

    async def begins(self, stage: Stage) -> WorkflowHandle[Any, RolloutStatus]:
        return await stage.client.start_workflow(
            wire.ROLLOUT,
            self.order,
            id=wire.rollout_workflow_id(self.order.id),
            task_queue=wire.pool_task_queue(stage.name),
            result_type=RolloutStatus,
        )

    @property
    def activities(self) -> tuple[Callable[..., Any], ...]:
        return (self.begin, self.advance, self.steer)


Scenario = Callable[[Stage], Awaitable[tuple[Desk, WorkflowHandle[Any, Any]]]]
Driven = Callable[[Stage, Desk], Awaitable[WorkflowHandle[Any, Any]]]


def alone(drive: Driven) -> Scenario:
    """A scenario with a worker of its own, which knows only this desk, where time is short."""

    async def scenario(stage: Stage) -> tuple[Desk, WorkflowHandle[Any, Any]]:
        desk = Desk(watched=0.3, looks=0.1)
        async with open_stage(stage.client, *desk.activities, name=desk.order.id) as own:
            return desk, await drive(own, desk)

    scenario.__name__ = drive.__name__
    return scenario


async def rolls_out_when_approved(stage: Stage, desk: Desk) -> WorkflowHandle[Any, Any]:
    """Meets an outage, awaits approval, is approved and watched to the end."""
    desk.needs, desk.troubles = "2 would lose protection", [ConnectionError("no record")]
    handle = await desk.begins(stage)
    await until_told(handle, RolloutState.AWAITING)
    await handle.execute_update(Steering.APPROVE, BEN)
    await handle.result()
    return handle


async def rolls_back(stage: Stage, desk: Desk) -> WorkflowHandle[Any, Any]:
    """A condition is breached while it is watched."""
    desk.breach_after = 0.1
    handle = await desk.begins(stage)
    await handle.result()
    return handle


async def rollout_is_approved_too_late(stage: Stage, desk: Desk) -> WorkflowHandle[Any, Any]:
    """Nobody approves it in time."""
    desk.needs, desk.expires = "2 would lose protection", 0.3
    handle = await desk.begins(stage)
    await handle.result()
    return handle


async def rollout_is_rejected(stage: Stage, desk: Desk) -> WorkflowHandle[Any, Any]:
    """A person does not let it begin."""
    desk.needs = "2 would lose protection"
    handle = await desk.begins(stage)
    await until_told(handle, RolloutState.AWAITING)
    await handle.execute_update(Steering.REJECT, BEN)
    await handle.result()
    return handle


async def rollout_is_aborted(stage: Stage, desk: Desk) -> WorkflowHandle[Any, Any]:
    """A person ends it while it is watched."""
    desk.watched = desk.looks = 60
    handle = await desk.begins(stage)
    await until_told(handle, RolloutState.WATCHING)
    await handle.execute_update(Steering.ABORT, BEN)
    await handle.result()
    return handle


async def has_its_rollout_cancelled(stage: Stage, desk: Desk) -> WorkflowHandle[Any, Any]:
    """Temporal is asked to cancel its workflow."""
    desk.watched = desk.looks = 60
    handle = await desk.begins(stage)
    await until_told(handle, RolloutState.WATCHING)
    await handle.cancel()
    await ends_cancelled(handle)
    return handle


async def is_ordered_by_a_schedule(stage: Stage, desk: Desk) -> WorkflowHandle[Any, Any]:
    """What a schedule starts orders a roll-out, and is there until that is over."""
    return await _recurs(stage, desk, TypedSearchAttributes.empty)


async def is_ordered_for_a_time_of_a_schedule(stage: Stage, desk: Desk) -> WorkflowHandle[Any, Any]:
    """The same, knowing when it was due."""
    due = SearchAttributePair(wire.DUE_AT, datetime(2030, 6, 1, 20, tzinfo=UTC))
    return await _recurs(stage, desk, TypedSearchAttributes([due]))


async def _recurs(stage: Stage, desk: Desk, attributes: TypedSearchAttributes) -> WorkflowHandle[Any, Any]:
    spec = ScheduleSpec(
        id=desk.order.id,
        cron="0 20 * * *",
        reason="night",
        who="ada",
        roll_out=RecurringRollout(policy=desk.order.change.policy),
    )
    queue = wire.pool_task_queue(stage.name)
    handle = await stage.client.start_workflow(
        wire.RECURRING, spec, id=f"recurring/{spec.id}", task_queue=queue, search_attributes=attributes
    )
    await handle.result()
    return handle


ROLLOUTS: dict[str, Scenario] = {
    drive.__name__: alone(drive)
    for drive in (
        rolls_out_when_approved,
        rolls_back,
        rollout_is_approved_too_late,
        rollout_is_rejected,
        rollout_is_aborted,
        has_its_rollout_cancelled,
        is_ordered_by_a_schedule,
        is_ordered_for_a_time_of_a_schedule,
    )
}


async def until_told(handle: WorkflowHandle[Any, Any], state: RolloutState) -> RolloutStatus:
    """Until the workflow itself tells that it is in a state."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            status: RolloutStatus | None = await handle.query(wire.OPERATION_STATUS, result_type=RolloutStatus)
            if status is not None and status.state is state:
                return status
            await asyncio.sleep(0.02)
