"""Line-ups: who is to have a turn, one by one what differs, and those who ask for the same together."""

from bisect import bisect_right
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

from domain.pool.workload import Waiting
from domain.quota_models.deserved.books import Amounts
from domain.quota_models.deserved.jobs import JobRank
from domain.remembered.lanes import Backlog, Lane


@dataclass(frozen=True, slots=True)
class Entry:
    """One job in line: its rank inside its queue, and the amounts that its turn is about."""

    job_id: str
    queue: str
    rank: JobRank
    amounts: Amounts


@dataclass(frozen=True, slots=True)
class Peers:
    """Waiting jobs that are alike: one of them in line says of all others what they would say, but for their age."""

    lane: Lane
    example: Entry

    def entry(self, workload: Waiting) -> Entry:
        """One of them in line."""
        return replace(self.example, job_id=workload.id, rank=self.rank(workload))

    def rank(self, workload: Waiting) -> JobRank:
        """Its rank inside its queue."""
        return (*self.example.rank[:3], workload.submitted_at, workload.id)


@dataclass(frozen=True, slots=True)
class Lineup:
    """Jobs that have turns by themselves, and peers as far as they are still in the backlog."""

    entries: Sequence[Entry]
    peers: Sequence[Peers]
    backlog: Backlog

    def without(self, jobs: Set[str]) -> "Lineup":
        """The others."""
        left = [entry for entry in self.entries if entry.job_id not in jobs]
        return Lineup(left, self.peers, self.backlog.without(filter(self.backlog.has, jobs)))

    def beside(self, entries: Sequence[Entry]) -> "Lineup":
        """The same and these."""
        return replace(self, entries=[*self.entries, *entries])


class Procession:
    """Peers one after the other, the oldest first."""

    __slots__ = ("_at", "_backlog", "_peers", "head")

    def __init__(self, peers: Peers, backlog: Backlog) -> None:
        self._peers, self._backlog, self._at = peers, backlog, -1
        self.head: Entry | None = None
        """The next of them."""
        self.step()

    def step(self) -> None:
        """Let the next one lead."""
        self._lead(self._at + 1)

    def pass_by(self, rank: JobRank) -> None:
        """Let the first one lead that comes after this rank."""
        self._lead(bisect_right(self._peers.lane.members, rank, lo=self._at, key=self._peers.rank))

    def _lead(self, at: int) -> None:
        members = self._peers.lane.members
        while at < len(members) and not self._backlog.has(members[at].id):
            at += 1
        self._at, self.head = at, self._peers.entry(members[at]) if at < len(members) else None
