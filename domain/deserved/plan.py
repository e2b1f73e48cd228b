"""The plan in the making: what was decided so far, and the stage that it leaves."""

from collections.abc import Iterable
from dataclasses import replace

from corral.api import Reason
from domain.decision import Change, Reshape, Start, StartAfter, Stop
from domain.deserved.jobs import Chunk, Job
from domain.deserved.line import Entry
from domain.deserved.placing import part_of, promised, reseated
from domain.deserved.protection import is_movable
from domain.deserved.search import Solution
from domain.deserved.setting import Setting, Stage, entry_of
from domain.fleet import Amount, Placement
from domain.parts import ReplicaKey, keys_of, less, plus, spots_of
from domain.placement import Candidate
from domain.scoring import weighed
from domain.turns import Turns
from domain.workload import Waiting
from domain.world import World


class Draft:
    """Decisions in their order; it lives inside one round. `changes` counts them."""

    def __init__(self, setting: Setting, world: World) -> None:
        placed = {job.id: job.active.placement for job in setting.jobs.values() if job.active is not None}
        self.setting, self.stage, self.changes = setting, Stage(world, placed), 0
        self._moved: dict[str, Start | StartAfter] = {}
        self._reshapes: dict[str, Reshape] = {}
        self._stops: list[Stop] = []
        self._gone: set[str] = set()
        self._kept: set[str] = set()
        self._settled: set[str] = set()

    def in_line(self) -> list[Entry]:
        """Every job that wants more and may be given it in this round."""
        jobs = (job for job in self.setting.jobs.values() if job.id not in self._gone | self._kept | self._settled)
        whole = (job for job in jobs if not job.waits_for_room)
        growing = (job for job in whole if job.id not in self._reshapes or self._reshapes[job.id].change is Change.GROW)
        entries = (entry_of(job, self.stage.placed.get(job.id), self.setting) for job in growing)
        return [entry for entry in entries if entry is not None]

    def running(self) -> list[Job]:
        """Every job that may lose replicas, or be moved, in this round."""
        return [
            job
            for job in self.setting.jobs.values()
            if is_movable(job, self.setting)
            and job.id not in self._gone
            and (job.id not in self._reshapes or self._reshapes[job.id].change is Change.SHRINK)
        ]

    def free(self) -> Amount:
        """Thousandths that are free or become free anywhere."""
        return sum(room.milli for room in self.stage.world.when_all_have_left().rooms.values())

    def start(self, job: Job, found: Candidate) -> None:
        """The job gets capacity that is free."""
        self._moved[job.id] = Start(job.id, found.placement, weighed(found, self.stage.world))
        self._take(self.stage.world.with_(job.spec, found.placement), {job.id: found.placement})

    def grow(self, job: Job, part: Placement) -> None:
        """The job gets more beside what it has, of what is free."""
        whole = plus(self.stage.placed[job.id], part)
        self._record_growth(job, whole)
        self._take(self.stage.world.with_(job.spec, part, is_part=True), {job.id: whole})

    def _record_growth(self, job: Job, whole: Placement) -> None:
        if job.active is not None:
            self._reshapes[job.id] = Reshape(job.active.attempt_id, Change.GROW, whole)
        else:
            self._moved[job.id] = replace(self._moved[job.id], placement=whole)

    def reserve(self, job: Job, placement: Placement) -> None:
        """What becomes free without anybody's doing is kept for the job, which waits for it."""
        self._kept.add(job.id)
        self.stage = replace(self.stage, world=promised(self.stage.world, job, placement))

    def carry_out(self, job: Job, chunk: Chunk, solution: Solution) -> None:
        """Victims leave, shrink or move, and the job is promised what that frees."""
        world, left, part = self._after(job, solution)
        victims = tuple(self._lose(id) for id, placement in left.items() if placement is None)
        for id, placement in left.items():
            if placement is not None:
                self._reshape(id, placement, job)
        whole = plus(self.stage.placed.get(job.id), part)
        if job.active is None:
            self._moved[job.id] = StartAfter(job.id, whole, victims)
        else:
            self._stops += [Stop(victim, Reason.PREEMPTED) for victim in victims]
            self._record_growth(job, whole)
        self._settled.add(job.id)
        self._take(replace(world, stopped=world.stopped | set(victims)), {**left, job.id: whole})

    def cut(self, job: Job, keys: tuple[ReplicaKey, ...]) -> None:
        """The job loses replicas, and nobody gets them."""
        placement = self.stage.placed[job.id]
        left = less(placement, job.spec, keys)
        leaving = part_of(job, placement, keys)
        if left is None:
            self._stops.append(Stop(self._lose(job.id), Reason.QUEUE_CAP_REACHED))
        else:
            self._reshapes[job.id] = Reshape(self._attempt(job.id), Change.SHRINK, left)
        self._take(self.stage.world.leaving([leaving], are_parts=left is not None), {job.id: left})

    def _after(self, job: Job, solution: Solution) -> tuple[World, dict[str, Placement | None], Placement]:
        """The world after a solution, what those have for whom something changes, and what the job gets.

        Whoever ends where they began keeps their devices, as far as the others find some on the same nodes.
        """
        outcome, placed = solution.outcome, self.stage.placed
        changed = {id: left for id, left in outcome.left.items() if left is None or spots_of(left) != spots_of(placed[id])}
        seats = {id: left for id, left in changed.items() if left is not None}
        return self._seated(job, changed, seats, outcome.part) or self._as_played(job, solution)

    def _seated(
        self, job: Job, changed: dict[str, Placement | None], seats: dict[str, Placement], part: Placement
    ) -> tuple[World, dict[str, Placement | None], Placement] | None:
        world = self._without(changed)
        left: dict[str, Placement | None] = dict.fromkeys(changed)
        for id, placement in seats.items():
            seated = reseated(placement, self.setting.jobs[id], world.when_all_have_left())
            if seated is None:
                return None
            left[id], world = seated, promised(world, self.setting.jobs[id], seated)
        mine = reseated(part, job, world.when_all_have_left())
        return None if mine is None else (promised(world, job, mine, is_part=self._runs(job)), left, mine)

    def _as_played(self, job: Job, solution: Solution) -> tuple[World, dict[str, Placement | None], Placement]:
        outcome = solution.outcome
        world = self._without(outcome.left)
        for id, placement in outcome.left.items():
            if placement is not None:
                world = promised(world, self.setting.jobs[id], placement)
        return promised(world, job, outcome.part, is_part=self._runs(job)), dict(outcome.left), outcome.part

    def _runs(self, job: Job) -> bool:
        return job.id in self.stage.placed

    def _without(self, ids: Iterable[str]) -> World:
        jobs, placed = self.setting.jobs, self.stage.placed
        return self.stage.world.leaving(part_of(jobs[id], placed[id], keys_of(placed[id])) for id in ids)

    def _lose(self, id: str) -> str:
        self._gone.add(id)
        self._reshapes.pop(id, None)
        return self._attempt(id)

    def _reshape(self, id: str, placement: Placement, beneficiary: Job) -> None:
        fewer = placement.replicas < self.stage.placed[id].replicas
        change = Change.SHRINK if fewer else Change.MIGRATE
        self._reshapes[id] = Reshape(self._attempt(id), change, placement, beneficiary.id)

    def _attempt(self, id: str) -> str:
        active = self.setting.jobs[id].active
        if active is None:
            raise ValueError(f"{id} does not run: it cannot be a victim")
        return active.attempt_id

    def _take(self, world: World, placed: dict[str, Placement | None] | dict[str, Placement]) -> None:
        both = {**self.stage.placed, **placed}
        self.stage = Stage(world, {id: placement for id, placement in both.items() if placement is not None})
        self.changes += 1

    def turns(self, waiting: Iterable[Waiting]) -> Turns:
        """What was decided, and who still waits."""
        others = tuple(workload for workload in waiting if workload.id not in self._moved)
        return Turns(tuple(self._moved.values()), others, self.stage.world, tuple(self._reshapes.values()), tuple(self._stops))
