"""Work: handed over, asked about, waited for."""

from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from corral import wire
from corral.api import (
    Explanation,
    Moment,
    State,
    WakeUp,
    WorkloadEvent,
    WorkloadFilter,
    WorkloadResult,
    WorkloadSpec,
    WorkloadStatus,
)
from corral.client.connection import Connection, Submission
from corral.client.errors import Conflict, NotFound, in_time, plain_errors


class Workloads(Connection):
    """Hands over work, and tells how it stands."""

    async def submit(self, spec: WorkloadSpec) -> Submission:
        """Hand over a workload. The same id with the same spec is the same workload, however often it is submitted.

        It answers as soon as the workload is safe, before it is admitted: whether it waits or was refused `status` tells, and
        `explain` says why.

        Raises:
            Conflict: the id belongs to a workload with another spec.
        """
        workflow_id = wire.workload_workflow_id(spec.id)
        async with plain_errors():
            try:
                await self._temporal.start_workflow(
                    wire.LIFECYCLE,
                    spec,
                    id=workflow_id,
                    task_queue=wire.pool_task_queue(self._pool),
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                    static_summary=spec.summary,
                    memo={wire.DIGEST_MEMO: spec.digest},
                    search_attributes=_search_attributes(spec),
                    priority=wire.lives(spec.tenant or spec.queue),
                )
            except WorkflowAlreadyStartedError:
                await self._require_same_spec(spec)
                return Submission(spec.id, created=False)
        return Submission(spec.id, created=True)

    async def _require_same_spec(self, spec: WorkloadSpec) -> None:
        description = await self._handle(spec.id).describe()
        if await description.memo_value(wire.DIGEST_MEMO, default=None) != spec.digest:
            raise Conflict(
                f"id: {spec.id!r} belongs to a workload with another spec; submit this one under an id of its own, "
                f"or see the other with `corral status {spec.id}`"
            )

    async def status(self, workload: str) -> WorkloadStatus:
        """Tell where a workload stands, with its explanation if it waits.

        Raises:
            NotFound: there is no such workload.
        """
        try:
            return await self._ask(wire.Inquiry.STATUS, workload, WorkloadStatus)
        except NotFound:
            async with plain_errors(missing=_no_workload(workload)), in_time():
                status: WorkloadStatus = await self._handle(workload).query(wire.Query.STATUS, result_type=WorkloadStatus)
                return status

    async def explain(self, workload: str, *, names: bool = False) -> Explanation | None:
        """Tell why a workload waits, found out now, with the changes that would start it, or why it was refused.

        With `names` the changes name the workloads of others that they would stop, and where its queue does not exist those
        with similar names are named, as operators need to know. Of one that runs it tells if that is on capacity which is
        lent to it (`OnLoan`). None when it neither waits, was refused nor failed, and may keep its place.

        Raises:
            NotFound: there is no such workload.
        """
        return (await self.explained(workload, names=names)).explanation

    async def explained(self, workload: str, *, names: bool = False) -> WorkloadStatus:
        """How a workload stands, with an explanation as `explain` gives it.

        Raises:
            NotFound: there is no such workload.
        """
        try:
            return await self._ask(wire.Inquiry.EXPLAIN, [workload, names], WorkloadStatus)
        except NotFound:
            return await self.status(workload)

    async def workloads(self, which: WorkloadFilter | None = None) -> list[WorkloadStatus]:
        """List workloads, newest first: 100 of them, unless the filter has another limit."""
        return await self._ask(wire.Inquiry.WORKLOADS, which or WorkloadFilter(), list[WorkloadStatus])

    async def events(self, workload: str, after: int = 0) -> list[WorkloadEvent]:
        """List what happened to a workload, oldest first, beginning after the event with that id; 10,000 at most.

        Raises:
            NotFound: there is no such workload.
        """
        return await self._ask(wire.Inquiry.EVENTS, [workload, after], list[WorkloadEvent])

    async def history(self, workload: str) -> list[Moment]:
        """The last changes of a workload's state as its workflow heard of them, oldest first; `events` has all there is.

        Raises:
            NotFound: there is no such workload.
        """
        async with plain_errors(missing=_no_workload(workload)), in_time():
            moments: list[Moment] = await self._handle(workload).query(wire.Query.HISTORY, result_type=list[Moment])
            return moments

    async def next_wake_up(self, workload: str) -> WakeUp | None:
        """When a workload's workflow next does something by itself, and what; none where it waits for others alone.

        Raises:
            NotFound: there is no such workload.
        """
        async with plain_errors(missing=_no_workload(workload)), in_time():
            wakes: WakeUp | None = await self._handle(workload).query(wire.Query.NEXT_WAKE_UP, result_type=WakeUp)
            return wakes

    async def wait(self, workload: str) -> WorkloadResult:
        """Wait until a workload has ended, however long that takes; answers with how, be it success or not.

        Raises:
            NotFound: there is no such workload.
        """
        handle: WorkflowHandle[object, WorkloadResult] = self._temporal.get_workflow_handle(
            wire.workload_workflow_id(workload), result_type=WorkloadResult
        )
        async with plain_errors(missing=_no_workload(workload)):
            try:
                return await handle.result()
            except WorkflowFailureError as failure:
                return WorkloadResult(id=workload, state=State.CANCELLED, message=str(failure.cause))


def _no_workload(id: str) -> str:
    return f"there is no workload {id!r}; `corral list` lists them"


def _search_attributes(spec: WorkloadSpec) -> TypedSearchAttributes:
    return TypedSearchAttributes(
        [
            SearchAttributePair(wire.QUEUE, spec.queue),
            SearchAttributePair(wire.TIER, spec.tier),
            SearchAttributePair(wire.STATE, State.SUBMITTED),
            SearchAttributePair(wire.PRIORITY, spec.priority),
        ]
    )
