"""Who may lose replicas: running work that may be stopped, and what its queue's minimum runtime still protects."""

from datetime import timedelta

from domain.deserved.jobs import Job, is_elastic
from domain.deserved.search import Candidate
from domain.deserved.setting import Setting, Stage
from domain.protection import STOPPABLE_STATES


def is_movable(job: Job, setting: Setting) -> bool:
    """Whether the job runs and may be stopped for others at all."""
    active = job.active
    return (
        active is not None
        and job.is_preemptible
        and active.state in STOPPABLE_STATES
        and active.preemptions < setting.facts.policy.limits.maximum_preemptions
    )


def candidate(job: Job, seconds: int, stage: Stage, setting: Setting) -> Candidate | None:
    """The job as a victim after its minimum runtime; before that it may only lose what it has beyond its minimum."""
    tier = setting.facts.policy.rank.tiers[job.spec.tier].minimum_runtime_seconds
    protected = _has_run_less_than(max(seconds, tier), job, setting)
    if protected and not is_elastic(job, stage.placed[job.id]):
        return None
    return Candidate(job, protected)


def _has_run_less_than(seconds: int, job: Job, setting: Setting) -> bool:
    started = job.active.started_at if job.active else None
    return started is not None and setting.facts.now < started + timedelta(seconds=seconds)


def preemption_runtime(job: Job, setting: Setting) -> int:
    """Seconds that the job runs before lower work of its own queue gives way: of the first queue above that says so."""
    specs = (setting.facts.queues[queue] for queue in setting.facts.tree.paths[job.queue])
    return next((spec.minimum_runtime_seconds for spec in specs if spec.minimum_runtime_seconds), 0)


def reclaim_runtime(job: Job, owner: str, setting: Setting) -> int:
    """Seconds that the job runs before another queue takes its capacity back.

    Read below the lowest common ancestor of both queues, or else above: children of one parent treat each other alike, however
    their own queues are set (KAI, `minruntime`).
    """
    paths = setting.facts.tree.paths
    above_both = set(paths[owner])
    mine = paths[job.queue]
    own = [queue for queue in mine if queue not in above_both]
    for queue in (*own[-1:], *mine[len(own) :]):
        spec = setting.facts.queues[queue]
        if spec.reclaim_minimum_runtime_seconds is not None:
            return spec.reclaim_minimum_runtime_seconds
        if spec.minimum_runtime_seconds:
            return spec.minimum_runtime_seconds
    return 0
