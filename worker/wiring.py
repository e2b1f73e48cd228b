"""Wiring: the real store, providers, clock and Temporal client into activities and workflows."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Interceptor, PollerBehaviorSimpleMaximum, UnsandboxedWorkflowRunner, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.adjusting import Adjusting
from activities.admission import Admission
from activities.answers import Notice
from activities.courier import Courier
from activities.evacuating import Evacuating
from activities.growing import Growing
from activities.inquiry import Inquiry
from activities.inventory import Inventory
from activities.leasing import Leasing
from activities.liveness import BEATS
from activities.mandating import Mandating
from activities.metering import Meter, NobodyToAsk
from activities.observing import Observer
from activities.placement import Placement
from activities.ports import Clock, Provider
from activities.pulling import Pulling
from activities.reserving import Reserving
from activities.rolling_out import RollingOut
from activities.rounds import Rounds
from activities.store.postgres import PostgresStore
from corral import wire
from domain import solver
from worker.collecting import collect_a_little, keep_collecting
from worker.fleet_file import FleetFile, read_fleet
from worker.guarding import Guard, Guarded
from worker.keeping import Keeper
from worker.observing.logs import NameLines
from worker.observing.metrics import measured
from worker.observing.runtime import observed_runtime
from worker.observing.traces import UNTRACED, Traces, traced
from worker.policy_lint import first_policy
from worker.principals import PrincipalsFile
from worker.reaching import TellUnfit, reaching_the_record
from worker.record_time import RecordTime, kept
from worker.settings import Settings
from worker.temporal_server import connect, for_workflows
from worker.versions import deployment_of, digest_of_code
from workflows.contracts import Signal
from workflows.evacuation import Evacuation, PinnedEvacuation
from workflows.growth import FleetGrowth
from workflows.policies import HEARTBEAT
from workflows.provider import ProviderReconcile
from workflows.recurring import Recurring
from workflows.reservation import ReservationLifecycle
from workflows.rollout import Rollout
from workflows.rounds import SchedulingRounds
from workflows.workload import WorkloadLifecycle

WORKFLOWS = (
    WorkloadLifecycle,
    SchedulingRounds,
    ProviderReconcile,
    ReservationLifecycle,
    Evacuation,
    Rollout,
    Recurring,
    FleetGrowth,
)
PINNED: dict[type, type] = {Evacuation: PinnedEvacuation}
VERSIONED_WORKFLOWS = tuple(PINNED.get(each, each) for each in WORKFLOWS)
"""Those of a worker that has a version: what is not pinned goes on with whichever version is current."""
OURS = ("corral", "domain", "activities", "workflows", "pydantic", "pydantic_core", "annotated_types", "opentelemetry")
GRACE = timedelta(seconds=5)
EVERY_BEAT = HEARTBEAT / BEATS
"""The SDK holds heartbeats back for so long. By itself it would for four fifths of the time after which none means death, and a
worker, or a server, that is late by the last fifth would have the call made a second time beside the first.
"""
DESCRIBE_AT_ONCE = 10
GO_ON = frozenset(
    {
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING,
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_PAUSED,
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW,
    }
)
"""What a workflow is by its latest run while it goes on: that may have been left for another one as it was described."""
RENEWALS_BEFORE_SUSPICION = 3
KEEP_EVERY_SECONDS = 15.0

log = logging.getLogger(__name__)


class TemporalWorkloads:
    """The `Workloads` port over a Temporal client."""

    def __init__(self, client: Client, traces: Traces = UNTRACED) -> None:
        self._client = traces.signalling(client)
        self._traces = traces

    async def tell(self, notice: Notice) -> None:
        """Signal a workload's workflow; one that is over needs to be told nothing."""
        handle = self._client.get_workflow_handle(wire.workload_workflow_id(notice.standing.workload))
        with self._traces.telling(notice):
            try:
                await handle.signal(Signal.STANDING, notice.standing)
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise

    async def have_ended(self, ids: Sequence[str]) -> list[str]:
        """Those of the workloads whose workflow has ended, or does not exist."""
        ended: list[str] = []
        for start in range(0, len(ids), DESCRIBE_AT_ONCE):
            some = ids[start : start + DESCRIBE_AT_ONCE]
            over = await asyncio.gather(*(self._has_ended(id) for id in some))
            ended += [id for id, is_over in zip(some, over, strict=True) if is_over]
        return ended

    async def _has_ended(self, workload: str) -> bool:
        latest = WorkflowExecution(workflow_id=wire.workload_workflow_id(workload))
        request = DescribeWorkflowExecutionRequest(namespace=self._client.namespace, execution=latest)
        try:
            described = await self._client.workflow_service.describe_workflow_execution(request, retry=True)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return True
            raise
        return described.workflow_execution_info.status not in GO_ON


@dataclass(frozen=True)
class Parts:
    """What a running worker is made of."""

    store: PostgresStore
    wall: RecordTime
    pulling: Pulling
    providers: Mapping[str, Provider]
    pool_activities: Sequence[Callable[..., Awaitable[Any]]]
    provider_activities: Sequence[Callable[..., Awaitable[Any]]]


@asynccontextmanager
async def assembled(settings: Settings, client: Client, traces: Traces) -> AsyncIterator[Parts]:
    """Store, providers and activities, until the context is left.

    Raises:
        Unusable: the record is not of a version that this code can use.
        NoAnswer: PostgreSQL cannot be used.
    """
    async with AsyncExitStack() as stack:
        wall = RecordTime()
        clock = settings.clock(wall.now)
        store = PostgresStore.connect(settings.database_url, clock, settings.pool, first_policy(settings))
        stack.push_async_callback(store.aclose)
        with reaching_the_record(settings):
            await store.require_usable()
        await stack.enter_async_context(kept(wall, store.wall, settings.lease_skew_seconds))
        store.trace_round = traces.round
        fleet = read_fleet(settings.fleet_file)
        providers = await _open_providers(fleet, settings, clock, store, stack)
        await store.record_policy(f"{settings.policy}, as this pool's first policy")
        workloads = TemporalWorkloads(client, traces)
        courier = Courier(store, workloads)
        observer = Observer(store, courier)
        placement = Placement(store, providers, observer, courier, clock)
        inventory = Inventory(store, providers, observer, placement, courier, reconcile_seconds=settings.reconcile_seconds)
        renew_seconds = settings.suspect_seconds / RENEWALS_BEFORE_SUSPICION
        leasing = Leasing(store, providers, courier, clock, settings.lease_terms(), renew_seconds=renew_seconds)
        meter = await stack.enter_async_context(prometheus(settings))
        pulling = Pulling(store, courier, meter, clock)
        rounds = Rounds(
            store,
            courier,
            workloads,
            clock,
            pulling,
            tick_seconds=settings.tick_seconds,
            reconcile_seconds=settings.reconcile_seconds,
            retention=timedelta(days=settings.retention_days),
        )
        inquiry, adjusting = Inquiry(store), Adjusting(store, courier)
        reserving, evacuating, rolling_out = Reserving(store), Evacuating(store, courier), RollingOut(store)
        mandating = Mandating(store, wall.now, is_required=settings.principals_file is not None)
        growing = Growing(store, providers, look_seconds=settings.growth_seconds)
        yield Parts(
            store=store,
            wall=wall,
            pulling=pulling,
            providers=providers,
            pool_activities=(
                Admission(store, courier, traces.submitted_in).admit,
                adjusting.apply,
                adjusting.standing,
                rounds.keep_deciding,
                *(inquiry.status, inquiry.explain, inquiry.workloads, inquiry.events, inquiry.change),
                *(inquiry.queues, inquiry.fleet, inquiry.nodes, inquiry.clusters, inquiry.declare_lost),
                *(inquiry.rounds, inquiry.apply_queues),
                *(inquiry.node_pools, inquiry.provisionings, growing.keep_planning),
                *(inquiry.datasets, inquiry.apply_datasets),
                *(inquiry.policies, inquiry.apply_policy, inquiry.reservations, inquiry.orders),
                *(mandating.mandate, mandating.revoke, mandating.mandates),
                *(reserving.reserve, reserving.advance, reserving.extend, reserving.cancel),
                *(evacuating.keep_moving, evacuating.steer, evacuating.evacuations, evacuating.foresee),
                *(rolling_out.begin, rolling_out.advance, rolling_out.steer, rolling_out.what_if, rolling_out.operations),
            ),
            provider_activities=(
                *(placement.bind, placement.stop, placement.keep),
                *(inventory.watch, inventory.cordon, leasing.keep, growing.carry_out),
            ),
        )


@asynccontextmanager
async def prometheus(settings: Settings) -> AsyncIterator[Meter]:
    """What asks for demand as the settings say, until the context is left."""
    tokens = settings.tokens_by_host()
    if not tokens:
        yield NobodyToAsk()
        return
    # Here, for few pools use it, and it comes with an HTTP client and what that needs to trust a server.
    from activities.prometheus import Prometheus

    async with Prometheus.opened(tokens, within_seconds=settings.demand_seconds) as meter:
        yield meter


async def _open_providers(
    fleet: FleetFile, settings: Settings, clock: Clock, store: PostgresStore, stack: AsyncExitStack
) -> dict[str, Provider]:
    state = settings.state_dir / "providers"
    state.mkdir(parents=True, exist_ok=True)
    providers: dict[str, Provider] = {}
    for entry in fleet.providers:
        provider = providers[entry.name] = entry.open(state, clock)
        stack.push_async_callback(provider.aclose)
        await store.register_provider(entry.name, entry.kind)
    return providers


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Work for the pool and its providers until told to stop.

    Raises:
        Unusable: the record is not, or not any more, of a version that this code can use.
    """
    solver.load()
    client = await connect(settings, observed_runtime(settings.temporal_metrics_address))
    async with AsyncExitStack() as stack:
        traces = stack.enter_context(traced(settings))
        parts = await stack.enter_async_context(assembled(settings, client, traces))
        stack.enter_context(measured(settings, parts.store, parts.pulling))
        await stack.enter_async_context(working(settings, client, parts, [TellUnfit(), *traces.interceptors, NameLines()]))
        collect_a_little()
        collecting = asyncio.create_task(keep_collecting())
        stack.callback(collecting.cancel)
        keeper = Keeper(client, settings.pool, parts.store, list(parts.providers))
        while not stop.is_set():
            await keeper.look()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), KEEP_EVERY_SECONDS)


@asynccontextmanager
async def working(
    settings: Settings, client: Client, parts: Parts, interceptors: Sequence[Interceptor] = ()
) -> AsyncIterator[None]:
    """Take workflows and activities from Temporal until the context is left.

    Interceptors are the workers' alone: what they start by themselves would begin traces that nobody looks for.
    """
    async with AsyncExitStack() as stack:
        for worker in _workers(settings, client, parts, [*interceptors, *_guards(settings, parts)]):
            await stack.enter_async_context(worker)
        yield


def _guards(settings: Settings, parts: Parts) -> list[Interceptor]:
    """What lets commands pass only for those who may give them, where the settings say who that is."""
    if settings.principals_file is None:
        return []
    principals = PrincipalsFile(settings.principals_file)
    return [Guarded(Guard(principals.now, parts.store, settings.claim_seconds, parts.wall.now))]


def _workers(settings: Settings, client: Client, parts: Parts, interceptors: Sequence[Interceptor]) -> list[Worker]:
    deployment = deployment_of(settings)
    digest = digest_of_code() if deployment is None else None
    pool = Worker(
        for_workflows(client),
        task_queue=wire.pool_task_queue(settings.pool),
        workflows=WORKFLOWS if settings.build_id is None else VERSIONED_WORKFLOWS,
        activities=parts.pool_activities,
        workflow_runner=_sandbox() if settings.sandbox else UnsandboxedWorkflowRunner(),
        workflow_task_poller_behavior=PollerBehaviorSimpleMaximum(settings.workflow_pollers),
        nonsticky_to_sticky_poll_ratio=0.8,
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=2),
        max_cached_workflows=5_000,
        max_concurrent_workflow_tasks=200,
        max_concurrent_local_activities=500,
        graceful_shutdown_timeout=GRACE,
        max_heartbeat_throttle_interval=EVERY_BEAT,
        interceptors=interceptors,
        deployment_config=deployment,
        build_id=digest,
    )
    return [
        pool,
        *(
            Worker(
                client,
                task_queue=wire.provider_task_queue(provider),
                activities=parts.provider_activities,
                max_concurrent_activities=500,
                graceful_shutdown_timeout=GRACE,
                max_heartbeat_throttle_interval=EVERY_BEAT,
                interceptors=interceptors,
                deployment_config=deployment,
                build_id=digest,
            )
            for provider in parts.providers
        ),
    ]


def _sandbox() -> SandboxedWorkflowRunner:
    return SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default.with_passthrough_modules(*OURS))
