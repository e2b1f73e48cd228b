"""Endpoints that go on in another size in place: the attempt stays, and its follower says which replicas it is to have."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.answers import AttemptKey
from activities.ports import Observation, StopOrder
from activities.store import tables
from activities.store.bulk import among
from activities.store.facts import share_of
from activities.store.launching import launch_orders
from activities.store.leaving import NEVER_GIVEN, STAYS, give_notice, give_notice_to_all
from activities.store.remnants import leave_behind, remainder, saying
from activities.store.rows import AttemptRow, Journal, WorkloadRow, locked, locked_workloads, open_attempts, place_of
from corral.api import WHOLE, Outcome, State
from domain.pool.fleet import NodeShare
from domain.pool.lifecycle import RESHAPED, Leave
from domain.pool.parts import replicas_at
from domain.quota.accounting import IntervalKind


async def stop_order(connection: AsyncConnection, key: AttemptKey) -> StopOrder | None:
    """What an open attempt that may be at its provider is to know about leaving."""
    workloads, attempts = await locked_workloads(connection, [key.workload]), await open_attempts(connection, [key.workload])
    workload, attempt = workloads.get(key.workload), attempts.now.get(key.workload)
    if workload is None or attempt is None or attempt.epoch != key.epoch or attempt.bound_at is None:
        return None
    if attempt.leave is Leave.WAITING:
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
    now, then = await _shares(connection, attempt.id), await _shares(connection, follower.id, phase="promised")
    if not await _is_free(connection, now, then):
        return replace(order, why_anew="others have the room by now")
    orders = await launch_orders(connection, {workload.id: workload}, [follower])
    return replace(order, resized=orders[follower.id].of(attempt.id, attempt.epoch))


async def grow_if_free(connection: AsyncConnection, journal: Journal, workload: WorkloadRow) -> None:
    """Have a provider told to let an attempt grow that waits for room, if that is free by now."""
    attempt, follower = journal.open.now.get(workload.id), journal.open.then.get(workload.id)
    if attempt is None or follower is None or attempt.leave is not Leave.WAITING:
        return
    now, then = await _shares(connection, attempt.id), await _shares(connection, follower.id, phase="promised")
    if await _is_free(connection, now, then):
        give_notice(journal, attempt, Outcome.RESIZED)
        journal.change(journal.workloads.get(workload.id, workload), explanation=None)
        journal.note(workload.id, "ordered", f"those have left who had to: it is told to go on with {place_of(follower)}")
        journal.tell(workload.id)


def stay_small(journal: Journal, workload: WorkloadRow, attempt: AttemptRow, why: str) -> None:
    """Let an attempt that waits for room to grow be as it is."""
    journal.step(attempt, None)
    journal.attempt(attempt, **STAYS)
    journal.move(workload, State.RUNNING, f"keeps {place_of(attempt)}: {why}", explanation=None)
    journal.tell(workload.id)


async def start_anew(connection: AsyncConnection, journal: Journal, key: AttemptKey, notice: int, why: str) -> None:
    """Let an attempt that cannot get another size as it runs stop as a whole, and its workload go on in that size after it."""
    workload, attempt = await locked(connection, journal, key.workload)
    if workload is None or attempt is None or (attempt.epoch, attempt.notice) != (key.epoch, notice):
        return
    if workload.state is State.RESIZING:
        give_notice_to_all(journal, attempt)
        journal.move(workload, State.STOPPING, f"cannot change its size as it runs, and starts anew: {why}")
        journal.tell(workload.id)


async def _shares(connection: AsyncConnection, attempt: str, phase: str | None = None) -> list[NodeShare]:
    """What an attempt has or is promised; or that of one phase."""
    columns = tables.allocations.c
    query = select(tables.allocations).where(columns.attempt_id == attempt)
    query = query if phase is None else query.where(columns.phase == phase)
    return [share_of(row) for row in await connection.execute(query)]


async def _is_free(connection: AsyncConnection, now: Collection[NodeShare], then: Collection[NodeShare]) -> bool:
    """Whether there is room for what it was promised beside what it has; what is claimed for it is nobody else's."""
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
    await _is_resized(connection, journal, workload, attempt, "what it had and keeps ran on")
    return freed


async def go_on_without(connection: AsyncConnection, journal: Journal, workload: WorkloadRow, attempt: AttemptRow) -> None:
    """Let an attempt go on in its new size though replicas that it is to be without do not leave: those keep what they have."""
    workload, follower = journal.workloads.get(workload.id, workload), journal.open.then[workload.id]
    had, keeps = await _shares(connection, attempt.id), await _shares(connection, follower.id)
    left = remainder(workload, attempt, had, keeps)
    await take_up(connection, journal, workload, attempt, follower, journal.now)
    attempt = journal.attempts[attempt.id]
    await leave_behind(connection, journal, attempt, left)
    await _is_resized(connection, journal, workload, attempt, "what does not leave counts for it no more")


async def _is_resized(
    connection: AsyncConnection, journal: Journal, workload: WorkloadRow, attempt: AttemptRow, how: str
) -> None:
    # By a number of its own: whoever takes notices back, however late, does not take this one back. Nobody is given it.
    journal.attempt(attempt, **STAYS, notice=attempt.notice + 1, kept_at=NEVER_GIVEN)
    said = await saying(connection, attempt, journal.now)
    explanation = None if said is None else said.model_dump(mode="json")
    journal.move(workload, State.RUNNING, f"goes on with {place_of(attempt)}; {how}", explanation=explanation)
    journal.tell(workload.id)


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
