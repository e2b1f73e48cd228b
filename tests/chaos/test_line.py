"""On a line that is silent nothing arrives and nothing is heard of; whoever waited there connects anew."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.chaos.line import Line
from worker.settings import LOOPBACK

A_WHILE_SECONDS = 0.2


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    """To a server that says again what it is told."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while said := await reader.readline():
            writer.write(said)
        writer.close()

    async with await asyncio.start_server(echo, LOOPBACK, 0) as server, Line.to(server.sockets[0].getsockname()[1]) as line:
        yield line


async def test_what_is_said_arrives(line: Line) -> None:
    reader, writer = await asyncio.open_connection(LOOPBACK, line.port)
    assert await said_again(reader, writer) == b"hello\n"
    assert await line.is_in_use()
    writer.close()


async def test_nothing_arrives_while_it_is_silent_and_who_waited_has_to_come_again(line: Line) -> None:
    reader, writer = await asyncio.open_connection(LOOPBACK, line.port)
    await said_again(reader, writer)
    async with line.silent():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(said_again(reader, writer), A_WHILE_SECONDS)
        late_reader, late_writer = await asyncio.open_connection(LOOPBACK, line.port)
        late_writer.write(b"hello\n")
    assert await ended(reader)
    assert await ended(late_reader)
    again = await asyncio.open_connection(LOOPBACK, line.port)
    assert await said_again(*again) == b"hello\n"
    for each in (writer, late_writer, again[1]):
        each.close()


async def said_again(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"hello\n")
    return await reader.readline()


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        return not await reader.read()
    except ConnectionError:
        return True
