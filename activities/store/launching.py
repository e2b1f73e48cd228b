"""Launches: what a provider is to run for an attempt."""

from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.ports import LaunchSpec, ReplicaPlace
from activities.store import tables
from activities.store.bulk import among
from activities.store.facts import share_of
from activities.store.rows import AttemptRow, WorkloadRow
from corral.api import WHOLE


async def launch_orders(
    connection: AsyncConnection, workloads: Mapping[str, WorkloadRow], attempts: Sequence[AttemptRow]
) -> dict[str, LaunchSpec]:
    """The orders for attempts, by their ids, on what is claimed for or promised to them."""
    places: dict[str, list[ReplicaPlace]] = {attempt.id: [] for attempt in attempts}
    milli = {attempt.id: _milli_by_group(workloads[attempt.workload_id]) for attempt in attempts}
    query = (
        select(tables.allocations, tables.nodes.c.name.label("node_name"))
        .join(tables.nodes, tables.nodes.c.id == tables.allocations.c.node_id)
        .where(among(tables.allocations.c.attempt_id, places))
        .order_by(tables.nodes.c.name)
    )
    for row in await connection.execute(query):
        places[row.attempt_id] += [
            ReplicaPlace(row.node_name, replica, milli[row.attempt_id][replica.group]) for replica in share_of(row).replicas
        ]
    return {
        attempt.id: _launch_order(workloads[attempt.workload_id], attempt, tuple(places[attempt.id])) for attempt in attempts
    }


def _milli_by_group(workload: WorkloadRow) -> dict[str, int]:
    return {group.name: min(group.milli, WHOLE) for group in workload.parsed().groups}


def _launch_order(workload: WorkloadRow, attempt: AttemptRow, places: tuple[ReplicaPlace, ...]) -> LaunchSpec:
    spec = workload.parsed()
    return LaunchSpec(
        attempt_id=attempt.id,
        workload_id=workload.id,
        epoch=attempt.epoch,
        digest=workload.digest,
        places=places,
        command=spec.command,
        environment=spec.environment,
        parameters=spec.parameters,
        signal=spec.checkpoint.signal,
        grace_seconds=spec.checkpoint.grace_seconds,
        expected_seconds=spec.expected_seconds,
        provider=attempt.provider,
    )
