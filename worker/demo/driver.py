"""The driver: hands a scenario over through the client, as services would, and goes on until everything has ended."""

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from corral.api import Explanation, Fix, QueueSpec, QueueTree, Resize, State, WorkloadFilter, WorkloadStatus
from corral.client import Corral, CorralError, NotFound
from worker.clock import PoolClock
from worker.demo.machines import Machines
from worker.demo.persistence import persistently
from worker.demo.record import UNREADABLE, Glimpse, Reader
from worker.demo.report import counted
from worker.demo.scenario import Arrival, Deed, Scenario, Verb

GLANCE_SECONDS = 0.7
MOST_ASKED = 3
LIMIT_SECONDS = 1_800.0
"""How long a run may take on the wall before it is stopped and called a failure."""


class Display(Protocol):
    """Where a person watches."""

    def show(self, glimpse: Glimpse, submitted: int) -> None:
        """Show how things stand."""


@dataclass(frozen=True, slots=True)
class Done:
    """A deed, when it was done, and what came of it in words."""

    deed: Deed
    at: datetime
    answer: str


@dataclass(frozen=True, slots=True)
class Told:
    """What somebody who asked was told of a workload that waited."""

    workload: str
    at: datetime
    explanation: Explanation


@dataclass(frozen=True, slots=True)
class Course:
    """How a run went for the driver; `mishaps` are sentences about what should not have happened."""

    began_at: datetime
    done: tuple[Done, ...]
    mishaps: tuple[str, ...]
    told: tuple[Told, ...] = ()


class Driver:
    """Submits and does what a scenario says when the pool's time has come for it."""

    def __init__(self, corral: Corral, reader: Reader, clock: PoolClock, machines: Machines, display: Display) -> None:
        """Use a connection to the pool; what happens is shown on `display`."""
        self._corral = corral
        self._reader = reader
        self._clock = clock
        self._machines = machines
        self._display = display
        self._submitted = 0
        self._done: list[Done] = []
        self._mishaps: list[str] = []
        self._told: list[Told] = []
        self._turns: dict[str, asyncio.Lock] = {}
        self._queues: QueueTree | None = None

    async def drive(self, scenario: Scenario) -> Course:
        """Carry a scenario out, and come back when every workload has ended or the time limit is reached."""
        began_at = self._clock.now()
        self._queues = scenario.queues
        async with asyncio.TaskGroup() as group:
            feeding = group.create_task(self._feed(scenario, began_at))
            if not await self._is_over_in_time(len(scenario.arrivals)):
                feeding.cancel()
        return Course(began_at, tuple(self._done), tuple(self._mishaps), tuple(self._told))

    async def _feed(self, scenario: Scenario, began_at: datetime) -> None:
        async with asyncio.TaskGroup() as group:
            for step in _in_time(scenario):
                await self._until(began_at + timedelta(seconds=step.at))
                group.create_task(self._submit(step) if isinstance(step, Arrival) else self._do(step))

    async def _until(self, instant: datetime) -> None:
        await asyncio.sleep(self._clock.wall_seconds(max(0.0, (instant - self._clock.now()).total_seconds())))

    async def _submit(self, arrival: Arrival) -> None:
        try:
            await persistently(lambda: self._corral.submit(arrival.spec))
            self._submitted += 1
        except CorralError as error:
            self._mishaps.append(f"{arrival.spec.id} could not be submitted: {error}")

    async def _do(self, deed: Deed) -> None:
        """Do a deed once what was to be done before it to the same workload is done, however late that is."""
        async with self._turns.setdefault(deed.workload or deed.key, asyncio.Lock()):
            await self._done_as_it_can(deed)

    async def _done_as_it_can(self, deed: Deed) -> None:
        try:
            answer = await self._act(deed)
        except CorralError as error:
            answer = f"not done: {error}"
            self._mishaps.append(f"{deed.verb} {deed.workload}: {error}")
        self._done.append(Done(deed, self._clock.now(), answer))

    async def _act(self, deed: Deed) -> str:
        workload, why, key = deed.workload, deed.why, deed.key
        match deed.verb:
            case Verb.CANCEL:
                change = await persistently(lambda: self._corral.cancel(workload, why, key=key))
            case Verb.HOLD:
                change = await persistently(lambda: self._corral.hold(workload, why, key=key))
            case Verb.RELEASE:
                change = await persistently(lambda: self._corral.release(workload, key=key))
            case Verb.REPRIORITIZE:
                change = await persistently(lambda: self._corral.reprioritize(workload, deed.amount, key=key))
            case Verb.RESIZE:
                resize = Resize(count=deed.amount)
                change = await persistently(lambda: self._corral.resize(workload, resize, key=key))
            case Verb.FOLLOW_FIX:
                return await self._follow_fix(workload)
            case Verb.ASK_WHY:
                return await self._ask_why()
            case Verb.APPLY_POLICY:
                return await self._apply_policy(deed)
            case Verb.DRAIN | Verb.UNCORDON | Verb.LOSE_NODE | Verb.RECOVER_NODE:
                return await self._machines.treat(deed, self._where_it_runs)
        return change.message

    async def _ask_why(self) -> str:
        """Ask of one workload for each reason for which any waits."""
        waiting = await persistently(lambda: self._corral.workloads(WorkloadFilter(state=State.WAITING, limit=200)))
        examples = {status.explanation.reason: status.id for status in reversed(waiting) if status.explanation}
        for _, id in sorted(examples.items())[:MOST_ASKED]:
            await self._explained(id)
        return f"{len(waiting)} waiting, for {counted(len(examples), 'reason')}"

    async def _explained(self, workload: str) -> Explanation | None:
        explanation = await persistently(lambda: self._corral.explain(workload))
        if explanation is not None:
            self._note_told(workload, explanation)
        return explanation

    def _note_told(self, workload: str, explanation: Explanation) -> None:
        self._told.append(Told(workload, self._clock.now(), explanation))

    async def _follow_fix(self, workload: str) -> str:
        """Do what is said to start a workload most cheaply, if that is to raise quota."""
        explanation = await self._advised(workload)
        fix = next((fix for fix in explanation.fixes if fix.quotas), None) if explanation else None
        if explanation is None or fix is None or self._queues is None:
            return "nothing to follow: it does not wait for quota"
        queues = [raised(queue, fix) for queue in self._queues.queues if queue.name in {change.queue for change in fix.quotas}]
        await persistently(lambda: self._corral.apply_queues(QueueTree(queues=tuple(queues))))
        return f"{explanation.reason}; done: {fix.message}"

    async def _advised(self, workload: str) -> Explanation | None:
        """Ask for what would start a workload until that is known, maybe rounds after why it waits; none if it does not wait.

        In a large pool nobody is told that unasked.
        """
        while (await persistently(lambda: self._corral.status(workload))).state in {State.SUBMITTED, State.WAITING}:
            explanation = await persistently(lambda: self._corral.explain(workload))
            if explanation is not None and explanation.fixes:
                self._note_told(workload, explanation)
                return explanation
            await asyncio.sleep(GLANCE_SECONDS)
        return None

    async def _apply_policy(self, deed: Deed) -> str:
        policy = deed.policy
        if policy is None:
            raise ValueError(f"{deed.key} names no policy")
        answer = await persistently(lambda: self._corral.apply_policy(policy, who="an operator", why=deed.why))
        record = answer.record
        return f"version {record.version} is in force, {record.digest[:12]}" if record else "refused"

    async def _where_it_runs(self, workload: str) -> WorkloadStatus:
        """How a workload stands, as soon as it runs."""
        while True:
            status = await persistently(lambda: self._corral.status(workload))
            if status.state is State.RUNNING:
                return status
            if status.state.is_terminal:
                raise NotFound(f"{workload} had ended before that ({status.state})")
            await asyncio.sleep(GLANCE_SECONDS)

    async def _is_over_in_time(self, expected: int) -> bool:
        give_up = time.monotonic() + LIMIT_SECONDS
        while time.monotonic() < give_up:
            try:
                glimpse = await self._reader.glimpse()
            except UNREADABLE:
                pass  # the supervisor is starting the database again, and says so
            else:
                self._display.show(glimpse, self._submitted)
                if glimpse.ended >= expected:
                    return True
            await asyncio.sleep(GLANCE_SECONDS)
        self._mishaps.append(f"not everything had ended after {LIMIT_SECONDS:g} seconds")
        return False


def raised(queue: QueueSpec, fix: Fix) -> QueueSpec:
    """The queue with the quota that a fix asks for."""
    more = {change.sku: change for change in fix.quotas if change.queue == queue.name}
    rows = [
        row.model_copy(update={"nominal": row.nominal + more[row.sku].nominal}) if row.sku in more else row
        for row in queue.quotas
    ]
    return queue.model_copy(update={"quotas": tuple(rows)})


def _in_time(scenario: Scenario) -> list[Arrival | Deed]:
    steps: list[Arrival | Deed] = [*scenario.arrivals, *scenario.deeds]
    return sorted(steps, key=lambda step: step.at)
