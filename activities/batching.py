"""Doing together what is asked at the same time: one transaction serves all who wait for one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass
class Batcher(Generic[Item, Answer]):
    """Calls `handle` with everything that was asked while the last call ran; whoever asks alone waits for nobody.

    `handle` answers in the order of the items; what it raises, everybody of the batch gets. It runs in a context of its own:
    what it logs must not bear the name of whoever happened to ask first.
    """

    handle: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]]
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
        while self._asked:
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
