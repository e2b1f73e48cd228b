"""Inventory: keeping the record true to what one provider is observed to have and to run."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from temporalio import activity

from activities.answers import OpenAttempt
from activities.courier import Courier
from activities.errors import final_failures, writable
from activities.liveness import this_call
from activities.observing import LAST_SEQUENCE, Observer
from activities.placement import Placement
from activities.ports import (
    Beat,
    ErrorClass,
    Event,
    NodeView,
    NotFound,
    Observation,
    Phase,
    Provider,
    ProviderError,
    ProviderSnapshot,
    Provisioner,
    Store,
    as_provisioner,
)
from corral.api import Cordon, NodeStatus

GATHER_SECONDS = 0.005
"""So long the next event is waited for, so that what comes close together is written down together."""
MOST_EVENTS_AT_ONCE = 500

log = logging.getLogger(__name__)


class Inventory:
    """Watches a provider, one long activity at a time, and compares its whole state with the record now and then."""

    def __init__(
        self,
        store: Store,
        providers: Mapping[str, Provider],
        observer: Observer,
        placement: Placement,
        courier: Courier,
        *,
        reconcile_seconds: float = 20.0,
    ) -> None:
        self._store = store
        self._providers = providers
        self._observer = observer
        self._placement = placement
        self._courier = courier
        self._reconcile_seconds = reconcile_seconds
        self._missing: dict[str, frozenset[str]] = {}

    @activity.defn(name="inventory.watch")
    async def watch(self, provider: str, seconds: float) -> int:
        """Write down what a provider does, for a while; answers with the number of its events."""
        source = self._providers[provider]
        loop = asyncio.get_running_loop()
        over, compare_at, count = loop.time() + seconds, loop.time(), 0
        async for events in _gathered(source.watch()):
            activity.heartbeat(count)
            if loop.time() >= compare_at:
                await self._compare(source)
                compare_at = loop.time() + self._reconcile_seconds
            await self._write_down(source, events)
            count += sum(not isinstance(event, Beat) for event in events)
            if loop.time() >= over or activity.is_worker_shutdown():
                break
        return count

    @activity.defn(name="inventory.cordon")
    async def cordon(self, provider: str, order: Cordon, key: str = "") -> list[NodeStatus]:
        """Cordon, drain or uncordon nodes, once a key; an older workflow gives none, and is known by its call."""
        with final_failures():
            try:
                nodes = await self._store.cordon(provider, order, writable(key) or this_call())
            except NotFound as error:
                raise NotFound(f"nodes: provider {provider!r} has no {error}; `corral fleet nodes` lists them") from error
        self._courier.post(await self._store.keep_house())
        return nodes

    async def _write_down(self, source: Provider, events: Sequence[Event]) -> None:
        if views := [event for event in events if isinstance(event, NodeView)]:
            await self._store.write_nodes(source.name, views, complete=False)
        await self._settle(source, [event for event in events if isinstance(event, Observation)])

    async def _settle(self, source: Provider, observations: Sequence[Observation]) -> None:
        await asyncio.gather(*(self._observer.note(observation, source.name) for observation in observations))
        if over := [observation.attempt_id for observation in observations if observation.phase.is_over]:
            await source.forget(over)

    async def _compare(self, source: Provider) -> None:
        """Bring the record up to the provider's whole state, and the provider up to the record."""
        observed = self._observer.known_at(source.name)
        open_before = await self._store.open_attempts_at(source.name)
        self._observer.forget(observed.difference(attempt.id for attempt in open_before))
        snapshot = await source.snapshot()
        await self._store.write_nodes(source.name, snapshot.nodes, complete=snapshot.complete)
        await self._settle(source, snapshot.attempts)
        await self._release_strangers(source, snapshot)
        if snapshot.complete:
            there = {seen.attempt_id for seen in snapshot.attempts}
            missing = [each for each in open_before if each.id not in there and not each.clusters & snapshot.silent]
            await self._give_up(source, missing, snapshot.taken_at)
        for key in await self._store.stops_due(source.name, self._reconcile_seconds):
            with _unless_silent(f"{key.workload}.{key.epoch}"):
                await self._placement.stop(key)
        for order in await self._store.remnants_due(source.name, self._reconcile_seconds):
            with _unless_silent(order.attempt_id):
                await self._placement.force_remnants(order)
        await self._keep(snapshot, open_before)
        if (provisioner := as_provisioner(source)) is not None:
            await self._compare_growth(provisioner, snapshot)

    async def _compare_growth(self, source: Provisioner, snapshot: ProviderSnapshot) -> None:
        """Write down what could be added and how far orders are; end those of nobody, and nodes that should be gone."""
        await self._store.write_node_pools(source.name, await source.node_pools())
        for order in await self._store.write_deliveries(source.name, await source.provisionings()):
            log.warning("order %s at %s is nobody's; abandoning it", order, source.name)
            await source.abandon(order)
        added = {node.name for node in snapshot.nodes if node.provisioning is not None}
        if added and (left := await self._store.given_back_but_there(source.name, added)):
            log.warning("%s still has nodes that it took away: %s", source.name, ", ".join(left))
            await source.deprovision(left)

    async def _keep(self, snapshot: ProviderSnapshot, open_before: Sequence[OpenAttempt]) -> None:
        """Take notices back that are in force at the provider, and were not in the record even before the provider was seen."""
        stopping = {seen.attempt_id for seen in snapshot.attempts if seen.phase is Phase.STOPPING}
        for attempt in open_before:
            if attempt.id in stopping and not attempt.is_leaving:
                with _unless_silent(attempt.id):
                    await self._placement.keep(attempt.key)

    async def _release_strangers(self, source: Provider, snapshot: ProviderSnapshot) -> None:
        """Stop what runs there without a right to: attempts that the record has ended, or never had."""
        running = [seen for seen in snapshot.attempts if not seen.phase.is_over and seen.phase is not Phase.UNKNOWN]
        rightful = {attempt.id for attempt in await self._store.open_attempts_at(source.name)}
        for seen in running:
            if seen.attempt_id not in rightful:
                subject = {"workload": seen.attempt_id.rpartition(".")[0], "attempt": seen.attempt_id}
                log.warning(
                    "attempt %s runs at %s without a right to; releasing it", seen.attempt_id, source.name, extra=subject
                )
                with _unless_silent(seen.attempt_id):
                    await source.release(seen.attempt_id, seen.epoch)

    async def _give_up(self, source: Provider, missing: Sequence[OpenAttempt], now: datetime) -> None:
        """End attempts that are gone without an end that anybody saw.

        One that never ran may be on its way: it is given up, and can never start, when it is missing the second time.
        """
        before = self._missing.get(source.name, frozenset())
        self._missing[source.name] = frozenset(attempt.id for attempt in missing)
        for attempt in missing:
            if attempt.has_run or attempt.id in before:
                epoch = attempt.key.epoch
                with _unless_silent(attempt.id):
                    await source.release(attempt.id, epoch)
                    gone = Observation(attempt.id, epoch, Phase.LOST, LAST_SEQUENCE, now, reason="gone from its provider")
                    # It may have been launched since it was missed: then it is gone when it is seen to have stopped.
                    seen = (await source.status([attempt.id])).get(attempt.id, gone)
                    if seen.phase.is_over:
                        await self._observer.note(seen, source.name)


@contextmanager
def _unless_silent(attempt: str) -> Iterator[None]:
    """Leave for the next time what cannot be told now, so that others do not wait for a cluster that does not answer."""
    try:
        yield
    except ProviderError as error:
        if error.kind is not ErrorClass.UNAVAILABLE:
            raise
        log.info("attempt %s is told the next time: %s", attempt, error, extra={"attempt": attempt})


async def _gathered(events: AsyncIterator[Event]) -> AsyncIterator[list[Event]]:
    """Events in batches: what comes within a few milliseconds is written down together."""
    queue: asyncio.Queue[Event | None] = asyncio.Queue()

    async def pump() -> None:
        try:
            async for event in events:
                queue.put_nowait(event)
        finally:
            queue.put_nowait(None)

    pumping = asyncio.create_task(pump())
    try:
        while (event := await queue.get()) is not None:
            await asyncio.sleep(GATHER_SECONDS)
            batch = [event]
            while not queue.empty() and len(batch) < MOST_EVENTS_AT_ONCE:
                following = queue.get_nowait()
                if following is None:
                    queue.put_nowait(None)
                    break
                batch.append(following)
            yield batch
        await pumping
    finally:
        pumping.cancel()
