"""The pool: its queues, data, policies and supply, and what is decided."""

import uuid
from functools import partial

from corral import wire
from corral.api import (
    Catalogue,
    ClusterStatus,
    Cordon,
    DatasetStatus,
    FleetStatus,
    LostCluster,
    NodePoolStatus,
    NodeStatus,
    ProvisioningStatus,
    QueueStatus,
    QueueTree,
    RoundStatus,
)
from corral.client.connection import Connection, Kept
from corral.client.errors import NotFound, PolicyRefused
from corral.policy import Policy, PolicyAnswer, PolicyOrder, PolicyRecord


class Pool(Connection):
    """Tells of the pool, and changes what holds in it."""

    async def queues(self) -> list[QueueStatus]:
        """List the queues with their use and their lines."""
        return await self._ask(wire.Inquiry.QUEUES, None, list[QueueStatus])

    async def queue(self, name: str) -> QueueStatus:
        """Tell of one queue.

        Raises:
            NotFound: there is no such queue.
        """
        found = next((queue for queue in await self.queues() if queue.name == name), None)
        if found is None:
            raise NotFound(f"there is no queue {name!r}; `corral queue list` lists them")
        return found

    async def apply_queues(self, tree: QueueTree) -> list[QueueStatus]:
        """Make the queues what the tree says, whole or not at all; queues that it does not name stay as they are.

        Raises:
            Invalid: the tree contradicts itself; nothing was changed.
        """
        return await self._ask(wire.Inquiry.APPLY_QUEUES, tree, list[QueueStatus])

    async def datasets(self) -> list[DatasetStatus]:
        """List the datasets, and the names that workloads read though no dataset has them."""
        return await self._ask(wire.Inquiry.DATASETS, None, list[DatasetStatus])

    async def apply_datasets(self, catalogue: Catalogue) -> list[DatasetStatus]:
        """Make the datasets what the catalogue says; those that it does not name stay as they are."""
        return await self._ask(wire.Inquiry.APPLY_DATASETS, catalogue, list[DatasetStatus])

    async def policies(self, limit: int = 100) -> list[PolicyRecord]:
        """List the policies of the pool, the one in force first."""
        return await self._ask(wire.Inquiry.POLICIES, limit, list[PolicyRecord])

    async def apply_policy(self, policy: Policy, *, who: str = "", why: str = "") -> PolicyAnswer:
        """Put a policy in force for all work that is decided about from now on; what runs is not stopped by it.

        Raises:
            PolicyRefused: something speaks against it; nothing was changed.
        """
        order = PolicyOrder(policy=policy, who=who, why=why)
        answer = await self._ask(wire.Inquiry.APPLY_POLICY, order, PolicyAnswer)
        if answer.record is None:
            raise PolicyRefused(answer.findings)
        return answer

    async def fleet(self) -> list[FleetStatus]:
        """List the supply by provider, region and SKU."""
        return await self._ask(wire.Inquiry.FLEET, None, list[FleetStatus])

    async def nodes(self) -> list[NodeStatus]:
        """List the nodes as last observed."""
        return await self._ask(wire.Inquiry.NODES, None, list[NodeStatus])

    async def clusters(self) -> list[ClusterStatus]:
        """List the clusters: whether they answer, since when, and what becomes of their work if they do not."""
        return await self._ask(wire.Inquiry.CLUSTERS, None, list[ClusterStatus])

    async def declare_lost(self, order: LostCluster) -> list[ClusterStatus]:
        """Say that nothing runs in a cluster any more, which does not answer: its work is started elsewhere at once.

        Raises:
            NotFound: there is no such cluster.
            Conflict: it answers, or has never answered.
        """
        return await self._ask(wire.Inquiry.DECLARE_LOST, order, list[ClusterStatus])

    async def node_pools(self) -> list[NodePoolStatus]:
        """List the node pools: what providers can add, what is wanted of it, what is there and what is on its way."""
        return await self._ask(wire.Inquiry.NODE_POOLS, None, list[NodePoolStatus])

    async def provisionings(self, limit: int = 20) -> list[ProvisioningStatus]:
        """List the newest orders for nodes, those under way first."""
        return await self._ask(wire.Inquiry.PROVISIONINGS, limit, list[ProvisioningStatus])

    async def rounds(self, limit: int = 20) -> list[RoundStatus]:
        """List the newest rounds that changed something, the last one first."""
        return await self._ask(wire.Inquiry.ROUNDS, limit, list[RoundStatus])

    async def cordon(self, provider: str, order: Cordon, *, key: str | None = None) -> list[NodeStatus]:
        """Cordon, drain or uncordon nodes of a provider; answers with the nodes.

        Raises:
            NotFound: there is no such provider, or a node or place that it does not have; nothing was changed.
        """
        return await self._change_kept(
            self._reconciler(provider), wire.CORDON, order, key or str(uuid.uuid4()), list[NodeStatus]
        )

    def _reconciler(self, provider: str) -> Kept:
        id = wire.provider_workflow_id(provider)
        missing = f"there is no provider {provider!r}; `corral fleet` lists them"
        return Kept(id, partial(self._has_workflow, id), missing)
