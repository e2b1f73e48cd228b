"""A worker that is killed right after it has committed something, before it could tell anybody.

`python -m tests.end_to_end.faulty_worker admit bind ...`: each of the steps kills it once, when it is done for a workload whose
id ends with the step's name. That it happened is kept in a file, so that the next worker does the same step to its end.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import uvloop

from activities.answers import Adjusted, Adjustment, AttemptKey, Judgement, Notice, Standing
from activities.ports import LaunchSpec, Observation
from activities.providers.local import LocalProvider
from activities.providers.sim import SimulatedProvider
from activities.store.postgres import PostgresStore
from corral.api import EvacuationOrder, EvacuationStatus, OperationChange, State, WorkloadSpec
from corral.rollout import RolloutOrder, RolloutState, RolloutStatus
from corral.wire import Steering
from domain.leases import Reach
from domain.lifecycle import Leave
from worker import wiring
from worker.settings import Settings, load_settings


class Fate:
    """What kills this process, and where it is kept that it did."""

    def __init__(self, directory: Path, steps: Collection[str]) -> None:
        self._directory = directory
        self._steps = steps

    def after(self, step: str, workloads: Collection[str]) -> None:
        """Die now, if that is meant to happen at this step of one of these workloads and has not happened yet."""
        mark = self._directory / f"died-after-{step}"
        if step in self._steps and not mark.exists() and any(workload.endswith(step) for workload in workloads):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def fate_of_stores(fate: Fate) -> type[PostgresStore]:
    """The real store, followed by death."""

    class FatalStore(PostgresStore):
        async def round(
            self, specs: Sequence[WorkloadSpec], decide: Callable[..., Any], trigger: str
        ) -> tuple[dict[str, Standing], list[Notice]]:
            standings, notices = await super().round(specs, decide, trigger)
            fate.after("admit", standings)
            placed = [notice.standing.workload for notice in notices if notice.standing.state is State.RESERVED]
            fate.after("round", placed)
            fate.after("reshape", [notice.standing.workload for notice in notices if notice.standing.next_place])
            told = [*standings.values(), *(notice.standing for notice in notices)]
            fate.after("hold", [standing.workload for standing in told if standing.state is State.RESERVING])
            fate.after("spare", [standing.workload for standing in told if standing.state is State.RUNNING])
            return standings, notices

        async def noticed(self, key: AttemptKey, notice: int) -> list[Notice]:
            notices = await super().noticed(key, notice)
            fate.after("noticed", [key.workload])
            return notices

        async def adjust(self, verb: str, asked: Adjustment) -> tuple[Adjusted, list[Notice]]:
            answer = await super().adjust(verb, asked)
            if verb == "checkpointed":
                fate.after("checkpointed", [asked.workload])
            return answer

        async def keep_house(self) -> list[Notice]:
            notices = await super().keep_house()
            for step in (Leave.SILENT, Leave.FORCED, Leave.STUCK):
                fate.after(step, [notice.standing.workload for notice in notices if notice.standing.leave is step])
            return notices

        async def evacuate(self, order: EvacuationOrder) -> tuple[EvacuationStatus, list[Notice]]:
            answer = await super().evacuate(order)
            fate.after("evacuate", [order.id])
            return answer

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
    _follow(SimulatedProvider, "provision", lambda order: fate.after("burst-1", [order.id]))


def _follow(kind: type, name: str, then: Callable[..., None]) -> None:
    call = getattr(kind, name)

    async def followed(self: object, *arguments: object, **more: object) -> object:
        answer = await call(self, *arguments, **more)
        then(*arguments)
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
