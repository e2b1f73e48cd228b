"""Builders for the providers' tests: a clock, a provider with its node, orders that mean the same to each of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path
from time import time

from activities.ports import OVER, Event, LaunchSpec, Observation, Phase, Provider, ReplicaPlace
from activities.providers.local import LocalNode, LocalProvider
from activities.providers.sim import SimulatedProvider
from activities.providers.sim_fleet import NodeShape, SimulatedCluster, SimulatedFaults, SimulatedFleet, SimulatedRegion
from domain.pool.fleet import Replica
from tests.patience import PATIENCE_SECONDS

DEVICES = 4
LONG = 300.0


@dataclass
class FastClock:
    """The pool's time runs `speed` times as fast as the wall's."""

    speed: float = 1.0
    began: float = 0.0

    def __post_init__(self) -> None:
        self.began = self.began or time()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.began + (time() - self.began) * self.speed, UTC)

    def wall_seconds(self, pool_seconds: float) -> float:
        return pool_seconds / self.speed


@dataclass
class HandClock:
    """The pool's time stands still until it is moved."""

    seconds: float = 1_800_000_000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def wall_seconds(self, pool_seconds: float) -> float:
        return pool_seconds

    def move(self, seconds: float) -> None:
        self.seconds += seconds


DEAF = "deaf-"
"""How files begin by which processes say that they ignore notices from now on."""


def a_fleet(nodes: int = 2) -> SimulatedFleet:
    """One cluster in one region."""
    shape = NodeShape(sku="h100", count=nodes, accelerators=DEVICES, nodes_per_rack=1)
    return SimulatedFleet(regions=(SimulatedRegion(name="here", clusters=(SimulatedCluster(name="a", nodes=(shape,)),)),))


def first_node(number: int = 0) -> str:
    """A node of `a_fleet`."""
    return f"a-h100-{number:04d}"


def an_order(  # one default for each thing that a test may care about
    attempt: str = "attempt-1",
    *,
    workload: str = "workload-1",
    epoch: int = 1,
    node: str = first_node(),
    devices: tuple[int, ...] = (0,),
    milli: int = 1000,
    seconds: float = LONG,
    exit_code: int = 0,
    ignores_notice: bool = False,
    **parameters: str,
) -> LaunchSpec:
    """One replica that runs for `seconds`, told to a simulator by parameters and to a machine by a command."""
    trap = f"trap '' TERM; : > $CORRAL_DIRECTORY/{DEAF}$CORRAL_REPLICA; " if ignores_notice else ""
    return LaunchSpec(
        attempt_id=attempt,
        workload_id=workload,
        epoch=epoch,
        digest=f"{attempt} {seconds} {exit_code}",
        places=(ReplicaPlace(node, Replica("main", 0, devices), milli),),
        command=("sh", "-c", f"{trap}sleep {seconds} & wait $!; exit {exit_code}"),
        parameters={
            "runtime_seconds": str(seconds),
            "exit_code": str(exit_code),
            "checkpoint_seconds": "0.1",
            "ignore_notice": str(ignores_notice).lower(),
            **parameters,
        },
    )


@dataclass
class World:
    """A provider, the name of one node of its, its cluster, and a way to look at the same world from a new worker."""

    provider: Provider
    node: str
    open_again: Callable[[], Provider]
    place: str
    clock: FastClock
    deaf: Callable[[], float] = lambda: inf
    """How many replicas are known to ignore notices by now."""

    async def launch_deaf(self, order: LaunchSpec) -> None:
        """Launch work that ignores its notices, and wait until it does: a process is there before it can."""
        await self.provider.launch(order)

        async def are_deaf() -> bool:
            return self.deaf() >= len(order.places)

        await until(are_deaf)

    async def leases(self, seconds: float) -> datetime:
        """The node's cluster has a lease of so many seconds from now on; answers with its end."""
        until = self.clock.now() + timedelta(seconds=seconds)
        assert await self.provider.renew({self.place: until}) == {self.place}
        return until

    def order(self, attempt: str = "attempt-1", **details: object) -> LaunchSpec:
        """An order for this world's node; the details are those of `an_order`."""
        order = an_order(attempt, **details)  # type: ignore[arg-type]
        return replace(order, places=tuple(replace(place, node=self.node) for place in order.places))


@asynccontextmanager
async def simulated(directory: Path) -> AsyncIterator[World]:
    clock = FastClock()

    def open_again() -> Provider:
        return SimulatedProvider(directory / "world.sqlite", a_fleet(), clock)

    world = World(open_again(), first_node(), open_again, "here/a", clock)
    yield world
    await world.provider.aclose()


@asynccontextmanager
async def local(directory: Path) -> AsyncIterator[World]:
    clock = FastClock()

    def open_again() -> Provider:
        return LocalProvider(directory, LocalNode(accelerators=DEVICES), clock)

    def deaf() -> int:
        return len(list(directory.glob(f"**/{DEAF}*")))

    world = World(open_again(), "local", open_again, "local/local", clock, deaf)
    try:
        yield world
    finally:
        await stop_all(world.provider)
        await world.provider.aclose()


async def stop_all(provider: Provider) -> None:
    """Leave nothing running."""
    for attempt in (await provider.snapshot()).attempts:
        await provider.release(attempt.attempt_id, attempt.epoch)
    await until(lambda: _all_are_over(provider))


async def _all_are_over(provider: Provider) -> bool:
    return all(attempt.phase.is_over for attempt in (await provider.snapshot()).attempts)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds; it is an error when it does not in good time."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await holds():  # noqa: ASYNC110 - what is waited for happens in other processes
            await asyncio.sleep(0.01)


async def seen(provider: Provider, attempt: str, *phases: Phase) -> Observation:
    """Wait until an attempt is in one of the phases."""
    found: list[Observation] = []

    async def is_there() -> bool:
        found[:] = (await provider.status([attempt])).values()
        return bool(found) and found[0].phase in phases

    await until(is_there)
    return found[0]


async def ended(provider: Provider, attempt: str) -> Observation:
    """Wait until an attempt is over."""
    return await seen(provider, attempt, *OVER)


async def told(events: AsyncIterator[Event], last: Callable[[Event], bool]) -> list[Event]:
    """What a watch tells, up to and with the first event of which `last` holds."""
    found: list[Event] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in events:
            found.append(event)
            if last(event):
                break
    return found


NO_FAULTS = SimulatedFaults()


def a_simulation(
    directory: Path, clock: HandClock | FastClock, faults: SimulatedFaults = NO_FAULTS, nodes: int = 2
) -> SimulatedProvider:
    """A worker's view of the simulated world in that directory."""
    return SimulatedProvider(directory / "world.sqlite", a_fleet(nodes), clock, faults=faults)
