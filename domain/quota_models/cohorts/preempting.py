"""Preempting: who must leave for a workload, by the rules that the policy chose."""

from domain.pool.workload import Waiting
from domain.quota_models.cohorts.borrowing import Needs, Reach, reach
from domain.quota_models.cohorts.classical import classical_victims
from domain.quota_models.cohorts.contest import Contest, Victims, without
from domain.quota_models.cohorts.fair import fair_victims
from domain.quota_models.cohorts.grades import Mode
from domain.quota_models.cohorts.setting import Setting
from domain.worlds.world import World


def victims_for(contest: Contest, setting: Setting) -> Victims:
    """Who must leave so that the workload starts; nobody where that cannot be brought about, or exceeds a disruption budget."""
    facts = setting.facts
    if not facts.policy.rank.preemption:
        return ()
    victims = (fair_victims if facts.policy.rank.cohorts.fair_sharing else classical_victims)(contest, setting)
    stopped = [victim.active for victim in victims if not victim.is_leaving]
    return victims if len(facts.protection.within_budgets(stopped, contest.stopped)) == len(stopped) else ()


def foresee(workload: Waiting, needs: Needs, rows: Needs, world: World, setting: Setting) -> tuple[Mode, Reach]:
    """How quota could be had from others, and how far the queue would then reach for it, by SKU and by row.

    Nodes are not looked at (Kueue, `preemption_oracle.go`).
    """
    queue = workload.spec.queue
    victims = victims_for(Contest(workload, needs, frozenset(rows), world.usage, world.stopped), setting)
    reached = reach(without(world.usage, victims), queue, rows, setting.hierarchy)
    if not victims:
        return Mode.NO_CANDIDATES, reached
    is_own = any(victim.queue == queue for victim in victims)
    return Mode.PREEMPT if is_own else Mode.RECLAIM, reached
