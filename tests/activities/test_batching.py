"""Doing together what is asked at the same time."""

import asyncio
from collections.abc import Sequence

import pytest

from activities.batching import LONGEST_PAUSE_SECONDS, Batcher


class Kitchen:
    """Serves orders one batch at a time, when the door is opened."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.door = asyncio.Event()
        self.door.set()

    async def serve(self, orders: Sequence[int]) -> list[int]:
        self.batches.append(list(orders))
        await self.door.wait()
        if 0 in orders:
            raise ZeroDivisionError
        return [100 // order for order in orders]


async def test_who_asks_alone_waits_for_nobody() -> None:
    kitchen = Kitchen()
    batcher = Batcher(kitchen.serve)
    assert [await batcher.ask(4), await batcher.ask(5)] == [25, 20]
    assert kitchen.batches == [[4], [5]]


async def test_what_is_asked_while_a_batch_is_served_is_served_together() -> None:
    kitchen = Kitchen()
    batcher = Batcher(kitchen.serve)
    kitchen.door.clear()
    first = asyncio.create_task(batcher.ask(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [asyncio.create_task(batcher.ask(order)) for order in (2, 4, 5)]
    await asyncio.sleep(0)
    kitchen.door.set()
    assert await asyncio.gather(first, *others) == [100, 50, 25, 20]
    assert kitchen.batches == [[1], [2, 4, 5]]


async def test_what_is_asked_in_the_pause_after_a_batch_is_served_together() -> None:
    kitchen, rest, pauses = Kitchen(), asyncio.Event(), list[float]()

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await rest.wait()

    batcher = Batcher(kitchen.serve, pause)
    assert await batcher.ask(1) == 100
    second = asyncio.create_task(batcher.ask(2))
    for _ in range(10):
        await asyncio.sleep(0)
    third = asyncio.create_task(batcher.ask(4))
    await asyncio.sleep(0)
    assert kitchen.batches == [[1]]
    rest.set()
    assert [await second, await third] == [50, 25]
    assert kitchen.batches == [[1], [2, 4]]
    assert all(0 <= seconds <= LONGEST_PAUSE_SECONDS for seconds in pauses)


async def test_what_a_batch_fails_with_everybody_of_it_hears_and_nobody_else() -> None:
    batcher = Batcher(Kitchen().serve)
    answers = await asyncio.gather(batcher.ask(0), batcher.ask(5), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ZeroDivisionError, ZeroDivisionError]
    assert await batcher.ask(5) == 20


async def test_who_goes_away_takes_nobody_with_them() -> None:
    kitchen = Kitchen()
    batcher = Batcher(kitchen.serve)
    kitchen.door.clear()
    impatient, patient = asyncio.create_task(batcher.ask(1)), asyncio.create_task(batcher.ask(2))
    await asyncio.sleep(0)
    impatient.cancel()
    kitchen.door.set()
    assert await patient == 50
    with pytest.raises(asyncio.CancelledError):
        await impatient
