"""What workflows are told by anybody: what a handler cannot take is dropped, as it would fail the workflow again and again."""

import inspect
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from temporalio import workflow

Handler = Callable[..., Awaitable[None] | None]


def message(name: str) -> Callable[[Handler], Callable[..., Awaitable[None]]]:
    """A signal of that name; with other arguments than its handler takes it is dropped, and the log says so.

    Temporal itself drops only what cannot be read. A signal stays in the history, and nobody can take it back: a handler that
    cannot be called would fail in every later step of the workflow.
    """

    def decorate(handler: Handler) -> Callable[..., Awaitable[None]]:
        @wraps(handler)
        async def take(self: object, *said: Any) -> None:
            try:
                inspect.signature(handler).bind(self, *said)
            except TypeError as problem:
                workflow.logger.warning("signal %s with %d arguments was dropped: %s", name, len(said), problem)
                return
            doing = handler(self, *said)
            if doing is not None:
                await doing

        return workflow.signal(name=name)(take)

    return decorate
