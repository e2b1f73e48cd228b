"""Operations: what operators order for a whole node, cluster or region, carried through whatever happens to the workers."""

from temporalio import workflow
from temporalio.common import VersioningBehavior
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.evacuating import Evacuating
    from corral import wire
    from corral.api import EvacuationChange, EvacuationOrder, EvacuationStatus
    from corral.wire import Steering
    from domain.evacuation import objection
    from workflows.policies import A_STRETCH, HEARTBEAT, ONE_CALL, STRETCH_SECONDS, UNTIL_IT_WORKS

CANCELLED = EvacuationChange(who="Temporal", reason="its workflow was cancelled")


@workflow.defn(name=wire.EVACUATION)
class Evacuation:
    """Empties a place until nothing is there or its deadline comes. The record says how far it is; the newest version is so."""

    @workflow.init
    def __init__(self, order: EvacuationOrder) -> None:
        """Know nothing of how far it is: the record tells, in a later run as in the first."""
        self._order = order
        self._status: EvacuationStatus | None = None

    @workflow.run
    async def run(self, order: EvacuationOrder) -> EvacuationStatus:
        """Keep moving; cancelled, abort."""
        try:
            while not (self._status and self._status.state.is_over):
                if workflow.info().is_continue_as_new_suggested():
                    await workflow.wait_condition(workflow.all_handlers_finished)
                    workflow.continue_as_new(order)
                self._learn(await self._keep_moving())
        except BaseException as error:
            if not is_cancelled_exception(error):
                raise
            await self._abort_if_begun()
            raise
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

    async def _abort_if_begun(self) -> None:
        try:
            await self._steer(Steering.ABORT, CANCELLED)
        except ApplicationError as error:
            if error.type not in {wire.Failure.NOT_FOUND, wire.Failure.NOT_ALLOWED}:
                raise

    def _learn(self, status: EvacuationStatus) -> None:
        if self._status is None or status.version > self._status.version:
            self._status = status
            workflow.set_current_details(in_words(status))

    async def _steer(self, verb: Steering, change: EvacuationChange) -> EvacuationStatus:
        try:
            status = await workflow.execute_activity_method(
                Evacuating.steer,
                args=[self._order.id, verb, change],
                start_to_close_timeout=ONE_CALL,
                retry_policy=UNTIL_IT_WORKS,
                summary=f"{verb}, asked by {change.who}: {change.reason[:80]}",
            )
        except ActivityError as error:
            raise error.cause if isinstance(error.cause, ApplicationError) else error from None
        self._learn(status)
        return status

    def _refuse(self, verb: Steering) -> None:
        if self._status and (problem := objection(verb, self._order.id, self._status.state)):
            raise ApplicationError(problem, type=wire.Failure.NOT_ALLOWED, non_retryable=True)

    @workflow.query(name=wire.EVACUATION_STATUS)
    def status(self) -> EvacuationStatus | None:
        """How it stands, or none before it has begun."""
        return self._status

    @workflow.update(name=Steering.PAUSE)
    async def pause(self, change: EvacuationChange) -> EvacuationStatus:
        """Tell nobody else to leave."""
        return await self._steer(Steering.PAUSE, change)

    @workflow.update(name=Steering.RESUME)
    async def resume(self, change: EvacuationChange) -> EvacuationStatus:
        """Go on."""
        return await self._steer(Steering.RESUME, change)

    @workflow.update(name=Steering.ABORT)
    async def abort(self, change: EvacuationChange) -> EvacuationStatus:
        """Give back what it cordoned, and end."""
        return await self._steer(Steering.ABORT, change)

    @pause.validator
    def refuse_pause(self, change: EvacuationChange) -> None:
        """One that is over cannot be paused."""
        self._refuse(Steering.PAUSE)

    @resume.validator
    def refuse_resume(self, change: EvacuationChange) -> None:
        """Nor resumed."""
        self._refuse(Steering.RESUME)

    @abort.validator
    def refuse_abort(self, change: EvacuationChange) -> None:
        """Nor aborted."""
        self._refuse(Steering.ABORT)


@workflow.defn(name=wire.EVACUATION, versioning_behavior=VersioningBehavior.PINNED)
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
    if status.remaining:
        lines.append(f"left: {', '.join(status.remaining)}{', ...' if status.left > len(status.remaining) else ''}")
    return "\n\n".join(lines)
