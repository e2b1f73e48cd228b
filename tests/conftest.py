"""Servers that tests share; each starts when the first test asks for it."""

from collections.abc import AsyncIterator

import pytest

from tests.servers import PostgresServer, running_postgres, running_temporal


@pytest.fixture(scope="session")
async def postgres() -> AsyncIterator[PostgresServer]:
    """A PostgreSQL server; see `PostgresServer.create_database`."""
    async with running_postgres() as server:
        yield server


@pytest.fixture
async def database_url(postgres: PostgresServer) -> AsyncIterator[str]:
    """An empty database of the test's own."""
    url = await postgres.create_database()
    yield url
    await postgres.drop_database(url)


@pytest.fixture(scope="session")
async def temporal() -> AsyncIterator[str]:
    """The address of a Temporal server."""
    async with running_temporal() as address:
        yield address
