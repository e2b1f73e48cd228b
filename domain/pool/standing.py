"""Standing: how work ranks beside other work of its own queue, whether it waits or runs."""

from collections.abc import Iterable

from corral.api import SlaTier
from corral.policy import AttainedStep

TIERS = (SlaTier.PREMIUM, SlaTier.STANDARD, SlaTier.BASIC)
"""From the strongest promise to the weakest."""

Standing = tuple[int, int]
"""Tier and priority as numbers of which the higher ranks first; a tier outweighs every priority."""


LOWEST_PRIORITY, HIGHEST_PRIORITY = -1_000, 1_000
"""Between which priorities are set, and below which none falls."""


def standing(tier: SlaTier, priority: int) -> Standing:
    """The standing of work with this tier and priority."""
    return -TIERS.index(tier), priority


def fall_after(seconds: float, steps: Iterable[AttainedStep]) -> int:
    """By how much the priority of work is lowered that has run for so many seconds."""
    return sum(step.lowers_priority_by for step in steps if step.after_seconds <= seconds)


def lowered(priority: int, fall: int) -> int:
    """What a priority counts as that has fallen by so much; the lowest stays what it is."""
    return max(LOWEST_PRIORITY, priority - fall) if fall else priority
