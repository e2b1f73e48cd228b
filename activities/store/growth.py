"""The growth of the fleet in the record: node pools, what was ordered of them, and what is to be given back.

An order is written here before anybody asks a provider for it, under the id by which the provider knows it as well: whoever
carries it out again, after whatever failure, asks for the same nodes.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Row, and_, exists, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.answers import FleetStep, StepKind
from activities.ports import Delivery, NodePoolView, NodeView, ProvisioningView, ProvisionOrder
from activities.store import tables
from corral.api import WHOLE, DeliveryState, NodePoolStatus, ProvisioningStatus
from corral.policy import Growth
from domain.elasticity.provisioning import FleetPlan, desired
from domain.pool.fleet import Health, Node, Room
from domain.pool.nodepools import MILLION, Course, NodePool, Provisioning, back_off, hourly_cost

GROWTH = "corral/growth"
"""Stands for who cordoned a node that is to be given back; no evacuation has this name."""

_COURSE = TypeAdapter(Course)
_VIEW = TypeAdapter(NodeView)
_FAILED = (DeliveryState.FAILED, DeliveryState.GIVEN_UP)
_LOCK = text("SELECT pg_advisory_xact_lock(hashtext('corral/growth'))")

_pools, _orders, _nodes = tables.node_pools.c, tables.provisionings.c, tables.nodes.c


@dataclass(frozen=True, slots=True)
class Stand:
    """How far the fleet's growth has come: what a plan for it goes by, beside the snapshot.

    `closed` are the pools from which nothing is ordered for now, and until when; `orders` is how many there have ever been.
    """

    courses: Mapping[str, Course]
    closed: Mapping[str, datetime]
    orders: int


# What a round reads


async def read_pools(connection: AsyncConnection) -> tuple[NodePool, ...]:
    """The kinds of nodes that providers can add."""
    return tuple([_pool_of(row) for row in await connection.execute(select(tables.node_pools).order_by(_pools.id))])


async def read_arrivals(connection: AsyncConnection, pools: Collection[NodePool]) -> tuple[Provisioning, ...]:
    """The orders that are under way, with as many nodes as are still to come."""
    by_id = {pool.id: pool for pool in pools}
    query = select(tables.provisionings).where(_orders.ended_at.is_(None)).order_by(_orders.id)
    rows = [row for row in await connection.execute(query) if row.node_pool in by_id]
    come = await _arrived(connection, [row.id for row in rows])
    left = [(row, row.nodes - come[row.id]) for row in rows]
    return tuple(Provisioning(row.id, by_id[row.node_pool], nodes, row.ordered_at) for row, nodes in left if nodes > 0)


async def _arrived(connection: AsyncConnection, orders: Collection[str]) -> Counter[str]:
    """How many nodes have come of each order, whatever has become of them since."""
    if not orders:
        return Counter()
    query = (
        select(_nodes.provisioning, func.count().label("number"))
        .where(_nodes.provisioning.in_(orders))
        .group_by(_nodes.provisioning)
    )
    return Counter({row.provisioning: row.number for row in await connection.execute(query)})


def _pool_of(row: Row[Any]) -> NodePool:
    view = _VIEW.validate_python(row.node)
    room = Room((WHOLE,) * view.accelerators, view.cpu_milli, view.memory_mib)
    node = Node(
        id=row.id,
        provider=row.provider,
        region=view.region,
        cluster=view.cluster,
        sku=view.sku,
        topology=view.topology,
        total=room,
        free=room,
        capacity_type=view.capacity_type,
        price=view.price,
        taints=view.taints,
        labels=view.labels,
        maximum_replicas=view.maximum_replicas,
        interruptions=view.interruptions,
        available_until=view.available_until,
    )
    return NodePool(node, row.most, row.lead_seconds)


# What providers tell


async def write_pools(connection: AsyncConnection, provider: str, views: Sequence[NodePoolView]) -> bool:
    """Write what a provider can add; of a pool that it has no more nothing is added. Answers whether anything changed."""
    changed = 0
    for view in views:
        values = {
            "id": f"{provider}/{view.node.name}",
            "provider": provider,
            "name": view.node.name,
            "node": _VIEW.dump_python(view.node, mode="json"),
            "most": view.limit,
            "lead_seconds": view.lead_seconds,
        }
        told = {name: values[name] for name in ("node", "most", "lead_seconds")}
        is_news = or_(*(_pools[name].is_distinct_from(value) for name, value in told.items()))
        statement = insert(tables.node_pools).values(**values)
        written = await connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=told, where=is_news))
        changed += written.rowcount
    gone = and_(_pools.provider == provider, _pools.most > 0, _pools.name.not_in([view.node.name for view in views]))
    changed += (await connection.execute(update(tables.node_pools).where(gone).values(most=0))).rowcount
    return changed > 0


async def write_deliveries(connection: AsyncConnection, views: Sequence[ProvisioningView], now: datetime) -> list[str]:
    """Believe how far a provider is with its orders; answers with those that nobody here has given."""
    ids = [view.id for view in views]
    known = set(await connection.scalars(select(_orders.id).where(_orders.id.in_(ids))))
    for view in views:
        if view.delivery is Delivery.FAILED:
            await end_order(connection, view.id, DeliveryState.FAILED, view.reason, now)
    return [id for id in ids if id not in known]


async def given_back_but_there(connection: AsyncConnection, provider: str, names: Collection[str]) -> list[str]:
    """Nodes, by their provider's names, that it still has though it has taken them away."""
    query = select(_nodes.name).where(_nodes.provider == provider, _nodes.given_back_at.is_not(None))
    return sorted(name for name in await connection.scalars(query) if name in names)


# Orders


async def keep_orders(connection: AsyncConnection, now: datetime, rules: Growth) -> bool:
    """Close the orders of which all nodes have come, and give those up that take too long; answers whether there were any."""
    before = await _under_way(connection)
    rows = (await connection.execute(select(tables.provisionings).where(_orders.ended_at.is_(None)))).all()
    come = await _arrived(connection, [row.id for row in rows])
    for row in rows:
        if come[row.id] >= row.nodes:
            await end_order(connection, row.id, DeliveryState.ARRIVED, "", now)
        elif now - row.ordered_at >= timedelta(seconds=rules.give_up_seconds):
            why = f"{come[row.id]} of {row.nodes} nodes have come in {rules.give_up_seconds} s"
            await end_order(connection, row.id, DeliveryState.GIVEN_UP, why, now)
    return await _under_way(connection) < before


async def _under_way(connection: AsyncConnection) -> int:
    query = select(func.count()).select_from(tables.provisionings).where(_orders.ended_at.is_(None))
    return int(await connection.scalar(query) or 0)


async def end_order(connection: AsyncConnection, order: str, state: DeliveryState, reason: str, now: datetime) -> None:
    """Close an order that is under way. One that has not arrived whole is still to be abandoned at its provider."""
    come = (await _arrived(connection, [order]))[order]
    values = {"state": state, "reason": reason, "ended_at": now, "arrived": come}
    if state is DeliveryState.ARRIVED:
        values["settled_at"] = now
    statement = update(tables.provisionings).where(_orders.id == order, _orders.ended_at.is_(None))
    await connection.execute(statement.values(**values))


async def order_to_ask(connection: AsyncConnection, order: str) -> ProvisionOrder | None:
    """The order as its provider is to be asked for it; none when it is over."""
    query = (
        select(_orders.id, _pools.name, _orders.nodes)
        .join(tables.node_pools, _pools.id == _orders.node_pool)
        .where(_orders.id == order, _orders.ended_at.is_(None))
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else ProvisionOrder(row.id, row.name, row.nodes)


async def note_told(connection: AsyncConnection, order: str, now: datetime) -> None:
    """Note that a provider has taken an order."""
    await connection.execute(update(tables.provisionings).where(_orders.id == order).values(told_at=now))


async def note_abandoned(connection: AsyncConnection, order: str, now: datetime) -> None:
    """Note that nothing more can come of an order."""
    await connection.execute(update(tables.provisionings).where(_orders.id == order).values(settled_at=now))


# Nodes that leave


def _is_to_leave() -> Any:
    """The node is to be given back, and nothing is used or promised on it."""
    in_use = exists().where(tables.rooms.c.node_id == _nodes.id)
    return and_(_nodes.cordon == Health.DRAINING, _nodes.cordoned_by == GROWTH, _nodes.given_back_at.is_(None), ~in_use)


async def nodes_to_give_back(connection: AsyncConnection, provider: str, names: Collection[str]) -> list[str]:
    """Those of the nodes that are still to leave: nobody has ordered anything else for them since."""
    query = select(_nodes.name).where(_nodes.provider == provider, _nodes.name.in_(names), _is_to_leave())
    return sorted(await connection.scalars(query))


async def note_given_back(connection: AsyncConnection, provider: str, names: Collection[str], now: datetime) -> None:
    """Note that nodes are gone for good."""
    gone = update(tables.nodes).where(_nodes.provider == provider, _nodes.name.in_(names))
    await connection.execute(gone.values(given_back_at=now, ready=False))


# Plans


async def read_stand(connection: AsyncConnection, now: datetime, rules: Growth) -> Stand:
    """How far it has come."""
    courses = {
        row.id: _COURSE.validate_python(row.course)
        for row in await connection.execute(select(_pools.id, _pools.course).where(_pools.course.is_not(None)))
    }
    closed = {pool: until for pool, until in (await _pauses(connection, rules)).items() if until > now}
    return Stand(courses, closed, await _count(connection))


async def _count(connection: AsyncConnection) -> int:
    return int(await connection.scalar(select(func.count()).select_from(tables.provisionings)) or 0)


async def _pauses(connection: AsyncConnection, rules: Growth) -> dict[str, datetime]:
    """Until when nothing is ordered from pools whose last orders have failed."""
    later = tables.provisionings.alias("later")
    has_worked_since = exists().where(
        later.c.node_pool == _orders.node_pool, later.c.number > _orders.number, later.c.state == DeliveryState.ARRIVED
    )
    query = (
        select(_orders.node_pool, func.count().label("failures"), func.max(_orders.ended_at).label("ended_at"))
        .where(_orders.state.in_(_FAILED), ~has_worked_since)
        .group_by(_orders.node_pool)
    )
    return {row.node_pool: row.ended_at + back_off(row.failures, rules) for row in await connection.execute(query)}


async def write_plan(connection: AsyncConnection, plan: FleetPlan, orders: int, now: datetime) -> bool:
    """Write a plan, unless somebody else has ordered something since `orders` were counted; answers whether anything changed.

    Of the nodes that are to leave those stay that have got work since.
    """
    await connection.execute(_LOCK)
    if await _count(connection) != orders:
        return False
    for id, pool in plan.pools.items():
        values = {"needed": pool.needed, "why": pool.why, "course": _COURSE.dump_python(pool.course, mode="json")}
        is_news = or_(*(_pools[name].is_distinct_from(value) for name, value in values.items()))
        await connection.execute(update(tables.node_pools).where(_pools.id == id, is_news).values(**values))
    for order in plan.orders:
        last = select(func.coalesce(func.max(_orders.number), 0)).where(_orders.node_pool == order.pool.id)
        number = int(await connection.scalar(last) or 0) + 1
        values = {"id": f"{order.pool.id}-{number}", "node_pool": order.pool.id, "number": number, "nodes": order.nodes}
        values |= {"state": DeliveryState.COMING, "why": order.why, "ordered_at": now}
        await connection.execute(insert(tables.provisionings).values(**values))
    return bool(plan.orders) | await _drain(connection, {each.node_id: each.why for each in plan.returns})


async def _drain(connection: AsyncConnection, leaving: Mapping[str, str]) -> bool:
    kept = tables.reservations.c
    in_use = exists().where(tables.rooms.c.node_id == _nodes.id)
    is_kept = exists().where(kept.ended_at.is_(None), _nodes.id == func.any(kept.nodes))
    drained = 0
    for node, why in leaving.items():
        free = update(tables.nodes).where(_nodes.id == node, _nodes.cordon.is_(None), ~in_use, ~is_kept)
        values = {"cordon": Health.DRAINING, "cordon_reason": why, "cordoned_by": GROWTH}
        drained += (await connection.execute(free.values(**values))).rowcount
    return drained > 0


async def steps(connection: AsyncConnection) -> list[FleetStep]:
    """What providers are to be asked for now."""
    query = (
        select(_orders.id, _pools.provider, _orders.ended_at)
        .join(tables.node_pools, _pools.id == _orders.node_pool)
        .where(_orders.settled_at.is_(None), or_(_orders.ended_at.is_not(None), _orders.told_at.is_(None)))
        .order_by(_orders.id)
    )
    found = [
        FleetStep(StepKind.ASK if row.ended_at is None else StepKind.ABANDON, row.provider, (row.id,))
        for row in await connection.execute(query)
    ]
    leaving: dict[str, list[str]] = {}
    for row in await connection.execute(select(_nodes.provider, _nodes.name).where(_is_to_leave()).order_by(_nodes.id)):
        leaving.setdefault(row.provider, []).append(row.name)
    return [*found, *(FleetStep(StepKind.GIVE_BACK, provider, tuple(names)) for provider, names in leaving.items())]


async def is_idle(connection: AsyncConnection, rules: Growth) -> bool:
    """Whether the fleet neither may grow nor has anything that was added or is coming."""
    if rules.dollars_per_hour > 0:
        return await connection.scalar(select(_pools.id).limit(1)) is None
    there = select(_nodes.id).where(_nodes.node_pool.is_not(None), _nodes.given_back_at.is_(None)).limit(1)
    unsettled = select(_orders.id).where(_orders.settled_at.is_(None)).limit(1)
    return await connection.scalar(there) is None and await connection.scalar(unsettled) is None


# What people see


async def node_pools(connection: AsyncConnection, now: datetime, rules: Growth) -> list[NodePoolStatus]:
    """The pools, and how far each is from what is wanted of it."""
    pools = await read_pools(connection)
    arrivals = await read_arrivals(connection, pools)
    stand = await read_stand(connection, now, rules)
    there = (await connection.execute(_THERE)).all()
    said = {row.id: row for row in await connection.execute(select(_pools.id, _pools.needed, _pools.why))}
    failed = {row.node_pool: row.reason for row in await connection.execute(_LAST_FAILURES)}
    return [
        NodePoolStatus(
            id=pool.id,
            region=pool.node.region,
            sku=pool.node.sku,
            accelerators=len(pool.node.total.devices),
            capacity_type=pool.node.capacity_type,
            dollars_per_hour=hourly_cost(pool.node) / MILLION,
            lead_seconds=pool.lead_seconds,
            minimum=rules.within(pool.id).minimum,
            maximum=pool.most(rules),
            needed=said[pool.id].needed,
            desired=desired(pool, stand.courses.get(pool.id, Course(0)), rules),
            nodes=sum(row.node_pool == pool.id for row in there),
            ready=sum(row.node_pool == pool.id and row.is_ready for row in there),
            coming=sum(arrival.nodes for arrival in arrivals if arrival.pool.id == pool.id),
            since=min((arrival.since for arrival in arrivals if arrival.pool.id == pool.id), default=None),
            why=said[pool.id].why,
            paused_until=stand.closed.get(pool.id),
            failure=failed.get(pool.id, "") if pool.id in stand.closed else "",
        )
        for pool in pools
    ]


_THERE = select(
    _nodes.node_pool, and_(_nodes.ready, _nodes.cordon.is_(None), _nodes.suspect.is_(None)).label("is_ready")
).where(_nodes.node_pool.is_not(None), _nodes.given_back_at.is_(None))
_LAST = tables.provisionings.alias("last")
_LAST_ENDED = select(func.max(_LAST.c.number)).where(_LAST.c.node_pool == _orders.node_pool, _LAST.c.ended_at.is_not(None))
_LAST_FAILURES = select(_orders.node_pool, _orders.reason).where(
    _orders.state.in_(_FAILED), _orders.number == _LAST_ENDED.scalar_subquery()
)


async def orders(connection: AsyncConnection, limit: int) -> list[ProvisioningStatus]:
    """The newest orders, those under way first."""
    query = (
        select(tables.provisionings).order_by(_orders.ended_at.is_not(None), _orders.ordered_at.desc(), _orders.id).limit(limit)
    )
    rows = (await connection.execute(query)).all()
    come = await _arrived(connection, [row.id for row in rows])
    return [
        ProvisioningStatus(
            id=row.id,
            node_pool=row.node_pool,
            nodes=row.nodes,
            arrived=come[row.id],
            state=row.state,
            ordered_at=row.ordered_at,
            ended_at=row.ended_at,
            why=row.why,
            reason=row.reason,
        )
        for row in rows
    ]
