"""Sessions: from the options of a command to a connection, one call, and output."""

import asyncio
import contextlib
import errno
import select
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import typer

from corral.api import WorkloadEvent
from corral.cli import tables
from corral.cli.render import Answer, Form, View, show, show_change, show_changes
from corral.client import Corral

Done = TypeVar("Done")
Ask = Callable[[Corral], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Watching:
    """Whether to ask again and again, and how many seconds apart."""

    on: bool
    interval_seconds: float


@dataclass(frozen=True, slots=True)
class Session:
    """How a command reaches Corral, and how it writes the answer."""

    connect: Callable[[], Awaitable[Corral]]
    form: Form = Form.TABLE

    @classmethod
    def of(cls, context: typer.Context, form: Form | None) -> "Session":
        """The session of a command: its own form of output goes before the one given to `corral` itself."""
        session: Session = context.find_root().obj
        return session if form is None else replace(session, form=form)

    def run(self, work: Callable[[Corral], Coroutine[Any, Any, Done]]) -> Done:
        """Connect, and do some work to its end."""

        async def connected() -> Done:
            return await work(await self.connect())

        return asyncio.run(connected())

    def ask(self, ask: Ask[Answer], view: View[Answer]) -> Answer:
        """Make one call and print the answer."""

        async def asked(corral: Corral) -> Answer:
            return await ask(corral)

        answer = self.run(asked)
        show(answer, self.form, view)
        return answer

    def follow(
        self, ask: Ask[Answer], view: View[Answer], watching: Watching, is_last: Callable[[Answer], bool] = lambda _: False
    ) -> None:
        """Print the answer of a call; when watching, again whenever it has changed, until it is the last."""
        if not watching.on:
            self.ask(ask, view)
            return

        async def followed(corral: Corral) -> None:
            await show_changes(changes(lambda: ask(corral), watching.interval_seconds, is_last), self.form, view)

        self.run(followed)

    def follow_events(self, workload: str, after: int, interval_seconds: float) -> None:
        """Print events as they happen, until the workload has ended: a line for each, in JSON too."""

        async def followed(corral: Corral) -> None:
            view = View(tables.first_event)
            async for event in events_as_they_happen(corral, workload, after, interval_seconds):
                show_change(event, self.form, view)
                view = View(tables.further_event)

        self.run(followed)


async def changes(
    ask: Callable[[], Awaitable[Answer]], interval_seconds: float, is_last: Callable[[Answer], bool]
) -> AsyncIterator[Answer]:
    """Ask again and again; give the answers that differ from the one before, until one is the last."""
    answer = await ask()
    yield answer
    while not is_last(answer):
        await _pause(interval_seconds)
        before, answer = answer, await ask()
        if answer != before:
            yield answer


async def events_as_they_happen(
    corral: Corral, workload: str, after: int, interval_seconds: float
) -> AsyncIterator[WorkloadEvent]:
    """The events after the one with that id, and then each new one, until the workload has ended."""
    while True:
        has_ended = (await corral.status(workload)).state.is_terminal
        for event in await corral.events(workload, after):
            after = event.id
            yield event
        if has_ended:
            return
        await _pause(interval_seconds)


async def _pause(seconds: float) -> None:
    """Wait, as long as there is somebody who would read what comes next.

    Raises:
        BrokenPipeError: whoever read what was written has gone, and nothing would tell that before there is news.
    """
    await asyncio.sleep(seconds)
    with contextlib.suppress(ValueError):  # the standard output is no file
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
            raise BrokenPipeError(errno.EPIPE, "nobody reads the output any more")
