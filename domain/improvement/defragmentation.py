"""Defragmentation: running work moves, for nobody in particular, so that more of what is free can be used."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from fractions import Fraction

import numpy as np

from corral.api import State, StopPolicy
from corral.policy import QuotaModel
from domain.decision import Change, Reshape, Trade
from domain.disruption.means import as_it_is, is_movable, running_request
from domain.disruption.protection import isstoppable
from domain.facts import Facts
from domain.improvement.demand_mix import Known, known_demand
from domain.improvement.fragments import Area, Gauge, Mask, areas_of, in_part_use, total
from domain.placement.feasibility import sift
from domain.placement.layout import Layout, lay_out
from domain.placement.sieve import capacities
from domain.pool.fleet import Health, Placement, Room
from domain.pool.stock import NodeRoom, Places, Stock, in_order
from domain.pool.workload import Active
from domain.quota.headroom import MilliSeconds
from domain.quota_models.turns import TakeTurns, Turns
from domain.snapshot import Snapshot
from domain.worlds.request import Gang
from domain.worlds.world import Traits, World

SOURCES = 6
"""So many nodes of one class are looked at, of those that would gain most if all that may move were gone."""

TARGETS = 24
"""On so many nodes a place is looked for, the fullest that have room."""

MARGIN = Fraction(3, 2)
"""How many times its cost a move must gain: demand is only known so well."""

DAY = timedelta(days=1)


def defragmented(turns: Turns, snapshot: Snapshot, facts: Facts, take_turns: TakeTurns) -> Turns:
    """The turns with moves that gain more than they cost, and by which nobody who waits loses any room.

    Where something moves, whoever still waits has another turn in the world that this leaves: a second round would find nothing
    left to do.
    """
    if not _is_allowed(turns, facts):
        return turns
    allowance = Allowance.of(turns, snapshot, facts)
    if not allowance.moves or allowance.cost <= 0:
        return turns
    areas = areas_of(turns.world, (active for active in snapshot.active if _may_ever_move(active, facts)))
    if not areas:
        return turns
    search = _Search(turns.world, facts, known_demand(areas, turns, snapshot, facts), areas, allowance)
    while (found := search.best()) is not None:
        search.take(found)
    if not search.reshapes:
        return turns
    more = take_turns(turns.waiting, search.world, facts, once=False)
    reshapes = (*turns.reshapes, *search.reshapes, *more.reshapes)
    return replace(more, moved=(*turns.moved, *more.moved), reshapes=reshapes)


def _is_allowed(turns: Turns, facts: Facts) -> bool:
    """Whether running work may be moved at all, and nobody is about to start on what is free."""
    rank = facts.policy.rank
    return (
        rank.quota_model is QuotaModel.RANKED
        and facts.policy.goals.defragmentation.moves_at_once > 0
        and rank.preemption
        and rank.disruption.migrate
        and not turns.unfinished
    )


def _may_ever_move(active: Active, facts: Facts) -> bool:
    """Whether it runs, is known to have saved its state, and may be disturbed at all."""
    return (
        active.checkpoint_at is not None
        and active.state is State.RUNNING
        and is_movable(active)
        and isstoppable(active, facts.policy, facts.now)
    )


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many more moves may begin, and what they may cost together."""

    moves: int
    cost: MilliSeconds

    @classmethod
    def of(cls, turns: Turns, snapshot: Snapshot, facts: Facts) -> "Allowance":
        """What is left beside the moves that are under way, whoever they are for, and those of a day."""
        may = facts.policy.goals.defragmentation
        leaving = {active.id for active in snapshot.active if active.preempted}
        under_way = sum(active.id in leaving and not active.preempted for active in snapshot.active) if leaving else 0
        ready = sum(int(total(nodes).sum()) for traits, nodes in turns.world.classes.items() if traits.health is Health.READY)
        spent = sum(stop.cost for stop in set(snapshot.stops) if stop.at > facts.now - DAY)
        daily = int(ready * (DAY // timedelta(seconds=1)) * Fraction(str(may.daily_share)))
        return cls(max(0, may.moves_at_once - under_way - len(turns.reshapes)), daily - spent)

    def after(self, moves: int, cost: MilliSeconds) -> "Allowance":
        """What is left once so many moves have begun, at this cost in all."""
        return Allowance(self.moves - moves, self.cost - cost)


@dataclass(frozen=True, slots=True)
class Clearing:
    """Work that leaves a node together, and where it goes.

    `gain` and `cost` are thousandths of an accelerator times seconds.
    """

    home: Traits
    moves: tuple[tuple[Active, Placement], ...]
    gain: Fraction
    cost: MilliSeconds
    price: int
    seconds: int

    @property
    def net(self) -> Fraction:
        """What it gains beyond what it must."""
        return self.gain - MARGIN * self.cost

    @property
    def order(self) -> tuple[Fraction, int, tuple[str, ...]]:
        """The best comes first: by what it is worth at the price of its node, then by how few move, and by who."""
        return -self.net * max(1, self.price), len(self.moves), tuple(active.attempt_id for active, _ in self.moves)


@dataclass(slots=True)
class _Search:
    """Lives inside one round: the world as the moves so far leave it."""

    world: World
    facts: Facts
    known: Mapping[Traits, Known]
    areas: Mapping[Traits, Area]
    allowance: Allowance
    reshapes: list[Reshape] = field(default_factory=list)
    found: dict[Traits, Clearing | None] = field(default_factory=dict)
    """The best of each class as it is now; none where nothing more is to be gained."""
    asked: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Where somebody may wait for what is leaving, nothing moves."""
        coming = {self.world.homes[node_id] for node_id in self._leaving_nodes()}
        self.found |= dict.fromkeys(home for home in self.areas if home in coming and self.known[home].waiting)

    def best(self) -> Clearing | None:
        """What is worth most of all that is still allowed, or none where nothing is."""
        if self.allowance.moves <= 0:
            return None
        for home in self.areas.keys() - self.found.keys():
            self.found[home] = min(self._worth_while(home), key=lambda clearing: clearing.order, default=None)
        return min(filter(None, self.found.values()), key=lambda clearing: clearing.order, default=None)

    def take(self, found: Clearing) -> None:
        """Let it happen."""
        trade = Trade(int(found.gain), found.cost, found.seconds)
        for active, placement in found.moves:
            self.world = self.world.promising(active.spec, placement, (active,))
            self.reshapes.append(Reshape(active.attempt_id, Change.MIGRATE, placement, trade=trade))
        self.allowance = self.allowance.after(len(found.moves), found.cost)
        self.found = {home: other for home, other in self.found.items() if home != found.home and self._is_still_allowed(other)}

    def _is_still_allowed(self, found: Clearing | None) -> bool:
        """Whether it is still within all bounds; where nothing was found, nothing will be."""
        if found is None:
            return True
        victims = [active for active, _ in found.moves]
        is_within = len(victims) <= self.allowance.moves and found.cost <= self.allowance.cost
        return is_within and len(self.facts.protection.within_budgets(victims, self.world.stopped)) == len(victims)

    def _worth_while(self, home: Traits) -> Iterator[Clearing]:
        nodes, area, known = self.world.classes[home], self.areas[home], self.known[home]
        if not known.shapes:
            return
        gauge = Gauge.of(known, nodes)
        still = in_part_use(nodes)
        still[_places_of(self._leaving_nodes(), nodes)] = False
        for place in self._sources(area, nodes, gauge, still):
            yield from self._clearings(home, place, gauge, still)

    def _sources(self, area: Area, nodes: Stock, gauge: Gauge, still: Mask) -> list[int]:
        """Places that might gain anything if work left them, those first where most might be gained at the least restart."""
        able = np.flatnonzero(still & (area.movable > 0))
        if not len(able):
            return []
        cleared = nodes.milli[able] + area.movable[able]
        gain = gauge.most(nodes, able, cleared)
        restart = area.movable[able] * self.facts.policy.rank.restart_seconds * gauge.total
        value = gain * self.facts.policy.goals.defragmentation.horizon_seconds - restart
        order = np.lexsort((able, -value))
        chosen: list[int] = able[[at for at in order.tolist() if gain[at] > 0][:SOURCES]].tolist()
        return chosen

    def _clearings(self, home: Traits, place: int, gauge: Gauge, still: Mask) -> Iterator[Clearing]:
        """What comes of it if the cheapest work leaves the node, or the two cheapest, and so on."""
        nodes = self.world.classes[home]
        source = nodes.entries([place])[0]
        rooms: dict[str, NodeRoom] = {}
        moves: tuple[tuple[Active, Placement], ...] = ()
        cost, seconds = 0, self.facts.policy.goals.defragmentation.horizon_seconds
        others = still.copy()
        others[place] = False
        for active in sorted(self.areas[home].movers[source.node.id], key=lambda each: (self._cost(each), each.attempt_id)):
            cost += self._cost(active)
            if len(moves) >= self.allowance.moves or cost > self.allowance.cost:
                return
            if not self._may_move(active, home, [each for each, _ in moves]):
                cost -= self._cost(active)
                continue
            if (layout := self._layout(active, nodes, rooms, others)) is None:
                return
            rooms |= {entry.node.id: entry for entry in layout.left}
            moves = (*moves, (active, replace(active.placement, shares=layout.shares)))
            left = active.seconds_left(self.facts.now)
            seconds = seconds if left is None else min(seconds, left)
            if gauge.takes_from_who_waits(nodes, rooms):
                return
            gained = gauge.gain(nodes, {**rooms, **self._freed(nodes, [each for each, _ in moves], rooms)})
            clearing = Clearing(home, moves, Fraction(gained * seconds, gauge.total), cost, source.node.price, seconds)
            if gained > 0 and clearing.net > 0:
                yield clearing

    def _cost(self, active: Active) -> MilliSeconds:
        """What a move costs: a stop without the wait, for the next place is known."""
        return self.facts.protection.stop_cost(active) - active.milli * self.facts.policy.rank.requeue_seconds

    def _may_move(self, active: Active, home: Traits, before: Sequence[Active]) -> bool:
        """Whether the rules let it be moved for its own sake, and budgets beside those that move before it."""
        id, stopped = active.attempt_id, {*self.world.stopped, *(each.attempt_id for each in before)}
        if id in stopped:
            return False
        if id not in self.asked:
            self.asked[id] = self._is_free_to_move(active, home)
        return self.asked[id] and bool(self.facts.protection.within_budgets([active], stopped))

    def _is_free_to_move(self, active: Active, home: Traits) -> bool:
        facts, world = self.facts, self.world
        queues = facts.tree.paths.get(active.spec.queue, ())
        return (
            all(facts.queues[queue].stop is StopPolicy.OPEN for queue in queues)
            and all(
                world.homes.get(share.node_id) == home and self._is_known(active, share.node_id)
                for share in active.placement.shares
            )
            and home in sift(running_request(active), world).classes.get(home.supply, ())
            and facts.protection.may_be_moved(active, active)
        )

    def _is_known(self, active: Active, node_id: str) -> bool:
        """Whether the node is still as the attempt knew it."""
        (room,) = (share.room for share in active.placement.shares if share.node_id == node_id)
        return len(self.world.rooms[node_id].devices) == len(room.devices)

    def _layout(self, active: Active, nodes: Stock, rooms: Mapping[str, NodeRoom], others: Mask) -> Layout | None:
        """Where it goes as it is: on nodes in part use that are no dearer, and no more spread than it sits now."""
        gang = as_it_is(running_request(active).gang)
        own = _places_of((share.node_id for share in active.placement.shares), nodes)
        able = others.copy()
        able[own] = False
        for shape in gang.shapes if len(gang.shapes) == 1 else ():
            able &= capacities(shape, nodes) > 0
        few = _fullest(nodes, np.flatnonzero(able))
        entries = [rooms.get(entry.node.id, entry) for entry in nodes.entries(few)]
        layout = lay_out(gang, in_order(entries), self.facts.policy.goals.topology)
        if layout is None or layout.hourly_cost > self._hourly_cost(active) or self._is_wider(active, layout, gang):
            return None
        return layout

    def _hourly_cost(self, active: Active) -> int:
        return sum(share.room.milli * self.world.prices[share.node_id] for share in active.placement.shares)

    def _is_wider(self, active: Active, layout: Layout, gang: Gang) -> bool:
        """Whether it would sit on more nodes, or in more domains of a level that it prefers."""
        if len(layout.shares) > len(active.placement.shares):
            return True
        now = [
            self.world.classes[self.world.homes[share.node_id]].entry(share.node_id).node for share in active.placement.shares
        ]
        levels = {gang.topology.preferred, *(s.terms.topology.preferred for s in gang.shapes if s.terms.topology)} - {None}
        return any(
            len({entry.node.domain(level) for entry in layout.left}) > len({node.domain(level) for node in now})
            for level in levels
            if level is not None
        )

    def _freed(self, nodes: Stock, leaving: Iterable[Active], rooms: Mapping[str, NodeRoom]) -> dict[str, NodeRoom]:
        """The nodes that they leave, once they have left."""
        freed: dict[str, Room] = {}
        for active in leaving:
            for share in active.placement.shares:
                before = rooms[share.node_id] if share.node_id in rooms else nodes.entry(share.node_id)
                freed[share.node_id] = freed.get(share.node_id, before.room) + share.room
        return {node_id: NodeRoom.of(nodes.entry(node_id).node, room) for node_id, room in freed.items()}

    def _leaving_nodes(self) -> list[str]:
        """Nodes on which room is coming."""
        return [node_id for node_id, room in self.world.coming.items() if room.milli or room.cpu_milli or room.memory_mib]


def _places_of(node_ids: Iterable[str], nodes: Stock) -> list[int]:
    """Where these nodes stand, those of them that are here."""
    return [place for node_id in node_ids if (place := nodes.place(node_id)) is not None]


def _fullest(nodes: Stock, places: Places) -> list[int]:
    """Of these places the first in the order in which replicas are offered nodes."""
    order = np.lexsort((places, nodes.milli[places], nodes.whole[places], nodes.price[places]))
    first: list[int] = places[order[:TARGETS]].tolist()
    return first
