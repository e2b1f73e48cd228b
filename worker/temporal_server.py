"""Connecting to a Temporal server, what it must have before a worker can use it, and how to tell that both are there."""

import asyncio
import os
import socket
from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.runtime import Runtime
from temporalio.service import GrpcCompression, RPCError

from corral import wire
from corral.client.errors import why_no_connection
from corral.sealing import data_converter
from worker.reaching import NoAnswer
from worker.settings import Settings
from workflows.payloads import taking_anything

ANSWER_SECONDS = 5.0
LONGEST_POLL = timedelta(seconds=90)
"""A poller that lives asks again within this time; Temporal lists it for minutes after it has died."""


def identity(pid: int) -> str:
    """How a worker with that process id on this host calls itself."""
    return f"{pid}@{socket.gethostname()}"


async def connect(settings: Settings, runtime: Runtime | None = None) -> Client:
    """A client of the Temporal server that the settings name; without a runtime it shares the process's.

    Raises:
        NoAnswer: nothing answers there that can be talked to so.
    """
    try:
        return await Client.connect(
            settings.temporal_address,
            namespace=settings.temporal_namespace,
            api_key=settings.temporal_api_key.get_secret_value() if settings.temporal_api_key else None,
            tls=settings.tls(),
            data_converter=data_converter(settings.payload_keys.get_secret_value() if settings.payload_keys else None),
            grpc_compression=GrpcCompression.NONE,
            identity=identity(os.getpid()),
            runtime=runtime,
        )
    except RuntimeError as error:
        raise NoAnswer(
            f"no Temporal server answers at {settings.temporal_address}: {why_no_connection(str(error))}; is it running, and "
            "are CORRAL_TEMPORAL_ADDRESS, CORRAL_TEMPORAL_TLS and CORRAL_TEMPORAL_API_KEY right?"
        ) from error


def for_workflows(client: Client) -> Client:
    """The same client for a worker of workflows, to which anybody may send anything (`workflows.payloads`)."""
    config = client.config()
    config["data_converter"] = taking_anything(client.data_converter)
    return Client(**config)


async def ensure_search_attributes(client: Client) -> None:
    """Register in the client's namespace the search attributes that are missing. Harmless to repeat.

    The development server takes them on its command line too, but heeds that only when it creates its file.
    """
    operator = client.operator_service
    present = await operator.list_search_attributes(ListSearchAttributesRequest(namespace=client.namespace))
    missing = [key for key in wire.SEARCH_ATTRIBUTES if key.name not in present.custom_attributes]
    if missing:
        wanted = {key.name: key.indexed_value_type.value for key in missing}
        await operator.add_search_attributes(
            AddSearchAttributesRequest(namespace=client.namespace, search_attributes=wanted)  # type: ignore[arg-type]
        )


async def is_ready(address: str, namespace: str = "default") -> bool:
    """Whether the server answers and the namespace has all search attributes; registers those that are missing."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await _accepts_connections(address)
            await ensure_search_attributes(await Client.connect(address, namespace=namespace))
    except (OSError, RuntimeError, RPCError):
        return False
    return True


class Lookout:
    """Tells whether a worker asks for a pool's workflows; it connects once, however often it is asked."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Client | None = None

    async def sees(self, pid: int | None = None) -> bool:
        """Whether a worker of this host, with that process id if one is given, asks for workflows."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                if self._client is None:
                    self._client = await connect(self._settings)
                recent = await polling(self._client, self._settings.pool)
        except (OSError, NoAnswer, RPCError):
            return False
        return any(_is_ours(worker, pid) for worker in recent)


async def polling(client: Client, pool: str) -> dict[str, timedelta]:
    """The workers that may still ask for a pool's workflows, and how long ago each did so last."""
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=wire.pool_task_queue(pool)),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    )
    described, now = await client.workflow_service.describe_task_queue(request), datetime.now(UTC)
    since = {poller.identity: now - poller.last_access_time.ToDatetime(UTC) for poller in described.pollers}
    return {identity: ago for identity, ago in since.items() if ago < LONGEST_POLL}


def _is_ours(worker: str, pid: int | None) -> bool:
    if pid is not None:
        return worker == identity(pid)
    return worker.partition("@")[2] == socket.gethostname()


async def _accepts_connections(address: str) -> None:
    """Cheaper than a client, which retries for seconds before it says that nobody is there."""
    host, port = address.rsplit(":", 1)
    _, writer = await asyncio.open_connection(host, int(port))
    writer.close()
    await writer.wait_closed()
