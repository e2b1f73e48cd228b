"""The supply as a planner remembers it: every node, until its row changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, any_, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.store import tables
from activities.store.changes import Kept
from activities.store.facts import node_of
from domain.pool.fleet import Node, Room

_CHANGED = select(tables.nodes).where(tables.nodes.c.changed >= bindparam("since"))
_PROMISED = select(tables.allocations).where(tables.allocations.c.phase == "promised")
_PROMISED_THERE = _PROMISED.where(tables.allocations.c.node_id == any_(bindparam("nodes", type_=tables.Names)))


@dataclass(frozen=True, slots=True)
class NodeNews:
    """Rows of nodes that changed, and what is promised on them."""

    rows: Sequence[Row[Any]]
    promised: Mapping[str, Sequence[Room]]


@dataclass
class Supply:
    """All nodes by id. A promise that is given or taken back changes its node's row, by a trigger."""

    nodes: Kept[Node] = field(default_factory=Kept)
    replicas_left: dict[str, int] = field(default_factory=dict)
    """How many more replicas may be claimed, by node; nodes that take any number are left out."""
    provisioned: dict[str, str] = field(default_factory=dict)
    """The node pools of nodes that were added from one, and are there."""
    _changed: dict[str, int] = field(default_factory=dict)

    async def news(self, connection: AsyncConnection, since: int) -> NodeNews:
        """Read what a transaction from that one on has changed and is not known."""
        found = await connection.execute(_CHANGED, {"since": since})
        rows = [row for row in found if self._changed.get(row.id) != row.changed]
        promised: dict[str, list[Room]] = {}
        if rows:
            ids = [row.id for row in rows]
            for row in await (connection.execute(_PROMISED_THERE, {"nodes": ids}) if since else connection.execute(_PROMISED)):
                promised.setdefault(row.node_id, []).append(Room(tuple(row.uses), row.cpu_milli, row.memory_mib))
        return NodeNews(rows, promised)

    def take(self, news: NodeNews) -> None:
        """Remember it."""
        for row in news.rows:
            self._changed[row.id] = row.changed
            if row.given_back_at is not None:
                self._drop(row.id)
                continue
            if row.node_pool is not None:
                self.provisioned[row.id] = row.node_pool
            self.nodes.put(row.id, node_of(row, news.promised.get(row.id, ())))
            if row.maximum_replicas is None:
                self.replicas_left.pop(row.id, None)
            else:
                self.replicas_left[row.id] = row.maximum_replicas - row.replica_use

    def _drop(self, node_id: str) -> None:
        self.nodes.drop(node_id)
        self.replicas_left.pop(node_id, None)
        self.provisioned.pop(node_id, None)
