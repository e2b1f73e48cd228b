"""Soft goals: what one placement is worth against another, in one currency."""

from collections.abc import Callable

from domain.placement import Candidate

Score = int
"""Millionths of a dollar per accelerator and hour; less is better."""

WASTE_WEIGHT: Score = 10_000
"""What a node left wholly free costs: a cent, so that it decides between equal prices and hardly ever more."""

SHORTFALL_WEIGHT: Score = 1_000_000
"""What it costs to run none of the replicas beyond the minimum, compared with all that were wanted."""


def price(candidate: Candidate) -> Score:
    """The mean price of an accelerator of the placement."""
    layout = candidate.layout
    cost = sum(share.room.milli * entry.node.price for share, entry in zip(layout.shares, layout.left, strict=True))
    return cost // layout.milli if layout.milli else 0


def waste(candidate: Candidate) -> Score:
    """Room left on the nodes that the gang breaks: the tightest fit keeps other nodes whole."""
    left = candidate.layout.left
    total = sum(entry.node.total.milli for entry in left)
    return WASTE_WEIGHT * sum(entry.room.milli for entry in left) // total if total else 0


def shortfall(candidate: Candidate) -> Score:
    """Replicas that were wanted and found no room or quota."""
    count = sum(shape.count for shape in candidate.wanted.shapes)
    return SHORTFALL_WEIGHT * (count - candidate.layout.replicas) // count if count else 0


TERMS: tuple[Callable[[Candidate], Score], ...] = (price, waste, shortfall)


def score(candidate: Candidate) -> Score:
    """The sum of all terms."""
    return sum(term(candidate) for term in TERMS)


Preference = tuple[Score, str, str, str]


def preference(candidate: Candidate) -> Preference:
    """What a choice among candidates of one rank is made by: the score, then names."""
    placement = candidate.placement
    return score(candidate), placement.provider, placement.region, placement.sku
