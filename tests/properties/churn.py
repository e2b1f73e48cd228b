"""A pool at work: it carries out what its planner decides, and things happen to it between two rounds, as a seed has them."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from random import Random

from corral.api import QueueSpec, SlaTier, State, Target
from corral.policy import QuotaModel
from domain.decision import Plan, Refuse, Start, StartAfter
from domain.pool.fleet import Health, Node, Room
from domain.pool.workload import Active, Waiting, next_attempt
from domain.snapshot import Snapshot
from tests.builders import NOON, a_cohort, a_node, a_queue, a_quota, a_snapshot, a_workload, by_model, follower, ran, seconds
from tests.properties.situations import QUEUES, SKUS

DEVICES = 4


def a_fleet(random: Random) -> list[Node]:
    """Nodes of two SKUs in racks of two."""
    return [
        a_node(
            f"n{index}",
            gpus=DEVICES,
            sku=SKUS[index // 4 % 2],
            topology=(("rack", f"r{index // 2}"),),
            cpu_milli=random.choice((4_000, 8_000)),
        )
        for index in range(random.choice((6, 8)))
    ]


def a_tree(random: Random) -> list[QueueSpec]:
    """Queues that lend to each other, some with caps and limits."""

    def some() -> int | None:
        return random.choice((None, None, random.randrange(6)))

    def a_leaf(name: str) -> QueueSpec:
        owns = {sku: random.randrange(1, 7) for sku in SKUS}
        rows = [
            a_quota(
                own, sku=sku, cap=None if (more := some()) is None else own + more, borrowing_limit=some(), lending_limit=some()
            )
            for sku, own in owns.items()
        ]
        return a_queue(name, quotas=rows, weight=random.randrange(1, 3))

    return a_cohort(*map(a_leaf, QUEUES), quotas=[a_quota(random.randrange(3), sku=sku) for sku in SKUS])


def an_arrival(random: Random, id: str, now: datetime) -> Waiting:
    """Work of some size, gang or elastic or a share of a device."""
    count = random.choice((1, 1, 1, 2, 3))
    return a_workload(
        id,
        queue=random.choice(QUEUES),
        gpus=random.choice((0.5, 1, 1, 2, 4)),
        count=count,
        minimum=random.choice((None, None, 1)),
        cpu_milli=random.choice((0, 500, 1_000)),
        tier=random.choice((SlaTier.PREMIUM, SlaTier.STANDARD, SlaTier.STANDARD, SlaTier.BASIC)),
        priority=random.randrange(3),
        required=random.choice((None, None, None, "rack")),
        targets=random.choice(((), (Target(skus=("h100",)),), (Target(skus=("a100",)), Target(skus=("h100",))))),
        preemptible=random.random() < 0.85,
        submitted_at=now,
    ).waiting()


@dataclass
class PoolAtWork:
    """The pool, what time it is there, and what a snapshot does not say of its past."""

    snapshot: Snapshot
    random: Random
    now: datetime = NOON
    stopped_for: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By workload, those that were stopped for it."""
    here: set[str] = field(default_factory=set)
    """All workloads that have come and have not ended."""
    arrivals: int = 0

    @classmethod
    def of(cls, seed: int, model: QuotaModel) -> "PoolAtWork":
        """An idle pool."""
        random = Random(seed)
        return cls(a_snapshot(a_fleet(random), a_tree(random), policy=by_model(model)), random)

    # What the planner decided

    def carry_out(self, plan: Plan) -> None:
        """Holds and promises stand, and who must leave or change has notice of it."""
        stays = {keep.attempt_id for keep in plan.keeps}
        again = {active.id for active in self.snapshot.active if active.attempt_id in stays}
        active = {
            each.attempt_id: each.staying() if each.attempt_id in stays else each
            for each in self.snapshot.active
            if each.attempt_id in stays or each.id not in again
        }
        waiting = {workload.id: workload for workload in self.snapshot.waiting}
        prices = {node.id: node.price for node in self.snapshot.nodes}
        beneficiaries = {victim: f"{id}.{waiting[id].epoch + 1}" for victim, id in plan.preempts}
        for victim, beneficiary in plan.preempts:
            self.stopped_for[beneficiary].add(active[victim].id)
        for attempt in (*beneficiaries, *(stop.attempt_id for stop in plan.stops)):
            active[attempt] = replace(active[attempt].stopping(), beneficiary=beneficiaries.get(attempt), noticed_at=self.now)
        for reshape in plan.reshapes:
            before = active[reshape.attempt_id]
            active[reshape.attempt_id] = before.stopping()
            after = follower(before, reshape.placement, self.now)
            active[after.attempt_id] = after
        for decision in plan.decisions:
            if isinstance(decision, Start | StartAfter):
                state = State.RESERVED if isinstance(decision, Start) else State.RESERVING
                new = next_attempt(waiting.pop(decision.workload_id), state, decision.placement, prices, self.now)
                active[new.attempt_id] = new
            elif isinstance(decision, Refuse):
                del waiting[decision.workload_id]
                self.here.remove(decision.workload_id)
        over: dict[str, bool | None] = {id: id in plan.over_quota or None for id in self.here | self.snapshot.over_quota.keys()}
        self.snapshot = replace(self.snapshot, over_quota=self.snapshot.over_quota.with_(over))
        self._becomes(active.values(), waiting.values())

    # What happens

    def happen(self) -> None:
        """Some minutes pass: what has its place runs, who had notice leaves, and work and nodes come and go."""
        self.now += seconds(self.random.choice((20, 300, 4_000)))
        self._some_leave()
        self._some_run()
        self._some_end()
        self._some_are_cancelled()
        self._nodes_fail_and_come_back()
        self._some_are_reprioritized()
        self._some_arrive()

    def _some_leave(self) -> None:
        self._lose([each for each in self.snapshot.active if each.preempted and self._by_chance(0.7)])

    def _some_run(self) -> None:
        blocked = {node for each in self.snapshot.active if each.preempted for node in _nodes(each)}
        self._becomes(
            replace(each, state=State.RUNNING, started_at=self.now)
            if each.state is State.RESERVED or (each.state is State.RESERVING and blocked.isdisjoint(_nodes(each)))
            else each
            for each in self.snapshot.active
        )

    def _some_end(self) -> None:
        ended = {each.id for each in self.snapshot.active if each.state is State.RUNNING and self._by_chance(0.08)}
        self._forget(ended)

    def _some_are_cancelled(self) -> None:
        self._forget({id for id in sorted(self.here) if self._by_chance(0.04)})

    def _nodes_fail_and_come_back(self) -> None:
        def after(node: Node) -> Health:
            is_well = self._by_chance(0.97 if node.health is Health.READY else 0.5)
            return Health.READY if is_well else Health.LOST

        nodes = tuple(replace(node, health=after(node)) for node in self.snapshot.nodes)
        self.snapshot = replace(self.snapshot, nodes=nodes)
        lost = {node.id for node in nodes if node.health is Health.LOST}
        gone = {each.id for each in self.snapshot.active if not lost.isdisjoint(_nodes(each))}
        self._lose([each for each in self.snapshot.active if each.id in gone])

    def _some_are_reprioritized(self) -> None:
        def after(workload: Waiting) -> Waiting:
            if not self._by_chance(0.1):
                return workload
            return replace(workload, spec=workload.spec.model_copy(update={"priority": self.random.randrange(3)}))

        self._becomes(self.snapshot.active, map(after, self.snapshot.waiting))

    def _some_arrive(self) -> None:
        new = []
        for _ in range(self.random.randrange(7)):
            self.arrivals += 1
            new.append(an_arrival(self.random, f"w{self.arrivals}", self.now))
        self.here |= {workload.id for workload in new}
        self._becomes(self.snapshot.active, (*self.snapshot.waiting, *new))

    def _by_chance(self, part: float) -> bool:
        return self.random.random() < part

    # What is so then

    def _lose(self, gone: Iterable[Active]) -> None:
        """These attempts are over; whose last one is waits again."""
        last = {each.id: each for each in gone}
        left = {each.attempt_id for each in gone}
        active = [each for each in self.snapshot.active if each.attempt_id not in left]
        elsewhere = {each.id for each in active}
        back = [
            replace(each.back_in_line(), since=self.now, relieved_by=frozenset(self.stopped_for[id]))
            for id, each in last.items()
            if id not in elsewhere
        ]
        self._becomes(active, (*self.snapshot.waiting, *back))

    def _forget(self, ended: set[str]) -> None:
        self.here -= ended
        active = [each for each in self.snapshot.active if each.id not in ended]
        self._becomes(active, (each for each in self.snapshot.waiting if each.id not in ended))

    def _becomes(self, active: Iterable[Active], waiting: Iterable[Waiting] | None = None) -> None:
        """Who has what, and who waits; free is what nobody has or was promised."""
        now_active = tuple(active)
        left = {node.id: node.total for node in self.snapshot.nodes}
        for each in now_active:
            for share in each.placement.shares:
                left[share.node_id] -= share.room
        self.snapshot = replace(
            self.snapshot,
            nodes=tuple(replace(node, free=_not_negative(left[node.id])) for node in self.snapshot.nodes),
            active=now_active,
            waiting=self.snapshot.waiting if waiting is None else tuple(waiting),
            ledger={each.id: (ran(each),) for each in now_active if each.started_at},
        )


def _nodes(active: Active) -> set[str]:
    return {share.node_id for share in active.placement.shares}


def _not_negative(room: Room) -> Room:
    """What is left where several that share it until somebody has left may together have more than there is."""
    return Room(tuple(max(0, milli) for milli in room.devices), max(0, room.cpu_milli), max(0, room.memory_mib))
