"""Endpoints that go on in another size in place: the attempt stays, and its follower says which replicas it is to have."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.answers import AttemptKey
from activities.ports import Observation, StopOrder
from activities.store import tables
from activities.store.bulk import among
from activities.store.facts import share_of
from activities.store.launching import launch_orders
from activities.store.leaving import give_notice_to_all
from activities.store.rows import AttemptRow, Journal, WorkloadRow, locked, locked_workloads, open_attempts, place_of
from corral.api import WHOLE, State
from domain.accounting import IntervalKind
from domain.fleet import NodeShare
from domain.lifecycle import RESHAPED
from domain.parts import replicas_at


async def stop_order(connection: AsyncConnection, key: AttemptKey) -> StopOrder | None:
    """What an open attempt that may be at its provider is to know about leaving."""
    workloads, attempts = await locked_workloads(connection, [key.workload]), await open_attempts(connection, [key.workload])
    workload, attempt = workloads.get(key.workload), attempts.now.get(key.workload)
    if workload is None or attempt is None or attempt.epoch != key.epoch or attempt.bound_at is None:
        return None
    wish = workload.parsed().checkpoint
    order = StopOrder(
        attempt.id, attempt.epoch, attempt.provider, attempt.notice, attempt.leave, wish.signal, wish.grace_seconds
    )
    if workload.state is not State.RESIZING:
        return order
    return await _with_replicas(connection, order, workload, attempt, attempts.then[key.workload])


async def _with_replicas(
    connection: AsyncConnection, order: StopOrder, workload: WorkloadRow, attempt: AttemptRow, follower: AttemptRow
) -> StopOrder:
    """The order with the replicas that the attempt is to go on with, as long as nobody has their room."""
    now, then = await _shares(connection, attempt.id), await _shares(connection, follower.id)
    if not await _is_free(connection, now, then):
        return replace(order, why_anew="others have the room by now")
    orders = await launch_orders(connection, {workload.id: workload}, [follower])
    return replace(order, resized=orders[follower.id].of(attempt.id, attempt.epoch))


async def start_anew(connection: AsyncConnection, journal: Journal, key: AttemptKey, notice: int, why: str) -> None:
    """Let an attempt that cannot get another size as it runs stop as a whole, and its workload go on in that size after it."""
    workload, attempt = await locked(connection, journal, key.workload)
    if workload is None or attempt is None or (attempt.epoch, attempt.notice) != (key.epoch, notice):
        return
    if workload.state is State.RESIZING:
        give_notice_to_all(journal, attempt)
        journal.move(workload, State.STOPPING, f"cannot change its size as it runs, and starts anew: {why}")
        journal.tell(workload.id)


async def _shares(connection: AsyncConnection, attempt: str) -> list[NodeShare]:
    return [
        share_of(row)
        for row in await connection.execute(select(tables.allocations).where(tables.allocations.c.attempt_id == attempt))
    ]


async def _is_free(connection: AsyncConnection, now: Collection[NodeShare], then: Collection[NodeShare]) -> bool:
    """Whether there is room for what it gets beside what it has."""
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
    if follower is None or seen.resized != attempt.notice or attempt.stop_as not in RESHAPED:
        return set()
    freed = await take_up(connection, journal, workload, attempt, follower, seen.at)
    attempt = journal.attempts[attempt.id]
    # By a number of its own: whoever takes notices back, however late, does not take this one back.
    done = attempt.notice + 1
    is_done: dict[str, Any] = {"leave": None, "leave_at": None, "stop_at": None, "stop_as": None, "beneficiary": None}
    journal.attempt(attempt, **is_done, notice=done, kept_at=journal.now)
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


async def is_growing(connection: AsyncConnection, attempt: AttemptRow, follower: AttemptRow) -> bool:
    """Whether replicas of the follower may run already as parts of the attempt."""
    return replicas_at(await _shares(connection, attempt.id)) < replicas_at(await _shares(connection, follower.id))
