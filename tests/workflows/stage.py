"""A stage for workflows: activities of the same names as the real ones, which answer from a record in memory."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

from temporalio import activity
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Interceptor, Worker, WorkerDeploymentConfig
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.answers import Adjusted, Adjustment, AdmissionOrder, AttemptKey, Notice, Standing
from activities.liveness import staying_alive
from corral import wire
from corral.api import Acknowledgement, Model, Outcome, Reason, State, WorkloadResult
from corral.sealing import data_converter
from domain.pool.lifecycle import AT_A_PROVIDER, BEFORE_BINDING, WITH_AN_ATTEMPT, Leave, objection
from tests.activities.store.pool import a_spec
from tests.patience import PATIENCE_SECONDS
from tests.servers import running_temporal
from worker.temporal_server import for_workflows
from worker.wiring import EVERY_BEAT, VERSIONED_WORKFLOWS, WORKFLOWS, TemporalWorkloads
from workflows.contracts import HandOver

_numbers = count(1)

RUNNER = SandboxedWorkflowRunner(
    restrictions=SandboxRestrictions.default.with_passthrough_modules(
        *("corral", "domain", "activities", "workflows", "tests", "pydantic", "pydantic_core", "annotated_types")
    )
)
"""Strict about what workflow code does; only what is imported passes through."""


def told_not_allowed(problem: str) -> ApplicationError:
    return ApplicationError(problem, type=wire.Failure.NOT_ALLOWED, non_retryable=True)


def this_call() -> tuple[str | None, str, bool]:
    """The call that is being made, which is the same when Temporal makes it again: it failed, or no answer came in time."""
    info = activity.info()
    return info.workflow_run_id, info.activity_id, info.is_local


@dataclass
class Record:
    """What the record knows of one workload, and everything that was asked about it."""

    id: str
    first: State = State.RESERVED
    provider: str = "stage"
    bound_as: State = State.RUNNING
    stopped_as: State | None = None
    runtime_left: float | None = None
    now: Standing | None = None
    ordered: Outcome | None = None
    done: dict[str, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    troubles: dict[str, list[Exception]] = field(default_factory=dict)
    """Failures that a step still meets before it works, by its name; those of `starting` leave what is bound as it was."""
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    """Steps that wait until a test lets them go on, by their name."""
    reached: dict[str, asyncio.Event] = field(default_factory=dict)
    taken: set[object] = field(default_factory=set)
    """Calls that met no trouble."""

    def meets(self, name: str) -> None:
        """Fail if that has trouble yet."""
        if troubles := self.troubles.get(name):
            raise troubles.pop(0)

    async def step(self, name: str) -> None:
        """Note a call, or that it is made again where it had trouble; fail if it has trouble, and wait at its gate."""
        if this_call() not in self.taken:
            self.calls.append(name)
            self.meets(name)
            self.taken.add(this_call())
        self.reached.setdefault(name, asyncio.Event()).set()
        if gate := self.gates.get(name):
            async with staying_alive():
                await gate.wait()

    async def until(self, name: str) -> None:
        """Until a step is called, and meets no trouble any more."""
        await asyncio.wait_for(self.reached.setdefault(name, asyncio.Event()).wait(), PATIENCE_SECONDS)

    def becomes(self, state: State, **fields: Any) -> Standing:
        """The workload changes; a new attempt begins with its hold."""
        before = self.now or Standing(self.id, 0, State.SUBMITTED, 0)
        new_attempt = state in BEFORE_BINDING and before.state not in BEFORE_BINDING
        has_capacity = state in WITH_AN_ATTEMPT
        values: dict[str, Any] = {
            "version": before.version + 1,
            "state": state,
            "epoch": before.epoch + new_attempt,
            "provider": self.provider if has_capacity else None,
            "region": "eu" if has_capacity else None,
            "sku": "h100" if has_capacity else None,
            "place": "8 h100 in eu/eu-1 (stage)" if has_capacity else "",
            "next_place": "",
            "runtime_left": self.runtime_left if state in AT_A_PROVIDER else None,
        }
        self.now = replace(before, **(values | fields))
        return self.now

    def standing(self) -> Standing:
        """How the workload stands, with the runtime that is left now."""
        assert self.now is not None
        limited = self.now.state in AT_A_PROVIDER and self.runtime_left is not None
        return replace(self.now, runtime_left=self.runtime_left) if limited else self.now


class Stage:
    """The activities of a pool and of its provider."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name
        self.records: dict[str, Record] = {}

    # What workflows ask

    @activity.defn(name="admission.admit")
    async def admit(self, order: AdmissionOrder) -> Standing:
        record = self.records[order.workload]
        await record.step("admit")
        return record.now or record.becomes(record.first, **_reason(record.first))

    @activity.defn(name="adjusting.standing")
    async def look(self, workload: str) -> Standing | None:
        record = self.records[workload]
        await record.step("look")
        return record.standing() if record.now else None

    @activity.defn(name="adjusting.apply")
    async def apply(self, verb: str, asked: Adjustment) -> Adjusted:
        record = self.records[asked.workload]
        await record.step(verb)
        if record.now is None:
            raise ApplicationError(asked.workload, type=wire.Failure.NOT_FOUND, non_retryable=True)
        key = f"{verb}:{asked.key}"
        if key not in record.done:
            if problem := objection(verb, asked.workload, record.now.state):
                raise told_not_allowed(problem)
            record.done[key] = self._change(record, verb)
        return Adjusted(record.done[key], record.standing())

    def _change(self, record: Record, verb: str) -> str:
        assert record.now is not None
        outcomes = {"cancel": Outcome.CANCELLED, "hold": Outcome.SUSPENDED, "expire": Outcome.OUT_OF_TIME}
        if verb in outcomes:
            record.ordered = outcomes[verb]
            at_once = State.CANCELLED if verb == "cancel" else State.SUSPENDED
            notice = record.now.notice + (record.now.state is State.RESIZING)
            record.becomes(State.STOPPING if record.now.state in AT_A_PROVIDER else at_once, notice=notice)
        elif verb == "checkpointed" and record.now.state is State.STOPPING:
            record.becomes(State.STOPPING, leave=Leave.SAVED)
        else:
            record.becomes(State.WAITING if verb == "release" else record.now.state)
        return f"done: {verb}"

    @activity.defn(name="placement.bind")
    async def bind(self, key: AttemptKey) -> Standing:
        record = self.records[key.workload]
        record.meets("starting")
        if record.now and record.now.state is State.RESERVED and record.now.epoch == key.epoch:
            record.becomes(State.STARTING)
        await record.step("bind")
        if record.now and record.now.state is State.STARTING and record.now.epoch == key.epoch:
            record.becomes(record.bound_as)
        if record.now is None:
            raise ApplicationError(key.workload, type=wire.Failure.NOT_FOUND, non_retryable=True)
        return record.standing()

    @activity.defn(name="placement.stop")
    async def stop(self, key: AttemptKey) -> Standing:
        record = self.records[key.workload]
        await record.step("stop")
        if record.stopped_as is not None and record.standing().state is State.STOPPING:
            record.becomes(record.stopped_as)
        return record.standing()

    @activity.defn(name="placement.keep")
    async def keep(self, key: AttemptKey) -> Standing:
        record = self.records[key.workload]
        await record.step("keep")
        return record.standing()

    # What a test does

    async def begins(self, record: Record, spec: Any = None, hand_over: HandOver | None = None) -> WorkflowHandle[Any, Any]:
        """Start the workflow of a workload, as a service would."""
        self.records[record.id] = record
        record.provider = self.name
        asked = spec if spec is not None else a_spec(record.id).model_dump(mode="json")
        return await self.client.start_workflow(
            wire.LIFECYCLE,
            args=[asked] if hand_over is None else [asked, hand_over],
            id=wire.workload_workflow_id(record.id),
            task_queue=wire.pool_task_queue(self.name),
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            result_type=WorkloadResult,
        )

    async def tells(self, *standings: Standing) -> None:
        for place, standing in enumerate(standings):
            await TemporalWorkloads(self.client).tell(Notice(place, standing))

    async def asks(self, record: Record, verb: str, change: Model, key: str | None = None) -> Acknowledgement:
        handle = self.client.get_workflow_handle(wire.workload_workflow_id(record.id))
        answer: Acknowledgement = await handle.execute_update(verb, change, id=key, result_type=Acknowledgement)
        return answer


def _reason(state: State) -> dict[str, Any]:
    if state is State.WAITING:
        return {"reason": Reason.WAITING_FOR_QUOTA, "message": "queue research has room for 0"}
    if state is State.REFUSED:
        return {"reason": Reason.INVALID_SPEC, "message": "count: -1 is not possible"}
    return {}


def a_record(first: State = State.RESERVED, **fields: Any) -> Record:
    """A workload of its own for a test."""
    return Record(f"w{next(_numbers)}", first, **fields)


def a_record_in_admission(first: State = State.RESERVED) -> Record:
    """A workload whose admission takes its time as an ordinary activity, during which its workflow listens to others."""
    return a_record(first, troubles={"admit": [ConnectionError("no record")] * 3}, gates={"admit": asyncio.Event()})


def beside_python(name: str) -> str:
    """Where a program of the development dependencies is."""
    binary = Path(sys.executable).with_name(name)
    found = str(binary) if binary.exists() else shutil.which(name)
    assert found is not None, f"there is no `{name}` beside Python or on the PATH; install the development dependencies"
    return found


@asynccontextmanager
async def skipping_environment() -> AsyncIterator[WorkflowEnvironment]:
    """A server whose time passes at once while nobody does anything."""
    environment = await _started_in_the_end()
    attributes = {key.name: key.indexed_value_type.value for key in wire.SEARCH_ATTRIBUTES}
    async with environment:
        client = environment.client
        # It can add search attributes, but not list them.
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace=client.namespace, search_attributes=attributes)  # type: ignore[arg-type]
        )
        yield environment


async def _started_in_the_end() -> WorkflowEnvironment:
    """The SDK gives a server five seconds to start, which is too little where much else is done."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                return await WorkflowEnvironment.start_time_skipping(
                    test_server_existing_path=beside_python("temporal-test-server"), data_converter=data_converter(None)
                )
            except RuntimeError as error:
                if "did not start within" not in str(error):
                    raise


@asynccontextmanager
async def hasty_server() -> AsyncIterator[Client]:
    """A server that wants every history begun anew after a few events."""
    async with running_temporal(**{"limit.historyCount.suggestContinueAsNew": "14"}) as address:
        yield await connected(address)


async def page_of(handle: WorkflowHandle[Any, Any]) -> str:
    """What operators read on the page of a workflow."""
    metadata: WorkflowMetadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    return metadata.current_details


async def connected(address: str) -> Client:
    return await Client.connect(address, data_converter=data_converter(None))


@asynccontextmanager
async def open_stage(
    client: Client,
    *others: Callable[..., Awaitable[Any]],
    name: str = "stage",
    cached: int = 100,
    version: WorkerDeploymentConfig | None = None,
    interceptors: Sequence[Interceptor] = (),
) -> AsyncIterator[Stage]:
    """A worker for a pool and one for a provider of that name; with nothing cached, each step replays what was before."""
    stage = Stage(client, name)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(
            Worker(
                for_workflows(client),
                task_queue=wire.pool_task_queue(name),
                workflows=WORKFLOWS if version is None else VERSIONED_WORKFLOWS,
                activities=[stage.admit, stage.apply, stage.look, *others],
                workflow_runner=RUNNER,
                max_cached_workflows=cached,
                sticky_queue_schedule_to_start_timeout=timedelta(seconds=2),
                max_heartbeat_throttle_interval=EVERY_BEAT,
                deployment_config=version,
                interceptors=interceptors,
            )
        )
        provider_work: Sequence[Callable[..., Any]] = [stage.bind, stage.stop, stage.keep, *others]
        await stack.enter_async_context(
            Worker(
                client,
                task_queue=wire.provider_task_queue(name),
                activities=provider_work,
                max_heartbeat_throttle_interval=EVERY_BEAT,
                deployment_config=version,
            )
        )
        yield stage
