"""The search for victims: the first scenario, in the order of victims, in which a job finds a place and the rules hold."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from domain.placement.feasibility import sift
from domain.pool.fleet import Amount
from domain.pool.parts import ReplicaKey, keys_of, less, only
from domain.quota_models.deserved.jobs import Chunk, Job, is_elastic, job_rank, next_to_evict
from domain.quota_models.deserved.line import Line
from domain.quota_models.deserved.lineup import Entry, Lineup
from domain.quota_models.deserved.placing import Idle, nodes_of
from domain.quota_models.deserved.scenario import Evicted, Outcome, play
from domain.quota_models.deserved.setting import Setting, Stage


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


@dataclass(frozen=True)
class Quest:
    """What is searched for: a place for a chunk of a job at the expense of candidates, within so many scenarios."""

    job: Job
    chunk: Chunk
    candidates: Sequence[Candidate]
    others: Lineup
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
        others: Lineup,
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

    @cached_property
    def most_by_a_node(self) -> Amount:
        """What all candidates who sit on one node could leave, wherever they do, on the node of which that is most."""
        by_node = Counter[str]()
        for candidate in self.candidates:
            placement = self.stage.placed[candidate.job.id]
            by_node.update(dict.fromkeys({share.node_id for share in placement.shares}, placement.milli))
        return max(by_node.values(), default=0)


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
    placed, left_anyway = quest.stage.placed, _Room.of(quest, recorded)
    if left_anyway.beside(()) + quest.most_by_a_node < sum(_sizes(quest, chunk)):
        return
    for victims in _accumulated(quest, chunk, recorded):
        for node in sorted(nodes_of(placed[victims.latest], keys_of(placed[victims.latest]))):
            there = victims.on([node])
            if there and left_anyway.with_(map(victims.freed_by, there)).could_take(chunk):
                yield _joined(recorded, there)


def by_fewest_nodes(quest: Quest, chunk: Chunk, recorded: Evicted) -> Iterator[Evicted]:
    """Victim by victim, all victims so far on the smallest nodes that could be enough, then on one node more each time
    (KAI, `sub_scenario_emitter.go`).

    Where nothing has changed on any node that could be enough for a replica, there is nothing that was not tried before.
    """
    sizes = _sizes(quest, chunk)
    for victims in _accumulated(quest, chunk, recorded):
        room = victims.room
        if all(room.on(node) < min(sizes) for node in victims.news()):
            continue
        missing = sum(sizes) - room.beside(victims.nodes)
        picked = list[str]()
        for node in sorted((node for node in victims.nodes if room.on(node) >= min(sizes)), key=victims.smallest_first):
            picked.append(node)
            missing -= room.on(node)
            if missing <= 0:
                yield _joined(recorded, victims.on(picked))


def _joined(recorded: Evicted, more: Evicted) -> Evicted:
    return {id: (*recorded.get(id, ()), *more.get(id, ())) for id in (*recorded, *(id for id in more if id not in recorded))}


def _accumulated(quest: Quest, chunk: Chunk, recorded: Evicted) -> Iterator["_Victims"]:
    """Ever more victims, in order, once they could give enough room: the same object with each of them."""
    left = {candidate.job.id: quest.stage.placed[candidate.job.id] for candidate in quest.candidates}
    protected = {candidate.job.id for candidate in quest.candidates if candidate.protected}
    next_keys = {candidate.job.id: next_to_evict(candidate.job, left[candidate.job.id]) for candidate in quest.candidates}

    def entry_of(job: Job) -> Entry:
        """The job in the line of victims, with what it would give up next."""
        part = only(left[job.id], job.spec, next_keys[job.id])
        return Entry(job.id, job.queue, job_rank(job, left[job.id]), quest.setting.books.named(part.by_sku))

    lineup = Lineup([entry_of(candidate.job) for candidate in quest.candidates], (), quest.setting.backlog)
    line = Line(quest.setting.books, quest.stage.world.usage, lineup, backwards=True)
    victims = _Victims(quest, recorded)
    while (entry := line.next()) is not None:
        job = quest.setting.job(entry.job_id)
        keys = next_keys[job.id]
        if not keys or (job.id in protected and not is_elastic(job, left[job.id])):
            continue
        known = set(recorded.get(job.id, ()))
        rest = less(left[job.id], job.spec, known if known.intersection(keys) else keys)
        if rest is not None:
            left[job.id], next_keys[job.id] = rest, next_to_evict(job, rest)
            line.push(entry_of(job))
        if known.intersection(keys):
            continue
        victims.add(job, keys)
        if victims.room.could_take(chunk):
            yield victims


Freed = Counter[str]
"""Thousandths by node."""


class _Room:
    """Thousandths on every node that the beneficiary may use: what is free or becomes free, and what the evicted leave."""

    def __init__(self, quest: Quest, freed: Freed) -> None:
        self._quest, self._freed = quest, freed
        self._freed_in_all = freed.total()
        self._most = max([quest.most_free, *map(self.on, freed)])

    @classmethod
    def of(cls, quest: Quest, evicted: Evicted) -> "_Room":
        """What there is once these have left."""
        room = cls(quest, Counter())
        for id, keys in evicted.items():
            room.free(freed(quest, quest.setting.job(id), keys))
        return room

    def with_(self, more: Iterable[Freed]) -> "_Room":
        """The same where more is freed."""
        found = _Room(self._quest, self._freed.copy())
        for each in more:
            found.free(each)
        return found

    def free(self, more: Freed) -> None:
        """Let more be freed."""
        self._freed.update(more)
        self._freed_in_all += more.total()
        self._most = max([self._most, *map(self.on, more)])

    def on(self, node: str) -> Amount:
        """What one node has."""
        return self._quest.free.get(node, 0) + self._freed[node]

    def beside(self, nodes: Iterable[str]) -> Amount:
        """What all other nodes have."""
        return self._quest.free_in_all + self._freed_in_all - sum(map(self.on, nodes))

    def could_take(self, chunk: Chunk) -> bool:
        """A cheap necessary condition: enough in all, and enough on one node for the largest replica."""
        sizes = _sizes(self._quest, chunk)
        return self.beside(()) >= sum(sizes) and self._most >= max(sizes, default=0)


def freed(quest: Quest, job: Job, keys: Iterable[ReplicaKey]) -> Freed:
    """What replicas leave on nodes that the beneficiary may use."""
    part = only(quest.stage.placed[job.id], job.spec, keys)
    return Counter({share.node_id: share.room.milli for share in part.shares if share.node_id in quest.free})


class _Victims:
    """Victims so far, by nodes: what each would lose, and what there is once they and those who leave anyway have left."""

    def __init__(self, quest: Quest, recorded: Evicted) -> None:
        self._quest = quest
        self.room = _Room.of(quest, recorded)
        self.latest = ""
        self.nodes: dict[str, tuple[int, str]] = {}
        """All nodes that they sit on, each with the place of the first victim there."""
        self._keys: dict[str, tuple[ReplicaKey, ...]] = {}
        self._places: dict[str, int] = {}
        self._sit: dict[str, set[str]] = {}
        self._there: dict[str, set[str]] = {}
        self._freed: dict[str, Freed] = {}
        self._news: set[str] = set()

    def add(self, job: Job, keys: tuple[ReplicaKey, ...]) -> None:
        """Let a job lose these replicas as well."""
        self.latest, place = job.id, self._places.setdefault(job.id, len(self._places))
        more, nodes = freed(self._quest, job, keys), nodes_of(self._quest.stage.placed[job.id], keys)
        self._keys[job.id] = (*self._keys.get(job.id, ()), *keys)
        self._freed.setdefault(job.id, Counter()).update(more)
        self._sit.setdefault(job.id, set()).update(nodes)
        for node in nodes:
            self._there.setdefault(node, set()).add(job.id)
            self.nodes[node] = min(self.nodes.get(node, (place, node)), (place, node))
        self._news |= self._sit[job.id]
        self.room.free(more)

    def on(self, nodes: Iterable[str]) -> Evicted:
        """Those who sit on any of these nodes, in order, with all that they would lose."""
        there = set[str]().union(*(self._there.get(node, ()) for node in nodes))
        return {id: self._keys[id] for id in sorted(there, key=self._places.__getitem__)}

    def freed_by(self, id: str) -> Freed:
        """What one of them leaves."""
        return self._freed[id]

    def smallest_first(self, node: str) -> tuple[Amount, tuple[int, str]]:
        """The order of nodes by what they have, then by who sits there."""
        return self.room.on(node), self.nodes[node]

    def news(self) -> set[str]:
        """Nodes of those who have been added, or would lose more, since somebody asked last."""
        news, self._news = self._news, set()
        return news


def _sizes(quest: Quest, chunk: Chunk) -> list[Amount]:
    """Thousandths of each replica of the chunk."""
    sizes = {group.name: group.milli for group in quest.job.spec.groups}
    return [sizes[group] for group, number in chunk.items() for _ in range(number)]
