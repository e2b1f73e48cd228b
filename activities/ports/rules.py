"""What owners and operators apply as a document: queues, datasets, the policy."""

from typing import Protocol

from corral.api import Catalogue, DatasetStatus, QueueStatus, QueueTree
from corral.policy import PolicyAnswer, PolicyOrder, PolicyRecord


class Rules(Protocol):
    """Puts documents in force, whole or not at all."""

    async def apply_queues(self, tree: QueueTree) -> list[QueueStatus]:
        """Make the queues what the tree says.

        Raises:
            domain.quota.tree.QuotaError: the tree contradicts itself or the policy in force; nothing was changed.
        """

    async def queues(self) -> list[QueueStatus]:
        """All queues with their use."""

    async def apply_datasets(self, catalogue: Catalogue) -> list[DatasetStatus]:
        """Make the datasets what the catalogue says."""

    async def datasets(self) -> list[DatasetStatus]:
        """All datasets, and the names that workloads read though no dataset has them."""

    async def apply_policy(self, order: PolicyOrder) -> PolicyAnswer:
        """Put a policy in force, unless something refuses it; one that is in force already is left as it is."""

    async def policies(self, limit: int) -> list[PolicyRecord]:
        """The policies of the pool, the one in force first."""
