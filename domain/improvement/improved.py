"""Improvement: once all turns were taken, work that found no room starts where others of the round can make some.

Rank decides: in the order of turns each workload that waits is given a place if there is a plan in which it and all that have
started before have one. So nobody's start costs anybody of higher rank theirs, and no start of the greedy turns is lost.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from corral.api import WHOLE, Ordering
from corral.policy import QuotaModel
from domain.decision import Fallback, Method, Start
from domain.facts import Facts
from domain.improvement.bench import Bench, Seat
from domain.improvement.rearrangement import Work, could_fit, rearranged
from domain.improvement.rebalancing import LONGEST_RUN, is_fungible, rebalanced
from domain.improvement.relaxation import Homes, all_fit
from domain.placement.feasibility import Offer
from domain.pool.workload import Waiting
from domain.quota_models.openings import best_candidate, fits_somewhere, open_ranks, why_not_yet
from domain.quota_models.ranking import Line
from domain.quota_models.turns import TakeTurns, Turns
from domain.worlds.request import Kind
from domain.worlds.world import Traits

FAILURES = 64
"""Kinds of workloads for which nothing was found, before the round gives up on all others."""


@dataclass(slots=True)
class Gains:
    """What became better than the greedy turns, and how."""

    method: Method = Method.GREEDY
    started: list[str] = field(default_factory=list)
    moved: set[str] = field(default_factory=set)
    fallback: Fallback | None = None


NO_GAINS = Gains()


def improved(turns: Turns, waiting: Collection[Waiting], facts: Facts, take_turns: TakeTurns) -> tuple[Turns, Gains]:
    """The turns with more starts, where there is room for more; `waiting` is everybody who had a turn.

    Whoever still waits has another turn in the world that this leaves, for what became free may be enough for somebody.
    """
    if facts.policy.rank.quota_model is not QuotaModel.RANKED:
        return turns, NO_GAINS
    search = _Search(facts, facts.backlog(waiting).by_id, Work.of_a_round(facts.policy.goals.improvement.work))
    while search.is_worth_while(turns):
        better = search.better(turns)
        if better is turns:
            break
        more = take_turns(better.waiting, better.world, facts, once=False)
        turns = replace(more, moved=(*better.moved, *more.moved), reshapes=(*better.reshapes, *more.reshapes))
    return turns, search.gains


@dataclass(slots=True)
class _Search:
    """Lives inside one round: what is left of its work, and what is known to be hopeless."""

    facts: Facts
    everybody: Mapping[str, Waiting]
    work: Work
    gains: Gains = field(default_factory=Gains)
    hopeless: set[Kind] = field(default_factory=set)

    def is_worth_while(self, turns: Turns) -> bool:
        """Whether anybody could start besides: some room is free, and there are starts that could make more of it.

        A round that may only start so many leaves the rest to the next one.
        """
        limits = self.facts.policy.limits
        is_limited = limits.starts_per_round is not None or limits.starts_per_queue_and_round is not None
        has_started = any(isinstance(each, Start) for each in turns.moved)
        return bool(
            not is_limited
            and self.work.left > 0
            and turns.waiting
            and has_started
            and any(entry.whole for nodes in turns.world.classes.values() for entry in nodes)
        )

    def better(self, turns: Turns) -> Turns:
        """The turns with further starts, or the same where none was found."""
        started = [(self.everybody[each.workload_id], each) for each in turns.moved if isinstance(each, Start)]
        bench = _Passage(self, Bench.of(turns.world, self.facts, started), self._awaited(turns)).over(turns.waiting)
        if bench is None:
            return turns
        starts = {id: each.start for id, each in bench.starts.items()}
        kept = [starts.pop(each.workload_id, each) if isinstance(each, Start) else each for each in turns.moved]
        left = self.facts.backlog(turns.waiting).without(starts)
        return replace(turns, moved=(*kept, *starts.values()), waiting=left, world=bench.world)

    def _awaited(self, turns: Turns) -> frozenset[str]:
        """Queues in which somebody waits for work that is leaving: nobody behind takes what that needs."""
        later = turns.world.when_all_have_left()
        if later is turns.world:
            return frozenset()
        backlog = self.facts.backlog(turns.waiting)
        examples = {self.facts.kind(first): first for first in map(backlog.first, backlog.lanes)}
        return frozenset(
            workload.spec.queue
            for workload in examples.values()
            if why_not_yet(workload, self.facts) is None and fits_somewhere(open_ranks(workload, self.facts), later)
        )


@dataclass(slots=True)
class _Passage:
    """One way through the line of all who wait, over a bench that changes with everybody who starts.

    Whoever is like somebody who could not start is not asked; if that has changed by the end, the next passage asks from
    the oldest of them on.
    """

    search: _Search
    bench: Bench
    awaited: frozenset[str]
    is_changed: bool = False
    free: int = 0
    movable: dict[str, int] = field(default_factory=dict)
    cleared: dict[Traits, Counter[int]] = field(default_factory=dict)
    """By class, how many nodes would have how many whole devices if all that may move were gone."""
    kept: Counter[tuple[int, Homes]] = field(default_factory=Counter)
    """Replicas that have started and may move, by devices and by where they may be."""
    known: dict[Kind, bool] = field(default_factory=dict)

    def over(self, waiting: Collection[Waiting]) -> Bench | None:
        """The bench with all that was found, or none where nothing was."""
        self._count()
        line = Line(waiting, self.bench.world.usage, self.bench.facts)
        run: list[Waiting] = []
        while (workload := line.next(self.bench.world.usage)) is not None:
            if self._is_over():
                break
            if not self._could_start(workload):
                line.pass_over(workload)
                if why_not_yet(workload, self.bench.facts) is not None:
                    line.step(workload.spec.queue, self.bench.world.usage)
                continue
            if run and not self._continues(run, workload):
                self._start_all(run, line)
                run = []
            if self._is_fungible(workload):
                run.append(workload)
            else:
                self._start_all([workload], line)
        self._start_all(run, line)
        return self.bench if self.is_changed else None

    def _is_over(self) -> bool:
        search = self.search
        if search.work.is_short or len(search.hopeless) >= FAILURES:
            search.gains.fallback = Fallback.OUT_OF_WORK
        return search.work.left <= 0 or len(search.hopeless) >= FAILURES or not self.free

    def _count(self) -> None:
        """Whole devices that are free, and by node those that starts could free."""
        self.free = sum(entry.whole for nodes in self.bench.world.classes.values() for entry in nodes)
        movable: Counter[str] = Counter()
        for each in self.bench.movers:
            for share in each.start.placement.shares:
                movable[share.node_id] += share.room.whole_devices
        self.movable = dict(movable)
        self.cleared = {
            home: Counter(entry.whole + movable[entry.node.id] for entry in nodes)
            for home, nodes in self.bench.world.classes.items()
        }
        self.kept = Counter()
        for each in self.bench.movers:
            homes = self._homes(self.bench.offers(each.workload, each.alike))
            placed = Counter(replica.group for share in each.start.placement.shares for replica in share.replicas)
            for shape in each.request.gang.shapes:
                self.kept[shape.devices, homes] += placed[shape.name]
        self.known = {}

    @staticmethod
    def _homes(offers: Iterable[Offer]) -> Homes:
        return tuple(sorted({home for offer in offers for home in offer.classes}))

    def _could_start(self, workload: Waiting) -> bool:
        """Whether its kind is not known to be hopeless, and counts leave it open that there is room."""
        queue, alike = workload.spec.queue, self.bench.kind(workload)
        if alike in self.search.hopeless or queue in self.awaited:
            return False
        if alike not in self.known:
            self.known[alike] = self._counts_allow(workload)
        return self.known[alike]

    def _counts_allow(self, workload: Waiting) -> bool:
        return why_not_yet(workload, self.bench.facts) is None and any(
            offer.request.gang.minimum_milli <= self.free * WHOLE
            and could_fit(offer, self.bench, self.movable)
            and self._has_slots(offer)
            for rank in open_ranks(workload, self.bench.facts)
            for offer in self.bench.offers(workload, rank)
        )

    def _has_slots(self, offer: Offer) -> bool:
        """Whether all that have started and this one sit somewhere, as far as counts of slots of each size go."""
        wanted = Counter(self.kept)
        for shape in offer.request.gang.at_minimum().shapes:
            wanted[shape.devices, self._homes([offer])] += shape.count
        return all_fit({lot: number for lot, number in wanted.items() if lot[0]}, self.cleared)

    def _is_fungible(self, workload: Waiting) -> bool:
        ranks = open_ranks(workload, self.bench.facts)
        return all(is_fungible(request) for rank in ranks for request in rank)

    def _continues(self, run: Sequence[Waiting], workload: Waiting) -> bool:
        """Whether the workload goes with those before: all are fungible and of one size, and nobody follows only after them."""
        is_strict = self.bench.facts.queues[run[-1].spec.queue].ordering is Ordering.STRICT_FIFO
        sizes = {each.groups()[0].milli for each in (run[-1], workload)}
        return len(run) < LONGEST_RUN and self._is_fungible(workload) and len(sizes) == 1 and not is_strict

    def _start_all(self, run: Sequence[Waiting], line: Line) -> None:
        if not run:
            return
        left = list(run)
        if self._is_fungible(run[0]) and (flow := rebalanced(run, self.bench)) is not None:
            self._take(flow.bench, flow.started, flow.moved, Method.FLOW)
            left = [workload for workload in run if workload.id not in set(flow.started)]
        for workload in left:
            if self.search.work.left <= 0 or not self._could_start(workload):
                continue
            if self._placed_as_it_is(workload):
                continue
            if (found := rearranged(workload, self.bench, self.movable, self.search.work)) is not None:
                self._take(found.bench, [workload.id], found.moved, Method.EXACT)
            else:
                self.search.hopeless.add(self.bench.kind(workload))
        if self.search.work.is_short:
            self.search.gains.fallback = Fallback.OUT_OF_WORK
        for workload in run:
            if workload.id in self.bench.starts:
                line.step(workload.spec.queue, self.bench.world.usage)

    def _placed_as_it_is(self, workload: Waiting) -> bool:
        """What has moved for others may have left room enough."""
        if not self.is_changed:
            return False
        candidate = best_candidate(open_ranks(workload, self.bench.facts), self.bench.world)
        if candidate is None:
            return False
        offers = (offer for rank in open_ranks(workload, self.bench.facts) for offer in self.bench.offers(workload, rank))
        offer = next(
            offer
            for offer in offers
            if offer.request.index == candidate.placement.target
            and offer.supply[:2] == (candidate.placement.provider, candidate.placement.region)
            and offer.supply.sku == candidate.placement.sku
        )
        seat = Seat(workload, offer.request, offer.supply, offer.classes)
        if (bench := self.bench.seated((), [seat])) is None:
            return False
        self._take(bench, [workload.id], (), Method.FLOW)
        return True

    def _take(self, bench: Bench, started: Iterable[str], moved: Iterable[str], method: Method) -> None:
        gains = self.search.gains
        self.bench, self.is_changed = bench, True
        gains.started += started
        gains.moved |= set(moved) - set(gains.started)
        gains.method = Method.EXACT if Method.EXACT in {method, gains.method} else method
        self._count()
