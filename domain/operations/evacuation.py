"""Evacuation: who leaves a place next, and what would become of those who would have to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from corral.api import WHOLE, EvacuationForecast, EvacuationMove, EvacuationOrder, EvacuationState, PlaceKind, SlaTier
from domain.advice.whatif import without
from domain.decision import Decision, Refuse, Start, StartAfter, Wait
from domain.isolation import schedule_around
from domain.operations.approval import why_not
from domain.pool.fleet import Health, Node, Placement
from domain.pool.standing import standing
from domain.pool.workload import Active
from domain.remembered.attained import counted
from domain.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Resident:
    """A workload in the place: `is_bound` once its provider may run it, `is_leaving` once it has notice, from whomever."""

    workload: str
    tier: SlaTier
    priority: int
    is_bound: bool
    is_leaving: bool


def who_leaves_next(residents: Iterable[Resident], at_once: int) -> tuple[str, ...]:
    """The workloads to tell now, the lowest in rank first, so that no more than `at_once` are on their way out.

    Those that have not begun give their places back at once, and do not count.
    """
    residents = sorted(residents, key=lambda each: (standing(each.tier, each.priority), each.workload))
    free = max(0, at_once - sum(each.is_leaving for each in residents))
    idle = [each.workload for each in residents if not each.is_bound]
    bound = [each.workload for each in residents if each.is_bound and not each.is_leaving]
    return (*idle, *bound[:free])


def objection(verb: str, id: str, state: EvacuationState) -> str | None:
    """Why an evacuation in that state cannot be steered so, in words, or none when it can."""
    awaits = state is EvacuationState.AWAITING
    return why_not(verb, f"evacuation {id!r}", state, is_over=state.is_over, awaits=awaits, may_pause=not awaits)


def place_of(node: Node, kind: PlaceKind) -> str:
    """The place of that kind in which a node is, as operators name it."""
    match kind:
        case PlaceKind.NODE:
            return node.id
        case PlaceKind.CLUSTER:
            return f"{node.provider}/{node.region}/{node.cluster}"
        case PlaceKind.REGION:
            return f"{node.provider}/{node.region}"


def foreseen(order: EvacuationOrder, snapshot: Snapshot, now: datetime) -> EvacuationForecast | None:
    """What would become of the work in a place if all of it left now, by a round on the pool as it would be then.

    None where no node is in that place. An array is taken to begin anew, as what it has done is not known here.
    """
    inside = {node.id for node in snapshot.nodes if place_of(node, order.kind) == order.place}
    if not inside:
        return None
    snapshot = counted(snapshot, now)
    leaving = {active.id: active for active in snapshot.active if _has_room_on(active, inside)}
    decisions = {each.workload_id: each for each in _decided(snapshot, inside, leaving.keys(), now)}
    ranked = sorted(leaving.values(), key=lambda each: (standing(each.spec.tier, each.spec.priority), each.id))
    moves = tuple(_move(active, decisions.get(active.id)) for active in ranked)
    return EvacuationForecast(nodes=len(inside), moves=moves)


def _has_room_on(active: Active, nodes: set[str]) -> bool:
    return any(share.node_id in nodes for share in active.placement.shares)


def _decided(snapshot: Snapshot, inside: set[str], leaving: Iterable[str], now: datetime) -> Sequence[Decision]:
    out = set(leaving)
    attempts = [active for active in snapshot.active if active.id in out]
    back = {each.id: each.back_in_line() for each in attempts}
    emptied = without(snapshot, attempts)
    nodes = tuple(replace(node, health=Health.CORDONED) if node.id in inside else node for node in emptied.nodes)
    then = replace(emptied, nodes=nodes, waiting=(*emptied.waiting, *back.values()))
    return schedule_around(then, now)[0].decisions


def _move(active: Active, decision: Decision | None) -> EvacuationMove:
    spec, accelerators = active.spec, active.milli / WHOLE
    move = EvacuationMove(workload=active.id, queue=spec.queue, tier=spec.tier, accelerators=accelerators)
    return move.model_copy(update=_answer(decision))


def _answer(decision: Decision | None) -> Mapping[str, object]:
    match decision:
        case Start(placement=placement):
            return {"to": _in_words(placement)}
        case StartAfter(placement=placement, victims=victims):
            return {"to": _in_words(placement), "stops": len(victims)}
        case Wait(explanation=why) | Refuse(explanation=why):
            return {"reason": why.reason, "message": why.message}
        case None:
            return {"message": "it would wait for a later round"}


def _in_words(placement: Placement) -> str:
    return f"{placement.provider}/{placement.region} {placement.milli / WHOLE:g} {placement.sku}"
