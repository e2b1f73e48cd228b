"""The supply in the record: what providers report of their nodes, and what operators order for them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_, case, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ColumnElement

from activities.ports import NodeView, NotFound
from activities.store import tables
from corral.api import Cordon, PlaceKind
from domain.pool.fleet import Health

_CORDONS = {"cordon": Health.CORDONED, "drain": Health.DRAINING, "uncordon": None}


async def register_provider(connection: AsyncConnection, name: str, kind: str, now: datetime) -> None:
    """Write a provider down; one that is known already keeps its registration."""
    statement = insert(tables.providers).values(name=name, kind=kind, registered_at=now)
    await connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"kind": kind}))


async def seen(connection: AsyncConnection, name: str, now: datetime) -> bool:
    """Note that a provider has told what it has; answers whether it did so for the first time."""
    known = tables.providers.c.name == name
    first = await connection.scalar(select(tables.providers.c.seen_at.is_(None)).where(known))
    await connection.execute(update(tables.providers).where(known).values(seen_at=now))
    return bool(first)


async def all_seen(connection: AsyncConnection) -> bool:
    """Whether every provider has told what it has at least once."""
    unseen = select(tables.providers.c.name).where(tables.providers.c.seen_at.is_(None)).limit(1)
    return await connection.scalar(unseen) is None


async def write_nodes(connection: AsyncConnection, provider: str, views: Sequence[NodeView], *, complete: bool) -> bool:
    """Write what a provider reports of its nodes; answers whether anything changed.

    Of a complete report, nodes that are missing are not ready any more; their rows stay, as work may still be booked there.
    """
    changed = 0
    if views:
        latest = {view.name: view for view in views}.values()
        result = await connection.scalars(
            _upsert_node().returning(tables.nodes.c.id), [_values(provider, view) for view in latest]
        )
        changed += len(result.all())
    if complete:
        gone = await connection.execute(
            update(tables.nodes)
            .where(
                tables.nodes.c.provider == provider,
                tables.nodes.c.ready,
                tables.nodes.c.name.not_in([view.name for view in views]),
            )
            .values(ready=False)
        )
        changed += gone.rowcount
    return changed > 0


def _upsert_node() -> Any:
    statement = insert(tables.nodes)
    now, new = tables.nodes.c, statement.excluded
    values: dict[str, Any] = {name: new[name] for name in _OBSERVED}
    # One that was given back does not come again, whatever an older report says; its name is never used for another.
    # A node that reports less than is in use there keeps that much, until it is free.
    values["ready"] = and_(new.ready, now.given_back_at.is_(None))
    values["cpu_milli"] = func.greatest(new.cpu_milli, now.cpu_use)
    values["memory_mib"] = func.greatest(new.memory_mib, now.memory_use)
    values["maximum_replicas"] = case((new.maximum_replicas.is_not(None), func.greatest(new.maximum_replicas, now.replica_use)))
    # The number of devices stays as first reported: what is booked by device index must keep its meaning.
    return statement.on_conflict_do_update(
        index_elements=["id"],
        set_=values,
        where=or_(*(now[name].is_distinct_from(value) for name, value in values.items())),
    )


_OBSERVED = (
    *("region", "cluster", "sku", "topology", "capacity_type", "price", "interruptions", "available_until", "taints"),
    *("labels", "ready", "node_pool", "provisioning"),
)


def _values(provider: str, view: NodeView) -> dict[str, Any]:
    return {
        "id": f"{provider}/{view.name}",
        "provider": provider,
        "name": view.name,
        "region": view.region,
        "cluster": view.cluster,
        "sku": view.sku,
        "topology": [list(pair) for pair in view.topology],
        "accelerators": view.accelerators,
        "cpu_milli": view.cpu_milli,
        "memory_mib": view.memory_mib,
        "capacity_type": view.capacity_type,
        "price": view.price,
        "interruptions": view.interruptions,
        "available_until": view.available_until,
        "taints": list(view.taints),
        "labels": [list(pair) for pair in view.labels],
        "maximum_replicas": view.maximum_replicas,
        "ready": view.ready,
        "node_pool": None if view.node_pool is None else f"{provider}/{view.node_pool}",
        "provisioning": view.provisioning,
        "device_use": [0] * view.accelerators,
    }


def is_inside(kind: PlaceKind, place: str) -> ColumnElement[bool]:
    """Whether a node is in a place; one that was given back is in none."""
    nodes = tables.nodes.c
    paths: Mapping[PlaceKind, ColumnElement[str]] = {
        PlaceKind.NODE: nodes.id,
        PlaceKind.CLUSTER: func.concat_ws("/", nodes.provider, nodes.region, nodes.cluster),
        PlaceKind.REGION: func.concat_ws("/", nodes.provider, nodes.region),
    }
    return and_(paths[kind] == place, nodes.given_back_at.is_(None))


async def order(connection: AsyncConnection, provider: str, cordon: Cordon, key: str) -> list[str]:
    """Cordon, drain or uncordon nodes, unless that was done by the same key; answers with their ids.

    Nodes are named as the provider names them, or by their id, or all of a place at once.

    Raises:
        NotFound: names what the provider does not have; nothing was changed.
    """
    operations, key = tables.operations, f"cordon/{provider}:{key}"
    if (done := await connection.scalar(select(operations.c.result).where(operations.c.key == key))) is not None:
        return list(done["nodes"])
    ids = await _meant(connection, provider, cordon)
    # Of two who ask at once by one key the second fails here, and is answered when it asks again.
    await connection.execute(insert(operations).values(key=key, result={"nodes": ids}))
    state = _CORDONS[cordon.action]
    await connection.execute(
        update(tables.nodes)
        .where(tables.nodes.c.id.in_(ids))
        .values(cordon=state, cordon_reason=cordon.reason if state else None, cordoned_by=None)
    )
    return ids


async def _meant(connection: AsyncConnection, provider: str, cordon: Cordon) -> list[str]:
    nodes = tables.nodes.c
    if cordon.kind is not None and cordon.place is not None:
        inside = select(nodes.id).where(nodes.provider == provider, is_inside(cordon.kind, cordon.place))
        if not (found := list(await connection.scalars(inside.order_by(nodes.id)))):
            raise NotFound(f"{cordon.kind} {cordon.place}")
        return found
    ids = [node if node.startswith(f"{provider}/") else f"{provider}/{node}" for node in cordon.nodes]
    known = set(await connection.scalars(select(nodes.id).where(nodes.id.in_(ids))))
    if missing := [id for id in ids if id not in known]:
        raise NotFound(", ".join(missing))
    return ids


async def note_change(connection: AsyncConnection, pool: str) -> None:
    """Note that something changed which could let waiting work start."""
    statement = insert(tables.pools).values(name=pool, changes=1)
    one_more = {"changes": tables.pools.c.changes + 1}
    await connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=one_more))
    await connection.execute(select(func.pg_notify(CHANNEL, pool)))


CHANNEL = "corral_changes"
"""Where the record tells planners, by the pool's name, that there is something to decide."""
