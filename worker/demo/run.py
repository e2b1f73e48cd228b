"""One demonstration, from empty directory to report."""

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from activities.store.migrations import upgrade
from corral.client import Corral
from worker.demo import folding
from worker.demo.driver import Driver
from worker.demo.folding import Run
from worker.demo.machines import Machines, machines_of
from worker.demo.mix import OUTPUT_VARIABLE
from worker.demo.pace import paced
from worker.demo.page import write_page
from worker.demo.persistence import persistently
from worker.demo.progress import Progress, progress
from worker.demo.record import Reader
from worker.demo.report import Phase, Report, Verdict
from worker.demo.scenario import Scenario
from worker.demo.terminal import print_report
from worker.demo.verify import CHECKS, what_is_wrong
from worker.embedded import embedded_servers, require_free_ports, worker_child
from worker.settings import Settings
from worker.stopping import unless_stopped
from worker.supervision import Supervisor
from worker.temporal_server import connect

PROCESSES = "processes"
"""The folder in which real processes of a scenario write."""

FLEET = "fleet.yaml"
LOCK = "lock"
TICK_SECONDS = 0.5


def demo_settings(settings: Settings) -> Settings:
    """Settings for a run: the configured ports, and state of its own."""
    chosen = {
        "state_dir": settings.state_dir,
        "fleet_file": settings.state_dir / FLEET,
        "tick_seconds": TICK_SECONDS,
        "build_id": None,  # there is one worker, and it asks itself
        "principals_file": None,
    }
    return settings.embedded().model_copy(update=chosen)


async def demonstrate(settings: Settings, scenario: Scenario, console: Console) -> Report:
    """Run a scenario on servers of its own under `settings.state_dir`, and leave the report there.

    Raises:
        CannotStart: the directory or a port is taken, or a server cannot be kept alive.
        Stopped: somebody wants it to end.
    """
    with progress(console, len(scenario.arrivals)) as shown:
        run = await Demonstration(settings, scenario, shown).run()
    report = folding.report(run)
    (settings.state_dir / "report.json").write_text(report.model_dump_json(indent=1) + "\n")
    write_page(report, settings.state_dir / "report.html")
    print_report(report, settings.state_dir, console)
    return report


@dataclass
class Demonstration:
    """One run of a scenario. `incidents` is what the supervisor of the servers had to say, `phases` what took how long."""

    settings: Settings
    scenario: Scenario
    shown: Progress
    phases: list[Phase] = field(default_factory=list)
    incidents: list[str] = field(default_factory=list)

    async def run(self) -> Run:
        """Start the servers afresh, carry the scenario out, and check what is left.

        Raises:
            CannotStart, Stopped: as `demonstrate`.
        """
        await clear(self.settings, self._say)
        (self.settings.state_dir / PROCESSES).mkdir()
        (self.settings.state_dir / FLEET).write_text(self.scenario.fleet.model_dump_json(indent=1))
        async with AsyncExitStack() as stack:
            with self._phase("start PostgreSQL and Temporal"):
                supervisor = await stack.enter_async_context(embedded_servers(self.settings, self._say))
            with self._phase("make the tables"):
                await upgrade(self.settings.database_url)
            self._set_the_clock(self.phases[-1].seconds)
            with self._phase("start the worker"):
                await supervisor.start(worker_child(self.settings))
            return await unless_stopped(supervisor, self._carry_out())

    def _set_the_clock(self, tables_seconds: float) -> None:
        """Let the pool's time begin to run fast now, as fast as this machine allows."""
        self.scenario = paced(self.scenario, tables_seconds, os.getloadavg()[0] / (os.cpu_count() or 1))
        clock = {"clock_speed": self.scenario.clock_speed, "clock_origin": datetime.now(UTC)}
        self.settings = self.settings.model_copy(update=clock)
        self.shown.say(f"the pool's time runs {self.scenario.clock_speed:g} times as fast as the wall's")

    async def _carry_out(self) -> Run:
        settings, scenario = self.settings, self.scenario
        corral = Corral(await connect(settings), settings.pool)
        async with AsyncExitStack() as stack:
            reader = Reader(settings.database_url, settings.clock())
            stack.push_async_callback(reader.aclose)
            machines = await stack.enter_async_context(machines_of(settings, corral))
            with self._phase("make the queues"):
                await persistently(lambda: corral.apply_queues(scenario.queues))
                if (data := scenario.data) is not None:
                    await persistently(lambda: corral.apply_datasets(data))
                await _fleet_is_seen(reader, machines)
            with self._phase("run the workloads"):
                course = await Driver(corral, reader, settings.clock(), machines, self.shown).drive(scenario)
            with self._phase("check"):
                record = await persistently(reader.everything)
                problems = await what_is_wrong(settings, await connect(settings), machines, scenario.arrivals, record)
        return Run(
            scenario=scenario,
            record=record,
            course=course,
            verdict=Verdict(checks=len(CHECKS), problems=(*course.mishaps, *problems)),
            phases=tuple(self.phases),
            outputs=_outputs(scenario),
            incidents=tuple(self.incidents),
        )

    def _say(self, line: str) -> None:
        self.incidents.append(line)
        self.shown.say(line)

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        """Show what is done within the context, and time it on the wall."""
        self.shown.begin(name)
        began = time.monotonic()
        yield
        self.phases.append(Phase(name=name, seconds=round(time.monotonic() - began, 1)))


async def clear(settings: Settings, say: Callable[[str], None]) -> None:
    """Remove what an earlier run left, but only when the directory and the ports are free.

    Raises:
        CannotStart: somebody else uses one of them.
    """
    async with Supervisor(settings.state_dir, say):
        require_free_ports(settings)
        for left in settings.state_dir.iterdir():
            if left.name != LOCK:
                await asyncio.to_thread(shutil.rmtree if left.is_dir() else Path.unlink, left)


async def _fleet_is_seen(reader: Reader, machines: Machines) -> None:
    """Come back when the record knows all nodes; until then, work that needs them would be refused for good."""
    expected, seen = await machines.number_of_nodes(), 0
    while seen < expected:
        await asyncio.sleep(0.1)
        seen = sum(status.nodes for status in (await persistently(reader.glimpse)).fleet)


def _outputs(scenario: Scenario) -> dict[str, tuple[str, ...]]:
    """What real processes wrote, by workload."""
    files = {
        arrival.spec.id: Path(arrival.spec.environment[OUTPUT_VARIABLE])
        for arrival in scenario.arrivals
        if OUTPUT_VARIABLE in arrival.spec.environment
    }
    return {id: tuple(file.read_text(errors="replace").splitlines()) for id, file in files.items() if file.exists()}
