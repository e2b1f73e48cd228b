"""Topology: which domains of the node tree a group of replicas takes. The rules are those of Kueue's topology-aware scheduling.

Capacities are counted bottom-up, the level and the domains are chosen, and the replicas are handed down level by level
(Kueue, pkg/cache/scheduler/tas_flavor_snapshot.go). Numbers are replicas of the group, or slices of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from corral.api import Spread, Topology
from corral.policy import TopologyProfile
from domain.placement.draft import assign, capacity
from domain.pool.fleet import NODE_LEVEL, UNLIMITED_REPLICAS, Node
from domain.pool.stock import NodeRoom
from domain.worlds.request import NO_TERMS, Shape
from domain.worlds.world import Nodes

UNNAMED = "\0"
"""What the domain of a level that a node lacks is called by, before the name of the next narrower one: no name has it."""


class Fit(NamedTuple):
    """What a domain takes: replicas and whole slices of the group, and how many of them when the leader is there too."""

    replicas: int
    slices: int
    led_replicas: int
    led_slices: int
    takes_leader: bool

    def number(self, *, led: bool, by_slice: bool) -> int:
        """Slices or replicas, with the leader or without."""
        if by_slice:
            return self.led_slices if led else self.slices
        return self.led_replicas if led else self.replicas


NO_FIT = Fit(0, 0, 0, 0, takes_leader=False)


class Domain(NamedTuple):
    """One domain of the tree with what fits in it; a node is a domain without children."""

    path: tuple[str, ...]
    fit: Fit
    children: tuple["Domain", ...]
    entry: NodeRoom | None

    @property
    def price(self) -> int:
        """Among equals the cheaper node is taken."""
        return 0 if self.entry is None else self.entry.node.price


class Part(NamedTuple):
    """Replicas of the group in one domain, and whether the leader sits there too."""

    domain: Domain
    replicas: int
    leads: bool


@dataclass(frozen=True, slots=True)
class Ask:
    """One group and perhaps its leader (one replica of another group that must be near), and how they must or should sit.

    Levels are counted from the widest. The search begins at level `first`; it widens up to `widest`, where a single domain
    must be enough if `in_one`. `slice_size` replicas each stay in one domain of `slice_level`. No domain of `spread_level`
    takes more than `spread_maximum` of the group.
    """

    shape: Shape
    leader: Shape | None
    first: int
    widest: int
    in_one: bool
    unconstrained: bool
    slice_level: int
    slice_size: int
    sliced: bool
    profile: TopologyProfile
    spread_level: int | None = None
    spread_maximum: int = UNLIMITED_REPLICAS

    @property
    def is_spread(self) -> bool:
        """Whether there is a level of which no domain takes all that has room in it."""
        return self.spread_level is not None

    @property
    def pooled_level(self) -> int:
        """Down to which level the domains below several others are filled in one go; from there on each keeps its share."""
        return self.slice_level if self.spread_level is None else min(self.slice_level, self.spread_level)

    def capped(self, level: int, fit: Fit) -> Fit:
        """What a domain of this level takes, once it takes no more than the spread allows."""
        if level != self.spread_level or fit.replicas <= self.spread_maximum:
            return fit
        most, slices = self.spread_maximum, self.spread_maximum // self.slice_size
        return Fit(most, min(fit.slices, slices), min(fit.led_replicas, most), min(fit.led_slices, slices), fit.takes_leader)

    @property
    def least_free(self) -> bool:
        """Whether the fullest domains are taken first, rather than those that need fewest of them."""
        return self.unconstrained and self.profile.ranks_unconstrained


@dataclass(frozen=True, slots=True)
class Tree:
    """All domains by level, the widest level first and nodes last, with what each takes of one ask."""

    ask: Ask
    levels: tuple[tuple[Domain, ...], ...]

    @property
    def narrowest(self) -> int:
        """The level of the nodes."""
        return len(self.levels) - 1


def levels_of(nodes: Iterable[Node]) -> tuple[str, ...]:
    """The names of all topology levels of the nodes, widest first; nodes themselves are the last."""
    chains = sorted({node.levels for node in nodes}, key=lambda names: (-len(names), names))
    merged: list[str] = []
    for chain in chains:
        at = 0
        for name in chain:
            if name not in merged:
                merged.insert(at, name)
            at = merged.index(name) + 1
    return (*merged, NODE_LEVEL)


def ask_for(
    shape: Shape, leader: Shape | None, topology: Topology, levels: Sequence[str], profile: TopologyProfile
) -> Ask | None:
    """The ask in terms of these levels, or none where no domain can answer it.

    That is so where it requires a level that there is not, slices that are wider than itself, or a spread within one domain.

    A preferred level that there is not is no preference. Without any level the group is unconstrained: it then begins at the
    narrowest named level, or at the widest if it asks for slices (as Kueue does).
    """
    lowest = max(0, len(levels) - 2)
    known = {name: index for index, name in enumerate(levels)}
    required, slices, spread = topology.required, topology.slice_level, spread_of(topology, shape)
    if any(level is not None and level not in known for level in (required, slices, spread and spread.level)):
        return None
    spread_level = None if spread is None else known[spread.level]
    preferred = known.get(topology.preferred or "")
    balances = profile is TopologyProfile.BALANCED and preferred is not None and required is None
    slice_level = known[slices] if slices is not None else len(levels) - 1 if balances else lowest
    unconstrained = required is None and preferred is None
    widest = 0 if required is None else known[required]
    first = max(preferred or 0, widest)
    if unconstrained:
        first = widest = 0 if slices is not None else lowest
    if slices is None:
        slice_level = max(slice_level, first)
    elif widest > slice_level:
        return None
    if spread_level is not None:
        if required is not None and widest >= spread_level:
            return None
        first, widest = min(first, spread_level), min(widest, spread_level)
    return Ask(
        shape=shape,
        leader=leader,
        first=min(first, slice_level),
        widest=widest,
        in_one=required is not None,
        unconstrained=unconstrained,
        slice_level=slice_level,
        slice_size=topology.slice_size or 1,
        sliced=slices is not None,
        profile=profile,
        spread_level=spread_level,
        spread_maximum=UNLIMITED_REPLICAS if spread is None else spread.maximum,
    )


def spread_of(topology: Topology, shape: Shape) -> Spread | None:
    """The spread that is asked of a group, or none where all of its replicas may be in one domain."""
    spread = topology.spread
    return None if spread is None or shape.count <= spread.maximum else spread


# What fits


def tree_of(ask: Ask, levels: Sequence[str], nodes: Nodes) -> Tree:
    """Count what every domain takes, from the nodes up. Nodes without a level that the ask depends on are left out."""
    by_level = [tuple(_leaves(ask, levels, nodes))]
    for level in range(len(levels) - 2, -1, -1):
        by_level.append(tuple(_parents(ask, level, by_level[-1])))
    return Tree(ask, tuple(reversed(by_level)))


def _leaves(ask: Ask, levels: Sequence[str], nodes: Nodes) -> Iterable[Domain]:
    named, by_slice = tuple(levels[:-1]), not ask.sliced or ask.slice_level == len(levels) - 1
    required = levels[ask.widest] if ask.in_one else NODE_LEVEL
    sliced = levels[ask.slice_level] if ask.sliced else NODE_LEVEL
    spread = NODE_LEVEL if ask.spread_level is None else levels[ask.spread_level]
    for entry in nodes:
        node = entry.node
        if not entry.whole and ask.shape.devices and ask.leader is None:
            continue
        path, fit = node.path, ask.capped(len(named), _fit_on(entry, ask, by_slice=by_slice))
        if node.levels != named:
            path = _filled_up(node, named)
            if node.domain(sliced) is None:
                fit = Fit(0, 0, 0, 0, fit.takes_leader)
            if node.domain(spread) is None:
                fit = Fit(0, 0, 0, 0, fit.takes_leader)
        if fit != NO_FIT and node.domain(required) is not None:
            yield Domain(path, fit, (), entry)


def _filled_up(node: Node, levels: Sequence[str]) -> tuple[str, ...]:
    """The node's path where it lacks levels that others have: there a domain holds its next narrower one, and nothing else."""
    known, path = dict(node.topology), [node.id]
    for name in reversed(levels):
        path.append(known.get(name) or f"{UNNAMED}{path[-1]}")
    return tuple(reversed(path))


def _fit_on(entry: NodeRoom, ask: Ask, *, by_slice: bool) -> Fit:
    shape, leader, size = ask.shape, ask.leader, ask.slice_size
    accepts = shape.terms is NO_TERMS or shape.terms.accept(entry.node)
    number = led = capacity(entry.room, shape, UNLIMITED_REPLICAS) if accepts else 0
    takes_leader = leader is not None and leader.terms.accept(entry.node) and capacity(entry.room, leader, 1) > 0
    if not number and not takes_leader:
        return NO_FIT
    if leader is not None and takes_leader and number:
        led = capacity(assign(entry.room, leader, range(1))[0], shape, UNLIMITED_REPLICAS)
    return Fit(number, number // size if by_slice else 0, led, led // size if by_slice else 0, takes_leader)


def _parents(ask: Ask, level: int, children: Iterable[Domain]) -> Iterable[Domain]:
    members: dict[tuple[str, ...], list[Domain]] = {}
    for child in children:
        members.setdefault(child.path[: level + 1], []).append(child)
    for path in sorted(members):
        yield Domain(path, ask.capped(level, summed(ask, level, members[path])), tuple(members[path]), None)


def summed(ask: Ask, level: int, children: Sequence[Domain]) -> Fit:
    """What a domain takes with these children. The leader sits where it costs the group least."""
    fits = [child.fit for child in children]
    replicas, slices = sum([fit.replicas for fit in fits]), sum([fit.slices for fit in fits])
    led_replicas, led_slices = replicas, slices
    hosts = [fit for fit in fits if fit.takes_leader]
    if ask.leader is not None:
        led_replicas -= min([fit.replicas - fit.led_replicas for fit in hosts], default=replicas)
        led_slices -= min([fit.slices - fit.led_slices for fit in hosts], default=slices)
    if ask.sliced and level == ask.slice_level:
        slices, led_slices = replicas // ask.slice_size, led_replicas // ask.slice_size
    return Fit(replicas, slices, led_replicas, led_slices, bool(hosts))


# Which domains


def choose(tree: Tree, count: int) -> tuple[int, list[Domain]] | None:
    """The level, and the domains of it that take `count` replicas and the leader: one if one is enough."""
    ask, slices = tree.ask, count // tree.ask.slice_size
    for level in range(ask.first, ask.widest - 1, -1):
        domains = sorted_with_leader(tree.levels[level], ask)
        if (single := _single(domains, slices, ask)) is not None:
            return level, [single]
    if ask.in_one:
        return None
    several = _several(sorted_with_leader(tree.levels[ask.widest], ask), count, ask)
    return None if several is None else (ask.widest, several)


def _single(domains: Sequence[Domain], slices: int, ask: Ask) -> Domain | None:
    led = ask.leader is not None
    fitting = [
        domain
        for domain in domains
        if (domain.fit.takes_leader or not led) and domain.fit.number(led=led, by_slice=True) >= slices
    ]
    if ask.least_free or not fitting:
        return fitting[0] if fitting else None
    return tightest(fitting, slices, led=led, by_slice=True)


def _several(domains: Sequence[Domain], count: int, ask: Ask) -> list[Domain] | None:
    """As few domains as take the replicas, the roomiest first and the last one as tight as can be."""
    parts = share_out(domains, count, ask, led=ask.leader is not None, size=ask.slice_size, by_slice=True, then_sorted=True)
    return None if parts is None else [part.domain for part in parts]


def sorted_domains(domains: Iterable[Domain], ask: Ask) -> list[Domain]:
    """The roomiest first, or the fullest first where the ask takes the least free ones; then by name."""
    sign = 1 if ask.least_free else -1
    return sorted(domains, key=lambda domain: (sign * domain.fit.slices, domain.fit.replicas, domain.price, domain.path))


def sorted_with_leader(domains: Iterable[Domain], ask: Ask) -> list[Domain]:
    """The same by what they take beside the leader; those that can take the leader come first."""
    sign = 1 if ask.least_free else -1
    return sorted(
        domains,
        key=lambda domain: (
            not domain.fit.takes_leader,
            sign * domain.fit.led_slices,
            domain.fit.led_replicas,
            domain.price,
            domain.path,
        ),
    )


def tightest(domains: Sequence[Domain], needed: int, *, led: bool, by_slice: bool) -> Domain:
    """The first domain of those with least left over; the first of all where none takes that much."""
    fitting = [
        domain
        for domain in domains
        if (domain.fit.takes_leader or not led) and domain.fit.number(led=led, by_slice=by_slice) >= needed
    ]
    return min(fitting, key=lambda domain: domain.fit.number(led=led, by_slice=by_slice), default=domains[0])


# How many in each


def share_out(
    domains: Sequence[Domain],
    count: int,
    ask: Ask,
    *,
    led: bool,
    size: int,
    by_slice: bool,
    then_sorted: bool = False,
) -> list[Part] | None:
    """Hand `count` replicas, and the leader first if it is still to be placed, to the domains in their order.

    The last domain is the tightest of those that take the rest. With `then_sorted`, those that come after the leader are
    sorted for the group alone. None where the domains do not take all of them.
    """
    left = count // size if by_slice else count
    waiting = leader_first(domains, left, by_slice=by_slice) if led else list(domains)
    parts: list[Part] = []
    while waiting:
        domain = waiting[0]
        number = domain.fit.number(led=led, by_slice=by_slice)
        if number >= left and (domain.fit.takes_leader or not led) and not ask.least_free:
            domain = tightest(waiting, left, led=led, by_slice=by_slice)
            number = domain.fit.number(led=led, by_slice=by_slice)
        taken = min(number, left)
        leads = led and domain.fit.takes_leader
        parts.append(Part(domain, taken * (size if by_slice else 1), leads))
        left -= taken
        if left == 0 and (leads or not led):
            return parts
        waiting = waiting[1:]
        if leads:
            led = False
            waiting = sorted_domains(waiting, ask) if then_sorted else waiting
    return None


def leader_first(domains: Sequence[Domain], needed: int, *, by_slice: bool) -> list[Domain]:
    """Put first the domain in which the leader leaves enough room for the group over all domains."""
    available = sum(domain.fit.number(led=False, by_slice=by_slice) for domain in domains)

    def leaves_enough(domain: Domain) -> bool:
        lost = domain.fit.number(led=False, by_slice=by_slice) - domain.fit.number(led=True, by_slice=by_slice)
        return domain.fit.takes_leader and available - lost >= needed

    first = next((domain for domain in domains if leaves_enough(domain)), None)
    return list(domains) if first is None else [first, *(domain for domain in domains if domain is not first)]


def hand_down(tree: Tree, level: int, parts: list[Part], *, balanced: bool = False) -> list[Part] | None:
    """From domains at one level to nodes.

    Above the level of slices (and of the spread) the domains below are filled in one go, so that few of them are used; from
    there on, and where the shares are balanced, each domain's share stays with it.
    """
    ask = tree.ask
    while level < ask.pooled_level and not balanced:
        below = sorted_domains((child for part in parts for child in part.domain.children), ask)
        count, led = sum(part.replicas for part in parts), any(part.leads for part in parts)
        lower = share_out(below, count, ask, led=led, size=ask.slice_size, by_slice=True)
        if lower is None:
            return None
        parts, level = lower, level + 1
    while level < tree.narrowest:
        size = ask.slice_size if level < ask.slice_level else 1
        shares = [_below(part, size, ask) for part in parts if part.replicas or part.leads]
        if any(share is None for share in shares):
            return None
        parts, level = [part for share in shares if share is not None for part in share], level + 1
    return [part for part in parts if part.replicas or part.leads]


def _below(part: Part, size: int, ask: Ask) -> list[Part] | None:
    children = sorted_domains(part.domain.children, ask)
    if size > 1 and not ask.is_spread:
        children = [_in_slices(child, size) for child in children]
    return share_out(children, part.replicas, ask, led=part.leads, size=size, by_slice=size > 1)


def _in_slices(domain: Domain, size: int) -> Domain:
    fit = domain.fit
    return domain._replace(fit=fit._replace(slices=fit.replicas // size, led_slices=fit.led_replicas // size))


def best_fit(tree: Tree, count: int) -> list[Part] | None:
    """How many replicas (and the leader, if any) go to which nodes, or none where they do not fit."""
    chosen = choose(tree, count)
    if chosen is None:
        return None
    level, domains = chosen
    ask = tree.ask
    parts = share_out(domains, count, ask, led=ask.leader is not None, size=ask.slice_size, by_slice=True)
    return None if parts is None else hand_down(tree, level, parts)
