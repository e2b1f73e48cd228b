"""A record that takes no writes for a while, or ends its connections, is used again as soon as it can be; silence ends too."""

import asyncio
import socket
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from activities.store.connecting import IDLE, SILENT_SECONDS, THERE, connections_to, listen_at
from activities.store.migrations import upgrade
from activities.store.postgres import PostgresStore
from activities.store.snapshots import read_pool
from tests.activities.store.pool import POOL, HandClock
from tests.patience import PATIENCE_SECONDS


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


async def test_a_server_whose_machine_is_gone_without_a_word_is_not_waited_for(database_url: str) -> None:
    engine = connections_to(database_url)
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        assert raw.driver_connection is not None
        assert seconds_of_silence(raw.driver_connection) <= SILENT_SECONDS
    await engine.dispose()
    listening = await listen_at(database_url.replace("+asyncpg", ""))
    assert seconds_of_silence(listening) <= SILENT_SECONDS
    await listening.close()


async def test_the_rows_of_a_worker_whose_machine_is_gone_without_a_word_are_not_locked_for_ever(database_url: str) -> None:
    engine = connections_to(database_url)
    async with engine.connect() as connection:
        names = ("idle", "interval", "count")
        idle, interval, count = [
            int((await connection.execute(text(f"SHOW tcp_keepalives_{name}"))).scalar_one()) for name in names
        ]
    assert 0 < idle + interval * count <= SILENT_SECONDS
    await engine.dispose()


async def test_a_worker_that_is_frozen_in_a_transaction_keeps_nobody_from_its_rows_for_long(
    store: PostgresStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.register_provider("aws", "sim")
    monkeypatch.setitem(THERE, IDLE, "1s")
    frozen = await connections_to(database_url).connect()
    await frozen.execute(text("SELECT FROM providers FOR UPDATE"))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await store.register_provider("aws", "local")
    with pytest.raises(DBAPIError) as noticed:
        await frozen.execute(text("SELECT 1"))
    assert noticed.value.connection_invalidated
    await frozen.close()


async def test_a_round_may_take_its_time_between_two_statements(
    store: PostgresStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(THERE, IDLE, "100ms")
    async with connections_to(database_url).begin() as deciding:
        await read_pool(deciding, POOL)
        await asyncio.sleep(1.0)
        await deciding.execute(text("SELECT FROM pools"))


def seconds_of_silence(connection: asyncpg.Connection) -> int:
    """After how many of them the system ends a connection at whose other end nobody is, or infinitely many."""
    end = connection._transport.get_extra_info("socket")
    if not end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
        return 10**9
    idle, interval, count = [
        int(end.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)))
        for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
    ]
    return idle + interval * count
