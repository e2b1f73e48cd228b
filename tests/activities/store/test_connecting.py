"""A record that takes no writes for a while, or ends its connections, is used again as soon as it can be."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from activities.store.migrations import upgrade
from activities.store.postgres import PostgresStore
from tests.activities.store.pool import POOL, HandClock


async def administer(url: str, statement: str) -> None:
    """By a session that may write, whatever is said of others."""
    plain = url.replace("+asyncpg", "")
    connection = await asyncpg.connect(plain, server_settings={"default_transaction_read_only": "off"})
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def let_all_be_read_only(url: str, said: str) -> None:
    await administer(url, f'ALTER DATABASE "{urlsplit(url).path[1:]}" SET default_transaction_read_only = {said}')


async def end_all_connections(url: str) -> None:
    others = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    await administer(url, f"SELECT pg_terminate_backend(pid) FROM ({others}) AS other")


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[PostgresStore]:
    await upgrade(database_url)
    store = PostgresStore.connect(database_url, HandClock(), POOL)
    yield store
    await store.aclose()


async def test_a_database_that_was_read_only_is_written_again(store: PostgresStore, database_url: str) -> None:
    await let_all_be_read_only(database_url, "on")
    with pytest.raises(DBAPIError, match="read-only transaction"):
        await store.register_provider("aws", "sim")
    await let_all_be_read_only(database_url, "off")
    await store.register_provider("aws", "sim")


async def test_connections_that_were_ended_are_noticed_once(store: PostgresStore, database_url: str) -> None:
    await store.register_provider("aws", "sim")
    await end_all_connections(database_url)
    with pytest.raises(DBAPIError) as noticed:
        await store.register_provider("aws", "sim")
    assert noticed.value.connection_invalidated
    await store.register_provider("aws", "sim")
