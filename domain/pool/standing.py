"""Standing: how work ranks beside other work of its own queue, whether it waits or runs."""

from corral.api import SlaTier

TIERS = (SlaTier.PREMIUM, SlaTier.STANDARD, SlaTier.BASIC)
"""From the strongest promise to the weakest."""

Standing = tuple[int, int]
"""Tier and priority as numbers of which the higher ranks first; a tier outweighs every priority."""


def standing(tier: SlaTier, priority: int) -> Standing:
    """The standing of work with this tier and priority."""
    return -TIERS.index(tier), priority
