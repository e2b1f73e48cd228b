"""The search for victims: the first scenario, in the order of victims, in which a job finds a place and the rules hold."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from domain.deserved.jobs import Chunk, Job, is_elastic, job_rank, next_to_evict
from domain.deserved.line import Entry, Line
from domain.deserved.placing import Idle, nodes_of
from domain.deserved.scenario import Evicted, Outcome, play
from domain.deserved.setting import Setting, Stage
from domain.feasibility import sift
from domain.fleet import Amount, Placement
from domain.parts import ReplicaKey, keys_of, less, only


@dataclass(frozen=True, slots=True)
class Candidate:
    """A running job that may lose replicas; one that is `protected` only what it has beyond its minimum."""

    job: Job
    protected: bool = False


Validator = Callable[[Mapping[str, Amount], Outcome], bool]
"""Whether the rules allow an outcome for what the beneficiary needs."""


@dataclass(frozen=True, slots=True)
class Solution:
    """Who has to leave, and what becomes of everybody then."""

    evicted: Evicted
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Quest:
    """What is searched for: a place for a chunk of a job at the expense of candidates, within so many scenarios."""

    job: Job
    chunk: Chunk
    candidates: Sequence[Candidate]
    others: Sequence[Entry]
    is_valid: Validator
    stage: Stage
    setting: Setting
    idle: Idle
    scenarios: int
    free: Mapping[str, Amount]
    free_in_all: Amount
    most_free: Amount

    @classmethod
    def of(
        cls,
        job: Job,
        chunk: Chunk,
        candidates: Sequence[Candidate],
        others: Sequence[Entry],
        is_valid: Validator,
        stage: Stage,
        setting: Setting,
    ) -> "Quest":
        """The quest with what is free or becomes free on each node that the job may use."""
        request, later = job.request(stage.placed.get(job.id)), stage.world.when_all_have_left()
        classes = sift(request, later).classes.values() if request else ()
        free = {entry.node.id: entry.milli for traits in classes for entry in later.nodes(traits)}
        scenarios = setting.facts.policy.rank.deserved.scenarios
        most = max(free.values(), default=0)
        return cls(
            job,
            chunk,
            candidates,
            others,
            is_valid,
            stage,
            setting,
            Idle(stage.world),
            scenarios,
            free,
            sum(free.values()),
            most,
        )


def find(quest: Quest) -> Solution | None:
    """Search with the victims of one node at a time, and then with those of as few nodes as could be enough.

    Of a gang first one replica is placed, then twice as many each time: what had to leave for fewer has to leave for more
    (KAI, `job_solver.go`).
    """
    for scenarios in (node_by_node, by_fewest_nodes):
        solution = _for_all_replicas(quest, scenarios)
        if solution is not None:
            return solution
    return None


Scenarios = Callable[[Quest, Chunk, Evicted], Iterator[Evicted]]


def _for_all_replicas(quest: Quest, scenarios: Scenarios) -> Solution | None:
    recorded: Evicted = {}
    solution = None
    for number in _doubling(sum(quest.chunk.values())):
        chunk = _first_of(quest.chunk, number)
        tried = islice(_worth_trying(quest, chunk, recorded, scenarios), quest.scenarios)
        solution = next((found for evicted in tried if (found := _try(quest, chunk, evicted)) is not None), None)
        if solution is None:
            return None
        recorded = solution.evicted
    return solution


def _doubling(most: int) -> Iterator[int]:
    number = 1
    while number < most:
        yield number
        number *= 2
    yield most


def _first_of(chunk: Chunk, number: int) -> Chunk:
    replicas = [group for group, count in chunk.items() for _ in range(count)]
    return Counter(replicas[:number])


def _worth_trying(quest: Quest, chunk: Chunk, recorded: Evicted, scenarios: Scenarios) -> Iterator[Evicted]:
    """What had to leave before, alone, then together with ever more; the same never twice."""
    tried = set()
    if recorded:
        tried.add(_fingerprint(recorded))
        yield recorded
    for evicted in scenarios(quest, chunk, recorded):
        if (fingerprint := _fingerprint(evicted)) not in tried:
            tried.add(fingerprint)
            yield evicted


def _fingerprint(evicted: Evicted) -> frozenset[tuple[str, ReplicaKey]]:
    return frozenset((id, key) for id, keys in evicted.items() for key in keys)


def _try(quest: Quest, chunk: Chunk, evicted: Evicted) -> Solution | None:
    outcome = play(quest.job, chunk, evicted, quest.others, quest.stage, quest.idle, quest.setting)
    needs = quest.setting.asked(quest.job, quest.stage.placed.get(quest.job.id), chunk)
    return Solution(evicted, outcome) if outcome is not None and quest.is_valid(needs, outcome) else None


def node_by_node(quest: Quest, chunk: Chunk, recorded: Evicted) -> Iterator[Evicted]:
    """Victim by victim, all victims so far that sit on one of the nodes of the last one (KAI, `nodelocalgreedy`)."""
    for potential, latest in _accumulated(quest, chunk, recorded):
        placed = quest.stage.placed
        for node in sorted(nodes_of(placed[latest], keys_of(placed[latest]))):
            there = {id: keys for id, keys in potential.items() if node in nodes_of(placed[id], keys)}
            evicted = _joined(recorded, there)
            if there and _Room(quest, evicted).could_take(chunk):
                yield evicted


def by_fewest_nodes(quest: Quest, chunk: Chunk, recorded: Evicted) -> Iterator[Evicted]:
    """Victim by victim, all victims so far on the smallest nodes that could be enough, then on one node more each time
    (KAI, `sub_scenario_emitter.go`).
    """
    for potential, _ in _accumulated(quest, chunk, recorded):
        room = _Room(quest, _joined(recorded, potential))
        sizes = _sizes(quest, chunk)
        seen = dict.fromkeys(node for id, keys in potential.items() for node in sorted(nodes_of(quest.stage.placed[id], keys)))
        nodes = sorted((node for node in seen if room.on(node) >= min(sizes)), key=room.on)
        missing = sum(sizes) - room.beside(seen)
        picked: set[str] = set()
        for node in nodes:
            picked.add(node)
            missing -= room.on(node)
            if missing <= 0:
                yield _joined(recorded, _touching(picked, potential, quest.stage))


def _touching(nodes: set[str], potential: Evicted, stage: Stage) -> Evicted:
    return {id: keys for id, keys in potential.items() if not nodes.isdisjoint(nodes_of(stage.placed[id], keys))}


def _joined(recorded: Evicted, more: Evicted) -> Evicted:
    return {id: (*recorded.get(id, ()), *more.get(id, ())) for id in (*recorded, *(id for id in more if id not in recorded))}


def _accumulated(quest: Quest, chunk: Chunk, recorded: Evicted) -> Iterator[tuple[dict[str, tuple[ReplicaKey, ...]], str]]:
    """Ever more victims, in order, once they could give enough room; with each step the last of them."""
    left = {candidate.job.id: quest.stage.placed[candidate.job.id] for candidate in quest.candidates}
    protected = {candidate.job.id for candidate in quest.candidates if candidate.protected}
    entries = (_victim(candidate.job, left[candidate.job.id], quest.setting) for candidate in quest.candidates)
    line = Line(quest.setting.books, quest.stage.world.usage, entries, backwards=True)
    potential: dict[str, tuple[ReplicaKey, ...]] = {}
    room = _Room(quest, recorded)
    while line:
        job = quest.setting.jobs[line.pop().job_id]
        keys = next_to_evict(job, left[job.id])
        if not keys or (job.id in protected and not is_elastic(job, left[job.id])):
            continue
        known = set(recorded.get(job.id, ()))
        rest = less(left[job.id], job.spec, known if known.intersection(keys) else keys)
        if rest is not None:
            left[job.id] = rest
            line.push(_victim(job, rest, quest.setting))
        if known.intersection(keys):
            continue
        potential[job.id] = (*potential.get(job.id, ()), *keys)
        room.free(job, keys)
        if room.could_take(chunk):
            yield dict(potential), job.id


def _victim(job: Job, left: Placement, setting: Setting) -> Entry:
    """The job in the line of victims, with what it would give up next."""
    part = only(left, job.spec, next_to_evict(job, left))
    return Entry(job.id, job.queue, job_rank(job, left), setting.books.named(part.by_sku))


class _Room:
    """Thousandths on every node that the beneficiary may use: what is free or becomes free, and what the evicted leave."""

    def __init__(self, quest: Quest, evicted: Evicted) -> None:
        self._quest = quest
        self._freed: Counter[str] = Counter()
        for id, keys in evicted.items():
            self.free(quest.setting.jobs[id], keys)

    def free(self, job: Job, keys: Iterable[ReplicaKey]) -> None:
        part = only(self._quest.stage.placed[job.id], job.spec, keys)
        self._freed.update({share.node_id: share.room.milli for share in part.shares if share.node_id in self._quest.free})

    def on(self, node: str) -> Amount:
        return self._quest.free.get(node, 0) + self._freed[node]

    def beside(self, nodes: Iterable[str]) -> Amount:
        """What all other nodes have."""
        return self._quest.free_in_all + self._freed.total() - sum(map(self.on, nodes))

    def could_take(self, chunk: Chunk) -> bool:
        """A cheap necessary condition: enough in all, and enough on one node for the largest replica."""
        sizes = _sizes(self._quest, chunk)
        most = max([self._quest.most_free, *map(self.on, self._freed)])
        return self.beside(()) >= sum(sizes) and most >= max(sizes, default=0)


def _sizes(quest: Quest, chunk: Chunk) -> list[Amount]:
    """Thousandths of each replica of the chunk."""
    sizes = {group.name: group.milli for group in quest.job.spec.groups}
    return [sizes[group] for group, number in chunk.items() for _ in range(number)]
