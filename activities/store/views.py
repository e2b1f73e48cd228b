"""What people ask of the record: statuses, histories, queues and fleet, as the published language says them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Row, Select, cast, func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.store import tables
from activities.store.accounts import AccountBook
from activities.store.attained import Attaining
from activities.store.endpoints import following_of
from activities.store.facts import health_of, node_of
from activities.store.remnants import by_node
from activities.store.reservations import read_bookings
from activities.store.rows import AttemptRow, WorkloadRow, open_attempts
from activities.store.snapshots import read_queues
from corral.api import (
    WHOLE,
    BudgetSpec,
    BudgetStatus,
    CapacityType,
    Explanation,
    Fallen,
    FleetStatus,
    NodeStatus,
    QueueSpec,
    QueueStatus,
    QueueUsage,
    QuotaSpec,
    RoundStatus,
    SlaTier,
    State,
    Where,
    WorkloadEvent,
    WorkloadFilter,
    WorkloadStatus,
)
from domain.pool.fleet import Amount, Health
from domain.pool.leases import Reach
from domain.pool.lifecycle import ON_ITS_WAY_OUT
from domain.quota.budgets import ONE
from domain.quota.soundness import healthy_capacity, warnings
from domain.quota.tree import NO_CLASSES, QuotaTree, SkuClasses

DOLLAR = MILLION = 1_000_000


async def status(connection: AsyncConnection, workload: str, attaining: Attaining) -> WorkloadStatus | None:
    """One workload, or none."""
    found = await _statuses(connection, select(tables.workloads).where(tables.workloads.c.id == workload), attaining)
    return found[0] if found else None


async def workloads(connection: AsyncConnection, which: WorkloadFilter, attaining: Attaining) -> list[WorkloadStatus]:
    """Workloads that match, newest first."""
    columns = tables.workloads.c
    query = select(tables.workloads).order_by(columns.submitted_at.desc(), columns.id).limit(which.limit)
    for column, value in ((columns.queue, which.queue), (columns.state, which.state), (columns.tier, which.tier)):
        if value is not None:
            query = query.where(column == value)
    if which.active_only:
        query = query.where(columns.ended_at.is_(None))
    return await _statuses(connection, query, attaining)


async def _statuses(connection: AsyncConnection, query: Select[Any], attaining: Attaining) -> list[WorkloadStatus]:
    rows = [WorkloadRow.of(row) for row in await connection.execute(query)]
    attempts = await _latest_attempts(connection, [row.id for row in rows])
    followers = (await open_attempts(connection, [row.id for row in rows if row.state in ON_ITS_WAY_OUT])).then
    nodes = await _nodes_of(connection, [attempt.id for attempt in (*attempts.values(), *followers.values())])
    remnants = await by_node(connection, [attempt.id for attempt in attempts.values()])
    positions = await _positions(connection, attaining) if any(row.state is State.WAITING for row in rows) else {}
    return [
        _status_of(
            row,
            where=_where(attempts.get(row.id), nodes) if row.state not in _NOWHERE else None,
            next_where=_where(followers.get(row.id), nodes),
            remnants=remnants.get(attempts[row.id].id, {}) if row.id in attempts else {},
            position=positions.get(row.id),
            fallen=_fallen(row, attempts.get(row.id), attaining),
        )
        for row in rows
    ]


_NOWHERE = frozenset({State.WAITING, State.SUSPENDED, State.REFUSED})


def _fallen(row: WorkloadRow, latest: AttemptRow | None, attaining: Attaining) -> Fallen | None:
    if row.ended_at is not None:
        return None
    began = latest.started_at if latest and latest.ended_at is None else None
    is_endpoint = row.spec.get("autoscale") is not None
    return attaining.fallen(row.priority, row.runtime_used_seconds, began, is_endpoint=is_endpoint)


async def _latest_attempts(connection: AsyncConnection, ids: list[str]) -> dict[str, AttemptRow]:
    attempts = tables.attempts.c
    query = (
        select(tables.attempts)
        .where(attempts.workload_id.in_(ids), attempts.follows.is_(None))
        .ext(distinct_on(attempts.workload_id))
        .order_by(attempts.workload_id, attempts.epoch.desc())
    )
    return {row.workload_id: AttemptRow.of(row) for row in await connection.execute(query)}


async def _nodes_of(connection: AsyncConnection, attempts: list[str]) -> dict[str, dict[str, int]]:
    nodes: dict[str, dict[str, int]] = {}
    query = select(
        tables.allocations.c.attempt_id,
        tables.allocations.c.node_id,
        func.jsonb_array_length(tables.allocations.c.replicas).label("replicas"),
    ).where(tables.allocations.c.attempt_id.in_(attempts))
    for row in await connection.execute(query.order_by(tables.allocations.c.node_id)):
        nodes.setdefault(row.attempt_id, {})[row.node_id] = row.replicas
    return nodes


async def _positions(connection: AsyncConnection, attaining: Attaining) -> dict[str, int]:
    columns, priority = tables.workloads.c, attaining.of_waiting
    rank = func.row_number().over(
        partition_by=columns.queue,
        order_by=(func.array_position(list(SlaTier), columns.tier), priority.desc(), columns.submitted_at, columns.id),
    )
    query = select(columns.id, rank.label("position")).where(columns.ended_at.is_(None), columns.state == State.WAITING)
    return {row.id: row.position for row in await connection.execute(query)}


def _where(attempt: AttemptRow | None, nodes: dict[str, dict[str, int]]) -> Where | None:
    if attempt is None:
        return None
    return Where(
        provider=attempt.provider,
        region=attempt.region,
        cluster=attempt.cluster,
        sku=attempt.sku,
        accelerators=attempt.milli / WHOLE,
        by_sku={sku: milli / WHOLE for sku, milli in attempt.by_sku.items()},
        nodes=nodes.get(attempt.id, {}),
    )


def _status_of(
    row: WorkloadRow,
    *,
    where: Where | None,
    next_where: Where | None,
    remnants: Mapping[str, int],
    position: int | None,
    fallen: Fallen | None,
) -> WorkloadStatus:
    explanation = Explanation.model_validate(row.explanation) if row.explanation else None
    return WorkloadStatus(
        id=row.id,
        queue=row.queue,
        tier=SlaTier(row.tier),
        priority=row.priority,
        fallen=fallen,
        state=row.state,
        epoch=row.epoch,
        submitted_at=row.submitted_at,
        since=row.since,
        where=where,
        next_where=next_where,
        remnants=remnants,
        explanation=explanation.model_copy(update={"position": position}) if explanation else None,
        following=following_of(row.scaling),
        outcome=row.ended_as,
        exit_code=row.ended_with,
        preemptions=row.preemptions,
        tasks_done=row.tasks_done if row.spec.get("tasks") else None,
        ended_at=row.ended_at,
    )


async def events(connection: AsyncConnection, workload: str, after: int) -> list[WorkloadEvent]:
    """A workload's history after an event, oldest first."""
    columns = tables.events.c
    query = select(tables.events).where(columns.workload_id == workload, columns.id > after).order_by(columns.id).limit(10_000)
    return [
        WorkloadEvent(id=row.id, workload=row.workload_id, at=row.at, kind=row.kind, message=row.message)
        for row in await connection.execute(query)
    ]


async def queues(connection: AsyncConnection, now: datetime, classes: SkuClasses = NO_CLASSES) -> list[QueueStatus]:
    """All queues; what a cohort uses is the sum of its children's use, and that of a class the sum of its SKUs'."""
    tree = await read_queues(connection)
    counts = await _counts(connection)
    used = await used_by_queue(connection, tree, classes)
    book = AccountBook()
    await book.refresh(connection)
    spent = book.spent(tree, now)
    warned = warnings(QuotaTree.at(tree, now, classes), await _healthy_capacity(connection))
    return [
        QueueStatus(
            name=queue.name,
            parent=queue.parent,
            stop=queue.stop,
            spec=queue,
            waiting=counts.get((queue.name, "waiting"), 0),
            running=counts.get((queue.name, "active"), 0),
            usage=tuple(_usage(quota, used.get((queue.name, quota.sku), 0)) for quota in valid_quotas(queue, now)),
            warnings=warned.get(queue.name, ()),
            budgets=tuple(_budget(budget, spent[queue.name, index]) for index, budget in enumerate(queue.budgets)),
        )
        for queue in tree
    ]


async def used_by_queue(
    connection: AsyncConnection, tree: Iterable[QueueSpec], classes: SkuClasses
) -> dict[tuple[str, str], Amount]:
    """What every queue and cohort has of each SKU and class, whether or not it runs already."""
    return _with_ancestors(_with_classes(await _used(connection), classes), tree)


def valid_quotas(queue: QueueSpec, now: datetime) -> Iterable[QuotaSpec]:
    """The quotas of a queue that are valid now."""
    return (quota for quota in queue.quotas if _valid(quota, now))


async def _healthy_capacity(connection: AsyncConnection) -> dict[str, Amount]:
    return healthy_capacity([node_of(row, []) for row in await connection.execute(select(tables.nodes))])


def _with_classes(used: dict[tuple[str, str], int], classes: SkuClasses) -> dict[tuple[str, str], int]:
    total = dict(used)
    for (queue, sku), milli in used.items():
        for name in (name for name, skus in classes.items() if sku in skus):
            total[queue, name] = total.get((queue, name), 0) + milli
    return total


async def _counts(connection: AsyncConnection) -> dict[tuple[str, str], int]:
    columns = tables.workloads.c
    query = select(columns.queue, columns.state, func.count().label("n")).where(columns.ended_at.is_(None))
    counts: dict[tuple[str, str], int] = {}
    for row in await connection.execute(query.group_by(columns.queue, columns.state)):
        if row.state != State.SUSPENDED:
            key = (row.queue, "waiting" if row.state == State.WAITING else "active")
            counts[key] = counts.get(key, 0) + row.n
    return counts


async def _used(connection: AsyncConnection) -> dict[tuple[str, str], int]:
    attempts = tables.attempts.c
    amounts = func.jsonb_each_text(attempts.by_sku).table_valued("key", "value", joins_implicitly=True)
    milli = func.sum(cast(amounts.c.value, BigInteger))
    query = (
        select(tables.workloads.c.queue, amounts.c.key.label("sku"), milli.label("milli"))
        .join(tables.workloads, tables.workloads.c.id == attempts.workload_id)
        .where(attempts.ended_at.is_(None), attempts.follows.is_(None))
        .group_by(tables.workloads.c.queue, amounts.c.key)
    )
    return {(row.queue, row.sku): int(row.milli) for row in await connection.execute(query)}


def _with_ancestors(used: dict[tuple[str, str], int], tree: Iterable[QueueSpec]) -> dict[tuple[str, str], int]:
    parents = {queue.name: queue.parent for queue in tree}
    total: dict[tuple[str, str], int] = {}
    for (queue, sku), milli in used.items():
        node: str | None = queue
        while node is not None:
            total[node, sku] = total.get((node, sku), 0) + milli
            node = parents.get(node)
    return total


def _usage(quota: QuotaSpec, milli: int) -> QueueUsage:
    return QueueUsage(
        sku=quota.sku,
        nominal=quota.nominal,
        used=milli / WHOLE,
        borrowed=max(0, milli - quota.nominal * WHOLE) / WHOLE,
        cap=quota.cap,
    )


def _budget(budget: BudgetSpec, spent: int) -> BudgetStatus:
    return BudgetStatus(budget=budget, spent=spent / ONE[budget.unit])


def _valid(quota: QuotaSpec, now: datetime) -> bool:
    return (quota.valid_from is None or quota.valid_from <= now) and (quota.valid_until is None or now < quota.valid_until)


async def nodes(connection: AsyncConnection, only: Iterable[str] | None = None) -> list[NodeStatus]:
    """Nodes as last observed, all or those with the given ids."""
    query = select(tables.nodes).where(tables.nodes.c.given_back_at.is_(None)).order_by(tables.nodes.c.id)
    if only is not None:
        query = query.where(tables.nodes.c.id.in_(list(only)))
    kept: dict[str, list[str]] = {}
    for booking in await read_bookings(connection):
        for node_id in booking.nodes:
            kept.setdefault(node_id, []).append(booking.id)
    clusters = tables.clusters.c
    unheard = await connection.execute(select(clusters.id, clusters.reason).where(clusters.reach != Reach.REACHABLE))
    why = {row.id: f"its cluster: {row.reason}" for row in unheard}
    return [_node_status(row, kept, why) for row in await connection.execute(query)]


def _node_status(row: Row[Any], kept: Mapping[str, Sequence[str]], why: Mapping[str, str]) -> NodeStatus:
    return NodeStatus(
        id=row.id,
        provider=row.provider,
        region=row.region,
        cluster=row.cluster,
        sku=row.sku,
        health=health_of(row),
        accelerators=row.accelerators,
        used=sum(row.device_use) / WHOLE,
        capacity_type=CapacityType(row.capacity_type),
        price=row.price / DOLLAR,
        labels=dict(row.labels),
        interruptions_per_hour=None if row.interruptions is None else row.interruptions / MILLION,
        maximum_replicas=row.maximum_replicas,
        available_until=row.available_until,
        kept_for=tuple(kept.get(row.id, ())),
        node_pool=row.node_pool,
        reason=row.cordon_reason or why.get(f"{row.provider}/{row.region}/{row.cluster}", "") or row.suspect or "",
    )


async def rounds(connection: AsyncConnection, pool: str, limit: int) -> list[RoundStatus]:
    """The newest rounds of a pool, the last one first."""
    query = select(tables.rounds).where(tables.rounds.c.pool == pool).order_by(tables.rounds.c.id.desc()).limit(limit)
    return [round_of(row) for row in await connection.execute(query)]


def round_of(row: Row[Any]) -> RoundStatus:
    """A round as its row has it."""
    figures = dict(row.quality or {})
    objective, bound = figures.pop("objective", None), figures.pop("bound", None)
    return RoundStatus(
        id=row.id,
        at=row.at,
        trigger=row.trigger,
        considered=row.considered,
        started=row.started,
        preempted=row.preempted,
        refused=row.refused,
        started_accelerators=None if objective is None else objective / WHOLE,
        bound=None if bound is None else bound / WHOLE,
        milliseconds=row.milliseconds,
        **figures,
    )


async def fleet(connection: AsyncConnection) -> list[FleetStatus]:
    """The supply by provider, region and SKU."""
    groups: dict[tuple[str, str, str], list[NodeStatus]] = {}
    for node in await nodes(connection):
        groups.setdefault((node.provider, node.region, node.sku), []).append(node)
    return [
        FleetStatus(
            provider=provider,
            region=region,
            sku=sku,
            nodes=len(members),
            ready_nodes=sum(node.health == Health.READY for node in members),
            accelerators=sum(node.accelerators for node in members),
            used=sum(node.used for node in members),
        )
        for (provider, region, sku), members in sorted(groups.items())
    ]
