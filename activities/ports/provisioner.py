"""A provider that can add nodes and take them away."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, cast

from activities.ports.provider import Capability, NodeView, Provider


@dataclass(frozen=True, slots=True)
class NodePoolView:
    """Like nodes that a provider can add: one as it would be, with the pool's name, and the most of them at once."""

    node: NodeView
    limit: int
    lead_seconds: int = 0


@dataclass(frozen=True, slots=True)
class ProvisionOrder:
    """So many nodes of a pool, by its name. The id is the order's for ever: whoever lost the answer finds the order by it."""

    id: str
    node_pool: str
    nodes: int


class Delivery(StrEnum):
    """How far a provider is with an order: `failed` when nothing more comes of it, though some may have come."""

    COMING = "coming"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ProvisioningView:
    """An order for nodes as its provider sees it."""

    id: str
    delivery: Delivery
    reason: str = ""


class Provisioner(Provider, Protocol):
    """A provider that can add nodes and take them away: one with `Capability.PROVISION`."""

    async def node_pools(self) -> tuple[NodePoolView, ...]:
        """The kinds of nodes that it can add, with their prices and limits as they are now."""

    async def provision(self, order: ProvisionOrder) -> ProvisioningView:
        """Begin to add nodes; the same order again gives the same answer. They are there when they are seen.

        Raises:
            ProviderError: `CONFLICT` (same id, another order), `FENCED` (the order was abandoned), `NO_CAPACITY`,
                `INVALID_SPEC` (no such pool), `UNAVAILABLE` (unknown: ask again with the same order).
        """

    async def provisionings(self) -> tuple[ProvisioningView, ...]:
        """All orders that are not abandoned, those included that are done or have failed."""

    async def abandon(self, order: str) -> None:
        """Let nothing more come of an order, even if it arrives later; nodes that are there stay; idempotent."""

    async def deprovision(self, nodes: Collection[str]) -> None:
        """Take nodes away for good; success as well for those that are gone or unknown.

        Raises:
            ProviderError: `CONFLICT` (an attempt runs there, and nothing was taken away), `UNAVAILABLE`.
        """


def as_provisioner(provider: Provider) -> Provisioner | None:
    """The provider as one that can add nodes, if it says that it can."""
    return cast(Provisioner, provider) if Capability.PROVISION in provider.capabilities else None
