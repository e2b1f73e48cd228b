"""The supply: nodes as providers report them, what operators order about them, and the leases of clusters."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from activities.answers import Judgement, Notice, Unreleased
from activities.ports.provider import NodeView
from corral.api import ClusterStatus, Cordon, FleetStatus, LostCluster, NodeStatus
from domain.pool.leases import LeaseTerms


class Supply(Protocol):
    """Believes providers, and does what operators order about their nodes."""

    async def register_provider(self, name: str, kind: str) -> None:
        """Write a provider down."""

    async def write_nodes(self, provider: str, views: Sequence[NodeView], *, complete: bool) -> None:
        """Write what a provider reports of its nodes; of a complete report, missing nodes are not ready any more."""

    async def grant_leases(self, provider: str, terms: LeaseTerms) -> Mapping[str, datetime | None]:
        """Write down the leases that a provider's clusters are about to be sent, by `region/cluster`; none: it gets none.

        No cluster may be sent a later one than what is written.
        """

    async def judge_clusters(
        self, provider: str, terms: LeaseTerms, *, asked_at: datetime, answered: Collection[str]
    ) -> tuple[Judgement, list[Notice]]:
        """Believe which of a provider's clusters have answered what they were asked at a time, with all that follows."""

    async def declare_lost(self, order: LostCluster) -> None:
        """Believe a person that nothing runs in a suspect cluster: it is lost when it is judged next, unless it answers.

        Raises:
            NotFound: there is no such cluster.
            NotAllowed: it answers, or has never answered.
        """

    async def unreleased(self, provider: str) -> list[Unreleased]:
        """What was lost with a cluster of a provider, and has not been released since in those in which it ran."""

    async def note_released(self, provider: str, each: Unreleased) -> None:
        """Note that an attempt has been seen gone in a cluster where it was lost, and can never start there any more."""

    async def clusters(self) -> list[ClusterStatus]:
        """All clusters that have ever been asked whether they answer."""

    async def cordon(self, provider: str, order: Cordon, key: str) -> list[NodeStatus]:
        """Cordon, drain or uncordon nodes, once a key; answers with them as they are then.

        Raises:
            NotFound: names what the provider does not have; nothing was changed.
        """

    async def fleet(self) -> list[FleetStatus]:
        """The supply by provider, region and SKU."""

    async def nodes(self) -> list[NodeStatus]:
        """All nodes as last observed."""
