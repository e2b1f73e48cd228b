"""Rows of the record as the facts that the domain knows."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from activities.store.rows import AttemptRow, WorkloadRow
from corral.api import WHOLE, CapacityType, State, WorkloadTerms
from domain.pool.fleet import Health, Node, NodeShare, Placement, Replica, Room
from domain.pool.leases import WITHOUT_LEASE
from domain.pool.lifecycle import LEAVING, MAY_STAY
from domain.pool.parts import ReplicaKey
from domain.pool.workload import Active, Waiting


def node_of(row: Row[Any], promised: Sequence[Room]) -> Node:
    """A node as the domain sees it; what is promised is not free, though nobody may be using it yet."""
    total = Room((WHOLE,) * row.accelerators, row.cpu_milli, row.memory_mib)
    left = total - Room(tuple(row.device_use), row.cpu_use, row.memory_use)
    for room in promised:
        left -= room
    return Node(
        id=row.id,
        provider=row.provider,
        region=row.region,
        cluster=row.cluster,
        sku=row.sku,
        topology=tuple((level, domain) for level, domain in row.topology),
        total=total,
        # A promise overlaps with what its victims still use: below zero means that nothing is free.
        free=Room(tuple(max(0, milli) for milli in left.devices), max(0, left.cpu_milli), max(0, left.memory_mib)),
        health=health_of(row),
        observed=observed_of(row),
        capacity_type=CapacityType(row.capacity_type),
        price=row.price,
        taints=tuple(row.taints),
        labels=tuple((name, value) for name, value in row.labels),
        maximum_replicas=row.maximum_replicas,
        interruptions=row.interruptions,
        available_until=row.available_until,
        node_pool=row.node_pool,
    )


def health_of(row: Row[Any]) -> Health:
    """A node's health: what was ordered counts before what was observed."""
    return observed_of(row) if row.cordon is None else Health(row.cordon)


def observed_of(row: Row[Any]) -> Health:
    """What was observed of a node, whatever was ordered."""
    if row.reach in WITHOUT_LEASE:
        return Health.LOST
    return Health.READY if row.ready and row.suspect is None and row.reach is None else Health.SUSPECT


def share_of(row: Row[Any]) -> NodeShare:
    """What an attempt has on one node, from a row of `allocations`."""
    return NodeShare(
        row.node_id,
        Room(tuple(row.uses), row.cpu_milli, row.memory_mib),
        tuple(Replica(group, index, tuple(devices)) for group, index, devices in row.replicas),
        row.sku,
    )


def waiting_of(row: WorkloadRow, spec: WorkloadTerms, *, is_new: bool = False) -> Waiting:
    """A workload in line."""
    ran = row.runtime_used_seconds
    return Waiting(row.id, spec, row.submitted_at, row.epoch, row.tasks_done, row.since, is_new=is_new, ran_seconds=ran)


def active_of(
    row: WorkloadRow,
    spec: WorkloadTerms,
    attempt: AttemptRow,
    shares: Mapping[str, Sequence[NodeShare]],
    remnants: Mapping[str, frozenset[ReplicaKey]],
    runs_since: datetime | None = None,
) -> Active:
    """One open attempt of a workload, of which one runs since then, if any does.

    A workload that is to go on in another shape has two: one leaves, one has the room it needs.
    """
    placement = Placement(
        attempt.provider,
        attempt.region,
        attempt.sku,
        tuple(sorted(shares.get(attempt.id, []), key=lambda share: share.node_id)),
        attempt.target,
    )
    return Active(
        id=row.id,
        attempt_id=attempt.id,
        epoch=attempt.epoch,
        spec=spec,
        state=State.RESERVING if attempt.follows else row.state,
        placement=placement,
        submitted_at=row.submitted_at,
        held_at=attempt.held_at,
        started_at=attempt.started_at,
        checkpoint_at=attempt.checkpoint_at,
        preempted=attempt.stop_as in LEAVING,
        beneficiary=attempt.beneficiary if attempt.leave in MAY_STAY else None,
        noticed_at=attempt.stop_at,
        hourly_cost=sum(attempt.cost_by_sku.values()),
        remnants=remnants.get(attempt.id, frozenset()),
        ran_seconds=row.runtime_used_seconds,
        follows_since=runs_since if attempt.follows else None,
    )
