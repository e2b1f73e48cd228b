"""A network of its own for an agent, joined to this machine's by a cable that can be pulled out."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Namespace:
    """A network namespace and the cable to it; `host` is the address of whatever listens there."""

    name: str
    host: str

    @property
    def inside(self) -> tuple[str, ...]:
        """What runs a command in there."""
        return ("ip", "netns", "exec", self.name)

    async def cut(self) -> None:
        """Pull the cable out: nothing comes through either way, and nobody is told."""
        await _ip("-n", self.name, "link", "set", "cable", "down")

    async def mend(self) -> None:
        """Put it back."""
        await _ip("-n", self.name, "link", "set", "cable", "up")


@asynccontextmanager
async def a_namespace() -> AsyncIterator[Namespace]:
    """Skips the test where this machine does not let its user make networks."""
    number = os.getpid()
    subnet, here = f"10.{64 + (number >> 8) % 64}.{number % 256}", f"corral{number}"
    namespace = Namespace(here, f"{subnet}.2")
    try:
        await _ip("netns", "add", here)
    except OSError as error:
        pytest.skip(f"network namespaces cannot be made here: {error}")
    try:
        await _ip("link", "add", here, "type", "veth", "peer", "name", "cable", "netns", here)
        await _ip("address", "add", f"{subnet}.1/30", "dev", here)
        await _ip("link", "set", here, "up")
        await _ip("-n", here, "address", "add", f"{subnet}.2/30", "dev", "cable")
        await namespace.mend()
        yield namespace
    finally:
        await _ip("netns", "delete", here)


async def _ip(*words: str) -> None:
    process = await asyncio.create_subprocess_exec("ip", *words, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    if process.returncode:
        raise OSError(f"ip {' '.join(words)}: {said.decode().strip()}")
