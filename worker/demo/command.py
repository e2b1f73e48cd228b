"""The command: which scenario, run it, and the exit code."""

from pathlib import Path

from rich.console import Console

from worker.demo.mix import showcase
from worker.demo.run import PROCESSES, demo_settings, demonstrate
from worker.demo.trace import replay
from worker.settings import Settings

DIRECTORY = "demo"
"""The folder for demonstrations, below the configured directory for state."""

WIDTH_OF_LOGS = 150
"""Characters in a line of the report where no terminal limits them."""


async def demo(settings: Settings, trace: Path | None, console: Console) -> int:
    """Run the example mix, or replay a trace; 0 when all is well, else 1.

    Raises:
        corral.cli.problems.InvalidInput: the trace cannot be used; nothing was started.
        CannotStart, Stopped: as `demonstrate`.
    """
    if not console.is_terminal:
        console.width = max(console.width, WIDTH_OF_LOGS)
    own = settings.model_copy(update={"state_dir": (settings.state_dir / DIRECTORY).absolute()})
    scenario = replay(trace) if trace else showcase(own.state_dir / PROCESSES)
    report = await demonstrate(demo_settings(own), scenario, console)
    return 0 if report.verdict.is_good else 1
