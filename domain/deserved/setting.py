"""The setting of a round: what no decision changes, and the stage, which every decision changes."""

from collections.abc import Mapping
from dataclasses import dataclass

from domain.deserved.books import Books
from domain.deserved.jobs import Job, asking, job_rank, next_chunk
from domain.deserved.line import Entry
from domain.facts import Facts
from domain.fleet import Amount, Node, Placement
from domain.world import World


@dataclass(frozen=True, slots=True)
class Setting:
    """The facts, the books over them, every job by workload id, and every node by id."""

    facts: Facts
    books: Books
    jobs: Mapping[str, Job]
    nodes: Mapping[str, Node]

    @classmethod
    def of(cls, jobs: Mapping[str, Job], facts: Facts) -> "Setting":
        """The setting of a round over these jobs."""
        nodes = {entry.node.id: entry.node for nodes in facts.idle.classes.values() for entry in nodes}
        return cls(facts, Books.of(jobs.values(), facts), jobs, nodes)

    def asked(self, job: Job, placement: Placement | None, chunk: Mapping[str, int]) -> dict[str, Amount]:
        """What a chunk of the job counts for, by the names of quota rows."""
        return self.books.named(asking(job, placement, chunk, self.books.skus_of(job.queue)))


@dataclass(frozen=True, slots=True)
class Stage:
    """One moment of the round: what is free and used, and the placement of every job that has one."""

    world: World
    placed: Mapping[str, Placement]


def entry_of(job: Job, placement: Placement | None, setting: Setting) -> Entry | None:
    """The job in the line of those that want more, or none when it has all that it wants."""
    chunk = next_chunk(job, placement)
    if not chunk:
        return None
    return Entry(job.id, job.queue, job_rank(job, placement), setting.asked(job, placement, chunk))
