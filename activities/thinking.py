"""Thinking: long pure work in a thread of its own, so that the worker's event loop goes on beside it."""

import asyncio
import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import ParamSpec, TypeVar

NEW = 1
"""The generations of objects that have not yet been looked through twice."""

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


class Thinker:
    """Has one thread: what is asked while it is busy comes after that, even when nobody waits for that any more."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "thinker")

    async def think(self, work: Callable[Given, Answer], *args: Given.args, **kwargs: Given.kwargs) -> Answer:
        """Answer with what the work answers with, or raise what it raises; the garbage that it has made is collected.

        The next pass of the collector would have to look through it together with all that is made until then.
        """
        context = copy_context()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, lambda: context.run(work, *args, **kwargs))
        finally:
            gc.collect(NEW)

    def close(self) -> None:
        """Take on nothing new, and forget what has not begun."""
        self._thread.shutdown(wait=False, cancel_futures=True)
