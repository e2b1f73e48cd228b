"""Quality: how many accelerators a round has started work on, the most that any plan could, and how regions are asked for."""

from collections.abc import Iterable, Sequence

from domain.bench import undone
from domain.decision import Quality, Start
from domain.facts import Facts
from domain.fleet import Amount, Health
from domain.improvement import Gains
from domain.relaxation import Demand, at_home, demand, levelled, merged, most_milli, region_supply, worst_region
from domain.turns import Turns
from domain.workload import Waiting
from domain.world import World


def quality(turns: Turns, gains: Gains, waiting: Sequence[Waiting], before: World, facts: Facts) -> Quality:
    """What the round comes to. Work that starts only once others have left counts for neither side."""
    everybody = {workload.id: workload for workload in waiting}
    started = [(everybody[each.workload_id], each) for each in turns.moved if isinstance(each, Start)]
    reached = sum(start.placement.milli for _, start in started)
    wanting = demand(turns.waiting, before, facts)
    both = merged(wanting, demand((workload for workload, _ in started), before, facts))
    supply, in_use = region_supply(before)
    _, in_use_after = region_supply(turns.world)
    return Quality(
        objective=reached,
        bound=max(reached, _bound(both, turns.world, started, facts)) if wanting and _has_room(turns.world) else reached,
        method=gains.method,
        improved=len(gains.started),
        moved=len(gains.moved),
        fallback=gains.fallback,
        worst_region_before=round(worst_region(at_home(both, in_use), supply), 3),
        worst_region_after=round(worst_region(levelled(wanting, in_use_after, supply), supply), 3),
    )


def _has_room(world: World) -> bool:
    return any(entry.milli for traits, nodes in world.classes.items() if traits.health is Health.READY for entry in nodes)


def _bound(wanted: Demand, world: World, started: Iterable[tuple[Waiting, Start]], facts: Facts) -> Amount:
    """The most that could start where all that starts on free capacity has its room; all of it where nothing is proven."""
    most = most_milli(wanted, undone(world, started, facts.now))
    return sum(lot.milli * number for lot, number in wanted.items()) if most is None else most
