"""A database with the newest tables, which tests share one after the other, each finding it empty."""

from collections.abc import AsyncIterator

import pytest

from activities.store import tables
from tests.activities.store.pool import Pool
from tests.servers import PostgresServer

_EMPTY_EVERYTHING = ";".join(
    [
        "BEGIN; SET LOCAL session_replication_role = replica",
        *(f'DELETE FROM "{table.name}"' for table in tables.metadata.sorted_tables),
        "COMMIT",
    ]
)


@pytest.fixture(scope="session")
async def shared(postgres: PostgresServer) -> AsyncIterator[Pool]:
    """A database with all tables."""
    shared = Pool.at(await postgres.create_record())
    yield shared
    await shared.engine.dispose()


@pytest.fixture
async def pool(shared: Pool) -> Pool:
    """A pool without anything in it."""
    async with shared.session() as connection:
        await connection.execute(_EMPTY_EVERYTHING)
    return Pool(shared.url, shared.engine)
