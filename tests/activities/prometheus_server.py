"""A server that answers as the API of Prometheus does, or as it should not, and keeps what it was asked."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Server:
    """Answers every request with these bytes, and keeps what it was sent."""

    answer: bytes = b""
    port: int = 0
    requests: list[str] = field(default_factory=list)
    is_silent: bool = False
    """It never goes on to answer."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            if self.is_silent:
                await reader.read()
            writer.write(self.answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # whoever asked has left
        finally:
            writer.close()

    def says(self, document: object, status: str = "200 OK", *headers: str) -> None:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
        self.answer = "\r\n".join(lines).encode() + body

    def finds(self, *numbers: str) -> None:
        result = [{"metric": {}, "value": [1_700_000_000.5, number]} for number in numbers]
        self.says({"status": "success", "data": {"resultType": "vector", "result": result}})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    """A server on this machine, until the context is left."""
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    yield server
    listening.close()
