"""One round: facts in, a plan out. Pure; someone else commits."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from corral.api import Explanation, StopPolicy
from domain import explanation
from domain.decision import Plan, Refuse, Start, StartAfter, Wait
from domain.explanation import Finding
from domain.facts import Facts
from domain.feasibility import LASTING_REASONS, sift, why_never
from domain.placement import Candidate, best_on, why_not_on
from domain.preemption import choose_victims
from domain.ranking import in_rank_order
from domain.request import Kind, Request, kind, ranked, requests
from domain.scoring import preference
from domain.snapshot import Snapshot
from domain.workload import Waiting
from domain.world import World


def schedule(snapshot: Snapshot, now: datetime) -> Plan:
    """Decide one round. The same snapshot and time give the same plan, in whatever order their rows come."""
    facts = Facts.of(snapshot, now)  # 1. what no decision changes
    world = World.of(snapshot, facts.tree)  # 2. what decisions change
    refused, waiting = refuse(snapshot.waiting, facts)  # 3. what can never run
    moved, waiting, world = take_turns_until_quiet(waiting, world, facts)  # 4. whose turn it is; place, or preempt
    return Plan((*refused, *moved, *explain(waiting, world, facts)))  # 5. why the others wait


def refuse(waiting: Iterable[Waiting], facts: Facts) -> tuple[list[Refuse], list[Waiting]]:
    """Part what can never run, as it stands, from what may."""
    refused, others = [], []
    answers: dict[Kind, Explanation | None] = {}
    for workload in sorted(waiting, key=lambda workload: workload.id):
        alike = kind(workload, facts.now)
        if alike not in answers:
            answers[alike] = why_never(workload, facts)
        if (why := answers[alike]) is not None:
            refused.append(Refuse(workload.id, why))
        else:
            others.append(workload)
    return refused, others


def take_turns_until_quiet(
    waiting: list[Waiting], world: World, facts: Facts
) -> tuple[list[Start | StartAfter], list[Waiting], World]:
    """Take turns again until nothing moves: a victim may free quota for work whose turn was before.

    So a second round over the outcome of the first has nothing left to do.
    """
    moved: list[Start | StartAfter] = []
    while True:
        moves, waiting, world = take_turns(waiting, world, facts)
        moved += moves
        if not moves:
            return moved, waiting, world


def take_turns(waiting: Iterable[Waiting], world: World, facts: Facts) -> tuple[list[Start | StartAfter], list[Waiting], World]:
    """Decide about each workload once, in rank order, in the world that the decisions before it left.

    Whoever is of a kind that found nothing in the same world is not asked again.
    """
    stuck: set[Kind] = set()
    moves: list[Start | StartAfter] = []
    others: list[Waiting] = []
    later = world.when_all_have_left()
    for workload in in_rank_order(waiting, world, facts):
        alike = kind(workload, facts.now)
        decision = decide(workload, world, later, facts) if alike not in stuck else None
        if decision is None:
            others.append(workload)
            stuck.add(alike)
        else:
            moves.append(decision)
            stuck.clear()
            world = after(decision, workload, world, facts)
            later = world.when_all_have_left()
    return moves, others, world


def decide(workload: Waiting, world: World, later: World, facts: Facts) -> Start | StartAfter | None:
    """Place the workload, or preempt for it, or let it wait.

    What work with notice to leave will free (`later`) is used before anybody else is stopped.
    """
    if why_not_yet(workload, facts) is not None:
        return None
    ranks = open_ranks(workload, facts)
    if (candidate := best_candidate(ranks, world)) is not None:
        return Start(workload.id, candidate.placement)
    if later is not world and best_candidate(ranks, later) is not None:
        return None
    if (eviction := choose_victims(ranks, later, facts)) is not None:
        return StartAfter(workload.id, eviction.candidate.placement, eviction.attempt_ids)
    return None


def after(decision: Start | StartAfter, workload: Waiting, world: World, facts: Facts) -> World:
    """The world once the decision has been taken."""
    match decision:
        case Start():
            return world.with_(workload.spec, decision.placement)
        case StartAfter():
            victims = [facts.active[attempt_id] for attempt_id in decision.victims]
            return world.promising(workload.spec, decision.placement, victims)


def why_not_yet(workload: Waiting, facts: Facts) -> Explanation | None:
    """What keeps the workload from being considered at all, before any capacity is looked at."""
    spec, now = workload.spec, facts.now
    if not facts.idle.rooms:
        return explanation.empty_fleet(now)
    for queue in facts.tree.paths[spec.queue]:
        if (stop := facts.queues[queue].stop) is not StopPolicy.OPEN:
            return explanation.queue_stopped(queue, stop, now)
    if spec.earliest_start is not None and now < spec.earliest_start:
        return explanation.too_early(spec.earliest_start, now)
    if now < (opens_at := min(request.opens_at for request in requests(workload))):
        return explanation.waiting_for_relaxation(opens_at, (), now)
    return None


def open_ranks(workload: Waiting, facts: Facts) -> list[Sequence[Request]]:
    """The requests under targets that are open by now, by rank."""
    return ranked([request for request in requests(workload) if request.opens_at <= facts.now])


def best_candidate(ranks: Iterable[Sequence[Request]], world: World) -> Candidate | None:
    """The best placement of the first rank of targets that has any."""
    for rank in ranks:
        candidates = [
            candidate
            for request in rank
            for supply, classes in sift(request, world).classes.items()
            if (candidate := best_on(request, supply, world.nodes(classes), world.usage)) is not None
        ]
        if candidates:
            return min(candidates, key=preference)
    return None


def explain(waiting: Sequence[Waiting], world: World, facts: Facts) -> list[Wait]:
    """Why each workload waits, in the world in which the round ends."""
    later = world.when_all_have_left()
    alike = {workload.id: kind(workload, facts.now) for workload in waiting}
    examples = {alike[workload.id]: workload for workload in waiting}
    explanations = {each: why_waits(example, world, later, facts) for each, example in examples.items()}
    return [Wait(workload.id, explanations[alike[workload.id]]) for workload in waiting]


def why_waits(workload: Waiting, world: World, later: World, facts: Facts) -> Explanation:
    """The gate that is closed, the leaving work that is waited for, or the rule that stopped the nearest candidate."""
    if (gate := why_not_yet(workload, facts)) is not None:
        return gate
    ranks = open_ranks(workload, facts)
    findings = [finding for rank in ranks for request in rank for finding in findings_of(request, world)]
    if later is not world and best_candidate(ranks, later) is not None:
        return explanation.waiting_for_victims(findings, facts.now)
    closed = [request.opens_at for request in requests(workload) if request.opens_at > facts.now]
    if closed and explanation.dominant(findings).rejection.reason in LASTING_REASONS:
        return explanation.waiting_for_relaxation(min(closed), findings, facts.now)
    return explanation.no_room(findings, facts.now)


def findings_of(request: Request, world: World) -> list[Finding]:
    """What every supply says to a request that fits nowhere."""
    sifted = sift(request, world)
    answers = []
    for supply, classes in sifted.classes.items():
        nodes = world.nodes(classes)
        answers.append(Finding(why_not_on(request, supply, nodes, world.usage), request, supply, len(nodes)))
    return [*sifted.findings, *answers]
