"""What operators order that takes its time: evacuations and roll-outs."""

import asyncio
from functools import partial

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ActivityError, ApplicationError, TerminatedError, WorkflowAlreadyStartedError

from corral import wire
from corral.api import (
    EvacuationForecast,
    EvacuationOrder,
    EvacuationStatus,
    OperationChange,
    OperationKind,
    OperationStatus,
    OrderRecord,
)
from corral.client.connection import UNTIL_STARTED_AGAIN_SECONDS, Answer, Connection, Kept, Submission, request_id
from corral.client.errors import Conflict, CorralError, NotFound, as_said, plain_errors
from corral.operating import beginning
from corral.rollout import Change, RolloutOrder, RolloutStatus, WhatIf


class Operations(Connection):
    """Orders and steers operations, and tells how far they are."""

    async def foresee_evacuation(self, order: EvacuationOrder) -> EvacuationForecast:
        """Tell who would have to leave, and where each would go or why it would wait; nothing is changed.

        Raises:
            NotFound: there is no such node, cluster or region.
        """
        return await self._ask(wire.Inquiry.FORESEE_EVACUATION, order, EvacuationForecast)

    async def evacuate(self, order: EvacuationOrder) -> Submission:
        """Begin to empty a node, a cluster or a region. The same order again is the same evacuation.

        By the policy in force somebody may have to approve it first.

        Raises:
            Conflict: the id belongs to another evacuation.
        """
        return await self._order(order)

    async def what_if(self, change: Change) -> WhatIf:
        """Tell what a policy or queues would do to the pool as it is now; nothing is changed.

        Its token lets `roll_out` apply the change only while that is so; it is good for a day.

        Raises:
            Invalid: the queues contradict themselves, or the policy in force.
        """
        return await self._ask(wire.Inquiry.WHAT_IF, change, WhatIf)

    async def roll_out(self, order: RolloutOrder) -> Submission:
        """Begin to roll out a policy or queues. The same order again is the same roll-out.

        By the policy in force somebody may have to approve it first.

        Raises:
            Conflict: the id belongs to another roll-out.
        """
        return await self._order(order)

    async def _order(self, order: EvacuationOrder | RolloutOrder) -> Submission:
        async with plain_errors():
            try:
                await begin_operation(self._temporal, self._pool, order, WorkflowIDConflictPolicy.FAIL)
            except WorkflowAlreadyStartedError:
                description = await self._temporal.get_workflow_handle(beginning(order).id).describe()
                if await description.memo_value(wire.DIGEST_MEMO, default=None) != order.digest:
                    raise Conflict(f"id: {order.id!r} belongs to another operation; give this one an id of its own") from None
                return Submission(order.id, created=False)
        return Submission(order.id, created=True)

    async def evacuations(self, limit: int = 20) -> list[EvacuationStatus]:
        """List the newest evacuations, those under way first."""
        return await self._ask(wire.Inquiry.EVACUATIONS, limit, list[EvacuationStatus])

    async def operations(self, limit: int = 20) -> list[OperationStatus]:
        """List the newest operations of all kinds, those under way first."""
        return await self._ask(wire.Inquiry.OPERATIONS, [None, limit], list[OperationStatus])

    async def operation(self, id: str) -> OperationStatus:
        """Tell how one operation stands, and all that happened to it.

        Raises:
            NotFound: there is no such operation.
        """
        found = await self._ask(wire.Inquiry.OPERATIONS, [id, 1], list[OperationStatus])
        if not found:
            raise NotFound(f"there is no operation {id!r}; `corral operations` lists them")
        return found[0]

    async def steer_operation(
        self, id: str, verb: wire.Steering, change: OperationChange, *, key: str | None = None
    ) -> OperationStatus:
        """Approve, reject, pause, resume or abort an operation that is under way; answers how it stands then.

        An evacuation that is aborted gives back the nodes that it cordoned, and who has been told to leave leaves all the same.
        A roll-out that is aborted puts back what was before; it cannot be paused. What has not begun yet can be aborted, and
        never does.

        Raises:
            NotFound: there is none of that id under way.
            Conflict: it is over, or its state or the person does not allow it.
        """
        missing = f"there is no operation {id!r} under way; `corral operations` lists them"
        kept = Kept(await self._workflow_of(id), partial(self._is_under_way, id), missing)
        await self._change_kept(kept, verb, change, request_id(verb, key))
        return await self.operation(id)

    async def _workflow_of(self, id: str) -> str:
        """The workflow of an operation; one that was ordered just now has one before it has begun and is listed."""
        try:
            kind = (await self.operation(id)).kind
        except NotFound:
            is_evacuation = await self._has_workflow(wire.evacuation_workflow_id(id))
            kind = OperationKind.EVACUATION if is_evacuation else OperationKind.POLICY
        return (wire.evacuation_workflow_id if kind is OperationKind.EVACUATION else wire.rollout_workflow_id)(id)

    async def _is_under_way(self, id: str) -> bool:
        return (await self.operation(id)).ended_at is None

    async def orders(self, subject: str | None = None, limit: int = 100) -> list[OrderRecord]:
        """List who ordered what, the newest first; of one workflow if its id is given, such as `workload/w1`."""
        return await self._ask(wire.Inquiry.ORDERS, [subject, limit], list[OrderRecord])

    async def evacuated(self, id: str) -> EvacuationStatus:
        """Wait until an evacuation is over, however long that takes.

        Raises:
            NotFound: there is no such evacuation, or nothing was in its place.
        """
        return await self._ended(id, wire.evacuation_workflow_id(id), EvacuationStatus)

    async def rolled_out(self, id: str) -> RolloutStatus:
        """Wait until a roll-out is over, however long that takes.

        Raises:
            NotFound: there is no such roll-out.
            Conflict: its token was given for another change.
        """
        return await self._ended(id, wire.rollout_workflow_id(id), RolloutStatus)

    async def _ended(self, id: str, workflow: str, status: type[Answer]) -> Answer:
        handle: WorkflowHandle[object, Answer] = self._temporal.get_workflow_handle(workflow, result_type=status)
        async with plain_errors(missing=f"there is no {workflow.replace('/', ' ')!r}"):
            while True:
                try:
                    return await handle.result()
                except WorkflowFailureError as failure:
                    cause = failure.cause.cause if isinstance(failure.cause, ActivityError) else failure.cause
                    if isinstance(cause, ApplicationError):
                        raise as_said(cause) from failure
                    if not isinstance(cause, TerminatedError) or not await self._is_under_way(id):
                        raise CorralError(f"{workflow.replace('/', ' ')!r} has not come to its end: {cause}") from failure
                await asyncio.sleep(UNTIL_STARTED_AGAIN_SECONDS)


async def begin_operation(
    temporal: Client,
    pool: str,
    order: EvacuationOrder | RolloutOrder,
    conflict: WorkflowIDConflictPolicy,
    reuse: WorkflowIDReusePolicy = WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
) -> None:
    """Start the workflow of an operation, unless one of its id has come to its end and is not to be used again.

    Raises:
        WorkflowAlreadyStartedError: it has, or it runs and that is a conflict.
    """
    begins = beginning(order)
    await temporal.start_workflow(
        begins.workflow,
        order,
        id=begins.id,
        task_queue=wire.pool_task_queue(pool),
        id_reuse_policy=reuse,
        id_conflict_policy=conflict,
        static_summary=begins.summary,
        memo={wire.DIGEST_MEMO: order.digest},
        priority=wire.STEERS,
    )
