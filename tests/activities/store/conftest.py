"""A database with the newest tables, which tests share one after the other, each finding it empty."""

from collections.abc import AsyncIterator

import pytest

from activities.store import migrations, tables
from tests.activities.store.pool import Pool
from tests.servers import PostgresServer

_EMPTY_EVERYTHING = ";".join(
    ["SET session_replication_role = replica", *(f'DELETE FROM "{table.name}"' for table in tables.metadata.sorted_tables)]
)


@pytest.fixture(scope="session")
async def migrated_url(postgres: PostgresServer) -> str:
    """The address of a database with all tables."""
    url = await postgres.create_database()
    await migrations.upgrade(url)
    return url


@pytest.fixture
async def pool(migrated_url: str) -> AsyncIterator[Pool]:
    """A pool without anything in it."""
    pool = Pool(migrated_url)
    async with pool.session() as connection:
        await connection.execute(_EMPTY_EVERYTHING)
    yield pool
    await pool.store.aclose()
