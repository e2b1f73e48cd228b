"""How tests ask a pool whose workers die, or have much else to do."""

import asyncio
import inspect
import uuid
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Any, TypeVar

from corral.client import Corral, Unreachable
from tests.patience import PATIENCE_SECONDS

Answer = TypeVar("Answer")


async def patiently(ask: Callable[[], Awaitable[Answer]], within: float = PATIENCE_SECONDS) -> Answer:
    """Ask again, in the same words, while no worker answers."""
    give_up = asyncio.get_running_loop().time() + within
    while True:
        try:
            return await ask()
        except Unreachable as nobody:
            if asyncio.get_running_loop().time() > give_up:
                raise AssertionError(f"not within {within:g} seconds: {nobody}") from nobody


class PatientCorral(Corral):
    """A client that asks everything patiently, and changes nothing twice by that."""

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or not inspect.iscoroutinefunction(found):
            return found

        @wraps(found)
        async def asked_patiently(*given: Any, **named: Any) -> Any:
            key = {"key": str(uuid.uuid4())} if "key" in inspect.signature(found).parameters else {}
            return await patiently(partial(found, *given, **(key | named)))

        return asked_patiently
