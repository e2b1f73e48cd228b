"""`python -m worker`: serve a pool, or all on one machine; migrate, promote, audit, restore; check a policy; list settings."""

# Each command loads what it needs: that all together takes as long as a worker's start.

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from corral.loading import loading

if TYPE_CHECKING:
    from worker.settings import Settings

Result = TypeVar("Result")


class LintOutput(StrEnum):
    """How findings are written."""

    TEXT = "text"
    JSON = "json"


INTERRUPTED = 128 + signal.SIGINT
"""The exit code of what Ctrl-C has ended."""

SWITCH_SECONDS = 0.0005

WIDEST_TABLE = 1_000
"""Characters in a line of a table for programs, which cut nothing and break no line."""

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


def _run(work: Callable[["Settings"], Coroutine[Any, Any, Result]], *, quietly: bool = False) -> Result:
    """Run one command with the settings of the environment; what people must put right is told without a traceback.

    `quietly` leaves out the log of this process, for commands that tell a person themselves what happens.
    """
    with loading():
        import uvloop

        from activities.store.migrations import Unusable
        from corral.cli.exits import ExitCode
        from corral.cli.problems import InvalidInput
        from worker.observing.logs import write_logs
        from worker.reaching import NoAnswer
        from worker.settings import LogLevel, SettingsError, load_settings
        from worker.stopping import Stopped
        from worker.supervision import CannotStart
    try:
        settings = load_settings()
        write_logs(LogLevel.ERROR if quietly else settings.log_level, settings.log_format)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work(settings))
    except (SettingsError, CannotStart, InvalidInput, Unusable) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None
    except NoAnswer as error:
        print(error, file=sys.stderr)
        raise typer.Exit(ExitCode.UNREACHABLE) from None
    except (KeyboardInterrupt, Stopped):
        raise typer.Exit(INTERRUPTED) from None


def _tell(line: str, style: str = "") -> None:
    """Write a line as it is: names in it may have brackets, and who reads it may be a program."""
    from rich.console import Console

    Console(highlight=False).print(line, style=style, markup=False, soft_wrap=True)


def stop_event() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


@app.command()
def serve() -> None:
    """Work for the pool until told to stop."""
    with loading():
        from worker.wiring import serve as serve_pool

    # Rounds are decided and fixes found in threads; with the usual 5 ms, each step of the event loop would wait that long.
    sys.setswitchinterval(SWITCH_SECONDS)

    async def until_stopped(settings: "Settings") -> None:
        await serve_pool(settings, stop_event())

    _run(until_stopped)


@app.command()
def up() -> None:
    """Run PostgreSQL, Temporal and a worker on this machine, until Ctrl-C."""
    with loading():
        from rich.console import Console

        from worker.up import up as serve_everything

    _run(lambda settings: serve_everything(settings, Console(highlight=False)), quietly=True)


@app.command()
def demo(trace: Annotated[Path | None, typer.Option(help="replay the jobs of this CSV file (README: a trace)")] = None) -> None:
    """Show Corral at work on servers of its own; exit 1 when something is wrong in the end."""
    with loading():
        from rich.console import Console

        from worker.demo.command import demo as run_demo

    raise typer.Exit(_run(lambda settings: run_demo(settings, trace, Console(highlight=False)), quietly=True))


@app.command()
def migrate() -> None:
    """Bring the record to the version of this code, and say which workers can use it then."""
    with loading():
        from activities.store.migrations import newest, oldest_worker, upgrade
        from worker.reaching import reaching_the_record

    async def bring(settings: "Settings") -> None:
        with reaching_the_record(settings):
            await upgrade(settings.database_url)
        _tell(f"The record is of version {newest()}. Workers before version {oldest_worker()} stop by themselves.")

    _run(bring)


@app.command()
def restored() -> None:
    """Take up a record that was restored from a backup, before workers serve again (docs/operations.md).

    Exit code 0: all is done; 1: it has to be run again; 5: a server does not answer.
    """
    with loading():
        from worker.restoring import take_up as take_up_restored

    async def take_up(settings: "Settings") -> int:
        return 0 if await take_up_restored(settings, _tell) else 1

    raise typer.Exit(_run(take_up))


@app.command()
def promote() -> None:
    """Give work to the workers of the version in CORRAL_BUILD_ID from now on (docs/changing-workflows.md)."""
    with loading():
        from worker.temporal_server import connect
        from worker.versions import deployment_name
        from worker.versions import promote as give_work_to

    async def give(settings: "Settings") -> None:
        build = await give_work_to(await connect(settings), settings)
        _tell(f"{deployment_name(settings.pool)}: version {build} is current")

    _run(give)


@app.command()
def audit() -> None:
    """Check every invariant of the record; exit 1 when one is broken, 5 when PostgreSQL does not answer."""
    with loading():
        from activities.store.audit import RULES
        from activities.store.postgres import PostgresStore
        from worker.reaching import reaching_the_record

    async def check(settings: "Settings") -> int:
        store = PostgresStore.connect(settings.database_url, settings.clock(), settings.pool)
        try:
            with reaching_the_record(settings):
                await store.require_usable()
            findings = await store.audit()
        finally:
            await store.aclose()
        for finding in findings:
            _tell(f"broken: {finding.rule}: {finding.where}", style="red")
        _tell(f"{len(RULES)} invariants checked, {len(findings)} findings")
        return 1 if findings else 0

    raise typer.Exit(_run(check))


policy = typer.Typer(no_args_is_help=True, help="Check policies.")
app.add_typer(policy, name="policy")


@policy.callback()
def _policy() -> None:
    """Check policies before they are applied with `corral policy apply`."""


@policy.command()
def lint(
    file: Annotated[str, typer.Argument(metavar="FILE", help="a YAML file, or the name of a preset")],
    queues: Annotated[str | None, typer.Option(metavar="TREE", help="a YAML file with the queues that it is to meet")] = None,
    output: Annotated[LintOutput, typer.Option("--output", "-o", help="how to write the findings")] = LintOutput.TEXT,
) -> None:
    """Find contradictions, dead rules, knobs without effect and oscillation.

    Exit code 0: clean; 1: there are findings; 2: a document cannot be read.
    """
    with loading():
        from corral.cli.problems import InvalidInput
        from domain.quota.tree import QuotaError
        from worker.policy_lint import lint_files, report
    try:
        found = lint_files(file, queues)
    except (InvalidInput, QuotaError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None
    print(report(found, as_json=output is LintOutput.JSON))
    raise typer.Exit(1 if found else 0)


@app.command(name="settings")
def show_settings() -> None:
    """List the settings: environment variable, default, meaning."""
    from rich.console import Console
    from rich.table import Column, Table

    from worker.settings import describe

    console = Console(highlight=False)
    table = Table(Column("variable", no_wrap=True), Column("default", overflow="fold"), "meaning", box=None, pad_edge=False)
    for row in describe():
        table.add_row(row.variable, row.default, row.meaning)
    if not console.is_terminal:
        console.width = WIDEST_TABLE
    console.print(table)


if __name__ == "__main__":
    app()
