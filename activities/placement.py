"""Placement: making a hold so at its provider, and taking it back there."""

import logging
from collections.abc import Mapping

from temporalio import activity

from activities.answers import AttemptKey, Standing
from activities.batching import Batcher
from activities.courier import Courier
from activities.errors import REFUSALS, final_failures, is_refusal
from activities.liveness import staying_alive
from activities.observing import LAST_SEQUENCE, Observer
from activities.ports import Clock, LaunchSpec, NotFound, Observation, Phase, Provider, ProviderError, StopOrder, Store
from domain.pool.lifecycle import AT_ONCE

log = logging.getLogger(__name__)


class Placement:
    """Calls to providers on behalf of one attempt; each may be repeated, and finds what it has done."""

    def __init__(
        self, store: Store, providers: Mapping[str, Provider], observer: Observer, courier: Courier, clock: Clock
    ) -> None:
        self._store = store
        self._providers = providers
        self._observer = observer
        self._courier = courier
        self._clock = clock
        self._bindings: Batcher[AttemptKey, LaunchSpec | None] = Batcher(store.begin_bindings)

    @activity.defn(name="placement.bind")
    @staying_alive()
    async def bind(self, key: AttemptKey) -> Standing:
        """Launch an attempt whose hold is in force; answers how the workload stands then.

        While the provider does not answer, the result is unknown, and the same attempt is tried again.
        """
        order = await self._bindings.ask(key)
        if order is None:
            return await self._standing(key)
        try:
            observation = await self._provider(order).launch(order)
        except ProviderError as error:
            if not is_refusal(error):
                raise
            self._courier.post(await self._store.refuse_binding(key, str(error), final=REFUSALS[error.kind]))
            return await self._standing(key)
        return await self._observer.note(observation, order.provider, answered=True) or await self._standing(key)

    @activity.defn(name="placement.stop")
    @staying_alive()
    async def stop(self, key: AttemptKey) -> Standing:
        """Give an attempt notice to leave, with the grace that it asked for, or stop it at once where that is over.

        One that never ran will never run. One that goes on with other replicas is told so, if its provider can do that.
        """
        order = await self._store.stop_order(key)
        while order is not None and order.leave is not None and not await self.let_leave(key, order):
            order = await self._store.stop_order(key)
        return await self._standing(key)

    @activity.defn(name="placement.keep")
    @staying_alive()
    async def keep(self, key: AttemptKey) -> Standing:
        """Take the last notice of an attempt back, so that it runs on."""
        order = await self._store.stop_order(key)
        if order is not None and order.notice and order.leave is None:
            await self.take_notice_back(key, order)
        return await self._standing(key)

    async def take_notice_back(self, key: AttemptKey, order: StopOrder) -> None:
        """Tell a provider that an attempt stays, and write down that it knows."""
        await self._provider(order).keep(order.attempt_id, order.epoch, notice=order.notice)
        self._courier.post(await self._store.kept(key, order.notice))

    async def force_remnants(self, order: StopOrder) -> None:
        """Tell a provider once more to stop those replicas by force without which an attempt goes on."""
        assert order.resized is not None, "it says without whom"
        await self._provider(order).resize(order.resized, notice=order.notice, at_once=True)

    async def let_leave(self, key: AttemptKey, order: StopOrder) -> bool:
        """Take an attempt as far on its way out as the record says, and write down when it is gone at once.

        Answers whether that could be done: what cannot change its size as it runs is to start anew.
        """
        provider = self._provider(order)
        if why := await _why_anew(provider, order):
            log.warning("attempt %s cannot get another size as it runs, and starts anew: %s", order.attempt_id, why)
            self._courier.post(await self._store.start_anew(key, order.notice, why))
            return False
        if order.resized is None:
            await _let_all_leave(provider, order)
        self._courier.post(await self._store.noticed(key, order.notice))
        seen = (await provider.status([order.attempt_id])).get(order.attempt_id)
        if seen is None:
            # Released before it began, it can never begin: that is an end as good as one that was seen.
            now = self._clock.now()
            seen = Observation(order.attempt_id, order.epoch, Phase.CANCELLED, LAST_SEQUENCE, now, reason="never started")
        if seen.phase.is_over or seen.resized == order.notice:
            await self._observer.note(seen, order.provider)
        return True

    def _provider(self, order: LaunchSpec | StopOrder) -> Provider:
        return self._providers[order.provider]

    async def _standing(self, key: AttemptKey) -> Standing:
        with final_failures():
            standing = await self._store.standing(key.workload)
            if standing is None:
                raise NotFound(f"there is no workload {key.workload!r}")
            return standing


async def _why_anew(provider: Provider, order: StopOrder) -> str:
    """Tell an attempt to go on with other replicas, if it is to; answers why it cannot, if it was to and cannot."""
    if order.resized is not None:
        try:
            await provider.resize(order.resized, notice=order.notice, at_once=order.leave in AT_ONCE)
        except ProviderError as error:
            if not is_refusal(error):
                raise
            return str(error)
    return order.why_anew


async def _let_all_leave(provider: Provider, order: StopOrder) -> None:
    """Give an attempt notice, or stop it at once where its grace is over or it has not begun."""
    if order.leave in AT_ONCE or not await _is_under_way(provider, order.attempt_id):
        await provider.release(order.attempt_id, order.epoch)
        return
    await provider.preempt(
        order.attempt_id, order.epoch, notice=order.notice, signal=order.signal, grace_seconds=order.grace_seconds
    )


async def _is_under_way(provider: Provider, attempt: str) -> bool:
    """Whether it may have begun; of what is in a cluster that does not answer nobody knows better."""
    seen = (await provider.status([attempt])).get(attempt)
    return seen is not None and seen.phase in {Phase.RUNNING, Phase.STOPPING, Phase.UNKNOWN}
