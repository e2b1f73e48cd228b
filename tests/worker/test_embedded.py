import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import psutil
import pytest
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest, RemoveSearchAttributesRequest
from temporalio.client import Client

from corral import wire
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port
from tests.servers import PostgresServer, Stack, own_stack
from worker.embedded import POSTGRES, TEMPORAL, postgres_child, require_free_port, temporal_child
from worker.settings import LOOPBACK, Settings, embedded_database_url
from worker.supervision import CannotStart, Supervisor
from worker.temporal_server import Lookout, is_ready


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[Stack]:
    async with own_stack() as stack:
        yield stack


def asyncpg_url(settings: Settings) -> str:
    return settings.database_url.replace("+asyncpg", "")


async def run_sql(settings: Settings, statement: str) -> object:
    connection = await asyncpg.connect(asyncpg_url(settings))
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def lives(process: psutil.Process) -> bool:
    """Not one that is dead, but that nobody has asked how it ended."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def search_attributes(address: str) -> dict[str, int]:
    client = await Client.connect(address)
    listed = await client.operator_service.list_search_attributes(ListSearchAttributesRequest(namespace="default"))
    return dict(listed.custom_attributes)


async def test_a_fresh_directory_has_a_database_and_the_search_attributes(stack: Stack) -> None:
    assert await run_sql(stack.settings, "SELECT current_database()") == "corral"
    present = await search_attributes(stack.settings.temporal_address)
    assert {key.name: key.indexed_value_type.value for key in wire.SEARCH_ATTRIBUTES}.items() <= present.items()


async def test_commits_survive_the_machine(stack: Stack) -> None:
    assert await run_sql(stack.settings, "SHOW fsync") == "on"
    assert await run_sql(stack.settings, "SHOW synchronous_commit") == "on"


async def test_nothing_listens_beyond_loopback(stack: Stack) -> None:
    servers = [psutil.Process(stack.supervisor.pid(name)) for name in (POSTGRES, TEMPORAL)]
    connections = [connection for server in servers for connection in server.net_connections(kind="all")]
    listening = [each.laddr for each in connections if each.status == psutil.CONN_LISTEN]
    assert {address.ip for address in listening} == {LOOPBACK}
    assert {address.port for address in listening} >= {stack.settings.postgres_port, stack.settings.temporal_port}


async def test_a_killed_postgres_comes_back_with_its_data_though_a_backend_was_busy(stack: Stack) -> None:
    await run_sql(stack.settings, "CREATE TABLE kept AS SELECT 42 AS answer")
    busy = asyncio.create_task(run_sql(stack.settings, "SELECT count(*) FROM generate_series(1, 20000000)"))
    await asyncio.sleep(0.2)
    await stack.kill(POSTGRES)
    await asyncio.gather(busy, return_exceptions=True)
    assert await run_sql(stack.settings, "SELECT answer FROM kept") == 42


async def test_a_killed_postgres_comes_back_though_somebody_has_closed_the_folders_above_it(stack: Stack) -> None:
    stack.settings.state_dir.chmod(0o700)
    await stack.kill(POSTGRES)
    assert await run_sql(stack.settings, "SELECT 1") == 1


async def test_a_killed_temporal_comes_back_with_its_workflows(stack: Stack) -> None:
    client = await Client.connect(stack.settings.temporal_address)
    await client.start_workflow("Kept", id="kept", task_queue="nobody-listens")
    await stack.kill(TEMPORAL)
    again = await Client.connect(stack.settings.temporal_address)
    assert (await again.get_workflow_handle("kept").describe()).workflow_type == "Kept"


async def test_nobody_polls_a_pool_without_a_worker(stack: Stack) -> None:
    assert not await Lookout(stack.settings).sees()


async def test_a_second_start_in_the_same_directory_is_refused(stack: Stack) -> None:
    with pytest.raises(CannotStart, match=rf"in use by another Corral \(process {os.getpid()}\).*CORRAL_STATE_DIR"):
        async with Supervisor(stack.settings.state_dir):
            pass


async def test_a_taken_port_is_named_with_its_variable(stack: Stack) -> None:
    port = stack.settings.temporal_port
    with tempfile.TemporaryDirectory() as elsewhere:
        with pytest.raises(CannotStart) as refused:
            async with own_stack(Path(elsewhere), temporal_port=port):
                pass
        assert "postgres" not in os.listdir(elsewhere)
    assert str(refused.value) == (
        f"port {port} (Temporal, CORRAL_TEMPORAL_PORT) is taken on 127.0.0.1; "
        "stop what uses it or set CORRAL_TEMPORAL_PORT to a free one"
    )


def test_a_port_that_someone_holds_on_all_addresses_is_taken() -> None:
    with socket.socket() as holder:
        holder.bind(("0.0.0.0", 0))
        holder.listen()
        with pytest.raises(CannotStart):
            require_free_port(holder.getsockname()[1], "PostgreSQL", "CORRAL_POSTGRES_PORT")


async def test_data_survive_a_stop_and_a_start() -> None:
    with tempfile.TemporaryDirectory(prefix="corral-") as directory:
        async with own_stack(Path(directory)) as first:
            await run_sql(first.settings, "CREATE TABLE kept AS SELECT 7 AS answer")
        async with own_stack(Path(directory)) as second:
            assert await run_sql(second.settings, "SELECT answer FROM kept") == 7


async def test_search_attributes_that_a_directory_lacks_are_added(temporal: str) -> None:
    client = await Client.connect(temporal)
    dropped = RemoveSearchAttributesRequest(namespace="default", search_attributes=[wire.TIER.name])
    await client.operator_service.remove_search_attributes(dropped)
    assert wire.TIER.name not in await search_attributes(temporal)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await is_ready(temporal):
            pass
    assert wire.TIER.name in await search_attributes(temporal)


async def test_a_server_that_is_not_there_is_not_ready() -> None:
    assert not await is_ready(f"{LOOPBACK}:{free_port()}")


async def test_tests_get_databases_of_their_own(postgres: PostgresServer, database_url: str) -> None:
    other = await postgres.create_database()
    assert other != database_url
    await postgres.drop_database(other)


KILLED_SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from worker.embedded import postgres_child, temporal_child
from worker.supervision import Supervisor

async def main(directory, postgres_port, temporal_port):
    async with Supervisor(directory) as supervisor:
        children = postgres_child(directory, postgres_port), temporal_child(directory, temporal_port, headless=True)
        await supervisor.start(*children)
        print(*(supervisor.pid(child.name) for child in children), flush=True)
        await supervisor.serve()

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children that their parent was killed")
async def test_a_killed_supervisor_leaves_nothing_running_and_the_next_one_takes_over() -> None:
    with tempfile.TemporaryDirectory(prefix="corral-") as name:
        directory, ports = Path(name), (free_port(), free_port())
        arguments = ("-c", KILLED_SUPERVISOR, name, *map(str, ports))
        supervisor = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
        assert supervisor.stdout is not None
        children = [psutil.Process(int(pid)) for pid in (await supervisor.stdout.readline()).split()]
        everything = [*children, *(each for child in children for each in child.children(recursive=True))]
        assert len(everything) > 2
        supervisor.send_signal(signal.SIGKILL)
        await supervisor.wait()
        async with Supervisor(directory) as successor:
            assert not [process for process in everything if lives(process)]
            await successor.start(postgres_child(directory, ports[0]), temporal_child(directory, ports[1], headless=True))
            connection = await asyncpg.connect(embedded_database_url(ports[0]).replace("+asyncpg", ""))
            await connection.close()
