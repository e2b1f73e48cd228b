"""Reservations: which nodes are kept for whom, when windows open, and who has to leave before."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from corral.api import WHOLE, Reason, State
from corral.policy import Limits
from corral.reservation import Lending, MissKind, Purpose
from domain.decision import Stop
from domain.pool.bookings import Booking, Engagement, Engagements, Paths, end_of, engagement_of, engagements, notice, notice_of
from domain.pool.fleet import Amount, Health, Node
from domain.pool.workload import Active
from domain.snapshot import Snapshot

LOOK_AGAIN = timedelta(seconds=60)
"""How often capacity that is missing from an open window is looked for, and how much of one is lent is counted."""

MOST_STARTS = 64
"""At most so many starts of a flexible window are tried."""

MOST_NAMES = 3
MOST_KNOWN = 12

Supply = tuple[str, str]
"""Provider and region."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The pool with every window settled: what is kept, and who has notice for the sake of that.

    `bookings` are those that differ from before. `look_at` is when time alone will change something again, but for work that
    waits; `opens_at` are the times from which on what is kept is lent to nobody who may not be told to leave before.
    """

    snapshot: Snapshot
    bookings: tuple[Booking, ...] = ()
    stops: tuple[Stop, ...] = ()
    look_at: datetime | None = None
    opens_at: frozenset[datetime] = frozenset()

    def look_again_at(self, longest_grace_seconds: int | None, now: datetime) -> datetime | None:
        """When time alone will change something again, where work waits that has so long a grace at the most."""
        moments = {self.look_at} if self.look_at is not None else set[datetime]()
        if longest_grace_seconds is not None:
            longest = notice_of(longest_grace_seconds, self.snapshot.policy.limits)
            moments |= {opens_at - longest for opens_at in self.opens_at}
        return min((moment for moment in moments if moment > now), default=None)


def settled(snapshot: Snapshot, now: datetime, spared: frozenset[str] = frozenset()) -> Settled:
    """Choose what is kept for every reservation, and give notice to whoever must have left when it is needed.

    The `spared` attempts have just been allowed to stay, and have their notice in another round.
    """
    live = [booking for booking in snapshot.bookings if now < booking.closes_at]
    if not live and all(node.available_until is None for node in snapshot.nodes):
        return Settled(replace(snapshot, bookings=()) if snapshot.bookings else snapshot)
    pool = _Pool.of(snapshot, now, spared)
    after: list[Booking] = []
    line = sorted(live, key=_precedence)
    for place, booking in enumerate(line, 1):
        after.append(pool.settle(booking, [*after, *(other for other in line[place:] if other.is_open)]))
    engaged = engagements(after, snapshot.nodes)
    stops = pool.stops(engaged)
    noticed = {stop.attempt_id for stop in stops}
    active = tuple(each.stopping() if each.attempt_id in noticed else each for each in snapshot.active)
    before = {booking.id: booking for booking in live}
    return Settled(
        replace(snapshot, bookings=tuple(after), active=active),
        tuple(booking for booking in after if booking != before[booking.id]),
        stops,
        pool.look_at(after, engaged),
        frozenset(each.opens_at for its in engaged.values() for each in its),
    )


def _precedence(booking: Booking) -> tuple[bool, datetime, str]:
    """Maintenance first, then whoever asked first: a later reservation takes nothing from an earlier or an open one."""
    return booking.spec.purpose is Purpose.CAPACITY, booking.booked_at, booking.id


@dataclass(frozen=True, slots=True)
class _Choice:
    """Nodes for a window, how much is missing with them, and how much work would have to be told to leave."""

    nodes: tuple[str, ...]
    missing: Amount
    disturbed: Amount
    kind: MissKind | None = None
    cause: str = ""


@dataclass(frozen=True, slots=True)
class _Pool:
    """The nodes and who is on them; `untold` attempts have no notice in this round: they begin later, or may stay."""

    now: datetime
    limits: Limits
    paths: Paths
    nodes: Mapping[str, Node]
    work: Mapping[str, Sequence[Active]]
    snapshot: Snapshot
    untold: frozenset[str]

    @classmethod
    def of(cls, snapshot: Snapshot, now: datetime, spared: frozenset[str]) -> "_Pool":
        work: dict[str, list[Active]] = {}
        epochs: dict[str, list[Active]] = {}
        for active in snapshot.active:
            epochs.setdefault(active.id, []).append(active)
            for share in active.placement.shares:
                work.setdefault(share.node_id, []).append(active)
        followers = {max(its, key=lambda each: each.epoch).attempt_id for its in epochs.values() if len(its) > 1}
        nodes = {node.id: node for node in sorted(snapshot.nodes, key=lambda node: node.id)}
        return cls(now, snapshot.policy.limits, paths_of(snapshot), nodes, work, snapshot, spared | followers)

    # What is kept

    def settle(self, booking: Booking, others: Sequence[Booking]) -> Booking:
        """The booking with its start and its nodes; what was chosen before is kept as long as it will do."""
        start, choice = booking.opens_at, self.choose(booking, booking.opens_at, others)
        if choice.missing and not booking.is_open and booking.earliest < booking.latest:
            start, choice = self._later_start(booking, others)
        moved = replace(booking, opens_at=start, closes_at=booking.closes_at + (start - booking.opens_at))
        if choice.disturbed and self._is_notice_due(moved, choice):
            fresh = self.choose(moved, start, others, keeps=False)
            choice = fresh if (fresh.missing, fresh.disturbed) < (choice.missing, choice.disturbed) else choice
        is_open = booking.is_open or start <= self.now
        after = replace(moved, nodes=choice.nodes, is_open=is_open)
        lent = self._lent(after)
        return replace(after, missing=choice.missing, kind=choice.kind, cause=choice.cause, lent=lent)

    def choose(self, booking: Booking, opens_at: datetime, others: Sequence[Booking], *, keeps: bool = True) -> _Choice:
        """The nodes for a window that opens then; those of before first, if it `keeps` them."""
        closes_at = booking.closes_at + (opens_at - booking.opens_at)
        engagement = replace(engagement_of(booking), opens_at=opens_at, closes_at=closes_at)
        if booking.spec.purpose is Purpose.MAINTENANCE:
            chosen = [node for node in self.nodes.values() if _is_named(booking, node)]
            return self._chosen(chosen, sum(node.total.milli for node in chosen), engagement)
        taken = {id for other in others if other.overlaps(opens_at, closes_at) for id in other.nodes}
        before = frozenset(booking.nodes) if keeps else frozenset[str]()
        wanted = (booking.spec.accelerators or 0) * WHOLE
        kept = [self.nodes[id] for id in sorted(before - taken) if id in self.nodes]
        if all(_may_serve(booking, node, closes_at) for node in kept) and len(set(map(_supply, kept))) == 1:
            # They come first wherever they are enough, so that no other has to be looked at.
            choice = self._of_supply(kept, wanted, engagement, before)
            if not choice.missing:
                return choice
        supplies: dict[Supply, list[Node]] = {}
        for node in self.nodes.values():
            if node.id not in taken and _may_serve(booking, node, closes_at):
                supplies.setdefault(_supply(node), []).append(node)
        choices = [
            (choice.missing, not before & set(choice.nodes), choice.disturbed, supply, choice)
            for supply, nodes in supplies.items()
            for choice in [self._of_supply(nodes, wanted, engagement, before)]
        ]
        if choices:
            return min(choices)[-1]
        cause = _unknown(booking, self.nodes.values()) or _too_few(wanted, 0)
        return _Choice((), wanted, 0, MissKind.TOO_FEW_NODES, cause)

    def _of_supply(self, nodes: Iterable[Node], wanted: Amount, engagement: Engagement, before: frozenset[str]) -> _Choice:
        def order(node: Node) -> tuple[bool, bool, Amount, tuple[str, ...]]:
            if node.id not in self.work:
                return False, node.id not in before, 0, node.path
            return not self._is_clear(node, engagement), node.id not in before, self._disturbed(node, engagement), node.path

        chosen: list[Node] = []
        amount = 0
        for node in sorted(nodes, key=order):
            if amount >= wanted:
                break
            chosen.append(node)
            amount += node.total.milli
        return self._chosen(self._without_needless(chosen, wanted, engagement), wanted, engagement)

    def _without_needless(self, chosen: Sequence[Node], wanted: Amount, engagement: Engagement) -> Sequence[Node]:
        """The nodes but for those without which there is enough, as the last may be large; all where work stays on any."""
        spare = sum(node.total.milli for node in chosen) - wanted
        if spare <= 0 or not all(self._is_clear(node, engagement) for node in chosen):
            return chosen
        needed: list[Node] = []
        for node in reversed(chosen):
            if node.total.milli <= spare:
                spare -= node.total.milli
            else:
                needed.append(node)
        return needed

    def _chosen(self, nodes: Sequence[Node], wanted: Amount, engagement: Engagement) -> _Choice:
        blocked = [node for node in nodes if not self._is_clear(node, engagement)]
        missing = max(0, wanted - sum(node.total.milli for node in nodes) + sum(node.total.milli for node in blocked))
        disturbed = sum(self._disturbed(node, engagement) for node in nodes)
        said = self._causes(blocked, nodes, wanted, engagement) if missing else {}
        cause = "; ".join(said.values())
        return _Choice(tuple(sorted(node.id for node in nodes)), missing, disturbed, next(iter(said), None), cause)

    def _causes(
        self, blocked: Sequence[Node], nodes: Sequence[Node], wanted: Amount, engagement: Engagement
    ) -> dict[MissKind, str]:
        said: dict[MissKind, str] = {}
        late = [node for node in blocked if any(self._is_late(each, engagement) for each in self._others(node, engagement))]
        if late:
            said[MissKind.LOAN_IS_LATE] = f"work to which {_names(late)} was lent has not left in the time of its notice"
        if others := [node for node in blocked if node not in late]:
            work = f"work of others is on {_names(others)}"
            said[MissKind.WORK_STAYS] = f"{work} that may not be stopped for it, or has not left yet"
        if (found := sum(node.total.milli for node in nodes)) < wanted:
            said[MissKind.TOO_FEW_NODES] = _too_few(wanted, found)
        return said

    def _lent(self, booking: Booking) -> Amount:
        """Thousandths of an accelerator on which work of others runs, lent until they are wanted, in the open window."""
        engagement = engagement_of(booking)
        if not booking.is_open:
            return 0
        return sum(
            share.room.milli
            for id in booking.nodes
            for active in self._others(self.nodes[id], engagement)
            if engagement.lends_to(active.spec, self.limits) and active.started_at is not None
            for share in active.placement.shares
            if share.node_id == id
        )

    def _is_clear(self, node: Node, engagement: Engagement) -> bool:
        """Whether only work that it is for will be on the node when it opens, or work that leaves when it is wanted.

        Once it has opened: is there, and has not had its notice for too long.
        """
        return not any(self._stays(active, engagement) for active in self._others(node, engagement))

    def _others(self, node: Node, engagement: Engagement) -> list[Active]:
        return [active for active in self.work.get(node.id, ()) if not engagement.is_for(active, self.paths)]

    def _stays(self, active: Active, engagement: Engagement) -> bool:
        if engagement.opens_at <= self.now:
            return not engagement.lends_to(active.spec, self.limits) or self._is_late(active, engagement)
        return not (_is_leaving(active) or self._ends_in_time(active, engagement) or _may_be_told(active, engagement))

    def _is_late(self, active: Active, engagement: Engagement) -> bool:
        """Whether somebody whom it is for has waited in vain for as long as the notice of this guest is."""
        return any(due <= self.now for due in self._back_at(active, engagement))

    def _back_at(self, active: Active, engagement: Engagement) -> Iterable[datetime]:
        """When those who are promised what the guest was lent, and has notice to leave, should have it."""
        if not (engagement.lends_to(active.spec, self.limits) and _is_leaving(active)):
            return
        for share in active.placement.shares:
            for each in self.work.get(share.node_id, ()):
                if each.state is State.RESERVING and engagement.is_for(each, self.paths):
                    yield each.held_at + notice(active.spec, self.limits)

    def _disturbed(self, node: Node, engagement: Engagement) -> Amount:
        """Thousandths of an accelerator that work on the node has which would have to be told to leave."""
        return sum(
            share.room.milli
            for active in self._others(node, engagement)
            if not (_is_leaving(active) or self._ends_in_time(active, engagement))
            for share in active.placement.shares
            if share.node_id == node.id
        )

    def _ends_in_time(self, active: Active, engagement: Engagement) -> bool:
        if (most := active.spec.maximum_runtime_seconds) is None:
            return False
        over = max(self.now, (active.started_at or self.now) + timedelta(seconds=most))
        return over + notice(active.spec, self.limits) <= engagement.opens_at

    def _later_start(self, booking: Booking, others: Sequence[Booking]) -> tuple[datetime, _Choice]:
        """The first start within the window's freedom with which nothing is missing; the latest where there is none."""
        first = max(self.now, booking.earliest)
        starts = {first, *(other.closes_at for other in others), *(self._ends())}
        ahead = sorted(start for start in starts if first <= start <= booking.latest)[:MOST_STARTS]
        for start in ahead:
            if not (choice := self.choose(booking, start, others)).missing:
                return start, choice
        return booking.latest, self.choose(booking, booking.latest, others)

    def _ends(self) -> Iterable[datetime]:
        """When work that runs, and has a maximum runtime, is gone at the latest."""
        for active in self.snapshot.active:
            if (most := active.spec.maximum_runtime_seconds) is not None:
                began = active.started_at or self.now
                yield max(self.now, began + timedelta(seconds=most)) + notice(active.spec, self.limits)

    # Who leaves

    def stops(self, engaged: Engagements) -> tuple[Stop, ...]:
        """Notice to all work that must have left when its node is needed, as soon as it is due."""
        due: dict[str, Engagement] = {}
        for node_id, its in engaged.items():
            for active in self.work.get(node_id, ()):
                for each in its:
                    if self._is_due(active, each):
                        due[active.attempt_id] = min(each, due.get(active.attempt_id, each))
        return tuple(_stop(attempt_id, due[attempt_id]) for attempt_id in sorted(due))

    def _must_leave(self, active: Active, engagement: Engagement) -> bool:
        return (
            not _is_leaving(active)
            and active.attempt_id not in self.untold
            and not engagement.is_for(active, self.paths)
            and _may_be_told(active, engagement)
            and not self._ends_in_time(active, engagement)
        )

    def _is_due(self, active: Active, engagement: Engagement) -> bool:
        is_due = engagement.notice_at(active.spec, self.limits) <= self.now
        return is_due and not engagement.lends_to(active.spec, self.limits) and self._must_leave(active, engagement)

    def _is_notice_due(self, booking: Booking, choice: _Choice) -> bool:
        engagement = engagement_of(booking)
        return any(self._is_due(active, engagement) for id in choice.nodes for active in self.work.get(id, ()))

    def look_at(self, bookings: Iterable[Booking], engaged: Engagements) -> datetime | None:
        """When somebody is to be told next, or a window opens, or it is to be seen again what is missing, or lent."""
        moments = [booking.opens_at for booking in bookings if not booking.is_open]
        open_ones = [booking for booking in bookings if booking.is_open]
        moments += [self.now + LOOK_AGAIN for each in open_ones if each.missing or each.spec.lent is Lending.UNTIL_WANTED]
        for node_id, its in engaged.items():
            for active in self.work.get(node_id, ()):
                moments += [each.notice_at(active.spec, self.limits) for each in its if self._must_leave(active, each)]
                moments += [due for each in its for due in self._back_at(active, each)]
        return min((moment for moment in moments if moment > self.now), default=None)


def _stop(attempt_id: str, engagement: Engagement) -> Stop:
    reason = Reason.NODE_CLOSES if engagement.evacuates else Reason.RESERVATION_OPENS
    return Stop(attempt_id, reason, f"its nodes are kept for {engagement.in_words}")


def _supply(node: Node) -> Supply:
    return node.provider, node.region


def _is_leaving(active: Active) -> bool:
    return active.preempted or active.state is State.STOPPING


def _may_be_told(active: Active, engagement: Engagement) -> bool:
    return active.spec.preemptible or engagement.evacuates


def _is_named(booking: Booking, node: Node) -> bool:
    return node.id in booking.spec.nodes or node.cluster in booking.spec.clusters


def _may_serve(booking: Booking, node: Node, closes_at: datetime) -> bool:
    spec = booking.spec
    end = end_of(node)
    return (
        node.sku == spec.sku
        and node.health is Health.READY
        and (not spec.regions or node.region in spec.regions)
        and (not spec.providers or node.provider in spec.providers)
        and (not spec.clusters or node.cluster in spec.clusters)
        and (end is None or closes_at <= end.opens_at)
    )


def _names(nodes: Sequence[Node]) -> str:
    names = ", ".join(sorted(node.id for node in nodes)[:MOST_NAMES])
    return f"{names} and {len(nodes) - MOST_NAMES} more" if len(nodes) > MOST_NAMES else names


def _too_few(wanted: Amount, found: Amount) -> str:
    return f"of {wanted // WHOLE} accelerators {found // WHOLE} are ready and kept for nobody else in one region"


def _unknown(booking: Booking, nodes: Iterable[Node]) -> str:
    """What the reservation names that no node of the pool has, whatever its health, and what there is instead."""
    spec = booking.spec
    asked = (
        ("SKU", (spec.sku,) if spec.sku else (), {node.sku for node in nodes}),
        ("region", spec.regions, {node.region for node in nodes}),
        ("provider", spec.providers, {node.provider for node in nodes}),
    )
    for what, named, there in asked:
        if there and named and there.isdisjoint(named):
            return f"no node of the pool is of {what} {' or '.join(named)}; there are {', '.join(sorted(there)[:MOST_KNOWN])}"
    return ""


def paths_of(snapshot: Snapshot) -> Paths:
    """Each queue with all that stand above it."""
    parents = {queue.name: queue.parent for queue in snapshot.queues}

    def path(name: str | None) -> tuple[str, ...]:
        return () if name is None else (name, *path(parents.get(name)))

    return {name: path(name) for name in parents}
