"""The machines of a demonstration: what is done to them, and what may not be left on them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import psutil

from activities.ports import Provider
from activities.providers.local import LocalProvider
from activities.providers.local_attempts import DIRECTORY_VARIABLE
from activities.providers.sim import SimulatedProvider
from corral.api import Cordon, WorkloadStatus
from corral.client import Corral
from worker.demo.persistence import persistently
from worker.demo.scenario import Deed, Verb
from worker.fleet_file import read_fleet
from worker.settings import Settings

Whereabouts = Callable[[str], Awaitable[WorkloadStatus]]
"""Tells how a workload stands, as soon as it runs."""


class Machines:
    """The providers of a running pool, seen from outside of its worker."""

    def __init__(self, corral: Corral, providers: Mapping[str, Provider]) -> None:
        """Give orders through a client where services can, and at the providers where only fate can."""
        self._corral = corral
        self._providers = providers
        self._chosen: dict[str, tuple[str, str]] = {}

    async def treat(self, deed: Deed, where: Whereabouts) -> str:
        """Do something to the first node on which a workload runs, or ran when this was first done; says what was done."""
        if deed.workload not in self._chosen:
            self._chosen[deed.workload] = _first_node(await where(deed.workload))
        provider, node = self._chosen[deed.workload]
        match deed.verb:
            case Verb.DRAIN | Verb.UNCORDON:
                order = Cordon(action=deed.verb, nodes=(node,), reason=deed.why)
                await persistently(lambda: self._corral.cordon(provider, order, key=deed.key))
            case Verb.LOSE_NODE:
                await self._simulated(provider).lose_node(node)
            case Verb.RECOVER_NODE:
                await self._simulated(provider).recover_node(node)
            case _:
                raise ValueError(f"{deed.verb} is done to workloads, not to nodes")
        return f"{provider}/{node}: {_WORDS[deed.verb]}"

    async def number_of_nodes(self) -> int:
        """How many nodes all providers have."""
        return sum([len((await provider.snapshot()).nodes) for provider in self._providers.values()])

    async def still_running(self) -> list[str]:
        """Attempts that a provider still runs, in words."""
        snapshots = {name: await provider.snapshot() for name, provider in self._providers.items()}
        return [
            f"provider {name} still has attempt {seen.attempt_id} ({seen.phase})"
            for name, snapshot in snapshots.items()
            for seen in snapshot.attempts
            if not seen.phase.is_over
        ]

    async def stop_processes(self) -> None:
        """Stop what still runs on this machine."""
        for provider in self._providers.values():
            if isinstance(provider, LocalProvider):
                for seen in (await provider.snapshot()).attempts:
                    if not seen.phase.is_over:
                        await provider.release(seen.attempt_id, seen.epoch)

    def _simulated(self, name: str) -> SimulatedProvider:
        provider = self._providers[name]
        assert isinstance(provider, SimulatedProvider), "fate is simulated"
        return provider


_WORDS = {
    Verb.DRAIN: "draining",
    Verb.UNCORDON: "back in service",
    Verb.LOSE_NODE: "lost with everything on it",
    Verb.RECOVER_NODE: "recovered",
}


def _first_node(status: WorkloadStatus) -> tuple[str, str]:
    """Provider and name of the first node on which a workload runs."""
    assert status.where is not None, "what runs has a place"
    provider = status.where.provider
    return provider, min(status.where.nodes).removeprefix(f"{provider}/")


@asynccontextmanager
async def machines_of(settings: Settings, corral: Corral) -> AsyncIterator[Machines]:
    """The machines that a worker with these settings uses; on leaving, nothing of ours runs on this one any more."""
    state = settings.state_dir / "providers"
    async with AsyncExitStack() as stack:
        providers: dict[str, Provider] = {}
        for entry in read_fleet(settings.fleet_file).providers:
            provider = providers[entry.name] = entry.open(state, settings.clock())
            stack.push_async_callback(provider.aclose)
        machines = Machines(corral, providers)
        stack.push_async_callback(machines.stop_processes)
        yield machines


def processes_below(directory: Path) -> Iterable[str]:
    """Processes on this machine that were started for a workload whose directory is below this one, in words."""
    inside = str(directory.absolute())
    for process in psutil.process_iter():
        try:
            where = process.environ().get(DIRECTORY_VARIABLE, "")
        except (psutil.Error, OSError):
            continue  # it is gone, or it is somebody else's
        if where.startswith(inside) and process.status() != psutil.STATUS_ZOMBIE:
            yield f"process {process.pid} of {Path(where).name} still runs"
