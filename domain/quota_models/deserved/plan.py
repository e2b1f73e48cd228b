"""The plan in the making: what was decided so far, and the stage that it leaves."""

from collections.abc import Iterable
from dataclasses import replace

from corral.api import Reason
from domain.decision import Change, Reshape, Start, StartAfter, Stop
from domain.placement.layout import Candidate
from domain.placement.scoring import weighed
from domain.pool.fleet import Amount, Placement
from domain.pool.parts import ReplicaKey, keys_of, less, plus, spots_of
from domain.pool.workload import charges_of
from domain.quota_models.deserved.jobs import Job
from domain.quota_models.deserved.lineup import Entry, Lineup
from domain.quota_models.deserved.placing import part_of, promised, reseated
from domain.quota_models.deserved.protection import is_movable
from domain.quota_models.deserved.search import Solution
from domain.quota_models.deserved.setting import Setting, Stage, entry_of
from domain.quota_models.turns import Turns
from domain.remembered.lanes import Backlog
from domain.worlds.world import World


class Draft:
    """Decisions in their order; it lives inside one round. `changes` counts them."""

    def __init__(self, setting: Setting, world: World) -> None:
        placed = {job.id: job.active.placement for job in setting.running.values() if job.active is not None}
        self.setting, self.stage, self.changes = setting, Stage(world, placed), 0
        self._moved: dict[str, Start | StartAfter] = {}
        self._reshapes: dict[str, Reshape] = {}
        self._stops: list[Stop] = []
        self._gone: set[str] = set()
        self._kept: set[str] = set()
        self._settled: set[str] = set()
        self._wishes: dict[str, Entry] = {}
        """What those want next who have something, by workload id."""
        self._note(placed)

    def in_line(self) -> Lineup:
        """Every job that wants more and may be given it in this round."""
        served = self._gone | self._kept | self._settled
        growing = [entry for id, entry in self._wishes.items() if id not in served and self._may_grow(id)]
        return Lineup(growing, self.setting.peers, self._still_waiting())

    def wish(self, job: Job) -> Entry | None:
        """What the job wants beside what it has, or none when it has all that it wants."""
        return self._wishes.get(job.id)

    def _may_grow(self, id: str) -> bool:
        is_changing = id in self._reshapes and self._reshapes[id].change is not Change.GROW
        return not (self.setting.job(id).waits_for_room or is_changing)

    def _note(self, jobs: Iterable[str]) -> None:
        for id in jobs:
            self._wishes.pop(id, None)
            if (entry := entry_of(self.setting.job(id), self.stage.placed.get(id), self.setting.books)) is not None:
                self._wishes[id] = entry

    def _still_waiting(self) -> Backlog:
        backlog = self.setting.backlog
        return backlog.without(filter(backlog.has, self._moved.keys() | self._kept))

    def running(self) -> list[Job]:
        """Every job that may lose replicas, or be moved, in this round."""
        return [
            job
            for job in self.setting.running.values()
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
        whole = plus(self.stage.placed[job.id], part, job.remnants)
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

    def carries_out(self, job: Job, solution: Solution) -> bool:
        """Victims leave, shrink or move, and the job is promised what that frees; not where caps bind it to others too."""
        world, left, part = self._after(job, solution)
        if not world.usage.keeps_caps(charges_of(job.spec, part), self.stage.world.usage):
            return False
        victims = tuple(self._lose(id) for id, placement in left.items() if placement is None)
        for id, placement in left.items():
            if placement is not None:
                self._reshape(id, placement, job)
        whole = plus(self.stage.placed.get(job.id), part, job.remnants)
        if job.active is None:
            self._moved[job.id] = StartAfter(job.id, whole, victims)
        else:
            self._stops += [Stop(victim, Reason.PREEMPTED, beneficiary=job.id) for victim in victims]
            self._record_growth(job, whole)
        self._settled.add(job.id)
        self._take(replace(world, stopped=world.stopped | set(victims)), {**left, job.id: whole})
        return True

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
            seated = reseated(placement, self.setting.job(id), world.when_all_have_left())
            if seated is None:
                return None
            left[id], world = seated, promised(world, self.setting.job(id), seated)
        mine = reseated(part, job, world.when_all_have_left())
        return None if mine is None else (promised(world, job, mine, is_part=self._runs(job)), left, mine)

    def _as_played(self, job: Job, solution: Solution) -> tuple[World, dict[str, Placement | None], Placement]:
        outcome = solution.outcome
        world = self._without(outcome.left)
        for id, placement in outcome.left.items():
            if placement is not None:
                world = promised(world, self.setting.job(id), placement)
        return promised(world, job, outcome.part, is_part=self._runs(job)), dict(outcome.left), outcome.part

    def _runs(self, job: Job) -> bool:
        return job.id in self.stage.placed

    def _without(self, ids: Iterable[str]) -> World:
        job_of, placed = self.setting.job, self.stage.placed
        return self.stage.world.leaving(part_of(job_of(id), placed[id], keys_of(placed[id])) for id in ids)

    def _lose(self, id: str) -> str:
        self._gone.add(id)
        self._reshapes.pop(id, None)
        return self._attempt(id)

    def _reshape(self, id: str, placement: Placement, beneficiary: Job) -> None:
        fewer = placement.replicas < self.stage.placed[id].replicas
        change = Change.SHRINK if fewer else Change.MIGRATE
        self._reshapes[id] = Reshape(self._attempt(id), change, placement, beneficiary.id)

    def _attempt(self, id: str) -> str:
        active = self.setting.job(id).active
        if active is None:
            raise ValueError(f"{id} does not run: it cannot be a victim")
        return active.attempt_id

    def _take(self, world: World, placed: dict[str, Placement | None] | dict[str, Placement]) -> None:
        both = {**self.stage.placed, **placed}
        self.stage = Stage(world, {id: placement for id, placement in both.items() if placement is not None})
        self.changes += 1
        self._note(placed)

    def turns(self) -> Turns:
        """What was decided, and who still waits."""
        others = self.setting.backlog.without(filter(self.setting.backlog.has, self._moved))
        moved, reshapes, stops = tuple(self._moved.values()), tuple(self._reshapes.values()), tuple(self._stops)
        return Turns(moved, others, self.stage.world, reshapes, stops, awaiting=frozenset(self._kept))
