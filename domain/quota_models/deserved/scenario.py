"""Scenarios: what would happen if these replicas had to leave, with everybody placed again in the order of their turns."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from domain.pool.fleet import Placement
from domain.pool.parts import ReplicaKey, counts_of, less, plus
from domain.quota_models.deserved.books import Amounts
from domain.quota_models.deserved.jobs import Chunk, Job, job_rank, least_of, own_minimums
from domain.quota_models.deserved.line import Line
from domain.quota_models.deserved.lineup import Entry, Lineup
from domain.quota_models.deserved.placing import Idle, part_of, soonest
from domain.quota_models.deserved.setting import Setting, Stage

Evicted = Mapping[str, tuple[ReplicaKey, ...]]
"""The replicas that have to leave, by workload id."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the beneficiary gets, what each of the evicted has in the end, and what nobody found a place for.

    `lost` is in the order in which it counts: by queue, one amount for each loss that stands alone.
    """

    part: Placement
    left: Mapping[str, Placement | None]
    lost: tuple[tuple[str, Amounts], ...]

    @property
    def is_harmless(self) -> bool:
        """Whether nobody loses anything."""
        return not self.lost


def play(
    job: Job, chunk: Chunk, evicted: Evicted, others: Lineup, stage: Stage, idle: Idle, setting: Setting
) -> Outcome | None:
    """Evict, then let the beneficiary and the evicted be placed again, in turn with the others, who only take their turns.

    None when the beneficiary finds no place for its chunk (KAI, `TryToVirtuallyAllocatePreemptorAndGetVictims`).
    """
    return _Play(job, chunk, evicted, stage, idle, setting).to_the_end(others)


class _Play:
    def __init__(self, job: Job, chunk: Chunk, evicted: Evicted, stage: Stage, idle: Idle, setting: Setting) -> None:
        self._idle = idle
        self._job, self._chunk, self._evicted, self._stage, self._setting = job, chunk, evicted, stage, setting
        job_of, placed = setting.job, stage.placed
        whole = [id for id, keys in evicted.items() if len(keys) == placed[id].replicas]
        partly = [id for id in evicted if id not in whole]
        world = stage.world.leaving(part_of(job_of(id), placed[id], evicted[id]) for id in whole)
        world = world.leaving((part_of(job_of(id), placed[id], evicted[id]) for id in partly), are_parts=True)
        self._world = world.when_all_have_left()
        self._free = sum(room.milli for room in self._world.rooms.values())
        self._left = {id: less(placed[id], job_of(id).spec, keys) for id, keys in evicted.items()}
        self._missing = {id: Counter(group for group, _ in keys) for id, keys in evicted.items()}

    def to_the_end(self, others: Lineup) -> Outcome | None:
        line = Line(self._setting.books, self._world.usage, self._with_those_involved(others))
        open_cases, part = set(self._evicted), None
        while part is None or open_cases:
            entry, world = line.next(), self._world
            assert entry is not None, "whoever has not had their turn is in line"
            if entry.job_id == self._job.id:
                part = self._placed(self._job, self._chunk, self._stage.placed.get(self._job.id))
                if part is None:
                    return None
            elif entry.job_id in open_cases:
                if (again := self._taken_back(entry.job_id)) is not None:
                    line.push(again)
                else:
                    open_cases.discard(entry.job_id)
            if self._world is world:
                line.pass_over()
            else:
                line.see(self._world.usage, (entry.queue,))
        return Outcome(part, self._left, tuple(self._losses()))

    def _with_those_involved(self, others: Lineup) -> Lineup:
        mine = self._stage.placed.get(self._job.id)
        amounts = self._setting.asked(self._job, mine, self._chunk)
        me = Entry(self._job.id, self._job.queue, job_rank(self._job, mine), amounts)
        return others.without({self._job.id, *self._evicted}).beside([me, *map(self._entry, self._evicted)])

    def _entry(self, id: str) -> Entry:
        job, left = self._setting.job(id), self._left[id]
        home = self._stage.placed[id]
        return Entry(id, job.queue, job_rank(job, left), self._setting.asked(job, home, self._chunk_back(id)))

    def _chunk_back(self, id: str) -> Chunk:
        """What is placed again next: all up to the minimum at once, then one replica at a time."""
        job, home = self._setting.job(id), self._stage.placed[id]
        have, missing = counts_of(self._left[id]), self._missing[id]
        own = own_minimums(job, home)
        back = Counter({group: min(missing[group], max(0, own.get(group, 0) - have[group])) for group in missing})
        short = sum(least_of(job, home).values()) - have.total() - back.total()
        for group in missing:
            more = max(0, min(short, missing[group] - back[group]))
            back[group] += more
            short -= more
        return +back or next(({group: 1} for group in missing if missing[group] > 0), {})

    def _taken_back(self, id: str) -> Entry | None:
        """Place the next chunk of an evicted job; gives its next turn, if it has one."""
        job, chunk = self._setting.job(id), self._chunk_back(id)
        part = self._placed(job, chunk, self._left[id])
        if part is None:
            return None
        self._left[id] = plus(self._left[id], part)
        self._missing[id] = self._missing[id] - Counter(chunk)
        return self._entry(id) if self._missing[id] else None

    def _placed(self, job: Job, chunk: Chunk, beside: Placement | None) -> Placement | None:
        """Place a chunk, unless it is plain that there is not enough for it in all."""
        sizes = {group.name: group.milli for group in job.spec.groups}
        if sum(number * sizes[group] for group, number in chunk.items()) > self._free:
            return None
        part = soonest(job, chunk, beside, self._world, self._idle, self._setting)
        if part is not None:
            self._free -= part.milli
            self._world = self._world.with_(job.spec, part, is_part=beside is not None)
        return part

    def _losses(self) -> Iterable[tuple[str, Amounts]]:
        """Of each victim first what it loses beyond its minimum, one by one, then the rest at once (KAI, `proportion.go`)."""
        for id, missing in self._missing.items():
            job, home = self._setting.job(id), self._stage.placed[id]
            sizes = {group.name: group.milli for group in job.spec.groups}
            singles = [group for group, number in missing.items() for _ in range(number)]
            core = sum(least_of(job, home).values())
            surplus = singles[max(0, core - (len(self._evicted[id]) - len(singles))) :]
            rest = singles[: len(singles) - len(surplus)]
            for group in surplus:
                yield job.queue, self._setting.books.named({home.sku: sizes[group]})
            if rest:
                yield job.queue, self._setting.books.named({home.sku: sum(sizes[group] for group in rest)})
