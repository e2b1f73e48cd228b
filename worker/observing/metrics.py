"""Metrics for Prometheus, at an address of the worker. Off, nothing of this is loaded."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from activities.metering import Miss
from activities.pulling import Pulling
from activities.store.figures import WAIT_BOUNDS, Amounts, Figures
from activities.store.postgres import PostgresStore
from activities.store.steps import RoundTimes
from worker.observing.meanings import POOL_COUNTERS, POOL_GAUGES, WAITS, WORKER
from worker.settings import Settings, variable
from worker.supervision import CannotStart

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

PREFIX = "corral_"
ANSWER_SECONDS = 5.0
ROUND_BOUNDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

log = logging.getLogger(__name__)


@contextmanager
def measured(settings: Settings, store: PostgresStore, pulling: Pulling) -> Iterator[None]:
    """Have rounds and pulls measured and metrics served until the context is left, if the settings give an address for them.

    Raises:
        CannotStart: the address cannot be listened on.
    """
    if settings.metrics_address is None:
        yield
        return
    from prometheus_client import start_http_server

    registry = registry_of(store, asyncio.get_running_loop())
    pulling.on_miss = miss_counter(registry)
    host, port = settings.metrics_address.rsplit(":", 1)
    try:
        server, _ = start_http_server(int(port), host, registry)
    except OSError as error:
        name = variable("metrics_address")
        raise CannotStart(f"{name}: cannot listen on {settings.metrics_address}: {error}; free it, or set another") from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def registry_of(store: PostgresStore, loop: asyncio.AbstractEventLoop) -> "CollectorRegistry":
    """All metrics; those of the pool are read from the record whenever somebody asks, by the loop that the store lives in."""
    from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry
    from prometheus_client.registry import Collector

    reading = Reading(store.figures)

    def figures() -> Figures:
        return asyncio.run_coroutine_threadsafe(reading.ask(), loop).result(ANSWER_SECONDS + 1)

    class PoolCollector(Collector):
        def describe(self) -> "Iterable[Metric]":
            return families({})

        def collect(self) -> "Iterable[Metric]":
            try:
                told = figures()
            except Exception as error:  # what the worker itself tells must still be told
                log.warning("the record tells no metrics: %s", error or type(error).__name__)
                return [_record_up(0)]
            return [_record_up(1), *families(told)]

    registry = CollectorRegistry()
    registry.register(PoolCollector())
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        registry.register(collector)
    store.on_round = _round_watcher(registry)
    return registry


@dataclass
class Reading:
    """Reads figures for all who ask at the same time; nobody waits longer than an answer may take.

    A reading goes on when nobody waits for it any more: the first one counts all that ever was, and what it has counted the
    next one need not count again.
    """

    read: Callable[[], Coroutine[Any, Any, Figures]]
    _under_way: "asyncio.Task[Figures] | None" = None

    async def ask(self) -> Figures:
        """The figures.

        Raises:
            TimeoutError: they are still being read.
        """
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.create_task(self.read())
        async with asyncio.timeout(ANSWER_SECONDS):
            return await asyncio.shield(self._under_way)


def families(figures: Figures) -> "Iterable[Metric]":
    """The figures of the pool as Prometheus wants them; a figure without amounts is announced nevertheless."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    for name, meaning in POOL_GAUGES.items():
        gauge = GaugeMetricFamily(PREFIX + name, meaning.words, labels=meaning.labels)
        for labels, amount in figures.get(name, {}).items():
            gauge.add_metric(labels, amount)
        yield gauge
    for name, meaning in POOL_COUNTERS.items():
        counter = CounterMetricFamily(PREFIX + name, meaning.words, labels=meaning.labels)
        for labels, amount in figures.get(name, {}).items():
            counter.add_metric(labels, amount)
        yield counter
    yield _waits(figures.get("waits", {}), figures.get("waited_seconds", {}))


def _waits(counts: Amounts, sums: Amounts) -> "Metric":
    from prometheus_client.core import HistogramMetricFamily

    waits = HistogramMetricFamily(PREFIX + "wait_seconds", WAITS.words, labels=WAITS.labels)
    for (tier,), total in sums.items():
        up_to, buckets = 0.0, []
        for index, bound in enumerate((*map(str, WAIT_BOUNDS), "+Inf")):
            up_to += counts.get((tier, str(index)), 0.0)
            buckets.append((bound, up_to))
        waits.add_metric([tier], buckets, total)
    return waits


def _record_up(answered: int) -> "Metric":
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(PREFIX + "record_up", WORKER["record_up"].words, value=answered)


def miss_counter(registry: "CollectorRegistry") -> Callable[[Miss], None]:
    """Counts demand that was asked for in vain; each cause is there from the beginning."""
    from prometheus_client import Counter

    meaning = WORKER["demand_misses"]
    misses = Counter(PREFIX + "demand_misses", meaning.words, meaning.labels, registry=registry)
    for cause in Miss:
        misses.labels(cause)
    return lambda cause: misses.labels(cause).inc()


def _round_watcher(registry: "CollectorRegistry") -> Callable[[RoundTimes], None]:
    from prometheus_client import Counter, Histogram

    def histogram(name: str) -> Histogram:
        meaning = WORKER[name]
        return Histogram(PREFIX + name, meaning.words, meaning.labels, registry=registry, buckets=ROUND_BOUNDS)

    durations, steps = histogram("round_duration_seconds"), histogram("round_step_seconds")
    meaning = WORKER["round_conflicts"]
    conflicts = Counter(PREFIX + "round_conflicts", meaning.words, meaning.labels, registry=registry)

    def watch(times: RoundTimes) -> None:
        durations.labels(times.trigger).observe(times.seconds)
        conflicts.labels(times.trigger).inc(times.tries - 1)
        for step, milliseconds in times.milliseconds.items():
            steps.labels(step).observe(milliseconds / 1000)

    return watch
