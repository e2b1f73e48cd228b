"""The client: everything a service does with Corral, over Temporal handles."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import TypeVar

from temporalio.client import (
    ActivityFailureError,
    Client,
    Interceptor,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleHandle,
    ScheduleInfo,
    ScheduleListInfo,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.client import ScheduleSpec as TimesOfSchedule
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import ActivityError, ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import GrpcCompression, RPCError, RPCStatusCode, TLSConfig

from corral import wire
from corral.api import (
    Acknowledgement,
    Cancel,
    Catalogue,
    Checkpointed,
    ClusterStatus,
    Cordon,
    DatasetStatus,
    Demand,
    EvacuationForecast,
    EvacuationOrder,
    EvacuationStatus,
    Explanation,
    ExtendRuntime,
    FleetStatus,
    Hold,
    LostCluster,
    Model,
    Moment,
    NodePoolStatus,
    NodeStatus,
    OperationChange,
    OperationKind,
    OperationStatus,
    OrderRecord,
    ProvisioningStatus,
    QueueStatus,
    QueueTree,
    Release,
    Reprioritize,
    Resize,
    Retarget,
    RoundStatus,
    State,
    Told,
    ToldDemand,
    WakeUp,
    WorkloadEvent,
    WorkloadFilter,
    WorkloadResult,
    WorkloadSpec,
    WorkloadStatus,
)
from corral.policy import LintFinding, Policy, PolicyAnswer, PolicyOrder, PolicyRecord
from corral.reservation import Extend, ReservationAnswer, ReservationSpec, ReservationState, ReservationStatus
from corral.rollout import Change, RolloutOrder, RolloutStatus, WhatIf
from corral.schedule import MandateStatus, Revocation, ScheduleSpec, ScheduleStatus
from corral.sealing import CannotUnseal, data_converter, is_sealed
from corral.signing import SignCommands, Signer

ANSWER_WITHIN = timedelta(seconds=30)
TRIES_WHILE_NOT_READY = 10
NOT_READY_SECONDS = 0.1

Answer = TypeVar("Answer")


class CorralError(Exception):
    """Something that a person should read; the message says what was wrong and what to do."""


class NotFound(CorralError):
    """There is no such workload or provider."""


class Conflict(CorralError):
    """The id is taken by another spec, or the workload's state does not allow the change."""


class Invalid(CorralError):
    """What was asked makes no sense; the message names the field, the value and what was expected."""


class Forbidden(CorralError):
    """Who asks may not do this; the message says who that is, which role it takes on which queue, and how to get it."""


class PolicyRefused(Invalid):
    """A policy contradicts itself, or the queues or the work that it would meet; `findings` say where and how."""

    def __init__(self, findings: Sequence[LintFinding]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings if finding.refuses))
        self.findings = tuple(findings)


class Unreachable(CorralError):
    """Temporal, or a worker behind it, did not answer in time; the request may be repeated as it is."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A workload that Corral has taken on; `created` is false when the same spec had been submitted before."""

    id: str
    created: bool


class Corral:
    """A connection to one pool.

    Every method raises `Unreachable` when there is no answer within 30 seconds.
    """

    def __init__(self, temporal: Client, pool: str = wire.DEFAULT_POOL) -> None:
        """Use a Temporal client that has the data converter of `corral.sealing`."""
        self._temporal = temporal
        self._pool = pool

    @classmethod
    async def connect(
        cls,
        address: str = "127.0.0.1:7233",
        *,
        namespace: str = "default",
        pool: str = wire.DEFAULT_POOL,
        api_key: str | None = None,
        tls: bool | TLSConfig = False,
        payload_keys: str | None = None,
        signer: Signer | None = None,
        interceptors: Sequence[Interceptor] = (),
    ) -> "Corral":
        """Connect to the Temporal server at `host:port`.

        `tls` may say whom to trust (`corral.tls.tls_of`); an API key is only sent over TLS. `payload_keys` are the keys of a
        pool whose payloads are sealed (`corral.sealing.keys_of`). `signer` says who asks, where the pool wants to know that
        (`corral.signing.signer_of`). `interceptors` see every call, such as those that trace.

        Raises:
            ValueError: the address, or the keys, are none; or a key would travel in the clear.
            Unreachable: nothing answers there.
        """
        if api_key is not None and not tls:
            raise ValueError("an API key needs TLS: it must not travel in the clear")
        try:
            temporal = await Client.connect(
                address,
                namespace=namespace,
                api_key=api_key,
                tls=tls,
                data_converter=data_converter(payload_keys),
                grpc_compression=GrpcCompression.NONE,
                interceptors=[*interceptors, *([SignCommands(signer)] if signer else [])],
            )
        except RuntimeError as error:
            raise Unreachable(f"no Temporal server answers at {address}: {error}; is `make up` running?") from error
        return cls(temporal, pool)

    @classmethod
    def signing(cls, temporal: Client, signer: Signer, pool: str = wire.DEFAULT_POOL) -> "Corral":
        """Use a Temporal client, and sign what is asked through it."""
        config = temporal.config()
        config["interceptors"] = [*config["interceptors"], SignCommands(signer)]
        return cls(Client(**config), pool)

    async def submit(self, spec: WorkloadSpec) -> Submission:
        """Hand over a workload. The same id with the same spec is the same workload, however often it is submitted.

        Raises:
            Conflict: the id belongs to a workload with another spec.
        """
        workflow_id = wire.workload_workflow_id(spec.id)
        async with _plain_errors():
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
            async with _plain_errors(missing=_no_workload(workload)):
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
        """List workloads, newest first."""
        return await self._ask(wire.Inquiry.WORKLOADS, which or WorkloadFilter(), list[WorkloadStatus])

    async def events(self, workload: str, after: int = 0) -> list[WorkloadEvent]:
        """List what happened to a workload, oldest first, beginning after the event with that id."""
        return await self._ask(wire.Inquiry.EVENTS, [workload, after], list[WorkloadEvent])

    async def queues(self) -> list[QueueStatus]:
        """List the queues with their use and their lines."""
        return await self._ask(wire.Inquiry.QUEUES, None, list[QueueStatus])

    async def queue(self, name: str) -> QueueStatus:
        """Tell of one queue.

        Raises:
            NotFound: there is no such queue.
        """
        found = next((queue for queue in await self.queues() if queue.name == name), None)
        if found is None:
            raise NotFound(f"there is no queue {name!r}; `corral queue list` lists them")
        return found

    async def apply_queues(self, tree: QueueTree) -> list[QueueStatus]:
        """Make the queues what the tree says, whole or not at all; queues that it does not name stay as they are.

        Raises:
            Invalid: the tree contradicts itself; nothing was changed.
        """
        return await self._ask(wire.Inquiry.APPLY_QUEUES, tree, list[QueueStatus])

    async def datasets(self) -> list[DatasetStatus]:
        """List the datasets, and the names that workloads read though no dataset has them."""
        return await self._ask(wire.Inquiry.DATASETS, None, list[DatasetStatus])

    async def apply_datasets(self, catalogue: Catalogue) -> list[DatasetStatus]:
        """Make the datasets what the catalogue says; those that it does not name stay as they are."""
        return await self._ask(wire.Inquiry.APPLY_DATASETS, catalogue, list[DatasetStatus])

    async def policies(self, limit: int = 100) -> list[PolicyRecord]:
        """List the policies of the pool, the one in force first."""
        return await self._ask(wire.Inquiry.POLICIES, limit, list[PolicyRecord])

    async def apply_policy(self, policy: Policy, *, who: str = "", why: str = "") -> PolicyAnswer:
        """Put a policy in force for all work that is decided about from now on; what runs is not stopped by it.

        Raises:
            PolicyRefused: something speaks against it; nothing was changed.
        """
        order = PolicyOrder(policy=policy, who=who, why=why)
        answer = await self._ask(wire.Inquiry.APPLY_POLICY, order, PolicyAnswer)
        if answer.record is None:
            raise PolicyRefused(answer.findings)
        return answer

    async def reserve(self, spec: ReservationSpec) -> ReservationAnswer:
        """Reserve capacity, or nodes for maintenance. The same id with the same spec is the same reservation.

        Raises:
            Conflict: the id belongs to another reservation that is not over.
            Invalid: it makes no sense, or its windows are over; the message says what was expected.
        """
        workflow_id = wire.reservation_workflow_id(spec.id)
        async with _plain_errors(), _in_time():
            handle: WorkflowHandle[object, ReservationAnswer] = await self._temporal.start_workflow(
                wire.RESERVATION,
                spec,
                id=workflow_id,
                task_queue=wire.pool_task_queue(self._pool),
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                static_summary=spec.summary,
                memo={wire.DIGEST_MEMO: spec.digest},
                priority=wire.STEERS,
                result_type=ReservationAnswer,
            )
            if await (await handle.describe()).memo_value(wire.DIGEST_MEMO, default=None) != spec.digest:
                raise Conflict(
                    f"id: {spec.id!r} belongs to another reservation; make this one under an id of its own, "
                    f"or see the other with `corral reservation show {spec.id}`"
                )
            answer = await self._confirmed(handle)
        if answer.state is ReservationState.REFUSED:
            raise Invalid(answer.message)
        return answer

    async def _confirmed(self, handle: WorkflowHandle[object, ReservationAnswer]) -> ReservationAnswer:
        """How a reservation stands once it has been written down; one that is over by then says so as its result."""
        try:
            answer: ReservationAnswer = await handle.execute_update(
                wire.ReservationUpdate.CONFIRM, result_type=ReservationAnswer, rpc_timeout=ANSWER_WITHIN
            )
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return await handle.result()
        return answer

    async def reservations(self) -> list[ReservationStatus]:
        """List the reservations; those that are not over first."""
        return await self._ask(wire.Inquiry.RESERVATIONS, [None], list[ReservationStatus])

    async def reservation(self, reservation: str) -> ReservationStatus:
        """Tell of one reservation: its window, what is kept for it, and what it missed.

        Raises:
            NotFound: there is no such reservation.
        """
        (found,) = await self._ask(wire.Inquiry.RESERVATIONS, reservation, list[ReservationStatus])
        return found

    async def extend_reservation(self, reservation: str, seconds: int, *, key: str | None = None) -> ReservationAnswer:
        """Let the present or next window end so many seconds later; `key` makes repeating the call safe."""
        return await self._change_reservation(reservation, wire.ReservationUpdate.EXTEND, Extend(seconds=seconds), key)

    async def cancel_reservation(self, reservation: str, reason: str = "", *, key: str | None = None) -> ReservationAnswer:
        """Keep nothing for a reservation any more; work that uses what was kept runs on."""
        return await self._change_reservation(reservation, wire.ReservationUpdate.CANCEL, Cancel(reason=reason), key)

    async def _change_reservation(
        self, reservation: str, update: wire.ReservationUpdate, change: Model, key: str | None
    ) -> ReservationAnswer:
        handle = self._temporal.get_workflow_handle(wire.reservation_workflow_id(reservation))
        missing = f"there is no reservation {reservation!r} that is not over; `corral reservation list` lists them"
        async with _plain_errors(missing=missing), _in_time():
            answer: ReservationAnswer = await handle.execute_update(
                update, change, id=_request(update, key), result_type=ReservationAnswer, rpc_timeout=ANSWER_WITHIN
            )
            return answer

    async def fleet(self) -> list[FleetStatus]:
        """List the supply by provider, region and SKU."""
        return await self._ask(wire.Inquiry.FLEET, None, list[FleetStatus])

    async def nodes(self) -> list[NodeStatus]:
        """List the nodes as last observed."""
        return await self._ask(wire.Inquiry.NODES, None, list[NodeStatus])

    async def clusters(self) -> list[ClusterStatus]:
        """List the clusters: whether they answer, since when, and what becomes of their work if they do not."""
        return await self._ask(wire.Inquiry.CLUSTERS, None, list[ClusterStatus])

    async def declare_lost(self, order: LostCluster) -> list[ClusterStatus]:
        """Say that nothing runs in a cluster any more, which does not answer: its work is started elsewhere at once.

        Raises:
            NotFound: there is no such cluster.
            NotAllowed: it answers, or has never answered.
        """
        return await self._ask(wire.Inquiry.DECLARE_LOST, order, list[ClusterStatus])

    async def node_pools(self) -> list[NodePoolStatus]:
        """List the node pools: what providers can add, what is wanted of it, what is there and what is on its way."""
        return await self._ask(wire.Inquiry.NODE_POOLS, None, list[NodePoolStatus])

    async def provisionings(self, limit: int = 20) -> list[ProvisioningStatus]:
        """List the newest orders for nodes, those under way first."""
        return await self._ask(wire.Inquiry.PROVISIONINGS, limit, list[ProvisioningStatus])

    async def rounds(self, limit: int = 20) -> list[RoundStatus]:
        """List the newest rounds that changed something, the last one first."""
        return await self._ask(wire.Inquiry.ROUNDS, limit, list[RoundStatus])

    async def cancel(self, workload: str, reason: str = "", *, key: str | None = None) -> Acknowledgement:
        """End a workload. `key` makes repeating the call safe, here and in the other changes."""
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
        """Change a workload's order inside its tier and queue."""
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

    async def history(self, workload: str) -> list[Moment]:
        """The last changes of a workload's state as its workflow heard of them, oldest first; `events` has all there is.

        Raises:
            NotFound: there is no such workload.
        """
        async with _plain_errors(missing=_no_workload(workload)), _in_time():
            moments: list[Moment] = await self._handle(workload).query(wire.Query.HISTORY, result_type=list[Moment])
            return moments

    async def next_wake_up(self, workload: str) -> WakeUp | None:
        """When a workload's workflow next does something by itself, and what; none where it waits for others alone.

        Raises:
            NotFound: there is no such workload.
        """
        async with _plain_errors(missing=_no_workload(workload)), _in_time():
            wakes: WakeUp | None = await self._handle(workload).query(wire.Query.NEXT_WAKE_UP, result_type=WakeUp)
            return wakes

    async def cordon(self, provider: str, order: Cordon, *, key: str | None = None) -> list[NodeStatus]:
        """Cordon, drain or uncordon nodes of a provider; answers with the nodes.

        Raises:
            NotFound: there is no such provider.
            Invalid: a node that the provider does not have; nothing was changed.
        """
        handle = self._temporal.get_workflow_handle(wire.provider_workflow_id(provider))
        async with _plain_errors(missing=f"there is no provider {provider!r}; `corral fleet` lists them"), _in_time():
            nodes: list[NodeStatus] = await handle.execute_update(
                wire.CORDON, order, id=key or str(uuid.uuid4()), result_type=list[NodeStatus], rpc_timeout=ANSWER_WITHIN
            )
            return nodes

    async def foresee_evacuation(self, order: EvacuationOrder) -> EvacuationForecast:
        """Tell who would have to leave, and where each would go or why it would wait; nothing is changed.

        Raises:
            NotFound: there is no such node, cluster or region.
        """
        return await self._ask(wire.Inquiry.FORESEE_EVACUATION, order, EvacuationForecast)

    async def evacuate(self, order: EvacuationOrder) -> Submission:
        """Begin to empty a node, a cluster or a region. The same order again is the same evacuation.

        One whose workflow was terminated goes on when it is ordered again. By the policy in force somebody may have to
        approve it first.

        Raises:
            Conflict: the id belongs to another evacuation.
        """
        summary = f"empties {order.kind} {order.place}: {order.reason}"
        return await self._order(wire.EVACUATION, wire.evacuation_workflow_id(order.id), order, summary)

    async def what_if(self, change: Change) -> WhatIf:
        """Tell what a policy or queues would do to the pool as it is now; nothing is changed.

        Its token lets `roll_out` apply the change only while that is so; it is good for a day.

        Raises:
            Invalid: the queues contradict themselves, or the policy in force.
        """
        return await self._ask(wire.Inquiry.WHAT_IF, change, WhatIf)

    async def roll_out(self, order: RolloutOrder) -> Submission:
        """Begin to roll out a policy or queues. The same order again is the same roll-out.

        One whose workflow was terminated goes on when it is ordered again. By the policy in force somebody may have to
        approve it first.

        Raises:
            Conflict: the id belongs to another roll-out.
        """
        summary = f"rolls out {order.change.subject}: {order.reason}"
        return await self._order(wire.ROLLOUT, wire.rollout_workflow_id(order.id), order, summary)

    async def _order(self, workflow: str, id: str, order: EvacuationOrder | RolloutOrder, summary: str) -> Submission:
        async with _plain_errors():
            try:
                await self._temporal.start_workflow(
                    workflow,
                    order,
                    id=id,
                    task_queue=wire.pool_task_queue(self._pool),
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
                    id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                    static_summary=summary[:200],
                    memo={wire.DIGEST_MEMO: order.digest},
                    priority=wire.STEERS,
                )
            except WorkflowAlreadyStartedError:
                description = await self._temporal.get_workflow_handle(id).describe()
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
        A roll-out that is aborted puts back what was before; it cannot be paused.

        Raises:
            NotFound: there is none of that id under way.
            Conflict: it is over, or its state or the person does not allow it.
        """
        kind = (await self.operation(id)).kind
        workflow = wire.evacuation_workflow_id if kind is OperationKind.EVACUATION else wire.rollout_workflow_id
        handle = self._temporal.get_workflow_handle(workflow(id))
        async with (
            _plain_errors(missing=f"there is no operation {id!r} under way; `corral operations` lists them"),
            _in_time(),
        ):
            await handle.execute_update(verb, change, id=_request(verb, key), rpc_timeout=ANSWER_WITHIN)
        return await self.operation(id)

    async def schedule(self, spec: ScheduleSpec) -> list[ScheduleStatus]:
        """Let Temporal order an operation at each time of a schedule, unless the last one of it is still under way.

        Where commands are signed, whoever signs this has signed for all of its times until it ends.

        Raises:
            Conflict: there is a schedule of that id already, or this one was revoked.
            Invalid: Temporal does not take its times, or its end is not one that can be signed.
            Forbidden: it is not signed by somebody who may order what it orders.
        """
        if spec.pool not in {None, self._pool}:
            raise Invalid(f"pool: {spec.pool!r} is not the pool of this connection; expected {self._pool!r}, or nothing")
        spec = spec.model_copy(update={"pool": self._pool})
        handle, facts = await self._create_schedule(spec)
        try:
            await self._ask(wire.Inquiry.MANDATE, spec, list[MandateStatus])
        except BaseException:
            await handle.delete()
            raise
        async with _plain_errors():
            return [_scheduled(spec.id, facts, (await handle.describe()).info)]

    async def _create_schedule(self, spec: ScheduleSpec) -> tuple[ScheduleHandle, Mapping[str, str]]:
        told = {"cron", "time_zone", "who", "reason", "until"}
        facts = spec.model_dump(mode="json", include=told, exclude_none=True)
        facts |= {"subject": spec.subject, "pool": self._pool} | ({"mandate": spec.mandate} if spec.until else {})
        action = ScheduleActionStartWorkflow(
            wire.RECURRING,
            spec,
            id=f"recurring/{spec.id}",
            task_queue=wire.pool_task_queue(self._pool),
            static_summary=f"{spec.subject}, {spec.cron} {spec.time_zone}"[:200],
            priority=wire.STEERS,
        )
        times = TimesOfSchedule(cron_expressions=[spec.cron], time_zone_name=spec.time_zone, end_at=spec.until)
        async with _plain_errors():
            try:
                handle = await self._temporal.create_schedule(
                    wire.schedule_id(spec.id), Schedule(action, times), memo=facts, rpc_timeout=ANSWER_WITHIN
                )
            except ScheduleAlreadyRunningError:
                known = f"id: there is a schedule {spec.id!r} already; remove it first (`corral schedule remove {spec.id}`)"
                raise Conflict(known) from None
            except RPCError as error:
                if error.status is RPCStatusCode.INVALID_ARGUMENT:
                    raise Invalid(f"cron, time_zone: {error.message}") from error
                raise
        return handle, facts

    async def schedules(self) -> list[ScheduleStatus]:
        """List the schedules of the pool. Temporal may take some seconds to list what is new."""
        prefix, found = wire.schedule_id(""), []
        async with _plain_errors():
            async for each in await self._temporal.list_schedules():
                facts = await each.memo()
                if each.info and each.id.startswith(prefix) and facts.get("pool") == self._pool:
                    found.append(_scheduled(each.id.removeprefix(prefix), facts, each.info))
        return sorted(found, key=lambda status: status.id)

    async def unschedule(self, id: str) -> list[ScheduleStatus]:
        """Remove a schedule, and revoke what was signed for it; what it has ordered goes on. Answers with it as it was.

        Raises:
            NotFound: there is no such schedule.
            Forbidden: it is not signed by somebody who may revoke.
        """
        handle = self._temporal.get_schedule_handle(wire.schedule_id(id))
        async with _plain_errors(missing=f"there is no schedule {id!r}; `corral schedule list` lists them"):
            known = await handle.describe()
            await self.revoke(Revocation(schedule=id, reason="its schedule was removed"))
            await handle.delete()
            return [_scheduled(id, await known.memo(), known.info)]

    async def mandates(self, limit: int = 100) -> list[MandateStatus]:
        """List what was signed for schedules, the newest first."""
        return await self._ask(wire.Inquiry.MANDATES, limit, list[MandateStatus])

    async def revoke(self, order: Revocation) -> list[MandateStatus]:
        """Take back a mandate, or those of a schedule: nothing is ordered by it from now on; what it has ordered goes on.

        Raises:
            NotFound: there is no such mandate.
            Forbidden: it is not signed by somebody who may revoke.
        """
        return await self._ask(wire.Inquiry.REVOKE_MANDATE, order, list[MandateStatus])

    async def orders(self, subject: str | None = None, limit: int = 100) -> list[OrderRecord]:
        """List who ordered what, the newest first; of one workflow if its id is given, such as `workload/w1`."""
        return await self._ask(wire.Inquiry.ORDERS, [subject, limit], list[OrderRecord])

    async def evacuated(self, id: str) -> EvacuationStatus:
        """Wait until an evacuation is over, however long that takes.

        Raises:
            NotFound: there is no such evacuation, or nothing was in its place.
        """
        return await self._ended(wire.evacuation_workflow_id(id), EvacuationStatus)

    async def rolled_out(self, id: str) -> RolloutStatus:
        """Wait until a roll-out is over, however long that takes.

        Raises:
            NotFound: there is no such roll-out.
            Conflict: its token was given for another change.
        """
        return await self._ended(wire.rollout_workflow_id(id), RolloutStatus)

    async def _ended(self, id: str, status: type[Answer]) -> Answer:
        handle: WorkflowHandle[object, Answer] = self._temporal.get_workflow_handle(id, result_type=status)
        async with _plain_errors(missing=f"there is no {id.replace('/', ' ')!r}"):
            try:
                return await handle.result()
            except WorkflowFailureError as failure:
                cause = failure.cause.cause if isinstance(failure.cause, ActivityError) else failure.cause
                if isinstance(cause, ApplicationError):
                    raise _FAILURES.get(cause.type or "", CorralError)(cause.message) from failure
                raise CorralError(f"{id.replace('/', ' ')!r} has not come to its end: {failure.cause}") from failure

    async def wait(self, workload: str) -> WorkloadResult:
        """Wait until a workload has ended, however long that takes.

        Raises:
            NotFound: there is no such workload.
        """
        handle: WorkflowHandle[object, WorkloadResult] = self._temporal.get_workflow_handle(
            wire.workload_workflow_id(workload), result_type=WorkloadResult
        )
        async with _plain_errors(missing=_no_workload(workload)):
            try:
                return await handle.result()
            except WorkflowFailureError as failure:
                return WorkloadResult(id=workload, state=State.CANCELLED, message=str(failure.cause))

    def _handle(self, workload: str) -> WorkflowHandle[object, object]:
        return self._temporal.get_workflow_handle(wire.workload_workflow_id(workload))

    async def _change(self, workload: str, update: wire.Update, change: Model, key: str | None) -> Acknowledgement:
        request = _request(update, key)
        async with (
            _plain_errors(missing=_no_live_workload(workload)),
            _in_time(),
        ):
            try:
                return await _again_while_not_ready(partial(self._update, workload, update, change, request))
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
        async with _plain_errors(missing=_no_live_workload(workload)):
            await self._handle(workload).signal(what, args=told, rpc_timeout=ANSWER_WITHIN)

    async def _update(self, workload: str, update: wire.Update, change: Model, key: str) -> Acknowledgement:
        answer: Acknowledgement = await self._handle(workload).execute_update(
            update, change, id=key, result_type=Acknowledgement, rpc_timeout=ANSWER_WITHIN
        )
        return answer

    async def _ask(self, inquiry: wire.Inquiry, question: object, answer: type[Answer]) -> Answer:
        async with _plain_errors():
            told: Answer = await self._temporal.execute_activity(
                inquiry,
                args=question if isinstance(question, list) else [] if question is None else [question],
                id=f"{inquiry}/{uuid.uuid4()}",
                task_queue=wire.pool_task_queue(self._pool),
                result_type=answer,
                schedule_to_close_timeout=ANSWER_WITHIN,
                priority=wire.ASKS,
            )
            return told


def _no_workload(id: str) -> str:
    return f"there is no workload {id!r}; `corral list` lists them"


def _no_live_workload(id: str) -> str:
    return f"there is no workload {id!r} that has not ended; `corral list --active` lists the others"


def _is_refused(error: RPCError | WorkflowUpdateFailedError) -> bool:
    """Whether a change came too late for its workload."""
    if isinstance(error, RPCError):
        return error.status is RPCStatusCode.NOT_FOUND
    return isinstance(error.cause, ApplicationError) and error.cause.type == wire.Failure.NOT_ALLOWED


def _request(update: StrEnum, key: str | None) -> str:
    """The id of an update: Temporal takes two of one id for one, so that a key is of one kind of change alone."""
    return f"{update}/{key or uuid.uuid4()}"


def _search_attributes(spec: WorkloadSpec) -> TypedSearchAttributes:
    return TypedSearchAttributes(
        [
            SearchAttributePair(wire.QUEUE, spec.queue),
            SearchAttributePair(wire.TIER, spec.tier),
            SearchAttributePair(wire.STATE, State.SUBMITTED),
            SearchAttributePair(wire.PRIORITY, spec.priority),
        ]
    )


def _scheduled(id: str, facts: Mapping[str, str], info: ScheduleInfo | ScheduleListInfo) -> ScheduleStatus:
    last = info.recent_actions[-1].started_at if info.recent_actions else None
    said = {name: value for name, value in facts.items() if name != "pool"}
    return ScheduleStatus(id=id, next_at=next(iter(info.next_action_times), None), last_at=last, **said)


async def _again_while_not_ready(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """Make a call again that Temporal dropped.

    It drops an update when a signal arrives in the moment in which the workflow ends by that very update. The workflow then
    carries on as if nobody had asked; asking again with the same key is safe.
    """
    for _ in range(TRIES_WHILE_NOT_READY):
        try:
            return await call()
        except RPCError as error:
            if error.status is not RPCStatusCode.FAILED_PRECONDITION:
                raise
        await asyncio.sleep(NOT_READY_SECONDS)
    return await call()


_FAILURES: dict[str, Callable[[str], CorralError]] = {
    wire.Failure.NOT_FOUND: NotFound,
    wire.Failure.INVALID: Invalid,
    wire.Failure.NOT_ALLOWED: Conflict,
    wire.Failure.FORBIDDEN: Forbidden,
}


def _in_time() -> asyncio.Timeout:
    """Ends waiting for an update, which Temporal otherwise repeats as long as no worker takes it."""
    return asyncio.timeout(ANSWER_WITHIN.total_seconds())


@asynccontextmanager
async def _plain_errors(missing: str = "there is no such workload") -> AsyncIterator[None]:
    """Turn what Temporal raises into errors for people."""
    try:
        yield
    except (WorkflowUpdateFailedError, ActivityFailureError) as failure:
        cause = failure.cause
        if isinstance(cause, ApplicationError):
            raise _FAILURES.get(cause.type or "", CorralError)(cause.message) from failure
        raise Unreachable(f"no worker answered within {ANSWER_WITHIN.seconds} s; is one running for this pool?") from failure
    except (WorkflowUpdateRPCTimeoutOrCancelledError, TimeoutError) as error:
        raise Unreachable(f"no worker answered within {ANSWER_WITHIN.seconds} s; is one running for this pool?") from error
    except CannotUnseal as error:
        raise CorralError(str(error)) from error
    except KeyError as error:
        if not is_sealed(error):
            raise
        raise CorralError("the pool's payloads are sealed; connect with its keys (CORRAL_PAYLOAD_KEYS)") from error
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise NotFound(missing) from error
        raise Unreachable(f"Temporal did not answer: {error.message}") from error
