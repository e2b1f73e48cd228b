"""What others cannot read: payloads in Temporal's histories, and what travels to a server far away."""

import asyncio
import base64
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from corral import wire
from corral.api import State
from corral.cli.options import PREFIX
from corral.client import Conflict, Corral, CorralError, Unreachable
from corral.tls import tls_of
from tests.certificates import Authority, Pair
from tests.end_to_end.leaving import page_with
from tests.end_to_end.loads import a_workload, behaving
from tests.end_to_end.pools import QUEUES, LivePool, eventually, running_pool
from tests.http2 import Requests
from tests.servers import PostgresServer
from worker.settings import LOOPBACK, Settings

KEYS = "this:" + base64.b64encode(os.urandom(32)).decode()
SERVER = "temporal.test"
FOR_EVER = 1e6


def with_secret(id: str, **more: Any) -> Any:
    return a_workload(id, environment={"TOKEN": "sesame"}, **({"parameters": behaving(FOR_EVER)} | more))


async def stored(pool: LivePool, workload: str) -> bytes:
    """All that Temporal stores of a workload's workflow, as it stores it."""
    history = await pool.temporal.get_workflow_handle(wire.workload_workflow_id(workload)).fetch_history()
    return b"".join(event.SerializeToString() for event in history.events)


@pytest.fixture(scope="module")
async def sealed(postgres: PostgresServer, temporal: str) -> AsyncIterator[LivePool]:
    """A pool whose payloads are sealed."""
    async with running_pool(postgres, temporal, "sealed", {"payload_keys": KEYS}) as pool:
        await pool.start_worker()
        await pool.corral.apply_queues(QUEUES)
        yield pool


async def test_without_keys_temporal_can_be_read(pool: LivePool) -> None:
    await pool.corral.submit(with_secret("legible"))
    await pool.until("legible", State.RUNNING)
    await pool.corral.cancel("legible", reason="said in passing")
    await pool.until_closed(["legible"])
    assert {word in await stored(pool, "legible") for word in (b"sesame", b"said in passing")} == {True}


async def test_with_keys_temporal_cannot_be_read_and_all_goes_on_as_ever(sealed: LivePool) -> None:
    await sealed.corral.submit(with_secret("secret"))
    await sealed.until("secret", State.RUNNING)
    assert not (await sealed.corral.submit(with_secret("secret"))).created
    assert (await sealed.corral.status("secret")).state is State.RUNNING
    await sealed.corral.hold("secret", reason="said in passing")
    await sealed.until("secret", State.SUSPENDED)
    await sealed.corral.release("secret")
    await sealed.until("secret", State.RUNNING)
    await eventually(lambda: page_with(sealed, "secret", "**running**"), "the page says so")
    with pytest.raises(Conflict, match="running"):
        await sealed.corral.release("secret")
    await sealed.corral.cancel("secret")
    assert (await sealed.corral.wait("secret")).state is State.CANCELLED
    history = await stored(sealed, "secret")
    assert b"binary/encrypted" in history
    assert [word for word in (b"sesame", b"said in passing", b"a100 in east") if word in history] == []


async def test_who_has_no_key_is_told_so(sealed: LivePool, temporal: str) -> None:
    await sealed.corral.submit(with_secret("closed"))
    await sealed.until("closed", State.RUNNING)
    stranger = await Corral.connect(temporal, pool="sealed")
    with pytest.raises(CorralError, match="sealed"):
        await stranger.status("closed")
    other = await Corral.connect(temporal, pool="sealed", payload_keys="other:" + base64.b64encode(bytes(32)).decode())
    with pytest.raises(CorralError, match="sealed by the key 'this'"):
        await other.status("closed")


@asynccontextmanager
async def behind_tls(backend: str, authority: Authority, calls: list[Mapping[str, str]] | None = None) -> AsyncIterator[str]:
    """The address of a proxy that shows a certificate, wants one, and passes on to a server without TLS.

    It adds the headers of all calls that it passes on to `calls`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair = authority.vouches_for(SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    context.load_verify_locations(authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    host, port = backend.split(":")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, to_behind = await asyncio.open_connection(host, int(port))
        requests = Requests()

        def note(chunk: bytes) -> None:
            if calls is not None:
                calls.extend(requests.read(chunk))

        await asyncio.gather(pump(reader, to_behind, note), pump(behind, writer, lambda _: None), return_exceptions=True)

    server = await asyncio.start_server(serve, LOOPBACK, 0, ssl=context)
    yield f"{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
    server.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Callable[[bytes], None]) -> None:
    """Pass on what comes until nothing more does."""
    try:
        while chunk := await reader.read(65_536):
            note(chunk)
            writer.write(chunk)
            await writer.drain()
    finally:
        writer.close()


def settings_for(authority: Authority, me: Pair) -> dict[str, Any]:
    return {
        "temporal_tls": True,
        "temporal_tls_authority": authority.file,
        "temporal_tls_certificate": me.certificate,
        "temporal_tls_key": me.key,
        "temporal_tls_server_name": SERVER,
    }


async def test_worker_service_and_command_line_work_through_tls_with_certificate_key_and_sealed_payloads(
    postgres: PostgresServer, temporal: str, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    me = authority.vouches_for("me")
    given = settings_for(authority, me) | {"temporal_api_key": "the-worker", "payload_keys": KEYS}
    calls = list[Mapping[str, str]]()
    async with behind_tls(temporal, authority, calls) as address, running_pool(postgres, address, "remote", given) as pool:
        await pool.start_worker()
        await pool.corral.apply_queues(QUEUES)
        shown = tls_of(authority=authority.file, certificate=me.certificate, key=me.key, server_name=SERVER)
        service = await Corral.connect(address, pool="remote", tls=shown, api_key="a-service", payload_keys=KEYS)
        await service.submit(with_secret("remote", parameters={}))
        assert (await service.wait("remote")).state is State.SUCCEEDED
        as_somebody = pool.settings.model_copy(update={"temporal_api_key": SecretStr("a-person")})
        told = await told_by_command("status", "remote", "-o", "json", settings=as_somebody)
        assert json.loads(told)["state"] == "succeeded"
        history = await stored(pool, "remote")
        assert b"binary/encrypted" in history
        assert b"sesame" not in history
    assert {call.get("authorization") for call in calls} == {"Bearer the-worker", "Bearer a-service", "Bearer a-person"}
    assert by_key(calls, "PollWorkflowTaskQueue") == by_key(calls, "PollActivityTaskQueue") == {"the-worker"}
    assert "a-service" in by_key(calls, "StartWorkflowExecution")


def by_key(calls: Sequence[Mapping[str, str]], method: str) -> set[str]:
    """The API keys with which a method was called."""
    its = [call for call in calls if call[":path"].endswith(f"/{method}")]
    return {call["authorization"].removeprefix("Bearer ") for call in its}


async def test_an_api_key_is_not_sent_in_the_clear_nor_is_anything_else(tmp_path: Path) -> None:
    came = list[bytes]()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(await reader.read(65_536))
        writer.close()

    server = await asyncio.start_server(take, LOOPBACK, 0)
    address = f"{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
    with pytest.raises(ValueError, match="it must not travel in the clear"):
        await Corral.connect(address, api_key="open-says-me")
    with pytest.raises(ValidationError, match="must not travel in the clear"):
        Settings(temporal_address=address, temporal_api_key="open-says-me")
    process = await a_command("--address", address, "--api-key", "open-says-me", "list", environment=os.environ)
    _, complaint = await process.communicate()
    assert (process.returncode, b"--api-key: --tls is expected beside it" in complaint) == (2, True)
    assert came == []
    with pytest.raises(Unreachable):
        await Corral.connect(address)
    assert came, "this is what comes where nothing is secret"
    server.close()


async def told_by_command(*command: str, settings: Settings) -> bytes:
    """What `corral` says in a process of its own, whose environment has these settings alone."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)} | settings.environment()
    process = await a_command(*command, environment=environment)
    told, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode()
    return told


async def a_command(*command: str, environment: Mapping[str, str]) -> asyncio.subprocess.Process:
    run = (sys.executable, "-c", "from corral.cli import main; main()", *command)
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*run, stdout=pipe, stderr=pipe, env=environment)


@pytest.mark.parametrize("stranger", ["shows nothing", "trusts another authority", "dials another name"])
async def test_strangers_are_turned_away(temporal: str, tmp_path: Path, stranger: str) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    me = authority.vouches_for("me")
    given: dict[str, Any] = {"authority": authority.file, "certificate": me.certificate, "key": me.key, "server_name": SERVER}
    wrong: dict[str, dict[str, Any]] = {
        "shows nothing": {"certificate": None, "key": None},
        "trusts another authority": {"authority": other.file},
        "dials another name": {"server_name": "elsewhere.test"},
    }
    async with behind_tls(temporal, authority) as address:
        with pytest.raises(Unreachable, match=f"no Temporal server answers at {address}"):
            await Corral.connect(address, tls=tls_of(**(given | wrong[stranger])))
