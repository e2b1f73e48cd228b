"""Workflows that live for years, on a server that skips time; and the size of every run that they took."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, timedelta
from itertools import count
from typing import Any

from temporalio import activity
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHistory
from temporalio.testing import WorkflowEnvironment

from activities.answers import FleetStep, RoundsDone, StepKind
from corral import wire
from corral.api import (
    Cordon,
    Demand,
    EvacuationOrder,
    EvacuationState,
    EvacuationStatus,
    NodeStatus,
    PlaceKind,
    Reprioritize,
    State,
)
from corral.client import Corral
from corral.reservation import ReservationSpec
from tests.builders import NOON
from tests.workflows.book import Book, reserves
from tests.workflows.rollouts import Desk
from tests.workflows.scenarios import until_shown
from tests.workflows.stage import Record, Stage, a_record, open_stage

HOUR = timedelta(hours=1)
YEAR = timedelta(days=365)
ROUNDS_A_STRETCH = 1_000
MOST_EVENTS, MOST_BYTES = 51_200, 50 * 1024 * 1024
"""Beyond these Temporal ends a workflow."""

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a workflow: its events, their bytes, and how many of what mattered to it happened in it."""

    events: int
    bytes: int
    steps: int


async def runs_of(client: Client, workflow: str, first: str, step: EventType.ValueType) -> list[Run]:
    """All runs of a workflow, from the first one on; steps are the events of that type."""
    runs: list[Run] = []
    following: str | None = first
    while following:
        history = await client.get_workflow_handle(workflow, run_id=following).fetch_history()
        runs.append(_run(history, step))
        following = next(_followers(history), None)
    return runs


def _run(history: WorkflowHistory, step: EventType.ValueType) -> Run:
    sizes = [event.ByteSize() for event in history.events]
    return Run(len(sizes), sum(sizes), sum(event.event_type == step for event in history.events))


def _followers(history: WorkflowHistory) -> Iterator[str]:
    for event in history.events:
        if event.HasField("workflow_execution_continued_as_new_event_attributes"):
            yield event.workflow_execution_continued_as_new_event_attributes.new_execution_run_id


async def a_workload_runs(
    environment: WorkflowEnvironment, stage: Stage, *, lasts: timedelta, told_every: timedelta
) -> tuple[Record, list[Run]]:
    """An endpoint that is told its demand again and again, is observed, reprioritized and preempted, and then succeeds."""
    record = a_record(stopped_as=State.WAITING)
    corral = Corral(stage.client, stage.name)
    handle = await stage.begins(record)
    await until_shown(stage, record, State.RUNNING)
    first = handle.first_execution_run_id
    assert first is not None
    for turn in range(lasts // told_every):
        await environment.sleep(told_every)
        await corral.demand(record.id, Demand(value=turn % 50), key=f"turn-{turn}")
        if turn % 7 == 0:
            await stage.tells(record.becomes(State.RUNNING))
        if turn % 50 == 49:
            await stage.asks(record, wire.Update.REPRIORITIZE, Reprioritize(priority=turn % 10), f"turn-{turn}")
            await stage.tells(record.becomes(State.STOPPING, notice=record.standing().notice + 1))
            await until_shown(stage, record, State.WAITING)
            await stage.tells(record.becomes(State.RESERVED, notice=0))
            await until_shown(stage, record, State.RUNNING)
    await stage.tells(record.becomes(State.SUCCEEDED, exit_code=0))
    assert (await handle.result()).state is State.SUCCEEDED
    updates = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED
    return record, await runs_of(stage.client, handle.id, first, updates)


class Stretches:
    """Stretches of work without a pool, of workflows that go on for ever, until the last one that a test wants."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.done = 0
        self.is_over = asyncio.Event()

    @activity.defn(name="rounds.keep_deciding")
    async def keep_deciding(self, seconds: float) -> RoundsDone:
        await self._stretch()
        quality = "at least 0.97 of what any plan could start, by exact; 12 workloads improved, 3 moved for others"
        return RoundsDone(rounds=ROUNDS_A_STRETCH, told=250, quality=quality)

    @activity.defn(name="inventory.watch")
    async def watch(self, provider: str, seconds: float) -> int:
        await self._stretch()
        return 10_000

    @activity.defn(name="leasing.keep")
    async def keep(self, provider: str, seconds: float) -> str:
        return "clusters: 2 reachable"

    @activity.defn(name="inventory.cordon")
    async def cordon(self, provider: str, order: Cordon, key: str) -> list[NodeStatus]:
        return []

    @activity.defn(name="growing.keep_planning")
    async def keep_planning(self, seconds: float) -> list[FleetStep]:
        await self._stretch()
        return [FleetStep(StepKind.ASK, activity.info().task_queue.removeprefix(wire.pool_task_queue("")), ("aws/burst-1",))]

    @activity.defn(name="growing.carry_out")
    async def carry_out(self, step: FleetStep) -> str:
        return "coming"

    @activity.defn(name="evacuating.keep_moving")
    async def keep_moving(self, order: EvacuationOrder, known: int, seconds: float) -> EvacuationStatus:
        await self._stretch()
        return EvacuationStatus(
            order=order,
            state=EvacuationState.MOVING,
            version=known + 1,
            began_at=NOON,
            deadline=NOON + HOUR,
            nodes=100,
            told=200,
            left=100,
            leaving=20,
            remaining=tuple(f"training-of-team-{number}" for number in range(100)),
        )

    async def _stretch(self) -> None:
        self.done += 1
        if self.done >= self.last:
            self.is_over.set()


async def a_planner_plans(client: Client, *, stretches: int) -> list[Run]:
    """The runs of a planner that plans for so many stretches; a step is a stretch."""
    name = f"planner-{next(_numbers)}"
    return await _runs_while(client, Stretches(stretches), wire.ROUNDS, [], wire.rounds_workflow_id(name), name)


async def a_provider_is_watched(client: Client, *, stretches: int) -> list[Run]:
    """The runs of a reconciler that watches a provider for so many stretches; a step is a stretch."""
    name = f"provider-{next(_numbers)}"
    return await _runs_while(client, Stretches(stretches), wire.PROVIDER, [name], wire.provider_workflow_id(name), name)


async def a_fleet_grows(client: Client, *, stretches: int) -> list[Run]:
    """The runs of a fleet for which a node is ordered in each of so many stretches; a step is one of two activities."""
    name = f"fleet-{next(_numbers)}"
    return await _runs_while(client, Stretches(stretches), wire.GROWTH, [], wire.growth_workflow_id(name), name)


async def a_place_is_emptied(client: Client, *, stretches: int) -> list[Run]:
    """The runs of an evacuation with so many stretches, in each of which something happens; a step is a stretch."""
    order = EvacuationOrder(id=f"place-{next(_numbers)}", kind=PlaceKind.REGION, place="aws/eu", reason="a storm", who="ada")
    return await _runs_while(
        client, Stretches(stretches), wire.EVACUATION, [order], wire.evacuation_workflow_id(order.id), order.id
    )


async def a_rollout_is_watched(environment: WorkflowEnvironment, *, looks: int) -> tuple[Desk, list[Run]]:
    """A roll-out that is looked at so often until it is done; a step is a look."""
    desk = Desk(environment.get_current_time, watched=10.0 * looks, looks=10)
    async with open_stage(environment.client, *desk.activities, name=desk.order.id) as own:
        handle = await desk.begins(own)
        await handle.result()
        first = handle.first_execution_run_id
        assert first is not None
        return desk, await runs_of(own.client, handle.id, first, EventType.EVENT_TYPE_TIMER_FIRED)


async def _runs_while(client: Client, work: Stretches, kind: str, args: list[Any], id: str, name: str) -> list[Run]:
    steps = (work.keep_deciding, work.watch, work.keep, work.cordon, work.keep_planning, work.keep_moving, work.carry_out)
    async with open_stage(client, *steps, name=name):
        handle = await client.start_workflow(kind, args=args, id=id, task_queue=wire.pool_task_queue(name))
        await work.is_over.wait()
        first = handle.first_execution_run_id
        assert first is not None
        await client.get_workflow_handle(id).terminate()
        return await runs_of(client, id, first, EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED)


async def a_year_of_windows(client: Client, book: Book, pool: str, *, lasts: timedelta) -> tuple[int, list[Run]]:
    """A reservation that recurs daily; answers with the windows that it had, and its runs."""
    start = await book.now() + HOUR
    until = (start + lasts).astimezone(UTC).strftime("%Y%m%d")
    spec = ReservationSpec(
        id=f"daily-{next(_numbers)}",
        start=start,
        seconds=3600,
        accelerators=8,
        sku="h100",
        queues=("research",),
        recurrence=f"FREQ=DAILY;UNTIL={until}",
    )
    handle = await reserves(client, spec, pool)
    first = handle.first_execution_run_id
    assert first is not None
    await handle.result()
    timers = EventType.EVENT_TYPE_TIMER_FIRED
    return len(book.opened[spec.id]), await runs_of(client, handle.id, first, timers)
