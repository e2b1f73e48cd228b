"""Targets that somebody changes: what a workload has is kept where one of them accepts it, and else given back."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.answers import Adjustment
from activities.ports import NotAllowed
from activities.store import tables
from activities.store.attempts import withdraw
from activities.store.facts import share_of
from activities.store.respecifying import respecified
from activities.store.rows import AttemptRow, Journal, WorkloadRow, locked, place_of
from corral.api import CapacityType, Outcome, WorkloadSpec
from domain.advice.holding import Answered, Possession, answered
from domain.pool.lifecycle import BEFORE_BINDING
from domain.worlds.world import Supply

WHY = "its targets were changed"


async def change_targets(connection: AsyncConnection, journal: Journal, workload: WorkloadRow, asked: Adjustment) -> str:
    """Let a workload accept other targets from now on.

    Raises:
        NotAllowed: they make no sense for it; or it runs where none of them is, and nobody has said that it shall move.
    """
    targets = [target.model_dump() for target in asked.targets or ()]
    spec = respecified(workload.parsed(), "targets: that", targets=targets)
    _, attempt = await locked(connection, journal, workload.id)
    held = answered(spec, await _possession(connection, spec, attempt)) if attempt else None
    if attempt and not held and workload.state not in BEFORE_BINDING and not asked.move:
        raise NotAllowed(
            f"targets: workload {workload.id!r} runs on {place_of(attempt)}, which none of them accepts; expected one "
            "that does, or `move` (--move): it then has notice, stops, and waits for a place by its age"
        )
    message = await _leave_unless_held(connection, journal, workload, attempt, held)
    changed = journal.workloads.get(workload.id, workload)
    journal.change(changed, spec=spec.model_dump(mode="json"), explanation=changed.explanation if held else None)
    journal.note(workload.id, "retargeted", message)
    journal.tell(workload.id)
    return message


async def _leave_unless_held(
    connection: AsyncConnection, journal: Journal, workload: WorkloadRow, attempt: AttemptRow | None, held: Answered | None
) -> str:
    if attempt is None:
        return "accepts other targets"
    if held:
        journal.attempt(attempt, target=held.target)
        return f"accepts other targets, and keeps {place_of(attempt)}, which is among them"
    await withdraw(connection, journal, workload.id, Outcome.DRAINED, WHY)
    if workload.state in BEFORE_BINDING:
        return f"accepts other targets; {place_of(attempt)} is given back, which is none of them"
    return f"accepts other targets, and has notice to leave {place_of(attempt)}, which is none of them"


async def _possession(connection: AsyncConnection, spec: WorkloadSpec, attempt: AttemptRow) -> Possession:
    rows = list(
        await connection.execute(
            select(tables.allocations, tables.nodes.c.capacity_type)
            .join(tables.nodes, tables.nodes.c.id == tables.allocations.c.node_id)
            .where(tables.allocations.c.attempt_id == attempt.id)
        )
    )
    first = spec.groups[0].name
    return Possession(
        frozenset((Supply(attempt.provider, attempt.region, row.sku), CapacityType(row.capacity_type)) for row in rows),
        sum(replica.group == first for row in rows for replica in share_of(row).replicas),
    )
