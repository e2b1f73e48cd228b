"""Bookings: reservations with their present or next window, and what that makes of the nodes that are kept."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from corral.api import WorkloadTerms
from corral.policy import Limits
from corral.reservation import Lending, MissKind, Purpose, ReservationSpec
from domain.pool.claimant import Claimant
from domain.pool.fleet import Amount, Node

FOREVER = datetime.max.replace(tzinfo=UTC)

Paths = Mapping[str, Sequence[str]]
"""Each queue with all that stand above it, by its name."""


@dataclass(frozen=True, slots=True)
class Booking:
    """A reservation in its present or next window, which may open from `earliest` to `latest` and is to open at `opens_at`.

    `nodes` (ids) are kept for it; `missing` thousandths are short as things stand, for the reason given by `kind` and, in
    words, by `cause`. `lent` thousandths are used by others in the open window.
    """

    spec: ReservationSpec
    earliest: datetime
    latest: datetime
    opens_at: datetime
    closes_at: datetime
    booked_at: datetime
    nodes: tuple[str, ...] = ()
    is_open: bool = False
    missing: Amount = 0
    kind: MissKind | None = None
    cause: str = ""
    lent: Amount = 0

    @property
    def id(self) -> str:
        """The reservation's."""
        return self.spec.id

    def overlaps(self, opens_at: datetime, closes_at: datetime) -> bool:
        """Whether the two windows have any time in common."""
        return self.opens_at < closes_at and opens_at < self.closes_at


@dataclass(frozen=True, slots=True, order=True)
class Engagement:
    """What a node is kept for from `opens_at` on: for these queues (and below), tenants and workloads, or for nobody.

    Where it `evacuates`, nothing stays, whether or not it may be preempted. Where it `lends`, others whose notice is no
    longer than `notice_seconds` may use the node until somebody whom it is for wants it, in the window too.
    """

    opens_at: datetime
    closes_at: datetime
    name: str
    evacuates: bool = False
    queues: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    lends: bool = False
    notice_seconds: int = 0
    _hash: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.opens_at, self.closes_at, self.name)))

    def __hash__(self) -> int:
        return self._hash

    def is_for(self, claimant: Claimant, paths: Paths) -> bool:
        """Whether the node is kept for this workload."""
        spec = claimant.spec
        if claimant.id in self.workloads or spec.tenant in self.tenants:
            return True
        return bool(self.queues) and any(queue in self.queues for queue in paths.get(spec.queue, (spec.queue,)))

    def notice_at(self, spec: WorkloadTerms, limits: Limits) -> datetime:
        """When such work has to be told at the latest that it must leave."""
        return self.opens_at - notice(spec, limits)

    def admits(self, claimant: Claimant, paths: Paths, now: datetime, limits: Limits, *, is_wanted: bool = False) -> bool:
        """Whether the workload may start there now: the window is over or for it, or it ends or can be told to leave before.

        What is told to leave has at least the shortest loan before; where it is lent until it is wanted, as long as that takes.
        """
        if self.closes_at <= now or self.is_for(claimant, paths):
            return True
        spec = claimant.spec
        left = self.notice_at(spec, limits) - now
        if spec.maximum_runtime_seconds is not None and timedelta(seconds=spec.maximum_runtime_seconds) <= left:
            return True
        lasts = left > timedelta() and timedelta(seconds=limits.shortest_loan_seconds) <= left
        return (spec.preemptible and lasts) or (self.lends_to(spec, limits) and not is_wanted)

    def lends_to(self, spec: WorkloadTerms, limits: Limits) -> bool:
        """Whether such work may stay until the node is wanted."""
        return self.lends and spec.preemptible and notice(spec, limits) <= timedelta(seconds=self.notice_seconds)

    def is_lent_to(self, claimant: Claimant, paths: Paths, now: datetime, limits: Limits) -> bool:
        """Whether such work is there only until the node is wanted, and may be told so now."""
        is_due = self.notice_at(claimant.spec, limits) <= now < self.closes_at
        return is_due and self.lends_to(claimant.spec, limits) and not self.is_for(claimant, paths)

    @property
    def in_words(self) -> str:
        """What it is, and when."""
        until = "" if self.closes_at == FOREVER else f" until {_minute(self.closes_at)}"
        return f"{self.name} from {_minute(self.opens_at)}{until}"


def notice(spec: WorkloadTerms, limits: Limits) -> timedelta:
    """How long before its capacity is needed work has to be told: its grace, and until it is observed gone."""
    return notice_of(spec.checkpoint.grace_seconds, limits)


def notice_of(grace_seconds: int, limits: Limits) -> timedelta:
    """The same by its grace."""
    return timedelta(seconds=grace_seconds + limits.departure_seconds)


def engagement_of(booking: Booking) -> Engagement:
    """What its nodes are kept for."""
    spec, evacuates = booking.spec, booking.spec.purpose is Purpose.MAINTENANCE
    name = f"{'maintenance' if evacuates else 'reservation'} {spec.id}"
    whom = spec.queues, spec.tenants, spec.workloads
    lent = spec.lent is Lending.UNTIL_WANTED, spec.notice_seconds
    return Engagement(booking.opens_at, booking.closes_at, name, evacuates, *whom, *lent)


def end_of(node: Node) -> Engagement | None:
    """The end of the node's block, after which its provider takes it back."""
    return None if node.available_until is None else Engagement(node.available_until, FOREVER, "the end of its block", True)


Engagements = Mapping[str, tuple[Engagement, ...]]
"""What nodes are kept for, by node id; those that are kept for nothing are left out."""


def engagements(bookings: Iterable[Booking], nodes: Iterable[Node]) -> Engagements:
    """What the nodes are kept for; the first to open comes first."""
    found: dict[str, list[Engagement]] = {}
    for node in nodes:
        if (end := end_of(node)) is not None:
            found.setdefault(node.id, []).append(end)
    for booking in bookings:
        engagement = engagement_of(booking)
        for node_id in booking.nodes:
            found.setdefault(node_id, []).append(engagement)
    return {node_id: tuple(sorted(its)) for node_id, its in found.items()}


def closed_to(
    claimant: Claimant,
    every: Iterable[Engagement],
    paths: Paths,
    now: datetime,
    limits: Limits,
    wanted: Set[Engagement] = frozenset(),
) -> frozenset[Engagement]:
    """Those of the engagements whose nodes the workload may not use now, where these are `wanted` by whom they are for."""
    return frozenset(each for each in every if not each.admits(claimant, paths, now, limits, is_wanted=each in wanted))


def _minute(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
