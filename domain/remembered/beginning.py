"""Beginning: the worlds with which a round begins, made of those of the last round by what has changed since.

Where the fleet itself is another one or kept for somebody else, or quota depends on the hour, they are made anew: that
costs time and nothing else.
"""

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from operator import attrgetter

from domain.pool.bookings import Engagements, engagements
from domain.pool.fleet import Node, Room
from domain.pool.roll import Roll, Turnover
from domain.pool.workload import Active
from domain.quota.tree import QuotaTree
from domain.quota.usage import Usage
from domain.remembered.census import Census
from domain.snapshot import Snapshot
from domain.worlds.fragmentation import Need
from domain.worlds.outlook import OUTLOOK, IdleFleet, Outlook
from domain.worlds.world import NOT_ENGAGED, World, coming, free_room, looks_ahead, with_lingering, with_uses


class Beginning:
    """Remembers the last idle and the last real world; belongs to one planner, which tells it of every round in turn."""

    def __init__(self) -> None:
        self._roll = Roll[Node]()
        self._nodes: dict[str, Node] = {}
        self._engaged: Engagements = NOT_ENGAGED
        self._limited: Sequence[str] = ()
        """Nodes that take only so many replicas."""
        self._changed: list[Node] = []
        self._tenants: dict[str, list[Active]] = {}
        self._idle: World | None = None
        self._last: World | None = None
        self._fleet: IdleFleet | None = None
        self._needs: dict[Need, int] = {}

    def take(self, snapshot: Snapshot, moved: Turnover[Active]) -> None:
        """Look at the nodes, and at the attempts that have come and gone."""
        nodes = self._roll.take(snapshot.nodes)
        before, self._changed = {node.id: node for node in nodes.gone}, nodes.come
        kept, self._engaged = self._engaged, engagements(snapshot.bookings, snapshot.nodes)
        is_same = len(before) == len(nodes.come) and all(
            _is_same_but_for_room(before.get(node.id), node) for node in nodes.come
        )
        if not is_same or kept != self._engaged:
            self._nodes = {node.id: node for node in snapshot.nodes}
            self._limited = [node.id for node in snapshot.nodes if node.maximum_replicas is not None]
            self._idle = self._last = self._fleet = None
        self._nodes.update((node.id, node) for node in nodes.come)
        self._let_in(moved)

    def idle(self, tree: QuotaTree, snapshot: Snapshot) -> World:
        """The world in which nothing runs."""
        idle = self._idle_then(tree, snapshot)
        self._idle = idle = idle.under(Usage(tree), snapshot.policy, idle.datasets)
        for stock in idle.classes.values():
            stock.tidy()
        return idle

    def world(self, snapshot: Snapshot, tree: QuotaTree, census: Census, moved: Turnover[Active]) -> World:
        """The world as it is: what `World.of` would make."""
        if (last := self._last) is None:
            last = self._idle_then(tree, snapshot).filled(self._free(self._nodes))
            usage = _used_by(snapshot.active, Usage(tree))
        else:
            last = last.with_free(self._free({node.id for node in self._changed}.union(self._limited)))
            usage = _usage(last.usage, tree, snapshot, moved)
        usage = with_lingering(usage, snapshot.active)
        last = last.under(usage, snapshot.policy, {dataset.name: dataset for dataset in snapshot.datasets})
        self._last = last = replace(last, now=tree.now)
        for stock in last.classes.values():
            stock.tidy()
        self._look_ahead(last, census)
        return last.expecting(coming(snapshot.active, self._nodes, last.rooms, self._tenants))

    def _idle_then(self, tree: QuotaTree, snapshot: Snapshot) -> World:
        """The world in which nothing runs as it was last, or a new one."""
        return self._idle or World.idle(self._nodes.values(), tree, policy=snapshot.policy, engaged=self._engaged)

    def _free(self, node_ids: Iterable[str]) -> dict[str, Room]:
        return {id: free_room(self._nodes[id], self._tenants) for id in node_ids}

    def _look_ahead(self, world: World, census: Census) -> None:
        """Let the atlas of the world know what its nodes are worth to the demand, if anybody wants to know."""
        atlas = next((stock.atlas for stock in world.classes.values()), None)
        if atlas is None:
            return
        if not looks_ahead(world.policy):
            atlas.remembered.pop(OUTLOOK, None)
        elif self._fleet is None or OUTLOOK not in atlas.remembered or census.needs != self._needs:
            self._fleet, self._needs = self._fleet or IdleFleet.of(tuple(self._nodes.values())), dict(census.needs)
            atlas.remembered[OUTLOOK] = Outlook.for_needs(self._fleet, self._needs)

    def _let_in(self, moved: Turnover[Active]) -> None:
        for gone in moved.gone:
            for share in gone.placement.shares:
                self._tenants[share.node_id] = [each for each in self._tenants[share.node_id] if each is not gone]
        for come in moved.come:
            for share in come.placement.shares:
                self._tenants.setdefault(share.node_id, []).append(come)


_all_but_room = attrgetter(*(each.name for each in fields(Node) if each.name != "free"))


def _is_same_but_for_room(before: Node | None, node: Node) -> bool:
    return before is not None and bool(_all_but_room(before) == _all_but_room(node))


def _usage(last: Usage, tree: QuotaTree, snapshot: Snapshot, moved: Turnover[Active]) -> Usage:
    """Who uses how much; only by who came and who went where what is used up of budgets does not depend on the hour."""
    if tree.balances or last.tree.balances or not tree.counts_like(last.tree):
        return _used_by(snapshot.active, Usage(tree))
    kept = with_uses(Usage(tree, last.uses, last.users), (each for each in moved.gone if not each.preempted), sign=-1)
    return _used_by(moved.come, kept)


def _used_by(active: Iterable[Active], usage: Usage) -> Usage:
    return with_uses(usage, (each for each in active if not each.preempted))
