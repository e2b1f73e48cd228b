"""One round: facts in, a plan out. Pure; someone else commits."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from corral.api import Explanation, StopPolicy
from domain import explanation
from domain.decision import Decision, Plan, Refuse, Rejection, Start, StartAfter, Wait
from domain.explanation import Finding
from domain.facts import Facts
from domain.feasibility import LASTING_REASONS, sift, why_never
from domain.placement import Candidate, settle
from domain.preemption import choose_victims
from domain.ranking import in_rank_order
from domain.request import Request, ranked, requests
from domain.scoring import preference
from domain.snapshot import Snapshot
from domain.workload import Waiting
from domain.world import World


def schedule(snapshot: Snapshot, now: datetime) -> Plan:
    """Decide one round. The same snapshot and time give the same plan, in whatever order their rows come."""
    facts = Facts.of(snapshot, now)  # 1. what no decision changes
    world = World.of(snapshot, facts.tree)  # 2. what decisions change
    refused, waiting = refuse(snapshot.waiting, facts)  # 3. what can never run
    started: list[Decision] = []
    while True:  # 4. whose turn it is, until nothing moves any more
        moved, waits, world = take_turns(waiting, world, facts)
        started += moved
        if not moved:
            return Plan((*refused, *started, *waits))
        waiting = [workload for workload in waiting if workload.id in {wait.workload_id for wait in waits}]


def refuse(waiting: Iterable[Waiting], facts: Facts) -> tuple[list[Refuse], list[Waiting]]:
    """Part what can never run, as it stands, from what may."""
    refused, others = [], []
    for workload in sorted(waiting, key=lambda workload: workload.id):
        if (why := why_never(workload, facts)) is not None:
            refused.append(Refuse(workload.id, why))
        else:
            others.append(workload)
    return refused, others


def take_turns(waiting: Iterable[Waiting], world: World, facts: Facts) -> tuple[list[Decision], list[Wait], World]:
    """Decide about each workload once, in rank order, in the world that the decisions before it left."""
    moved: list[Decision] = []
    waits: list[Wait] = []
    for workload in in_rank_order(waiting, world, facts):
        decision, world = decide(workload, world, facts)
        if isinstance(decision, Wait):
            waits.append(decision)
        else:
            moved.append(decision)
    return moved, waits, world


def decide(workload: Waiting, world: World, facts: Facts) -> tuple[Start | StartAfter | Wait, World]:
    """Place the workload, or preempt for it, or say why it waits; gives the world afterwards as well."""
    if (gate := why_not_yet(workload, facts)) is not None:
        return Wait(workload.id, gate), world
    asked = requests(workload)
    ranks = ranked([request for request in asked if request.opens_at <= facts.now])
    candidate, findings = best_candidate(ranks, world)
    if candidate is not None:
        return Start(workload.id, candidate.placement), world.with_(workload.spec, candidate.placement)
    if world.coming and best_candidate(ranks, world.when_all_have_left())[0] is not None:
        return Wait(workload.id, explanation.waiting_for_victims(findings, facts.now)), world
    if (eviction := choose_victims(ranks, world, facts)) is not None:
        placement, victims = eviction.candidate.placement, eviction.victims
        after = world.promising(workload.spec, placement, victims)
        return StartAfter(workload.id, placement, tuple(victim.attempt_id for victim in victims)), after
    return Wait(workload.id, why_no_room(asked, findings, facts)), world


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


def best_candidate(ranks: Sequence[Sequence[Request]], world: World) -> tuple[Candidate | None, list[Finding]]:
    """The best placement of the first rank of targets that has one, else what every supply said instead."""
    findings: list[Finding] = []
    for rank in ranks:
        candidates = []
        for request in rank:
            sifted = sift(request, world)
            findings += sifted.findings
            for supply, classes in sifted.classes.items():
                nodes = world.nodes(classes)
                answer = settle(request, supply, nodes, world.usage)
                if isinstance(answer, Rejection):
                    findings.append(Finding(answer, request, supply, len(nodes)))
                else:
                    candidates.append(answer)
        if candidates:
            return min(candidates, key=preference), findings
    return None, findings


def why_no_room(asked: Sequence[Request], findings: Sequence[Finding], facts: Facts) -> Explanation:
    """Why nothing fits now: the rule that stopped the nearest candidate, or that none is acceptable yet."""
    later = [request.opens_at for request in asked if request.opens_at > facts.now]
    if later and explanation.dominant(findings).rejection.reason in LASTING_REASONS:
        return explanation.waiting_for_relaxation(min(later), findings, facts.now)
    return explanation.no_room(findings, facts.now)
