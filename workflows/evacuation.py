"""Evacuations: what operators order for a whole node, cluster or region, carried through whatever happens to the workers."""

import asyncio

from temporalio import workflow
from temporalio.common import VersioningBehavior
from temporalio.exceptions import is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.evacuating import Evacuating
    from corral import wire
    from corral.api import EvacuationOrder, EvacuationState, EvacuationStatus
    from corral.wire import Steering
    from domain.operations.evacuation import objection
    from workflows.beginnings import begun_by_anybody
    from workflows.policies import A_STRETCH, HEARTBEAT, STRETCH_SECONDS, UNTIL_IT_WORKS
    from workflows.steering import Steered


@workflow.defn(name=wire.EVACUATION)
@begun_by_anybody
class Evacuation(Steered[EvacuationOrder, EvacuationStatus]):
    """Empties a place until nothing is there or its deadline comes. The record says how far it is."""

    @workflow.init
    def __init__(self, order: EvacuationOrder) -> None:
        """Know nothing of how far it is: the record tells, in a later run as in the first."""
        super().__init__(order, Evacuating.steer, in_words)

    @workflow.run
    async def run(self, order: EvacuationOrder) -> EvacuationStatus:
        """Keep moving; cancelled, abort."""
        try:
            while not (self._status and self._status.state.is_over):
                if workflow.info().is_continue_as_new_suggested():
                    await workflow.wait_condition(workflow.all_handlers_finished)
                    workflow.continue_as_new(order)
                self._learn(await self._keep_moving())
        except (Exception, asyncio.CancelledError) as error:
            if workflow.cancellation_reason() is None and not is_cancelled_exception(error):
                raise
            await self._abort()
            await workflow.wait_condition(workflow.all_handlers_finished)
            # A step that is to end may fail or be overdue as well; that changes nothing of what was asked.
            raise asyncio.CancelledError from error
        await workflow.wait_condition(workflow.all_handlers_finished)
        assert self._status is not None, "it is over"
        return self._status

    async def _keep_moving(self) -> EvacuationStatus:
        # Cancelled, it must have ended before what it did can be undone.
        return await workflow.execute_activity_method(
            Evacuating.keep_moving,
            args=[self._order, self._status.version if self._status else 0, STRETCH_SECONDS],
            start_to_close_timeout=A_STRETCH,
            heartbeat_timeout=HEARTBEAT,
            retry_policy=UNTIL_IT_WORKS,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"empty {self._order.kind} {self._order.place}",
        )

    def _why_not(self, verb: Steering, status: EvacuationStatus) -> str | None:
        return objection(verb, self._order.id, status.state)


@workflow.defn(name=wire.EVACUATION, versioning_behavior=VersioningBehavior.PINNED)
@begun_by_anybody
class PinnedEvacuation(Evacuation):
    """The same for workers that have a version: it ends with the code that began it."""

    @workflow.init
    def __init__(self, order: EvacuationOrder) -> None:
        """Know nothing, as without a version."""
        super().__init__(order)

    @workflow.run
    async def run(self, order: EvacuationOrder) -> EvacuationStatus:
        """Keep moving; cancelled, abort."""
        return await super().run(order)


def in_words(status: EvacuationStatus) -> str:
    """What operators read on the page of the workflow."""
    order = status.order
    lines = [
        f"{status.state}: {order.kind} {order.place}, {status.nodes} nodes; {order.reason} ({order.who})",
        f"{status.left} workloads are left, {status.leaving} of them on their way out; {status.told} were told to leave",
    ]
    if status.state is EvacuationState.AWAITING:
        lines[1] = f"{status.needs}, until {status.deadline.isoformat(timespec='seconds')}"
    if status.remaining:
        lines.append(f"left: {', '.join(status.remaining)}{', ...' if status.left > len(status.remaining) else ''}")
    return "\n\n".join(lines)
