"""Collecting garbage: what is new often and a little at a time, everything seldom, and never what lives as long as the worker.

No thread runs meanwhile, so that each pass is a stall of the worker's loop; and what is not collected is memory. Rounds, and
workflows that have ended, leave objects behind that refer to each other, which nothing else frees.
"""

import asyncio
import ctypes
import gc
from collections.abc import Awaitable, Callable

NEW_OBJECTS, PASSES = 10_000, 10
"""Objects more than before after which what is new is looked through, and such passes after which what they left is."""
NEVER = 2**30
SHORTEST_PAUSE_SECONDS = 2.0
OBJECTS_PER_SECOND = 5_000
"""Looked through on the average where a planner remembers many; not by the time it takes, which grows with the garbage."""


def collect_a_little() -> None:
    """Let the interpreter look through what is new alone, and nobody through what lives as long as the worker."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, PASSES, NEVER)


def give_back() -> None:
    """Give what is free of the process's memory back to the operating system, as far as the C library can.

    By itself glibc keeps whatever lies below something that is in use. Other threads go on meanwhile.
    """
    getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)(0)


def pause_after(objects: int) -> float:
    """Seconds until everything is looked through again, where so many objects are left."""
    return max(SHORTEST_PAUSE_SECONDS, objects / OBJECTS_PER_SECOND)


async def keep_collecting(pause: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
    """Look through everything now and then and give back what that has freed, until it is cancelled."""
    while True:
        gc.collect()
        give_back()
        await pause(pause_after(len(gc.get_objects())))
