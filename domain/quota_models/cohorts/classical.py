"""Classical preemption: take back from who borrows, and from lower work, as the tree and the queue's policy allow.

The rules are those of Kueue's `preemption/classical`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import chain

from domain.quota.usage import Usage
from domain.quota_models.cohorts.borrowing import Needs, beyond, borrows, borrows_any, by_row
from domain.quota_models.cohorts.candidates import candidates_in, in_order, is_lower
from domain.quota_models.cohorts.contest import Contest, Victims
from domain.quota_models.cohorts.setting import Runner, Setting


class Right(Enum):
    """By what right work is stopped."""

    OWN_QUEUE = auto()
    HIERARCHY = auto()
    """The workload is nearer to the quota in the tree than who borrows it."""
    NOT_BORROWING = auto()
    """Only if its own queue would not borrow afterwards."""
    EVEN_BORROWING = auto()
    """Also if it would: what is stopped ranks lower, and no higher than the queue's threshold."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Work that may be stopped, by what right, and the lowest node above both queues; none within one queue."""

    runner: Runner
    right: Right
    ancestor: str | None


@dataclass(frozen=True, slots=True)
class Claims:
    """All claims, by kind, each in the order in which they are made."""

    by_hierarchy: Sequence[Claim]
    by_priority: Sequence[Claim]
    own: Sequence[Claim]

    def __iter__(self) -> Iterator[Claim]:
        """Whoever is leaving before anybody else; then by hierarchy, by priority, and the own queue's last."""
        return iter(sorted(chain(self.by_hierarchy, self.by_priority, self.own), key=lambda claim: not claim.runner.is_leaving))

    @property
    def are_all_own(self) -> bool:
        """Whether no other queue has anything to give."""
        return not self.by_hierarchy and not self.by_priority


def classical_victims(contest: Contest, setting: Setting) -> Victims:
    """The first claims in order with which the workload fits, without those that turn out not to be needed; or nobody."""
    claims = _claims(contest, setting)
    for borrowing in _attempts(claims, contest, setting):
        if victims := _enough(claims, contest, borrowing=borrowing):
            return contest.spared(victims, borrowing=borrowing)
    return ()


def _attempts(claims: Claims, contest: Contest, setting: Setting) -> tuple[bool, ...]:
    """Whether the workload's queue may borrow, in the order in which that is tried."""
    forbidden = setting.preemption(contest.queue).borrow_within_cohort.policy == "never"
    if claims.are_all_own or (forbidden and not _is_under_nominal(contest)):
        return (True,)
    return (False, True) if forbidden and not claims.by_hierarchy else (True, False)


def _is_under_nominal(contest: Contest) -> bool:
    usage, standings = contest.usage, contest.usage.tree.standings
    return all(usage.use(contest.queue, row).charged < standings[contest.queue, row].quota.nominal for row in contest.short)


def _enough(claims: Iterable[Claim], contest: Contest, *, borrowing: bool) -> list[Runner]:
    victims: list[Runner] = []
    usage = contest.usage
    for claim in claims:
        if _still_holds(claim, usage, contest, borrowing=borrowing):
            victims.append(claim.runner)
            usage = contest.usages(victims)
            if contest.fits(victims, borrowing=borrowing):
                return victims
    return []


def _still_holds(claim: Claim, usage: Usage, contest: Contest, *, borrowing: bool) -> bool:
    """Whether everything from the claimed queue up to the common ancestor still borrows what is short."""
    if claim.right is Right.OWN_QUEUE:
        return True
    if borrowing and claim.right is Right.NOT_BORROWING:
        return False
    for node in usage.tree.paths[claim.runner.queue]:
        if node == claim.ancestor:
            break
        if not borrows_any(usage, node, contest.short):
            return False
    return True


def _claims(contest: Contest, setting: Setting) -> Claims:
    """Climb from the workload's queue to its root, and claim what borrows below each node on the way.

    From the first node whose quota covers the needs on, the workload has the older right.
    """
    own = [Claim(runner, Right.OWN_QUEUE, None) for runner in candidates_in(contest.queue, contest, setting)]
    by_hierarchy: list[Claim] = []
    by_priority: list[Claim] = []
    usage, below, needs = contest.usage, contest.queue, by_row(contest.needs, contest.queue, contest.usage.tree)
    has_advantage = _covers(usage, below, needs)
    for ancestor in usage.tree.paths[contest.queue][1:]:
        needs = beyond(usage, below, needs)
        found = by_hierarchy if has_advantage else by_priority
        for queue in _borrowers_below(ancestor, below, contest, setting):
            runners = candidates_in(queue, contest, setting)
            found += [Claim(runner, _right(runner, has_advantage, contest, setting), ancestor) for runner in runners]
        has_advantage = has_advantage or _covers(usage, ancestor, needs)
        below = ancestor
    order = in_order(contest)
    by_hierarchy.sort(key=lambda claim: order(claim.runner))
    by_priority.sort(key=lambda claim: order(claim.runner))
    return Claims(by_hierarchy, by_priority, own)


def _covers(usage: Usage, node: str, needs: Needs) -> bool:
    return not any(borrows(usage, node, row, need) for row, need in needs.items())


def _borrowers_below(node: str, skipped: str, contest: Contest, setting: Setting) -> Iterator[str]:
    """Queues below the node that borrow what is short, through parts of the tree that do so too."""
    for child in setting.hierarchy.children[node]:
        if child != skipped and borrows_any(contest.usage, child, contest.short):
            yield from _borrowers_below(child, skipped, contest, setting)
            yield child


def _right(runner: Runner, has_advantage: bool, contest: Contest, setting: Setting) -> Right:
    if has_advantage:
        return Right.HIERARCHY
    borrow = setting.preemption(contest.queue).borrow_within_cohort
    if borrow.policy == "never" or not is_lower(contest.workload, runner):
        return Right.NOT_BORROWING
    highest = borrow.maximum_priority
    is_above = highest is not None and runner.active.spec.priority > highest
    return Right.NOT_BORROWING if is_above else Right.EVEN_BORROWING
