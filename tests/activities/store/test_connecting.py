"""A record that takes no writes for a while, or ends its connections, is used again as soon as it can be; silence ends too."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from activities.store import connecting
from activities.store.connecting import IDLE, SILENT_SECONDS, THERE, connections_to, listen_at
from activities.store.fleet import CHANNEL
from activities.store.migrations import upgrade
from activities.store.postgres import PostgresStore
from activities.store.snapshots import read_pool
from tests.activities.store.pool import POOL, HandClock
from tests.patience import PATIENCE_SECONDS
from tests.servers import running_postgres
from worker.settings import LOOPBACK, embedded_database_url


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
    listening = await listen_at(make_url(database_url))
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
    async with store._engine.connect() as usual:
        assert (await usual.execute(text(f"SHOW {IDLE}"))).scalar_one() == f"{SILENT_SECONDS}s"
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


@asynccontextmanager
async def a_second_server(database: str) -> AsyncIterator[str]:
    """The address of a database of that name elsewhere, as of a replica that can take over."""
    async with running_postgres() as server:
        await administer(embedded_database_url(server.port, "postgres"), f'CREATE DATABASE "{database}"')
        url = embedded_database_url(server.port, database)
        await upgrade(url)
        yield url


def either(*urls: str) -> str:
    """The address of whichever of the servers takes writes."""
    parts = [urlsplit(url) for url in urls]
    hosts = "&".join(f"host={part.hostname}:{part.port}" for part in parts)
    return f"postgresql+asyncpg://{parts[-1].username}@{parts[-1].path}?{hosts}&target_session_attrs=read-write"


async def providers_known_by(store: PostgresStore) -> list[str]:
    async with store._engine.connect() as connection:
        return list(await connection.scalars(text("SELECT name FROM providers")))


async def becomes_a_replica(url: str) -> None:
    await let_all_be_read_only(url, "on")
    await end_all_connections(url)


async def test_of_several_servers_the_one_that_takes_writes_is_used_and_listened_to(database_url: str) -> None:
    await upgrade(database_url)
    async with a_second_server(urlsplit(database_url).path[1:]) as other:
        await becomes_a_replica(other)
        store = PostgresStore.connect(either(other, database_url), HandClock(), POOL)
        await store.register_provider("before", "sim")
        await becomes_a_replica(database_url)
        await let_all_be_read_only(other, "off")
        with pytest.raises(DBAPIError):
            await store.register_provider("after", "sim")
        await store.register_provider("after", "sim")
        assert await providers_known_by(store) == ["after"]
        async with store.wake_ups() as woken:
            await administer(other, f"NOTIFY {CHANNEL}, '{POOL}'")
            await asyncio.wait_for(woken.wait(), PATIENCE_SECONDS)
        await becomes_a_replica(other)
        with pytest.raises(DBAPIError):
            await store.register_provider("nowhere", "sim")
        with pytest.raises(ConnectionError, match=r"^127\.0\.0\.1:\d+: None of the hosts match .*; 127\.0\.0\.1:\d+: None of"):
            await store.register_provider("nowhere", "sim")
        await let_all_be_read_only(database_url, "off")
        assert await providers_known_by(store) == ["before"]
        await store.aclose()


async def test_when_the_first_server_is_gone_the_second_is_used(database_url: str) -> None:
    database = urlsplit(database_url).path[1:]
    async with a_second_server(database) as first:
        store = PostgresStore.connect(either(first, database_url), HandClock(), POOL)
        await store.register_provider("before", "sim")
        await upgrade(database_url)
    with pytest.raises((OSError, DBAPIError)):
        await store.register_provider("after", "sim")
    await store.register_provider("after", "sim")
    assert await providers_known_by(store) == ["after"]
    await store.aclose()


async def test_a_server_that_says_nothing_leaves_time_for_the_next(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    is_over = asyncio.Event()

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await is_over.wait()
        writer.close()

    async with await asyncio.start_server(say_nothing, LOOPBACK, 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        monkeypatch.setattr(connecting, "CONNECTED_WITHIN_SECONDS", 4.0)
        both = either(embedded_database_url(port), database_url)
        engine, listening = connections_to(both), await listen_at(make_url(both))
        async with engine.connect() as connection:
            assert (await connection.execute(text("SELECT 1"))).scalar_one() == await listening.fetchval("SELECT 1")
        await listening.close()
        await engine.dispose()
        is_over.set()
