"""A line that can be cut, slow, and out of order: a TCP proxy between a worker and a provider."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

from tests.activities.partition.wire import framed, read_frame


@dataclass
class Line:
    """What passes on a line. `dropped` and `delayed` count what did not, or not at once."""

    is_cut: bool = False
    longest_delay: float = 0.0
    random: Random = field(default_factory=lambda: Random(7))
    passed: int = 0
    dropped: int = 0
    overtaken: int = 0
    _last: int = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass frames on, each in its own time, as long as the line is up when they are sent and when they arrive."""
        number = 0
        async with asyncio.TaskGroup() as under_way:
            while True:
                try:
                    frame = await read_frame(reader)
                except (asyncio.IncompleteReadError, ConnectionError):
                    return
                number += 1
                under_way.create_task(self._pass(writer, frame, number))

    async def _pass(self, writer: asyncio.StreamWriter, frame: bytes, number: int) -> None:
        if not self.is_cut and self.longest_delay:
            await asyncio.sleep(self.random.uniform(0, self.longest_delay))
        if self.is_cut:
            self.dropped += 1
            return
        self.passed += 1
        self.overtaken += number < self._last
        self._last = number
        writer.write(framed(frame))


@asynccontextmanager
async def a_line(to_port: int, port: int) -> AsyncIterator[Line]:
    """A line from one port of this machine to another."""
    line = Line()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", to_port)
        try:
            await asyncio.gather(line.carry(reader, back), line.carry(there, writer))
        finally:
            back.close()
            writer.close()

    async with await asyncio.start_server(connect, "127.0.0.1", port):
        yield line
