"""Pulling: asking for the demand of endpoints where their specs say, while rounds are decided."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from activities.answers import Adjustment
from activities.courier import Courier
from activities.ports import Clock, EndpointToAsk, Meter, NoDemand, Store

ASKED_AT_ONCE = 16

log = logging.getLogger(__name__)


class Pulling:
    """Asks for demand when it is due, and lets the endpoint follow it as it follows demand that it is told.

    When each was last asked for is remembered here alone: another process asks anew, which does no harm.
    """

    def __init__(self, store: Store, courier: Courier, meter: Meter, clock: Clock, *, look_seconds: float = 5.0) -> None:
        self._store = store
        self._courier = courier
        self._meter = meter
        self._clock = clock
        self._look_seconds = look_seconds
        self._asked: dict[str, datetime] = {}

    @asynccontextmanager
    async def meanwhile(self) -> AsyncIterator[None]:
        """Ask again and again while the body runs."""
        asking = asyncio.create_task(self._keep_looking())
        try:
            yield
        finally:
            asking.cancel()

    async def _keep_looking(self) -> None:
        """A look that fails, as when PostgreSQL is away, must not be the last one, nor keep rounds from being decided."""
        while True:
            try:
                await self.look()
            except Exception as error:
                log.warning("could not ask for the demand of endpoints: %s", error or type(error).__name__)
            await asyncio.sleep(self._look_seconds)

    async def look(self) -> None:
        """Ask for the demand of all endpoints that are due, some at once."""
        now, endpoints = self._clock.now(), await self._store.endpoints_to_ask()
        last = {each.workload: self._asked[each.workload] for each in endpoints if each.workload in self._asked}
        due = [each for each in endpoints if _is_due(each, last.get(each.workload), now)]
        self._asked = last | {each.workload: now for each in due}
        slots = asyncio.Semaphore(ASKED_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for each in due:
                group.create_task(self._follow_apart(each, slots))

    async def _follow_apart(self, endpoint: EndpointToAsk, slots: asyncio.Semaphore) -> None:
        """What fails for one endpoint must not keep the others from being asked for."""
        async with slots:
            try:
                await self._follow(endpoint)
            except Exception as error:
                subject = {"workload": endpoint.workload}
                problem = error or type(error).__name__
                log.warning("endpoint %s could not follow demand: %s", endpoint.workload, problem, extra=subject)

    async def _follow(self, endpoint: EndpointToAsk) -> None:
        at = self._clock.now()
        key = f"asked for at {at.isoformat()}"
        try:
            demand = await self._meter.ask(endpoint.source)
        except NoDemand as error:
            if str(error) != endpoint.problem:
                await self._adjust("miss-demand", Adjustment(endpoint.workload, key, str(error)))
            return
        await self._adjust("demand", Adjustment(endpoint.workload, key, demand=demand.value, at=at))

    async def _adjust(self, verb: str, asked: Adjustment) -> None:
        self._courier.post(await self._store.adjust_unasked(verb, asked))


def _is_due(endpoint: EndpointToAsk, last: datetime | None, now: datetime) -> bool:
    return last is None or now - last >= timedelta(seconds=endpoint.source.every_seconds)
