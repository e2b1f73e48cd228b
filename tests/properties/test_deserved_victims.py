"""Who is stopped for one who waits by KAI's rules, held against a plain statement of them that knows only what is deserved."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations
from random import Random

import pytest

from corral.api import QueueSpec, SlaTier
from corral.policy import Deserved, Policy, QuotaModel, Rank, TierPolicy
from domain.decision import Plan, Start
from domain.pool.fleet import Node
from domain.pool.workload import Active
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.builders import NOON, AWorkload, a_node, a_queue, a_snapshot, a_workload, seconds
from tests.conformance.running import settled
from tests.properties.test_victims import GPUS, LEAVES, PARENTS, TIERS, a_runner, path, size

WORLDS = 60
"""Worlds of each seed."""

GAP = 2
"""By how much priorities must differ within a queue."""

POLICY = Policy(
    rank=Rank(
        quota_model=QuotaModel.DESERVED,
        deserved=Deserved(priority_gap=GAP),
        tiers={tier: TierPolicy(guarantee=0, minimum_runtime_seconds=0) for tier in SlaTier},
    )
)


@dataclass(frozen=True)
class Contest:
    """One workload that waits, and those that run on full nodes."""

    fleet: list[Node]
    queues: dict[str, QueueSpec]
    running: list[Active]
    waiting: AWorkload

    @property
    def snapshot(self) -> Snapshot:
        return a_snapshot(self.fleet, list(self.queues.values()), *self.running, self.waiting, policy=POLICY)


def contests(random: Random, leaves: Sequence[str], nodes: int) -> Iterator[Contest]:
    """Contests between work of these queues in which there is no room as it is, and would be on empty nodes."""
    found = 0
    while found < WORLDS:
        contest = a_contest(random, leaves, nodes)
        rules = Rules(contest)
        if rules.keeps_caps(()) and not rules.has_room(contest.running) and rules.has_room(()):
            found += 1
            yield contest


def a_contest(random: Random, leaves: Sequence[str], nodes: int) -> Contest:
    fleet = [a_node(f"n{at}", gpus=GPUS) for at in range(nodes)]
    free = {node.id: list(range(GPUS)) for node in fleet}
    runners = (a_runner(f"r{at}", free, leaves, (1, 1, 2), random) for at in range(4 * nodes))
    running = [replace(each, submitted_at=NOON - seconds(random.randint(0, 9))) for each in runners if each is not None]
    queues = dict[str, QueueSpec]()
    for name, parent in PARENTS.items():
        nominal = random.randint(0, 4) if name in LEAVES else random.choice((None, None, random.randint(0, 6)))
        cap = None if nominal is None or random.random() < 0.9 else nominal + random.randint(0, 4)
        row = a_queue(name, nominal, parent=parent, cap=cap) if nominal is not None else a_queue(name, parent=parent)
        queues[name] = row.model_copy(update={"over_quota_weight": random.randint(0, 2), "priority": random.randint(0, 1)})
    waiting = a_workload(
        "w",
        queue=random.choice(leaves),
        gpus=random.choice((1, 1, 2)),
        count=random.choice((1, 1, 2)),
        tier=random.choice((SlaTier.STANDARD, SlaTier.PREMIUM)),
        priority=random.randint(0, 3),
        preemptible=random.random() < 0.8,
        submitted_at=NOON - seconds(random.randint(0, 9)),
    )
    return Contest(fleet, queues, running, waiting)


class Rules:
    """What may be done in a contest; accelerators are whole ones here, and what has no row deserves everything."""

    def __init__(self, contest: Contest) -> None:
        self.contest, self.me = contest, contest.waiting.spec

    def deserves(self, node: str) -> float:
        rows = self.contest.queues[node].quotas
        return rows[0].nominal if rows else float("inf")

    def use(self, node: str, gone: Iterable[Active] = (), *, firm: bool = False) -> int:
        ids = {each.id for each in gone}
        left = (each.spec for each in self.contest.running if each.id not in ids)
        return sum(size(spec) for spec in left if node in path(spec.queue) and not (firm and spec.preemptible))

    def keeps_caps(self, gone: Iterable[Active]) -> bool:
        gone, caps = list(gone), {name: spec.quotas[0].cap for name, spec in self.contest.queues.items() if spec.quotas}
        need, mine = size(self.me), path(self.me.queue)
        if not self.me.preemptible and any(self.use(n, gone, firm=True) + need > self.deserves(n) for n in mine):
            return False
        return all(cap is None or self.use(n, gone) + need <= cap for n in mine if (cap := caps.get(n)) is not None)

    def has_room(self, left: Iterable[Active]) -> bool:
        free = {node.id: GPUS for node in self.contest.fleet}
        for active in left:
            for share in active.placement.shares:
                free[share.node_id] -= share.room.whole_devices
        assert min(free.values()) >= 0
        (group,) = self.me.groups
        return sum(room // (size(self.me) // group.count) for room in free.values()) >= group.count

    def parting(self, active: Active) -> tuple[str, str]:
        """The nodes next to each other in the tree under which the workload and a victim are."""
        mine, its = path(self.me.queue), path(active.spec.queue)
        return next(each for each in zip(reversed(mine), reversed(its), strict=False) if each[0] != each[1])

    def may_be_stopped(self, active: Active) -> bool:
        """Work of another queue wherever there is more than is deserved; lower work of the own."""
        if not active.spec.preemptible or active.started_at is None or active.preemptions >= 5:
            return False
        if active.spec.queue != self.me.queue:
            _, its = self.parting(active)
            return self.use(its) > self.deserves(its)
        theirs, mine = (TIERS.index(spec.tier) for spec in (active.spec, self.me))
        return theirs < mine or (theirs == mine and active.spec.priority <= self.me.priority - GAP)

    def may_leave_together(self, victims: Sequence[Active]) -> bool:
        """Not both of the own queue and of others; and others in an order in which each has more than it deserves."""
        others = [each for each in victims if each.spec.queue != self.me.queue]
        if others and len(others) < len(victims):
            return False
        return not others or any(map(self.is_in_order, permutations(others)))

    def is_in_order(self, victims: Sequence[Active]) -> bool:
        pairs = ((self.parting(victim)[1], victims[:at]) for at, victim in enumerate(victims))
        return all(self.use(its, gone) > self.deserves(its) for its, gone in pairs)

    def owns_it(self) -> bool:
        """Whether the workload is within what its queue and all above it deserve."""
        return all(self.use(node) + size(self.me) <= self.deserves(node) for node in path(self.me.queue))

    def plans(self) -> Iterator[tuple[Active, ...]]:
        """Sets of victims that the rules allow whatever shares are fair, with which the workload starts."""
        may = [active for active in self.contest.running if self.may_be_stopped(active)]
        for number in range(1, len(may) + 1):
            for victims in combinations(may, number):
                left = [active for active in self.contest.running if active not in victims]
                of_others = any(each.spec.queue != self.me.queue for each in victims)
                is_certain = self.owns_it() or not of_others
                if is_certain and self.has_room(left) and self.keeps_caps(victims) and self.may_leave_together(victims):
                    yield victims


def leaving(plan: Plan, contest: Contest) -> tuple[list[Active], list[Active]]:
    """Who is stopped, and everybody else as they are afterwards."""
    gone = {victim for victim, _ in plan.preempts} | {stop.attempt_id for stop in plan.stops}
    shapes = {reshape.attempt_id: reshape.placement for reshape in plan.reshapes}
    stay = [replace(each, placement=shapes.get(each.attempt_id, each.placement)) for each in contest.running]
    return [each for each in contest.running if each.attempt_id in gone], [s for s in stay if s.attempt_id not in gone]


SIZES = [(("a",), 1), (("a",), 2), (LEAVES, 1), (LEAVES, 2)]
"""Whose work there is, and on how many nodes."""


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("leaves", "nodes"), SIZES)
def test_who_is_stopped_may_be_and_is_needed_and_nobody_waits_in_vain(leaves: Sequence[str], nodes: int, seed: int) -> None:
    stopped = 0
    for contest in contests(Random(seed), leaves, nodes):
        rules, plan = Rules(contest), schedule(contest.snapshot, NOON)
        victims, stay = leaving(plan, contest)
        assert not any(isinstance(each, Start) for each in plan.decisions)
        if not victims:
            assert plan.reshapes or nodes > 1 or not any(rules.plans())
            continue
        stopped += 1
        assert all(map(rules.may_be_stopped, victims))
        assert rules.keeps_caps(victims)
        assert rules.has_room(stay)
        assert rules.may_leave_together(victims)
        for spared in victims:
            others = [each for each in victims if each is not spared]
            assert not rules.keeps_caps(others) or not is_beside(spared, stay) or not rules.has_room([*stay, spared])
    assert stopped


def is_beside(active: Active, others: Iterable[Active]) -> bool:
    """Whether all that it has is left to it by these."""
    its = {share.node_id: share.room.whole_devices for share in active.placement.shares}
    taken = dict.fromkeys(its, 0)
    for share in (share for each in others for share in each.placement.shares if share.node_id in taken):
        taken[share.node_id] += share.room.whole_devices
    return all(taken[node] + its[node] <= GPUS for node in its)


@pytest.mark.parametrize("seed", range(2))
def test_whom_others_left_for_starts_and_is_not_stopped_for_them(seed: int) -> None:
    for contest in contests(Random(seed), LEAVES, 2):
        plan = schedule(contest.snapshot, NOON)
        if not plan.preempts:
            continue
        after = settled(contest.snapshot, plan, NOON)
        assert contest.waiting.id in {active.id for active in after.active}
        again = schedule(after, NOON + seconds(1))
        assert not [victim for victim, _ in again.preempts if victim.startswith("w.")]
