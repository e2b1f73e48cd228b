"""A worker that is killed right after it has committed something, before it could tell anybody.

`python -m tests.end_to_end.faulty_worker admit bind opened+taken ...`: each of the steps (see `tests.end_to_end.crash_points`)
kills it once, when it is done for a workload whose id ends with the step's name, or for anybody where it is a step of no
workload. Steps with a plus between them kill it together: when all of them are done, and nobody has heard of any. That it
happened is kept in a file, so that the next worker does the same step to its end.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Collection, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

from corral.loading import loading

if TYPE_CHECKING:  # what tests are made with, a worker need not load: it is started after each death
    from tests.end_to_end.crash_points import Point
    from tests.end_to_end.pools import LivePool

TOGETHER = "+"


def dying_after(*steps: str) -> tuple[str, ...]:
    """The command of a worker that dies after each of these steps; those with a plus between them come together.

    Raises:
        LookupError: names a step at which no worker can die.
    """
    require_known(steps)
    return ("-m", "tests.end_to_end.faulty_worker", *steps)


def require_known(groups: Collection[str]) -> None:
    """Refuse a step that would never come.

    Raises:
        LookupError: names it, and those that there are.
    """
    from tests.end_to_end.crash_points import POINTS

    known = {point.step for point in POINTS}
    if unknown := {step for group in groups for step in group.split(TOGETHER)} - known:
        raise LookupError(f"no worker can die after {', '.join(sorted(unknown))}; the steps are {', '.join(sorted(known))}")


async def died_after(pool: "LivePool", step: str) -> None:
    """Until the worker has died after a step; patience begins anew with each step at which it has come by then."""
    from tests.end_to_end.pools import eventually

    directory = pool.settings.state_dir
    while not has_died_after(directory, step):
        before = _come_by(directory)

        async def look(before: Collection[str] = before) -> bool:
            return _come_by(directory) != before

        try:
            await eventually(look, f"the worker dies after {step}")
        except AssertionError as late:
            done = ", ".join(waits_at(directory))
            raise AssertionError(f"{late}; done, and waiting for what goes with it: {done}") from late


def has_died_after(directory: Path, step: str) -> bool:
    """Whether a worker with that state directory has died after a step."""
    return _died(directory, step).exists()


def waits_at(directory: Path) -> list[str]:
    """The steps that were done, and kill the worker when others have come that go with them."""
    return sorted(mark.name.removeprefix("waits-at-") for mark in directory.glob("waits-at-*"))


def _come_by(directory: Path) -> Collection[str]:
    return {mark.name for pattern in ("died-after-*", "waits-at-*") for mark in directory.glob(pattern)}


def _died(directory: Path, step: str) -> Path:
    return directory / f"died-after-{step}"


def _waits(directory: Path, step: str) -> Path:
    return directory / f"waits-at-{step}"


class Fate:
    """What kills this process, and where it is kept that it did."""

    def __init__(self, directory: Path, groups: Collection[str]) -> None:
        self._directory = directory
        self._together = {step: frozenset(group.split(TOGETHER)) for group in groups for step in group.split(TOGETHER)}
        self._reached: set[str] = set()
        for step in waits_at(directory):
            _waits(directory, step).unlink()

    def awaits(self, step: str) -> bool:
        """Whether this step is still to kill it."""
        return step in self._together and not has_died_after(self._directory, step)

    async def at(self, step: str) -> None:
        """Die, once all steps are done that go with this one."""
        self._reached.add(step)
        together = self._together[step]
        if self._reached >= together:
            for each in together:
                _died(self._directory, each).touch()
                _waits(self._directory, each).unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)
        _waits(self._directory, step).touch()
        await asyncio.get_running_loop().create_future()  # whoever waits for the answer must not have it


def kill_after(points: Sequence["Point"], fate: Fate) -> None:
    """Let the methods of these points be followed by death."""
    from tests.end_to_end.crash_points import grouped

    for classes, method, same in grouped(points):
        for owner in classes:
            _follow(owner, method, same, fate)


def _follow(owner: type, name: str, points: Sequence["Point"], fate: Fate) -> None:
    call = getattr(owner, name)

    @wraps(call)
    async def followed(self: object, *given: object, **named: object) -> object:
        answer = await call(self, *given, **named)
        for point in points:
            if fate.awaits(point.step) and await point.is_reached(self, answer, *given, **named):
                await fate.at(point.step)
        return answer

    setattr(owner, name, followed)


def main(groups: Collection[str]) -> None:
    """Work until one of the steps, or until somebody ends it."""
    with loading():
        import uvloop

        from tests.end_to_end.crash_points import POINTS
        from worker.settings import load_settings
        from worker.wiring import serve

    async def until_death() -> None:
        await serve(settings, asyncio.Event())

    settings = load_settings()
    require_known(groups)
    kill_after(POINTS, Fate(settings.state_dir, groups))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(until_death())


if __name__ == "__main__":
    main(sys.argv[1:])
