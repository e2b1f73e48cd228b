"""The growth of the fleet: what providers can add, what is ordered of it, and what is given back."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from activities.answers import FleetStep
from activities.ports.provisioner import NodePoolView, ProvisioningView, ProvisionOrder
from corral.api import NodePoolStatus, ProvisioningStatus
from domain.elasticity.provisioning import FleetPlan
from domain.pool.nodepools import Course
from domain.snapshot import Snapshot

Grow = Callable[[Snapshot, Mapping[str, Course], Collection[str], datetime], Awaitable[FleetPlan]]
"""Plans the fleet's growth from the courses of its node pools and the pools that are closed for now."""


class Growing(Protocol):
    """Orders nodes and gives them back."""

    async def write_node_pools(self, provider: str, views: Sequence[NodePoolView]) -> None:
        """Write what a provider can add."""

    async def write_deliveries(self, provider: str, views: Sequence[ProvisioningView]) -> list[str]:
        """Believe how far a provider is with its orders; answers with those that are none of this record."""

    async def given_back_but_there(self, provider: str, names: Collection[str]) -> list[str]:
        """Those of the nodes that the provider has taken away, as it said."""

    async def grow(self, plan: Grow) -> list[FleetStep]:
        """Take the fleet's growth as far as it may go now; answers with what providers are to be asked for that."""

    async def order_to_ask(self, order: str) -> ProvisionOrder | None:
        """An order as its provider is to be asked for it; none when it is over."""

    async def order_taken(self, order: str) -> None:
        """Note that a provider has taken an order."""

    async def order_failed(self, order: str, reason: str) -> None:
        """Close an order that its provider refuses, and order nothing from the same pool for a while."""

    async def order_abandoned(self, order: str) -> None:
        """Note that nothing more can come of an order."""

    async def nodes_to_give_back(self, provider: str, names: Collection[str]) -> list[str]:
        """Those of the nodes that are still to leave, and have no work."""

    async def nodes_given_back(self, provider: str, names: Collection[str]) -> None:
        """Note that a provider has taken nodes away."""

    async def node_pools(self) -> list[NodePoolStatus]:
        """What providers can add, and how far each pool is from what is wanted of it."""

    async def provisionings(self, limit: int) -> list[ProvisioningStatus]:
        """The newest orders for nodes, those under way first."""
