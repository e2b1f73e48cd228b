"""Whether what a workload has is still what it asks for, when it asks for something else."""

from collections.abc import Iterable
from dataclasses import dataclass

from corral.api import CapacityType, Target, WorkloadTerms
from domain.placement.feasibility import accepts_capacity_type, accepts_provider, accepts_region, accepts_sku
from domain.pool.fleet import Health
from domain.worlds.world import Supply, Traits

ACCEPTS = (accepts_sku, accepts_region, accepts_provider, accepts_capacity_type)
ANYWHERE = Target()


@dataclass(frozen=True, slots=True)
class Possession:
    """What an attempt has: the supplies and capacity types of its nodes, and its replicas of the first group."""

    supplies: frozenset[tuple[Supply, CapacityType]]
    replicas: int


@dataclass(frozen=True, slots=True)
class Answered:
    """Possession answers a target: the one at that place in the spec, or none where the spec names none."""

    target: int | None


def answered(spec: WorkloadTerms, has: Possession) -> Answered | None:
    """The first target that accepts what the workload has, whenever it opens; none when no target does."""
    if not spec.targets:
        return Answered(None) if _has_enough(spec, ANYWHERE, has) else None
    found = (
        at for at, target in enumerate(spec.targets) if _accepts(spec, target, has.supplies) and _has_enough(spec, target, has)
    )
    first = next(found, None)
    return None if first is None else Answered(first)


def _accepts(spec: WorkloadTerms, target: Target, supplies: Iterable[tuple[Supply, CapacityType]]) -> bool:
    traits = [Traits(supply, capacity_type, (), Health.READY) for supply, capacity_type in supplies]
    return all(rule(spec, target, each) for rule in ACCEPTS for each in traits)


def _has_enough(spec: WorkloadTerms, target: Target, has: Possession) -> bool:
    """Whether it has the replicas that the target wants; of an array any number runs at once."""
    if spec.tasks is not None:
        return True
    if target.count is not None:
        return has.replicas == target.count
    return spec.groups[0].fewest <= has.replicas <= spec.groups[0].count
