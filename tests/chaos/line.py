"""The way from a worker to a server, on which nothing arrives for a while."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from worker.settings import LOOPBACK

AT_ONCE_BYTES = 65_536


@dataclass
class Line:
    """Whoever connects to `port` is connected to a server, as long as the line is not silent."""

    server: int
    port: int = 0
    _ends: set[asyncio.StreamWriter] = field(default_factory=set)
    _is_open: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    @asynccontextmanager
    async def to(cls, server: int) -> AsyncIterator["Line"]:
        """A line to a server on this machine, given its port, until the context is left."""
        line = cls(server)
        line._is_open.set()
        listening = await asyncio.start_server(line._carry, LOOPBACK, 0)
        line.port = listening.sockets[0].getsockname()[1]
        try:
            yield line
        finally:
            listening.close()
            line._end_all()

    async def is_in_use(self) -> bool:
        """Whether somebody is connected."""
        return bool(self._ends)

    @asynccontextmanager
    async def silent(self) -> AsyncIterator[None]:
        """Let nothing arrive, and nobody hear of that, until the context is left; then whoever waited has to connect anew."""
        self._is_open.clear()
        try:
            yield
        finally:
            self._end_all()
            self._is_open.set()

    def _end_all(self) -> None:
        for end in self._ends:
            end.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ends.add(writer)
        try:
            await self._is_open.wait()
            if writer.transport.is_closing():
                return
            there, here = await asyncio.open_connection(LOOPBACK, self.server)
            self._ends.add(here)
            try:
                await asyncio.gather(self._pass_on(reader, here), self._pass_on(there, writer))
            finally:
                self._ends.discard(here)
                here.close()
        except OSError:
            pass  # the server is away, or one of the two has gone: the other one hears of it
        finally:
            self._ends.discard(writer)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(AT_ONCE_BYTES):
                await self._is_open.wait()
                if writer.transport.is_closing():
                    return
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()
