"""Calls that are repeated while servers are being started again."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError
from temporalio.service import RPCError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential

from corral.client import Unreachable

PATIENCE_SECONDS = 120.0
"""How long the servers may be away before a call is given up."""

Answer = TypeVar("Answer")


async def persistently(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """Repeat a call, which must be safe to repeat, while nobody answers."""
    retries = AsyncRetrying(
        retry=retry_if_exception_type((Unreachable, RPCError, SQLAlchemyError, OSError)),
        wait=wait_exponential(multiplier=0.2, max=3),
        stop=stop_after_delay(PATIENCE_SECONDS),
        reraise=True,
    )
    async for attempt in retries:
        with attempt:
            return await call()
    raise AssertionError("the last attempt raises what it met")
