"""Remnants: what those replicas still have that an endpoint was to be without, and that have not left all the same."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import and_, any_, bindparam, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.ports import Observation, StopOrder
from activities.store import tables
from activities.store.bulk import among, insert_rows
from activities.store.launching import launch_orders
from activities.store.rows import AttemptRow, Journal, WorkloadRow, locked_workloads, open_attempts
from corral.api import Explanation, Reason
from domain.pool.fleet import NodeShare, Placement
from domain.pool.lifecycle import Leave
from domain.pool.parts import ReplicaKey, keys_of, less

_REMNANTS = tables.remnants.c


def remainder(workload: WorkloadRow, attempt: AttemptRow, had: Sequence[NodeShare], keeps: Sequence[NodeShare]) -> Placement:
    """What an attempt had besides what it keeps."""
    placement = Placement(attempt.provider, attempt.region, attempt.sku, tuple(had))
    left = less(placement, workload.parsed(), keys_of(Placement(attempt.provider, attempt.region, attempt.sku, tuple(keeps))))
    assert left is not None, "somebody was to leave"
    return left


async def leave_behind(connection: AsyncConnection, journal: Journal, attempt: AttemptRow, part: Placement) -> None:
    """Let replicas that do not leave by the attempt's last notice have what they have, until they are seen gone."""
    rows = [
        {
            "attempt_id": attempt.id,
            "notice": attempt.notice,
            "node_id": share.node_id,
            "uses": list(share.room.devices),
            "cpu_milli": share.room.cpu_milli,
            "memory_mib": share.room.memory_mib,
            "replicas": [[replica.group, replica.index, list(replica.devices)] for replica in share.replicas],
            "since": journal.now,
        }
        for share in part.shares
    ]
    await insert_rows(connection, tables.remnants, rows)


async def see_gone(connection: AsyncConnection, seen: Observation) -> set[str]:
    """Believe which replicas of an attempt have left after all; answers with the nodes on which room became free by that."""
    of_those_told = and_(_REMNANTS.notice <= seen.resized, _REMNANTS.notice.not_in(seen.remains))
    gone = delete(tables.remnants).where(_REMNANTS.attempt_id == seen.attempt_id, of_those_told).returning(_REMNANTS.node_id)
    return set(await connection.scalars(gone))


async def give_back(connection: AsyncConnection, attempts: Collection[str]) -> set[str]:
    """Free what is left of attempts that have ended; answers with the nodes."""
    gone = delete(tables.remnants).where(among(_REMNANTS.attempt_id, attempts)).returning(_REMNANTS.node_id)
    return set(await connection.scalars(gone))


async def saying(connection: AsyncConnection, attempt: AttemptRow, now: datetime) -> Explanation | None:
    """What people are told of an attempt some of whose replicas do not leave; nothing where there are none."""
    query = select(func.sum(func.jsonb_array_length(_REMNANTS.replicas)), func.array_agg(_REMNANTS.node_id.distinct()))
    number, nodes = (await connection.execute(query.where(_REMNANTS.attempt_id == attempt.id))).one()
    if number is None:
        return None
    message = (
        f"{number} replicas that it is not to have any more were stopped by force and are still there; what they have on "
        f"{', '.join(nodes)} is nobody's before they are observed gone, and nothing new goes there: see to it there. "
        "It runs on without them"
    )
    return Explanation(reason=Reason.DOES_NOT_STOP, message=message, as_of=now)


_OF_ATTEMPTS = select(_REMNANTS.attempt_id, _REMNANTS.replicas).where(
    _REMNANTS.attempt_id == any_(bindparam("attempts", type_=tables.Names))
)


async def read_remnants(connection: AsyncConnection, attempts: Sequence[str]) -> Mapping[str, frozenset[ReplicaKey]]:
    """Which replicas of attempts do not leave, by attempt id; of whom all have left there is none."""
    found: dict[str, set[ReplicaKey]] = {}
    for row in await connection.execute(_OF_ATTEMPTS, {"attempts": list(attempts)}) if attempts else ():
        found.setdefault(row.attempt_id, set()).update((group, index) for group, index, _ in row.replicas)
    return {attempt: frozenset(keys) for attempt, keys in found.items()}


async def by_node(connection: AsyncConnection, attempts: Sequence[str]) -> dict[str, dict[str, int]]:
    """How many replicas of attempts do not leave which nodes, by attempt id."""
    number = func.sum(func.jsonb_array_length(_REMNANTS.replicas)).label("replicas")
    query = select(_REMNANTS.attempt_id, _REMNANTS.node_id, number).where(among(_REMNANTS.attempt_id, attempts))
    found: dict[str, dict[str, int]] = {}
    grouped = query.group_by(_REMNANTS.attempt_id, _REMNANTS.node_id).order_by(_REMNANTS.node_id)
    for row in await connection.execute(grouped):
        found.setdefault(row.attempt_id, {})[row.node_id] = row.replicas
    return found


async def orders_due(connection: AsyncConnection, provider: str, before: datetime) -> list[StopOrder]:
    """What a provider is to be told again: to stop replicas by force that have not left since then."""
    attempts = tables.attempts.c
    query = (
        select(attempts.workload_id, func.max(_REMNANTS.notice).label("notice"))
        .join(tables.remnants, _REMNANTS.attempt_id == attempts.id)
        .where(attempts.provider == provider, attempts.ended_at.is_(None), attempts.leave.is_(None), _REMNANTS.since < before)
        .group_by(attempts.workload_id)
    )
    notices = {row.workload_id: row.notice for row in await connection.execute(query)}
    workloads, opened = await locked_workloads(connection, sorted(notices)), await open_attempts(connection, list(notices))
    orders = await launch_orders(connection, workloads, list(opened.now.values()))
    return [
        StopOrder(
            attempt.id,
            attempt.epoch,
            attempt.provider,
            notices[id],
            Leave.STUCK,
            orders[attempt.id].signal,
            orders[attempt.id].grace_seconds,
            resized=orders[attempt.id],
        )
        for id, attempt in opened.now.items()
    ]
