"""Names on the wire: workflow types and ids, task queues, message names and search attributes."""

from temporalio.common import SearchAttributeKey

LIFECYCLE = "WorkloadLifecycle"
ROUNDS = "SchedulingRounds"
PROVIDER = "ProviderReconcile"

DEFAULT_POOL = "main"

QUEUE = SearchAttributeKey.for_keyword("Queue")
TIER = SearchAttributeKey.for_keyword("Tier")
STATE = SearchAttributeKey.for_keyword("State")
REGION = SearchAttributeKey.for_keyword("Region")
SKU = SearchAttributeKey.for_keyword("Sku")
PRIORITY = SearchAttributeKey.for_int("Priority")
SEARCH_ATTRIBUTES = (QUEUE, TIER, STATE, REGION, SKU, PRIORITY)

DIGEST_MEMO = "digest"


def workload_workflow_id(workload: str) -> str:
    """The workflow that drives a workload."""
    return f"workload/{workload}"


def rounds_workflow_id(pool: str) -> str:
    """The planner of a pool."""
    return f"rounds/{pool}"


def provider_workflow_id(provider: str) -> str:
    """The reconciler of a provider."""
    return f"provider/{provider}"


def pool_task_queue(pool: str) -> str:
    """Where workloads and planner of a pool run."""
    return f"pool-{pool}"


def provider_task_queue(provider: str) -> str:
    """Where calls to a provider run."""
    return f"provider-{provider}"
