"""The setting of a round: what no decision changes, and the stage, which every decision changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from domain.facts import Facts
from domain.pool.fleet import Amount, Node, Placement
from domain.quota_models.deserved.books import Books
from domain.quota_models.deserved.jobs import Job, asking, job_rank, next_chunk, running_jobs
from domain.quota_models.deserved.lineup import Entry, Peers
from domain.quota_models.openings import why_not_yet
from domain.remembered.lanes import Backlog
from domain.worlds.world import World


@dataclass(frozen=True, slots=True)
class Setting:
    """The facts, the books over them, what runs by workload id, who waits, of them who may start, and every node by id."""

    facts: Facts
    books: Books
    running: Mapping[str, Job]
    backlog: Backlog
    peers: Sequence[Peers]
    nodes: Mapping[str, Node]
    _waiting: dict[str, Job] = field(default_factory=dict)
    """Jobs that wait, by workload id, as far as anybody asked."""

    @classmethod
    def of(cls, backlog: Backlog, facts: Facts) -> "Setting":
        """The setting of a round over what runs, and who waits and may start by now."""
        running = running_jobs(facts)
        firsts = ((lane, backlog.first(lane)) for lane in backlog.lanes)
        lanes = [(lane, Job.waiting(first, facts)) for lane, first in firsts if why_not_yet(first, facts) is None]
        wanting = [(job, 1) for job in running.values()] + [(job, backlog.number(lane)) for lane, job in lanes]
        nodes = {entry.node.id: entry.node for nodes in facts.idle.classes.values() for entry in nodes}
        books = Books.of(wanting, facts)
        entries = ((lane, entry_of(job, None, books)) for lane, job in lanes)
        peers = [Peers(lane, entry) for lane, entry in entries if entry is not None]
        return cls(facts, books, running, backlog, peers, nodes)

    def job(self, id: str) -> Job:
        """The job that runs, or else waits, under a workload id."""
        if (job := self.running.get(id) or self._waiting.get(id)) is None:
            job = self._waiting[id] = Job.waiting(self.backlog.by_id[id], self.facts)
        return job

    def asked(self, job: Job, placement: Placement | None, chunk: Mapping[str, int]) -> dict[str, Amount]:
        """What a chunk of the job counts for, by the names of quota rows."""
        return asked(job, placement, chunk, self.books)


@dataclass(frozen=True, slots=True)
class Stage:
    """One moment of the round: what is free and used, and the placement of every job that has one."""

    world: World
    placed: Mapping[str, Placement]


def asked(job: Job, placement: Placement | None, chunk: Mapping[str, int], books: Books) -> dict[str, Amount]:
    """What a chunk of the job counts for, by the names of quota rows."""
    return books.named(asking(job, placement, chunk, books.skus_of(job.queue)))


def entry_of(job: Job, placement: Placement | None, books: Books) -> Entry | None:
    """The job in the line of those that want more, or none when it has all that it wants."""
    chunk = next_chunk(job, placement)
    if not chunk:
        return None
    return Entry(job.id, job.queue, job_rank(job, placement), asked(job, placement, chunk, books))
