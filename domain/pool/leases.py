"""Leases: how long a cluster may run work without hearing from Corral, and what is believed of one that does not answer."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum


class Reach(StrEnum):
    """Whether a cluster answers. Only a reachable one is given work."""

    REACHABLE = "reachable"
    SUSPECT = "suspect"
    """It has not answered for a while: nothing new goes there, and what runs there runs on."""
    LOST = "lost"
    """Its last lease, the grace and the skew of its clock are over: what ran there has stopped by itself."""
    RETURNED = "returned"
    """It answers again, but what it ran before has not all been released there yet."""


REACH_STEPS: Mapping[Reach, frozenset[Reach]] = {
    Reach.REACHABLE: frozenset({Reach.SUSPECT}),
    Reach.SUSPECT: frozenset({Reach.REACHABLE, Reach.LOST}),
    Reach.LOST: frozenset({Reach.RETURNED}),
    Reach.RETURNED: frozenset({Reach.REACHABLE, Reach.LOST}),
}
"""Which may follow which."""

WITHOUT_LEASE = frozenset({Reach.LOST, Reach.RETURNED})
"""Clusters that are asked whether they answer, and given nothing."""


class BadTerms(ValueError):
    """Terms under which work could run twice, or nobody could keep a lease; says which, and what is expected."""


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """How long leases last, and how long a cluster may be silent. All by the pool's clock.

    `grace` is what a cluster may take to stop what it runs, once its lease is over; `skew` is how far its clock may be off from
    PostgreSQL's, by which workers go.

    Raises:
        BadTerms: a cluster would be lost before it was suspect, or a length is below zero.
    """

    length: timedelta
    grace: timedelta
    skew: timedelta
    suspect_after: timedelta

    def __post_init__(self) -> None:
        if min(self.grace, self.skew) < timedelta(0):
            raise BadTerms("grace and skew are lengths of time, 0 or more")
        if not timedelta(0) < self.suspect_after < self.length:
            raise BadTerms("a cluster is suspect some time after it answered last, and before its lease is over")

    @property
    def margin(self) -> timedelta:
        """How long after the end of a lease it is certain that nothing runs under it any more."""
        return self.grace + self.skew


@dataclass(frozen=True, slots=True)
class Lease:
    """What is known of a cluster. `heard_at` is when it was last asked something that it answered.

    `until` is the latest end of any lease that was ever sent there, whether or not it arrived, and `fenced_at` is from when on
    nothing runs there by it; both are earlier where a person has said that nothing runs there any more.
    """

    reach: Reach
    since: datetime
    heard_at: datetime | None = None
    until: datetime | None = None
    fenced_at: datetime | None = None


def granted(lease: Lease, now: datetime, terms: LeaseTerms) -> Lease:
    """The same with a lease from now on, where the cluster may have one; never with a shorter one than it has.

    One that is suspect keeps what it has: else it would never be certain that its work has stopped.
    """
    if lease.reach is not Reach.REACHABLE:
        return lease
    until = max(now + terms.length, lease.until or now)
    return replace(lease, until=until, fenced_at=max(until + terms.margin, lease.fenced_at or until))


def in_doubt(lease: Lease, now: datetime, terms: LeaseTerms) -> Lease:
    """The same where it may have had leases up to now that nobody knows of; where it answers, it is granted one anyway."""
    if lease.reach is not Reach.SUSPECT or lease.until is None:
        return lease
    until = max(now + terms.length, lease.until)
    return replace(lease, until=until, fenced_at=max(until + terms.margin, lease.fenced_at or until))


def judged(lease: Lease, now: datetime, terms: LeaseTerms, *, asked_at: datetime, answered: bool, clean: bool) -> Lease:
    """The same after it was asked at a time, and answered or not. `clean`: nothing that it ran before is left to release.

    An answer to what was asked too long ago is none: it may have been under way all the while.
    """
    if answered and now - asked_at <= terms.suspect_after:
        heard = replace(lease, heard_at=max(asked_at, lease.heard_at or asked_at))
        return _moved(heard, _after_an_answer(lease.reach, clean=clean), now)
    return _moved(lease, _after_silence(lease, now, terms), now)


def _after_an_answer(reach: Reach, *, clean: bool) -> Reach:
    if reach is Reach.LOST:
        return Reach.RETURNED
    return reach if reach is Reach.RETURNED and not clean else Reach.REACHABLE


def _after_silence(lease: Lease, now: datetime, terms: LeaseTerms) -> Reach:
    match lease.reach:
        case Reach.REACHABLE if now - (lease.heard_at or lease.since) > terms.suspect_after:
            return Reach.SUSPECT
        case Reach.SUSPECT if is_fenced(lease, now):
            return Reach.LOST
        case Reach.RETURNED:
            return Reach.LOST
        case reach:
            return reach


def is_fenced(lease: Lease, now: datetime) -> bool:
    """Whether nothing can run in a cluster by any lease that it ever had.

    One that has never answered may not know of leases at all: then nobody can say when its work stops.
    """
    return lease.heard_at is not None and lease.fenced_at is not None and lease.fenced_at <= now


def declared(lease: Lease, now: datetime) -> Lease:
    """The same of a suspect cluster of which a person says that nothing runs there any more: nobody has to wait for that."""
    return replace(lease, until=min(lease.until or now, now), fenced_at=min(lease.fenced_at or now, now))


def why_not_declared(cluster: str, lease: Lease) -> str | None:
    """Why a cluster cannot be said to be lost, in words, or none when it can, or is so already."""
    if lease.reach is Reach.REACHABLE:
        return f"cluster {cluster!r} answers; to move its work elsewhere, run `corral evacuate cluster {cluster}`"
    if lease.reach is Reach.SUSPECT and lease.heard_at is None:
        return f"cluster {cluster!r} has never answered: nobody knows whether it keeps leases; cancel what was to run there"
    return None


def _moved(lease: Lease, reach: Reach, now: datetime) -> Lease:
    if reach is lease.reach:
        return lease
    assert reach in REACH_STEPS[lease.reach], f"{lease.reach} may not be followed by {reach}"
    return replace(lease, reach=reach, since=now)
