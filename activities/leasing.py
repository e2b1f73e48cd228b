"""Leasing: renewing the leases of a provider's clusters, and finding out which of them do not answer."""

import asyncio
import logging
from collections.abc import Collection, Mapping
from datetime import datetime

from temporalio import activity

from activities.answers import Unreleased
from activities.courier import Courier
from activities.errors import final_failures
from activities.liveness import staying_alive
from activities.ports import Clock, Phase, Provider, ProviderError, Store
from domain.leases import LeaseTerms

LONGEST_SECONDS = 5.0
"""So long a provider is asked, and so long what was lost is released, before the leases are renewed again."""

log = logging.getLogger(__name__)


class Leasing:
    """Keeps the leases of a provider, one long activity at a time. `renew_seconds` are the wall's.

    What a cluster is about to be sent is written down first, and what it ran is released before it is sent anything new.
    """

    def __init__(
        self,
        store: Store,
        providers: Mapping[str, Provider],
        courier: Courier,
        clock: Clock,
        terms: LeaseTerms,
        *,
        renew_seconds: float,
    ) -> None:
        self._store = store
        self._providers = providers
        self._courier = courier
        self._clock = clock
        self._terms = terms
        self._renew_seconds = renew_seconds
        self._longest = min(LONGEST_SECONDS, renew_seconds)

    @activity.defn(name="leasing.keep")
    async def keep(self, provider: str, seconds: float) -> str:
        """Renew the leases until something becomes of a cluster, or for a while; answers what the clusters are, in words."""
        loop = asyncio.get_running_loop()
        over = loop.time() + seconds
        while True:
            next_at = loop.time() + self._renew_seconds
            words, is_news = await self.renew(provider)
            if is_news or loop.time() >= over or activity.is_worker_shutdown():
                return words
            await self._pause(next_at)

    async def renew(self, provider: str) -> tuple[str, bool]:
        """Renew the leases once; answers what the clusters are, in words, and whether that is new."""
        with final_failures():
            source = self._providers[provider]
        asked_at = self._clock.now()
        leases = await self._store.grant_leases(provider, self._terms)
        activity.heartbeat()
        answered = await self._ask(source, leases)
        judgement, notices = await self._store.judge_clusters(provider, self._terms, asked_at=asked_at, answered=answered)
        self._courier.post(notices)
        activity.heartbeat(judgement.words)
        await self._release(source, [each for each in await self._store.unreleased(provider) if each.cluster in answered])
        if judgement.is_news:
            log.warning("provider %s has %s", provider, judgement.words)
        return judgement.words, judgement.is_news

    async def _ask(self, source: Provider, leases: Mapping[str, datetime | None]) -> Collection[str]:
        try:
            async with asyncio.timeout(self._longest):
                return await source.renew(leases)
        except (ProviderError, OSError) as error:
            log.info("provider %s did not answer: %s", source.name, error or type(error).__name__)
            return frozenset()

    async def _release(self, source: Provider, left: Collection[Unreleased]) -> None:
        """Fence what ran in lost clusters, where they answer again; what takes too long is for the next time.

        No cluster waits for another one, and the leases of all others wait for none of them.
        """
        try:
            async with asyncio.timeout(self._longest), asyncio.TaskGroup() as releasing:
                for cluster in {each.cluster for each in left}:
                    releasing.create_task(self._release_in(source, [each for each in left if each.cluster == cluster]))
        except TimeoutError:
            log.info("provider %s has not released all of %d attempts yet", source.name, len(left))

    async def _release_in(self, source: Provider, left: Collection[Unreleased]) -> None:
        """Fence what ran in a lost cluster, also what was only on its way there."""
        for each in left:
            try:
                await source.release(each.attempt, each.epoch)
                seen = (await source.status([each.attempt])).get(each.attempt)
            except (ProviderError, OSError) as error:
                log.info("attempt %s is not released yet: %s", each.attempt, error)
                continue
            activity.heartbeat()
            if seen is None or seen.phase.is_over:
                await self._store.note_released(source.name, each)
            elif seen.phase is not Phase.UNKNOWN:
                log.warning("attempt %s still runs in cluster %s, which was lost", each.attempt, each.cluster)

    async def _pause(self, until: float) -> None:
        stopping = asyncio.create_task(activity.wait_for_worker_shutdown())
        try:
            async with staying_alive():
                await asyncio.wait({stopping}, timeout=max(0.0, until - asyncio.get_running_loop().time()))
        finally:
            stopping.cancel()
