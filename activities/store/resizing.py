"""Endpoints that go on in another size in place: the attempt stays, and its follower says which replicas it is to have."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.answers import AttemptKey
from activities.ports import LaunchSpec, Observation, StopOrder
from activities.store import tables
from activities.store.bulk import among
from activities.store.facts import share_of
from activities.store.launching import launch_orders
from activities.store.rows import AttemptRow, Journal, WorkloadRow, locked_workloads, open_attempts, place_of
from corral.model import WHOLE
from corral.status import State
from domain.accounting import IntervalKind
from domain.fleet import NodeShare, Replica
from domain.lifecycle import MAY_STAY, RESHAPED


async def stop_order(connection: AsyncConnection, key: AttemptKey) -> StopOrder | None:
    """What an open attempt that may be at its provider is to know about leaving."""
    workloads, attempts = await locked_workloads(connection, [key.workload]), await open_attempts(connection, [key.workload])
    workload, attempt = workloads.get(key.workload), attempts.now.get(key.workload)
    if workload is None or attempt is None or attempt.epoch != key.epoch or attempt.bound_at is None:
        return None
    wish = workload.parsed().checkpoint
    resized = await _resize_order(connection, workload, attempt, attempts.then.get(key.workload))
    return StopOrder(
        attempt.id, attempt.epoch, attempt.provider, attempt.notice, attempt.leave, wish.signal, wish.grace_seconds, resized
    )


async def _resize_order(
    connection: AsyncConnection, workload: WorkloadRow, attempt: AttemptRow, follower: AttemptRow | None
) -> LaunchSpec | None:
    """What the attempt is to go on with, where it can do so with the replicas that it has, or with some of them.

    Replicas of an endpoint do not need each other; other work starts anew in another size.
    """
    if follower is None or not is_resized(attempt) or workload.parsed().autoscale is None:
        return None
    now, then = await _shares(connection, attempt.id), await _shares(connection, follower.id)
    has, gets = _replicas(now), _replicas(then)
    if not (gets < has or (has < gets and await _is_free(connection, now, then))):
        return None
    orders = await launch_orders(connection, {workload.id: workload}, [follower])
    return orders[follower.id].of(attempt.id, attempt.epoch)


def is_resized(attempt: AttemptRow) -> bool:
    """Whether an attempt is to go on in another shape, and nothing has been done to it that cannot be undone."""
    return attempt.stop_as in RESHAPED and attempt.leave in MAY_STAY


async def _shares(connection: AsyncConnection, attempt: str) -> list[NodeShare]:
    return [
        share_of(row)
        for row in await connection.execute(select(tables.allocations).where(tables.allocations.c.attempt_id == attempt))
    ]


def _replicas(shares: Collection[NodeShare]) -> set[tuple[str, Replica]]:
    return {(share.node_id, replica) for share in shares for replica in share.replicas}


async def _is_free(connection: AsyncConnection, now: Collection[NodeShare], then: Collection[NodeShare]) -> bool:
    """Whether there is room already for what it gets beside what it has."""
    has = {share.node_id: share.room.devices for share in now}
    columns = tables.nodes.c
    found = await connection.execute(
        select(columns.id, columns.device_use).where(among(columns.id, [it.node_id for it in then]))
    )
    used = {row.id: row.device_use for row in found}
    return all(
        use - mine + gets <= WHOLE
        for share in then
        for use, mine, gets in zip(
            used[share.node_id], has.get(share.node_id, (0,) * len(share.room.devices)), share.room.devices, strict=True
        )
    )


async def go_on_resized(
    connection: AsyncConnection, journal: Journal, workload: WorkloadRow, attempt: AttemptRow, seen: Observation
) -> set[str]:
    """Believe that an attempt has the replicas that it was to go on with; answers with the nodes on which room became free.

    What was told of a notice that is taken back by now, or before a later one, changes nothing.
    """
    follower = journal.open.then.get(workload.id)
    if follower is None or seen.resized != attempt.notice or not is_resized(attempt):
        return set()
    freed = await take_up(connection, journal, workload, attempt, follower, seen.at)
    attempt = journal.attempts[attempt.id]
    # By a number of its own: whoever takes notices back, however late, does not take this one back.
    done = attempt.notice + 1
    journal.step(attempt, None, stop_at=None, stop_as=None, beneficiary=None, notice=done, kept_at=journal.now)
    journal.move(workload, State.RUNNING, f"goes on with {place_of(attempt)}; what it had and keeps ran on", explanation=None)
    journal.tell(workload.id)
    return freed


async def take_up(
    connection: AsyncConnection,
    journal: Journal,
    workload: WorkloadRow,
    attempt: AttemptRow,
    follower: AttemptRow,
    at: datetime,
) -> set[str]:
    """Give an attempt what its follower was to have, in the place of what it has; answers with the nodes that it had."""
    columns = tables.allocations.c
    mine = delete(tables.allocations).where(columns.attempt_id == attempt.id).returning(columns.node_id)
    had = set(await connection.scalars(mine))
    theirs = update(tables.allocations).where(columns.attempt_id == follower.id)
    await connection.execute(theirs.values(attempt_id=attempt.id, epoch=attempt.epoch, phase="claimed"))
    await connection.execute(delete(tables.holds).where(tables.holds.c.attempt_id == follower.id))
    await connection.execute(delete(tables.attempts).where(tables.attempts.c.id == follower.id))
    del journal.open.then[workload.id]
    attempt = journal.attempt(
        attempt,
        milli=follower.milli,
        replicas=follower.replicas,
        by_sku=follower.by_sku,
        cost_by_sku=follower.cost_by_sku,
    )
    journal.account(workload, IntervalKind.RUNNING, at=at, attempt=attempt)
    return had


async def is_growing(connection: AsyncConnection, workload: WorkloadRow, attempt: AttemptRow, follower: AttemptRow) -> bool:
    """Whether replicas of the follower may run already as parts of the attempt."""
    return workload.parsed().autoscale is not None and _replicas(await _shares(connection, attempt.id)) < _replicas(
        await _shares(connection, follower.id)
    )
