"""Soft goals: what one placement is worth against another, in one currency."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction

from corral.api import WorkloadSpec
from corral.policy import Dollars, Preference
from domain.fleet import Node
from domain.placement import Candidate
from domain.world import Supply, Traits, World

Score = int
"""Millionths of a dollar per accelerator and hour; less is better."""

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
    total = sum(entry.node.total.milli for entry in left)
    return millionths(world.policy.goals.waste) * sum(entry.room.milli for entry in left) // total if total else 0


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


TERMS: Mapping[str, Term] = {"price": price, "waste": waste, "shortfall": shortfall, "preferences": preferences}
"""All terms, by the names under which explanations show them."""


def weighed(candidate: Candidate, world: World) -> tuple[tuple[str, Score], ...]:
    """What every term says about a candidate."""
    return tuple((name, term(candidate, world)) for name, term in TERMS.items())


def cost_on(spec: WorkloadSpec, node: Node, world: World) -> Score:
    """What an accelerator of this very node counts: its price and the preferences, each within its limit."""
    goals, home = world.policy.goals, world.homes[node.id]
    worth = sum(millionths(each.worth) for each in _selecting(spec, world) if _favours(each, home))
    dear = min(int(node.price * Fraction(goals.price_weight)), millionths(goals.price_limit))
    return dear - min(worth, millionths(goals.preference_limit))


Choice = tuple[Score, str, str, str]


def choice(candidate: Candidate, world: World) -> Choice:
    """What a choice among candidates of one rank is made by: the sum of all terms, then names."""
    placement = candidate.placement
    return sum(score for _, score in weighed(candidate, world)), placement.provider, placement.region, placement.sku


def options(
    spec: WorkloadSpec, classes: Mapping[Supply, Sequence[Traits]], world: World
) -> Iterator[tuple[Supply, Sequence[Traits]]]:
    """Every supply with all of its nodes, and besides with those alone that a preference favours among them."""
    selecting = _selecting(spec, world)
    for supply, every in classes.items():
        yield supply, every
        for preference in selecting:
            favoured = [traits for traits in every if _favours(preference, traits)]
            if favoured and len(favoured) < len(every):
                yield supply, favoured


def _selecting(spec: WorkloadSpec, world: World) -> list[Preference]:
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
