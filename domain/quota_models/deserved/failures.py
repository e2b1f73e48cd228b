"""Failures: what found no victims, so that nothing that asks for as much under the same terms is searched for again."""

from collections.abc import Hashable

from domain.pool.fleet import Amount, Placement
from domain.quota_models.deserved.jobs import Job, next_chunk

Footprint = tuple[Amount, ...]
"""Thousandths of each replica of a chunk, the largest first."""


def footprint_of(job: Job, placement: Placement | None) -> Footprint:
    """What the job asks for next, replica by replica."""
    sizes = {group.name: group.milli for group in job.spec.groups}
    chunk = next_chunk(job, placement)
    return tuple(sorted((sizes[group] for group, number in chunk.items() for _ in range(number)), reverse=True))


class Failures:
    """Footprints that failed, by what else decides about a job (KAI, `minimal_job_comparison.go`); for one pass."""

    def __init__(self) -> None:
        self._footprints: dict[Hashable, list[Footprint]] = {}

    def note(self, job: Job, footprint: Footprint) -> None:
        """The job found no victims."""
        self._footprints.setdefault(_terms(job), []).append(footprint)

    def foretell(self, job: Job, footprint: Footprint) -> bool:
        """Whether a job on the same terms that asked for no more has failed."""
        return any(_is_no_larger(failed, footprint) for failed in self._footprints.get(_terms(job), ()))


def _terms(job: Job) -> Hashable:
    spec = job.spec
    targets = tuple((request.target, request.index) for rank in job.ranks for request in rank)
    groups = tuple((group.skus, group.topology, group.colocate, tuple(sorted(group.nodes.items()))) for group in spec.groups)
    mine = job.id if job.active is not None else None
    return mine, job.queue, job.standing, spec.preemptible, targets, groups, spec.topology, spec.tolerations, spec.user


def _is_no_larger(one: Footprint, other: Footprint) -> bool:
    return len(one) <= len(other) and all(mine <= theirs for mine, theirs in zip(one, other, strict=False))
