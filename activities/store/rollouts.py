"""Roll-outs in the record: what was ordered, what it was to do, what was in force before, and how it goes."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Row, cast, delete, func, select
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.ports import NotAllowed
from activities.store import fleet, orders, policies, queues, tables
from activities.store.snapshots import read_queues
from activities.store.watched import Progress, added, keep, layers_of, order_of, owned, progress_of, reign_of, reigns, watched
from corral.api import OperationChange, OperationKind, OperationNote, QueueSpec, QueueTree, Reason, State
from corral.policy import Policy, PolicyOrder
from corral.rollout import (
    Change,
    Readings,
    RolloutOrder,
    RolloutState,
    RolloutStatus,
    Surroundings,
    WhatIf,
)
from corral.wire import Steering
from domain.lint.rules import refusals
from domain.operations import fields
from domain.operations.approval import why_not_approved
from domain.operations.fields import Edits, Fields
from domain.operations.layers import laid, settled, without
from domain.operations.rollout import named, what_changed, what_if
from domain.operations.watching import Blame, breach, excused, objection, readings
from domain.quota.tree import QuotaError
from domain.snapshot import Snapshot

TOKENS_LAST = timedelta(days=1)

KINDS = (OperationKind.POLICY, OperationKind.QUEUES)


@dataclass(frozen=True, slots=True)
class World:
    """What a step of a roll-out looks at, and writes to, in one transaction."""

    connection: AsyncConnection
    pool: str
    snapshot: Snapshot
    now: datetime

    def note(self, state: RolloutState, reason: str, who: str = "") -> OperationNote:
        """A line of a trail."""
        return OperationNote(at=self.now, state=state, who=who, reason=reason[:1_000])


async def remember(connection: AsyncConnection, change: Change, found: WhatIf, now: datetime) -> None:
    """Keep what the token of a what-if stands for, for a day."""
    await connection.execute(delete(tables.what_ifs).where(tables.what_ifs.c.at < now - TOKENS_LAST))
    values = {"at": now, "surroundings": found.surroundings.model_dump(mode="json"), "hurt": list(found.hurt)}
    written = insert(tables.what_ifs).values(token=found.token, change=change.digest, **values)
    await connection.execute(written.on_conflict_do_update(index_elements=["token"], set_={"at": now}))


async def begin(world: World, order: RolloutOrder) -> Row[Any]:
    """Write a roll-out down, and apply it if the pool is as its token has it and nobody has to approve it; once.

    Raises:
        NotAllowed: the id belongs to another operation, or the token to another change.
    """
    if (row := await orders.find(world.connection, order)) is not None:
        return row
    try:
        found = await asyncio.to_thread(what_if, order.change, world.snapshot, world.now)
    except QuotaError as error:
        return await _ends_at_once(world, order, RolloutState.REFUSED, str(error))
    if against := [str(finding) for finding in found.findings if finding.refuses]:
        return await _ends_at_once(world, order, RolloutState.REFUSED, "\n".join(against))
    if different := await _different(world, order, found):
        return await _ends_at_once(world, order, RolloutState.STALE, _stale(different))
    progress = Progress(needs=found.needs, surroundings=found.surroundings, hurt=found.hurt, foreseen=found.counts)
    expires_at = world.now + timedelta(seconds=world.snapshot.policy.approvals.expires_seconds)
    state = RolloutState.AWAITING if found.needs else RolloutState.WATCHING
    note = world.note(state, order.reason, order.who)
    row = await orders.write(
        world.connection, order, order.change.kind, order.change.subject, note, due_at=expires_at, progress=progress
    )
    return row if found.needs else await _apply(world, row)


async def _different(world: World, order: RolloutOrder, found: WhatIf) -> Sequence[str]:
    if order.token is None:
        return ()
    columns = tables.what_ifs.c
    query = select(tables.what_ifs).where(columns.token == order.token, columns.at >= world.now - TOKENS_LAST)
    known = (await world.connection.execute(query)).one_or_none()
    if known is None:
        return ("no what-if of the last day has given this token",)
    if known.change != order.change.digest:
        raise NotAllowed(f"token: {order.token} was given for another change; ask what this one would do")
    return what_changed(Surroundings.model_validate(known.surroundings), known.hurt, found)


def _stale(different: Sequence[str]) -> str:
    return f"the pool is not any more as the what-if had it: {'; '.join(different)}; nothing was changed: ask for a new what-if"


async def call_off(world: World, order: RolloutOrder, change: OperationChange) -> None:
    """Write one that has not begun down as aborted, so that it never does: nothing is applied.

    Raises:
        NotAllowed: the id belongs to another operation.
    """
    if await orders.find(world.connection, order) is None:
        await _ends_at_once(world, order, RolloutState.ABORTED, change.reason, change.who)


async def _ends_at_once(world: World, order: RolloutOrder, state: RolloutState, why: str, who: str = "") -> Row[Any]:
    unseen = Surroundings(policy="", queues={}, supply={})
    progress, note = Progress(surroundings=unseen, why_not="; ".join(why.splitlines())), world.note(state, why, who)
    change = order.change
    return await orders.write(
        world.connection, order, change.kind, change.subject, note, due_at=None, progress=progress, is_over=True
    )


async def advance(world: World, id: str) -> Row[Any]:
    """Do what is due: end one that nobody has approved in time; look how one goes that is in force."""
    row = await orders.locked(world.connection, id, *KINDS)
    if row.state == RolloutState.AWAITING and world.now >= row.due_at:
        return await _ends(world, row, RolloutState.EXPIRED, "nobody has approved it in time")
    return await _watch(world, row) if row.state == RolloutState.WATCHING else row


async def steer(world: World, id: str, verb: Steering, change: OperationChange, key: str) -> Row[Any]:
    """Approve, reject or abort a roll-out, once a key; to ask for what is so already changes nothing.

    Raises:
        NotFound: there is no such roll-out.
        NotAllowed: it is over, or does not await approval, or not this person's.
    """
    row = await orders.locked(world.connection, id, *KINDS)
    return await orders.once(world.connection, row, verb, key, lambda: _steered(world, row, verb, change, key))


async def _steered(world: World, row: Row[Any], verb: Steering, change: OperationChange, key: str) -> Row[Any]:
    order, state = order_of(row), RolloutState(row.state)
    if state is _STEERED.get(verb):
        return row
    problem = objection(verb, order.id, state)
    if verb is Steering.APPROVE:
        approvals = world.snapshot.policy.approvals
        who, ordered_by = await orders.people(world.connection, order, change, key)
        problem = problem or why_not_approved(who, ordered_by, row.due_at, approvals, world.now)
    if problem:
        raise NotAllowed(problem)
    match verb:
        case Steering.APPROVE:
            return await _approved(world, row, order, change)
        case Steering.REJECT:
            return await _ends(world, row, RolloutState.REJECTED, change.reason, change.who)
        case _ if state is RolloutState.AWAITING:
            return await _ends(world, row, RolloutState.ABORTED, change.reason, change.who)
        case _:
            return await _go_back(world, row, RolloutState.ABORTED, change.reason, change.who)


_STEERED = {
    Steering.ABORT: RolloutState.ABORTED,
    Steering.APPROVE: RolloutState.WATCHING,
    Steering.REJECT: RolloutState.REJECTED,
}


async def _approved(world: World, row: Row[Any], order: RolloutOrder, change: OperationChange) -> Row[Any]:
    progress = progress_of(row)
    try:
        found = await asyncio.to_thread(what_if, order.change, world.snapshot, world.now)
    except QuotaError as error:
        return await _ends(world, row, RolloutState.STALE, _stale([str(error)]))
    different = what_changed(progress.surroundings, progress.hurt, found)
    different += [str(finding) for finding in found.findings if finding.refuses]
    if different:
        return await _ends(world, row, RolloutState.STALE, _stale(different))
    note = world.note(RolloutState.WATCHING, change.reason, change.who)
    return await _apply(world, await orders.changed(world.connection, row, orders.becomes(row, note)))


async def _apply(world: World, row: Row[Any]) -> Row[Any]:
    """Put the change of one that is to be watched from now on in force, over what others have that are watched."""
    order = order_of(row)
    before = _in_force(order.change, world.snapshot.policy, world.snapshot.queues)
    await _put(world, order.change, order.who, f"roll-out {order.id}: {order.reason}")
    policy = order.change.policy or world.snapshot.policy
    after = _in_force(order.change, policy, await read_queues(world.connection))
    *_, layer = laid((), order.id, before, after, stays=added(before, after))
    place = 1 + max((reign.place for reign in await reigns(world.connection, world.pool, world.now)), default=0)
    found = {"applied_at": world.now, "owns": owned(layer), "pool": world.pool, "place": place}
    row = await _progresses(world, row, progress_of(row).model_copy(update=found))
    at_first = await _readings(world, row)
    row = await _progresses(world, row, progress_of(row).model_copy(update={"at_first": at_first, "readings": at_first}))
    row = await orders.changed(world.connection, row, {"due_at": world.now + timedelta(seconds=order.watch_seconds)})
    return row if order.watch_seconds else await _stays(world, row, RolloutState.DONE, "it was not to be watched")


async def _progresses(world: World, row: Row[Any], progress: Progress) -> Row[Any]:
    return await orders.changed(world.connection, row, {"progress": progress.kept})


def _in_force(change: Change, policy: Policy, queues: Iterable[QueueSpec]) -> Fields:
    """The fields of that which a change is about."""
    if change.policy is not None:
        return fields.of_policy(policy)
    names = frozenset(change.names)
    return fields.of_queues(queue for queue in queues if queue.name in names)


async def _put(world: World, change: Change, who: str, why: str) -> None:
    """Put a policy or queues in force.

    Raises:
        domain.quota.tree.QuotaError: they contradict the other, as it is in force now.
    """
    connection, policy, why = world.connection, world.snapshot.policy, why[:1_000]
    if change.policy is not None:
        policy = change.policy
        if against := refusals(policy, world.snapshot.queues):
            raise QuotaError("\n".join(map(str, against)))
        if policy.digest != world.snapshot.policy.digest:
            await policies.write(connection, world.pool, PolicyOrder(policy=policy, who=who, why=why), world.now)
    else:
        assert change.queues is not None, "a change is one of the two"
        await queues.apply(connection, change.queues, policy, world.now)
    await fleet.note_change(connection, world.pool)


async def _watch(world: World, row: Row[Any]) -> Row[Any]:
    order, progress = order_of(row), progress_of(row)
    assert progress.at_first is not None, "what is watched was read when it was applied"
    if progress.is_overtaken:
        return await _ends(world, row, RolloutState.OVERTAKEN, "somebody has changed the same since; that stays in force")
    blame, own = await _blame(world, row), reign_of(row)
    if blame.is_hidden(own, world.now):
        covered = {"covered_at": progress.covered_at or world.now}
        return await _progresses(world, row, progress.model_copy(update=covered))
    now, covered_for = await _readings(world, row), world.now - (progress.covered_at or world.now)
    row = await _progresses(world, row, progress.model_copy(update={"readings": now, "covered_at": None}))
    row = await orders.changed(world.connection, row, {"due_at": row.due_at + covered_for})
    if cause := breach(order.conditions, progress.at_first, now):
        return await _go_back(world, row, RolloutState.ROLLED_BACK, cause)
    return await _stays(world, row, RolloutState.DONE, "no condition was breached") if world.now >= row.due_at else row


async def _blame(world: World, row: Row[Any]) -> Blame:
    return Blame(await reigns(world.connection, world.pool, reign_of(row).since), world.snapshot.queues)


async def _go_back(world: World, row: Row[Any], state: RolloutState, cause: str, who: str = "") -> Row[Any]:
    """Put what lies under it in force again, unless somebody has set all of it since, or it cannot be any more."""
    progress, rows = progress_of(row), await watched(world.connection, OperationKind(row.kind), world.pool)
    if progress.is_overtaken:
        return await _ends(world, row, RolloutState.OVERTAKEN, f"{cause}; somebody has changed the same since, which stays")
    layers, back = without(layers_of(rows), row.id)
    try:
        said = await _put_back(
            world, order_of(row).change, back, who or f"roll-out {row.id}", f"roll-out {row.id} is {state}: {cause}"
        )
    except (QuotaError, ValidationError) as error:
        return await _stays(world, row, RolloutState.OVERTAKEN, f"{cause}; it cannot be taken back any more: {error}")
    await keep(world.connection, rows, layers)
    said += [f"what was set since stays: {named(progress.set_since)}"] if progress.set_since else []
    return await _ends(world, row, state, "; ".join([cause, *said]), who)


async def _put_back(world: World, change: Change, back: Edits, who: str, why: str) -> list[str]:
    """Put fields in force; answers with what a person should know where that changes nothing."""
    now = _in_force(change, world.snapshot.policy, world.snapshot.queues)
    if (then := fields.edited(now, back)) == now:
        return [
            "what is in force stays: all that it had set was set by others since, was so before, or is of queues that it added"
        ]
    if change.policy is not None:
        before = Change(policy=fields.policy_of(then))
    else:
        before = Change(queues=QueueTree(queues=fields.queues_of(then)))
    await _put(world, before, who, why)
    return []


async def _stays(world: World, row: Row[Any], state: RolloutState, why: str) -> Row[Any]:
    """End one whose change stays in force for good."""
    rows = await watched(world.connection, OperationKind(row.kind), world.pool)
    await keep(world.connection, rows, settled(layers_of(rows), row.id))
    return await _ends(world, row, state, why)


async def _ends(world: World, row: Row[Any], state: RolloutState, why: str, who: str = "") -> Row[Any]:
    if row.state == RolloutState.WATCHING:
        await _excuse(world, row)
    return await orders.changed(world.connection, row, orders.becomes(row, world.note(state, why, who), is_over=True))


async def _excuse(world: World, row: Row[Any]) -> None:
    """Hold what has come in the time of one that ends against none of those that it was laid over."""
    own, ending, blame = reign_of(row), progress_of(row), await _blame(world, row)
    brought = await _readings(world, row)
    for kind in KINDS:
        for each in await watched(world.connection, kind, world.pool):
            reign, progress = reign_of(each), progress_of(each)
            if own.is_after(reign) and blame.meets(own, reign) and progress.at_first and ending.at_first:
                at_first = excused(progress.at_first, brought, ending.at_first)
                await _progresses(world, each, progress.model_copy(update={"at_first": at_first}))


async def _readings(world: World, row: Row[Any]) -> Readings:
    """What is put down to a roll-out that is in force."""
    own, columns, read = reign_of(row), tables.workloads.c, world.connection.execute
    others = await reigns(world.connection, world.pool, own.since)
    changes = sorted({own.since, *(at for each in others for at in (each.since, each.until) if at and own.since < at)})
    stretch = func.width_bucket(columns.ended_at, cast(changes, ARRAY(tables.Instant)))
    refused = select(columns.queue, stretch, func.count()).where(columns.state == State.REFUSED, columns.ended_at > own.since)
    undecided = select(columns.queue, func.count().label("number")).where(
        columns.ended_at.is_(None), columns.explanation["reason"].astext == Reason.INTERNAL_ERROR
    )
    counts: dict[str, Any] = {
        "refused": {(queue, changes[at - 1]): n for queue, at, n in await read(refused.group_by(columns.queue, stretch))},
        "undecided": {row.queue: row.number for row in await read(undecided.group_by(columns.queue))},
    }
    blame = Blame(others, world.snapshot.queues)
    return await asyncio.to_thread(readings, world.snapshot, own, blame, world.now, **counts)


def status_of(row: Row[Any], next_in: float | None) -> RolloutStatus:
    """A roll-out as its row has it; `next_in` is in how many seconds of the wall something is due."""
    progress = progress_of(row)
    return RolloutStatus(
        **{name: getattr(row, name) for name in ("id", "kind", "subject", "state", "version", "began_at")},
        **{name: getattr(row, name) for name in ("due_at", "ended_at", "trail")},
        who=row.terms["who"],
        reason=row.terms["reason"],
        applied_at=progress.applied_at,
        needs=progress.needs,
        foreseen=progress.foreseen,
        readings=progress.readings,
        next_in=next_in,
    )
