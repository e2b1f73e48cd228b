"""Sessions: from the options of a command to a connection, one call, and output."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import typer

from corral.api import WorkloadEvent
from corral.cli import tables
from corral.cli.problems import InvalidInput, printable, shown
from corral.cli.render import Answer, Form, View, show, show_change, show_changes
from corral.client import Corral, Unreachable

CONNECT_WITHIN_SECONDS = 15

Done = TypeVar("Done")
Ask = Callable[[Corral], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Connection:
    """Where Corral is, and who asks."""

    address: str
    namespace: str
    pool: str
    api_key: str | None
    tls: bool

    async def open(self) -> Corral:
        """Connect.

        Raises:
            InvalidInput: the address is not one.
            Unreachable: nothing answers there.
        """
        try:
            async with asyncio.timeout(CONNECT_WITHIN_SECONDS):
                return await Corral.connect(
                    self.address, namespace=self.namespace, pool=self.pool, api_key=self.api_key, tls=self.tls
                )
        except ValueError as error:
            raise InvalidInput([f"--address: {shown(self.address)} is not host:port, such as 127.0.0.1:7233"]) from error
        except (Unreachable, TimeoutError) as error:
            advice = "is it running there, and are --address, --tls and --api-key right?"
            detail = printable(str(error.__cause__ or f"no answer within {CONNECT_WITHIN_SECONDS} s"))
            raise Unreachable(f"no Temporal server answers at {self.address}; {advice}\n  {detail}") from error


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
        await asyncio.sleep(interval_seconds)
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
        await asyncio.sleep(interval_seconds)
