"""Collecting garbage: what is new often and a little at a time, everything seldom, and never what lives as long as the worker.

No thread runs meanwhile, so that each pass is a stall of the worker's loop; and what is not collected is memory. Rounds, and
workflows that have ended, leave objects behind that refer to each other, which nothing else frees.
"""

import asyncio
import ctypes
import gc
import sys
from collections.abc import Awaitable, Callable

NEW_OBJECTS, PASSES = 10_000, 10
"""Objects more than before after which what is new is looked through, and such passes after which what they left is."""
NEVER = 2**30
SHORTEST_PAUSE_SECONDS = 2.0
BLOCKS_PER_SECOND = 13_000
"""Of memory that are looked through on the average where a planner remembers much: some 5,000 objects that may refer to each
other, which only a list of them all would count. Not by the time it takes, which grows with the garbage."""


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


def pause_after(blocks: int) -> float:
    """Seconds until everything is looked through again, with so many more blocks of memory in use than at first."""
    return max(SHORTEST_PAUSE_SECONDS, blocks / BLOCKS_PER_SECOND)


async def keep_collecting(pause: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
    """Look through everything now and then and give back what that has freed, until it is cancelled."""
    at_first = sys.getallocatedblocks()
    while True:
        gc.collect()
        give_back()
        await pause(pause_after(sys.getallocatedblocks() - at_first))
