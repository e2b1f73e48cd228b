"""Doing together what is asked at about the same time: one transaction serves all who wait for one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")

LONGEST_PAUSE_SECONDS = 0.1


@dataclass
class Batcher(Generic[Item, Answer]):
    """Calls `handle` with everything that was asked since the last call began; who asks while all is quiet waits for nobody.

    A call is followed by a pause as long as itself, a tenth of a second at most, in which more may be asked: the longer calls
    take, the more is done by each. `handle` answers in the order of the items; what it raises, everybody of the batch gets.
    It runs in a context of its own: what it logs must not bear the name of whoever happened to ask first.
    """

    handle: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]]
    pause: Callable[[float], Awaitable[object]] = asyncio.sleep
    _asked: list[tuple[Item, "asyncio.Future[Answer]"]] = field(default_factory=list)
    _serving: "asyncio.Task[None] | None" = None

    async def ask(self, item: Item) -> Answer:
        """Have one item handled with the next batch."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked.append((item, future))
        if self._serving is None or self._serving.done():
            self._serving = asyncio.create_task(self._serve(), context=Context())
        return await future

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while self._asked:
            began = loop.time()
            batch, self._asked = self._asked, []
            try:
                answers = await self.handle([item for item, _ in batch])
            except Exception as error:  # everybody who asked must hear of it
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
            else:
                for (_, future), answer in zip(batch, answers, strict=True):
                    if not future.done():
                        future.set_result(answer)
            await self.pause(min(loop.time() - began, LONGEST_PAUSE_SECONDS))
