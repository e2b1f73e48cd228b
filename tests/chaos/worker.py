"""A worker whose connections misbehave as ordered, and that dies where it is told to: `python -m tests.chaos.worker`."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import uvloop
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor, Worker

from activities.answers import AttemptKey, Notice, Standing
from activities.ports import NO_TRACES, ErrorClass, Event, LaunchSpec, Observation, ProviderError, ProviderSnapshot
from activities.providers.sim import SimulatedProvider
from activities.store.postgres import PostgresStore
from activities.store.rows import Journal
from corral.api import WorkloadSpec
from tests.chaos.faults import Fault, Orders
from tests.chaos.machine_wall import MachineWall
from worker import fleet_file, wiring
from worker.__main__ import SWITCH_SECONDS, stop_event
from worker.embedded import POSTGRES
from worker.settings import load_settings

Result = TypeVar("Result")

CUT_SECONDS = 3.0
SLOW_SECONDS = 4.0
DELAY_SECONDS = 0.5
LATE_SECONDS = 1.5
LOST_SECONDS = 3.0
WRONG_SECONDS = 5.0
NEVER_REACHED = 1_000
"""More attempts than any workload has."""
CLOCK_JUMPS = {Fault.CLOCK_AHEAD: 3_600.0, Fault.CLOCK_BEHIND: -3_600.0}
"""By how many seconds the wall clock of a worker's machine jumps."""

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


def kill_postgres(state_dir: Path) -> None:
    """End the server as SIGKILL does; whether what is about to be committed will have been, nobody knows."""
    os.kill(int((state_dir / POSTGRES / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)


def mortal_store(orders: Orders, state_dir: Path) -> type[PostgresStore]:
    """The real store; after some of its commits the process dies, and PostgreSQL before some."""

    class MortalStore(PostgresStore):
        async def _write(self, work: Callable[[AsyncConnection, Journal], Awaitable[Result]]) -> tuple[Result, list[Notice]]:
            async def cut_short(connection: AsyncConnection, journal: Journal) -> Result:
                result = await work(connection, journal)
                if journal.workloads and orders.take(Fault.POSTGRES_KILLED_IN_COMMIT):
                    kill_postgres(state_dir)
                return result

            return await super()._write(cut_short)

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


def in_background() -> Callable[[Coroutine[Any, Any, None]], None]:
    """Lets something be done while others go on."""
    under_way: set[asyncio.Task[None]] = set()

    def later(doing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(doing)
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    return later


def unreliable_provider(orders: Orders) -> type[SimulatedProvider]:
    """The simulated provider at the end of a bad line."""
    later = in_background()

    class UnreliableProvider(SimulatedProvider):
        _cut_until = 0.0
        _slow_until = 0.0

        async def snapshot(self) -> ProviderSnapshot:
            await self._reach()
            seen = await super().snapshot()
            if orders.take(Fault.SNAPSHOT_GARBLED):
                raise ValueError("the provider's answer is not what it should be")
            if orders.take(Fault.SNAPSHOT_LATE):
                await asyncio.sleep(LATE_SECONDS)
            if orders.take(Fault.SNAPSHOT_PARTIAL):
                return replace(seen, nodes=seen.nodes[::2], attempts=seen.attempts[::2], complete=False)
            return seen

        async def status(self, attempts: Any) -> Any:
            await self._reach()
            seen = await super().status(attempts)
            if orders.take(Fault.STATUS_LATE):
                await asyncio.sleep(LATE_SECONDS)
            return seen

        async def renew(self, leases: Mapping[str, datetime | None]) -> frozenset[str]:
            await self._reach()
            if orders.take(Fault.RENEWAL_LATE):
                later(self._renew_later(leases))
                raise _unavailable("the renewal is on its way")
            heard = await super().renew(leases)
            if orders.take(Fault.RENEWAL_UNANSWERED):
                raise _unavailable("no answer to the renewal")
            return heard

        async def _renew_later(self, leases: Mapping[str, datetime | None]) -> None:
            """It arrives after newer ones."""
            await asyncio.sleep(LATE_SECONDS)
            await super().renew(leases)

        async def _launch_later(self, order: LaunchSpec) -> None:
            """It arrives after it was tried again, or given up."""
            await asyncio.sleep(LATE_SECONDS)
            with suppress(ProviderError):
                await super().launch(order)

        async def launch(self, order: LaunchSpec) -> Observation:
            await self._reach()
            if orders.take(Fault.LAUNCH_LATE):
                later(self._launch_later(order))
                raise _unavailable(f"the launch of {order.attempt_id} is on its way")
            if orders.take(Fault.LAUNCH_REFUSED):
                raise ProviderError(ErrorClass.NO_CAPACITY, f"somebody else has what {order.attempt_id} was to have")
            seen = await super().launch(order)
            die_if(orders, Fault.DEATH_AFTER_LAUNCH)
            if orders.take(Fault.LAUNCH_REPEATED):
                seen = await super().launch(order)
            if orders.take(Fault.LAUNCH_UNANSWERED):
                raise _unavailable(f"no answer to the launch of {order.attempt_id}")
            if orders.take(Fault.LAUNCH_GARBLED):
                raise ValueError(f"the answer to the launch of {order.attempt_id} is not what it should be")
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
            if orders.take(Fault.NODE_LOST_IN_RESIZE):
                await self._lose_for_a_while(order.places[-1].node)
            if orders.take(Fault.RESIZE_UNANSWERED):
                raise _unavailable(f"no answer to another size of {order.attempt_id}")

        async def _lose_for_a_while(self, node: str) -> None:
            """Whoever heals brings it back if this process dies before it does."""
            await self.lose_node(node)
            later(self._recover_later(node))

        async def _recover_later(self, node: str) -> None:
            await asyncio.sleep(LOST_SECONDS)
            await self.recover_node(node)

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
                if orders.take(Fault.EVENT_OF_A_STRANGER):
                    yield _of_a_stranger(event)
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


def _of_a_stranger(seen: Observation) -> Observation:
    """Of an attempt of the same workload that nobody has ever begun."""
    epoch = seen.epoch + NEVER_REACHED
    return replace(seen, attempt_id=f"{seen.attempt_id.rpartition('.')[0]}.{epoch}", epoch=epoch)


def _unavailable(why: str) -> ProviderError:
    return ProviderError(ErrorClass.UNAVAILABLE, why)


def unreliable_workloads(orders: Orders) -> type[wiring.TemporalWorkloads]:
    """Workflows that are told some things twice, late, or not at the first try."""
    later = in_background()

    class UnreliableWorkloads(wiring.TemporalWorkloads):
        async def tell(self, notice: Notice) -> None:
            if orders.take(Fault.SIGNAL_UNSENT):
                raise ConnectionError("the signal was not sent")
            await super().tell(notice)
            if orders.take(Fault.SIGNAL_REPEATED):
                await super().tell(notice)
            if orders.take(Fault.SIGNAL_LATE):
                later(self._tell_later(notice))
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


async def set_the_clock(orders: Orders, wall: MachineWall) -> None:
    """Let the clock of this machine jump where that is ordered, and back after a while."""
    while True:
        for fault, jump in CLOCK_JUMPS.items():
            if orders.take(fault):
                wall.ahead = jump
                await asyncio.sleep(WRONG_SECONDS)
                wall.ahead = 0.0
        await asyncio.sleep(DELAY_SECONDS)


async def main() -> None:
    """Work until somebody ends it."""
    settings = load_settings()
    orders = Orders(settings.state_dir / "orders")
    setting = asyncio.create_task(set_the_clock(orders, MachineWall.installed()))
    replacements: tuple[tuple[Any, str, Any], ...] = (
        (wiring, PostgresStore.__name__, mortal_store(orders, settings.state_dir)),
        (wiring, wiring.TemporalWorkloads.__name__, unreliable_workloads(orders)),
        (wiring, Worker.__name__, forgetful_worker(orders)),
        (fleet_file, SimulatedProvider.__name__, unreliable_provider(orders)),
    )
    for module, name, replacement in replacements:
        setattr(module, name, replacement)
    try:
        await wiring.serve(settings, stop_event())
    finally:
        setting.cancel()


if __name__ == "__main__":
    sys.setswitchinterval(SWITCH_SECONDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
