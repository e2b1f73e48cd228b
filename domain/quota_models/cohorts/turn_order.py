"""Turn order: whose nomination is acted on next within one cycle (Kueue, `scheduler.go`, `fair_sharing_iterator.go`)."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from fractions import Fraction

from domain.quota.usage import Usage
from domain.quota_models.cohorts.borrowing import borrows_any, by_row
from domain.quota_models.cohorts.candidates import mine
from domain.quota_models.cohorts.contest import with_needs
from domain.quota_models.cohorts.nomination import Nomination
from domain.quota_models.cohorts.setting import Setting

Seniority = tuple[tuple[int, int], datetime, str]


def seniority(nomination: Nomination) -> Seniority:
    """The higher rank first, then who has waited longest, then by id."""
    workload = nomination.workload
    tier, priority = mine(workload)
    return (-tier, -priority), workload.submitted_at, workload.id


def next_turn(nominations: Iterable[Nomination], usage: Usage, setting: Setting) -> Nomination:
    """Whose turn it is now, in the world that the turns before have left."""
    if setting.facts.policy.rank.cohorts.fair_sharing:
        return _winner(nominations, usage, setting)
    return min(nominations, key=lambda nomination: (nomination.level, seniority(nomination)))


def _winner(nominations: Iterable[Nomination], usage: Usage, setting: Setting) -> Nomination:
    """The winner of the tournament of the first tree by name."""
    by_queue = {nomination.workload.spec.queue: nomination for nomination in nominations}
    root = min(usage.tree.root(queue) for queue in by_queue)
    contenders = {queue: each for queue, each in by_queue.items() if usage.tree.root(queue) == root}
    winner = _champion(root, contenders, usage, setting)
    assert winner is not None, "the root has a contender below it"
    return winner


def _champion(node: str, contenders: Mapping[str, Nomination], usage: Usage, setting: Setting) -> Nomination | None:
    """Who stands for a node: its own work, or the best of those who stand for its children.

    The child is preferred that would not borrow what its contender needs, then the one whose share would be least.
    """
    if node in contenders:
        return contenders[node]
    champions = {child: _champion(child, contenders, usage, setting) for child in setting.hierarchy.children[node]}
    standing = [(_claim(child, champion, usage), champion) for child, champion in champions.items() if champion is not None]
    return min(standing, key=lambda pair: pair[0])[1] if standing else None


def _claim(child: str, champion: Nomination, usage: Usage) -> tuple[bool, bool, Fraction, Seniority]:
    with_champion = with_needs(usage, champion.workload, champion.needs)
    share = with_champion.dominant_share(child)
    wanted = by_row({sku: need for sku, need in champion.needs.items() if need}, champion.workload.spec.queue, usage.tree)
    return borrows_any(with_champion, child, wanted), share.is_infinite, share.value, seniority(champion)
