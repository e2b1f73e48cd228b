"""Who is stopped for whom, held against an oracle that tries every set of victims (quota model `ranked`)."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import cached_property
from itertools import combinations
from random import Random
from typing import Any

import pytest

from corral.api import WHOLE, Checkpoint, QueueSpec, SlaTier, State, WorkloadTerms
from corral.policy import Disruption, DisruptionBudget, Exactness, Limits, Policy, Rank, TierPolicy
from domain.decision import Start, StartAfter
from domain.pool.fleet import Node, NodeShare, Placement, Replica, Room
from domain.pool.workload import Active
from domain.quota.disruption_budgets import ForcedStop
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.builders import NOON, AWorkload, a_node, a_queue, a_snapshot, a_workload, seconds

WORLDS = 50
"""Worlds of each seed."""

GPUS = 4
"""Of each node."""

TIERS = (SlaTier.BASIC, SlaTier.STANDARD, SlaTier.PREMIUM)
"""From the weakest."""

PARENTS = {"a": "left", "b": "left", "c": "right", "left": "root", "right": "root", "root": None}
LEAVES = ("a", "b", "c")
CHILDREN = {name: [child for child, parent in PARENTS.items() if parent == name] for name in PARENTS}


def path(queue: str | None) -> list[str]:
    """The queue and all above it."""
    return [] if queue is None else [queue, *path(PARENTS[queue])]


def size(spec: WorkloadTerms) -> int:
    (group,) = spec.groups
    return group.count * group.milli // WHOLE


# Worlds


@dataclass(frozen=True)
class Contest:
    """One workload that waits, those that run, and what limits them."""

    fleet: list[Node]
    queues: dict[str, QueueSpec]
    running: list[Active]
    waiting: AWorkload
    policy: Policy
    stops: list[ForcedStop]
    relieved_by: frozenset[str]
    """Who was stopped for the workload before."""

    @property
    def snapshot(self) -> Snapshot:
        queues = list(self.queues.values())
        whole = a_snapshot(self.fleet, queues, *self.running, self.waiting, policy=self.policy, stops=self.stops)
        return replace(whole, waiting=[replace(each, relieved_by=self.relieved_by) for each in whole.waiting])


class Kind(Enum):
    """What a contest is about."""

    EXACT = auto()
    """Anything, and the least is always found."""
    GREEDY = auto()
    """Anything, and the greedy pass decides."""
    PLAIN = auto()
    """The same where that is exact: all have one accelerator of one node, and no budget binds."""


def contests(random: Random, kind: Kind) -> Iterator[Contest]:
    """Contests of a kind in which the workload finds no room, and would if nobody else were there."""
    found = 0
    while found < WORLDS:
        contest = a_contest(random, kind)
        oracle, all_of_them = Oracle(contest), contest.running
        if oracle.has_quota([]) and not (oracle.has_room(all_of_them) and oracle.has_quota(all_of_them)):
            found += 1
            yield contest


def a_contest(random: Random, kind: Kind) -> Contest:
    is_plain = kind is Kind.PLAIN
    fleet = [a_node(f"n{index}", gpus=GPUS) for index in range(1 if is_plain else random.randint(1, 2))]
    free = {node.id: list(range(GPUS)) for node in fleet}
    often, is_one = random.choice(((*LEAVES, "a"), ("a",), ("a", "a", "b"))), (1,) if is_plain else (1, 1, 2)
    runners = (a_runner(f"r{index}", free, often, is_one, random) for index in range(random.randint(5, 9)))
    running = [each for each in runners if each]
    waiting = a_workload(
        "w",
        queue=random.choice((*often, "a")),
        gpus=random.choice((1, 2, 2)),
        count=1 if is_plain else random.choice((1, 1, 2)),
        tier=random.choice((SlaTier.STANDARD, SlaTier.STANDARD, SlaTier.PREMIUM)),
        priority=random.randint(0, 2),
        preemptible=random.random() < 0.9,
        submitted_at=NOON - seconds(random.choice((10, 10_000))),
    )
    earlier = ForcedStop("x.1", "x", "a", SlaTier.BASIC, NOON - seconds(random.choice((60, 4_000))))
    relieved_by = frozenset(each.id for each in running if random.random() < 0.05)
    policy = a_policy(random, kind)
    return Contest(fleet, a_tree(random), running, waiting, policy, [earlier], relieved_by)


def a_tree(random: Random) -> dict[str, QueueSpec]:
    def a_limit(low: int, high: int) -> int | None:
        return random.randint(low, high) if random.random() < 0.15 else None

    tree = {}
    for name, parent in PARENTS.items():
        nominal = random.randint(2, 8) if name in LEAVES else random.choice((0, 0, 0, 2))
        limits: dict[str, Any] = {"cap": a_limit(nominal, nominal + 4), "floor": a_limit(0, nominal) or 0}
        limits |= {"lending_limit": a_limit(0, 3), "borrowing_limit": a_limit(0, 3) if parent else None}
        tree[name] = a_queue(name, nominal, parent=parent, minimum_runtime_seconds=random.choice((*[0] * 6, 1_500)), **limits)
    return tree


def a_runner(id: str, free: dict[str, list[int]], queues: Sequence[str], sizes: Sequence[int], random: Random) -> Active | None:
    """Replicas on devices that nobody has, or nobody where there are too few."""
    width, count = random.choice(sizes), random.choice(sizes)
    work = a_workload(
        id,
        queue=random.choice(queues),
        gpus=width,
        count=count,
        tier=random.choice((*TIERS, SlaTier.STANDARD)),
        priority=random.randint(0, 1),
        preemptible=random.random() < 0.9,
        checkpoint=Checkpoint(grace_seconds=random.choice((0, 30, 120))),
    )
    began, shares = NOON - seconds(random.choice((100, 700, 1_200, 2_000, 3_000))), list[NodeShare]()
    for index in range(count):
        homes = [node for node, devices in free.items() if len(devices) >= width and node not in {s.node_id for s in shares}]
        if not homes:
            break
        home = random.choice(homes)
        taken, free[home] = tuple(free[home][:width]), free[home][width:]
        room = Room(tuple(WHOLE * (device in taken) for device in range(GPUS)), 0, 0)
        shares.append(NodeShare(home, room, (Replica("main", index, taken),)))
    if len(shares) < count:
        return None
    fields: dict[str, Any] = {"held_at": began, "preemptions": random.choice((*[0] * 9, 5))}
    if random.random() < 0.95:
        fields |= {"started_at": began, "checkpoint_at": random.choice((None, None, NOON - seconds(50)))}
    else:
        fields |= {"state": State.RESERVING, "started_at": None}
    placement = Placement("aws", "eu-west", "h100", tuple(sorted(shares, key=lambda share: share.node_id)))
    return replace(work.on((a_node("n0"), 0)), placement=placement, **fields)


def a_policy(random: Random, kind: Kind) -> Policy:
    """Promises, minimum runtimes and perhaps a budget; work is stopped or left alone."""
    tiers = {
        tier: TierPolicy(guarantee=random.choice((0, most)), minimum_runtime_seconds=random.choice((0, 0, 0, 800)))
        for tier, most in zip(TIERS, (0, 0.7, 0.95), strict=True)
    }
    queue, tier, stops = random.choice((None, "a", "left")), random.choice((None, SlaTier.BASIC)), random.randint(0, 2)
    has_budget = kind is not Kind.PLAIN and random.random() < 0.3
    budgets = (DisruptionBudget(queue=queue, tier=tier, stops=stops),) if has_budget else ()
    exact = Exactness(work=5) if kind is Kind.EXACT else Exactness(nodes=0)
    disruption = Disruption(shrink=False, migrate=False, exact=exact)
    limits = Limits(disruption_budgets=budgets, failure_domain=None)
    return Policy(rank=Rank(disruption=disruption, tiers=tiers), limits=limits)


# The oracle: the formulas of quota, of promises and of the order of victims, and every set of victims


class Oracle:
    """What may be done in a contest; accelerators are whole ones here."""

    def __init__(self, contest: Contest) -> None:
        self.contest, self.me = contest, contest.waiting.spec
        self.quota = {name: queue.quotas[0] for name, queue in contest.queues.items()}

    def plans(self) -> Iterator[tuple[Active, ...]]:
        """Every set of victims, or nobody, with which the workload starts and which may be stopped together."""
        may = [active for active in self.contest.running if self.may_be_stopped(active)]
        for number in range(len(may) + 1):
            for victims in combinations(may, number):
                left = [active for active in self.contest.running if active not in victims]
                if self.has_room(left) and self.has_quota(left) and self.may_all_be_stopped(victims):
                    yield victims

    def price(self, victims: Iterable[Active]) -> list[tuple[tuple[int, bool, int], int]]:
        """What they lose by tier, by whether they are of the own queue, and by priority; the highest first."""
        levels: dict[tuple[int, bool, int], int] = defaultdict(int)
        for victim in victims:
            spec = victim.spec
            levels[TIERS.index(self.runs_as(victim)), spec.queue == self.me.queue, spec.priority] += self.cost(victim)
        return sorted(levels.items(), reverse=True)

    # Room and quota

    def has_room(self, left: Iterable[Active]) -> bool:
        free = {node.id: GPUS for node in self.contest.fleet}
        for active in left:
            for share in active.placement.shares:
                free[share.node_id] -= share.room.whole_devices
        (group,) = self.me.groups
        return sum(room // (group.milli // WHOLE) for room in free.values()) >= group.count

    def has_quota(self, left: Sequence[Active]) -> bool:
        need, use = size(self.me), self.use_of(left)
        fixed = self.use_of(active for active in left if not active.spec.preemptible)
        for node in path(self.me.queue):
            cap = self.quota[node].cap
            if cap is not None and self.total(node, use) + need > cap:
                return False
            if not self.me.preemptible and self.total(node, fixed) + need > self.nominal_below(node):
                return False
        return need <= self.available(self.me.queue, use)

    def use_of(self, actives: Iterable[Active]) -> dict[str, int]:
        use = dict.fromkeys(PARENTS, 0)
        for active in actives:
            use[active.spec.queue] += size(active.spec)
        return use

    def total(self, node: str, use: dict[str, int]) -> int:
        return use[node] + sum(self.total(child, use) for child in CHILDREN[node])

    def nominal_below(self, node: str) -> int:
        return self.quota[node].nominal + sum(map(self.nominal_below, CHILDREN[node]))

    def subtree(self, node: str) -> int:
        return self.quota[node].nominal + sum(self.subtree(child) - self.kept(child) for child in CHILDREN[node])

    def kept(self, node: str) -> int:
        """What the node lends to nobody."""
        quota = self.quota[node]
        return max(quota.floor, 0 if quota.lending_limit is None else self.subtree(node) - quota.lending_limit)

    def charged(self, node: str, use: dict[str, int]) -> int:
        """Use of the node, and of what is below it as far as that is more than is kept there."""
        return use[node] + sum(max(0, self.charged(child, use) - self.kept(child)) for child in CHILDREN[node])

    def available(self, node: str, use: dict[str, int]) -> int:
        charged, kept, parent = self.charged(node, use), self.kept(node), PARENTS[node]
        if parent is None:
            return self.subtree(node) - charged
        borrowed, limit = max(0, charged - kept), self.quota[node].borrowing_limit
        above = self.available(parent, use)
        if limit is not None:
            above = min(above, self.subtree(node) - kept - borrowed + limit)
        return max(0, kept - charged) + above

    # Who may be stopped

    def may_be_stopped(self, active: Active) -> bool:
        spec, policy = active.spec, self.contest.policy
        if (
            active.id in self.contest.relieved_by
            or not spec.preemptible
            or active.started_at is None
            or active.preemptions >= policy.limits.maximum_preemptions
        ):
            return False
        ran = (NOON - active.started_at).total_seconds()
        if ran < max(policy.rank.tiers[spec.tier].minimum_runtime_seconds, self.minimum_runtime(spec.queue)):
            return False
        if spec.queue == self.me.queue and self.rank(spec) >= self.rank(self.me):
            return False
        if spec.queue != self.me.queue and active.id in self.covered:
            return False
        promise = policy.rank.tiers[self.runs_as(active)].guarantee
        is_lower = TIERS.index(self.runs_as(active)) < TIERS.index(self.runs_as(self.contest.waiting))
        return not promise or is_lower or size(spec) * ran * (1 - promise) + 1e-6 >= self.cost(active)

    def may_all_be_stopped(self, victims: Sequence[Active]) -> bool:
        """Others lose only what they borrow, to who lives on what it owns; and no budget is exceeded."""
        lost: dict[str, list[int]] = defaultdict(list)
        for victim in victims:
            lost[victim.spec.queue].append(size(victim.spec))
        use, own = self.use_of(self.contest.running), sum(lost.pop(self.me.queue, ()))
        if lost and use[self.me.queue] - own + size(self.me) > self.quota[self.me.queue].nominal:
            return False
        if any(use[queue] - sum(each) + max(each) <= self.quota[queue].nominal for queue, each in lost.items()):
            return False
        return all(self.is_within(budget, victims) for budget in self.contest.policy.limits.disruption_budgets)

    def is_within(self, budget: DisruptionBudget, victims: Iterable[Active]) -> bool:
        def concerns(queue: str, tier: SlaTier) -> bool:
            return budget.queue in {None, *path(queue)} and budget.tier in {None, tier}

        recent = (stop for stop in self.contest.stops if stop.at > NOON - seconds(budget.period_seconds))
        before = sum(concerns(stop.queue, stop.tier) for stop in recent)
        now = sum(concerns(victim.spec.queue, victim.spec.tier) for victim in victims)
        return not now or before + now <= budget.stops

    @cached_property
    def covered(self) -> set[str]:
        """Workloads that the nominal quota of their queues covers, by tier, priority and age."""
        demands = [(active.spec, active.id, active.submitted_at) for active in self.contest.running]
        demands.append((self.me, self.contest.waiting.id, self.contest.waiting.submitted_at))
        left, found = {name: quota.nominal for name, quota in self.quota.items()}, set()
        for spec, id, _ in sorted(demands, key=lambda each: (*(-rank for rank in self.rank(each[0])), each[2], each[1])):
            if size(spec) <= left[spec.queue]:
                left[spec.queue] -= size(spec)
                found.add(id)
        return found

    def runs_as(self, demand: Active | AWorkload) -> SlaTier:
        return demand.spec.tier if demand.id in self.covered else SlaTier.BASIC

    def rank(self, spec: WorkloadTerms) -> tuple[int, int]:
        return TIERS.index(spec.tier), spec.priority

    def minimum_runtime(self, victim: str) -> int:
        """That of the victim's queue towards its own; towards others that just below where their paths meet, or above."""
        mine, shared = path(victim), set(path(self.me.queue))
        apart = [name for name in mine if name not in shared]
        asked = mine if victim == self.me.queue else [apart[-1], *mine[len(apart) :]]
        return next(filter(None, (self.contest.queues[name].minimum_runtime_seconds for name in asked)), 0)

    def cost(self, active: Active) -> int:
        """Accelerator-seconds that are lost by stopping it: since it was saved, its grace, and until it runs again."""
        saved = max(each for each in (active.started_at, active.checkpoint_at) if each is not None)
        rank, grace = self.contest.policy.rank, active.spec.checkpoint.grace_seconds
        lost = int((NOON - saved).total_seconds())
        return size(active.spec) * (lost + grace + rank.restart_seconds + rank.requeue_seconds)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", Kind)
def test_the_least_that_may_be_stopped_is_stopped_and_nobody_where_that_helps_nobody(kind: Kind, seed: int) -> None:
    for contest in contests(Random(seed), kind):
        check(contest, kind)


def check(contest: Contest, kind: Kind) -> None:
    oracle = Oracle(contest)
    plans = sorted(oracle.plans(), key=oracle.price)
    (decision,) = schedule(contest.snapshot, NOON).decisions
    if not isinstance(decision, StartAfter):
        assert not isinstance(decision, Start)
        assert not plans or kind is Kind.GREEDY
        return
    victims = tuple(active for active in contest.running if active.attempt_id in decision.victims)
    assert victims in plans
    assert not any(names_of(fewer) < names_of(victims) for fewer in plans)
    if kind is not Kind.GREEDY:
        assert oracle.price(victims) == oracle.price(plans[0])


def names_of(victims: Iterable[Active]) -> set[str]:
    return {victim.id for victim in victims}
