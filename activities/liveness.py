"""Telling Temporal that a call is still being made, so that the calls of a dead worker are soon made by another one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio import activity

BEATS = 4
"""Heartbeats in the time after which none would mean death; there is none for a call that is soon done."""


@asynccontextmanager
async def staying_alive() -> AsyncIterator[None]:
    """Beat while the body runs, when it is an activity that has to; as a decorator, while the function does."""
    limit = activity.info().heartbeat_timeout if activity.in_activity() else None
    if limit is None:
        yield
        return
    beating = asyncio.create_task(_beat(limit.total_seconds() / BEATS))
    try:
        yield
    finally:
        beating.cancel()


async def _beat(every: float) -> None:
    while True:
        await asyncio.sleep(every)
        activity.heartbeat()
