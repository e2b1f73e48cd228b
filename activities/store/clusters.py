"""Clusters in the record: their leases, whether they answer, and what becomes of their work when they do not."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, func, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.answers import Unreleased
from activities.ports import NotAllowed, NotFound, Observation, Phase
from activities.store import tables
from activities.store.attempts import drop_followers, give_up_growth, keep_promises, settle, withdraw
from activities.store.bulk import among
from activities.store.rows import AttemptRow, Journal, locked
from corral.api import ClusterNote, ClusterStatus, Explanation, LostCluster, Outcome, Reason, State
from domain.pool.leases import WITHOUT_LEASE, Lease, LeaseTerms, Reach, declared, granted, in_doubt, judged, why_not_declared
from domain.pool.lifecycle import SUSPECT

MOST_NOTES = 20
LAST_SEQUENCE = 2**62

_NODES, _CLUSTERS, _ATTEMPTS, _ROOMS = tables.nodes.c, tables.clusters.c, tables.attempts.c, tables.rooms.c
_LEFT = tables.unreleased.c


# Leases


async def grant(connection: AsyncConnection, provider: str, now: datetime, terms: LeaseTerms) -> Mapping[str, datetime | None]:
    """Write down the leases that a provider's clusters are about to be sent, by `region/cluster`; none where there is none.

    What is written is never less than what may arrive: so much is known of a cluster that never answers again.
    """
    leases: dict[str, datetime | None] = {}
    for row in await _locked(connection, provider):
        lease = granted(_lease_of(row), now, terms)
        await _write(connection, row, lease)
        leases[f"{row.region}/{row.name}"] = None if lease.reach in WITHOUT_LEASE else lease.until
    return leases


async def doubt(connection: AsyncConnection, now: datetime, terms: LeaseTerms) -> None:
    """Take it that every cluster may have been sent leases up to now that are not written down."""
    for provider in await connection.scalars(select(tables.providers.c.name).order_by(tables.providers.c.name)):
        for row in await _locked(connection, provider):
            await _write(connection, row, in_doubt(_lease_of(row), now, terms))


async def know_new_ones(connection: AsyncConnection, provider: str, now: datetime) -> None:
    """Write down the clusters of a provider's nodes that are not known yet; nodes that come to one are what it is.

    Whoever judges them meanwhile does not see nodes that are not committed yet: one waits for the other.
    """
    await _locked(connection, provider)
    id = func.concat_ws("/", _NODES.provider, _NODES.region, _NODES.cluster)
    known = select(_CLUSTERS.id).where(_CLUSTERS.provider == provider)
    found = select(id, _NODES.provider, _NODES.region, _NODES.cluster, literal(now, tables.Instant)).distinct()
    columns = ["id", "provider", "region", "name", "since"]
    new = found.where(_NODES.provider == provider, id.not_in(known))
    await connection.execute(insert(tables.clusters).from_select(columns, new))
    reach = func.nullif(_CLUSTERS.reach, Reach.REACHABLE)
    among = and_(_CLUSTERS.provider == provider, _CLUSTERS.id == id, _NODES.reach.is_distinct_from(reach))
    await connection.execute(update(tables.nodes).where(among).values(reach=reach))


async def judge(
    connection: AsyncConnection,
    journal: Journal,
    provider: str,
    terms: LeaseTerms,
    *,
    asked_at: datetime,
    answered: Collection[str],
) -> bool:
    """Believe which of a provider's clusters have answered, by `region/cluster`; answers whether that changed anything."""
    unclean = set(await connection.scalars(select(_LEFT.cluster_id).distinct()))
    has_changed = False
    for row in await _locked(connection, provider):
        before, heard = _lease_of(row), f"{row.region}/{row.name}" in answered
        after = judged(before, journal.now, terms, asked_at=asked_at, answered=heard, clean=row.id not in unclean)
        if after.reach is not before.reach:
            has_changed = True
            await _turn(connection, journal, row, after)
        else:
            await _write(connection, row, after)
    return has_changed


async def _locked(connection: AsyncConnection, provider: str) -> list[Row[Any]]:
    query = select(tables.clusters).where(_CLUSTERS.provider == provider).order_by(_CLUSTERS.id).with_for_update()
    return list(await connection.execute(query))


def _lease_of(row: Row[Any]) -> Lease:
    return Lease(Reach(row.reach), row.since, row.heard_at, row.until, row.fenced_at)


async def _write(connection: AsyncConnection, row: Row[Any], lease: Lease, **more: object) -> None:
    if lease == _lease_of(row) and not more:
        return
    values = {"heard_at": lease.heard_at, "until": lease.until, "fenced_at": lease.fenced_at}
    await connection.execute(
        update(tables.clusters).where(_CLUSTERS.id == row.id).values(reach=lease.reach, since=lease.since, **values, **more)
    )


async def declare_lost(connection: AsyncConnection, journal: Journal, order: LostCluster) -> None:
    """Believe a person that nothing runs in a suspect cluster; it is lost when it is judged next, unless it answers.

    Raises:
        NotFound: there is no such cluster.
        NotAllowed: it answers, or has never answered.
    """
    query = select(tables.clusters).where(_CLUSTERS.id == order.cluster).with_for_update()
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound(f"there is no cluster {order.cluster!r}; `corral clusters` lists them")
    lease = _lease_of(row)
    if problem := why_not_declared(row.id, lease):
        raise NotAllowed(f"declare-lost: {problem}")
    if lease.reach is Reach.SUSPECT:
        why = f"{order.who} says that nothing runs there any more: {order.reason}; its work is started elsewhere"
        note = ClusterNote(at=journal.now, state=lease.reach, reason=why).model_dump(mode="json")
        await _write(connection, row, declared(lease, journal.now), reason=why, trail=[*row.trail, note][-MOST_NOTES:])


# What follows


async def _turn(connection: AsyncConnection, journal: Journal, row: Row[Any], lease: Lease) -> None:
    """Let a cluster be reachable, suspect, lost or returned, with all that follows from it."""
    why = _why(lease)
    note = ClusterNote(at=journal.now, state=lease.reach, reason=why).model_dump(mode="json")
    losses = row.losses + (lease.reach is Reach.LOST and row.reach == Reach.SUSPECT)
    await _write(connection, row, lease, reason=why, losses=losses, trail=[*row.trail, note][-MOST_NOTES:])
    reach = None if lease.reach is Reach.REACHABLE else lease.reach
    await connection.execute(update(tables.nodes).where(_is_inside(row)).values(reach=reach))
    match lease.reach:
        case Reach.SUSPECT:
            await _give_back_what_is_held(connection, journal, row)
            await _tell_those_there(connection, journal, row, f"{row.id} does not answer: {why}")
        case Reach.LOST:
            await _give_back_what_is_held(connection, journal, row)
            await _lose_all(connection, journal, row)
        case Reach.REACHABLE:
            await _tell_those_there(connection, journal, row, None)


def _why(lease: Lease) -> str:
    heard = "it has never answered" if lease.heard_at is None else f"it has not answered since {_clock(lease.heard_at)}"
    match lease.reach:
        case Reach.SUSPECT if lease.heard_at is None or lease.fenced_at is None:
            return f"{heard}; nobody knows when what runs there stops"
        case Reach.SUSPECT:
            return f"{heard}; from {_clock(lease.fenced_at)} on its work is started elsewhere, unless it answers before"
        case Reach.LOST:
            return f"{heard}; nothing runs there since {_clock(lease.fenced_at)}, and its work is started elsewhere"
        case Reach.RETURNED:
            return "it answers again; what it ran before is released there before it is given anything new"
        case _:
            return "it answers again"


def _clock(at: datetime | None) -> str:
    assert at is not None, "it was given a lease"
    return at.isoformat(timespec="seconds")


def _is_inside(row: Row[Any]) -> ColumnElement[bool]:
    return and_(_NODES.provider == row.provider, _NODES.region == row.region, _NODES.cluster == row.name)


async def _give_back_what_is_held(connection: AsyncConnection, journal: Journal, row: Row[Any]) -> None:
    """Let work that was about to start there, or to go on there, have its place elsewhere.

    What changes its size as it runs does so when the cluster answers again, or is lost with it; what waits for room there in
    order to grow stays as it is.
    """
    why = f"its cluster {row.id} does not answer"
    held = await _open_there(connection, row, is_bound=False)
    for each in (each for each in held if each.follows is None):
        await withdraw(connection, journal, each.workload_id, Outcome.EXPIRED, why)
    following: list[str] = []
    for each in (each for each in held if each.follows is not None):
        workload, _ = await locked(connection, journal, each.workload_id)
        if workload is not None and workload.state is State.RESIZING:
            await give_up_growth(connection, journal, workload.id, why)
        else:
            following.append(each.workload_id)
    await keep_promises(connection, journal, await drop_followers(connection, journal, following), ())


async def _tell_those_there(connection: AsyncConnection, journal: Journal, row: Row[Any], what: str | None) -> None:
    """Let those who run there say so when they are asked; their workflows need not know before it is over."""
    for each in await _open_there(connection, row, is_bound=True):
        workload, attempt = await locked(connection, journal, each.workload_id)
        if workload is None or attempt is None or attempt.leave in SUSPECT:
            continue
        said = Explanation(reason=Reason.CLUSTER_DOES_NOT_ANSWER, message=what, as_of=journal.now) if what else None
        journal.change(workload, explanation=said.model_dump(mode="json") if said else None)
        journal.note(workload.id, "cluster", what or f"{row.id} answers again")


async def _lose_all(connection: AsyncConnection, journal: Journal, row: Row[Any]) -> None:
    """End every attempt with a part in a cluster, as a whole; all of it is to be released there before anything new comes.

    The same goes for its other clusters: they may be lost by now, or be so soon, when the attempt is not open any more.
    """
    why = f"cluster {row.id} is lost"
    gone = await _open_there(connection, row, is_bound=True)
    seen = [Observation(each.id, each.epoch, Phase.LOST, LAST_SEQUENCE, journal.now, reason=why) for each in gone]
    await _is_to_be_released(connection, [each.id for each in gone])
    await settle(connection, journal, seen, frozenset())


async def _is_to_be_released(connection: AsyncConnection, attempts: Collection[str]) -> None:
    """Note attempts as unreleased in all clusters in which they have room."""
    inside = and_(_CLUSTERS.provider == _NODES.provider, _CLUSTERS.region == _NODES.region, _CLUSTERS.name == _NODES.cluster)
    found = (
        select(_ROOMS.attempt_id, _CLUSTERS.id)
        .distinct()
        .select_from(tables.rooms)
        .join(tables.nodes, _NODES.id == _ROOMS.node_id)
        .join(tables.clusters, inside)
        .where(among(_ROOMS.attempt_id, attempts))
    )
    await connection.execute(insert(tables.unreleased).from_select(["attempt_id", "cluster_id"], found))


async def _open_there(connection: AsyncConnection, row: Row[Any], *, is_bound: bool) -> list[AttemptRow]:
    """The open attempts that have room in a cluster, or are promised some."""
    rooms = select(_ROOMS.attempt_id).join(tables.nodes, _NODES.id == _ROOMS.node_id).where(_is_inside(row))
    query = (
        select(tables.attempts)
        .where(_ATTEMPTS.ended_at.is_(None), _ATTEMPTS.bound_at.is_not(None) == is_bound, _ATTEMPTS.id.in_(rooms))
        .order_by(_ATTEMPTS.workload_id)
    )
    return [AttemptRow.of(each) for each in await connection.execute(query)]


# Returned ones


async def unreleased(connection: AsyncConnection, provider: str) -> list[Unreleased]:
    """What was lost with a cluster of a provider, and has not been released since in those in which it ran."""
    query = (
        select(_ATTEMPTS.id, _ATTEMPTS.epoch, _CLUSTERS.region, _CLUSTERS.name)
        .join(tables.unreleased, _LEFT.attempt_id == _ATTEMPTS.id)
        .join(tables.clusters, _CLUSTERS.id == _LEFT.cluster_id)
        .where(_CLUSTERS.provider == provider)
        .order_by(_ATTEMPTS.id)
    )
    return [Unreleased(row.id, row.epoch, f"{row.region}/{row.name}") for row in await connection.execute(query)]


async def note_released(connection: AsyncConnection, provider: str, each: Unreleased) -> None:
    """Note that an attempt has been seen gone in a cluster, and can never start there any more."""
    of_it = and_(_LEFT.attempt_id == each.attempt, _LEFT.cluster_id == f"{provider}/{each.cluster}")
    await connection.execute(delete(tables.unreleased).where(of_it))


# Views


async def statuses(connection: AsyncConnection) -> list[ClusterStatus]:
    """All clusters that have ever been asked."""
    has = (
        select(
            func.concat_ws("/", _NODES.provider, _NODES.region, _NODES.cluster).label("id"),
            func.count(_NODES.id).label("nodes"),
            func.coalesce(func.sum(_NODES.accelerators), 0).label("accelerators"),
        )
        .group_by(_NODES.provider, _NODES.region, _NODES.cluster)
        .subquery()
    )
    runs = (
        select(
            func.concat_ws("/", _NODES.provider, _NODES.region, _NODES.cluster).label("id"),
            func.count(_ATTEMPTS.id.distinct()).label("workloads"),
        )
        .join(tables.rooms, _ROOMS.node_id == _NODES.id)
        .join(tables.attempts, _ATTEMPTS.id == _ROOMS.attempt_id)
        .where(_ATTEMPTS.ended_at.is_(None), _ATTEMPTS.follows.is_(None))
        .group_by(_NODES.provider, _NODES.region, _NODES.cluster)
        .subquery()
    )
    left = select(_LEFT.cluster_id.label("id"), func.count().label("unreleased")).group_by(_LEFT.cluster_id).subquery()
    query = (
        select(tables.clusters, has.c.nodes, has.c.accelerators, runs.c.workloads, left.c.unreleased)
        .outerjoin(has, has.c.id == _CLUSTERS.id)
        .outerjoin(runs, runs.c.id == _CLUSTERS.id)
        .outerjoin(left, left.c.id == _CLUSTERS.id)
        .order_by(_CLUSTERS.id)
    )
    return [_status(row) for row in await connection.execute(query)]


async def in_words(connection: AsyncConnection, provider: str) -> str:
    """How many of a provider's clusters are what."""
    query = select(_CLUSTERS.reach, func.count().label("n")).where(_CLUSTERS.provider == provider).group_by(_CLUSTERS.reach)
    numbers = {row.reach: row.n for row in await connection.execute(query)}
    return "clusters: " + (", ".join(f"{numbers[reach]} {reach}" for reach in Reach if reach in numbers) or "none")


def _status(row: Row[Any]) -> ClusterStatus:
    lease = _lease_of(row)
    return ClusterStatus(
        id=row.id,
        provider=row.provider,
        region=row.region,
        cluster=row.name,
        state=lease.reach,
        since=lease.since,
        reason=row.reason if lease.reach is not Reach.REACHABLE else "",
        heard_at=lease.heard_at,
        leased_until=lease.until,
        lost_at=lease.fenced_at if lease.reach is Reach.SUSPECT and lease.heard_at is not None else None,
        nodes=row.nodes or 0,
        accelerators=row.accelerators or 0,
        workloads=row.workloads or 0,
        unreleased=row.unreleased or 0,
        losses=row.losses,
        trail=row.trail,
    )
