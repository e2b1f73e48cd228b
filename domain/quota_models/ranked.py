"""The quota model `ranked`: turns in one order over all queues, placing or preempting for each workload as it comes."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import Enum, auto
from operator import ge

from corral.api import Explanation, Reason, WorkloadTerms
from domain.decision import Change, Start, StartAfter
from domain.explanation.answers import (
    behind_the_first,
    behind_who_awaits,
    budget_spent,
    enough_for_one_round,
    nothing_is_stopped_for_it,
)
from domain.facts import Facts
from domain.placement.scoring import weighed
from domain.pool.fleet import Placement, Replica
from domain.pool.parts import replicas_at
from domain.pool.workload import Active, Waiting, charges_of
from domain.preemption.effort import Effort
from domain.preemption.make_room import make_room
from domain.quota_models.openings import best_candidate, fits_somewhere, open_ranks, why_not_yet
from domain.quota_models.ranking import Line
from domain.quota_models.starts import Starts
from domain.quota_models.surplus import Surpluses
from domain.quota_models.turns import Turns
from domain.remembered.lanes import Backlog
from domain.worlds.request import Kind
from domain.worlds.world import World


@dataclass(frozen=True, slots=True)
class Await:
    """What work with notice to leave will free is enough, so that nobody else is stopped; the place that is waited for."""

    spec: WorkloadTerms
    placement: Placement


def take_turns(waiting: Collection[Waiting], world: World, facts: Facts, *, once: bool) -> Turns:
    """Take turns again until nothing moves: a victim may free quota for work whose turn was before.

    So a second round over the outcome of the first has nothing left to do, unless a rate limit ended the first.
    """
    starts, backlog = Starts(facts), facts.backlog(waiting)
    effort = Effort.of(facts.policy.rank.disruption, facts.now.timestamp(), len(backlog.lanes))
    surpluses = Surpluses(facts)
    moved: list[Start | StartAfter] = []
    while True:
        done = _Pass(world, facts, starts, effort, surpluses)
        done.over(backlog)
        moved += done.moves
        backlog, world = backlog.without(move.workload_id for move in done.moves), done.world
        if once or not done.moves:
            answers, of_kinds = done.answers()
            every = (*answers.values(), *of_kinds.values())
            limited = any(answer is not None and answer.reason is Reason.ROUND_LIMIT_REACHED for answer in every)
            unfinished = limited or (effort.was_short and any(isinstance(move, StartAfter) for move in moved))
            reshapes = tuple(reshape for move in moved if isinstance(move, StartAfter) for reshape in move.reshapes)
            moved = [surpluses.left_of(move) if isinstance(move, Start) else move for move in moved]
            return Turns(tuple(moved), backlog, world, reshapes, answers=answers, of_kinds=of_kinds, unfinished=unfinished)


class Behind(Enum):
    """Behind whom somebody stands who does not move."""

    NOBODY = auto()
    """The queue is strict, and it had its turn."""
    THE_FIRST = auto()
    """The queue is strict, and neither it nor any that is like it and behind it had a turn."""
    THOSE_LIKE_IT = auto()
    """All of its kind, the first of whom found nothing."""


class _Pass:
    """Decides about each workload once, in rank order, in the world that the decisions before it left.

    Whoever is of a kind that found nothing is not asked again: what others take leaves no more, and what others give back is
    for the next pass. Whoever waits for work that is leaving keeps its turn: nobody behind it in its queue takes what it
    waits for, and others only where they find no other room. Who was given a surplus in this round gives it up, as far as
    somebody else would have to leave for it.
    """

    def __init__(self, world: World, facts: Facts, starts: Starts, effort: Effort, surpluses: Surpluses) -> None:
        self._effort, self._surpluses = effort, surpluses
        self.world, self.moves = world, list[Start | StartAfter]()
        self._others: list[tuple[Waiting, Behind]] = []
        """Who does not move, in turn; of those of a kind whose turn came to nothing together the first alone."""
        self._facts, self._starts = facts, starts
        self._stuck: set[Kind] = set()
        self._awaiting: set[str] = set()
        self._kept: World | None = None
        self._view = View.of(world)

    def over(self, waiting: Backlog) -> None:
        """Give everybody who waits a turn."""
        line = Line(waiting, self.world.usage, self._facts)
        while (workload := line.next(self.world.usage)) is not None:
            self._turn(workload, line)
        self._others += [(workload, Behind.THE_FIRST) for workload in line.left()]

    def _turn(self, workload: Waiting, line: Line) -> None:
        queue, alike = workload.spec.queue, self._facts.turn_kind(workload)
        may_start = alike not in self._stuck and self._starts.limit_reached(queue) is None
        decision = self._decide(workload) if may_start else None
        if isinstance(decision, StartAfter) and self._surpluses:
            decision = self._sparing(workload, decision, line)
        match decision:
            case Start() | StartAfter():
                self._move(workload, decision, line)
            case Await():
                self._awaiting.add(queue)
                kept = (self._kept or self.world).apart_from(self.world, decision.placement)
                self._kept = kept.promising(decision.spec, decision.placement, ())
        if not isinstance(decision, Start | StartAfter):
            line.pass_over(workload)
            self._others.append((workload, Behind.NOBODY if line.is_strict(workload) else Behind.THOSE_LIKE_IT))
            self._stuck.add(alike)
            if why_not_yet(workload, self._facts) is None:
                return
        line.step(queue, self.world.usage)

    def _decide(self, workload: Waiting) -> Start | StartAfter | Await | None:
        """What is done about the workload, beside what is kept for those before it or else, in another queue, on it."""
        found = decide(workload, self._view_of(self.world if self._kept is None else self._kept), self._facts, self._effort)
        if self._kept is None or isinstance(found, Start) or workload.spec.queue in self._awaiting:
            return found
        return start(workload, self.world, self._facts) or found

    def _sparing(self, workload: Waiting, found: StartAfter, line: Line) -> Start | StartAfter | Await:
        """The same, or what needs less of others where those give up their surplus whom this round gave one."""
        facts, kept = self._facts, self.world if self._kept is None else self._kept
        milder = decide(workload, View.of(self._surpluses.withdrawn(kept.forked())), facts, self._effort)
        if milder is None or not disturbed(milder, facts) < disturbed(found, facts):
            return found
        ranks = open_ranks(workload, facts).at_minimum()

        def there(world: World) -> World:
            match milder:
                case Start():
                    return world
                case Await():
                    return world.when_all_have_left()
                case StartAfter():
                    return reshaped(milder, world, facts).when_all_have_left().without(victims_of(milder, facts))

        def suffices(world: World) -> bool:
            return not moves_work(milder) and fits_somewhere(ranks, there(world))

        keeps = self._surpluses.given_up(kept.forked(), suffices)
        self.world = self._surpluses.resized(keeps, self.world)
        if self._kept is not None:
            self._kept = self._surpluses.resized(keeps, self._kept)
        line.again(self._surpluses.settle(keeps), self.world.usage)
        world = self.world if self._kept is None else self._kept
        if (candidate := best_candidate(ranks, there(world))) is None:
            return milder
        if isinstance(milder, Start):
            return Start(workload.id, candidate.placement, weighed(candidate, world))
        return replace(milder, placement=candidate.placement)

    def _view_of(self, world: World) -> "View":
        """The view of a world: the same for all who have their turn before anything moves."""
        if self._view.world is not world:
            self._view = View.of(world)
        return self._view

    def _move(self, workload: Waiting, decision: Start | StartAfter, line: Line) -> None:
        self.moves.append(decision)
        self._starts.add(workload.spec.queue)
        if isinstance(decision, Start) and fits(decision.placement, self.world):
            self._surpluses.add(workload, decision.placement, self.world)
        self.world = after(decision, workload, self.world, self._facts)
        if self._kept is not None:
            self._kept = after(decision, workload, self._kept, self._facts)
        if isinstance(decision, StartAfter):
            giving = (*decision.victims, *(reshape.attempt_id for reshape in decision.reshapes))
            line.again({self._facts.active[attempt_id].spec.queue for attempt_id in giving}, self.world.usage)

    def answers(self) -> tuple[dict[str, Explanation | None], dict[Kind, Explanation]]:
        """Why work waits that would move if it were not for its place in line, by workload id, and of all others by kind."""
        known: dict[tuple[Kind, bool], Explanation | None] = {}
        view, answers, of_kinds = View.of(self.world), dict[str, Explanation | None](), dict[Kind, Explanation]()
        for workload, behind in self._others:
            is_blocked, kind = behind is Behind.THE_FIRST, self._facts.turn_kind(workload)
            if (kind, is_blocked) not in known:
                known[kind, is_blocked] = self._why_not_its_turn(workload, view, is_blocked=is_blocked)
            answer = known[kind, is_blocked]
            if behind is Behind.NOBODY:
                answers[workload.id] = answer
            elif answer is not None:
                of_kinds[kind] = answer
        return answers, of_kinds

    def _why_not_its_turn(self, workload: Waiting, view: "View", *, is_blocked: bool) -> Explanation | None:
        queue, now = workload.spec.queue, self._facts.now
        limit = self._starts.limit_reached(queue)
        if not (is_blocked or limit):
            if queue in self._awaiting and start(workload, view.world, self._facts) is not None:
                return behind_who_awaits(queue, now)
            return held_back(workload, view, self._facts, self._effort)
        if not isinstance(decide(workload, view, self._facts, self._effort), Start | StartAfter):
            return None
        if is_blocked:
            return behind_the_first(queue, now)
        return enough_for_one_round(limit or "", now)


@dataclass(frozen=True, slots=True)
class View:
    """A world, and the same once all who have notice have left."""

    world: World
    later: World

    @classmethod
    def of(cls, world: World) -> "View":
        """The view of a world."""
        return cls(world, world.when_all_have_left())


def held_back(workload: Waiting, view: View, facts: Facts, effort: Effort) -> Explanation | None:
    """What keeps others from leaving for the workload, where they otherwise would: its own lack of a right, or a budget."""
    protection, ranks = facts.protection, open_ranks(workload, facts)
    gate = protection.why_not_yet(workload)
    if (gate is None and not protection.allowances) or why_not_yet(workload, facts) is not None:
        return None
    if fits_somewhere(ranks, view.later):
        return None
    unbound = facts if gate else replace(facts, protection=replace(protection, allowances=()))
    if make_room(ranks, view.world, view.later, unbound, effort) is None:
        return None
    if gate is not None:
        return nothing_is_stopped_for_it(gate, protection.delayed_until(workload), facts.now)
    return budget_spent(protection.short_budgets(view.world.stopped), facts.now)


def start(workload: Waiting, world: World, facts: Facts) -> Start | None:
    """The start of the workload on room that is free now, or none."""
    if why_not_yet(workload, facts) is not None:
        return None
    candidate = best_candidate(open_ranks(workload, facts), world)
    return None if candidate is None else Start(workload.id, candidate.placement, weighed(candidate, world))


def decide(workload: Waiting, view: View, facts: Facts, effort: Effort) -> Start | StartAfter | Await | None:
    """Place the workload, or preempt for it, or let it wait.

    What work with notice to leave will free is used before anybody else is disturbed.
    """
    if why_not_yet(workload, facts) is not None:
        return None
    ranks = open_ranks(workload, facts)
    if (candidate := best_candidate(ranks, view.world)) is not None:
        return Start(workload.id, candidate.placement, weighed(candidate, view.world))
    if view.later is not view.world and (candidate := best_candidate(ranks, view.later)) is not None:
        return Await(workload.spec, candidate.placement)
    if facts.protection.why_not_yet(workload) is not None:
        return None
    if (settled := make_room(ranks, view.world, view.later, facts, effort)) is not None:
        placement, reshapes = settled.candidate.placement, settled.reshapes(workload.id)
        found = StartAfter(workload.id, placement, settled.stopped, reshapes, settled.proof)
        return found if waits_for_all(found, workload, view.world, facts) else None
    return None


def waits_for_all(decision: StartAfter, workload: Waiting, world: World, facts: Facts) -> bool:
    """Whether its victims are all whom the workload has to wait for; else caps would be exceeded until others have left."""
    usage = after(decision, workload, world, facts).usage
    return usage.keeps_caps(charges_of(workload.spec, decision.placement), world.usage)


def fits(placement: Placement, world: World) -> bool:
    """Whether all that the placement takes is free now."""
    rooms = world.rooms
    return all(share.replicas and all(map(ge, rooms[share.node_id].devices, share.room.devices)) for share in placement.shares)


def after(decision: Start | StartAfter, workload: Waiting, world: World, facts: Facts) -> World:
    """The world once the decision has been taken."""
    match decision:
        case Start() if not fits(decision.placement, world):
            return world.promising(workload.spec, decision.placement, ())
        case Start():
            return world.with_(workload.spec, decision.placement)
        case StartAfter():
            return reshaped(decision, world, facts).promising(workload.spec, decision.placement, victims_of(decision, facts))


def reshaped(decision: StartAfter, world: World, facts: Facts) -> World:
    """The world once those who go on in another shape, or elsewhere, were promised that."""
    for reshape in decision.reshapes:
        active = facts.active[reshape.attempt_id]
        world = world.promising(active.spec, reshape.placement, (active,))
    return world


def victims_of(decision: StartAfter, facts: Facts) -> list[Active]:
    """The attempts that leave for a decision."""
    return [facts.active[attempt_id] for attempt_id in decision.victims]


def disturbed(decision: Start | StartAfter | Await, facts: Facts) -> frozenset[tuple[str, str, Replica]]:
    """The replicas that leave for a decision, with their attempts and nodes."""
    if not isinstance(decision, StartAfter):
        return frozenset()
    left = {**dict.fromkeys(decision.victims, ()), **{each.attempt_id: each.placement.shares for each in decision.reshapes}}
    before = {attempt_id: facts.active[attempt_id].placement.shares for attempt_id in left}
    return frozenset(
        (attempt_id, node_id, replica)
        for attempt_id, shares in left.items()
        for node_id, replica in replicas_at(before[attempt_id]) - replicas_at(shares)
    )


def moves_work(decision: Start | StartAfter | Await) -> bool:
    """Whether somebody goes elsewhere, to room that must stay free for that."""
    return isinstance(decision, StartAfter) and any(each.change is Change.MIGRATE for each in decision.reshapes)
