"""What a Temporal server must have before a worker can use it, and how to tell that both are there."""

import asyncio

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError

from corral import wire

ANSWER_SECONDS = 5.0


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


async def is_polled(address: str, namespace: str, pool: str, identity: str) -> bool:
    """Whether a worker whose identity begins with `identity` asks for the pool's workflows."""
    request = DescribeTaskQueueRequest(
        namespace=namespace,
        task_queue=TaskQueue(name=wire.pool_task_queue(pool)),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    )
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            client = await Client.connect(address, namespace=namespace)
            described = await client.workflow_service.describe_task_queue(request)
    except (OSError, RuntimeError, RPCError):
        return False
    return any(poller.identity.startswith(identity) for poller in described.pollers)


async def _accepts_connections(address: str) -> None:
    """Cheaper than a client, which retries for seconds before it says that nobody is there."""
    host, port = address.rsplit(":", 1)
    _, writer = await asyncio.open_connection(host, int(port))
    writer.close()
    await writer.wait_closed()
