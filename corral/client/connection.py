"""A connection to one pool, and how it asks."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Self, TypeVar

from temporalio.client import (
    Client,
    Interceptor,
    WorkflowHandle,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.service import GrpcCompression, RPCError, RPCStatusCode, TLSConfig

from corral import wire
from corral.api import Model
from corral.client.errors import (
    ANSWER_WITHIN,
    Unreachable,
    as_away,
    has_ended,
    in_time,
    plain_errors,
    was_dropped,
    why_no_connection,
)
from corral.sealing import data_converter
from corral.signing import SignCommands, Signer

Answer = TypeVar("Answer")

DESCRIBED_WITHIN = timedelta(seconds=5)
UNTIL_STARTED_AGAIN_SECONDS = 0.5
TRIES_WHILE_DROPPED = 10
DROPPED_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Submission:
    """A workload that was handed over; `created` is false when the same spec had been submitted before."""

    id: str
    created: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """A workflow that workers start again where it ended before what it is for was over.

    `is_kept` asks whether they will; `missing` is what to say where there is none, and none will be.
    """

    workflow: str
    is_kept: Callable[[], Awaitable[bool]]
    missing: str


async def again_while_dropped(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """What a workflow answers, asked again where Temporal has dropped what was asked.

    It drops an update when something else arrives in the moment in which the workflow ends by that very update. The workflow
    then carries on as if nobody had asked; asking again as the same request is safe. And it takes nothing in the moment in
    which a workflow goes on in a new run.
    """
    for _ in range(TRIES_WHILE_DROPPED - 1):
        try:
            return await ask()
        except RPCError as error:
            if not was_dropped(error):
                raise
        await asyncio.sleep(DROPPED_SECONDS)
    return await ask()


class Connection:
    """A connection to one pool: where it is, and how it is asked."""

    def __init__(self, temporal: Client, pool: str = wire.DEFAULT_POOL) -> None:
        """Use a Temporal client that has the data converter of `corral.sealing`."""
        self._temporal = temporal
        self._pool = pool

    @classmethod
    async def connect(
        cls,
        address: str = "127.0.0.1:7233",
        *,
        namespace: str = "default",
        pool: str = wire.DEFAULT_POOL,
        api_key: str | None = None,
        tls: bool | TLSConfig = False,
        payload_keys: str | None = None,
        signer: Signer | None = None,
        interceptors: Sequence[Interceptor] = (),
    ) -> Self:
        """Connect to the Temporal server at `host:port`.

        `tls` may say whom to trust (`corral.tls.tls_of`); an API key is only sent over TLS. `payload_keys` are the keys of a
        pool whose payloads are sealed (`corral.sealing.keys_of`). `signer` says who asks, where the pool wants to know that
        (`corral.signing.signer_of`). `interceptors` see every call, such as those that trace.

        Raises:
            ValueError: the address, or the keys, are none; or a key would travel in the clear.
            Unreachable: nothing answers there.
        """
        if api_key is not None and not tls:
            raise ValueError("an API key needs TLS: it must not travel in the clear")
        try:
            temporal = await Client.connect(
                address,
                namespace=namespace,
                api_key=api_key,
                tls=tls,
                data_converter=data_converter(payload_keys),
                grpc_compression=GrpcCompression.NONE,
                interceptors=[*interceptors, *([SignCommands(signer)] if signer else [])],
            )
        except RuntimeError as error:
            why = why_no_connection(str(error))
            raise Unreachable(f"no Temporal server answers at {address}: {why}; is `make up` running?") from error
        return cls(temporal, pool)

    @classmethod
    def signing(cls, temporal: Client, signer: Signer, pool: str = wire.DEFAULT_POOL) -> Self:
        """Use a Temporal client, and sign what is asked through it."""
        config = temporal.config()
        config["interceptors"] = [*config["interceptors"], SignCommands(signer)]
        return cls(Client(**config), pool)

    @property
    def _signs(self) -> bool:
        """Whether what is asked through this connection is signed."""
        return any(isinstance(each, SignCommands) for each in self._temporal.config()["interceptors"])

    def _handle(self, workload: str) -> WorkflowHandle[object, object]:
        return self._temporal.get_workflow_handle(wire.workload_workflow_id(workload))

    async def _ask(self, inquiry: wire.Inquiry, question: object, answer: type[Answer]) -> Answer:
        async with plain_errors():
            told: Answer = await self._temporal.execute_activity(
                inquiry,
                args=question if isinstance(question, list) else [] if question is None else [question],
                id=f"{inquiry}/{uuid.uuid4()}",
                task_queue=wire.pool_task_queue(self._pool),
                result_type=answer,
                schedule_to_close_timeout=ANSWER_WITHIN,
                priority=wire.ASKS,
            )
            return told

    async def _update(
        self, workflow: str, update: str, answer: type[Answer] | None, *change: Model, request: str | None = None
    ) -> Answer:
        """What a workflow answers to an update; asked again where Temporal has dropped it."""
        handle = self._temporal.get_workflow_handle(workflow)

        async def ask() -> Answer:
            told: Answer = await handle.execute_update(
                update, args=change, id=request, result_type=answer, rpc_timeout=ANSWER_WITHIN
            )
            return told

        return await again_while_dropped(ask)

    async def _change_kept(
        self, kept: Kept, update: str, change: Model, request: str, answer: type[Answer] | None = None
    ) -> Answer:
        """Change something through a workflow that is kept; until it has been started again, it is waited for.

        Raises:
            NotFound: there is none, and none will be.
        """
        async with self._answered_by(kept.workflow, kept.missing):
            while True:
                try:
                    return await self._update(kept.workflow, update, answer, change, request=request)
                except (RPCError, WorkflowUpdateFailedError) as error:
                    if not has_ended(error) or not await kept.is_kept():
                        raise
                await asyncio.sleep(UNTIL_STARTED_AGAIN_SECONDS)

    @asynccontextmanager
    async def _answered_by(self, workflow: str, missing: str) -> AsyncIterator[None]:
        """Wait for the answer of a workflow; where it does not come in time, tell what its steps meet meanwhile."""
        async with plain_errors(missing=missing):
            try:
                async with in_time():
                    yield
            except (WorkflowUpdateRPCTimeoutOrCancelledError, TimeoutError) as error:
                if (failure := await self._met_by(workflow)) is None:
                    raise
                raise as_away(failure) from error

    async def _met_by(self, workflow: str) -> ApplicationError | None:
        """What a step of a workflow has met that is to be tried again; none where all goes well, or nobody knows."""
        try:
            described = await self._temporal.get_workflow_handle(workflow).describe(rpc_timeout=DESCRIBED_WITHIN)
        except RPCError:
            return None
        for step in (each for each in described.raw_description.pending_activities if each.HasField("last_failure")):
            failure = await self._temporal.data_converter.decode_failure(step.last_failure)
            while isinstance(failure, FailureError) and failure.cause is not None:
                failure = failure.cause  # what is too long for Temporal is the cause of a failure that says so
            if isinstance(failure, ApplicationError):
                return failure
        return None

    async def _has_workflow(self, id: str) -> bool:
        """Whether there is a workflow of an id, or was one of late."""
        async with plain_errors():
            try:
                await self._temporal.get_workflow_handle(id).describe()
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                return False
        return True


def request_id(update: StrEnum, key: str | None) -> str:
    """The id of an update: Temporal takes two of one id for one, so that a key is of one kind of change alone."""
    return f"{update}/{key or uuid.uuid4()}"
