"""Whose attempts must end though nobody takes their place: holds in vain, and work where it may not stay."""

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Row, Select, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.store import tables
from activities.store.facts import health_of
from corral.api import Outcome, State, StopPolicy
from domain.pool.fleet import Health


class Departure(NamedTuple):
    """Why an attempt must leave though nobody takes its place."""

    outcome: Outcome
    reason: str


HOLD_EXPIRED = Departure(Outcome.EXPIRED, "its hold expired")
NODE_DRAINS = Departure(Outcome.DRAINED, "its node is drained")
QUEUE_DRAINS = Departure(Outcome.DRAINED, "its queue is drained")


async def housekeeping_due(connection: AsyncConnection, now: datetime) -> dict[str, Departure]:
    """Workloads whose attempt must be ended from outside, and why.

    Holds that have expired, or are of nodes that take nothing new any more; and work on draining nodes or in draining queues.
    """
    due = await _unusable_holds(connection)
    rules = (
        (_in_draining_queues(), QUEUE_DRAINS),
        (_on_draining_nodes(), NODE_DRAINS),
        (_with_expired_holds(now), HOLD_EXPIRED),
    )
    for query, departure in rules:
        due |= dict.fromkeys(await connection.scalars(query), departure)
    return due


def _with_expired_holds(now: datetime) -> Select[tuple[str]]:
    attempts, holds = tables.attempts.c, tables.holds.c
    return (
        select(attempts.workload_id)
        .join(tables.holds, holds.attempt_id == attempts.id)
        .where(holds.ended_at.is_(None), holds.expires_at < now, attempts.ended_at.is_(None), attempts.follows.is_(None))
        .order_by(attempts.workload_id)
    )


def _on_draining_nodes() -> Select[tuple[str]]:
    allocations, nodes = tables.allocations.c, tables.nodes.c
    return (
        _staying()
        .join(tables.allocations, allocations.attempt_id == tables.attempts.c.id)
        .join(tables.nodes, nodes.id == allocations.node_id)
        .where(allocations.phase != "released", nodes.cordon == Health.DRAINING)
    )


def _in_draining_queues() -> Select[tuple[str]]:
    return _staying().where(tables.workloads.c.queue.in_(_draining_queues()))


def _staying() -> Select[tuple[str]]:
    """Workloads of which nobody has ordered that they leave; who only changes its size stays."""
    attempts, workloads = tables.attempts.c, tables.workloads.c
    return (
        select(attempts.workload_id)
        .join(tables.workloads, workloads.id == attempts.workload_id)
        .where(attempts.ended_at.is_(None), attempts.follows.is_(None))
        .where(or_(attempts.stop_at.is_(None), workloads.state == State.RESIZING))
        .order_by(attempts.workload_id)
    )


async def _unusable_holds(connection: AsyncConnection) -> dict[str, Departure]:
    """What has not begun and has, or is promised, room on a node that takes nothing new."""
    attempts, rooms, nodes = tables.attempts.c, tables.allocations.c, tables.nodes.c
    unfit = or_(nodes.cordon.is_not(None), nodes.reach.is_not(None), nodes.suspect.is_not(None), nodes.ready.is_(False))
    query = (
        select(attempts.workload_id, nodes.id, nodes.ready, nodes.suspect, nodes.reach, nodes.cordon, nodes.cordon_reason)
        .join(tables.allocations, rooms.attempt_id == attempts.id)
        .join(tables.nodes, nodes.id == rooms.node_id)
        .where(attempts.ended_at.is_(None), attempts.bound_at.is_(None), attempts.follows.is_(None))
        .where(rooms.phase != "released", unfit)
        .order_by(attempts.workload_id, nodes.id.desc())
    )
    return {row.workload_id: Departure(Outcome.EXPIRED, _why_unusable(row)) for row in await connection.execute(query)}


def _why_unusable(row: Row[*tuple[Any, ...]]) -> str:
    health = health_of(row)
    because = f": {row.cordon_reason}" if row.cordon_reason else ""
    return f"its place was held on {row.id}, which is {'not ready' if health is Health.SUSPECT else health}{because}"


def _draining_queues() -> Select[tuple[str]]:
    """The queues that drain: those with that order, and all below them."""
    queues = tables.queues
    ordered = select(queues.c.name).where(queues.c.stop == StopPolicy.HOLD_AND_DRAIN).cte("draining", recursive=True)
    draining = ordered.union(select(queues.c.name).join(ordered, queues.c.parent == ordered.c.name))
    return select(draining.c.name)
