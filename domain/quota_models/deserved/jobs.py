"""Jobs: work that waits or runs as the model sees it: what it asks for next, and what could be taken from it next."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from corral.api import State, WorkloadTerms
from domain.facts import Facts
from domain.pool.fleet import Amount, Placement
from domain.pool.parts import ReplicaKey, counts_of, keys_of
from domain.pool.standing import Standing, standing
from domain.pool.workload import Active, Waiting
from domain.quota_models.openings import open_ranks
from domain.worlds.request import Gang, Request, Shape

Chunk = Mapping[str, int]
"""Replicas by group that are placed together or not at all."""


@dataclass(frozen=True, slots=True)
class Job:
    """One workload. `ranks` are its requests in the order in which they are tried; `active` is its attempt, if it has one."""

    id: str
    spec: WorkloadTerms
    submitted_at: datetime
    ranks: tuple[tuple[Request, ...], ...]
    active: Active | None = None

    @classmethod
    def waiting(cls, workload: Waiting, facts: Facts) -> "Job":
        """A workload without capacity."""
        ranks = tuple(tuple(rank) for rank in open_ranks(workload, facts))
        return cls(workload.id, workload.spec, workload.submitted_at, ranks)

    @classmethod
    def running(cls, active: Active, facts: Facts) -> "Job":
        """A workload with an open attempt: it stays with the target that it was placed under."""
        workload = Waiting(active.id, active.spec, active.submitted_at)
        target = active.placement.target
        mine = [request for rank in open_ranks(workload, facts) for request in rank if request.index == target]
        return cls(active.id, active.spec, active.submitted_at, (tuple(mine),) if mine else (), active)

    @property
    def queue(self) -> str:
        """The queue that it belongs to."""
        return self.spec.queue

    @property
    def standing(self) -> Standing:
        """Its tier and priority."""
        return standing(self.spec.tier, self.spec.priority)

    @property
    def is_preemptible(self) -> bool:
        """Whether it may be stopped for others at all."""
        return self.spec.preemptible

    @property
    def waits_for_room(self) -> bool:
        """Whether others have yet to leave what it was promised: what it asks for is settled until it has that."""
        return self.active is not None and self.active.state is State.RESERVING

    @property
    def remnants(self) -> frozenset[ReplicaKey]:
        """Replicas that it has no more and that do not leave."""
        return self.active.remnants if self.active is not None else frozenset()

    def narrowed(self, request: Request) -> "Job":
        """The job as if it made this one request."""
        return replace(self, ranks=((request,),))

    def request(self, placement: Placement | None) -> Request | None:
        """The request that its placement answers, or the first that it makes; none when no target is open."""
        every = [request for rank in self.ranks for request in rank]
        if placement is None:
            return every[0] if every else None
        return next((request for request in every if request.index == placement.target), None)


def minimums(gang: Gang, fewest: int) -> dict[str, int]:
    """The fewest replicas of each group: its own minimum, and of the first groups as many more as the gang needs in all."""
    least = {shape.name: shape.minimum for shape in gang.shapes}
    missing = fewest - sum(least.values())
    for shape in gang.shapes:
        more = max(0, min(missing, shape.count - shape.minimum))
        least[shape.name] += more
        missing -= more
    return least


def own_minimums(job: Job, placement: Placement | None) -> dict[str, int]:
    """The fewest replicas that each group asks for by itself."""
    request = job.request(placement)
    return {shape.name: shape.minimum for shape in request.gang.shapes} if request else {}


def least_of(job: Job, placement: Placement | None) -> dict[str, int]:
    """The fewest replicas of each group with which the job runs."""
    request = job.request(placement)
    return minimums(request.gang, job.spec.minimum_replicas or 0) if request else {}


def next_chunk(job: Job, placement: Placement | None) -> Chunk:
    """What the job asks for next: its minimum at once, then one replica at a time; empty when it has all that it wants."""
    request = job.request(placement)
    if request is None:
        return {}
    if placement is None and (least := {group: number for group, number in least_of(job, None).items() if number}):
        return least
    return next(one_more_each(job, placement), {})


def one_more_each(job: Job, placement: Placement | None) -> Iterator[Chunk]:
    """One replica more of the first group that lacks any, or else, where there is no room for that, of one after it."""
    if (request := job.request(placement)) is not None:
        placed = counts_of(placement)
        yield from ({shape.name: 1} for shape in request.gang.shapes if placed[shape.name] < shape.count)


def is_elastic(job: Job, placement: Placement) -> bool:
    """Whether the job has more replicas than the fewest with which it runs."""
    return placement.replicas > sum(least_of(job, placement).values())


def next_to_evict(job: Job, placement: Placement) -> tuple[ReplicaKey, ...]:
    """What is taken from the job next: the last replica beyond its minimum, or else all (KAI, `eviction_info.go`).

    Nothing is taken from groups that are not preemptible, and so never all from a job that has such replicas.
    """
    placed, own = counts_of(placement), own_minimums(job, placement)
    firm = {group.name for group in job.spec.groups if not group.preemptible}
    if is_elastic(job, placement):
        for group in reversed(job.spec.groups):
            if group.name not in firm and placed[group.name] > own.get(group.name, 0):
                return (max(key for key in keys_of(placement) if key[0] == group.name),)
    return () if firm.intersection(placed) else tuple(keys_of(placement))


def elasticity(job: Job, placement: Placement | None) -> int:
    """0 below its minimum, 1 with just that, 2 with more: whoever has less comes first (KAI, `elastic.go`)."""
    placed, least = (placement.replicas if placement else 0), sum(least_of(job, placement).values())
    return (placed >= least) + (placed > least)


JobRank = tuple[int, int, int, datetime, str]


def job_rank(job: Job, placement: Placement | None) -> JobRank:
    """The order of jobs inside a queue: tier and priority, elasticity, age."""
    tier, priority = job.standing
    return -tier, -priority, elasticity(job, placement), job.submitted_at, job.id


def gang_of(request: Request, chunk: Chunk) -> Gang:
    """The chunk as a gang of its own."""
    shapes = tuple(
        replace(shape, minimum=chunk[shape.name], count=chunk[shape.name])
        for shape in request.gang.shapes
        if chunk.get(shape.name)
    )
    return replace(request.gang, shapes=shapes, fewest=0)


def asking(job: Job, placement: Placement | None, chunk: Chunk, skus: Sequence[str]) -> dict[str, Amount]:
    """Thousandths that the chunk takes of the SKU that it is most likely to get."""
    request = job.request(placement)
    if request is None:
        return {}
    amounts: dict[str, Amount] = {}
    for shape in request.gang.shapes:
        if number := chunk.get(shape.name, 0):
            sku = placement.sku if placement else next(iter(accepted(job.spec, request, shape, skus)), None)
            if sku is not None:
                amounts[sku] = amounts.get(sku, 0) + number * shape.milli
    return amounts


def accepted(spec: WorkloadTerms, request: Request, shape: Shape, skus: Sequence[str]) -> list[str]:
    """The SKUs of these that a group takes, in their order."""
    group = next(group for group in spec.groups if group.name == shape.name)
    named = group.skus or request.target.skus
    return [sku for sku in skus if not named or sku in named]


def running_jobs(facts: Facts) -> dict[str, Job]:
    """What runs and is not leaving, by workload id."""
    return {active.id: Job.running(active, facts) for active in facts.active.values() if is_steady(active)}


def is_steady(active: Active) -> bool:
    """Whether the attempt keeps what it has, as far as anybody knows."""
    return not active.preempted and active.state is not State.STOPPING
