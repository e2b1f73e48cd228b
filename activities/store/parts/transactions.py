"""How the parts of the store come by their transactions: to read, to write and tell, or on the pool as a round would see it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from activities.answers import Notice
from activities.ports import Clock
from activities.store import fleet
from activities.store.accounts import note_capacity
from activities.store.attained import Attaining
from activities.store.policies import PolicyReader
from activities.store.rows import Journal
from activities.store.snapshots import SnapshotReader, read_pool
from corral.policy import Policy
from domain.snapshot import Snapshot, apart

Asked = ParamSpec("Asked")
Part = TypeVar("Part", bound="Transactions")
Result = TypeVar("Result")

SERIALIZATION_FAILURE = "40001"
DEADLOCK = "40P01"


def is_conflict(error: BaseException) -> bool:
    """Whether the world changed under a transaction, so that deciding again is the answer."""
    if isinstance(error, IntegrityError):
        return True
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in {SERIALIZATION_FAILURE, DEADLOCK}


async def again_on_conflict(transaction: Callable[[], Awaitable[Result]]) -> Result:
    """Run a transaction until it commits on the world that it has read."""
    attempts = AsyncRetrying(
        retry=retry_if_exception(is_conflict),
        stop=stop_after_attempt(10),
        wait=wait_random_exponential(multiplier=0.01, max=0.5),
        reraise=True,
    )
    async for attempt in attempts:
        with attempt:
            return await transaction()
    raise AssertionError("the last attempt raises what it met")


class Transactions:
    """One pool's record.

    Writers of one process take turns, which spares them conflicts; between processes the database decides.
    """

    def __init__(self, engine: AsyncEngine, clock: Clock, pool: str, policy: Policy | None = None) -> None:
        self._engine = engine
        self._clock = clock
        self._pool = pool
        self._policies = PolicyReader(pool, policy or Policy())
        self._reader = SnapshotReader(self._policies)
        self._turn = asyncio.Lock()

    def _journal(self) -> Journal:
        return Journal(self._clock, self._policies, self._clock.now())

    async def _read(self, step: Callable[[AsyncConnection], Awaitable[Result]]) -> Result:
        async with self._engine.connect() as connection:
            return await step(connection)

    async def _attaining(self, connection: AsyncConnection) -> Attaining:
        policy = await self._policies.in_force(connection)
        return Attaining(policy.rank.attained_service, self._clock.now())

    async def _write(self, work: Callable[[AsyncConnection, Journal], Awaitable[Result]]) -> tuple[Result, list[Notice]]:
        """Do something in one transaction; answers with what workflows are to be told of it as well."""

        async def done() -> tuple[Result, list[Notice]]:
            journal = self._journal()
            async with self._engine.begin() as connection:
                result = await work(connection, journal)
                notices = await journal.write(connection)
            return result, notices

        async with self._turn:
            return await again_on_conflict(done)

    async def _on_snapshot(self, work: Callable[[AsyncConnection, Snapshot, datetime], Awaitable[Result]]) -> Result:
        """Do something in one transaction with the pool as a round would see it now."""

        async def done() -> Result:
            now = self._clock.now()
            async with self._snapshot_transaction() as connection:
                pool = await read_pool(connection, self._pool)
                world = await self._reader.read(connection, pool, now, {}, everybody=True)
                return await work(connection, apart(world.snapshot), now)

        async with self._turn:
            return await again_on_conflict(done)

    @asynccontextmanager
    async def _snapshot_transaction(self) -> AsyncIterator[AsyncConnection]:
        """A transaction on one snapshot, in which the reader may read.

        What the reader remembers was committed at that snapshot, whatever becomes of this transaction: a conflict leaves
        it true. After any other failure nobody knows what became of the server.
        """
        try:
            async with self._engine.connect() as plain:
                connection = await plain.execution_options(isolation_level="REPEATABLE READ")
                async with connection.begin():
                    yield connection
        except BaseException as error:
            if not is_conflict(error):
                self._reader.forget()
            raise

    async def look(self) -> tuple[Snapshot, datetime]:
        """The pool as a round would see it now, and the time."""
        now = self._clock.now()
        async with self._turn, self._snapshot_transaction() as connection:
            pool = await read_pool(connection, self._pool)
            snapshot = (await self._reader.read(connection, pool, now, {}, everybody=True)).snapshot
            return apart(snapshot), now

    async def _note_change(self, connection: AsyncConnection) -> None:
        """Wake whoever decides, when this is committed."""
        await fleet.note_change(connection, self._pool)

    async def _supply_changed(self, connection: AsyncConnection, journal: Journal) -> None:
        await note_capacity(connection, journal.now)
        await self._note_change(connection)


def reading(
    step: Callable[Concatenate[AsyncConnection, Asked], Awaitable[Result]],
) -> Callable[Concatenate[Transactions, Asked], Coroutine[Any, Any, Result]]:
    """A method that does this step on a connection of its own, and changes nothing."""

    @wraps(step)
    async def method(store: Transactions, /, *args: Asked.args, **named: Asked.kwargs) -> Result:
        return await store._read(lambda connection: step(connection, *args, **named))

    return method


def writing(
    work: Callable[Concatenate[Part, AsyncConnection, Journal, Asked], Awaitable[Result]],
) -> Callable[Concatenate[Part, Asked], Coroutine[Any, Any, Result]]:
    """A method that does this in one transaction, again after a conflict; answers with its result."""

    @wraps(work)
    async def method(store: Part, /, *args: Asked.args, **named: Asked.kwargs) -> Result:
        return (await store._write(lambda connection, journal: work(store, connection, journal, *args, **named)))[0]

    return method


def telling(
    work: Callable[Concatenate[Part, AsyncConnection, Journal, Asked], Awaitable[object]],
) -> Callable[Concatenate[Part, Asked], Coroutine[Any, Any, list[Notice]]]:
    """The same, but it answers with the notices that workflows are to be given."""

    @wraps(work)
    async def method(store: Part, /, *args: Asked.args, **named: Asked.kwargs) -> list[Notice]:
        return (await store._write(lambda connection, journal: work(store, connection, journal, *args, **named)))[1]

    return method
