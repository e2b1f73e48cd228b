"""Candidates: whose work a queue's policy lets a workload stop, and who of them goes first."""

from collections.abc import Callable, Mapping

from corral.api import Reclaim, WithinQueue
from domain.disruption.protection import Protection, has_run_enough, keeps_its_promise, was_not_stopped_for_it
from domain.pool.standing import Standing, standing
from domain.pool.workload import Waiting
from domain.quota_models.cohorts.contest import Contest
from domain.quota_models.cohorts.setting import Runner, Setting

Rule = Callable[[Waiting, Runner], bool]


def mine(workload: Waiting) -> Standing:
    """How the workload ranks beside what runs."""
    return standing(workload.spec.tier, workload.spec.priority)


def is_lower(workload: Waiting, runner: Runner) -> bool:
    """It ranks lower than the workload."""
    return runner.standing < mine(workload)


def is_lower_or_newer(workload: Waiting, runner: Runner) -> bool:
    """It ranks lower, or as high and was submitted later."""
    is_newer = runner.standing == mine(workload) and workload.submitted_at < runner.active.submitted_at
    return is_newer or is_lower(workload, runner)


def nobody(workload: Waiting, runner: Runner) -> bool:
    """Nothing is stopped for the workload."""
    return False


def anybody(workload: Waiting, runner: Runner) -> bool:
    """Everything may be."""
    return True


WITHIN_QUEUE: Mapping[WithinQueue, Rule] = {
    WithinQueue.NEVER: nobody,
    WithinQueue.LOWER_PRIORITY: is_lower,
    WithinQueue.LOWER_OR_NEWER_EQUAL_PRIORITY: is_lower_or_newer,
}
WITHIN_COHORT: Mapping[Reclaim, Rule] = {Reclaim.NEVER: nobody, Reclaim.LOWER_PRIORITY: is_lower, Reclaim.ANY: anybody}


PROTECTIONS = (has_run_enough, was_not_stopped_for_it, keeps_its_promise)
"""What spares running work whatever divides the pool. Who lives on whose quota is told by these rules themselves."""


def is_spared(runner: Runner, contest: Contest, protection: Protection) -> bool:
    """Whether something protects the work from this workload. Who is leaving anyway has nothing more to lose."""
    it = contest.workload
    return not runner.is_leaving and any(rule(protection, runner.active, it) is not None for rule in PROTECTIONS)


def candidates_in(queue: str, contest: Contest, setting: Setting) -> list[Runner]:
    """Work of one queue that the workload's own queue lets it stop, and that uses what is short; the first to go first."""
    policy = setting.preemption(contest.queue)
    allows = WITHIN_QUEUE[policy.within_queue] if queue == contest.queue else WITHIN_COHORT[policy.reclaim_within_cohort]
    found = [
        runner
        for runner in setting.runners.get(queue, ())
        if not contest.short.isdisjoint(runner.rows)
        and runner.active.attempt_id not in contest.stopped
        and (runner.is_leaving or allows(contest.workload, runner))
        and not is_spared(runner, contest, setting.facts.protection)
    ]
    return sorted(found, key=in_order(contest))


Order = tuple[bool, bool, Standing, float, str]


def in_order(contest: Contest) -> Callable[[Runner], Order]:
    """Who goes first: whoever is leaving, then other queues' work, then the lowest, then who got capacity last, then by id."""

    def order(runner: Runner) -> Order:
        active = runner.active
        is_own = runner.queue == contest.queue
        return not runner.is_leaving, is_own, runner.standing, -active.held_at.timestamp(), active.attempt_id

    return order
