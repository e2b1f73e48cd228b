"""Who may lose replicas: running work that may be stopped, and what still protects it from other work."""

from collections.abc import Iterable, Mapping

from domain.disruption.protection import (
    STOPPABLE_STATES,
    has_run_less_than,
    is_protected,
    keeps_its_promise,
    minimum_runtime,
    was_not_stopped_for_it,
)
from domain.pool.fleet import Placement
from domain.quota_models.deserved.jobs import Job, is_elastic
from domain.quota_models.deserved.search import Candidate
from domain.quota_models.deserved.setting import Setting, Stage

RULES = (was_not_stopped_for_it, keeps_its_promise)
"""What spares a job whatever its queue has; that it is within quota counts by queue, where fairness is judged."""


def is_movable(job: Job, setting: Setting) -> bool:
    """Whether the job runs and may be stopped for others at all."""
    active = job.active
    return (
        active is not None
        and job.is_preemptible
        and active.state in STOPPABLE_STATES
        and active.preemptions < setting.facts.policy.limits.maximum_preemptions
    )


def candidates(jobs: Iterable[Job], beneficiary: Job, stage: Stage, setting: Setting) -> list[Candidate]:
    """Those of the jobs that may lose something to the beneficiary."""
    found = (candidate(job, beneficiary, stage, setting) for job in jobs)
    return [victim for victim in found if victim is not None]


def candidate(job: Job, beneficiary: Job, stage: Stage, setting: Setting) -> Candidate | None:
    """The job as a victim, or none when it is spared.

    Before its minimum runtime is over it may only lose what it has beyond its minimum (KAI, `minruntime`).
    """
    facts, active = setting.facts, job.active
    if active is None or any(rule(facts.protection, active, beneficiary) is not None for rule in RULES):
        return None
    seconds = minimum_runtime(job.queue, beneficiary.queue, facts.queues, facts.tree.paths)
    protected = is_protected(active, facts.policy, facts.now) or has_run_less_than(active, seconds, facts.now)
    if protected and not is_elastic(job, stage.placed[job.id]):
        return None
    return Candidate(job, protected)


def is_within_budgets(left: Mapping[str, Placement | None], stage: Stage, setting: Setting) -> bool:
    """Whether the disruption budgets allow everybody to be stopped who has nothing left."""
    actives = [setting.job(id).active for id, placement in left.items() if placement is None]
    stopped = [active for active in actives if active is not None]
    return len(setting.facts.protection.within_budgets(stopped, stage.world.stopped)) == len(stopped)


def may_have_others_stopped(job: Job, setting: Setting) -> bool:
    """Whether the job is past its preemption delay and does not fail again and again."""
    waiting = setting.facts.protection.waiting.get(job.id)
    return waiting is None or setting.facts.protection.why_not_yet(waiting) is None
