"""The guard: commands are done for whoever signed them and may give them, and for nobody else."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any, Protocol

from pydantic import ValidationError
from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.exceptions import ApplicationError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ContinueAsNewInput,
    ExecuteActivityInput,
    ExecuteWorkflowInput,
    HandleSignalInput,
    HandleUpdateInput,
    Interceptor,
    StartActivityInput,
    StartChildWorkflowInput,
    StartLocalActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from activities.answers import Adjustment, AdmissionOrder, ReservationChange, ReservationOrder, ReservationStanding, Standing
from corral import wire
from corral.api import (
    Cancel,
    Checkpointed,
    Cordon,
    Demand,
    EvacuationOrder,
    ExtendRuntime,
    Hold,
    Model,
    OperationChange,
    Reason,
    Release,
    Reprioritize,
    Resize,
    Retarget,
    State,
    WorkloadSpec,
)
from corral.reservation import Extend, ReservationSpec, ReservationState
from corral.rollout import RolloutOrder
from corral.schedule import ScheduleSpec
from corral.signing import (
    APPLIES,
    HEADER,
    MANDATE,
    STARTS,
    STEERS,
    BadClaim,
    Claim,
    Command,
    applied,
    begun,
    digest_of,
    due,
    mandated,
    read_claim,
    updated,
    verify,
)
from domain.operations.mandates import Mandate, Occasion, why_not_due
from domain.operations.roles import About, refusal
from worker.principals import Principals
from workflows.steering import CANCELLED

BY_ITSELF = "workflow-cancelled"
"""The key of what a workflow does when Temporal cancels it: who may do that is Temporal's own question."""

EARLY_SECONDS = 60
"""By how much the clock of whoever signs may be ahead."""

MEASURES = frozenset({"demand", "checkpointed"})
"""They come every minute and order nothing: they are checked, and not written down."""

CHANGES: Mapping[str, type[Model]] = {
    wire.Update.CANCEL: Cancel,
    wire.Update.HOLD: Hold,
    wire.Update.RELEASE: Release,
    wire.Update.RESIZE: Resize,
    wire.Update.DEMAND: Demand,
    wire.Update.REPRIORITIZE: Reprioritize,
    wire.Update.RETARGET: Retarget,
    wire.Update.EXTEND: ExtendRuntime,
    wire.Update.CHECKPOINTED: Checkpointed,
}

log = logging.getLogger(__name__)


class Orders(Protocol):
    """What the guard asks the record, and writes there."""

    async def lines(self, queues: Sequence[str]) -> list[list[str]]:
        """Each queue with those above it, up to its root."""
        ...

    async def whereabouts(self, subject: str) -> tuple[Sequence[str], str | None]:
        """The queues of a workload or a reservation, and who submitted it; nothing of one that is not known."""
        ...

    async def ordered(self, principal: str, command: Command, run: str, occasion: Occasion | None = None) -> str:
        """Write an order down, once, with the occasion if a schedule gives it; answers with the run in which it came first."""
        ...

    async def is_ordered(self, principal: str | None, command: Command) -> bool:
        """Whether it is written down; without a principal, whoever gave it."""
        ...

    async def mandate_of(self, id: str) -> Mandate | None:
        """The mandate of that id as it stands now, or none."""
        ...


# What an activity is about to do, as a command


def asked_of(kind: str, args: Sequence[Any], request: str | None, claimed: str) -> Command | None:
    """The command that an activity carries out; none where it does what no command asks for.

    `request` is the id of a question's activity; `claimed` that of the claim, for activities that know none.
    """
    match kind, args:
        case "admission.admit", [AdmissionOrder() as order]:
            return _submitted(order)
        case "adjusting.apply", [str() as verb, Adjustment() as asked]:
            return _adjusted(verb, asked)
        case "reserving.reserve", [ReservationOrder() as order]:
            return _reserved(order)
        case (("reserving.extend" | "reserving.cancel"), [ReservationChange() as change]):
            return _rescheduled(kind, change)
        case "inventory.cordon", [str() as provider, Cordon() as order, *key]:
            return updated(wire.CORDON, wire.provider_workflow_id(provider), str(*key) or claimed, order)
        case "evacuating.keep_moving", [EvacuationOrder() as order, *_]:
            return begun(wire.EVACUATION, wire.evacuation_workflow_id(order.id), order.digest)
        case "rolling_out.begin", [RolloutOrder() as order]:
            return begun(wire.ROLLOUT, wire.rollout_workflow_id(order.id), order.digest)
        case (("evacuating.steer" | "rolling_out.steer"), [str() as id, verb, OperationChange() as change, *given]):
            return _steered(kind, id, verb, change, str(*given[:1]))
        case wire.Inquiry.MANDATE, [ScheduleSpec() as spec]:
            return mandated(spec)
        case _ if kind in APPLIES:
            return Command(APPLIES[kind], "pool", request or "", applied(args))
    return None


def _steered(kind: str, id: str, verb: str, change: OperationChange, key: str) -> Command | None:
    """None of what a workflow does when Temporal cancels it: who may do that is Temporal's own question."""
    if verb == wire.Steering.ABORT and change == CANCELLED:
        return None
    name = wire.evacuation_workflow_id if kind == "evacuating.steer" else wire.rollout_workflow_id
    return updated(verb, name(id), key, change)


def _submitted(order: AdmissionOrder) -> Command | None:
    """None of a spec that cannot be read: admission refuses it, whoever it comes from."""
    try:
        return begun(wire.LIFECYCLE, wire.workload_workflow_id(order.workload), WorkloadSpec.model_validate(order.spec).digest)
    except ValidationError:
        return None


def _reserved(order: ReservationOrder) -> Command | None:
    try:
        digest = ReservationSpec.model_validate(order.spec).digest
    except ValidationError:
        return None
    return begun(wire.RESERVATION, wire.reservation_workflow_id(order.reservation), digest)


def _adjusted(verb: str, asked: Adjustment) -> Command | None:
    if verb not in CHANGES or asked.key == BY_ITSELF:
        return None
    model = CHANGES[verb]
    told = {name: getattr(asked, "demand" if (verb, name) == ("demand", "value") else name) for name in model.model_fields}
    change = model.model_validate({name: value for name, value in told.items() if value is not None})
    return Command(verb, wire.workload_workflow_id(asked.workload), asked.key, digest_of(change))


def _rescheduled(kind: str, asked: ReservationChange) -> Command | None:
    if asked.key == BY_ITSELF:
        return None
    is_extended = kind == "reserving.extend"
    change = Extend(seconds=asked.seconds) if is_extended else Cancel(reason=asked.reason)
    update = wire.ReservationUpdate.EXTEND if is_extended else wire.ReservationUpdate.CANCEL
    return updated(update, wire.reservation_workflow_id(asked.reservation), asked.key, change)


# Whether it may be done


class Guard:
    """Decides about commands by the claims that come with them."""

    def __init__(
        self, principals: Callable[[], Principals], orders: Orders, valid_seconds: int, wall: Callable[[], datetime]
    ) -> None:
        self._principals = principals
        self._orders = orders
        self._valid_seconds = valid_seconds
        self._wall = wall

    async def objection(self, command: Command, header: Payload | None, queues: Sequence[str] | None, run: str) -> str | None:
        """Why a command is not done, in words, or none when it is; what is done is written down with who ordered it.

        `queues` are those of what is new; none: they are in the record.
        """
        if header is None and command.name in _BEGINNINGS and await self._orders.is_ordered(None, command):
            return None  # a worker starts again what has lost its workflow
        try:
            claim, occasion = await self._believed(command, header)
        except BadClaim as error:
            return f"{command.name}: nobody does this to {command.subject} unasked: {error}"
        known, submitter = ((), None) if queues is not None else await self._orders.whereabouts(command.subject)
        lines = await self._orders.lines(known if queues is None else queues)
        principal = self._principals().named(claim.principal)
        grants = [entry.grant for entry in principal.grants] if principal else []
        if problem := refusal(claim.principal, grants, command.name, About(command.subject, lines, submitter)):
            return problem
        if command.name in MEASURES:
            return None
        first = await self._orders.ordered(claim.principal, command, run, occasion)
        if first != run and command.name not in _ONCE:
            return f"{command.name}: this request was done before; a new one needs a signature of its own"
        return None

    async def _believed(self, command: Command, header: Payload | None) -> tuple[Claim, Occasion | None]:
        """The claim that comes with a command, and the occasion if it is a mandate's, for what a schedule orders.

        Raises:
            BadClaim: it is missing, forged, of another command, or too old for one that is not yet known.
        """
        if header is None:
            raise BadClaim("it is not signed; connect with a principal and its key (CORRAL_PRINCIPAL, CORRAL_SIGNING_KEY)")
        claim = read_claim(header)
        principal = self._principals().named(claim.principal)
        if principal is None:
            raise BadClaim(f"there is no principal {claim.principal!r}; who operates the pool can add it to its file")
        verify(claim, principal.key)
        if claim.command.name == MANDATE and command.name in _BEGINNINGS:
            return claim, await self._occasion(claim, command)
        if claim.command != command:
            raise BadClaim("what is asked is not what was signed")
        age = self._wall().timestamp() - claim.at
        if age < -EARLY_SECONDS:
            raise BadClaim(f"it was signed {-age:.0f} s from now; set the clock of whoever signs")
        if age > self._valid_seconds and not await self._orders.is_ordered(claim.principal, command):
            raise BadClaim(f"it was signed {age:.0f} s ago, and counts for {self._valid_seconds} s; ask again")
        return claim, None

    async def _occasion(self, claim: Claim, command: Command) -> Occasion | None:
        """The occasion on which a mandate covers a command; none where that was ordered by it before, and goes on.

        Raises:
            BadClaim: it does not cover it, or not any more.
        """
        if await self._orders.is_ordered(claim.principal, command):
            return None
        mandate = await self._orders.mandate_of(claim.command.request)
        if mandate is None or not await self._orders.is_ordered(claim.principal, claim.command):
            raise BadClaim(f"there is no mandate {claim.command.request!r} of {claim.principal!r}")
        due_at = mandate.spec.due_at(command.subject.partition("/")[2])
        if mandated(mandate.spec) != claim.command or due_at is None or due(mandate.spec, due_at) != command:
            raise BadClaim("what is asked is not what was signed")
        late = timedelta(seconds=self._valid_seconds)
        if problem := why_not_due(mandate, due_at, self._wall(), late):
            raise BadClaim(f"by the mandate {claim.command.request} of {claim.principal!r}: {problem}")
        return Occasion(claim.command.request, due_at)


_BEGINNINGS = frozenset(STARTS.values())
_ONCE = _BEGINNINGS | frozenset({"extend-reservation", "cancel-reservation", wire.CORDON, STEERS, MANDATE, *CHANGES})
"""Commands that are done once for a request, by the record itself."""


# Where commands pass


_CLAIM: ContextVar[Payload | None] = ContextVar("corral-claim", default=None)


class Guarded(Interceptor):
    """Carries claims from what a workflow was asked to the activities that do it, and lets the guard decide there."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Come before the activity."""
        return _GuardedActivity(next, self._guard)

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        """Come before the workflow."""
        return _CarryIn


class _GuardedActivity(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, guard: Guard) -> None:
        super().__init__(next)
        self._guard = guard

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        info, header = activity.info(), input.headers.get(HEADER)
        claimed = _request_of(header)
        command = asked_of(info.activity_type, input.args, info.activity_id, claimed)
        if command is not None:
            run = info.workflow_run_id or info.activity_run_id or info.activity_id
            problem = await self._guard.objection(command, header, _new_queues(input.args[0]), run)
            if problem is not None:
                log.warning("refused: %s", problem)
                return _refused(input.args[0], problem)
        return await super().execute_activity(input)


def _request_of(header: Payload | None) -> str:
    try:
        return read_claim(header).command.request if header else ""
    except BadClaim:
        return ""


def _new_queues(order: Any) -> Sequence[str] | None:
    """The queues of what is yet to be written down, or none where the record knows them."""
    match order:
        case AdmissionOrder():
            return (WorkloadSpec.model_validate(order.spec).queue,)
        case ReservationOrder():
            return ReservationSpec.model_validate(order.spec).queues
    return None


def _refused(order: Any, problem: str) -> Standing | ReservationStanding:
    """The answer to who may not: what begins with it ends refused, what is asked of others is not done.

    Raises:
        ApplicationError: the latter.
    """
    match order:
        case AdmissionOrder():
            return Standing(order.workload, 1, State.REFUSED, 0, reason=Reason.NOT_PERMITTED, message=problem)
        case ReservationOrder():
            return ReservationStanding(order.reservation, ReservationState.REFUSED, message=problem)
    raise ApplicationError(problem, type=wire.Failure.FORBIDDEN, non_retryable=True)


class _CarryIn(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_CarryOn(outbound))

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        _CLAIM.set(input.headers.get(HEADER))
        return await super().execute_workflow(input)

    async def handle_signal(self, input: HandleSignalInput) -> None:
        _CLAIM.set(input.headers.get(HEADER))
        await super().handle_signal(input)

    async def handle_update_handler(self, input: HandleUpdateInput) -> Any:
        _CLAIM.set(input.headers.get(HEADER))
        return await super().handle_update_handler(input)


class _CarryOn(WorkflowOutboundInterceptor):
    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        input.headers = _carried(input.headers)
        return super().start_activity(input)

    def start_child_workflow(self, input: StartChildWorkflowInput) -> Any:
        input.headers = _carried(input.headers)
        return super().start_child_workflow(input)

    def start_local_activity(self, input: StartLocalActivityInput) -> workflow.ActivityHandle[Any]:
        input.headers = _carried(input.headers)
        return super().start_local_activity(input)

    def continue_as_new(self, input: ContinueAsNewInput) -> Any:
        input.headers = _carried(input.headers)
        return super().continue_as_new(input)


def _carried(headers: Mapping[str, Payload]) -> Mapping[str, Payload]:
    claim = _CLAIM.get()
    return headers if claim is None else {**headers, HEADER: claim}
