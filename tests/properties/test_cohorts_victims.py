"""Who is stopped for whom by Kueue's rules of classical preemption, held against a plain statement of them.

The statement tries every set of victims and every order in which they may leave; it knows only the formulas of quota.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations, permutations
from random import Random
from typing import Any

import pytest

from corral.api import BorrowWithinCohort, QueuePreemption, Reclaim, WithinQueue
from corral.policy import Policy, QuotaModel
from domain.decision import Start, StartAfter
from domain.pool.workload import Active
from domain.round import schedule
from tests.builders import NOON, a_node, a_preemption, a_queue, seconds
from tests.properties.situations import settled
from tests.properties.test_victims import GPUS, LEAVES, Contest, Kind, Oracle, a_contest, path, size

WORLDS = 60
"""Worlds of each seed."""

MOST_VICTIMS = 5
"""Of whom every order is tried."""


def contests(random: Random, *, is_wide: bool) -> Iterator[Contest]:
    """Contests by Kueue's rules of work that does not start as it is; in wide ones nodes have room for everybody."""
    found = 0
    while found < WORLDS:
        contest = by_kueues_rules(a_contest(random, Kind.EXACT), random)
        if is_wide:
            contest = replace(contest, fleet=[*contest.fleet, *(a_node(f"wide{at}", gpus=GPUS) for at in range(2))])
        rules = Rules(contest)
        if rules.has_quota([]) and not rules.fits(()):
            found += 1
            yield contest


def by_kueues_rules(contest: Contest, random: Random) -> Contest:
    def preemption() -> QueuePreemption:
        return QueuePreemption(
            within_queue=random.choice(list(WithinQueue)),
            reclaim_within_cohort=random.choice(list(Reclaim)),
            borrow_within_cohort=BorrowWithinCohort(
                policy=random.choice(("never", "lower-priority")), maximum_priority=random.choice((None, None, 0))
            ),
        )

    def a_queue_of(name: str) -> dict[str, Any]:
        return {"preemption": preemption()} if name in LEAVES else {}

    queues = {name: spec.model_copy(update=a_queue_of(name)) for name, spec in contest.queues.items()}
    if random.random() < 0.5:
        contest, allowed = of_a_guest(contest), a_preemption(reclaim="any", borrow=random.choice((None, 0)))
        poor = a_queue("c", random.randint(0, 2), parent="right")
        queues["c"] = random.choice((queues["c"], poor)).model_copy(update={"preemption": allowed})
    rank = contest.policy.rank.model_copy(update={"quota_model": QuotaModel.COHORTS})
    policy = Policy(rank=rank, limits=contest.policy.limits)
    running = [replace(each, held_at=NOON - seconds(random.choice((100, 200, 300)))) for each in contest.running]
    waiting = replace(contest.waiting, submitted_at=NOON - seconds(random.randint(0, 3)))
    running = [replace(each, submitted_at=NOON - seconds(random.randint(0, 3))) for each in running]
    return replace(contest, queues=queues, policy=policy, running=running, waiting=waiting)


def of_a_guest(contest: Contest) -> Contest:
    """The same where it waits in a queue in which hardly anybody runs."""
    spec = contest.waiting.spec
    return replace(contest, waiting=replace(contest.waiting, spec=spec.model_copy(update={"queue": "c"})))


@dataclass(frozen=True)
class Right:
    """By what right somebody of another queue may be stopped: which queues must borrow until then, and in the order when."""

    chain: tuple[str, ...]
    is_older: bool
    """The workload is nearer to the quota in the tree."""
    even_borrowing: bool


class Rules(Oracle):
    """Kueue's rules of who may be stopped, by what right and in what order."""

    @property
    def may(self) -> QueuePreemption:
        found = self.contest.queues[self.me.queue].preemption
        assert found is not None
        return found

    def fits(self, victims: Sequence[Active]) -> bool:
        left = [each for each in self.contest.running if each not in victims]
        return self.has_room(left) and self.has_quota(left)

    def borrows(self, node: str, victims: Iterable[Active], more: int = 0) -> bool:
        gone = {victim.id for victim in victims}
        use = self.use_of(each for each in self.contest.running if each.id not in gone)
        return self.charged(node, use) + more > self.subtree(node)

    def is_lower(self, active: Active) -> bool:
        return self.rank(active.spec) < self.rank(self.me)

    def may_be_stopped(self, active: Active) -> bool:
        """What the queue's policy says of the victim alone, and what protects work in every model."""
        spec, is_own = active.spec, active.spec.queue == self.me.queue
        is_newer = self.rank(spec) == self.rank(self.me) and active.submitted_at > self.contest.waiting.submitted_at
        if is_own:
            allowed = {
                WithinQueue.NEVER: False,
                WithinQueue.LOWER_PRIORITY: self.is_lower(active),
                WithinQueue.LOWER_OR_NEWER_EQUAL_PRIORITY: self.is_lower(active) or is_newer,
            }[self.may.within_queue]
        else:
            allowed = {Reclaim.NEVER: False, Reclaim.LOWER_PRIORITY: self.is_lower(active), Reclaim.ANY: True}[
                self.may.reclaim_within_cohort
            ]
            allowed = allowed and all(self.borrows(node, ()) for node in self.right(active).chain)
        return allowed and self.is_unprotected(active)

    def is_unprotected(self, active: Active) -> bool:
        spec, policy = active.spec, self.contest.policy
        if active.id in self.contest.relieved_by or not spec.preemptible or active.started_at is None:
            return False
        ran = (NOON - active.started_at).total_seconds()
        least = max(policy.rank.tiers[spec.tier].minimum_runtime_seconds, self.minimum_runtime(spec.queue))
        if active.preemptions >= policy.limits.maximum_preemptions or ran < least:
            return False
        promise = policy.rank.tiers[self.runs_as(active)].guarantee
        is_lower = self.tier(self.runs_as(active)) < self.tier(self.runs_as(self.contest.waiting))
        return not promise or is_lower or size(spec) * ran * (1 - promise) + 1e-6 >= self.cost(active)

    @staticmethod
    def tier(tier: Any) -> int:
        return ("basic", "standard", "premium").index(tier.value)

    def right(self, active: Active) -> Right:
        """Everything from the victim's queue up to where the paths meet must borrow.

        The right is the older one where a part of the tree below that holds the workload has quota for it.
        """
        mine, its = path(self.me.queue), path(active.spec.queue)
        chain_ = tuple(node for node in its if node not in mine)
        covered = self.covers(mine[: mine.index(its[len(chain_)])])
        threshold = self.may.borrow_within_cohort.maximum_priority
        is_low = self.is_lower(active) and (threshold is None or active.spec.priority <= threshold)
        return Right(chain_, covered, is_low and self.may.borrow_within_cohort.policy != "never")

    def covers(self, nodes: Iterable[str]) -> bool:
        """Whether any of these, from the queue upwards, has quota for the workload beside what is in use there."""
        use, need, covered = self.use_of(self.contest.running), size(self.me), False
        for node in nodes:
            covered = covered or not self.borrows(node, (), need)
            need = max(0, need - max(0, self.kept(node) - self.charged(node, use)))
        return covered

    @property
    def may_ask(self) -> bool:
        """Whether anybody is stopped for the quota that it lacks: for what it owns, or a part of the tree has, or to borrow."""
        has_its_own = size(self.me) <= self.quota[self.me.queue].nominal or self.covers(path(self.me.queue)[:-1])
        return self.has_quota(self.contest.running) or has_its_own or self.may.borrow_within_cohort.policy != "never"

    def others(self, victims: Iterable[Active]) -> list[Active]:
        return [victim for victim in victims if victim.spec.queue != self.me.queue]

    def may_leave_together(self, victims: Sequence[Active]) -> bool:
        """There is an order in which everybody of another queue leaves while all between still borrows; and a right to it."""
        others = self.others(victims)
        if others and not all(self.may_be_borrowed_for(each) for each in others) and not self.lives_on_its_own(victims):
            return False
        return not others or any(map(self.is_in_order, permutations(victims)))

    def is_in_order(self, victims: Sequence[Active]) -> bool:
        return all(
            all(self.borrows(node, victims[:at]) for node in self.right(victim).chain)
            for at, victim in enumerate(victims)
            if victim.spec.queue != self.me.queue
        )

    def in_turn(self) -> list[Active]:
        """All who would leave one after the other, each while all between still borrows."""
        line = list[Active]()
        for active in sorted(filter(self.may_be_stopped, self.contest.running), key=self.order):
            if active.spec.queue == self.me.queue or all(self.borrows(node, line) for node in self.right(active).chain):
                line.append(active)
        return line

    def may_be_borrowed_for(self, active: Active) -> bool:
        right = self.right(active)
        return right.is_older or right.even_borrowing

    def lives_on_its_own(self, victims: Sequence[Active]) -> bool:
        """What others borrow goes to who has not used its own up, and does not borrow with it."""
        is_short = self.may.borrow_within_cohort.policy == "never" and not self.is_under_nominal
        return not is_short and not self.borrows(self.me.queue, victims, size(self.me))

    @property
    def is_under_nominal(self) -> bool:
        queue = self.me.queue
        return self.charged(queue, self.use_of(self.contest.running)) < self.quota[queue].nominal

    def plans(self) -> Iterator[tuple[Active, ...]]:
        """Every set of victims with which the workload starts and who may be stopped together."""
        may = [active for active in self.contest.running if self.may_ask and self.may_be_stopped(active)]
        for victims in chain.from_iterable(combinations(may, number) for number in range(1, MOST_VICTIMS + 1)):
            if self.fits(victims) and self.may_leave_together(victims) and self.is_within_budgets(victims):
                yield victims

    def is_within_budgets(self, victims: Sequence[Active]) -> bool:
        return all(self.is_within(budget, victims) for budget in self.contest.policy.limits.disruption_budgets)

    def order(self, active: Active) -> tuple[int, tuple[int, int], float, str]:
        """By the older right, others by priority, the own queue's last; of these the lowest, the newest, by attempt."""
        is_own = active.spec.queue == self.me.queue
        by_right = 2 if is_own else 0 if self.right(active).is_older else 1
        return by_right, self.rank(active.spec), -active.held_at.timestamp(), active.attempt_id


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("is_wide", [False, True])
def test_who_is_stopped_may_be_and_is_needed_and_goes_in_order(*, is_wide: bool, seed: int) -> None:
    stopped = 0
    for contest in contests(Random(seed), is_wide=is_wide):
        rules = Rules(contest)
        (decision,) = schedule(contest.snapshot, NOON).decisions
        if not isinstance(decision, StartAfter):
            assert not isinstance(decision, Start)
            assert not is_wide or contest.policy.limits.disruption_budgets or not any(rules.plans())
            continue
        stopped += 1
        victims = [active for active in contest.running if active.attempt_id in decision.victims]
        assert rules.may_ask
        assert all(map(rules.may_be_stopped, victims))
        assert rules.fits(victims)
        assert rules.may_leave_together(victims)
        assert rules.is_within_budgets(victims)
        assert_that_nobody_could_stay(victims, rules)
        assert_that_nobody_went_out_of_turn(victims, rules)
    assert stopped


def assert_that_nobody_could_stay(victims: Sequence[Active], rules: Rules) -> None:
    """Unless the workload would only borrow then what it may not take from whom it stops."""
    for fewer in (tuple(each for each in victims if each is not spared) for spared in victims):
        assert not rules.fits(fewer) or (rules.lives_on_its_own(victims) and not rules.lives_on_its_own(fewer))


def assert_that_nobody_went_out_of_turn(victims: Sequence[Active], rules: Rules) -> None:
    """Nobody who comes before a victim, and may leave also when all before have left, would have done in its place."""
    line = rules.in_turn()
    for at, before in enumerate(line):
        for victim in (each for each in line[at + 1 :] if each in victims and before not in victims):
            instead = [*(each for each in victims if each is not victim), before]
            is_enough = rules.fits(instead) and rules.lives_on_its_own(instead) >= rules.lives_on_its_own(victims)
            needs_right = rules.others([before]) and not rules.may_be_borrowed_for(before)
            assert not is_enough or (needs_right and not rules.lives_on_its_own(instead))


@pytest.mark.parametrize("seed", range(2))
def test_whom_others_left_for_starts_and_is_not_stopped_for_them(seed: int) -> None:
    for contest in contests(Random(seed), is_wide=True):
        plan = schedule(contest.snapshot, NOON)
        if not plan.preempts:
            continue
        after = settled(contest.snapshot, plan)
        assert contest.waiting.id in {active.id for active in after.active}
        again = schedule(after, NOON + seconds(1))
        assert not [victim for victim, _ in again.preempts if victim.startswith(contest.waiting.id)]
