"""A worker that is killed right after it has committed something, before it could tell anybody.

`python -m tests.end_to_end.faulty_worker admit bind opened+taken ...`: each of the steps kills it once, when it is done for a
workload whose id ends with the step's name, or for anybody where it is a step of no workload. Steps with a plus between them
kill it together: when all of them are done, and nobody has heard of any. That it happened is kept in a file, so that the next
worker does the same step to its end.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import uvloop
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.answers import (
    Adjusted,
    Adjustment,
    AttemptKey,
    FleetStep,
    Judgement,
    Notice,
    ReservationChange,
    ReservationStanding,
    Standing,
)
from activities.ports import NO_TRACES, Grow, LaunchSpec, Observation
from activities.providers.local import LocalProvider
from activities.providers.sim import SimulatedProvider
from activities.store.postgres import PostgresStore
from activities.store.rows import Journal
from corral.api import EvacuationOrder, EvacuationStatus, OperationChange, State, WorkloadSpec
from corral.reservation import ReservationSpec, ReservationState
from corral.rollout import RolloutOrder, RolloutState, RolloutStatus
from corral.wire import Steering
from domain.leases import Reach
from domain.lifecycle import Leave
from worker import wiring
from worker.settings import Settings, load_settings

Result = TypeVar("Result")
Work = Callable[[AsyncConnection, Journal], Awaitable[Result]]


class Fate:
    """What kills this process, and where it is kept that it did."""

    def __init__(self, directory: Path, steps: Collection[str]) -> None:
        self._directory = directory
        self._together = {step: frozenset(group.split("+")) for group in steps for step in group.split("+")}
        self._reached: set[str] = set()

    def after(self, step: str, workloads: Collection[str]) -> None:
        """Die now, if that is meant to happen at this step of one of these workloads and has not happened yet."""
        if self.awaits(step) and any(workload.endswith(step) for workload in workloads):
            self._die([step])

    async def at(self, step: str) -> None:
        """Die, if that is meant to happen at this step and has not happened yet, once all steps are done that go with it."""
        if not self.awaits(step):
            return
        self._reached.add(step)
        if self._reached >= self._together[step]:
            self._die(self._together[step])
        await asyncio.get_running_loop().create_future()  # whoever waits for the answer must not have it

    def awaits(self, step: str) -> bool:
        """Whether this step is still to kill it."""
        return step in self._together and not self._mark(step).exists()

    def _die(self, steps: Collection[str]) -> None:
        for step in steps:
            self._mark(step).touch()
        os.kill(os.getpid(), signal.SIGKILL)

    def _mark(self, step: str) -> Path:
        return self._directory / f"died-after-{step}"


def fate_of_stores(fate: Fate) -> type[PostgresStore]:
    """The real store, followed by death."""

    class FatalStore(PostgresStore):
        async def round(
            self, specs: Sequence[WorkloadSpec], decide: Callable[..., Any], trigger: str, traces: Mapping[str, str] = NO_TRACES
        ) -> tuple[dict[str, Standing], list[Notice]]:
            standings, notices = await super().round(specs, decide, trigger, traces)
            fate.after("admit", standings)
            placed = [notice.standing.workload for notice in notices if notice.standing.state is State.RESERVED]
            fate.after("round", placed)
            fate.after("reshape", [notice.standing.workload for notice in notices if notice.standing.next_place])
            told = [*standings.values(), *(notice.standing for notice in notices)]
            fate.after("hold", [standing.workload for standing in told if standing.state is State.RESERVING])
            fate.after("spare", [standing.workload for standing in told if standing.state is State.RUNNING])
            if fate.awaits("opened") and any(each.state is ReservationState.OPEN for each in await self.reservations()):
                await fate.at("opened")
            return standings, notices

        async def noticed(self, key: AttemptKey, notice: int) -> list[Notice]:
            notices = await super().noticed(key, notice)
            fate.after("noticed", [key.workload])
            return notices

        async def adjust(self, verb: str, asked: Adjustment) -> tuple[Adjusted, list[Notice]]:
            answer = await super().adjust(verb, asked)
            fate.after("checkpointed", [asked.workload] if verb == "checkpointed" else [])
            if asked.workload.endswith(f"asked-{verb}"):
                await fate.at(f"asked-{verb}")
            return answer

        async def keep_house(self) -> list[Notice]:
            notices = await super().keep_house()
            for step in (Leave.SILENT, Leave.FORCED, Leave.STUCK):
                fate.after(step, [notice.standing.workload for notice in notices if notice.standing.leave is step])
            return notices

        async def _write(self, work: Work[Result]) -> tuple[Result, list[Notice]]:
            answer = await super()._write(work)
            if work.__qualname__.startswith(f"{PostgresStore.evacuate.__qualname__}."):
                await fate.at(f"evacuate-{work.__name__}")
            return answer

        async def evacuate(self, order: EvacuationOrder) -> tuple[EvacuationStatus, list[Notice]]:
            answer = await super().evacuate(order)
            fate.after("evacuate", [order.id])
            return answer

        async def steer_evacuation(self, id: str, verb: Steering, change: OperationChange, key: str) -> EvacuationStatus:
            status = await super().steer_evacuation(id, verb, change, key)
            await fate.at(f"evacuation-{verb}")
            return status

        async def reserve(self, spec: ReservationSpec) -> ReservationStanding:
            standing = await super().reserve(spec)
            await fate.at("reserved")
            return standing

        async def extend_reservation(self, asked: ReservationChange) -> ReservationStanding:
            standing = await super().extend_reservation(asked)
            await fate.at("extended")
            return standing

        async def advance_reservation(self, reservation: str) -> ReservationStanding:
            standing = await super().advance_reservation(reservation)
            if standing.state is ReservationState.ENDED:
                await fate.at("closed")
            return standing

        async def cancel_reservation(self, reservation: str) -> ReservationStanding:
            standing = await super().cancel_reservation(reservation)
            await fate.at("given-up")
            return standing

        async def grow(self, plan: Grow) -> list[FleetStep]:
            steps = await super().grow(plan)
            for kind in {step.kind for step in steps}:
                await fate.at(f"planned-{kind}")
            return steps

        async def order_taken(self, order: str) -> None:
            await super().order_taken(order)
            await fate.at("taken")

        async def order_failed(self, order: str, reason: str) -> None:
            await super().order_failed(order, reason)
            await fate.at("refused")

        async def nodes_given_back(self, provider: str, names: Collection[str]) -> None:
            await super().nodes_given_back(provider, names)
            await fate.at("given-back")

        async def judge_clusters(self, provider: str, *terms: Any, **heard: Any) -> tuple[Judgement, list[Notice]]:
            answer = await super().judge_clusters(provider, *terms, **heard)
            for step in (Reach.SUSPECT, Reach.LOST, Reach.RETURNED):
                fate.after(step, [each.state for each in await self.clusters()])
            return answer

        async def begin_rollout(self, order: RolloutOrder) -> RolloutStatus:
            status = await super().begin_rollout(order)
            fate.after("begun", [order.id])
            return status

        async def advance_rollout(self, id: str) -> RolloutStatus:
            status = await super().advance_rollout(id)
            fate.after("taken-back", [id] if status.state is RolloutState.ROLLED_BACK else [])
            return status

        async def steer_rollout(self, id: str, verb: Steering, change: OperationChange, key: str) -> RolloutStatus:
            status = await super().steer_rollout(id, verb, change, key)
            fate.after("steered", [id])
            return status

        async def kept(self, key: AttemptKey, notice: int) -> list[Notice]:
            notices = await super().kept(key, notice)
            fate.after("kept", [key.workload])
            return notices

        async def begin_bindings(self, keys: Sequence[AttemptKey]) -> list[LaunchSpec | None]:
            orders = await super().begin_bindings(keys)
            fate.after("begin", [key.workload for key in keys])
            return orders

        async def settle(
            self, observations: Sequence[Observation], answered: frozenset[str] = frozenset()
        ) -> tuple[dict[str, Standing], list[Notice]]:
            standings, notices = await super().settle(observations, answered)
            over = [seen.attempt_id.rpartition(".")[0] for seen in observations if seen.phase.is_over]
            fate.after("settle", over)
            return standings, notices

    return FatalStore


def kill_after_calls(fate: Fate) -> None:
    """Let calls to the real providers be followed by death."""
    for kind in (SimulatedProvider, LocalProvider):
        _follow(kind, "launch", lambda order: fate.after("bind", [order.workload_id]))
        for name, step in (("preempt", "stop"), ("preempt", "notice"), ("keep", "keep"), ("release", "released")):
            _follow(kind, name, lambda attempt, *_, step=step: fate.after(step, [attempt.rpartition(".")[0]]))
    for name in ("provision", "deprovision"):
        _follow(SimulatedProvider, name, lambda _, name=name: fate.at(name))


def _follow(kind: type, name: str, then: Callable[..., Awaitable[None] | None]) -> None:
    call = getattr(kind, name)

    async def followed(self: object, *arguments: object, **more: object) -> object:
        answer = await call(self, *arguments, **more)
        if (dying := then(*arguments)) is not None:
            await dying
        return answer

    setattr(kind, name, followed)


async def main(settings: Settings, steps: Collection[str]) -> None:
    """Work until one of the steps, or until somebody ends it."""
    fate = Fate(settings.state_dir, steps)
    setattr(wiring, PostgresStore.__name__, fate_of_stores(fate))
    kill_after_calls(fate)
    await wiring.serve(settings, asyncio.Event())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(load_settings(), sys.argv[1:]))
