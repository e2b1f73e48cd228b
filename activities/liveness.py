"""The call that is being made: what it is known by, and telling Temporal that it goes on, lest another worker makes it."""

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


def this_call() -> str:
    """What tells the call of a workflow's activity apart from others; the same when it is made again."""
    info = activity.info()
    return f"{info.workflow_run_id}/{info.activity_id}"


async def _beat(every: float) -> None:
    while True:
        await asyncio.sleep(every)
        activity.heartbeat()
