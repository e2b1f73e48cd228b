"""What happens to the reconciler of a provider, on a stage of its own."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from temporalio import activity
from temporalio.client import (
    Client,
    Interceptor,
    OutboundInterceptor,
    StartWorkflowUpdateInput,
    WorkflowHandle,
    WorkflowUpdateHandle,
)
from temporalio.service import RPCError

from corral import wire
from corral.api import Cordon, NodeStatus
from tests.patience import PATIENCE_SECONDS
from tests.workflows.stage import open_stage, this_call

PROVIDER = "watched"


@dataclass
class Watched:
    """A provider that is watched, and whose leases are kept, as often as it is asked."""

    watched: int = 0
    kept: int = 0
    is_away: bool = False
    """It cannot be watched."""
    words: str = "clusters: 2 reachable"
    said: dict[object, str] = field(default_factory=dict)
    """What each call that keeps leases answered; the next one answers when there are other words."""
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    cordoned: list[Cordon] = field(default_factory=list)
    may_answer: asyncio.Event | None = None
    """What it is told to do about nodes is answered once this is set."""

    @activity.defn(name="inventory.watch")
    async def watch(self, provider: str, seconds: float) -> int:
        if self.is_away:
            raise ConnectionError("it does not answer")
        self.watched += 1
        await _heartbeating(0.1)
        return 3

    @activity.defn(name="leasing.keep")
    async def keep(self, provider: str, seconds: float) -> str:
        self.kept += 1
        known = [self.words, *self.said.values()][-1]
        try:
            while self.words == known and this_call() not in self.said:
                await _heartbeating(0.05)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return self.said.setdefault(this_call(), self.words)

    @activity.defn(name="inventory.cordon")
    async def cordon(self, provider: str, order: Cordon, request: str) -> list[NodeStatus]:
        self.cordoned.append(order)
        if self.may_answer is not None:
            await self.may_answer.wait()
        return []

    async def begins(self, client: Client) -> WorkflowHandle[Any, Any]:
        return await client.start_workflow(
            wire.PROVIDER, PROVIDER, id=wire.provider_workflow_id(PROVIDER), task_queue=wire.pool_task_queue(PROVIDER)
        )


class Refusals(Interceptor):
    """Sees whether an update has found nobody who could take it."""

    def __init__(self) -> None:
        self.has_come = asyncio.Event()

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _SeesRefusals(next, self.has_come)


class _SeesRefusals(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, has_come: asyncio.Event) -> None:
        super().__init__(next)
        self._has_come = has_come

    async def start_workflow_update(self, input: StartWorkflowUpdateInput) -> WorkflowUpdateHandle[Any]:
        try:
            return await super().start_workflow_update(input)
        except RPCError:
            self._has_come.set()
            raise


async def _heartbeating(seconds: float) -> None:
    activity.heartbeat()
    await asyncio.sleep(seconds)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():  # noqa: ASYNC110 - what is waited for happens in a server
            await asyncio.sleep(0.01)


async def is_watched(client: Client) -> WorkflowHandle[Any, Any]:
    """It is watched for some stretches, and one of its clusters is suspect."""
    provider = Watched()
    async with open_stage(client, provider.watch, provider.keep, name=PROVIDER):
        handle = await provider.begins(client)
        await until(lambda: provider.watched > 1)
        provider.words = "clusters: 1 reachable, 1 suspect"
        seen = provider.watched
        await until(lambda: provider.watched > seen + 1)
        await handle.terminate("the scenario is over")
        return handle


PROVIDERS: Mapping[str, Callable[[Client], Awaitable[WorkflowHandle[Any, Any]]]] = {
    "was_watched_before_there_were_leases": is_watched,
    "is_watched_and_keeps_leases": is_watched,
}
"""By name; the first one was recorded before reconcilers kept leases."""
