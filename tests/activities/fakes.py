"""A provider and workflows in memory, which do what a test tells them to, and remember what was asked of them."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from temporalio.testing import ActivityEnvironment

from activities.answers import Notice, Standing
from activities.courier import Courier
from activities.inventory import Inventory
from activities.leasing import Leasing
from activities.metering import Miss, NoDemand
from activities.observing import Observer
from activities.placement import Placement
from activities.ports import (
    Capability,
    ErrorClass,
    Event,
    LaunchSpec,
    NodeView,
    Observation,
    Phase,
    ProviderError,
    ProviderSnapshot,
)
from activities.pulling import Pulling
from activities.store.postgres import PostgresStore
from corral.api import Demand, DemandSource
from domain.pool.leases import LeaseTerms
from tests.activities.store.pool import PROVIDER, HandClock, Pool


@dataclass
class FakeProvider:
    """Runs what it is told at once, keeps to the contract about fencing, and can be made to fail."""

    pool: Pool
    name: str = PROVIDER
    capabilities: Capability = Capability.GANG | Capability.WATCH
    nodes: Sequence[NodeView] = ()
    complete: bool = True
    attempts: dict[str, Observation] = field(default_factory=dict)
    fenced: set[str] = field(default_factory=set)
    notices: dict[str, int] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    failures: list[ProviderError] = field(default_factory=list)
    fails_after_launching: bool = False
    events: list[Event] = field(default_factory=list)
    starts_as: Phase = Phase.RUNNING
    leases: dict[str, datetime] = field(default_factory=dict)
    """The last lease that was sent to each cluster, whether or not it answers."""
    silent: set[str] = field(default_factory=set)
    """Clusters that do not answer."""
    is_silent: bool = False
    """Nothing of it answers."""
    is_stubborn: bool = False
    """Replicas that are not to be there any more do not leave, however long."""
    is_stuck: bool = False
    """Not even by force."""
    sizes: dict[str, int] = field(default_factory=dict)
    """How many replicas each attempt is to have."""
    remaining: dict[str, set[int]] = field(default_factory=dict)
    """The notices for another size by which replicas of an attempt are still to leave."""

    async def snapshot(self) -> ProviderSnapshot:
        return ProviderSnapshot(
            tuple(self.nodes), tuple(self.attempts.values()), self.complete, self.pool.clock.now(), frozenset(self.silent)
        )

    async def watch(self) -> AsyncIterator[Event]:
        for event in self.events:
            yield event

    async def launch(self, order: LaunchSpec) -> Observation:
        self.calls.append(f"launch {order.attempt_id}")
        if self.failures and not self.fails_after_launching:
            raise self.failures.pop()
        if order.attempt_id in self.fenced:
            raise ProviderError(ErrorClass.FENCED, f"{order.attempt_id} was released")
        self.sizes.setdefault(order.attempt_id, len(order.places))
        self.attempts.setdefault(order.attempt_id, self.sees(order.attempt_id, self.starts_as))
        if self.failures:
            raise self.failures.pop()
        return self.attempts[order.attempt_id]

    async def renew(self, leases: Mapping[str, datetime | None]) -> frozenset[str]:
        self.calls.append(f"renew {' '.join(sorted(leases))}")
        if self.is_silent:
            raise ProviderError(ErrorClass.UNAVAILABLE, "no answer")
        self.leases |= {place: until for place, until in leases.items() if until is not None}
        return frozenset(leases.keys() - self.silent)

    async def status(self, attempts: Collection[str]) -> Mapping[str, Observation]:
        return {id: self.attempts[id] for id in attempts if id in self.attempts}

    async def preempt(self, attempt_id: str, epoch: int, *, notice: int, signal: str, grace_seconds: int) -> None:
        self.calls.append(f"preempt {attempt_id} {signal} {grace_seconds}")
        if notice > self.notices.get(attempt_id, 0):
            self.notices[attempt_id] = notice
            self.becomes(attempt_id, Phase.STOPPING)

    async def resize(self, order: LaunchSpec, *, notice: int, at_once: bool = False) -> None:
        self.calls.append(f"resize {order.attempt_id} {len(order.places)}" + (" at once" if at_once else ""))
        if self.failures:
            raise self.failures.pop()
        is_news = notice > self.notices.get(order.attempt_id, 0)
        self.notices[order.attempt_id] = max(notice, self.notices.get(order.attempt_id, 0))
        before = self.sizes.get(order.attempt_id, 0)
        self.sizes[order.attempt_id] = len(order.places) if is_news else before
        leave = not self.is_stubborn or len(order.places) > before
        if (at_once and not self.is_stuck) or (is_news and leave):
            self.is_resized(order.attempt_id, notice)
        elif is_news:
            self.remaining.setdefault(order.attempt_id, set()).add(notice)

    def is_resized(self, attempt_id: str, notice: int) -> Observation:
        """An attempt has the replicas of that notice, and those have left who were to leave by it."""
        remaining = self.remaining.get(attempt_id, set())
        remaining.discard(notice)
        last = max(notice, self.attempts[attempt_id].resized)
        remains = frozenset(each for each in remaining if each < last)
        self.attempts[attempt_id] = replace(self.sees(attempt_id, Phase.RUNNING), resized=last, remains=remains)
        return self.attempts[attempt_id]

    async def keep(self, attempt_id: str, epoch: int, *, notice: int) -> None:
        self.calls.append(f"keep {attempt_id}")
        if notice >= self.notices.get(attempt_id, 0):
            self.notices[attempt_id] = notice
            self.becomes(attempt_id, Phase.RUNNING)

    async def release(self, attempt_id: str, epoch: int) -> None:
        self.calls.append(f"release {attempt_id}")
        self.fenced.add(attempt_id)
        if attempt_id in self.attempts:
            self.becomes(attempt_id, Phase.CANCELLED)

    async def forget(self, attempts: Collection[str]) -> None:
        self.calls.append(f"forget {' '.join(attempts)}")
        for id in attempts:
            self.attempts.pop(id, None)

    async def aclose(self) -> None:
        pass

    def becomes(self, attempt_id: str, phase: Phase) -> Observation:
        """An attempt changes."""
        self.attempts[attempt_id] = self.sees(attempt_id, phase)
        return self.attempts[attempt_id]

    def sees(self, attempt_id: str, phase: Phase) -> Observation:
        before = self.attempts.get(attempt_id)
        now = self.pool.clock.now()
        started = (before.started_at if before else None) or (None if phase is Phase.STARTING else now)
        sequence = before.sequence + 1 if before else 1
        return Observation(attempt_id, int(attempt_id.rsplit(".", 1)[1]), phase, sequence, now, started)


@dataclass
class FakeWorkloads:
    """Workflows that hear everything but what is in `deaf`."""

    told: list[Standing] = field(default_factory=list)
    deaf: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)

    async def tell(self, notice: Notice) -> None:
        if notice.standing.workload in self.deaf:
            raise ConnectionError(f"{notice.standing.workload} does not answer")
        self.told.append(notice.standing)

    async def have_ended(self, ids: Sequence[str]) -> list[str]:
        return [id for id in ids if id in self.ended]


LEASE_SECONDS, GRACE_SECONDS, SKEW_SECONDS, SUSPECT_SECONDS = 100, 10, 5, 30


def asking_nobody(store: PostgresStore) -> Pulling:
    """What asks for demand, before anybody is due."""
    return Pulling(store, Courier(store, FakeWorkloads()), FakeMeter(), HandClock())


@dataclass
class FakeMeter:
    """Knows the demand that it is given by query, and has none for any other."""

    demand: dict[str, float] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    hanging: dict[str, asyncio.Event] = field(default_factory=dict)
    """By their address, servers that do not answer in time, which is over when the event says so."""

    async def ask(self, source: DemandSource) -> Demand:
        self.asked.append(source.query)
        if source.url in self.hanging:
            await self.hanging[source.url].wait()
            raise NoDemand(f"{source.url} did not answer", Miss.TOO_LATE)
        if source.query not in self.demand:
            raise NoDemand(f"nothing answers {source.query}", Miss.NO_NUMBER)
        return Demand(value=self.demand[source.query])


@dataclass
class Crew:
    """The activities of a worker, on a real record and in a made-up world."""

    pool: Pool

    def __post_init__(self) -> None:
        self.provider = FakeProvider(self.pool)
        self.workloads = FakeWorkloads()
        self.courier = Courier(self.pool.store, self.workloads)
        self.meter, self.wall_seconds = FakeMeter(), 0.0
        self.pulling = Pulling(
            self.pool.store, self.courier, self.meter, self.pool.clock, look_seconds=0.01, wall=lambda: self.wall_seconds
        )
        self.observer = Observer(self.pool.store, self.courier)
        providers = {PROVIDER: self.provider}
        self.placement = Placement(self.pool.store, providers, self.observer, self.courier, self.pool.clock)
        terms = LeaseTerms(*(timedelta(seconds=each) for each in (LEASE_SECONDS, GRACE_SECONDS, SKEW_SECONDS, SUSPECT_SECONDS)))
        self.leasing = Leasing(self.pool.store, providers, self.courier, self.pool.clock, terms, renew_seconds=1)
        self.inventory = Inventory(self.pool.store, providers, self.observer, self.placement, self.courier)

    def another(self) -> "Crew":
        """Those of a worker that comes after this one, and finds the world as it is."""
        crew = Crew(self.pool)
        vars(crew.provider).update(vars(self.provider))
        return crew

    async def renews(self, after_seconds: float = 0) -> str:
        """Some time passes, and the leases are renewed; answers what the clusters are, in words."""
        self.pool.clock.move(after_seconds)
        words, _ = await ActivityEnvironment().run(self.leasing.renew, PROVIDER)
        await self.delivered()
        return words

    async def loses(self) -> None:
        """Nothing is heard of the clusters that do not answer until they are lost."""
        await self.renews(SUSPECT_SECONDS + 1)
        await self.renews(LEASE_SECONDS + GRACE_SECONDS + SKEW_SECONDS)

    async def delivered(self) -> None:
        """Until the courier has told what it was given to tell."""
        if self.courier._delivering is not None:
            await self.courier._delivering
