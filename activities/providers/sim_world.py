"""The simulated world in memory: recorded changes and the passing of time, folded into attempts and nodes."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import count

from pydantic import TypeAdapter

from activities.ports import ErrorClass, NodeView, Observation, Phase, ProviderError
from activities.providers.sim_fleet import SimulatedFaults, SimulatedNodePool
from activities.providers.sim_life import Occupied, Run, Timeline, Told, saved_seconds, timeline
from activities.providers.sim_records import Change, Kind
from corral.api import WHOLE

RUN = TypeAdapter(Run)
"""How a launch is written down, in JSON."""

TOLD = TypeAdapter(Told)
"""How what an attempt was told about leaving is written down, in JSON; in older worlds its grace alone."""

FOR_EVER = float("inf")

LEASE_IS_OVER = "the lease of its cluster is over"


@dataclass(frozen=True, slots=True)
class Ordered:
    """An order for nodes that was taken: so many of those asked for will be there at that time."""

    id: str
    node_pool: str
    nodes: int
    comes: int
    ready_at: float

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes that come of it."""
        return tuple(f"{self.id.rpartition('/')[2]}-{index}" for index in range(self.comes))


ORDERED = TypeAdapter(Ordered)
"""How an order is written down, in JSON."""


def as_datetime(seconds: float) -> datetime:
    """The time that many seconds after 1970, in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


@dataclass(slots=True)
class Attempt:
    """A run, its timeline, and how many moments of that have come to pass."""

    run: Run
    life: Timeline
    passed: int = 0

    @property
    def phase(self) -> Phase:
        """The phase that it is in."""
        return self.life[self.passed - 1].phase

    def observe(self, moments: int, now: float) -> Observation:
        """What was seen of it when that many moments had passed."""
        moment = self.life[moments - 1]
        saved = saved_seconds(self.run, self.life, now)
        ran = any(earlier.phase is Phase.RUNNING for earlier in self.life[:moments])
        reached = {earlier.resized for earlier in self.life[:moments]}
        return Observation(
            attempt_id=self.run.attempt_id,
            epoch=self.run.epoch,
            phase=moment.phase,
            sequence=moments,
            at=as_datetime(moment.at),
            started_at=as_datetime(self.run.ready_at) if ran else None,
            exit_code=moment.exit_code,
            reason=moment.reason,
            checkpoint_at=as_datetime(self.run.ready_at + saved) if saved else None,
            resized=max(reached),
            remains=self.run.remains(reached),
        )


def _told(body: str) -> Told:
    return TOLD.validate_json(body) if body.startswith("{") else Told(1, float(body))


class World:
    """Nodes, attempts and a queue of what comes to pass at which time.

    The same changes and the same times give the same world in every process. `events` collects what changed; who reads it
    empties it.
    """

    def __init__(self, nodes: Sequence[NodeView], faults: SimulatedFaults, pools: Sequence[SimulatedNodePool] = ()) -> None:
        self.events: list[Observation | NodeView] = []
        self.sequence = 0
        self.now = 0.0
        self.nodes = {node.name: node for node in nodes}
        self._names = tuple(self.nodes)
        self._faults = faults
        self._cluster_of = {node.name: node.place for node in nodes}
        self.clusters = frozenset({*self._cluster_of.values(), *(pool.view(pool.name).place for pool in pools)})
        self._leases: dict[str, dict[float, float]] = {}
        self._cut: set[str] = set()
        self._withheld: list[Observation | NodeView] = []
        self._pools = {pool.name: pool for pool in pools}
        self._attempts: dict[str, Attempt] = {}
        self._attempts_on: dict[str, set[str]] = {name: set() for name in self.nodes}
        self._used = {node.name: [0] * node.accelerators for node in nodes}
        self._down_until: dict[str, float] = {}
        self.orders: dict[str, Ordered] = {}
        self.abandoned: set[str] = set()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._tie = count()

    def apply(self, changes: Iterable[Change]) -> None:
        """Fold recorded changes in, in their order; leases before them, for they say what has not come to pass."""
        changes = list(changes)
        for change in changes:
            if change.kind is Kind.LEASED:
                self._lease(change.subject, change.at, float(change.body))
        for change in changes:
            self.advance(change.at)
            self.sequence = change.sequence
            self._apply(change)

    def advance(self, now: float) -> None:
        """Let time pass; what comes to pass by then does so in order."""
        if not self.now and self._faults.lost_node:
            self._plan_outages(int(now // self._faults.outage_window_seconds))
        while self._agenda and self._agenda[0][0] <= now:
            at, _, action = heapq.heappop(self._agenda)
            self.now = max(self.now, at)
            action()
        self.now = max(self.now, now)

    @property
    def next_at(self) -> float:
        """When something comes to pass next."""
        return self._agenda[0][0] if self._agenda else FOR_EVER

    def run(self, attempt_id: str) -> Run | None:
        """What is recorded of an attempt."""
        attempt = self._attempts.get(attempt_id)
        return attempt.run if attempt else None

    def is_over(self, attempt_id: str) -> bool:
        """The attempt is known and has ended."""
        attempt = self._attempts.get(attempt_id)
        return attempt is not None and attempt.phase.is_over

    def saved_seconds(self, attempt_id: str) -> float:
        """Seconds of its workload's work that are saved now, by this attempt and those before."""
        attempt = self._attempts[attempt_id]
        return attempt.run.saved_before + saved_seconds(attempt.run, attempt.life, self.now)

    def observe(self, attempt_id: str) -> Observation | None:
        """What is seen of an attempt now, or none when it is not known."""
        attempt = self._attempts.get(attempt_id)
        return self._seen(attempt) if attempt else None

    def observe_all(self) -> tuple[Observation, ...]:
        """What is seen now of all attempts that are not forgotten."""
        return tuple(map(self._seen, self._attempts.values()))

    def _seen(self, attempt: Attempt) -> Observation:
        if self._is_cut_off(attempt.run):
            return Observation(attempt.run.attempt_id, attempt.run.epoch, Phase.UNKNOWN, 0, as_datetime(self.now))
        return attempt.observe(attempt.passed, self.now)

    def _is_cut_off(self, run: Run) -> bool:
        return bool(self._cut) and any(self._cluster_of.get(part.node) in self._cut for part in run.has)

    @property
    def silent(self) -> frozenset[str]:
        """The clusters that do not answer."""
        return frozenset(self._cut)

    def refuse_if_silent(self, attempt_id: str) -> None:
        """Check that an attempt can be reached, if it is known at all.

        Raises:
            ProviderError: `UNAVAILABLE`.
        """
        attempt = self._attempts.get(attempt_id)
        if attempt is not None and self._is_cut_off(attempt.run):
            raise ProviderError(ErrorClass.UNAVAILABLE, f"the cluster of attempt {attempt_id} does not answer")

    def lease_of(self, cluster: str) -> tuple[float, float] | None:
        """From when on and until when a cluster has its last lease, or none if it never had one."""
        return max(self._leases.get(cluster, {}).items(), default=None)

    def refuse_unless_leased(self, wanted: Iterable[Occupied]) -> None:
        """Check that the clusters of the nodes answer, and may run work.

        Raises:
            ProviderError: `UNAVAILABLE`.
        """
        for cluster in sorted({self._cluster_of[part.node] for part in wanted if part.node in self._cluster_of}):
            if cluster in self._cut:
                raise ProviderError(ErrorClass.UNAVAILABLE, f"cluster {cluster} does not answer")
            if (lease := self.lease_of(cluster)) is not None and lease[1] <= self.now:
                raise ProviderError(ErrorClass.UNAVAILABLE, f"cluster {cluster} has no lease in force, and starts nothing")

    def refuse_unless_free(self, wanted: Iterable[Occupied]) -> None:
        """Check that the nodes are there and their devices are not taken.

        Raises:
            ProviderError: `NO_CAPACITY`.
        """
        more: dict[tuple[str, int], int] = {}
        for part in wanted:
            node = self.nodes.get(part.node)
            if node is None or not node.ready:
                raise ProviderError(ErrorClass.NO_CAPACITY, f"node {part.node} is {'lost' if node else 'not known'}")
            for device in part.devices:
                if not 0 <= device < node.accelerators:
                    raise ProviderError(ErrorClass.NO_CAPACITY, f"node {part.node} has no device {device}")
                more[part.node, device] = more.get((part.node, device), 0) + part.milli
        for (name, device), milli in more.items():
            if self._used[name][device] + milli > WHOLE:
                raise ProviderError(ErrorClass.NO_CAPACITY, f"device {device} of node {name} is taken")

    def _apply(self, change: Change) -> None:
        # Another process may have recorded a change just before this one let time pass it: what has passed here stays.
        at = self.now
        match change.kind:
            case Kind.LAUNCHED:
                self._launch(RUN.validate_json(change.body))
            case Kind.NOTICED:
                self._turn(change.subject, lambda run: run.noticed(at, _told(change.body)))
            case Kind.RESIZED:
                self._turn(change.subject, lambda run: run.resized(at, _told(change.body)))
            case Kind.KEPT:
                self._turn(change.subject, lambda run: run.kept(at, _told(change.body)))
            case Kind.RELEASED:
                self._turn(change.subject, lambda run: run.released(at))
            case Kind.FORGOTTEN:
                self._forget(change.subject)
            case Kind.NODE_LOST:
                self._lose(change.subject, FOR_EVER)
            case Kind.NODE_RECOVERED:
                self._recover(change.subject)
            case Kind.CLUSTER_CUT:
                self._cut.add(change.subject)
            case Kind.CLUSTER_JOINED:
                self._join(change.subject)
            case Kind.LEASED:
                pass  # taken in before
            case Kind.ORDERED | Kind.ABANDONED | Kind.NODE_REMOVED:
                self._grow(change)

    def _grow(self, change: Change) -> None:
        match change.kind:
            case Kind.ORDERED:
                self._order(ORDERED.validate_json(change.body))
            case Kind.ABANDONED:
                self.abandoned.add(change.subject)
            case Kind.NODE_REMOVED:
                self._remove(change.subject)

    def has_work(self, name: str) -> bool:
        """An attempt that is not over has a place on the node."""
        return bool(self._attempts_on.get(name))

    def _order(self, ordered: Ordered) -> None:
        self.orders[ordered.id] = ordered
        self._plan(ordered.ready_at, partial(self._deliver, ordered))

    def _deliver(self, ordered: Ordered) -> None:
        pool = self._pools.get(ordered.node_pool)
        if ordered.id in self.abandoned or pool is None:
            return  # the fleet was configured anew and the pool is gone
        for name in ordered.names:
            self.nodes[name] = node = pool.view(name, ordered.id)
            self._cluster_of[name] = node.place
            self._attempts_on[name], self._used[name] = set(), [0] * node.accelerators
            self.events.append(node)

    def _remove(self, name: str) -> None:
        if (node := self.nodes.pop(name, None)) is not None:
            del self._attempts_on[name], self._cluster_of[name]
            self.events.append(replace(node, ready=False))

    def _launch(self, run: Run) -> None:
        self._attempts[run.attempt_id] = Attempt(run, timeline(run))
        self._occupy(run, 1)
        self._unfold(run.attempt_id)

    def _forget(self, attempt_id: str) -> None:
        """Drop an attempt. What ended it may have been forgotten with it before it was read here: it has ended all the same."""
        attempt = self._attempts.pop(attempt_id, None)
        if attempt is not None and not attempt.phase.is_over:
            self._occupy(attempt.run, -1)

    def _turn(self, attempt_id: str, turned: Callable[[Run], Run]) -> None:
        attempt = self._attempts.get(attempt_id)
        if attempt is None or attempt.phase.is_over:
            return
        self._become(attempt, turned(attempt.run))
        attempt.life = timeline(attempt.run)
        self._unfold(attempt_id)

    def _become(self, attempt: Attempt, run: Run) -> None:
        if Counter(run.has) != Counter(attempt.run.has):
            self._occupy(attempt.run, -1)
            self._occupy(run, 1)
        attempt.run = run

    def _unfold(self, attempt_id: str) -> None:
        """Let the moments of an attempt pass whose time has come, and come back for the next."""
        attempt = self._attempts.get(attempt_id)
        if attempt is None:
            return
        while attempt.passed < len(attempt.life) and attempt.life[attempt.passed].at <= self.now:
            attempt.passed += 1
            told = self._withheld if self._is_cut_off(attempt.run) else self.events
            told.append(attempt.observe(attempt.passed, self.now))
            if notice := attempt.life[attempt.passed - 1].resized:
                self._become(attempt, attempt.run.without_those_who_left(notice))
            if attempt.phase.is_over:
                self._occupy(attempt.run, -1)
        if attempt.passed < len(attempt.life):
            self._plan(attempt.life[attempt.passed].at, partial(self._unfold, attempt_id))

    def _occupy(self, run: Run, sign: int) -> None:
        for part in run.has:
            if part.node not in self.nodes:
                continue  # the fleet was configured anew and the node is gone
            for device in part.devices:
                self._used[part.node][device] += sign * part.milli
            change = self._attempts_on[part.node].add if sign > 0 else self._attempts_on[part.node].discard
            change(run.attempt_id)

    def _plan(self, at: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (at, next(self._tie), action))

    def _plan_outages(self, window: int) -> None:
        for index, lost_at, back_at in self._faults.outages(window, len(self._names)):
            name = self._names[index]
            self._plan(lost_at, partial(self._lose, name, back_at))
            self._plan(back_at, partial(self._recover_if_due, name))
        self._plan((window + 1) * self._faults.outage_window_seconds, partial(self._plan_outages, window + 1))

    def _lose(self, name: str, until: float) -> None:
        if name not in self.nodes:
            return
        self._down_until[name] = max(until, self._down_until.get(name, 0.0))
        self._set_ready(name, ready=False)
        for attempt_id in sorted(self._attempts_on[name]):
            self._turn(attempt_id, lambda run: self._without_node(run, name))

    def _without_node(self, run: Run, name: str) -> Run:
        if run.has_only_remnants_on(name):
            return run.without_those_on(self.now, name)
        return run.lost(self.now, f"node {name} was lost")

    def _recover_if_due(self, name: str) -> None:
        if self._down_until.get(name, FOR_EVER) <= self.now:
            self._recover(name)

    def _recover(self, name: str) -> None:
        if name in self.nodes:
            self._down_until.pop(name, None)
            self._set_ready(name, ready=True)

    def _set_ready(self, name: str, *, ready: bool) -> None:
        if self.nodes[name].ready is not ready:
            self.nodes[name] = replace(self.nodes[name], ready=ready)
            (self._withheld if self._cluster_of[name] in self._cut else self.events).append(self.nodes[name])

    def _join(self, cluster: str) -> None:
        """Let a cluster answer again, and tell what came to pass in it meanwhile."""
        self._cut.discard(cluster)
        if not self._cut:
            self.events, self._withheld = [*self.events, *self._withheld], []

    def _lease(self, cluster: str, since: float, until: float) -> None:
        leases = self._leases.setdefault(cluster, {})
        leases[since] = max(until, leases.get(since, until))
        self._plan(until, partial(self._lapse_if_due, cluster, until))

    def _lapse_if_due(self, cluster: str, at: float) -> None:
        """Stop all that runs in a cluster at the end of a lease, unless it was prolonged."""
        if any(since <= at < until for since, until in self._leases[cluster].items()):
            return
        there = [self._attempts_on[name] for name, its in self._cluster_of.items() if its == cluster]
        for attempt_id in sorted(set().union(*there)):
            self._turn(attempt_id, lambda run: run.lost(self.now, LEASE_IS_OVER))
