"""What a schedule starts each time: an operation of its own, under an id that says when."""

from datetime import datetime

from temporalio import workflow
from temporalio.exceptions import ChildWorkflowError, FailureError, WorkflowAlreadyStartedError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from corral import wire
    from corral.operating import beginning
    from corral.schedule import ScheduleSpec
    from workflows.beginnings import begun_by_anybody

DUE_AT_ITS_TIME = "due-at-its-time"
"""Older ones gave their operation the time at which they began."""


@workflow.defn(name=wire.RECURRING)
@begun_by_anybody
class Recurring:
    """Orders an operation and is there as long as that is, so that its schedule does not order the next one meanwhile."""

    @workflow.run
    async def run(self, spec: ScheduleSpec) -> str:
        """Order it; answers with its id once it is over, and with what it met where it could not be carried out."""
        order = spec.order_at(self._due_at())
        begins = beginning(order)
        try:
            await workflow.execute_child_workflow(
                begins.workflow,
                order,
                id=begins.id,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                memo={wire.DIGEST_MEMO: order.digest},
                static_summary=f"{spec.subject}: {spec.reason}"[:200],
                priority=wire.STEERS,
            )
        except (ChildWorkflowError, WorkflowAlreadyStartedError) as error:
            if is_cancelled_exception(error):
                raise
            outcome = f"{order.id} failed: {_in_words(error)}"
            workflow.logger.warning("%s", outcome)
            return outcome
        return order.id

    def _due_at(self) -> datetime:
        """The time of the schedule that this is for, however late it began."""
        info = workflow.info()
        is_due_at = info.typed_search_attributes.get(wire.DUE_AT)
        return is_due_at if is_due_at is not None and workflow.patched(DUE_AT_ITS_TIME) else info.workflow_start_time


def _in_words(error: BaseException) -> str:
    """What was the matter at the bottom of it."""
    while isinstance(error, FailureError) and error.cause is not None:
        error = error.cause
    return error.message if isinstance(error, FailureError) else str(error)
