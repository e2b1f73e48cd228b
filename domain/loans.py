"""Loans: what is lent until it is wanted comes back when somebody has come whom it is kept for and who finds no other room."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from corral.api import WHOLE, Explanation, Reason, State
from corral.policy import Limits
from domain.bookings import Engagement, engagements, notice
from domain.decision import Start, StartAfter, Stop
from domain.facts import Facts
from domain.fleet import Placement
from domain.lanes import Backlog
from domain.openings import best_candidate, fits_somewhere, open_ranks, why_not_yet
from domain.placement import Candidate
from domain.protection import hardship
from domain.request import Kind, Request
from domain.reservations import paths_of
from domain.snapshot import Snapshot
from domain.turns import TakeTurns
from domain.workload import Active, Waiting, next_attempt
from domain.world import World, not_negative

Ranks = Sequence[Sequence[Request]]


@dataclass(frozen=True, slots=True)
class Call:
    """Somebody wants what is kept for it: the place that it gets once these guests have left, and for which engagement."""

    workload: Waiting
    placement: Placement
    guests: tuple[Active, ...]
    engagements: Mapping[str, Engagement]
    """By attempt id of the guest."""

    @property
    def start(self) -> StartAfter:
        """The promise of the place."""
        return StartAfter(self.workload.id, self.placement, ())

    @property
    def stops(self) -> tuple[Stop, ...]:
        """The notices to the guests."""
        return tuple(
            Stop(attempt_id, Reason.LOAN_ENDS, f"its nodes are kept for {its.in_words}, and wanted now", self.workload.id)
            for attempt_id, its in self.engagements.items()
        )


def told_of_its_loan(workload_id: str, snapshot: Snapshot, now: datetime) -> Explanation | None:
    """That a workload runs on what is kept for others, and when it may be told to leave; none where it need not."""
    active = next((each for each in snapshot.active if each.id == workload_id and not each.preempted), None)
    if active is None or not active.spec.preemptible:
        return None
    has = {share.node_id: share.room.milli for share in active.placement.shares}
    engaged = engagements(snapshot.bookings, [node for node in snapshot.nodes if node.id in has])
    paths = paths_of(snapshot)
    others = {each for id in has for each in engaged.get(id, ()) if not each.is_for(active, paths)}
    its = {each for each in others if _may_end(each, active, snapshot.policy.limits, now)}
    if not its:
        return None
    first = min(its)
    milli = sum(has[id] for id in has if first in engaged.get(id, ()))
    is_lent_on = first.lends_to(active.spec, snapshot.policy.limits)
    until = "while nobody whom that is for wants them" if is_lent_on else "until that opens"
    seconds = notice(active.spec, snapshot.policy.limits) // timedelta(seconds=1)
    message = f"{milli / WHOLE:g} of its accelerators are kept for {first.in_words} and lent to it {until}"
    return Explanation(
        reason=Reason.ON_LOAN, message=f"{message}; it has notice {seconds} s before they are to be free", as_of=now
    )


def _may_end(engagement: Engagement, active: Active, limits: Limits, now: datetime) -> bool:
    is_lent_on = engagement.lends_to(active.spec, limits)
    return not engagement.evacuates and now < (engagement.closes_at if is_lent_on else engagement.opens_at)


def wanted(waiting: Iterable[Waiting], world: World, facts: Facts) -> frozenset[Engagement]:
    """What is lent to nobody else now: somebody waits whom it is for, and has room once those have left to whom it is lent."""
    lending = {each for each in facts.engagements if each.lends and facts.now < each.closes_at}
    if not lending:
        return frozenset()
    emptied = world.forked().when_all_have_left().without(guest for guest, _ in _guests(world, facts))
    hopeless, found = set[Kind](), set[Engagement]()
    for workload in waiting:
        its = {each for each in lending - found if each.is_for(workload, facts.tree.paths)}
        if not its or (kind := facts.kind(workload)) in hopeless:
            continue
        if why_not_yet(workload, facts) is None and fits_somewhere(open_ranks(workload, facts), emptied):
            found |= its
        else:
            hopeless.add(kind)
    return frozenset(found)


def called_back(waiting: Backlog, world: World, facts: Facts, take_turns: TakeTurns) -> list[Call]:
    """Who has guests leave, in turn: only whose turn it would be if all guests were gone, and who has no room before.

    Nobody leaves who could stay; those of the lowest rank that lose least go first, as among victims.
    """
    guests = sorted(_guests(world, facts), key=lambda each: hardship(each[0]))
    if not guests:
        return []
    emptied = world.forked().when_all_have_left().without(guest for guest, _ in guests)
    calls = list[Call]()
    for move in take_turns(waiting, emptied, facts, once=False).moved:
        workload = waiting.by_id[move.workload_id]
        ranks = open_ranks(workload, facts)
        if not isinstance(move, Start):
            continue
        if (candidate := best_candidate(ranks, world)) is not None:
            world = world.with_(workload.spec, candidate.placement)
        elif (call := _call(workload, world, facts, guests)) is not None:
            calls.append(call)
            guests = [each for each in guests if each[0] not in call.guests]
            world = world.promising(workload.spec, call.placement, call.guests)
    return calls


def after_calls(snapshot: Snapshot, calls: Collection[Call], facts: Facts) -> Snapshot:
    """The snapshot in which these are promised their places and their guests have notice."""
    told = {guest.attempt_id for call in calls for guest in call.guests}
    active = [each.stopping() if each.attempt_id in told else each for each in snapshot.active]
    promised = {call.workload.id for call in calls}
    nodes = {node.id: node for node in snapshot.nodes}
    prices = {node.id: node.price for node in snapshot.nodes}
    for call in calls:
        active.append(next_attempt(call.workload, State.RESERVING, call.placement, prices, facts.now))
        for share in call.placement.shares:
            nodes[share.node_id] = replace(nodes[share.node_id], free=not_negative(nodes[share.node_id].free - share.room))
    waiting = tuple(each for each in snapshot.waiting if each.id not in promised)
    return replace(snapshot, nodes=tuple(nodes.values()), active=tuple(active), waiting=waiting)


def _guests(world: World, facts: Facts) -> list[tuple[Active, frozenset[Engagement]]]:
    """Attempts that may be told to leave now what is lent to them, with what their nodes are kept for."""
    attempts = Counter(active.id for active in facts.active.values())
    found = list[tuple[Active, frozenset[Engagement]]]()
    for active in facts.active.values():
        if active.preempted or active.state is State.STOPPING or attempts[active.id] > 1:
            continue
        homes = (world.homes[share.node_id] for share in active.placement.shares if share.node_id in world.homes)
        its = frozenset(each for home in homes for each in home.engagements if _is_lent_to(active, each, facts))
        if its:
            found.append((active, its))
    return found


def _is_lent_to(active: Active, engagement: Engagement, facts: Facts) -> bool:
    return engagement.is_lent_to(active, facts.tree.paths, facts.now, facts.policy.limits)


def _call(workload: Waiting, world: World, facts: Facts, guests: Sequence[tuple[Active, frozenset[Engagement]]]) -> Call | None:
    """Which guests leave for the workload; none where their leaving does not start it, or is not needed."""
    paths = facts.tree.paths
    its = {
        guest.attempt_id: (guest, min(mine))
        for guest, engagements in guests
        if (mine := [each for each in engagements if each.is_for(workload, paths)])
    }
    ranks = [[request.at_minimum() for request in rank] for rank in open_ranks(workload, facts)]
    found = _fewest(ranks, world.when_all_have_left(), [guest for guest, _ in its.values()])
    if found is None:
        return None
    placement, leaving = found
    on = {share.node_id for share in placement.shares}
    if any(on.isdisjoint(share.node_id for share in guest.placement.shares) for guest in leaving):
        return None  # it would be for their quota, which is for turns to divide
    return Call(workload, placement, leaving, {guest.attempt_id: its[guest.attempt_id][1] for guest in leaving})


def _fewest(ranks: Ranks, world: World, guests: Sequence[Active]) -> tuple[Placement, tuple[Active, ...]] | None:
    """A place, and those of the guests, in order, without whom it is there; nobody where it is there with all of them."""
    enough = bisect_left(range(len(guests) + 1), True, key=lambda some: fits_somewhere(ranks, world.without(guests[:some])))
    if not 0 < enough <= len(guests):
        return None
    leaving, place = list(guests[:enough]), _place(ranks, world, guests[:enough])
    for guest in reversed(guests[:enough]):
        others = [each for each in leaving if each is not guest]
        if (other := _place(ranks, world, others)) is not None:
            leaving, place = others, other
    return None if place is None else (place.placement, tuple(leaving))


def _place(ranks: Ranks, world: World, leaving: Iterable[Active]) -> Candidate | None:
    return best_candidate(ranks, world.without(leaving))
