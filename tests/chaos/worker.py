"""A worker whose connections misbehave as ordered, and that dies where it is told to: `python -m tests.chaos.worker`."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import uvloop
from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor, Worker

from activities.answers import AttemptKey, Notice, Standing
from activities.ports import NO_TRACES, ErrorClass, Event, LaunchSpec, Observation, ProviderError, ProviderSnapshot
from activities.providers.sim import SimulatedProvider
from activities.store.postgres import PostgresStore
from corral.api import WorkloadSpec
from tests.chaos.faults import Fault, Orders
from worker import fleet_file, wiring
from worker.__main__ import SWITCH_SECONDS
from worker.settings import load_settings

CUT_SECONDS = 3.0
SLOW_SECONDS = 4.0
DELAY_SECONDS = 0.5
LATE_SECONDS = 1.5

AGAIN = {
    "admission.admit": Fault.ADMISSION_AGAIN,
    "placement.bind": Fault.BINDING_AGAIN,
    "placement.stop": Fault.STOPPING_AGAIN,
    "adjusting.apply": Fault.CHANGE_AGAIN,
}


def die_if(orders: Orders, fault: Fault) -> None:
    """End this process as SIGKILL does, if that is ordered."""
    if orders.take(fault):
        os.kill(os.getpid(), signal.SIGKILL)


def mortal_store(orders: Orders) -> type[PostgresStore]:
    """The real store; after some of its commits the process dies."""

    class MortalStore(PostgresStore):
        async def round(
            self, specs: Sequence[WorkloadSpec], decide: Callable[..., Any], trigger: str, traces: Mapping[str, str] = NO_TRACES
        ) -> tuple[dict[str, Standing], list[Notice]]:
            answer = await super().round(specs, decide, trigger, traces)
            if specs:
                die_if(orders, Fault.DEATH_AFTER_ADMISSION)
            elif answer[1]:
                die_if(orders, Fault.DEATH_AFTER_ROUND)
            return answer

        async def begin_bindings(self, keys: Sequence[AttemptKey]) -> list[LaunchSpec | None]:
            launches = await super().begin_bindings(keys)
            if any(launches):
                die_if(orders, Fault.DEATH_AFTER_BEGIN)
            return launches

        async def settle(
            self, observations: Sequence[Observation], answered: frozenset[str] = frozenset()
        ) -> tuple[dict[str, Standing], list[Notice]]:
            answer = await super().settle(observations, answered)
            if any(seen.phase.is_over for seen in observations):
                die_if(orders, Fault.DEATH_AFTER_SETTLEMENT)
            if any(seen.resized and seen.attempt_id.rpartition(".")[0] in answer[0] for seen in observations):
                die_if(orders, Fault.DEATH_AFTER_RESIZED)
            return answer

    return MortalStore


def unreliable_provider(orders: Orders) -> type[SimulatedProvider]:
    """The simulated provider at the end of a bad line."""
    under_way: set[asyncio.Task[None]] = set()

    class UnreliableProvider(SimulatedProvider):
        _cut_until = 0.0
        _slow_until = 0.0

        async def snapshot(self) -> ProviderSnapshot:
            await self._reach()
            return await super().snapshot()

        async def status(self, attempts: Any) -> Any:
            await self._reach()
            return await super().status(attempts)

        async def renew(self, leases: Mapping[str, datetime | None]) -> frozenset[str]:
            await self._reach()
            if orders.take(Fault.RENEWAL_LATE):
                again = asyncio.create_task(self._renew_later(leases))
                under_way.add(again)
                again.add_done_callback(under_way.discard)
                raise _unavailable("the renewal is on its way")
            heard = await super().renew(leases)
            if orders.take(Fault.RENEWAL_UNANSWERED):
                raise _unavailable("no answer to the renewal")
            return heard

        async def _renew_later(self, leases: Mapping[str, datetime | None]) -> None:
            """It arrives after newer ones."""
            await asyncio.sleep(LATE_SECONDS)
            await super().renew(leases)

        async def launch(self, order: LaunchSpec) -> Observation:
            await self._reach()
            seen = await super().launch(order)
            die_if(orders, Fault.DEATH_AFTER_LAUNCH)
            if orders.take(Fault.LAUNCH_REPEATED):
                seen = await super().launch(order)
            if orders.take(Fault.LAUNCH_UNANSWERED):
                raise _unavailable(f"no answer to the launch of {order.attempt_id}")
            return seen

        async def preempt(self, attempt_id: str, epoch: int, **terms: Any) -> None:
            await self._reach()
            await super().preempt(attempt_id, epoch, **terms)
            die_if(orders, Fault.DEATH_AFTER_NOTICE)
            if orders.take(Fault.NOTICE_REPEATED):
                await super().preempt(attempt_id, epoch, **terms)

        async def resize(self, order: LaunchSpec, *, notice: int, at_once: bool = False) -> None:
            await self._reach()
            await super().resize(order, notice=notice, at_once=at_once)
            die_if(orders, Fault.DEATH_AFTER_RESIZE)
            if orders.take(Fault.RESIZE_REPEATED):
                await super().resize(order, notice=notice, at_once=at_once)
            if orders.take(Fault.RESIZE_UNANSWERED):
                raise _unavailable(f"no answer to another size of {order.attempt_id}")

        async def release(self, attempt_id: str, epoch: int) -> None:
            await self._reach()
            await super().release(attempt_id, epoch)

        async def forget(self, attempts: Any) -> None:
            await self._reach()
            await super().forget(attempts)

        def watch(self) -> AsyncIterator[Event]:
            return self._over_the_line(super().watch())

        async def _over_the_line(self, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
            late: list[Event] = []
            async for event in events:
                await self._reach()
                if not isinstance(event, Observation):
                    yield event
                    continue
                if orders.take(Fault.EVENT_LATE):
                    late.append(event)
                    continue
                yield event
                if orders.take(Fault.EVENT_REPEATED):
                    yield event
                while late:
                    yield late.pop()

        async def _reach(self) -> None:
            """Get through to the provider, unless the line is cut; late, while it is slow."""
            if orders.take(Fault.PROVIDER_CUT):
                self._cut_until = time.monotonic() + CUT_SECONDS
            if orders.take(Fault.PROVIDER_SLOW):
                self._slow_until = time.monotonic() + SLOW_SECONDS
            if time.monotonic() < self._cut_until:
                raise _unavailable("the line is cut")
            if time.monotonic() < self._slow_until:
                await asyncio.sleep(DELAY_SECONDS)

    return UnreliableProvider


def _unavailable(why: str) -> ProviderError:
    return ProviderError(ErrorClass.UNAVAILABLE, why)


def unreliable_workloads(orders: Orders) -> type[wiring.TemporalWorkloads]:
    """Workflows that are told some things twice, late, or not at the first try."""
    under_way: set[asyncio.Task[None]] = set()

    class UnreliableWorkloads(wiring.TemporalWorkloads):
        async def tell(self, notice: Notice) -> None:
            if orders.take(Fault.SIGNAL_UNSENT):
                raise ConnectionError("the signal was not sent")
            await super().tell(notice)
            if orders.take(Fault.SIGNAL_REPEATED):
                await super().tell(notice)
            if orders.take(Fault.SIGNAL_LATE):
                again = asyncio.create_task(self._tell_later(notice))
                under_way.add(again)
                again.add_done_callback(under_way.discard)
            if orders.take(Fault.SIGNAL_UNANSWERED):
                raise ConnectionError("no answer to the signal")

        async def _tell_later(self, notice: Notice) -> None:
            """An old saying arrives after newer ones."""
            await asyncio.sleep(LATE_SECONDS)
            await super().tell(notice)

    return UnreliableWorkloads


def forgetful_worker(orders: Orders) -> Callable[..., Worker]:
    """Temporal's worker, with one interceptor more than it is given."""

    def make(*parts: Any, interceptors: Sequence[Interceptor] = (), **options: Any) -> Worker:
        return Worker(*parts, interceptors=[*interceptors, Forgetful(orders)], **options)

    return make


class Forgetful(Interceptor):
    """Lets activities be executed again whose first execution was done, but not heard of."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wrap the execution of activities."""
        return _Unheard(next, self._orders)


class _Unheard(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, orders: Orders) -> None:
        super().__init__(next)
        self._orders = orders

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        answer = await super().execute_activity(input)
        fault = AGAIN.get(activity.info().activity_type)
        if fault is not None and self._orders.take(fault):
            raise ConnectionError("the answer was lost on its way")
        return answer


async def main() -> None:
    """Work until somebody ends it."""
    settings = load_settings()
    orders = Orders(settings.state_dir / "orders")
    replacements: tuple[tuple[Any, str, Any], ...] = (
        (wiring, PostgresStore.__name__, mortal_store(orders)),
        (wiring, wiring.TemporalWorkloads.__name__, unreliable_workloads(orders)),
        (wiring, Worker.__name__, forgetful_worker(orders)),
        (fleet_file, SimulatedProvider.__name__, unreliable_provider(orders)),
    )
    for module, name, replacement in replacements:
        setattr(module, name, replacement)
    await wiring.serve(settings, asyncio.Event())


if __name__ == "__main__":
    sys.setswitchinterval(SWITCH_SECONDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
