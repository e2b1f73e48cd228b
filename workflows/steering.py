"""Steering: the updates by which people steer an operation, the same for every kind of them."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from corral import wire
    from corral.api import EvacuationOrder, EvacuationStatus, OperationChange
    from corral.rollout import RolloutOrder, RolloutStatus
    from corral.wire import Steering
    from workflows.policies import answered, knows_all

BY_ITSELF = "workflow-cancelled"
CANCELLED = OperationChange(who="Temporal", reason="its workflow was cancelled")

Order = TypeVar("Order", EvacuationOrder, RolloutOrder)
Status = TypeVar("Status", EvacuationStatus, RolloutStatus)


class Steered(Generic[Order, Status]):
    """Remembers how an operation stands, as the record has told, and lets it be steered; the newest version is so."""

    def __init__(self, order: Order, steer: Callable[..., Awaitable[Status]], in_words: Callable[[Status], str]) -> None:
        self._order: Order = order
        self._status: Status | None = None
        self._steer_in_record: Callable[..., Awaitable[Status]] = steer
        self._in_words: Callable[[Status], str] = in_words

    def _why_not(self, verb: Steering, status: Status) -> str | None:
        raise NotImplementedError

    def _learn(self, status: Status) -> None:
        if self._status is None or status.version >= self._status.version:
            self._status = status
            workflow.set_current_details(self._in_words(status))

    async def _steer(self, verb: Steering, change: OperationChange) -> Status:
        update = workflow.current_update_info()
        key = update.id if update else BY_ITSELF
        summary = f"{verb}, asked by {change.who}: {change.reason[:80]}"
        # One that has not begun is in no record: what is to be aborted so is said, for a step on its way may still begin it.
        args = [self._order.id, verb, change, key, self._order]
        status: Status = await answered(self._steer_in_record, args, summary)
        self._learn(status)
        return status

    async def _abort(self) -> None:
        """Unless it is over, or never was there."""
        try:
            await self._steer(Steering.ABORT, CANCELLED)
        except ApplicationError as error:
            if error.type not in {wire.Failure.NOT_FOUND, wire.Failure.NOT_ALLOWED}:
                raise

    def _refuse(self, verb: Steering) -> None:
        if knows_all() and self._status and (problem := self._why_not(verb, self._status)):
            raise ApplicationError(problem, type=wire.Failure.NOT_ALLOWED, non_retryable=True)

    @workflow.query(name=wire.OPERATION_STATUS)
    def status(self) -> Status | None:
        """How it stands, or none before it has begun."""
        return self._status

    @workflow.update(name=Steering.PAUSE)
    async def pause(self, change: OperationChange) -> Status:
        """Go no further for now."""
        return await self._steer(Steering.PAUSE, change)

    @workflow.update(name=Steering.RESUME)
    async def resume(self, change: OperationChange) -> Status:
        """Go on."""
        return await self._steer(Steering.RESUME, change)

    @workflow.update(name=Steering.ABORT)
    async def abort(self, change: OperationChange) -> Status:
        """Give back what it took, or put back what it changed, and end."""
        return await self._steer(Steering.ABORT, change)

    @workflow.update(name=Steering.APPROVE)
    async def approve(self, change: OperationChange) -> Status:
        """Let it begin."""
        return await self._steer(Steering.APPROVE, change)

    @workflow.update(name=Steering.REJECT)
    async def reject(self, change: OperationChange) -> Status:
        """End it before it begins."""
        return await self._steer(Steering.REJECT, change)

    @pause.validator
    def _may_pause(self, change: OperationChange) -> None:
        self._refuse(Steering.PAUSE)

    @resume.validator
    def _may_resume(self, change: OperationChange) -> None:
        self._refuse(Steering.RESUME)

    @abort.validator
    def _may_abort(self, change: OperationChange) -> None:
        self._refuse(Steering.ABORT)

    @approve.validator
    def _may_approve(self, change: OperationChange) -> None:
        self._refuse(Steering.APPROVE)

    @reject.validator
    def _may_reject(self, change: OperationChange) -> None:
        self._refuse(Steering.REJECT)
