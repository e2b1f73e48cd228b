"""`python -m tests.benchmarks.queueing`: how long the jobs of a trace wait and take when rounds decide about them; JSON lines.

A trace (the columns of `worker/demo/trace.py`) is replayed in simulated time: jobs come, start, are stopped, go on and end, and
rounds of one planner decide about them as they do in a pool. Plain rules that are worked out in the same run stand beside it.

What is assumed: nodes of eight accelerators that never fail; whoever is stopped leaves at once and has lost nothing, but runs
for `--restart` seconds longer, and comes back into line; a round at most every `--every` seconds, after something has happened
or five minutes while somebody waits, whose decisions are carried out at once. Jobs are promised nothing (tier `basic`). Wide
ones are gangs of single accelerators, wherever these are, for the plain rules count accelerators alone; with `--whole-nodes`
gangs of as few equal replicas as nodes allow.
"""

import argparse
import heapq
import math
import multiprocessing
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random

from corral.api import Explanation, Ordering, QueueSpec, QuotaSpec, ReplicaGroup, SlaTier, State, WorkloadTerms
from corral.cli.policies import read_policy
from corral.cli.problems import InvalidInput
from corral.policy import AttainedStep
from domain import solver
from domain.decision import Plan, Refuse, Start, StartAfter, Wait
from domain.pool.fleet import Node, Placement
from domain.pool.versions import Crowd, Versions
from domain.pool.workload import Active, Waiting, next_attempt
from domain.remembered.memory import Memory
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.benchmarks.figures import Figure, spread
from tests.benchmarks.lives import HOUR, RULES, WIDE, Life, figures_of
from tests.builders import a_node
from worker.collecting import collect_a_little
from worker.demo.trace import COHORT, NODE_ACCELERATORS, SKU, Job, gang, queue_of, queues_of, read_jobs

DAY = timedelta(days=1)

TICK = timedelta(minutes=5)
"""While somebody waits there is a round after so long at the latest: what runs may be protected no more."""

STEP = 100
"""Of priority, between classes: more than waiting adds within a trace (one a day by default)."""

SHORT_HOURS = (1, 10)
"""Where classes by expected duration end."""

ERROR = 3.0
"""Expected durations are wrong by up to that factor either way, all parts of it being as likely on a logarithmic scale."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to run the pool: a preset, and what its users and operators do.

    `priority` is that of a job that is expected to take so many seconds. With `attained` these are the policy's steps, by which
    it falls with what a job has run.
    """

    preset: str = "default"
    ordering: Ordering = Ordering.BEST_EFFORT_FIFO
    by_cluster: bool = False
    priority: Callable[[Job, float], int] = lambda _job, _expected: 0
    attained: tuple[AttainedStep, ...] = ()


def _by_length(_job: Job, expected: float) -> int:
    return -STEP * bisect_right([hours * HOUR for hours in SHORT_HOURS], expected)


def _wide_or_by_length(job: Job, expected: float) -> int:
    return STEP if job.accelerators >= WIDE else _by_length(job, expected)


def _steps(*hours: int) -> tuple[AttainedStep, ...]:
    return tuple(AttainedStep(after_seconds=each * HOUR, lowers_priority_by=STEP) for each in hours)


WAYS: Mapping[str, Way] = {
    "default": Way(),
    "strict": Way(ordering=Ordering.STRICT_FIFO),
    "clusters": Way(by_cluster=True),
    "wide-first": Way(priority=lambda job, _: STEP * (job.accelerators >= WIDE)),
    "expected": Way(priority=_by_length),
    "expected-wide-first": Way(priority=_wide_or_by_length),
    "attained": Way("tiresias-like"),
    "attained-twice": Way(attained=_steps(4, 24)),
    "slurm-like": Way("slurm-like"),
    "kueue-like": Way("kueue-like"),
    "kai-like": Way("kai-like"),
}
"""`clusters`: each cluster of the trace is a queue that owns a part by its work and lends it. `expected`: priority falls with
the expected duration. `attained`: the policy lowers it once a job has run for 24 hours, or for 4 and for 24, and nobody
expects anything. The others say it."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which circumstances ways are compared."""

    accelerators: int
    every: int = 60
    restart: float = 0.0
    whole_nodes: bool = False
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of everybody, how many rounds that took and how much CPU time they, and how many moved."""

    lives: Sequence[Life]
    rounds: int = 0
    seconds: float = 0.0
    moves: int = 0


@dataclass(slots=True)
class _Progress:
    """A job as it has come so far; `left` is for how long it still has to run, and `ran` for how long it has, in seconds."""

    job: Job
    id: str
    priority: int
    left: float
    ran: float = 0.0
    runs: list[tuple[float, float]] = field(default_factory=list)
    stopped_at: list[datetime] = field(default_factory=list)
    stops: int = 0
    relieved_by: frozenset[str] = frozenset()


class Pool:
    """A pool that decides about the jobs of a trace in simulated time."""

    def __init__(self, way: Way, jobs: Sequence[Job], terms: Terms) -> None:
        self._way, self._terms, self._begin = way, terms, jobs[0].at
        self._jobs = {f"{place:06}": self._progress(f"{place:06}", job) for place, job in enumerate(jobs)}
        self._coming = [(each.job.at, each.id) for each in self._jobs.values()]
        heapq.heapify(self._coming)
        self._asked: dict[tuple[str, int, int], WorkloadTerms] = {}
        self._due: list[tuple[datetime, str]] = []
        """When a running attempt ends; of one that has left nothing is due."""
        self._active: dict[str, Active] = {}
        """By attempt id."""
        self._nodes = {node.id: node for node in _nodes(terms.accelerators)}
        queues = _queues(way, jobs, terms.accelerators)
        policy = read_policy(way.preset).content
        if way.attained:
            rank = policy.rank.model_copy(update={"attained_service": way.attained})
            policy = policy.model_copy(update={"rank": rank})
        self._snapshot = Snapshot(tuple(self._nodes.values()), queues, Crowd(Versions[Waiting]()), policy=policy)
        self._moves = 0

    def _progress(self, id: str, job: Job) -> _Progress:
        factor = ERROR ** Random(f"{self._terms.seed} {id}").uniform(-1, 1)
        return _Progress(job, id, self._way.priority(job, job.duration * factor), job.duration)

    def run(self) -> Outcome:
        """Let everybody come, run and end."""
        memory, rounds, seconds = Memory(), 0, 0.0
        again, now = False, self._begin - timedelta(seconds=self._terms.every)
        while self._coming or self._due:
            now = self._next_round(now, again=again)
            self._happens(now)
            began = time.process_time()
            plan = schedule(self._snapshot, now, memory=memory)
            seconds += time.process_time() - began
            rounds += 1
            self._carry_out(plan, now)
            again = plan.unfinished
        assert not self._waiting, "somebody waits for ever"
        lives = [self._life(each) for each in self._jobs.values()]
        return Outcome(lives, rounds, seconds, self._moves)

    def _next_round(self, last: datetime, *, again: bool) -> datetime:
        """When something has happened next, or time may have changed something for those who wait."""
        after = last + timedelta(seconds=self._terms.every)
        happens = min(line[0][0] for line in (self._coming, self._due) if line)
        tick = [last + TICK] if self._waiting else []
        return after if again else max(after, self._on_the_grid(min([happens, *tick])))

    def _on_the_grid(self, moment: datetime) -> datetime:
        every = timedelta(seconds=self._terms.every)
        return self._begin - -(moment - self._begin) // every * every if every else moment

    @property
    def _waiting(self) -> Versions[Waiting]:
        waiting = self._snapshot.waiting
        assert isinstance(waiting, Crowd)
        return waiting.by_name

    def _life(self, each: _Progress) -> Life:
        came = (each.job.at - self._begin).total_seconds()
        return Life(came, each.job.duration, each.job.accelerators, tuple(each.runs), each.stops)

    # What happens by itself

    def _happens(self, now: datetime) -> None:
        """Whoever has come by now waits, and who has ended is gone."""
        come: dict[str, Waiting | None] = {}
        while self._coming and self._coming[0][0] <= now:
            at, id = heapq.heappop(self._coming)
            come[id] = Waiting(id, self._terms_of(self._jobs[id]), at, since=at, is_new=True)
        ended: dict[str, None] = {}
        while self._due and self._due[0][0] <= now:
            at, attempt_id = heapq.heappop(self._due)
            if (active := self._active.get(attempt_id)) is not None:
                self._leaves(active, at)
                ended[active.id] = None
        self._forget_stops(now)
        waiting = {id: replace(each, is_new=False) for id, each in self._waiting.items() if each.is_new} | come
        self._snapshot = replace(
            self._snapshot,
            nodes=tuple(self._nodes.values()),
            active=tuple(self._active.values()),
            waiting=Crowd(self._waiting.with_(waiting)),
            over_quota=self._snapshot.over_quota.with_(ended),
        )

    def _forget_stops(self, now: datetime) -> None:
        """Stops count for a day."""
        for attempt_id, active in self._active.items():
            if active.preemptions and (late := self._stops_of_late(active.id, now)) != active.preemptions:
                self._active[attempt_id] = replace(active, preemptions=late)

    def _stops_of_late(self, id: str, now: datetime) -> int:
        return sum(now - at < DAY for at in self._jobs[id].stopped_at)

    def _terms_of(self, each: _Progress) -> WorkloadTerms:
        """What a job asks for; the same object for all who ask for the same."""
        queue = queue_of(each.job.cluster) if self._way.by_cluster else COHORT
        asked = queue, each.job.accelerators, each.priority
        if asked not in self._asked:
            single = ReplicaGroup(count=each.job.accelerators)
            group = gang(each.job.accelerators) if self._terms.whole_nodes else single
            self._asked[asked] = WorkloadTerms(queue=queue, tier=SlaTier.BASIC, priority=asked[2], groups=(group,))
        return self._asked[asked]

    # What rounds decide

    def _carry_out(self, plan: Plan, now: datetime) -> None:
        """Whoever must leave is gone and waits again, who moves and who starts runs."""
        told, waits = dict[str, Explanation | None](), dict[str, Waiting | None]()
        stopped = {stop.attempt_id: None for stop in plan.stops} | dict(plan.preempts)
        for attempt_id, beneficiary in stopped.items():
            active = self._active[attempt_id]
            self._is_stopped(active, now)
            each = self._jobs[active.id]
            waits[active.id] = replace(self._back_in_line(active), since=now, relieved_by=each.relieved_by)
            if beneficiary:
                self._jobs[beneficiary].relieved_by |= {active.id}
        moving = [(self._active[reshape.attempt_id], reshape.placement) for reshape in plan.reshapes]
        for active, _ in moving:
            self._is_stopped(active, now, moves=True)
        for active, placement in moving:
            self._starts(self._back_in_line(active), placement, now)
        for decision in plan.decisions:
            match decision:
                case Start() | StartAfter():
                    self._starts(self._waiting[decision.workload_id], decision.placement, now)
                    waits[decision.workload_id] = told[decision.workload_id] = None
                case Wait():
                    told[decision.workload_id] = decision.explanation
                case Refuse():
                    raise AssertionError(f"{decision.workload_id} was refused: {decision.explanation}")
        over: dict[str, bool | None] = {
            id: id in plan.over_quota or None for id in self._snapshot.over_quota.keys() | plan.over_quota
        }
        self._snapshot = replace(
            self._snapshot,
            waiting=Crowd(self._waiting.with_(waits)),
            told=self._snapshot.told.with_(told),
            over_quota=self._snapshot.over_quota.with_(over),
        )

    def _back_in_line(self, active: Active) -> Waiting:
        return replace(active.back_in_line(), ran_seconds=int(self._jobs[active.id].ran))

    def _starts(self, workload: Waiting, placement: Placement, now: datetime) -> None:
        active = next_attempt(workload, State.RUNNING, placement, {}, now)
        active = replace(active, started_at=now, preemptions=self._stops_of_late(workload.id, now))
        self._active[active.attempt_id] = active
        self._take(active, sign=1)
        heapq.heappush(self._due, (now + timedelta(seconds=self._jobs[workload.id].left), active.attempt_id))

    def _is_stopped(self, active: Active, now: datetime, *, moves: bool = False) -> None:
        self._leaves(active, now)
        each = self._jobs[active.id]
        each.left += self._terms.restart
        if moves:
            self._moves += 1
        else:
            each.stops += 1
        each.stopped_at.append(now)

    def _leaves(self, active: Active, at: datetime) -> None:
        each, ran = self._jobs[active.id], _since(active, at)
        assert active.started_at is not None
        begin = (active.started_at - self._begin).total_seconds()
        each.runs.append((begin, begin + ran))
        each.ran, each.left = each.ran + ran, max(0.0, each.left - ran)
        del self._active[active.attempt_id]
        self._take(active, sign=-1)

    def _take(self, active: Active, sign: int) -> None:
        for share in active.placement.shares:
            node = self._nodes[share.node_id]
            free = node.free - share.room if sign > 0 else node.free + share.room
            self._nodes[node.id] = replace(node, free=free)


def _since(active: Active, at: datetime) -> float:
    return (at - active.started_at).total_seconds() if active.started_at else 0.0


def _nodes(accelerators: int) -> Iterator[Node]:
    for number in range(math.ceil(accelerators / NODE_ACCELERATORS)):
        here = min(NODE_ACCELERATORS, accelerators - number * NODE_ACCELERATORS)
        yield a_node(f"n{number:04}", gpus=here, sku=SKU)


def _queues(way: Way, jobs: Sequence[Job], accelerators: int) -> tuple[QueueSpec, ...]:
    if way.by_cluster:
        return queues_of(jobs, accelerators, lambda job: job.duration).queues
    return (QueueSpec(name=COHORT, ordering=way.ordering, quotas=(QuotaSpec(sku=SKU, nominal=accelerators),)),)


def replayed(name: str, jobs: Sequence[Job], terms: Terms) -> Outcome:
    """The jobs under one of the ways; to be called in a process of its own."""
    solver.load()
    collect_a_little()
    return Pool(WAYS[name], jobs, terms).run()


def in_a_process_of_its_own(name: str, jobs: Sequence[Job], terms: Terms) -> Outcome:
    """The same in one that has done nothing else."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        return processes.submit(replayed, name, jobs, terms).result()


# What it comes to


def measure(jobs: Sequence[Job], names: Sequence[str], terms: Terms) -> Iterator[Figure]:
    """Figures of the plain rules, then of each way beside them, one way after the other."""
    plain = {name: figures_of(rule(jobs, terms.accelerators), terms.accelerators) for name, rule in RULES.items()}
    for name, found in plain.items():
        yield from (Figure(f"{name}: {what}", unit, spread([value])) for what, (value, unit) in found.items())
    for name in names:
        print(f"replaying {len(jobs):,} jobs: {name}", file=sys.stderr)
        yield from _beside(name, in_a_process_of_its_own(name, jobs, terms), plain, terms)


def _beside(
    name: str, outcome: Outcome, plain: Mapping[str, Mapping[str, tuple[float, str]]], terms: Terms
) -> Iterator[Figure]:
    """Completion beside that of backfill, and waits beside those of strict FIFO."""
    for what, (value, unit) in figures_of(outcome.lives, terms.accelerators).items():
        rule = "backfill" if what.startswith("completion") else "strict FIFO" if what.startswith("wait") else None
        beside = plain[rule][what][0] if rule else 0.0
        if beside:
            yield Figure(f"{name}: {what}, beside {rule}", unit, spread([value]), spread([beside]), spread([value / beside]))
        else:
            yield Figure(f"{name}: {what}", unit, spread([value]))
    yield Figure(f"{name}: moves", "moves", spread([outcome.moves]))
    yield Figure(f"{name}: rounds", "rounds", spread([outcome.rounds]))
    yield Figure(f"{name}: all rounds", "s of CPU time", spread([outcome.seconds]))


def jobs_of(file: Path, begin: datetime | None, end: datetime | None, most: int | None, widest: int) -> list[Job]:
    """The jobs of a trace that came in that time, the same line once, in the order of their arrival.

    Raises:
        InvalidInput: something is wrong with the file, or with what is left of it.
    """
    read = sorted(set(read_jobs(file)))
    chosen = [job for job in read if (begin is None or begin <= job.at) and (end is None or job.at < end)][:most]
    if not chosen:
        raise InvalidInput([f"{file}: no job came in that time; expected some from {read[0].at} to {read[-1].at}"])
    if wider := [job for job in chosen if job.accelerators > widest]:
        asked = f"a job of {wider[0].at} needs {wider[0].accelerators} accelerators"
        raise InvalidInput([f"{file}: {asked}; expected {widest} at most, for so many are there"])
    return chosen


def _positive(kind: Callable[[str], float], text: str) -> float:
    value = kind(text)
    if not 0 < value < math.inf:
        raise ValueError(text)
    return value


def _day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def options() -> argparse.ArgumentParser:
    """What may be chosen."""
    whole = partial(_positive, int)
    whole.__name__ = "whole number above 0"  # type: ignore[attr-defined]
    _day.__name__ = "day"
    parser = argparse.ArgumentParser(description="How long the jobs of a trace wait and take when rounds decide about them.")
    parser.add_argument("--trace", type=Path, required=True, help="jobs: timestamp, duration, num_gpus, cluster")
    parser.add_argument("--accelerators", type=whole, default=480, help="in nodes of eight")
    parser.add_argument("--from", dest="begin", type=_day, help="the first day, such as 2017-10-02")
    parser.add_argument("--to", dest="end", type=_day, help="the first day not any more")
    parser.add_argument("--jobs", type=whole, help="only the first so many")
    parser.add_argument("--policy", nargs="+", choices=tuple(WAYS), default=["default"])
    parser.add_argument("--every", type=whole, default=60, help="seconds between rounds at the least")
    parser.add_argument("--restart", type=float, default=0.0, help="seconds that a job runs longer for each stop")
    parser.add_argument("--whole-nodes", action="store_true", help="wide jobs want nodes of their own")
    parser.add_argument("--seed", type=int, default=1, help="of the errors of expected durations")
    return parser


def main() -> None:
    """Measure, and print each figure when it is there."""
    given = options().parse_args()
    try:
        jobs = jobs_of(given.trace, given.begin, given.end, given.jobs, given.accelerators)
    except InvalidInput as error:
        raise SystemExit(str(error)) from error
    terms = Terms(given.accelerators, given.every, given.restart, given.whole_nodes, given.seed)
    for figure in measure(jobs, given.policy, terms):
        print(figure.as_json(), flush=True)


if __name__ == "__main__":
    main()
