"""What is asked of work that was handed over, and told to it."""

import uuid

from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from corral import wire
from corral.api import (
    Acknowledgement,
    Cancel,
    Checkpointed,
    Demand,
    ExtendRuntime,
    Hold,
    Model,
    Release,
    Reprioritize,
    Resize,
    Retarget,
    Told,
    ToldDemand,
)
from corral.client.connection import Connection, again_while_dropped, request_id
from corral.client.errors import ANSWER_WITHIN, has_ended, plain_errors


class Changes(Connection):
    """Asks for changes of work; the answer is the state after the change, and in words what was done.

    A change is done once for a `key`: whoever gives one of their own may repeat a call whose answer was lost. Without one each
    call is a change of its own.

    Every change raises `NotFound` where there is no such workload or it has ended, and `Conflict` where its state does not
    allow the change (docs/adjusting.md); what is told without waiting for an answer raises `NotFound` alone.
    """

    async def cancel(self, workload: str, reason: str = "", *, key: str | None = None) -> Acknowledgement:
        """End a workload, whatever it is doing; with notice where it runs. The reason is kept in its history."""
        return await self._change(workload, wire.Update.CANCEL, Cancel(reason=reason), key)

    async def hold(self, workload: str, reason: str = "", *, key: str | None = None) -> Acknowledgement:
        """Take a workload out of the line until it is released; stop it with notice if it runs."""
        return await self._change(workload, wire.Update.HOLD, Hold(reason=reason), key)

    async def release(self, workload: str, *, key: str | None = None) -> Acknowledgement:
        """Put a held workload back in line."""
        return await self._change(workload, wire.Update.RELEASE, Release(), key)

    async def resize(self, workload: str, resize: Resize, *, key: str | None = None) -> Acknowledgement:
        """Change the size of a workload that does not run yet; one that has a hold gives it back, and waits again.

        An endpoint is resized as it runs, too: what it has and keeps runs on, until demand asks for another size.
        """
        return await self._change(workload, wire.Update.RESIZE, resize, key)

    async def demand(self, workload: str, demand: Demand, *, key: str | None = None) -> Acknowledgement:
        """Tell an endpoint its demand, from which follows how many replicas it wants; the message says how many."""
        return await self._change(workload, wire.Update.DEMAND, demand, key)

    async def checkpointed(self, workload: str, *, key: str | None = None) -> Acknowledgement:
        """Say that a workload's work is saved; one that has notice to leave is stopped at once, so that nobody waits longer."""
        return await self._change(workload, wire.Update.CHECKPOINTED, Checkpointed(), key)

    async def reprioritize(self, workload: str, priority: int, *, key: str | None = None) -> Acknowledgement:
        """Change a workload's order inside its tier and queue: from -1000 to 1000, the highest first."""
        return await self._change(workload, wire.Update.REPRIORITIZE, Reprioritize(priority=priority), key)

    async def retarget(self, workload: str, retarget: Retarget, *, key: str | None = None) -> Acknowledgement:
        """Accept other targets from now on. What has capacity that one of them accepts keeps it.

        Raises:
            Conflict: it runs where none of them is, and it was not said that it shall move.
        """
        return await self._change(workload, wire.Update.RETARGET, retarget, key)

    async def extend(self, workload: str, seconds: int, *, key: str | None = None) -> Acknowledgement:
        """Let a workload with a maximum runtime run so many seconds longer, over all of its attempts."""
        return await self._change(workload, wire.Update.EXTEND, ExtendRuntime(seconds=seconds), key)

    async def tell_demand(self, workload: str, demand: Demand, *, key: str | None = None) -> None:
        """Tell an endpoint its demand without waiting for an answer; what its state does not allow changes nothing."""
        await self._tell(workload, wire.Telling.DEMAND, ToldDemand(key=key or str(uuid.uuid4()), demand=demand))

    async def tell_checkpointed(self, workload: str, *, key: str | None = None) -> None:
        """Say that a workload's work is saved without waiting for an answer."""
        await self._tell(workload, wire.Telling.CHECKPOINTED, Told(key=key or str(uuid.uuid4())))

    async def wake(self, workload: str) -> None:
        """Let a workload's workflow look at the record at once, as it does now and then by itself."""
        await self._tell(workload, wire.Telling.WAKE)

    async def _change(self, workload: str, update: wire.Update, change: Model, key: str | None) -> Acknowledgement:
        request, workflow = request_id(update, key), wire.workload_workflow_id(workload)
        async with self._answered_by(workflow, _no_live_workload(workload)):
            try:
                return await self._update(workflow, update, Acknowledgement, change, request=request)
            except (RPCError, WorkflowUpdateFailedError) as error:
                if not _is_refused(error) or (done := await self._done(workload, update, request)) is None:
                    raise
                return done

    async def _done(self, workload: str, update: wire.Update, request: str) -> Acknowledgement | None:
        """What came of an earlier try of a change, whose answer was lost: by it the workload may have ended since."""
        await self._handle(workload).describe()
        answers: list[Acknowledgement] = await self._ask(
            wire.Inquiry.CHANGE, [workload, update, request], list[Acknowledgement]
        )
        return answers[0] if answers else None

    async def _tell(self, workload: str, what: wire.Telling, *told: Told) -> None:
        async with plain_errors(missing=_no_live_workload(workload)):
            await again_while_dropped(lambda: self._handle(workload).signal(what, args=told, rpc_timeout=ANSWER_WITHIN))


def _no_live_workload(id: str) -> str:
    return f"there is no workload {id!r} that has not ended; `corral list --active` lists the others"


def _is_refused(error: RPCError | WorkflowUpdateFailedError) -> bool:
    """Whether a change came too late for its workload."""
    is_no = isinstance(error.__cause__, ApplicationError) and error.__cause__.type == wire.Failure.NOT_ALLOWED
    return is_no or has_ended(error)
