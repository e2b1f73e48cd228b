"""Soft goals: what one placement is worth against another, in one currency."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction

from corral.api import HOUR_SECONDS, WHOLE, WorkloadTerms
from corral.policy import Dollars, Goal, Goals, Hazard, Preference
from domain.placement.layout import Candidate
from domain.placement.liking import Place, on_the_liked
from domain.pool.data import Haul, haul
from domain.pool.fleet import Node
from domain.pool.workload import length_of
from domain.worlds.request import Gang, Request
from domain.worlds.world import Traits, World

Score = int
"""Millionths of a dollar per accelerator and hour; less is better."""

MILLION = 1_000_000

Term = Callable[[Candidate, World], Score]


def millionths(dollars: Dollars) -> Score:
    """Dollars of the policy as a score."""
    return round(dollars * 1_000_000)


def price(candidate: Candidate, world: World) -> Score:
    """The mean price of an accelerator of the placement, by its weight and within its limit."""
    goals, layout = world.policy.goals, candidate.layout
    mean = layout.hourly_cost // layout.milli if layout.milli else 0
    weighed = mean if goals.price_weight == 1 else int(mean * Fraction(goals.price_weight))
    return min(weighed, millionths(goals.price_limit))


def waste(candidate: Candidate, world: World) -> Score:
    """Room left on the nodes that the gang breaks: the tightest fit keeps other nodes whole."""
    left = candidate.layout.left
    if candidate.layout.loss is not None:
        return 0
    total = sum([entry.node.total.milli for entry in left])
    return millionths(world.policy.goals.waste) * sum([entry.milli for entry in left]) // total if total else 0


def fragmentation(candidate: Candidate, world: World) -> Score:
    """Room that the known demand loses by a single replica, where that was looked at: instead of waste."""
    if (loss := candidate.layout.loss) is None:
        return 0
    return millionths(world.policy.goals.fragmentation) * loss // 50


def shortfall(candidate: Candidate, world: World) -> Score:
    """Replicas that were wanted and found no room or quota."""
    count = sum(shape.count for shape in candidate.wanted.shapes)
    return millionths(world.policy.goals.shortfall) * (count - candidate.layout.replicas) // count if count else 0


def preferences(candidate: Candidate, world: World) -> Score:
    """What preferences are worth on the accelerators that they favour, within their limit; never above zero."""
    layout, selecting = candidate.layout, _selecting(candidate.spec, world)
    limit = millionths(world.policy.goals.preference_limit)
    if not selecting:
        return 0
    worth = sum(
        share.room.milli * sum(millionths(each.worth) for each in selecting if _favours(each, world.homes[share.node_id]))
        for share in layout.shares
    )
    return -min(worth // layout.milli, limit) if layout.milli else 0


def egress(candidate: Candidate, world: World) -> Score:
    """What it costs to bring in the data that the region lacks, over the accelerator-hours that the work has ahead."""
    if not candidate.spec.datasets:
        return 0
    cost = _brought_in(candidate, world).millionths
    return _counted(_over_its_hours(cost, candidate, world), world.policy.goals.egress)


def staging(candidate: Candidate, world: World) -> Score:
    """What the accelerators cost while they wait for these data, over the same accelerator-hours."""
    if not candidate.spec.datasets:
        return 0
    cost = _brought_in(candidate, world).seconds * candidate.layout.hourly_cost / (WHOLE * HOUR_SECONDS)
    return _counted(_over_its_hours(cost, candidate, world), world.policy.goals.staging)


def _brought_in(candidate: Candidate, world: World) -> Haul:
    return haul(candidate.spec.datasets, candidate.placement.region, world.datasets, world.policy.goals.transfers)


def _over_its_hours(cost: Fraction, candidate: Candidate, world: World) -> Fraction:
    """A cost shared among the accelerator-hours that the placement computes while the work runs; nothing where it has none."""
    milli = candidate.layout.milli if cost else 0
    return cost * WHOLE * HOUR_SECONDS / (milli * _length(candidate.spec, world.policy.goals)) if milli else Fraction(0)


def hazard(candidate: Candidate, world: World) -> Score:
    """Interruptions an hour, times the hours that each one costs every accelerator, times what these cost."""
    goals, layout = world.policy.goals, candidate.layout
    at_risk = sum(
        rate * share.room.milli * entry.node.price
        for share, entry in zip(layout.shares, layout.left, strict=True)
        if (rate := _interruptions(entry.node, goals.hazard))
    )
    if not at_risk:
        return 0
    cost = Fraction(at_risk * _interruption_seconds(candidate.spec, world), HOUR_SECONDS * layout.milli)
    return _counted(cost, goals.hazard)


def _interruptions(node: Node, hazard: Hazard) -> Fraction | int:
    """How many a node has in an hour: what its provider says of it, or else the policy of its capacity type."""
    if node.interruptions is not None:
        return Fraction(node.interruptions, MILLION)
    rate = hazard.interruptions_per_hour.get(node.capacity_type, 0)
    return Fraction(rate) if rate else 0


def _interruption_seconds(spec: WorkloadTerms, world: World) -> int:
    """What an interruption costs a workload: work that is not saved, notice, waiting for another place, coming back."""
    goals, rank = world.policy.goals, world.policy.rank
    lost = min(goals.hazard.lost_seconds, _length(spec, goals) // 2)
    return lost + spec.checkpoint.grace_seconds + rank.requeue_seconds + rank.restart_seconds


def affinity(candidate: Candidate, world: World) -> Score:
    """What its nodes are worth to the replica groups that like or dislike some."""
    layout = candidate.layout
    shapes = {shape.name: shape for shape in candidate.wanted.shapes if shape.terms.affinities}
    if not (shapes and layout.milli):
        return 0
    worth = sum(
        shapes[replica.group].milli * shapes[replica.group].terms.worth(entry.node)
        for share, entry in zip(layout.shares, layout.left, strict=True)
        for replica in share.replicas
        if replica.group in shapes
    )
    return -_counted(Fraction(worth, layout.milli), world.policy.goals.affinity)


def spread(candidate: Candidate, world: World) -> Score:
    """What it costs that more replicas of a group sit in one domain than it would like."""
    layout, spec = candidate.layout, candidate.spec
    liked = {group.name: (group.topology or spec.topology).spread for group in spec.groups}
    cost = 0
    for shape in candidate.wanted.shapes:
        wish = liked[shape.name]
        if wish is not None and wish.worth is not None and layout.milli:
            beyond = sum(max(0, number - wish.maximum) for number in _by_domain(candidate, shape.name, wish.level).values())
            cost += beyond * shape.milli * millionths(wish.worth)
    return _counted(Fraction(cost, layout.milli), world.policy.goals.spread) if cost else 0


def _by_domain(candidate: Candidate, group: str, level: str) -> Counter[tuple[str, ...]]:
    """Replicas of a group in each domain; a node that does not say its domain is one of its own."""
    layout = candidate.layout
    return Counter(
        entry.node.domain(level) or entry.node.path
        for share, entry in zip(layout.shares, layout.left, strict=True)
        for replica in share.replicas
        if replica.group == group
    )


def _length(spec: WorkloadTerms, goals: Goals) -> int:
    """Seconds that the work is taken to run, one at least."""
    said = length_of(spec)
    return max(1, goals.expected_seconds if said is None else said)


def _counts(goal: Goal) -> bool:
    return goal.weight > 0 and goal.limit > 0


def variants(request: Request, world: World) -> Iterator[Request]:
    """The request, and where it would like a spread that it does not demand, besides as if it demanded it."""
    yield request
    if request.would_spread and _counts(world.policy.goals.spread):
        yield request.insisting()


def _counted(score: Fraction, goal: Goal) -> Score:
    """A term by its weight and within its limit, whichever way it goes."""
    if not score:
        return 0
    limit = millionths(goal.limit)
    return max(-limit, min(int(score * Fraction(goal.weight)), limit))


TERMS: Mapping[str, Term] = {
    "price": price,
    "waste": waste,
    "fragmentation": fragmentation,
    "shortfall": shortfall,
    "preferences": preferences,
    "egress": egress,
    "staging": staging,
    "hazard": hazard,
    "affinity": affinity,
    "spread": spread,
}
"""All terms, by the names under which explanations show them."""


def weighed(candidate: Candidate, world: World) -> tuple[tuple[str, Score], ...]:
    """What every term says about a candidate."""
    return tuple([(name, term(candidate, world)) for name, term in TERMS.items()])


def cost_on(spec: WorkloadTerms, node: Node, world: World) -> Score:
    """What an accelerator of this very node counts: its price and the preferences, each within its limit."""
    goals, home = world.policy.goals, world.homes[node.id]
    worth = sum(millionths(each.worth) for each in _selecting(spec, world) if _favours(each, home))
    dear = min(int(node.price * Fraction(goals.price_weight)), millionths(goals.price_limit))
    return dear - min(worth, millionths(goals.preference_limit))


Choice = tuple[Score, str, str, str]


def choice(candidate: Candidate, world: World) -> Choice:
    """What a choice among candidates of one rank is made by: the sum of all terms, then names."""
    placement = candidate.placement
    score = sum([term(candidate, world) for term in TERMS.values()])
    return score, placement.provider, placement.region, placement.sku


def options(spec: WorkloadTerms, gang: Gang, classes: Sequence[Traits], world: World, place: Place) -> Iterator[Candidate]:
    """The places in one supply that compete: on all of its nodes, and on those alone that somebody would rather have.

    That is those that a preference of the policy favours, those that nothing interrupts, and those that the groups like.
    """
    nodes = world.nodes(classes)
    everywhere = place(nodes)
    if everywhere is None:
        return
    yield everywhere
    for favoured in _favoured(spec, classes, world) if len(classes) > 1 else ():
        if len(favoured) < len(classes) and (found := place(world.nodes(favoured))) is not None:
            yield found
    if _counts(world.policy.goals.affinity) and any(shape.terms.affinities for shape in gang.shapes):
        yield from on_the_liked(gang, nodes, everywhere.layout.replicas, world, place)


def _favoured(spec: WorkloadTerms, classes: Sequence[Traits], world: World) -> Iterator[list[Traits]]:
    """The classes that each preference favours, and those that are at no risk; nothing where none are."""
    hazard = world.policy.goals.hazard
    at_risk = {kind for kind, rate in hazard.interruptions_per_hour.items() if rate and _counts(hazard)}
    every = [[traits for traits in classes if _favours(each, traits)] for each in _selecting(spec, world)]
    every.append([traits for traits in classes if traits.capacity_type not in at_risk])
    yield from filter(None, every)


def _selecting(spec: WorkloadTerms, world: World) -> list[Preference]:
    """The preferences that speak about the workload."""
    if not world.policy.goals.preferences:
        return []
    above = world.usage.tree.paths.get(spec.queue, (spec.queue,))
    return [
        preference
        for preference in world.policy.goals.preferences
        if (preference.queues is None or not set(above).isdisjoint(preference.queues))
        and (preference.tiers is None or spec.tier in preference.tiers)
    ]


def _favours(preference: Preference, traits: Traits) -> bool:
    provider, region, sku = traits.supply
    wanted = (
        (preference.skus, sku),
        (preference.regions, region),
        (preference.providers, provider),
        (preference.capacity_types, traits.capacity_type),
    )
    return all(names is None or value in names for names, value in wanted)
