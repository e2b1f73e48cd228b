"""Work that ends early when a person wants it to."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from worker.supervision import Supervisor

Result = TypeVar("Result")


class Stopped(Exception):
    """Somebody pressed Ctrl-C, or sent SIGTERM or SIGHUP."""


async def unless_stopped(supervisor: Supervisor, work: Coroutine[Any, Any, Result]) -> Result:
    """Do some work while the children of a supervisor are kept alive.

    Raises:
        Stopped: somebody wants it to end; the work was cancelled and has ended.
        CannotStart: a child died too often and was given up; likewise.
    """
    working, serving = asyncio.create_task(work), asyncio.create_task(supervisor.serve())
    try:
        await asyncio.wait({working, serving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            serving.result()
            raise Stopped
        return working.result()
    finally:
        for task in (working, serving):
            task.cancel()
        await asyncio.gather(working, serving, return_exceptions=True)
