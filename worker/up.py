"""Everything on one machine: PostgreSQL, Temporal and a worker, until somebody stops them; what they know is kept."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console

from activities.store.migrations import upgrade
from corral.api import Catalogue, QueueTree
from corral.cli.documents import read_documents
from corral.client import Corral
from worker.embedded import embedded_servers, worker_child
from worker.fleet_file import EXAMPLES, read_fleet
from worker.policy_lint import first_policy
from worker.principals import PrincipalsFile
from worker.settings import LOOPBACK, Settings
from worker.temporal_server import connect
from worker.versions import promote

EXAMPLE_QUEUES = EXAMPLES / "queues.yaml"
EXAMPLE_DATASETS = EXAMPLES / "datasets.yaml"
EXAMPLE_WORKLOADS = tuple(EXAMPLES / name for name in ("process.yaml", "training.yaml"))


async def up(settings: Settings, console: Console) -> None:
    """Serve until Ctrl-C, SIGTERM or SIGHUP.

    Raises:
        corral.cli.problems.InvalidInput: a file that the settings name cannot be used; nothing was started.
        CannotStart: the directory or a port is taken, or a server cannot be kept alive.
    """
    chosen = settings.embedded()
    check_files(chosen)
    logs = chosen.state_dir.absolute() / "log"
    console.print(f"Starting PostgreSQL, Temporal and a worker; their logs are in {logs}.", soft_wrap=True)
    async with embedded_servers(chosen) as supervisor:
        await upgrade(chosen.database_url)
        await supervisor.start(worker_child(chosen))
        if chosen.build_id is not None:
            await promote(await connect(chosen), chosen)
        if chosen.principals_file is None:
            await make_examples(chosen, partial(console.print, soft_wrap=True))
        console.print(greeting(chosen), soft_wrap=True)
        await supervisor.serve()
        console.print(f"Stopping; what there is stays in {chosen.state_dir.absolute()}.", soft_wrap=True)


def check_files(settings: Settings) -> None:
    """Read what the worker reads once the servers are there, so that nobody waits for them only to hear of a misspelt file.

    Raises:
        corral.cli.problems.InvalidInput: names the file, line, field, value and what was expected.
    """
    read_fleet(settings.fleet_file)
    first_policy(settings)
    if settings.principals_file is not None:
        PrincipalsFile(settings.principals_file)


async def make_examples(settings: Settings, say: Callable[[str], None]) -> None:
    """Apply the example queues, and the example data, to a pool that has no queues."""
    corral = Corral(await connect(settings), settings.pool)
    if not await corral.queues():
        await corral.apply_queues(read_documents([str(EXAMPLE_QUEUES)], QueueTree)[0].content)
        await corral.apply_datasets(read_documents([str(EXAMPLE_DATASETS)], Catalogue)[0].content)
        say(f"Made the queues of {_shown(EXAMPLE_QUEUES)} and the data of {_shown(EXAMPLE_DATASETS)}, since there were none.")


def greeting(settings: Settings) -> str:
    """What a person needs to know to go on."""
    is_default = settings.temporal_port == Settings.model_fields["temporal_port"].default
    corral = "corral" if is_default else f"corral --address {settings.temporal_address}"
    return f"""
[bold]Corral serves the pool {settings.pool}.[/] Ctrl-C stops it, and keeps what there is.

  for clients    {settings.temporal_address}
  web pages      http://{LOOPBACK}:{settings.temporal_ui_port}
  database       {settings.database_url}
  data and logs  {settings.state_dir.absolute()}

Try, in another terminal, with .venv/bin on the PATH:

  {corral} fleet
  {corral} queue list
  {corral} submit {" ".join(map(_shown, EXAMPLE_WORKLOADS))} --wait
  {corral} list
"""


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
