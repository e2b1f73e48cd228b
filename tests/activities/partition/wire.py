"""Calls to a provider over a socket: one frame a call and one an answer, in whatever order they arrive."""

import asyncio
import pickle
import struct
from collections.abc import AsyncIterator, Collection, Mapping
from datetime import datetime
from itertools import count
from typing import Any

from activities.ports import (
    Capability,
    ErrorClass,
    Event,
    LaunchSpec,
    Observation,
    Provider,
    ProviderError,
    ProviderSnapshot,
)

HEAD = struct.Struct(">I")
ANSWER_SECONDS = 0.5
CALLS = frozenset({"snapshot", "launch", "renew", "status", "preempt", "keep", "release", "forget"})


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """The next frame, without its length."""
    (length,) = HEAD.unpack(await reader.readexactly(HEAD.size))
    return await reader.readexactly(length)


def framed(content: bytes) -> bytes:
    return HEAD.pack(len(content)) + content


class RemoteProvider:
    """A provider at the other end of a line. What is not answered in time is unknown."""

    capabilities = Capability.GANG | Capability.SIGNAL

    def __init__(self, name: str, port: int, host: str = "127.0.0.1", answer_seconds: float = ANSWER_SECONDS) -> None:
        self.name = name
        self._answer_seconds = answer_seconds
        self._host = host
        self._port = port
        self._numbers = count()
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._line: tuple[asyncio.StreamWriter, asyncio.Task[None]] | None = None

    async def snapshot(self) -> ProviderSnapshot:
        answer: ProviderSnapshot = await self._call("snapshot")
        return answer

    def watch(self) -> AsyncIterator[Event]:
        raise NotImplementedError("it is looked at, not watched")

    async def launch(self, order: LaunchSpec) -> Observation:
        answer: Observation = await self._call("launch", order)
        return answer

    async def renew(self, leases: Mapping[str, datetime | None]) -> frozenset[str]:
        answer: frozenset[str] = await self._call("renew", dict(leases))
        return answer

    async def status(self, attempts: Collection[str]) -> Mapping[str, Observation]:
        answer: Mapping[str, Observation] = await self._call("status", list(attempts))
        return answer

    async def preempt(self, attempt_id: str, epoch: int, *, notice: int, signal: str, grace_seconds: int) -> None:
        await self._call("preempt", attempt_id, epoch, notice=notice, signal=signal, grace_seconds=grace_seconds)

    async def resize(self, order: LaunchSpec, *, notice: int, at_once: bool = False) -> None:
        await self._call("resize", order, notice=notice, at_once=at_once)

    async def keep(self, attempt_id: str, epoch: int, *, notice: int) -> None:
        await self._call("keep", attempt_id, epoch, notice=notice)

    async def release(self, attempt_id: str, epoch: int) -> None:
        await self._call("release", attempt_id, epoch)

    async def forget(self, attempts: Collection[str]) -> None:
        await self._call("forget", list(attempts))

    async def aclose(self) -> None:
        if self._line is not None:
            self._line[0].close()
            self._line[1].cancel()

    async def _call(self, name: str, *arguments: object, **named: object) -> Any:
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._answer_seconds):
                writer = await self._open()
                writer.write(framed(pickle.dumps((number, name, arguments, named))))
                await writer.drain()
                kind, told = await answer
        except (TimeoutError, OSError) as error:
            raise ProviderError(ErrorClass.UNAVAILABLE, f"{self.name} does not answer to {name}") from error
        finally:
            self._asked.pop(number, None)
        if kind is not None:
            raise ProviderError(kind, told)
        return told

    async def _open(self) -> asyncio.StreamWriter:
        if self._line is None:
            reader, writer = await asyncio.open_connection(self._host, self._port)
            self._line = writer, asyncio.create_task(self._hear(reader))
        return self._line[0]

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        """Hand answers to those who still wait for them; late ones to nobody."""
        while True:
            number, kind, told = pickle.loads(await read_frame(reader))
            if number in self._asked and not self._asked[number].done():
                self._asked[number].set_result((kind, told))


async def serve(provider: Provider, host: str, port: int) -> None:
    """Answer calls until the process ends."""

    async def answer(writer: asyncio.StreamWriter, call: bytes) -> None:
        number, name, arguments, named = pickle.loads(call)
        assert name in CALLS, name
        try:
            told: tuple[object, object] = (None, await getattr(provider, name)(*arguments, **named))
        except ProviderError as error:
            told = (error.kind, str(error))
        writer.write(framed(pickle.dumps((number, *told))))

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.TaskGroup() as calls:
            while True:
                try:
                    call = await read_frame(reader)
                except asyncio.IncompleteReadError:
                    return
                calls.create_task(answer(writer, call))

    async with await asyncio.start_server(talk, host, port) as server:
        await server.serve_forever()
