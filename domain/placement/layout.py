"""Placement: which nodes and devices a gang gets, whole or not at all."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from corral.api import WHOLE, Reason, Topology, WorkloadTerms
from corral.policy import TopologyProfile
from domain.decision import Rejection
from domain.placement import sieve
from domain.placement.balance import balanced
from domain.placement.draft import Draft, accepted, assign
from domain.placement.outline import anywhere, devices_alone
from domain.placement.sieve import narrowed, surely_too_small, with_room
from domain.placement.spot import is_alone, spot_for
from domain.placement.thorough import tried
from domain.placement.topology import Ask, Part, Tree, ask_for, best_fit, levels_of, spread_of, tree_of
from domain.pool.fleet import NODE_LEVEL, UNLIMITED_REPLICAS, Amount, NodeShare, Placement
from domain.pool.stock import NodeRoom, Stock, parts_of
from domain.quota.usage import Usage
from domain.worlds.request import NO_TOPOLOGY, Gang, Request, Shape, Unit, asks_for_something, told_in_replicas
from domain.worlds.world import Nodes, Supply


@dataclass(frozen=True, slots=True)
class Layout:
    """A gang on nodes: its share of each, whether every replica that was wanted found room, and the nodes afterwards."""

    shares: tuple[NodeShare, ...]
    is_whole: bool
    left: tuple[NodeRoom, ...]
    loss: int | None = None
    """What the known demand loses by it, in fiftieths of the most (below zero: gains); none where that was not looked at."""
    milli: Amount = field(init=False)
    """Thousandths in all."""
    hourly_cost: int = field(init=False)
    """Nanodollars an hour: thousandths of an accelerator times the prices of their nodes."""
    replicas: int = field(init=False)
    """Replicas in all."""

    def __post_init__(self) -> None:
        sizes = [share.room.milli for share in self.shares]
        cost = sum(milli * entry.node.price for milli, entry in zip(sizes, self.left, strict=True))
        object.__setattr__(self, "milli", sum(sizes))
        object.__setattr__(self, "hourly_cost", cost)
        object.__setattr__(self, "replicas", sum(len(share.replicas) for share in self.shares))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A placement that is possible, how it lies on its nodes, the gang that was wanted, and by whom."""

    placement: Placement
    layout: Layout
    wanted: Gang
    spec: WorkloadTerms


def best_on(
    request: Request,
    supply: Supply,
    nodes: Nodes,
    usage: Usage,
    profile: TopologyProfile = TopologyProfile.BEST_FIT,
) -> Candidate | None:
    """Place a request on the nodes of one supply within its quota, or none when either is short.

    A gang whose groups each name one SKU may be given the nodes of all of these; the supply then has that of the first.
    """
    quota = quota_for(request, supply.sku, usage)
    return None if quota is None else best_within(quota, request, supply, nodes, usage, profile)


def best_within(
    quota: Mapping[str, Amount],
    request: Request,
    supply: Supply,
    nodes: Nodes,
    usage: Usage,
    profile: TopologyProfile,
) -> Candidate | None:
    """The same where it is known what the request may have, by SKU, and that this is enough."""
    spec, gang = request.spec, request.gang
    layout = lay_out(gang.within(quota, supply.sku), nodes, profile)
    if layout is not None and not usage.pays_for(spec, layout.milli, layout.hourly_cost):
        layout = _affordable(request, nodes, usage, profile)
    if layout is None:
        return None
    shares = layout.shares if len(quota) == 1 else _with_skus(layout, supply.sku)
    return Candidate(Placement(supply.provider, supply.region, supply.sku, shares, request.index), layout, gang, spec)


def quota_for(request: Request, sku: str, usage: Usage) -> dict[str, Amount] | None:
    """What the request may have, by SKU, on this one and those that groups name; none where that is less than it needs."""
    needs = request.gang.least_by_sku(sku)
    quota = {name: usage.allowed(request.spec, name) for name in needs}
    return quota if all(quota[name] >= needed for name, needed in needs.items()) else None


def fits_on(
    request: Request,
    supply: Supply,
    nodes: Nodes,
    usage: Usage,
    profile: TopologyProfile = TopologyProfile.BEST_FIT,
) -> bool:
    """Whether `best_on` finds a place."""
    if surely_too_small(request.gang, nodes):
        return False
    if usage.tree.balances_of(request.spec.queue):
        return best_on(request, supply, nodes, usage, profile) is not None
    quota = quota_for(request, supply.sku, usage)
    return quota is not None and has_room(request.gang.within(quota, supply.sku), nodes, profile)


def _affordable(request: Request, nodes: Nodes, usage: Usage, profile: TopologyProfile) -> Layout | None:
    """The least that the request is content with, on nodes that its budgets can pay for."""
    spec, gang = request.spec, request.gang.at_minimum()
    limit = usage.dearest_affordable(spec, gang.minimum_milli)
    cheap = nodes if limit is None else tuple(entry for entry in nodes if entry.node.price <= limit)
    layout = lay_out(gang, cheap, profile)
    return layout if layout is not None and usage.pays_for(spec, layout.milli, layout.hourly_cost) else None


def _with_skus(layout: Layout, sku: str) -> tuple[NodeShare, ...]:
    """The shares, each with its node's SKU where that is another than the placement's."""
    found = zip(layout.shares, layout.left, strict=True)
    return tuple(share if entry.node.sku == sku else replace(share, sku=entry.node.sku) for share, entry in found)


def why_not_on(
    request: Request,
    supply: Supply,
    nodes: Nodes,
    usage: Usage,
    profile: TopologyProfile = TopologyProfile.BEST_FIT,
) -> Rejection:
    """Why `best_on` found nothing: the quota, or else the room."""
    spec, gang = request.spec, request.gang
    for sku, needed in gang.least_by_sku(supply.sku).items():
        if (no_quota := usage.refusal(spec, sku, needed)) is not None:
            return no_quota
    return _too_dear(request, nodes, usage, profile) or _known_why_no_room(gang, nodes, profile)


def _known_why_no_room(gang: Gang, nodes: Nodes, profile: TopologyProfile) -> Rejection:
    """The same as `why_no_room`, remembered by the nodes: many ask for the same."""
    if not (parts := parts_of(nodes)):
        return why_no_room(gang, nodes, profile)
    remembered, key = parts[0].remembered, ("why no room", gang, profile, parts[1:])
    if (known := remembered.get(key)) is None:
        known = remembered[key] = why_no_room(gang, nodes, profile)
    rejection: Rejection = known
    return rejection


def _too_dear(request: Request, nodes: Nodes, usage: Usage, profile: TopologyProfile) -> Rejection | None:
    """The budget that does not pay for the place that there is, if there is one."""
    if not usage.tree.balances_of(request.spec.queue):
        return None
    layout = lay_out(request.gang.at_minimum(), nodes, profile)
    return usage.unpaid(request.spec, layout.milli, layout.hourly_cost) if layout is not None else None


def has_room(gang: Gang, nodes: Nodes, profile: TopologyProfile = TopologyProfile.BEST_FIT) -> bool:
    """Whether `lay_out` finds room; mostly known without laying the gang out."""
    if surely_too_small(gang, nodes):
        return False
    if not (parts := parts_of(nodes)):
        return _has_room(gang, nodes, profile)
    remembered, key = parts[0].remembered, ("has room", gang, profile, parts[1:])
    if (known := remembered.get(key)) is None:
        known = remembered[key] = _has_room(gang, nodes, profile)
    return bool(known)


def _has_room(gang: Gang, nodes: Nodes, profile: TopologyProfile) -> bool:
    known = sieve.has_room(gang, nodes, profile)
    return lay_out(gang, nodes, profile) is not None if known is None else known


def lay_out(gang: Gang, nodes: Nodes, profile: TopologyProfile = TopologyProfile.BEST_FIT) -> Layout | None:
    """Lay the gang out on nodes of one provider and region, or none when there is no room.

    The nodes are of one SKU, or of several where each group names its own.
    """
    if not (parts := parts_of(nodes)):
        return _laid_out(gang, nodes, profile)
    key = gang, profile, parts[1:]
    remembered = parts[0].remembered
    if key not in remembered:
        remembered[key] = _laid_out(gang, nodes, profile)
    layout: Layout | None = remembered[key]
    return layout


def _laid_out(gang: Gang, nodes: Nodes, profile: TopologyProfile) -> Layout | None:
    if (parts := parts_of(nodes)) and is_alone(gang, profile):
        return _on_one_node(gang.shapes[0], parts)
    if surely_too_small(gang, nodes):
        return None
    if (few := narrowed(gang, nodes, profile)) is None:
        return None
    units = gang.units(each_alone=profile.ranks_unconstrained)
    if len(units) == 1 and _goes_anywhere(units[0], profile):
        layout = fill(gang, few)
        if layout is not None or len(gang.shapes) == 1 or len(few) >= sieve.WORTH_SIFTING:
            return layout
    return _Site.of(few, profile).lay_out(gang)


def _on_one_node(shape: Shape, parts: Sequence[Stock]) -> Layout | None:
    """The only replica of a group where it goes, if any node has room."""
    if (spot := spot_for(shape, parts)) is None:
        return None
    entry = spot.entry
    left, replicas = assign(entry.room, shape, range(1), spot.device)
    share = NodeShare(entry.node.id, entry.room - left, tuple(replicas))
    return Layout((share,), True, (NodeRoom.of(entry.node, left),), spot.loss)


def _goes_anywhere(unit: Unit, profile: TopologyProfile) -> bool:
    """Whether the unit asks for no topology, and the profile has no rule for that."""
    return not asks_for_something(unit.topology) and not profile.ranks_unconstrained


def fill(gang: Gang, nodes: Nodes) -> Layout | None:
    """Place every group's minimum or nothing, then let each group grow toward its count while there is room.

    The gang asks for no topology.
    """
    few = None if surely_too_small(gang, nodes) else narrowed(gang, nodes, TopologyProfile.BEST_FIT)
    if few is None:
        return None
    draft = next((draft for order in _orders(gang.shapes, few) if (draft := _minimum(order, few)) is not None), None)
    if draft is None:
        return None
    wished = [(shape, shape.count - shape.minimum) for shape in gang.growing if shape.count > shape.minimum]
    grown = sum(draft.add(shape, extra) for shape, extra in wished)
    if draft.replicas < gang.fewest:
        return None
    return Layout(draft.shares(), grown == sum(extra for _, extra in wished), draft.left())


def _minimum(shapes: Iterable[Shape], nodes: Nodes) -> Draft | None:
    draft = Draft(nodes)
    return draft if all(draft.add(shape, shape.minimum) == shape.minimum for shape in shapes) else None


def _orders(shapes: Sequence[Shape], nodes: Nodes) -> Iterator[list[Shape]]:
    """The largest replicas first; where groups choose their nodes, then also those first that may use fewest."""
    by_size = sorted(shapes, key=lambda shape: (-shape.milli, -shape.cpu_milli, -shape.memory_mib, shape.name))
    yield by_size
    if len(shapes) > 1 and any(shape.terms.is_choosy for shape in shapes):
        yield sorted(by_size, key=lambda shape: len(accepted(shape, nodes)))


# Where a topology counts


@dataclass(frozen=True, slots=True)
class _Site:
    """Nodes to place units on, their topology levels, and how domains are chosen."""

    nodes: Nodes
    levels: tuple[str, ...]
    profile: TopologyProfile

    @classmethod
    def of(cls, nodes: Nodes, profile: TopologyProfile) -> "_Site":
        return cls(nodes, levels_of(entry.node for entry in nodes), profile)

    def lay_out(self, gang: Gang) -> Layout | None:
        """The whole gang, or its minimum with each group grown as far as it goes, one after the other."""
        draft = self.exactly(gang)
        if draft is not None:
            return Layout(draft.shares(), True, draft.left()) if draft.replicas >= gang.fewest else None
        if all(shape.count == shape.minimum for shape in gang.shapes):
            return None
        grown = replace(gang, shapes=tuple(replace(shape, count=shape.minimum) for shape in gang.shapes))
        draft = self.exactly(grown)
        for shape in gang.growing:
            if draft is not None:
                grown, draft = self._with_more(grown, draft, shape)
        if draft is None or draft.replicas < gang.fewest:
            return None
        return Layout(draft.shares(), False, draft.left())

    def _with_more(self, gang: Gang, draft: Draft, wanted: Shape) -> tuple[Gang, Draft]:
        """The gang with as many replicas of one group as can be placed beside the others, and the draft of that."""
        least, most = wanted.minimum, wanted.count
        while least < most:
            counts = {shape.name: shape.count for shape in gang.shapes}
            larger = gang.sized(counts | {wanted.name: (least + most + 1) // 2})
            if (found := self.exactly(larger)) is None:
                most = (least + most + 1) // 2 - 1
            else:
                gang, draft, least = larger, found, (least + most + 1) // 2
        return gang, draft

    def exactly(self, gang: Gang) -> Draft | None:
        """Every group at its count; units are tried as given, with the most demanding first, and on few nodes in every way."""
        units = gang.units(each_alone=self.profile.ranks_unconstrained)
        draft = self.with_units(units)
        if draft is None and len(units) > 1 and (harder := sorted(units, key=_demand)) != list(units):
            draft = self.with_units(harder)
        if draft is None and len(self.nodes) < sieve.WORTH_SIFTING:
            draft = tried(units, self.nodes, self._domains)
        return draft

    def with_units(self, units: Iterable[Unit]) -> Draft | None:
        """All units, one after the other, or none."""
        draft: Draft | None = Draft(self.nodes)
        for unit in units:
            if draft is None:
                return None
            draft = self.with_unit(unit, draft)
        return draft

    def with_unit(self, unit: Unit, draft: Draft) -> Draft | None:
        """The draft with every replica of the unit, or none where one of them has no room."""
        shapes = [shape for shape in unit.shapes if shape.count]
        if not shapes:
            return draft
        if _goes_anywhere(unit, self.profile):
            return _anywhere(shapes, draft)
        if self.profile is TopologyProfile.PACKED:
            packed = self._side_by_side(shapes, unit.topology, draft)
            if packed is not None:
                return packed
        if len(shapes) == 1:
            return self._in_tree(shapes[0], None, unit.topology, draft, draft.nodes)
        leader, workers = _leader_and_workers(shapes)
        if len(shapes) == 2 and leader.count == 1:
            return self._in_tree(workers, leader, unit.topology, draft, draft.nodes)
        return self._side_by_side(shapes, unit.topology, draft)

    def _in_tree(self, shape: Shape, leader: Shape | None, topology: Topology, draft: Draft, nodes: Nodes) -> Draft | None:
        ask = ask_for(shape, leader, topology, self.levels, self.profile)
        if ask is None:
            return None
        parts = self._parts(tree_of(ask, self.levels, nodes), shape.count)
        return None if parts is None else _with_parts(draft, ask, parts)

    def _parts(self, tree: Tree, count: int) -> list[Part] | None:
        """Parts for all replicas; the last slice may be smaller than the others."""
        missing = -count % tree.ask.slice_size
        evenly = self.profile is TopologyProfile.BALANCED and not tree.ask.is_spread
        parts = balanced(tree, count + missing) if evenly else None
        parts = parts or best_fit(tree, count + missing)
        return parts and _without_last(sorted(parts, key=lambda part: part.domain.path), missing)

    def _side_by_side(self, shapes: Sequence[Shape], topology: Topology, draft: Draft) -> Draft | None:
        """Several groups in one domain: the narrowest level at which one takes them all, there the one with least room.

        Where only a preference speaks, they may spread over all nodes in the end.
        """
        found = (self._in_domain(shapes, topology, draft, nodes) for nodes in self._domains(topology, draft.nodes))
        return next((placed for placed in found if placed is not None), None)

    def _domains(self, topology: Topology, nodes: Nodes) -> Iterator[Nodes]:
        """Where groups may sit together, the best first: where only a preference speaks, anywhere in the end.

        There is no such place where the required level is unknown, or slices are wider than it.
        """
        known = {name: level for level, name in enumerate(self.levels)}
        if topology.required is not None:
            if topology.required not in known or known.get(topology.slice_level or NODE_LEVEL, -1) < known[topology.required]:
                return
            nodes = tuple(entry for entry in nodes if entry.node.domain(topology.required) is not None)
        widest = 0 if topology.required is None else known[topology.required]
        first = max(known.get(topology.preferred or "", widest), widest)
        searched = range(first, widest - 1, -1) if topology.required or topology.preferred else range(0)
        for level in searched:
            yield from self._in_order(nodes, self.levels[level])
        if not topology.required:
            yield nodes

    def _in_order(self, nodes: Nodes, level: str) -> list[Nodes]:
        """The domains of a level, the fullest first: of all, or (packed) within the fullest branch of each wider level."""
        found = domains(nodes, level)
        if self.profile is not TopologyProfile.PACKED:
            return sorted(found, key=_free_milli)
        free = _free_by_branch(nodes, level)
        return sorted(found, key=lambda inside: free[inside[0].node.domain(level) or ()])

    def _offered(self, nodes: Nodes, topology: Topology) -> Nodes:
        """Nodes in the order in which a domain is filled: packed over several preferred domains the emptiest of these first."""
        if self.profile is not TopologyProfile.PACKED or topology.preferred not in self.levels:
            return nodes
        ranks = {
            entry.node.id: -rank for rank, found in enumerate(self._in_order(nodes, topology.preferred)) for entry in found
        }
        return tuple(sorted(nodes, key=lambda entry: ranks.get(entry.node.id, 1)))

    def _in_domain(self, shapes: Sequence[Shape], topology: Topology, draft: Draft, nodes: Nodes) -> Draft | None:
        found = (self._filled(order, topology, draft, nodes) for order in _orders(shapes, nodes))
        return next((trial for trial in found if trial is not None), None)

    def _filled(self, shapes: Sequence[Shape], topology: Topology, draft: Draft, nodes: Nodes) -> Draft | None:
        within = frozenset(entry.node.id for entry in nodes)
        trial: Draft | None = draft.copy()
        for shape in shapes:
            if trial is None:
                return None
            own = _within_domain(shape, shape.terms.topology or topology)
            inside = self._offered(tuple(entry for entry in trial.nodes if entry.node.id in within), topology)
            if own != NO_TOPOLOGY:
                trial = self._in_tree(shape, None, own, trial, inside)
            elif trial.add(shape, shape.count, inside) < shape.count:
                return None
        return trial


def _within_domain(shape: Shape, topology: Topology) -> Topology:
    """What is left to ask of a group whose domain is settled."""
    spread = spread_of(topology, shape)
    return Topology(slice_level=topology.slice_level, slice_size=topology.slice_size, spread=spread)


def _demand(unit: Unit) -> tuple[bool, bool, Amount]:
    """What must be in one domain goes first, then what should be, and the largest of these."""
    return unit.topology.required is None, unit.topology == NO_TOPOLOGY, -sum(s.count * s.milli for s in unit.shapes)


def _anywhere(shapes: Sequence[Shape], draft: Draft) -> Draft | None:
    for order in _orders(shapes, draft.nodes):
        trial = draft.copy()
        if all(trial.add(shape, shape.count) == shape.count for shape in order):
            return trial
    return None


def _leader_and_workers(shapes: Sequence[Shape]) -> tuple[Shape, Shape]:
    """Of two groups the second leads, unless it is the larger one (as in Kueue)."""
    workers, leader = shapes[0], shapes[1]
    return (workers, leader) if leader.count > workers.count else (leader, workers)


def _with_parts(draft: Draft, ask: Ask, parts: Iterable[Part]) -> Draft | None:
    """The draft with these parts, the leader before the others on its node."""
    trial = draft.copy()
    for part in parts:
        entry = part.domain.entry
        if entry is None or (part.leads and ask.leader is not None and trial.add_to(entry, ask.leader, 1) < 1):
            return None
        if trial.add_to(entry, ask.shape, part.replicas) < part.replicas:
            return None
    return trial


def _without_last(parts: list[Part], surplus: int) -> list[Part]:
    """The parts without so many of the last replicas."""
    kept = []
    for part in reversed(parts):
        less = min(surplus, part.replicas)
        surplus -= less
        kept.append(part._replace(replicas=part.replicas - less))
    return kept[::-1]


def domains(nodes: Nodes, level: str) -> tuple[Nodes, ...]:
    """The nodes by their topology domain at a level; nodes without that level are left out."""
    by_path: dict[tuple[str, ...], list[NodeRoom]] = {}
    for entry in nodes:
        if (path := entry.node.domain(level)) is not None:
            by_path.setdefault(path, []).append(entry)
    return tuple(tuple(by_path[path]) for path in sorted(by_path))


def _free_by_branch(nodes: Nodes, level: str) -> dict[tuple[str, ...], tuple[tuple[Amount, str], ...]]:
    """For each domain of a level what is free in it and in those that it lies in, the widest first."""
    free: dict[tuple[str, ...], Amount] = {}
    for entry in nodes:
        path = entry.node.domain(level) or ()
        for depth in range(1, len(path) + 1):
            free[path[:depth]] = free.get(path[:depth], 0) + entry.milli
    return {path: tuple((free[path[:depth]], path[depth - 1]) for depth in range(1, len(path) + 1)) for path in free}


def _free_milli(nodes: Nodes) -> Amount:
    return sum(entry.milli for entry in nodes)


# Why not


def why_no_room(gang: Gang, nodes: Nodes, profile: TopologyProfile = TopologyProfile.BEST_FIT) -> Rejection:
    """The first thing that is short for the gang's minimum.

    That is nodes that a group may use, devices, cpu and memory, replicas that nodes take, and then room in one topology
    domain. Needs and has are thousandths of an accelerator (for a gang of one replica: on one node), or replicas.
    """
    least, replicas, roomy = anywhere(gang), gang.minimum_replicas, without_limits(nodes)
    if (no_devices := why_no_devices(devices_alone(gang), roomy)) is not None:
        return no_devices
    if not has_room(least, roomy):
        return Rejection("", Reason.NOT_ENOUGH_FREE_CPU_OR_MEMORY, replicas, _most_replicas(least, roomy))
    if not has_room(least, nodes):
        return Rejection("", Reason.NODES_TAKE_NO_MORE_REPLICAS, replicas, _most_replicas(least, nodes))
    return _too_narrow(gang.at_minimum(), _Site.of(with_room(gang.shapes, nodes), profile))


def why_no_devices(gang: Gang, nodes: Nodes) -> Rejection | None:
    """The same of a gang that needs nothing but devices, on nodes that take any number of replicas; none where it has room."""
    for shape in gang.shapes:
        if shape.count and not accepted(shape, nodes):
            return Rejection("", Reason.NODE_NOT_SELECTED, shape.count, 0, shape.name)
    return _known_too_few_devices(gang, nodes)


def _known_too_few_devices(gang: Gang, nodes: Nodes) -> Rejection | None:
    """What is short for a gang that needs nothing but devices, remembered by the nodes; none where nothing is."""
    if has_room(gang, nodes):
        return None
    if not (parts := parts_of(nodes)):
        return _too_few_devices(gang, nodes)
    remembered, key = parts[0].remembered, ("too few devices", gang, parts[1:])
    if (known := remembered.get(key)) is None:
        known = remembered[key] = _too_few_devices(gang, nodes)
    rejection: Rejection = known
    return rejection


def _too_few_devices(gang: Gang, nodes: Nodes) -> Rejection:
    alone = next((shape for shape in gang.shapes if shape.count), None) if gang.is_single else None
    has = most_on_one(accepted(alone, nodes)) if alone else sum(number * shape.milli for shape, number in _partly(gang, nodes))
    return Rejection("", Reason.NOT_ENOUGH_FREE_ACCELERATORS, gang.minimum_milli, has)


def _too_narrow(gang: Gang, site: _Site) -> Rejection:
    """The first unit that has no room in its domain beside those before it, and how much of it has."""
    draft = Draft(site.nodes)
    units = gang.units(each_alone=site.profile.ranks_unconstrained)
    for unit in units:
        after = site.with_unit(unit, draft)
        if after is None:
            break
        draft = after
    topology, group = unit.topology, unit.shapes[0].name if len(units) > 1 else ""
    if topology.spread and site.with_unit(_close_together(unit), draft) is not None:
        needs, has = _replicas_of(unit, draft, site)
        return Rejection(topology.spread.level, Reason.TOO_FEW_DOMAINS, needs, has, group)
    level = topology.slice_level or "" if topology.required is None else topology.required
    if told_in_replicas(unit.shapes):
        needs, has = _replicas_of(unit, draft, site)
    else:
        needs, has = sum(shape.count * shape.milli for shape in unit.shapes), _most_of(unit, draft, site)
    return Rejection(level, Reason.TOPOLOGY_DOMAIN_TOO_SMALL, needs, has, group)


def _most_of(unit: Unit, draft: Draft, site: _Site) -> Amount:
    """The most thousandths of a unit for which there is room in one of its domains, with all groups cut alike."""
    return sum(shape.count * shape.milli for shape in _fitting(unit, draft, site).shapes)


def _fitting(unit: Unit, draft: Draft, site: _Site) -> Unit:
    """As much of a unit as has room, with all groups cut alike."""
    most = max(shape.count for shape in unit.shapes)

    def cut(number: int) -> Unit:
        return replace(unit, shapes=tuple(replace(shape, count=min(shape.count, number)) for shape in unit.shapes))

    return cut(bisect_left(range(1, most + 1), True, key=lambda number: site.with_unit(cut(number), draft) is None))


def _close_together(unit: Unit) -> Unit:
    return replace(unit, topology=unit.topology.model_copy(update={"spread": None}))


def _replicas_of(unit: Unit, draft: Draft, site: _Site) -> tuple[int, int]:
    """How many replicas a unit has, and for how many of them there is room as it asks for it."""
    fitting = _fitting(unit, draft, site)
    return sum(shape.count for shape in unit.shapes), sum(shape.count for shape in fitting.shapes)


def without_limits(nodes: Nodes) -> Nodes:
    """The nodes as if each took any number of replicas."""
    parts = parts_of(nodes)
    if parts and not any(part.limits_replicas for part in parts):
        return nodes
    return tuple(
        entry if entry.node.maximum_replicas is None else replace(entry, room=replace(entry.room, replicas=UNLIMITED_REPLICAS))
        for entry in nodes
    )


def most_on_one(nodes: Nodes) -> Amount:
    """The most thousandths in whole devices that one of the nodes has free."""
    parts = parts_of(nodes)
    most = (int(part.whole.max()) for part in parts) if parts else (entry.whole for entry in nodes)
    return max(most, default=0) * WHOLE


def _most_replicas(gang: Gang, nodes: Nodes) -> int:
    return sum(number for _, number in _partly(gang, nodes))


def _partly(gang: Gang, nodes: Nodes) -> list[tuple[Shape, int]]:
    """How many of each group's fewest replicas find room when the gang need not be whole."""
    draft = Draft(with_room(gang.shapes, nodes))
    return [(shape, draft.add(shape, shape.count)) for shape in sorted(gang.shapes, key=lambda shape: -shape.milli)]
