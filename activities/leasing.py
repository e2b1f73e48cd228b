"""Leasing: renewing the leases of a provider's clusters, and finding out which of them do not answer."""

import asyncio
import logging
from collections.abc import Collection, Mapping
from datetime import datetime

from temporalio import activity

from activities.answers import Unreleased
from activities.courier import Courier
from activities.liveness import staying_alive
from activities.ports import Clock, Phase, Provider, ProviderError, Store
from domain.pool.leases import LeaseTerms

LONGEST_SECONDS = 5.0
"""So long a provider is asked, and so long is waited for releases of what was lost, before the leases are renewed again."""
ONE_RELEASE_SECONDS = 60.0
"""So long a provider may take for one."""

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
        self._releasing: dict[tuple[str, str], asyncio.Task[None]] = {}
        """By provider and cluster."""

    @activity.defn(name="leasing.keep")
    async def keep(self, provider: str, seconds: float) -> str:
        """Renew the leases until something becomes of a cluster, or for a while; answers what the clusters are, in words."""
        loop = asyncio.get_running_loop()
        over = loop.time() + seconds
        try:
            while True:
                next_at = loop.time() + self._renew_seconds
                words, is_news = await self.renew(provider)
                if is_news or loop.time() >= over or activity.is_worker_shutdown():
                    return words
                await self._pause(next_at)
        finally:
            await self._release_no_more(provider)

    async def renew(self, provider: str) -> tuple[str, bool]:
        """Renew the leases once; answers what the clusters are, in words, and whether that is new."""
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
        """Fence what ran in lost clusters, where they answer again; what takes long goes on beside the next renewals.

        No cluster waits for another one, and the leases of all others wait for none of them.
        """
        for cluster in {each.cluster for each in left}:
            if (source.name, cluster) not in self._releasing:
                of_it = [each for each in left if each.cluster == cluster]
                self._releasing[source.name, cluster] = asyncio.create_task(self._release_in(source, of_it))
        under_way = {key: task for key, task in self._releasing.items() if key[0] == source.name}
        if not under_way:
            return
        done, slow = await asyncio.wait(under_way.values(), timeout=self._longest)
        if slow:
            log.info("provider %s takes its time to release what ran in %d clusters", source.name, len(slow))
        for key, task in under_way.items():
            if task in done and self._releasing.get(key) is task:
                del self._releasing[key]
        for task in done:
            if not task.cancelled():  # by a call before this one that Temporal had taken for dead
                task.result()

    async def _release_no_more(self, provider: str) -> None:
        """Leave what is not released yet to whoever keeps the leases next."""
        left = [self._releasing.pop(key) for key in list(self._releasing) if key[0] == provider]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _release_in(self, source: Provider, left: Collection[Unreleased]) -> None:
        """Fence what ran in a lost cluster, also what was only on its way there."""
        for each in left:
            try:
                async with asyncio.timeout(ONE_RELEASE_SECONDS):
                    await source.release(each.attempt, each.epoch)
                    seen = (await source.status([each.attempt])).get(each.attempt)
            except (ProviderError, OSError) as error:
                log.info("attempt %s is not released yet: %s", each.attempt, error or type(error).__name__)
                continue
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
