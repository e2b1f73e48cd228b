"""Outlines: what counts of a gang before anybody lays it out. Gangs that differ in nothing else have the same object."""

from dataclasses import dataclass, replace
from functools import lru_cache

from domain.pool.fleet import Amount
from domain.worlds.request import NO_TOPOLOGY, Gang

KNOWN = 65_536
"""Gangs of which it is remembered; with more than that those go first that nobody has asked about for longest."""


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """What a gang's minimum cannot do without, whatever its nodes; equal to itself alone, so that it is looked up at once.

    `whole` counts its wholly free devices. `sizes` has for each group the fewest replicas, and of one replica the thousandths
    of an accelerator and of a core. `level` is that of the domain which the only group must sit in, if it must.
    """

    whole: int
    sizes: tuple[tuple[int, Amount, int], ...]
    level: str | None


@lru_cache(maxsize=KNOWN)
def outline(gang: Gang) -> Outline:
    """The outline of a gang; its memory is no part of it."""
    sizes = tuple((shape.minimum, shape.milli, shape.cpu_milli) for shape in gang.shapes)
    is_one = len(gang.shapes) == 1 and gang.shapes[0].terms.topology is None
    return _outline(
        sum(shape.minimum * shape.devices for shape in gang.shapes), sizes, gang.topology.required if is_one else None
    )


_outline = lru_cache(maxsize=KNOWN)(Outline)


@lru_cache(maxsize=KNOWN)
def anywhere(gang: Gang) -> Gang:
    """The gang's minimum where no topology is asked for."""
    least = gang.at_minimum()
    terms = [replace(shape.terms, topology=None, colocate=None) for shape in least.shapes]
    shapes = (replace(shape, terms=its) for shape, its in zip(least.shapes, terms, strict=True))
    return replace(least, shapes=tuple(shapes), topology=NO_TOPOLOGY)


@lru_cache(maxsize=KNOWN)
def devices_alone(gang: Gang) -> Gang:
    """The same as far as devices go: one object for all that need no others."""
    least = anywhere(gang)
    return _one_of(replace(least, shapes=tuple(replace(shape, cpu_milli=0, memory_mib=0) for shape in least.shapes)))


@lru_cache(maxsize=KNOWN)
def _one_of(gang: Gang) -> Gang:
    return gang
