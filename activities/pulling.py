"""Pulling: asking for the demand of endpoints where their specs say, while rounds are decided."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from activities.answers import Adjustment
from activities.courier import Courier
from activities.metering import EndpointToAsk, Meter, Miss, NoDemand
from activities.ports import Clock, Store

ASKED_AT_ONCE = 4
"""Of one host. Fewer than the threads in which names of hosts are looked up, so that no host can take them all."""
SHORTEST_REST_SECONDS = 5.0
LONGEST_REST_SECONDS = 300.0

log = logging.getLogger(__name__)


@dataclass
class Lane:
    """The way to one host: a few ask at once, and after one that got no answer in time all leave it alone for a while."""

    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ASKED_AT_ONCE))
    rests_until: float = float("-inf")
    rest_seconds: float = 0.0

    def learns(self, miss: Miss | None, now: float) -> None:
        """Whether the host answered in time; if not, it rests twice as long as the last time. Those at once count once."""
        if miss is not Miss.TOO_LATE:
            self.rest_seconds = 0.0
        elif now >= self.rests_until:
            self.rest_seconds = min(max(2 * self.rest_seconds, SHORTEST_REST_SECONDS), LONGEST_REST_SECONDS)
            self.rests_until = now + self.rest_seconds


class Pulling:
    """Asks for demand when it is due, and lets the endpoint follow it as it follows demand that it is told.

    Each endpoint is asked for by itself, and each host in a lane of its own, so that one which is slow delays nobody else.
    When each was last asked for is remembered here alone: another process asks anew, which does no harm.
    """

    def __init__(
        self,
        store: Store,
        courier: Courier,
        meter: Meter,
        clock: Clock,
        *,
        look_seconds: float = 5.0,
        wall: Callable[[], float] = time.monotonic,
    ) -> None:
        """Look so often, and let hosts rest, by seconds of the wall."""
        self._store = store
        self._courier = courier
        self._meter = meter
        self._clock = clock
        self._look_seconds = look_seconds
        self._wall = wall
        self._asked: dict[str, datetime] = {}
        self._lanes: dict[str, Lane] = {}
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self.on_miss: Callable[[Miss], None] = lambda cause: None

    @asynccontextmanager
    async def meanwhile(self) -> AsyncIterator[None]:
        """Ask again and again while the body runs; nothing is asked any more once it is left."""
        looking = asyncio.create_task(self._keep_looking())
        try:
            yield
        finally:
            await _end(looking)
            await _end(*self._under_way.values())

    async def _keep_looking(self) -> None:
        """A look that fails, as when PostgreSQL is away, must not be the last one, nor keep rounds from being decided."""
        while True:
            try:
                await self.look()
            except Exception as error:
                log.warning("could not ask for the demand of endpoints: %s", error or type(error).__name__)
            await asyncio.sleep(self._look_seconds)

    async def look(self) -> None:
        """Begin to ask for the demand of all endpoints that are due and whose host does not rest."""
        now, endpoints = self._clock.now(), await self._store.endpoints_to_ask()
        self._asked = {each.workload: self._asked[each.workload] for each in endpoints if each.workload in self._asked}
        hosts = {_host(each) for each in endpoints}
        self._lanes = {host: self._lanes.get(host) or Lane() for host in hosts}
        for each in endpoints:
            if each.workload not in self._under_way and _is_due(each, self._asked.get(each.workload), now):
                self._begin(each, self._lanes[_host(each)])

    async def settled(self) -> None:
        """Until everybody who is asked for now has an answer, or has none."""
        while self._under_way:
            await asyncio.wait(self._under_way.values())

    def _begin(self, endpoint: EndpointToAsk, lane: Lane) -> None:
        def over(_: object) -> None:
            del self._under_way[endpoint.workload]

        task = asyncio.create_task(self._follow_apart(endpoint, lane))
        self._under_way[endpoint.workload] = task
        task.add_done_callback(over)

    async def _follow_apart(self, endpoint: EndpointToAsk, lane: Lane) -> None:
        """What fails for one endpoint must not keep the others from being asked for."""
        async with lane.slots:
            if self._wall() < lane.rests_until:
                return  # it is due again at the next look
            try:
                await self._follow(endpoint, lane)
            except Exception as error:
                subject = {"workload": endpoint.workload}
                problem = error or type(error).__name__
                log.warning("endpoint %s could not follow demand: %s", endpoint.workload, problem, extra=subject)

    async def _follow(self, endpoint: EndpointToAsk, lane: Lane) -> None:
        at = self._clock.now()
        self._asked[endpoint.workload] = at
        key = f"asked for at {at.isoformat()}"
        try:
            demand = await self._meter.ask(endpoint.source)
        except NoDemand as error:
            self.on_miss(error.cause)
            lane.learns(error.cause, self._wall())
            if str(error) != endpoint.problem:
                await self._adjust("miss-demand", Adjustment(endpoint.workload, key, str(error)))
            return
        lane.learns(None, self._wall())
        await self._adjust("demand", Adjustment(endpoint.workload, key, demand=demand.value, at=at))

    async def _adjust(self, verb: str, asked: Adjustment) -> None:
        self._courier.post(await self._store.adjust_unasked(verb, asked))


async def _end(*tasks: "asyncio.Task[None]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _host(endpoint: EndpointToAsk) -> str:
    return urlsplit(endpoint.source.url).netloc.lower()


def _is_due(endpoint: EndpointToAsk, last: datetime | None, now: datetime) -> bool:
    return last is None or now - last >= timedelta(seconds=endpoint.source.every_seconds)
