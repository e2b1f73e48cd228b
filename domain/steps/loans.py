"""Loans: what is lent until it is wanted comes back when somebody has come whom it is kept for and who finds no other room."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain

from corral.api import WHOLE, Explanation, Reason, State
from corral.policy import Limits
from domain.calendar.reservations import paths_of
from domain.decision import Change, Reshape, Start, StartAfter, Stop
from domain.disruption.means import smaller
from domain.disruption.protection import hardship
from domain.facts import Facts
from domain.placement.layout import Candidate
from domain.pool.bookings import Engagement, engagements, notice
from domain.pool.fleet import Placement, taken
from domain.pool.workload import Active, Waiting, next_attempt
from domain.quota_models.openings import Ranks, best_candidate, fits_somewhere, open_ranks, why_not_yet
from domain.quota_models.turns import TakeTurns
from domain.remembered.lanes import Backlog
from domain.snapshot import Snapshot
from domain.worlds.request import Kind
from domain.worlds.world import World, least


@dataclass(frozen=True, slots=True)
class Call:
    """Somebody wants what is kept for it: the place that it gets once these guests have left, and for which engagement."""

    workload: Waiting
    placement: Placement
    guests: tuple[Active, ...] = ()
    engagements: Mapping[str, Engagement] = field(default_factory=dict)
    """By attempt id of the guest."""
    keeps: Mapping[str, Placement] = field(default_factory=dict)
    """What those keep that give back enough by shrinking, by attempt id."""

    def shrinks(self, guest: Active) -> bool:
        """Whether one of the guests goes on with a part of what it has."""
        return guest.attempt_id in self.keeps

    @property
    def start(self) -> StartAfter:
        """The promise of the place."""
        return StartAfter(self.workload.id, self.placement, ())

    @property
    def stops(self) -> tuple[Stop, ...]:
        """The notices to the guests who leave."""
        return tuple(
            Stop(attempt_id, Reason.LOAN_ENDS, _why(its), self.workload.id)
            for attempt_id, its in self.engagements.items()
            if attempt_id not in self.keeps
        )

    @property
    def reshapes(self) -> tuple[Reshape, ...]:
        """The same to those who give back a part."""
        return tuple(
            Reshape(id, Change.SHRINK, left, self.workload.id, reason=Reason.LOAN_ENDS, why=_why(self.engagements[id]))
            for id, left in self.keeps.items()
        )


def _why(engagement: Engagement) -> str:
    return f"its nodes are kept for {engagement.in_words}, and wanted now"


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


def wanted(snapshot: Snapshot, world: World, facts: Facts) -> frozenset[Engagement]:
    """What is lent to nobody else now: somebody waits whom it is for, and has room once those have left to whom it is lent."""
    lending = {each for each in facts.engagements if each.lends and facts.now < each.closes_at}
    if not lending:
        return frozenset()
    emptied = world.forked().when_all_have_left().without(guest for guest, _ in _guests(world, facts))
    hopeless, found = set[Kind](), set[Engagement]()
    for workload in _examples(snapshot, lending, facts):
        its = {each for each in lending - found if each.is_for(workload, facts.tree.paths)}
        if not its or (kind := facts.kind(workload)) in hopeless:
            continue
        if why_not_yet(workload, facts) is None and fits_somewhere(open_ranks(workload, facts), emptied):
            found |= its
        else:
            hopeless.add(kind)
    return frozenset(found)


def _examples(snapshot: Snapshot, lending: Iterable[Engagement], facts: Facts) -> Iterator[Waiting]:
    """Of those who wait all for whom something is kept by name, and of each lane one: that is for the others as for it."""
    names = frozenset(chain.from_iterable(each.workloads for each in lending))
    for part in (snapshot.waiting, snapshot.bystanders):
        backlog = facts.backlog(part)
        yield from (backlog.by_id[name] for name in names if backlog.has(name))
        yield from map(backlog.first, backlog.lanes)


def called_back(waiting: Backlog, world: World, facts: Facts, take_turns: TakeTurns) -> list[Call]:
    """Who has guests leave, in turn: only whose turn it would be if all guests were gone, and who has no room before.

    Nobody leaves who could stay; those of the lowest rank that lose least go first, as among victims. Who is elastic and gives
    back enough by shrinking goes on with what it keeps.
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
            for guest in filter(call.shrinks, call.guests):
                world = world.promising(guest.spec, call.keeps[guest.attempt_id], ())
    return _without_needless(calls, world, facts) if len(calls) > 1 else calls


def _without_needless(calls: Iterable[Call], world: World, facts: Facts) -> list[Call]:
    """The same calls, of which the last in turn are looked at first: nobody leaves for one that fits beside the others.

    Whoever has to leave for one may leave room for others over, which were called for before it.
    """
    later, found = world.when_all_have_left(), list[Call]()
    for call in reversed(list(calls)):
        spared: Call | None = None
        parts = [(guest.back_in_line(), call.keeps[guest.attempt_id]) for guest in filter(call.shrinks, call.guests)]
        apart = later.without(_attempts([(call.workload, call.placement), *parts], facts))
        if all(_is_free(guest.placement, apart) for guest in call.guests):
            for guest in call.guests:
                apart = apart.with_(guest.spec, guest.placement)
            if (candidate := best_candidate(open_ranks(call.workload, facts).at_minimum(), apart)) is not None:
                spared = Call(call.workload, candidate.placement)
                later = apart.with_(call.workload.spec, candidate.placement)
        found.append(spared or call)
    return found[::-1]


def _attempts(places: Iterable[tuple[Waiting, Placement]], facts: Facts) -> list[Active]:
    """Those who are promised these places."""
    return [next_attempt(workload, State.RESERVING, placement, {}, facts.now) for workload, placement in places]


def _is_free(placement: Placement, world: World) -> bool:
    """Whether all of a placement is free."""
    shares = placement.shares
    return all(share.node_id in world.homes for share in shares) and all(
        least(world.rooms[share.node_id], share.room) == share.room for share in shares
    )


def after_calls(snapshot: Snapshot, calls: Collection[Call], facts: Facts) -> Snapshot:
    """The snapshot in which these are promised their places, and their guests have notice and are promised what they keep."""
    told = {guest.attempt_id for call in calls for guest in call.guests}
    active = [each.stopping() if each.attempt_id in told else each for each in snapshot.active]
    promised = {call.workload.id for call in calls}
    prices = {node.id: node.price for node in snapshot.nodes}
    places = [(call.workload, call.placement) for call in calls]
    places += [
        (guest.back_in_line(), call.keeps[guest.attempt_id]) for call in calls for guest in filter(call.shrinks, call.guests)
    ]
    active += [next_attempt(workload, State.RESERVING, placement, prices, facts.now) for workload, placement in places]
    nodes = taken(snapshot.nodes, [placement for _, placement in places])
    waiting = tuple(each for each in snapshot.waiting if each.id not in promised)
    return replace(snapshot, nodes=nodes, active=tuple(active), waiting=waiting)


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
        guest.attempt_id: (guest, frozenset(mine))
        for guest, engagements in guests
        if (mine := [each for each in engagements if each.is_for(workload, paths)])
    }
    ranks = open_ranks(workload, facts).at_minimum()
    found = _fewest(ranks, world.when_all_have_left(), [guest for guest, _ in its.values()])
    if found is None:
        return None
    placement, leaving = found
    if not _is_where_all_are(placement, leaving):
        return None  # it would be for their quota, which is for turns to divide
    engagements = {guest.attempt_id: min(its[guest.attempt_id][1]) for guest in leaving}
    sizes = {guest.attempt_id: smaller(guest, _lent(guest, its[guest.attempt_id][1], world)) for guest in leaving}
    beside, keeps = _beside_the_shrunk(ranks, world.when_all_have_left(), placement, leaving, sizes)
    if keeps and _is_where_all_are(beside, leaving):
        return Call(workload, beside, leaving, engagements, keeps)
    return Call(workload, placement, leaving, engagements, {})


def _is_where_all_are(placement: Placement, guests: Iterable[Active]) -> bool:
    on = {share.node_id for share in placement.shares}
    return not any(on.isdisjoint(share.node_id for share in guest.placement.shares) for guest in guests)


def _beside_the_shrunk(
    ranks: Ranks,
    world: World,
    placement: Placement,
    leaving: Sequence[Active],
    sizes: Mapping[str, Sequence[Placement]],
) -> tuple[Placement, Mapping[str, Placement]]:
    """The place beside what those of the guests keep that need not leave as a whole, the highest in rank first; and that."""
    world, keeps = world.without(leaving), dict[str, Placement]()
    for guest in reversed(leaving):
        its = sizes[guest.attempt_id]
        enough = _most(ranks, world, guest, its)
        if enough < len(its):
            keeps[guest.attempt_id] = its[enough]
            world = world.with_(guest.spec, its[enough])
            placement = _found(best_candidate(ranks, world))
    return placement, keeps


def _most(ranks: Ranks, world: World, guest: Active, sizes: Sequence[Placement]) -> int:
    """The first of its sizes beside which there is room; their number where there is none."""

    def leaves_room(size: int) -> bool:
        return fits_somewhere(ranks, world.with_(guest.spec, sizes[size]))

    return bisect_left(range(len(sizes)), True, key=leaves_room)


def _found(candidate: Candidate | None) -> Placement:
    assert candidate is not None, "there is room, as was just seen"
    return candidate.placement


def _lent(guest: Active, engagements: Collection[Engagement], world: World) -> frozenset[str]:
    """The nodes that are lent to a guest by these."""
    on = (share.node_id for share in guest.placement.shares if share.node_id in world.homes)
    return frozenset(node for node in on if not frozenset(engagements).isdisjoint(world.homes[node].engagements))


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
