"""Long work goes on beside the loop, one piece at a time."""

import asyncio
import gc
import threading
import weakref
from contextvars import ContextVar

import pytest

from activities.thinking import Thinker

LONG = 30.0
"""Seconds after which a test that waits for the loop, which stands still, fails."""


async def test_the_loop_goes_on_while_somebody_thinks() -> None:
    is_on = threading.Event()
    thinking = asyncio.create_task(Thinker().think(is_on.wait, LONG))
    await asyncio.sleep(0)
    is_on.set()
    assert await thinking, "the loop had stood still"


async def test_what_nobody_waits_for_any_more_is_ended_before_the_next_begins() -> None:
    thinker, begun, may_end, order = Thinker(), threading.Event(), threading.Event(), list[str]()

    def first() -> None:
        begun.set()
        may_end.wait(LONG)
        order.append("first")

    abandoned = asyncio.create_task(thinker.think(first))
    await asyncio.to_thread(begun.wait, LONG)
    abandoned.cancel()
    with pytest.raises(asyncio.CancelledError):
        await abandoned
    second = asyncio.create_task(thinker.think(order.append, "second"))
    await asyncio.sleep(0)
    may_end.set()
    await second
    assert order == ["first", "second"]


async def test_what_the_work_raises_is_raised_where_it_is_waited_for() -> None:
    with pytest.raises(LookupError, match="such"):
        await Thinker().think(_fails)


def _fails() -> None:
    raise LookupError("no such thing")


async def test_work_knows_for_whom_it_is_done() -> None:
    whose: ContextVar[str] = ContextVar("whose")
    whose.set("planner")
    assert await Thinker().think(whose.get) == "planner"


async def test_who_is_closed_takes_on_nothing_more() -> None:
    thinker = Thinker()
    thinker.close()
    with pytest.raises(RuntimeError):
        await thinker.think(_fails)


class _Ring:
    """Refers to itself, so that nothing but the garbage collector frees it."""

    def __init__(self) -> None:
        self.next = self


async def test_what_work_leaves_behind_is_gone_with_its_answer() -> None:
    gc.disable()
    try:
        left = await Thinker().think(lambda: weakref.ref(_Ring()))
        assert left() is None
    finally:
        gc.enable()
