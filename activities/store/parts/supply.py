"""The supply: nodes as providers report them, what operators order about them, and the leases of clusters."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from activities.answers import Judgement, Notice, Unreleased
from activities.ports import NodeView
from activities.store import clusters, fleet, views
from activities.store.accounts import note_capacity
from activities.store.parts.transactions import Transactions, reading, writing
from activities.store.rows import Journal
from corral.api import Cordon, LostCluster, NodeStatus
from domain.pool.leases import LeaseTerms


class Supply(Transactions):
    """Believes providers, and does what operators order about their nodes."""

    fleet = reading(views.fleet)
    nodes = reading(views.nodes)
    unreleased = reading(clusters.unreleased)
    clusters = reading(clusters.statuses)

    async def register_provider(self, name: str, kind: str) -> None:
        """Write a provider down."""
        async with self._engine.begin() as connection:
            await fleet.register_provider(connection, name, kind, self._clock.now())
            await self._note_change(connection)

    @writing
    async def write_nodes(
        self, connection: AsyncConnection, journal: Journal, provider: str, views: Sequence[NodeView], *, complete: bool
    ) -> None:
        """Write what a provider reports of its nodes; of a complete report, missing nodes are not ready any more."""
        first = complete and await fleet.seen(connection, provider, journal.now)
        if await fleet.write_nodes(connection, provider, views, complete=complete) or first:
            await clusters.know_new_ones(connection, provider, journal.now)
            await note_capacity(connection, journal.now)
            await self._note_change(connection)

    @writing
    async def cordon(
        self, connection: AsyncConnection, journal: Journal, provider: str, order: Cordon, key: str
    ) -> list[NodeStatus]:
        """Cordon, drain or uncordon nodes, once a key; answers with them as they are then.

        Raises:
            activities.ports.NotFound: names what the provider does not have; nothing was changed.
        """
        ids = await fleet.order(connection, provider, order, key)
        await self._supply_changed(connection, journal)
        return await views.nodes(connection, ids)

    @writing
    async def grant_leases(
        self, connection: AsyncConnection, journal: Journal, provider: str, terms: LeaseTerms
    ) -> Mapping[str, datetime | None]:
        """Write down the leases that a provider's clusters are about to be sent, by `region/cluster`."""
        return await clusters.grant(connection, provider, journal.now, terms)

    async def judge_clusters(
        self, provider: str, terms: LeaseTerms, *, asked_at: datetime, answered: Collection[str]
    ) -> tuple[Judgement, list[Notice]]:
        """Believe which of a provider's clusters have answered, with all that follows."""

        async def work(connection: AsyncConnection, journal: Journal) -> Judgement:
            is_news = await clusters.judge(connection, journal, provider, terms, asked_at=asked_at, answered=answered)
            if is_news:
                await self._supply_changed(connection, journal)
            return Judgement(await clusters.in_words(connection, provider), is_news)

        return await self._write(work)

    @writing
    async def declare_lost(self, connection: AsyncConnection, journal: Journal, order: LostCluster) -> None:
        """Believe a person that nothing runs in a suspect cluster.

        Raises:
            activities.ports.NotFound: there is no such cluster.
            activities.ports.NotAllowed: it answers, or has never answered.
        """
        await clusters.declare_lost(connection, journal, order)

    async def note_released(self, provider: str, each: Unreleased) -> None:
        """Note that an attempt has been seen gone in a cluster where it was lost."""
        async with self._engine.begin() as connection:
            await clusters.note_released(connection, provider, each)
