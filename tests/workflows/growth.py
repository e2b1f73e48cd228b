"""The growth of a fleet, driven against a record and a provider in memory; its history is kept to be replayed."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from temporalio import activity
from temporalio.client import WorkflowHandle

from activities.answers import FleetStep, StepKind
from corral import wire
from tests.patience import PATIENCE_SECONDS
from tests.workflows.scenarios import ends_cancelled
from tests.workflows.stage import Stage, open_stage, this_call

_numbers = count(1)


@dataclass
class Ledger:
    """What is to be asked of the provider, who is the stage's, and what it was asked."""

    name: str = field(default_factory=lambda: f"growing-{next(_numbers)}")
    due: list[FleetStep] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    troubles: Counter[str] = field(default_factory=Counter)
    """How often asking for something fails before it works."""
    taken: set[object] = field(default_factory=set)

    def wants(self, kind: StepKind, *subjects: str) -> None:
        self.due.append(FleetStep(kind, self.name, subjects))

    @activity.defn(name="growing.keep_planning")
    async def keep_planning(self, seconds: float) -> list[FleetStep]:
        while not self.due:
            activity.heartbeat()
            await asyncio.sleep(0.01)
        return list(self.due)

    @activity.defn(name="growing.carry_out")
    async def carry_out(self, step: FleetStep) -> str:
        subject = step.subjects[0]
        if this_call() in self.taken:
            return "done"
        if self.troubles[subject]:
            self.troubles[subject] -= 1
            raise ConnectionError(f"no answer about {subject}")
        self.taken.add(this_call())
        self.asked.append(step.in_words)
        self.due.remove(step)
        return "done"

    async def begins(self, client: Any) -> WorkflowHandle[Any, None]:
        handle: WorkflowHandle[Any, None] = await client.start_workflow(
            wire.GROWTH, id=wire.growth_workflow_id(self.name), task_queue=wire.pool_task_queue(self.name)
        )
        return handle

    async def until_asked(self, number: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.asked) < number:  # noqa: ASYNC110 - what is waited for happens in a worker
                await asyncio.sleep(0.01)


async def grows_and_shrinks(stage: Stage) -> tuple[Ledger, WorkflowHandle[Any, Any]]:
    """Asks for nodes, of which one order meets an outage, and gives some back; its workflow is cancelled in the end."""
    ledger = Ledger()
    ledger.wants(StepKind.ASK, "aws/burst-1")
    ledger.wants(StepKind.ASK, "aws/spot-1")
    ledger.troubles["aws/spot-1"] = 1
    async with open_stage(stage.client, ledger.keep_planning, ledger.carry_out, name=ledger.name):
        handle = await ledger.begins(stage.client)
        await ledger.until_asked(2)
        ledger.wants(StepKind.GIVE_BACK, "b1", "b2")
        await ledger.until_asked(3)
        await handle.cancel()
        await ends_cancelled(handle)
    return ledger, handle


GROWTHS: dict[str, Callable[[Stage], Awaitable[tuple[Ledger, WorkflowHandle[Any, Any]]]]] = {
    "grows_and_shrinks": grows_and_shrinks
}
