"""Real servers for tests: shared ones that start once, and stacks of their own that a test may break."""

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import asyncpg

from activities.store.migrations import upgrade
from tests.ports import free_port
from worker.embedded import embedded_servers, postgres_child, temporal_child, worker_child
from worker.settings import DATABASE, LOOPBACK, Settings, embedded_database_url
from worker.supervision import Supervisor

FORGETFUL = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""Options for a PostgreSQL that need not survive the machine."""

MIGRATED = "migrated"
"""A database with all tables and nothing in them, of which others are copies."""

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A PostgreSQL shared by all tests of a run; each takes databases of its own."""

    port: int
    _copying: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    async def create_record(self) -> str:
        """Address of a fresh database with all tables."""
        async with self._copying:
            if not await self._has(MIGRATED):
                await self._administer(f'CREATE DATABASE "{MIGRATED}"')
                await upgrade(embedded_database_url(self.port, MIGRATED))
            return await self.create_database(MIGRATED)

    async def create_database(self, template: str = "template1") -> str:
        """Address of a fresh database, as SQLAlchemy wants it; a copy of `template`, to which nobody may be connected."""
        name = f"test_{next(_numbers)}"
        await self._administer(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return embedded_database_url(self.port, name)

    async def drop_database(self, url: str) -> None:
        """Drop a database, whoever is still connected to it."""
        await self._administer(f'DROP DATABASE IF EXISTS "{url.rsplit("/", 1)[1]}" WITH (FORCE)')

    async def _has(self, database: str) -> bool:
        async with self._administration() as connection:
            return bool(await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database))

    async def _administer(self, statement: str) -> None:
        async with self._administration() as connection:
            await connection.execute(statement)

    @asynccontextmanager
    async def _administration(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(host=LOOPBACK, port=self.port, user=DATABASE, database="postgres")
        try:
            yield connection
        finally:
            await connection.close()


@asynccontextmanager
async def running_postgres() -> AsyncIterator[PostgresServer]:
    """A PostgreSQL without web pages, worker or a long memory."""
    with tempfile.TemporaryDirectory(prefix="corral-") as directory:
        async with Supervisor(Path(directory)) as supervisor:
            port = free_port()
            await supervisor.start(postgres_child(Path(directory), port, FORGETFUL))
            yield PostgresServer(port)


@asynccontextmanager
async def running_temporal(**options: str) -> AsyncIterator[str]:
    """The address of a Temporal development server without web pages; `options` are dynamic configuration."""
    with tempfile.TemporaryDirectory(prefix="corral-") as directory:
        async with Supervisor(Path(directory)) as supervisor:
            port = free_port()
            await supervisor.start(temporal_child(Path(directory), port, headless=True, options=options))
            yield f"{LOOPBACK}:{port}"


@dataclass(frozen=True, slots=True)
class Stack:
    """Servers of one test, under a supervisor of their own, which starts again what is killed."""

    settings: Settings
    supervisor: Supervisor

    async def start_worker(self) -> None:
        """Start a worker in a process of its own, and wait until it takes workflows."""
        await self.supervisor.start(worker_child(self.settings))

    async def kill(self, name: str, by: signal.Signals = signal.SIGKILL) -> None:
        """End a child by a signal; comes back when the supervisor has started it again and it is ready."""
        killed = self.supervisor.pid(name)
        os.kill(killed, by)
        await self.supervisor.until_ready(name, after=killed)


@asynccontextmanager
async def own_stack(directory: Path | None = None, **settings: object) -> AsyncIterator[Stack]:
    """PostgreSQL and Temporal for one test, durable under `directory` if one is given; `settings` by field name."""
    with tempfile.TemporaryDirectory(prefix="corral-") as temporary:
        ports = {"temporal_port": free_port(), "temporal_ui_port": free_port(), "postgres_port": free_port()}
        given = {"state_dir": directory or Path(temporary), **ports, **settings}
        chosen = Settings.model_validate(given).embedded()
        async with embedded_servers(chosen, headless=True) as supervisor:
            yield Stack(chosen, supervisor)
