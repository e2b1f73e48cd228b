"""Quality: how many accelerators a round has started work on, the most that any plan could, and how regions are asked for."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from domain.decision import Quality, Start, StartAfter
from domain.facts import Facts
from domain.improvement.bench import undone
from domain.improvement.improved import Gains
from domain.improvement.relaxation import (
    Rooms,
    Tally,
    at_home,
    demand,
    levelled,
    merged,
    most_milli,
    region_supply,
    tally,
    worst_region,
)
from domain.pool.fleet import Amount, Health
from domain.pool.workload import Waiting
from domain.quota_models.turns import Turns
from domain.worlds.world import World, least


def quality(turns: Turns, gains: Gains, waiting: Collection[Waiting], before: World, facts: Facts) -> Quality:
    """What the round comes to. Work that starts only once others have left counts for neither side."""
    everybody = facts.backlog(waiting).by_id
    started = [(everybody[each.workload_id], each) for each in turns.moved if isinstance(each, Start)]
    reached = sum(start.placement.milli for _, start in started)
    waits, starts = tally(turns.waiting, facts), tally([workload for workload, _ in started], facts)
    alone = Rooms(before)
    wanting = demand(waits, before, facts, alone=alone)
    both = merged(wanting, demand(starts, before, facts, alone=alone))
    supply, in_use = region_supply(before)
    in_use = _with_promises(in_use, turns, before)
    _, in_use_after = region_supply(turns.world)
    is_bound = not wanting or _is_full(turns.world)
    return Quality(
        objective=reached,
        bound=reached if is_bound else max(reached, _bound((*waits, *starts), turns.world, started, facts)),
        method=gains.method,
        improved=len(gains.started),
        moved=len(gains.moved),
        fallback=gains.fallback,
        worst_region_before=round(worst_region(at_home(both, in_use), supply), 3),
        worst_region_after=round(worst_region(levelled(wanting, in_use_after, supply), supply), 3),
    )


def _with_promises(in_use: Mapping[str, Amount], turns: Turns, before: World) -> dict[str, Amount]:
    """The same with what is free and is kept for work that starts once others have left: it is in use afterwards, too."""
    found, rooms = Counter(in_use), before.rooms
    for move in turns.moved:
        if isinstance(move, StartAfter):
            taken = (least(share.room, rooms[share.node_id]) for share in move.placement.shares if share.node_id in rooms)
            found[move.placement.region] += sum(room.not_negative.milli for room in taken)
    return dict(found)


def _is_full(world: World) -> bool:
    """Whether nothing at all is free."""
    return not any(nodes.milli.any() for traits, nodes in world.classes.items() if traits.health is Health.READY)


def _bound(counted: Tally, after: World, started: Sequence[tuple[Waiting, Start]], facts: Facts) -> Amount:
    """The most that could start where all that starts on free capacity has its room; all of it where nothing is proven."""
    world = undone(after, started, facts.now)
    wanted = demand(counted, world, facts, Rooms(world))
    most = most_milli(wanted, world)
    return sum(lot.milli * number for lot, number in wanted.items()) if most is None else most
