"""What-if: the pool as it would be after a fix, as a value."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from corral.api import BudgetUnit, Fix, QueueSpec, QuotaChange, QuotaSpec, StopPolicy, UserLimit, WorkloadTerms
from domain.calendar.reservations import settled
from domain.pool.fleet import Node, Room
from domain.pool.workload import Active, Waiting
from domain.quota.budgets import spent_later
from domain.snapshot import Snapshot


def applied(fix: Fix, workload_id: str, snapshot: Snapshot, now: datetime) -> tuple[Snapshot, datetime]:
    """The pool and the time after the fix has been carried out for the workload and its effects are observed.

    After a wait, work that has notice has left, and so has work whose expected end has come and whoever had to leave for a
    reservation that is open by then; what runs has spent of budgets, and what of them comes back in time has come back.
    """
    changed = _change_spec(fix, workload_id, snapshot)
    for change in (_raise_quota, _raise_budgets, _raise_user_limits, _open_queues, _uncordon, _stop_others):
        changed = change(fix, changed)
    if fix.wait_seconds is None:
        return changed, now
    then = now + timedelta(seconds=fix.wait_seconds)
    later = without(changed, _ended_by(then, changed))
    return replace(without(later, _opened_to(later, then)), spent=_spent_by(then, changed, now)), then


def without(snapshot: Snapshot, leaving: Iterable[Active]) -> Snapshot:
    """The pool once these attempts have left and their room was observed free."""
    gone = {active.attempt_id for active in leaving}
    staying = tuple(active for active in snapshot.active if active.attempt_id not in gone)
    left = [active for active in snapshot.active if active.attempt_id in gone]
    if not left:
        return snapshot
    freed = _rooms_by_node(left)
    used = _rooms_by_node(staying)
    nodes = tuple(_freed(node, freed[node.id], used.get(node.id, [])) if node.id in freed else node for node in snapshot.nodes)
    return replace(snapshot, nodes=nodes, active=staying)


def expected_end(active: Active) -> datetime | None:
    """When the attempt ends by what its workload says of itself, or none when it says nothing or has not started."""
    said = [seconds for seconds in (active.spec.expected_seconds, active.spec.maximum_runtime_seconds) if seconds is not None]
    if active.started_at is None or not said:
        return None
    return active.started_at + timedelta(seconds=min(said))


def _rooms_by_node(actives: Iterable[Active]) -> dict[str, list[Room]]:
    rooms: dict[str, list[Room]] = {}
    for active in actives:
        for share in active.placement.shares:
            rooms.setdefault(share.node_id, []).append(share.room)
    return rooms


def _freed(node: Node, freed: Iterable[Room], used: Iterable[Room]) -> Node:
    """The node with more free, but never more than those that stay (and those that were promised room) leave of it."""
    free, left = node.free, node.total
    for room in freed:
        free = _sum(free, room)
    for room in used:
        left = _difference(left, room)
    return replace(
        node,
        free=Room(
            tuple(max(0, min(pair)) for pair in zip(free.devices, left.devices, strict=True)),
            max(0, min(free.cpu_milli, left.cpu_milli)),
            max(0, min(free.memory_mib, left.memory_mib)),
        ),
    )


def _sum(one: Room, other: Room) -> Room:
    return one + other if len(one.devices) == len(other.devices) else one


def _difference(one: Room, other: Room) -> Room:
    return one - other if len(one.devices) == len(other.devices) else one


def _change_spec(fix: Fix, workload_id: str, snapshot: Snapshot) -> Snapshot:
    def changed(workload: Waiting) -> Waiting:
        return replace(workload, spec=followed(fix, workload.spec)) if workload.id == workload_id else workload

    return replace(snapshot, waiting=tuple(map(changed, snapshot.waiting)))


def followed(fix: Fix, spec: WorkloadTerms) -> WorkloadTerms:
    """The spec as its owner would submit it to follow the fix."""
    said = {
        "targets": (*spec.targets, fix.target) if fix.target else None,
        "topology": fix.topology,
        "groups": fix.groups or None,
        "minimum_replicas": fix.minimum_replicas,
        "autoscale": fix.autoscale,
        "tolerations": (*spec.tolerations, *fix.tolerations) if fix.tolerations else None,
        "preemptible": fix.preemptible,
        "tier": fix.tier,
        "priority": fix.priority,
    }
    return spec.model_copy(update={field: value for field, value in said.items() if value is not None})


def _raise_quota(fix: Fix, snapshot: Snapshot) -> Snapshot:
    changes = {(change.queue, change.sku): change for change in fix.quotas}
    return replace(snapshot, queues=tuple(_with_quota(queue, changes) for queue in snapshot.queues))


def _with_quota(queue: QueueSpec, changes: Mapping[tuple[str, str], QuotaChange]) -> QueueSpec:
    mine = {sku: change for (name, sku), change in changes.items() if name == queue.name}
    known = {row.sku for row in queue.quotas}
    rows = [_raised(row, mine[row.sku]) if row.sku in mine else row for row in queue.quotas]
    added = [QuotaSpec(sku=sku, nominal=mine[sku].nominal) for sku in sorted(mine.keys() - known)]
    return queue.model_copy(update={"quotas": (*rows, *added)})


def _raised(row: QuotaSpec, change: QuotaChange) -> QuotaSpec:
    nominal = row.nominal + change.nominal
    cap = None if row.cap is None else max(row.cap + change.cap, nominal)
    return row.model_copy(update={"nominal": nominal, "cap": cap})


def _raise_budgets(fix: Fix, snapshot: Snapshot) -> Snapshot:
    more = {(change.queue, change.place): change.amount for change in fix.budgets}
    return replace(snapshot, queues=tuple(_with_budgets(queue, more) for queue in snapshot.queues)) if more else snapshot


def _with_budgets(queue: QueueSpec, more: Mapping[tuple[str, int], int]) -> QueueSpec:
    budgets = (
        budget.model_copy(update={"amount": budget.amount + more.get((queue.name, place), 0)})
        for place, budget in enumerate(queue.budgets)
    )
    return queue.model_copy(update={"budgets": tuple(budgets)})


def _raise_user_limits(fix: Fix, snapshot: Snapshot) -> Snapshot:
    limits = {change.queue: change.limit for change in fix.user_limits}
    if not limits:
        return snapshot
    return replace(snapshot, queues=tuple(_with_limit(queue, limits.get(queue.name)) for queue in snapshot.queues))


def _with_limit(queue: QueueSpec, limit: UserLimit | None) -> QueueSpec:
    if limit is None:
        return queue
    others = (each for each in queue.user_limits if each.user != limit.user)
    return queue.model_copy(update={"user_limits": (*others, limit)})


def _spent_by(then: datetime, snapshot: Snapshot, now: datetime) -> dict[tuple[str, int], int]:
    parents = {queue.name: queue.parent for queue in snapshot.queues}
    spent = {}
    for queue in (queue for queue in snapshot.queues if queue.budgets):
        mine = [active for active in snapshot.active if _is_below(active.spec.queue, queue.name, parents)]
        for place, budget in enumerate(queue.budgets):
            in_dollars = budget.unit is BudgetUnit.DOLLARS
            uses = ((each.hourly_cost if in_dollars else each.milli, expected_end(each)) for each in mine)
            spent[queue.name, place] = spent_later(budget, snapshot.spent.get((queue.name, place), 0), uses, now, then)
    return spent


def _is_below(queue: str | None, above: str, parents: Mapping[str, str | None]) -> bool:
    while queue is not None and queue != above:
        queue = parents.get(queue)
    return queue == above


def _open_queues(fix: Fix, snapshot: Snapshot) -> Snapshot:
    opened = {"stop": StopPolicy.OPEN}
    queues = tuple(queue.model_copy(update=opened) if queue.name in fix.queues else queue for queue in snapshot.queues)
    return replace(snapshot, queues=queues)


def _uncordon(fix: Fix, snapshot: Snapshot) -> Snapshot:
    back = set(fix.nodes)
    nodes = tuple(replace(node, health=node.observed) if node.id in back else node for node in snapshot.nodes)
    return replace(snapshot, nodes=nodes)


def _stop_others(fix: Fix, snapshot: Snapshot) -> Snapshot:
    stopped = set(fix.victims)
    return without(snapshot, [active for active in snapshot.active if active.id in stopped])


def _ended_by(then: datetime, snapshot: Snapshot) -> list[Active]:
    return [
        active for active in snapshot.active if active.preempted or ((end := expected_end(active)) is not None and end <= then)
    ]


def _opened_to(snapshot: Snapshot, then: datetime) -> list[Active]:
    """Who had to leave for the reservations that are open by then, and was told in time."""
    if not any(booking.nodes for booking in snapshot.bookings):
        return []
    opened = settled(snapshot, then)
    told = {stop.attempt_id for stop in opened.stops}
    kept = {node for booking in opened.snapshot.bookings if booking.is_open for node in booking.nodes}
    leaving = (active for active in snapshot.active if active.attempt_id in told)
    return [active for active in leaving if any(share.node_id in kept for share in active.placement.shares)]
