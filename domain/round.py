"""One round: facts in, a plan out. Pure; someone else commits."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain

from corral.api import Explanation
from corral.policy import QuotaModel
from domain.calendar.reservations import settled
from domain.decision import Plan, Refuse, Reshape, Stop, Wait
from domain.facts import Facts
from domain.improvement.defragmentation import defragmented
from domain.improvement.improved import NO_GAINS, improved
from domain.improvement.quality import quality
from domain.placement.feasibility import why_never
from domain.pool.workload import Waiting
from domain.quota_models import ranked
from domain.quota_models.cohorts import turns as cohorts
from domain.quota_models.deserved import turns as deserved
from domain.quota_models.turns import TakeTurns, Turns
from domain.reasons import Reasons, why_awaits
from domain.remembered.attained import counted
from domain.remembered.lanes import Backlog
from domain.remembered.memory import Memory
from domain.snapshot import Snapshot
from domain.steps.guarantees import oversold
from domain.steps.loans import Call, after_calls, called_back, wanted
from domain.steps.reprieve import reprieved
from domain.steps.resizing import resized
from domain.worlds.request import Kind
from domain.worlds.world import World

QUOTA_MODELS: Mapping[QuotaModel, TakeTurns] = {
    QuotaModel.RANKED: ranked.take_turns,
    QuotaModel.COHORTS: cohorts.take_turns,
    QuotaModel.DESERVED: deserved.take_turns,
}
"""What divides the pool, by the name that the policy gives it."""


Lap = Callable[[str], None]
"""Is told the name of each step of a round when it is done."""


def schedule(
    snapshot: Snapshot, now: datetime, *, once: bool = False, lap: Lap = lambda _: None, memory: Memory | None = None
) -> Plan:
    """Decide one round. The same snapshot and time give the same plan, in whatever order their rows come.

    So they do with any `memory` of rounds before, which saves the work of what has not changed since.

    With `once` the quota model takes a single pass, as one cycle of the scheduler it follows does; else it goes on until
    nothing moves, and what it leaves is improved on.
    """
    take_turns, memory = QUOTA_MODELS[snapshot.policy.rank.quota_model], memory or Memory()
    snapshot = memory.attained.counted(snapshot, now)
    snapshot, keeps = reprieved(snapshot, now)  # 0. who leaves for nobody any more
    kept = settled(snapshot, now, frozenset(keep.attempt_id for keep in keeps))  # and what is kept, and who leaves for that
    opening = Opening.of(kept.snapshot, now, memory, lap)  # 1. facts, the world, and what can never run
    look_at = kept.look_again_at(opening.memory.census.longest_grace_seconds, now)
    opening = opening if once else opening.called_back(take_turns)  # 2. what was lent and is wanted
    snapshot, facts, world, waiting = opening.snapshot, opening.facts, opening.world, opening.waiting
    lap("refuse")
    turns = take_turns(waiting, world, facts, once=once)  # 3. whose turn it is; place, or preempt
    lap("turns")
    turns, gains = (turns, NO_GAINS) if once else improved(turns, waiting, facts, take_turns)  # 4. a solver may only do better
    lap("improve")
    found = None if once else quality(turns, gains, waiting, world, facts)  # 5. how good is it
    lap("bound")
    turns = turns if once else defragmented(turns, snapshot, facts, take_turns)  # 6. moves that gain more than they cost
    lap("defragment")
    turns = turns if once else resized(turns, facts)  # 7. endpoints follow their demand
    lap("resize")
    waits = explain(turns, facts)  # 8. why the others wait
    decisions = (*(call.start for call in opening.calls), *opening.refused, *turns.moved, *waits)
    lap("explain")
    return Plan(
        decisions,
        (*opening.reshapes, *turns.reshapes),
        stops=(*kept.stops, *opening.stops, *turns.stops),
        keeps=keeps,
        unfinished=turns.unfinished or bool(keeps) or (bool(facts.wanted) and bool(turns.moved)),
        over_quota=facts.coverage.over.keys(),
        misjudged=facts.coverage.misjudged,
        quality=found,
        bookings=kept.bookings,
        look_at=look_at,
        as_before=len(turns.waiting) - len(waits),
    )


def who_starts(snapshot: Snapshot, now: datetime) -> frozenset[str]:
    """The workloads that turns alone give capacity, at once or when others have left; a round starts all of these, or more."""
    return frozenset(decision.workload_id for decision in turns_alone(snapshot, now).moved)


def turns_alone(snapshot: Snapshot, now: datetime) -> Turns:
    """What turns come to, with endpoints following their demand, and nothing improved on or moved for nobody's sake.

    Who is promised what was lent has moved first.
    """
    take_turns = QUOTA_MODELS[snapshot.policy.rank.quota_model]
    opening = Opening.of(settled(counted(snapshot, now), now).snapshot, now, Memory()).called_back(take_turns)
    turns = resized(take_turns(opening.waiting, opening.world, opening.facts, once=False), opening.facts)
    calls = tuple(call.start for call in opening.calls)
    reshapes, stops = (*opening.reshapes, *turns.reshapes), (*opening.stops, *turns.stops)
    return replace(turns, moved=(*calls, *turns.moved), reshapes=reshapes, stops=stops)


@dataclass(frozen=True, slots=True)
class Opening:
    """What a round's turns begin with: facts, the world, who waits and who never can run, and what was called back."""

    snapshot: Snapshot
    memory: Memory
    facts: Facts
    world: World
    refused: Sequence[Refuse]
    waiting: Backlog
    calls: Sequence[Call] = ()

    @classmethod
    def of(cls, snapshot: Snapshot, now: datetime, memory: Memory, lap: Lap = lambda _: None) -> "Opening":
        """The beginning of a round over this snapshot; what is wanted by whom it is kept for is lent to nobody else."""
        facts = Facts.of(snapshot, now, memory)
        world = memory.world(snapshot, facts.tree)
        its = wanted(snapshot, world, facts)
        facts, world = facts.wanting(its), world.wanting(its)
        lap("read")
        return cls(snapshot, memory, facts, world, *refuse(snapshot.waiting, facts))

    def called_back(self, take_turns: TakeTurns) -> "Opening":
        """The same where those have notice to whom was lent what somebody wants, and it is promised to that one."""
        calls = called_back(self.waiting, self.world, self.facts, take_turns) if self.facts.wanted else ()
        if not calls:
            return self
        after = Opening.of(after_calls(self.snapshot, calls, self.facts), self.facts.now, self.memory)
        promised = tuple(call.workload.spec.queue for call in calls)
        return replace(after, facts=replace(after.facts, promised=promised), calls=calls)

    @property
    def stops(self) -> tuple[Stop, ...]:
        """The notices to those who sit on what was called back."""
        return tuple(chain.from_iterable(call.stops for call in self.calls))

    @property
    def reshapes(self) -> tuple[Reshape, ...]:
        """The same to those who give back only a part."""
        return tuple(chain.from_iterable(call.reshapes for call in self.calls))


def refuse(waiting: Collection[Waiting], facts: Facts) -> tuple[list[Refuse], Backlog]:
    """Part what can never run, as it stands, from what may."""
    backlog, refused = facts.backlog(waiting), list[Refuse]()
    answers: dict[Kind, Explanation] = {}
    for lane in backlog.lanes:
        example = backlog.first(lane)
        alike = facts.kind(example)
        if alike not in facts.able and alike not in answers and (never := why_never(example, facts)) is not None:
            answers[alike] = never
        elif alike not in answers:
            facts.able.add(alike)
        if alike in answers:
            refused += [Refuse(workload.id, answers[alike]) for workload in backlog.of(lane)]
    unable = {each.workload_id for each in refused}
    unkept = oversold(backlog.newcomers, facts)
    refused += [Refuse(workload, why) for workload, why in unkept.items() if workload not in unable]
    refused.sort(key=lambda each: each.workload_id)
    return refused, backlog.without(each.workload_id for each in refused)


def explain(turns: Turns, facts: Facts) -> list[Wait]:
    """Why each workload waits, in the world in which the round ends; of who was told the same already nothing is said."""
    backlog, reasons = facts.backlog(turns.waiting), Reasons(turns.world, turns.world.when_all_have_left(), facts)
    awaiting = (backlog.by_id[id] for id in turns.awaiting if backlog.has(id))
    answers = {**turns.answers, **{each.id: why_awaits(each, turns.world, facts) for each in awaiting}}
    by_kind: dict[Kind, Explanation] = {}

    def reason(workload: Waiting) -> Explanation:
        if (alike := facts.kind(workload)) not in by_kind:
            by_kind[alike] = reasons.why(workload)
        return by_kind[alike]

    waits = list[Wait]()
    for lane in backlog.lanes:
        example = next((workload for workload in backlog.of(lane) if workload.id not in answers), None)
        if example is not None:
            why = turns.of_kinds.get(lane.kind) or reason(example)
            others = (those for said, those in lane.told if reasons.is_news(said, why))
            untold = (each for each in chain.from_iterable(others) if each not in answers and backlog.has(each))
            waits += [Wait(each, why) for each in untold]
    for workload in filter(backlog.has, answers):
        why = answers[workload] or reason(backlog.by_id[workload])
        if reasons.is_news(facts.told.get(workload), why):
            waits.append(Wait(workload, why))
    return sorted(waits, key=lambda wait: wait.workload_id)
